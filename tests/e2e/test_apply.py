"""A running lab follows its edited lab.yaml, or says before anything is touched why it cannot."""

from collections.abc import Callable

import pytest

from tests.e2e.cli import Cli, on

CONTROLLER = "network-controller"
NODES = "nodes: {network-controller: {roles: [controller, gateway]}, compute-01: {}%s}\n"


def edit(lab: Cli, text: str) -> None:
    (lab.directory / "lab.yaml").write_text(text, encoding="utf-8")


# -- OVN alone -------------------------------------------------------------------------------------
OVN = "name: applied\nprovider: nspawn\nstack: ovn\n"

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str, str], Cli]) -> Cli:
    cli = make_lab("applied", OVN + NODES % "")
    cli("create")
    cli("snapshot", "save", "before")
    return cli


def boots(lab: Cli) -> list[str]:
    """When the init of each node began."""
    nodes = [CONTROLLER, "compute-01"]
    return [on(lab, node, "cat /proc/1/stat").split()[21] for node in nodes]


def test_without_an_edit_nothing_is_done(lab: Cli) -> None:
    assert "is as lab.yaml says" in lab("apply")


def test_what_cannot_be_done_is_refused_with_its_reason(lab: Cli) -> None:
    edit(lab, OVN + "nat: {subnet: 10.0.7.0/24}\novn: {options: [bfd-mult=3]}\n" + NODES % "")
    for words in (("apply", "--dry-run"), ("apply",)):
        done = lab.run(*words)
        assert done.returncode == 2
        assert "nat.subnet: 10.0.2.0/24 → 10.0.7.0/24" in done.stdout
        assert "ovn.options" in done.stdout  # the whole plan is shown
        assert "nothing was changed" in done.stderr
    assert "bfd-mult" not in on(lab, CONTROLLER, "ovn-nbctl get nb_global . options")
    edit(lab, OVN + NODES % "")


def test_a_plan_alone_does_nothing(lab: Cli) -> None:
    edit(lab, OVN + "ovn: {options: [bfd-mult=3]}\n" + NODES % ", compute-02: {}")
    assert "node compute-02 is added" in lab("apply", "--dry-run")
    assert len(lab.json("status")["nodes"]) == 2
    assert "bfd-mult" not in on(lab, CONTROLLER, "ovn-nbctl get nb_global . options")


def test_a_compute_an_option_and_a_network_more_while_the_others_run(lab: Cli) -> None:
    before = boots(lab)
    edit(lab, OVN + "ovn: {options: [bfd-mult=3]}\n"
         "networks: {eth2: {physical_network: physnet1, subnet: 192.168.44.0/24}}\n"
         + NODES % ", compute-02: {}")  # fmt: skip
    lab("apply")
    status = lab.json("status")
    assert (status["state"], len(status["nodes"])) == ("up", 3)
    assert boots(lab) == before
    assert 'bfd-mult="3"' in on(lab, CONTROLLER, "ovn-nbctl get nb_global . options")
    assert "compute-02" in on(lab, CONTROLLER, "ovn-sbctl --bare --columns=name list chassis")
    mappings = on(lab, "compute-01", "ovs-vsctl get open . external_ids:ovn-bridge-mappings")
    assert "physnet1:br-eth2" in mappings
    assert "1 received" in on(lab, "compute-01", "ping -c 1 -W 3 192.168.44.30")
    assert "1 received" in on(lab, CONTROLLER, "ping -c 1 -W 3 compute-02")
    assert "is as lab.yaml says" in lab("apply")


def test_snapshots_know_which_lab_they_are_of(lab: Cli) -> None:
    assert "before `labctl apply`" in lab.run("snapshot", "restore", "before").stderr
    assert "before `labctl apply`" in lab.run("fork", "x", "--snapshot", "before").stderr
    on(lab, CONTROLLER, "ovn-nbctl ls-add mine")
    lab("reset", "--to", "base")
    assert "mine" not in on(lab, CONTROLLER, "ovn-nbctl show")
    assert len(lab.json("status")["nodes"]) == 3


def test_a_lesson_under_way_is_not_put_into_base(lab: Cli) -> None:
    lab("start", "ovn-logical-switch")
    lab("next")
    edit(
        lab,
        (lab.directory / "lab.yaml")
        .read_text()
        .replace("bfd-mult=3", "bfd-mult=3, bfd-min-rx=200"),
    )
    done = lab.run("apply")
    assert (done.returncode, "ovn-logical-switch" in done.stderr) == (1, True)
    lab("reset", "--to", "base")
    lab("apply")
    assert "bfd-min-rx" in on(lab, CONTROLLER, "ovn-nbctl get nb_global . options")


def test_killed_on_the_way_it_is_finished_by_create(lab: Cli) -> None:
    text = (
        (lab.directory / "lab.yaml").read_text().replace("bfd-mult=3", "bfd-mult=3, bfd-min-tx=300")
    )
    edit(lab, text)
    lab.kill_at("step_finished", f"ovn-central:{CONTROLLER}", "apply")
    assert lab.json("status")["state"] == "unfinished"
    assert "labctl create" in lab.run("apply").stderr
    lab("create")
    on(lab, CONTROLLER, "ovn-nbctl ls-add mine")
    lab("reset", "--to", "base")  # which is of the lab as it is now
    assert "mine" not in on(lab, CONTROLLER, "ovn-nbctl show")
    assert "bfd-min-tx" in on(lab, CONTROLLER, "ovn-nbctl get nb_global . options")
    assert lab.json("status")["state"] == "up"


# -- OpenStack -------------------------------------------------------------------------------------
CLOUD = "name: applied-cloud\nprovider: nspawn\n"


def test_instances_a_network_and_a_plugin_of_a_running_cloud(
    make_lab: Callable[[str, str], Cli],
) -> None:
    lab = make_lab("applied-cloud", CLOUD)
    lab("create")
    edit(lab, CLOUD + "instances: {vm_1: , vm_2: {network: n2}}\ntenant: {networks: {n2: }}\n"
         "flavors: {big: {memory: 160}}\n"
         "neutron: {service_plugins: [port_forwarding]}\n")  # fmt: skip
    lab("apply")
    status = lab.json("status")
    assert status["state"] == "up"
    assert sorted(row["name"] for row in status["instances"]) == ["vm_1", "vm_2"]
    assert "big" in on(lab, CONTROLLER, "openstack flavor list -f value -c Name")
    extensions = on(lab, CONTROLLER, "openstack extension list --network -f value -c Alias")
    assert "floating-ip-port-forwarding" in extensions
    first = on(lab, CONTROLLER, "openstack server show vm_1 -f value -c id")
    edit(lab, (lab.directory / "lab.yaml").read_text().replace(
        "{vm_1: , vm_2: {network: n2}}", "{vm_1: , vm_3: {address: 172.16.100.33}}"))  # fmt: skip
    lab("apply")
    instances = {row["name"]: row["fixed"] for row in lab.json("status")["instances"]}
    assert sorted(instances) == ["vm_1", "vm_3"]
    assert instances["vm_3"] == ["172.16.100.33"]
    assert on(lab, CONTROLLER, "openstack server show vm_1 -f value -c id") == first
    on(lab, CONTROLLER, "openstack server delete --wait vm_3")
    lab("reset", "--to", "base")
    assert lab.json("status")["state"] == "up"
