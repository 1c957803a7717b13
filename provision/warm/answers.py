"""What this node gets an answer from: asked when a state is kept, and again when it is put back.

A whole lab answers where it answered before: floating IPs and routers from a node outside of the
virtual networks, and their routers from workloads in namespaces.
"""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor


def lines(*argv):
    """The lines that a command prints; none if it fails: not every node has every database."""
    said = subprocess.run(argv, capture_output=True, text=True)
    return said.stdout.split("\n") if said.returncode == 0 else []


NAT = [
    "ovn-nbctl", "--timeout=5", "--bare", "--columns=external_ip", "find", "NAT",
    "type=dnat_and_snat",
]  # fmt: skip
WORKLOADS = [
    "ovs-vsctl", "--timeout=5", "--format=json", "--columns=external_ids", "find", "Interface",
    'external_ids:netns!=""',
]  # fmt: skip


def targets():
    """[namespace or "", address] of all that there is to ask."""
    found = [["", address.strip('"')] for address in lines(*NAT) if address]
    workloads = lines(*WORKLOADS)
    if workloads and workloads[0]:
        for ((_, pairs),) in json.loads(workloads[0])["data"]:
            its = dict(pairs)
            if "gateway" in its:
                found.append([its["netns"], its["gateway"]])
    return sorted(found)


def answers(target):
    namespace, address = target
    inside = ["ip", "netns", "exec", namespace] if namespace else []
    ping = [*inside, "ping", "-c", "1", "-W", "1", address]
    # The first packet may be lost to ARP.
    return any(subprocess.run(ping, capture_output=True).returncode == 0 for _ in range(2))


def answering(asked):
    with ThreadPoolExecutor(max_workers=16) as pool:
        return [
            target for target, said in zip(asked, pool.map(answers, asked), strict=True) if said
        ]


def save(place):
    (place / "answers.json").write_text(json.dumps(answering(targets())))


def silent(place):
    """Those that answered when the state was kept, and do not now, as text."""
    file = place / "answers.json"
    kept = json.loads(file.read_text()) if file.exists() else []
    now = answering(kept)
    return [
        f"{address} ({namespace})" if namespace else address
        for namespace, address in kept
        if [namespace, address] not in now
    ]
