"""topology -> lab.env, read by the shell that will read it; and what provision/ asks of it.

A case is tests/golden/render/NAME.yaml with NAME.NODE.env for each of its nodes. Adding a case is
adding its files.
"""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from labctl.provisioning.network_options import network_options
from labctl.provisioning.node_env import lab_env
from labctl.provisioning.stages import SCRIPTS, Script, scripts_of
from labctl.state import Secrets
from labctl.topology import Node, Topology
from tests.unit.fakes import SECRETS, topology
from tests.unit.golden import GOLDEN, expect_text

CASES = sorted((GOLDEN / "render").glob("*.yaml"))
PROVISION = GOLDEN.parents[1] / "provision"


def sourced(env: str, directory: Path) -> dict[str, str]:
    """What bash makes of the file, in the way provision/lib.sh reads it."""
    file = directory / "lab.env"
    file.write_text(env, encoding="utf-8")
    done = subprocess.run(
        ["env", "-i", "bash", "-euc", f"set -a; . {file}; set +a; exec /usr/bin/env -0"],
        capture_output=True,
        text=True,
        cwd=directory,
        check=True,
    )
    assert done.stderr == ""
    pairs = (item.partition("=") for item in done.stdout.split("\0") if item)
    return {name: value for name, _, value in pairs if name not in ("PWD", "SHLVL", "_", "OLDPWD")}


def wanted(lab: Topology, node: Node, secrets: Secrets = SECRETS) -> dict[str, str]:
    """What has to come out, said once more and by hand."""
    values = {
        "LAB_NAME": lab.lab,
        "LAB_STACK": lab.stack,
        "PATIENCE": "1",
        "RESOLVER": "",
        "NODE_NAME": node.name,
        "NODE_ROLES": " ".join(r for r in ("compute", "controller", "gateway") if r in node.roles),
        "NODE_ADDRESS": f"{node.eth1.address.ip}",
        "CONTROLLER_NAME": lab.controller.name,
        "CONTROLLER_ADDRESS": f"{lab.controller.eth1.address.ip}",
        "ETH0_ADDRESS": f"{node.eth0.address.ip}/{lab.nat.prefixlen}",
        "ETH0_GATEWAY": f"{lab.nat_gateway}",
        "ETH0_MAC": node.eth0.mac,
        "ETH1_ADDRESS": f"{node.eth1.address.ip}/{lab.private.prefixlen}",
        "ETH1_MAC": node.eth1.mac,
        "HAS_BR_EX": "yes" if "gateway" in node.roles else "no",
        "CMS_OPTIONS": "enable-chassis-as-gw" if "gateway" in node.roles else "",
        "OVN_OPTIONS": "",
        "NEUTRON_PLUGINS": "ovn-router",
        "NEUTRON_EXTENSIONS": "port_security",
        "NEUTRON_DISTRIBUTED": "false",
        "NEUTRON_MTU": "1500",
        "NEUTRON_DNS_DOMAIN": "openstacklocal",
        "BRIDGE_MAPPINGS": lab.physical_network + ":br-ex" if "gateway" in node.roles else "",
        "EXTRA_NICS": "",
        "NEUTRON_TYPES": "local,flat,geneve",
        "NEUTRON_VLANS": "",
        "HOSTS": "\n".join(f"{one.eth1.address.ip} {one.name}" for one in lab.nodes),
        "SECRET_RABBIT": secrets.rabbit,
        "SECRET_SERVICE": secrets.service,
        "SECRET_METADATA": secrets.metadata,
    }
    if "controller" in node.roles:
        values |= {"SECRET_ADMIN": secrets.admin, "SECRET_DATABASE": secrets.database}
    return values


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_golden(case: Path, tmp_path: Path) -> None:
    lab = topology(case.read_text(encoding="utf-8"))
    for node in lab.nodes:
        env = lab_env(lab, node, SECRETS)
        expect_text(case.with_name(f"{case.stem}.{node.name}.env"), env)
        assert sourced(env, tmp_path) == wanted(lab, node)


def test_no_golden_file_is_an_orphan() -> None:
    expected = {
        f"{case.stem}.{node.name}.env"
        for case in CASES
        for node in topology(case.read_text(encoding="utf-8")).nodes
    }
    assert {path.name for path in (GOLDEN / "render").glob("*.env")} == expected


NASTY = [
    "a b", "it's", '"quoted"', "$(touch pwned)", "`touch pwned`", "${HOME}", "x; touch pwned",
    "x\ntouch pwned", "x && touch pwned", "*", "~root", "#comment", "!history", "back\\slash",
    "外部", "-n", "", "=", "a=b", "\ttab ", "'\"'\"'", "$'\\x41'", "|&<>(){}[]",
]  # fmt: skip


