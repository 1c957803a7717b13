"""OpenFlow flows: they are in no database, and who wrote them may not notice that they are gone.

Those of br-int are ovn-controller's: it writes them all when it starts. Those of other bridges are
kept and put back.
"""

import json
import re
import subprocess

INTEGRATION = "br-int"


def run(*argv, **options):
    return subprocess.run(argv, check=True, capture_output=True, text=True, **options).stdout


def bridges():
    """All bridges but ovn-controller's."""
    return [name for name in run("ovs-vsctl", "list-br").split() if name != INTEGRATION]


def dump(bridge):
    """A bridge's flows in a form that ovs-ofctl reads, without counters."""
    said = run("ovs-ofctl", "--no-names", "--no-stats", "dump-flows", bridge)
    return [line.strip() for line in said.splitlines() if "actions=" in line]


def save(place):
    kept = {bridge: dump(bridge) for bridge in bridges()}
    (place / "flows.json").write_text(json.dumps(kept, indent=1))


def restore(place):
    """Make the flows what they were; the bridges where they were not."""
    changed = []
    file = place / "flows.json"
    kept = json.loads(file.read_text()) if file.exists() else {}
    for bridge in bridges():
        if bridge in kept and sorted(dump(bridge)) != sorted(kept[bridge]):
            run("ovs-ofctl", "replace-flows", bridge, "-", input="\n".join(kept[bridge]) + "\n")
            changed.append(bridge)
    if tunnels_without_flows():
        run("systemctl", "restart", "ovn-controller")
        changed.append(INTEGRATION)
    return changed


def tunnels_without_flows():
    """The Geneve ports whose packets no flow takes: ovn-controller makes one for each."""
    ports = run(
        "ovs-vsctl", "--bare", "--columns=ofport", "find", "Interface", "type=geneve"
    ).split()
    taken = set(re.findall(r"in_port=(\d+)", "\n".join(dump(INTEGRATION))))
    return [port for port in ports if port not in taken]
