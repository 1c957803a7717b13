"""What a login shell on a node knows: provision/files/profile.sh."""

import pytest

from tests.unit.lessons.bench import Bench

PROFILE = ". /etc/profile.d/labctl.sh; "


@pytest.fixture
def node(with_profile: Bench) -> Bench:
    bench = with_profile
    bench.node.stub("openstack", 'echo "client: $*"')
    bench.node.put(b"CONTROLLER_NAME=network-controller\n", "/etc/labctl/lab.env")
    profile = bench.node.get("/etc/profile.d/labctl.sh").decode()
    moved = profile.replace("/etc/labctl/", f"{bench.node.root}/etc/labctl/")
    bench.node.put(moved.encode(), "/etc/profile.d/labctl.sh")
    return bench


@pytest.mark.parametrize("shell", ["bash -c", "sh -c"])
def test_without_credentials_openstack_says_where_to_go(node: Bench, shell: str) -> None:
    script = f"{PROFILE} openstack server list"
    done = node.node.run(f"{shell} '{script}'", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(": labctl ssh network-controller\n")


def test_a_lab_without_openstack_sends_nobody_to_the_controller(node: Bench) -> None:
    node.node.put(b"LAB_STACK=ovn\nCONTROLLER_NAME=network-controller\n", "/etc/labctl/lab.env")
    done = node.node.run(f"{PROFILE} openstack server list", check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "openstack: this lab is OVN alone, without OpenStack\n",
    )


def test_a_shell_below_says_it_too(node: Bench) -> None:
    done = node.node.run(f"{PROFILE} bash -c 'openstack server list'", check=False)
    assert "labctl ssh network-controller" in done.stderr


@pytest.mark.parametrize(
    "command",
    ["OS_CLOUD=mine openstack server list", "openstack --os-cloud mine server list",
     "openstack --help", "openstack --version", "openstack help server", "openstack complete"],
)  # fmt: skip
def test_who_brings_credentials_or_wants_help_is_served(node: Bench, command: str) -> None:
    assert node.node.run(PROFILE + command).stdout.startswith("client: ")


def test_with_credentials_nothing_is_between(node: Bench) -> None:
    node.node.put(b"export OS_AUTH_URL=http://x\n", "/root/openrc")
    assert node.node.run(PROFILE + "openstack server list").stdout == "client: server list\n"
    assert node.node.run(PROFILE + "type -t openstack").stdout == "file\n"


NETWORK = "ETH1_ADDRESS=192.168.33.{host}/24\nCONTROLLER_ADDRESS=192.168.33.10\n"


@pytest.mark.parametrize("shell", ["bash -c", "sh -c"])
def test_ovns_tools_find_the_controllers_databases(node: Bench, shell: str) -> None:
    node.node.put(NETWORK.format(host=20).encode(), "/etc/labctl/network.env")
    script = f'{PROFILE} env | grep -E "^(OVN_|LABCTL_|ETH1_|CONTROLLER_)" | sort'
    assert node.node.run(f"{shell} '{script}'").stdout.splitlines() == [
        "OVN_NB_DB=tcp:192.168.33.10:6641",
        "OVN_SB_DB=tcp:192.168.33.10:6642",
    ]


def test_on_the_controller_they_use_its_own_sockets(node: Bench) -> None:
    node.node.put(NETWORK.format(host=10).encode(), "/etc/labctl/network.env")
    assert node.node.run(f"{PROFILE} env | grep -c ^OVN_", check=False).stdout == "0\n"