@pytest.mark.parametrize("text", NASTY, ids=repr)
def test_whatever_a_name_holds_the_shell_reads_it_unchanged(text: str, tmp_path: Path) -> None:
    """lab.yaml refuses most of these; a rule that is loosened one day must not open a door."""
    default = topology()
    nodes = tuple(replace(node, name=f"{text}{i}") for i, node in enumerate(default.nodes))
    external = default.spec.external.model_copy(update={"physical_network": text})
    spec = default.spec.model_copy(update={"name": text, "external": external})
    lab = replace(default, spec=spec, nodes=nodes)
    secrets = replace(SECRETS, rabbit=text, database=text)
    for node in lab.nodes:
        seen = sourced(lab_env(lab, node, secrets), tmp_path)
        assert seen == wanted(lab, node, secrets)
    assert not (tmp_path / "pwned").exists()


def test_a_compute_node_is_told_no_secret_that_it_does_not_need() -> None:
    labs = [topology(case.read_text(encoding="utf-8")) for case in CASES]
    pure = [(lab, node) for lab in labs for node in lab.computes if not node.is_controller]
    assert len(pure) >= len(labs)
    for lab, node in pure:
        env = lab_env(lab, node, SECRETS)
        assert SECRETS.admin not in env
        assert SECRETS.database not in env
        assert "ADMIN" not in env
        assert "DATABASE" not in env


def test_a_client_is_told_nothing_but_of_itself(tmp_path: Path) -> None:
    lab = topology("name: x\ninternet: {clients: {client-01: }}\n")
    (client,) = lab.clients
    env = lab_env(lab, client, SECRETS)
    assert sourced(env, tmp_path) == {
        "LAB_NAME": "x",
        "LAB_STACK": "openstack",
        "PATIENCE": "1",
        "RESOLVER": "",
        "NODE_NAME": "client-01",
        "NODE_ROLES": "client",
        "CONTROLLER_NAME": "network-controller",
        "ETH0_ADDRESS": "198.51.100.10/24",
        "ETH0_GATEWAY": "198.51.100.1",
        "ETH0_MAC": client.eth0.mac,
        "HOSTS": "198.51.100.10 client-01",
    }
    for node in lab.nodes:
        assert "client-01" not in lab_env(lab, node, SECRETS)


# -- what provision/ asks of lab.env ---------------------------------------------------------------
VARIABLE = re.compile(r"\$(?:\{([A-Z][A-Z0-9_]*)\b|([A-Z][A-Z0-9_]*)\b)")
ASSIGNED = re.compile(r"(?:^|[;&|({\s])(?:(?:local|export|readonly) )?([A-Z][A-Z0-9_]*)=", re.M)
EXPORTED = re.compile(r"^\s*export ([A-Z0-9_ ]+)$|\bexport ([A-Z][A-Z0-9_]*)=", re.M)
TEMPLATE = re.compile(r"^\s*(template|verbatim) (\S+)", re.M)
SHELLS_OWN = {"BASH_SOURCE", "EUID", "HOME", "PATH", "RANDOM", "SECONDS", "UID"} | {
    "NF",
    "NR",
}  # and awk's


def given(script: Script) -> set[str]:
    """Names that lab.env gives on every machine that runs the script."""
    lab = topology("name: x\ninternet: {clients: {client-01: }}\n")
    return set.intersection(
        *(
            set(re.findall(r"^([A-Z0-9_]+)=", lab_env(lab, machine, SECRETS), re.M))
            for machine in lab.machines
            if script in scripts_of(machine, script.stack or lab.stack)
        )
    )


def text_of(name: str) -> str:
    """A script without its comments."""
    lines = (PROVISION / name).read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


def asked(text: str) -> set[str]:
    return {braced or bare for braced, bare in VARIABLE.findall(text)}


def exported(text: str) -> set[str]:
    return {name for pair in EXPORTED.findall(text) for part in pair for name in part.split()}


def installed() -> Iterator[tuple[Script, str, str]]:
    """(script, `template` or `verbatim`, file of provision/files)"""
    for script in SCRIPTS:
        for how, file in TEMPLATE.findall(text_of(script.file)):
            yield script, how, file


def test_every_variable_of_a_template_is_given() -> None:
    # envsubst puts nothing in the place of what it does not know, and says nothing about it; and
    # it knows only what is exported.
    for script, how, file in installed():
        if how == "template":
            text = (PROVISION / "files" / file).read_text(encoding="utf-8")
            here = exported(text_of("lib.sh")) | exported(text_of(script.file))
            unknown = asked(text) - given(script) - here
            assert not unknown, f"files/{file}: {script.file} does not give {sorted(unknown)}"


def test_a_template_means_every_dollar_as_a_variable() -> None:
    for _, how, file in installed():
        if how == "template":
            text = (PROVISION / "files" / file).read_text(encoding="utf-8")
            left = re.sub(r"\$\{[A-Z][A-Z0-9_]*\}", "", text)
            assert "$" not in left, f"files/{file}: write ${{NAME}}, or install it verbatim"


def test_what_is_installed_verbatim_waits_for_no_value() -> None:
    names = set.union(*(given(script) for script in SCRIPTS))
    for script, how, file in installed():
        text = (PROVISION / "files" / file).read_text(encoding="utf-8")
        if how == "verbatim" and not text.startswith("#!") and not file.endswith(".sh"):
            left = asked(text) & names
            assert not left, (
                f"files/{file}: {script.file} has to install it with `template`: {left}"
            )


def test_every_variable_of_a_script_is_given() -> None:
    library = text_of("lib.sh")
    for script in SCRIPTS:
        text = text_of(script.file)
        # ${NAME:-default} does without.
        needed = asked(re.sub(r"\$\{[A-Z0-9_]+:?[-=+]", "", text))
        known = given(script) | SHELLS_OWN | set(ASSIGNED.findall(text + "\n" + library))
        assert needed <= known, f"{script.file}: nobody gives {sorted(needed - known)}"


def test_every_variable_of_the_library_is_given_on_every_node() -> None:
    text = text_of("lib.sh")
    needed = asked(re.sub(r"\$\{[A-Z0-9_]+:?[-=+]", "", text))
    everywhere = set.intersection(*(given(script) for script in SCRIPTS))
    known = everywhere | SHELLS_OWN | set(ASSIGNED.findall(text))
    assert needed <= known, f"lib.sh: nobody gives {sorted(needed - known)}"


def unread(values: set[str], texts: list[str]) -> set[str]:
    """The values of lab.env that none of these scripts and templates asks for."""
    return values - set[str]().union(*map(asked, texts))


def test_every_value_of_lab_env_is_read() -> None:
    values = set[str]().union(*(given(script) for script in SCRIPTS))
    files = [path for path in PROVISION.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    texts = [path.read_text(encoding="utf-8") for path in files]
    assert unread(values, texts) == set(), (
        "nothing below provision/ reads it: take it out of labctl/provisioning/node_env.py"
    )
    assert unread({*values, "TOY"}, texts) == {"TOY"}


def test_every_file_is_used() -> None:
    scripts = "\n".join(path.read_text(encoding="utf-8") for path in PROVISION.rglob("*.sh"))
    files = {path.name for path in (PROVISION / "files").iterdir() if path.is_file()}
    assert {name for name in files if name not in scripts} == set() != files


def test_the_test_of_the_templates_sees_something() -> None:
    templates = [file for _, how, file in installed() if how == "template"]
    assert len(templates) > 10
    assert asked("a ${ONE} $TWO ${THREE:-x} $four") == {"ONE", "TWO", "THREE"}
    assert exported("VIRT=a CPU=b\nexport VIRT CPU\nexport DATAPATH=x\n") == {
        "VIRT", "CPU", "DATAPATH",
    }  # fmt: skip


def test_what_lab_yaml_switches_on_reaches_the_nodes() -> None:
    lab = topology(
        "name: x\n"
        "neutron: {service_plugins: [qos, dns, port_forwarding], distributed_floating_ip: true,"
        " mtu: 1400}\n"
        "ovn: {options: [bfd-min-rx=200, bfd-mult=3]}\n"
        "nodes: {control: {roles: [controller]}, g: {roles: [gateway], availability_zone: az-1},"
        " c: }\n"
    )
    control, gateway, compute = (network_options(lab, node) for node in lab.nodes)
    assert control["NEUTRON_PLUGINS"] == "ovn-router,qos,port_forwarding"
    # dns is an extension driver of ML2 and no plugin, qos is both; without a domain no port has a
    # name (Neutron's documentation, "DNS integration").
    assert control["NEUTRON_EXTENSIONS"] == "port_security,qos,dns"
    assert control["NEUTRON_DNS_DOMAIN"] == "lab.test."
    assert (control["NEUTRON_DISTRIBUTED"], control["NEUTRON_MTU"]) == ("true", "1400")
    assert control["OVN_OPTIONS"] == "bfd-min-rx=200 bfd-mult=3"
    assert gateway["CMS_OPTIONS"] == "enable-chassis-as-gw,availability-zones=az-1"
    # A compute that translates floating IPs has the bridge, and no router's gateway port.
    shown = [(env["HAS_BR_EX"], env["CMS_OPTIONS"]) for env in (control, compute)]
    assert shown == [("no", ""), ("yes", "")]


def test_further_networks_reach_the_nodes() -> None:
    text = (
        "name: x\n"
        "networks:\n"
        "  eth2: {physical_network: physnet1, vlans: 100:199}\n"
        "  eth3: {physical_network: flat0, subnet: 192.168.34.0/24}\n"
        "  eth4:\n"
    )
    controller, compute = topology(text).nodes
    env = network_options(topology(text), compute)
    assert env["BRIDGE_MAPPINGS"] == "physnet1:br-eth2,flat0:br-eth3"
    assert network_options(topology(text), controller)["BRIDGE_MAPPINGS"] == (
        "extnet0:br-ex,physnet1:br-eth2,flat0:br-eth3"
    )
    cards = [line.split() for line in env["EXTRA_NICS"].splitlines()]
    assert [(card, address, bridge) for card, _, address, bridge in cards] == [
        ("eth2", "-", "br-eth2"),
        ("eth3", "192.168.34.20/24", "br-eth3"),  # the host number of eth1
        ("eth4", "-", "-"),
    ]
    assert len({mac for _, mac, _, _ in cards}) == 3
    assert env["NEUTRON_TYPES"] == "local,flat,vlan,geneve"
    assert env["NEUTRON_VLANS"] == "physnet1:100:199,flat0"
