"""The stages of `create`: what runs where and after what, and how a stage is known to be done."""

import hashlib
import io
import os
import shutil
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from labctl.access.guest import Guest, GuestError
from labctl.engine.events import Event, EventBus, OutputLine, StepProgress
from labctl.engine.plan import Plan
from labctl.engine.steps import Step, StepContext, run_steps
from labctl.errors import LabError
from labctl.providers.provider import Features, Provider
from labctl.provisioning.seed import Seed
from labctl.provisioning.stages import REMOTE, SCRIPTS, Provisioner, Script, scripts_of
from labctl.state import LabState
from labctl.topology import Node
from tests.unit.fakes import SECRETS, FakeGuest, LocalGuest, topology
from tests.unit.golden import GOLDEN

PROVISION = GOLDEN.parents[1] / "provision"
LABS = {
    "default": "name: x\n",
    "two computes": "name: x\nnodes: {a: , b: , c: }\n",
    "controller last": "name: x\nnodes: {a: , b: {roles: [controller, gateway]}}\n",
}
lab = pytest.mark.parametrize("text", LABS.values(), ids=LABS.keys())


@dataclass
class FakeProvider:
    """Nodes that are guests of the test, and what was asked of them."""

    guests: dict[str, Guest]
    features: Features = field(
        default_factory=lambda: Features(
            needs_root=False,
            shared_nat=False,
            own_clock=False,
            image="baked image",
            network="namespaces and cables",
        )
    )
    timeout_factor: int = 1
    resolver: str = ""
    done: list[str] = field(default_factory=list)
    up: set[str] = field(default_factory=set)

    def prepare(self, progress: Callable[[str], None], cancel: Callable[[], bool]) -> None:
        self.done.append("image")

    def prepared(self) -> bool:
        return "image" in self.done

    def create_network(self) -> None:
        self.done.append("network")

    def network_ready(self) -> bool:
        return "network" in self.done

    def start(
        self, node: Node, progress: Callable[[str], None], cancel: Callable[[], bool]
    ) -> None:
        self.done.append(f"start {node.name}")
        self.up.add(node.name)

    def running(self, node: Node) -> bool:
        return node.name in self.up

    def guest(self, node: Node) -> Guest:
        return self.guests[node.name]


def provisioner(
    directory: Path,
    guests: dict[str, Guest] | None = None,
    *,
    text: str = LABS["default"],
    provision: Path = PROVISION,
) -> tuple[Provisioner, FakeProvider]:
    made = topology(text)
    provider = FakeProvider(guests or {node.name: FakeGuest(node.name) for node in made.nodes})
    stages = Provisioner(made, cast(Provider, provider), LabState(directory), SECRETS, provision)
    return stages, provider


def step(steps: list[Step], id: str) -> Step:
    return next(one for one in steps if one.id == id)


# -- the table -------------------------------------------------------------------------------------
def test_every_script_is_there_and_every_one_there_is_a_stage() -> None:
    baked = {"12-quiet.sh", "17-schema.sh"}  # run by image/bake.sh, not on nodes
    there = {path.name for path in PROVISION.glob("[0-9]*.sh")}
    stages = {script.file for script in SCRIPTS}
    assert there == stages | baked, "a stage: provision/NN-NAME.sh, and SCRIPTS in stages.py"
    for name in baked:
        assert name in (PROVISION / "image" / "bake.sh").read_text(encoding="utf-8")


def test_names_are_unique_and_needs_are_names() -> None:
    names = [script.name for script in SCRIPTS]
    assert len(set(names)) == len(names)
    assert Script("30-mariadb.sh", "x").name == "mariadb"
    assert Script("15-instance-image.sh", "x").name == "instance-image"
    for script in SCRIPTS:
        assert {*script.needs, *script.controller_needs} <= set(names), script.file


def test_the_order_of_numbers_is_an_order_that_works() -> None:
    # Whoever reads provision/ as an install guide follows the numbers.
    numbers = {script.name: script.file for script in SCRIPTS}
    for script in SCRIPTS:
        for need in (*script.needs, *script.controller_needs):
            assert numbers[need] < script.file


@lab
def test_roles_decide_what_runs_where(text: str) -> None:
    for node in topology(text).nodes:
        names = {script.name for script in scripts_of(node, "openstack")}
        assert ("keystone" in names) == node.is_controller
        assert ("nova-compute" in names) == node.is_compute
        assert {"packages", "network", "ovn-host", "shell"} <= names


@lab
def test_without_openstack_ovn_is_all_that_runs(text: str) -> None:
    ovn = {"packages", "node", "network", "ovn-host", "workloads", "shell"}
    for node in topology(text).nodes:
        names = {script.name for script in scripts_of(node, "ovn")}
        assert names == ovn | ({"ovn-central"} if node.is_controller else set())


def test_a_client_gets_an_address_and_nothing_of_the_lab() -> None:
    made = topology("name: x\ninternet: {clients: {client-01: }}\n")
    (client,) = made.clients
    for stack in ("openstack", "ovn"):
        names = [script.name for script in scripts_of(client, stack)]
        assert names == ["node", "client", "shell"]
    for node in made.nodes:
        assert "client" not in {script.name for script in scripts_of(node, "openstack")}


def test_clients_are_booted_and_provisioned_too(tmp_path: Path) -> None:
    text = "name: x\nstack: ovn\ninternet: {clients: {client-01: }}\n"
    guests: dict[str, Guest] = {"client-01": FakeGuest("client-01").on("", "")}
    stages, provider = provisioner(tmp_path, guests, text=text)
    steps = {one.id: one.needs for one in (*stages.host_steps(), *stages.node_steps())}
    assert steps["boot:client-01"] == ("image", "host-network")
    assert steps["node:client-01"] == ("boot:client-01",)
    assert steps["client:client-01"] == ("node:client-01",)
    boot = step(stages.host_steps(), "boot:client-01")
    boot.run(StepContext(boot.id))
    assert provider.done == ["start client-01"]
    env = cast(FakeGuest, guests["client-01"]).files["/etc/labctl/lab.env"].decode()
    assert "NODE_ROLES=client\n" in env
    assert "SECRET" not in env


@lab
def test_all_steps_of_create_can_be_planned(text: str, tmp_path: Path) -> None:
    stages, _ = provisioner(tmp_path, text=text)
    made = topology(text)

    @dataclass
    class Parts:
        topology: Any = made

    steps = [
        *stages.host_steps(), *stages.node_steps(), *Seed(cast(Any, Parts())).steps(),
    ]  # fmt: skip
    Plan(steps, {}, 8)  # raises for a missing need, a duplicate, a circle
    needs = {one.id: one.needs for one in steps}
    controller, compute = made.controller.name, made.computes[0].name
    assert needs[f"packages:{controller}"] == (f"boot:{controller}",)
    assert f"ovn-central:{controller}" in needs[f"ovn-host:{compute}"]
    assert f"nova:{controller}" in needs[f"nova-compute:{compute}"]
    assert set(needs[f"boot:{compute}"]) == {"image", "host-network"}
    # Instances come last: all computes can take them.
    assert f"instance:{made.instances[0].name}" == steps[-1].id
    assert {f"ovn-host:{node.name}" for node in made.nodes} <= set(needs[steps[-1].id])
    assert "computes" in needs[steps[-1].id]


# -- booting ---------------------------------------------------------------------------------------
def test_a_boot_brings_lab_env_and_provision(tmp_path: Path) -> None:
    guest = FakeGuest().on("", "")
    stages, provider = provisioner(tmp_path, {"network-controller": guest})
    boot = step(stages.host_steps(), "boot:network-controller")
    boot.run(StepContext(boot.id))
    assert provider.done == ["start network-controller"]
    assert "SECRET_ADMIN=" in guest.files["/etc/labctl/lab.env"].decode()
    assert guest.modes["/etc/labctl/lab.env"] == 0o600
    (unpack,) = [ran for ran in guest.ran if ran.input is not None]
    assert REMOTE in unpack.command
    with tarfile.open(fileobj=io.BytesIO(unpack.input or b"")) as archive:
        sent = {member.name: member for member in archive}
        assert sent.keys() == {
            str(path.relative_to(PROVISION))
            for path in PROVISION.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert sent["lib.sh"].mode == 0o755
        assert archive.extractfile("lib.sh") is not None


def test_a_boot_is_done_when_the_node_has_these_very_inputs(tmp_path: Path) -> None:
    guest = FakeGuest().on("", "")
    stages, provider = provisioner(tmp_path, {"network-controller": guest})
    boot = step(stages.host_steps(), "boot:network-controller")
    assert boot.done is not None
    assert not boot.done()  # it does not run
    assert guest.ran == []  # and so it is not asked
    provider.up.add("network-controller")
    assert not boot.done()  # it has no inputs
    boot.run(StepContext(boot.id))
    written = next(ran.command for ran in guest.ran if ">/etc/labctl/inputs" in ran.command)
    guest.on("^cat /etc/labctl/inputs$", written.split()[1] + "\n")
    assert boot.done()
    guest.on("^cat /etc/labctl/inputs$", "0123456789abcdef\n")
    assert not boot.done()
    guest.on("^cat", raises=GuestError("no SSH"))
    assert not boot.done()


def test_a_boot_waits_for_ssh(tmp_path: Path) -> None:
    guest = FakeGuest().on("", "").on("^true$", raises=GuestError("refused"), once=True)
    stages, _ = provisioner(tmp_path, {"network-controller": guest})
    boot = step(stages.host_steps(), "boot:network-controller")
    boot.run(StepContext(boot.id))
    assert [ran.command for ran in guest.ran][:2] == ["true", "true"]


def test_image_and_network_are_asked_before_they_are_made(tmp_path: Path) -> None:
    stages, provider = provisioner(tmp_path)
    result = run_steps(
        [one for one in stages.host_steps() if not one.id.startswith("boot:")], bus=EventBus()
    )
    assert (result.done, provider.done) == (("image", "host-network"), ["image", "network"])
    again = run_steps(
        [one for one in stages.host_steps() if not one.id.startswith("boot:")], bus=EventBus()
    )
    assert again.already == ("image", "host-network")


# -- scripts, in a real shell ----------------------------------------------------------------------
@pytest.fixture
def node(tmp_path: Path) -> LocalGuest:
    guest = LocalGuest(tmp_path / "node")
    (guest.root / "run").mkdir()
    (guest.root / REMOTE.lstrip("/")).mkdir(parents=True)
    return guest


def write(node: LocalGuest, text: str) -> None:
    """The script of the stage `mariadb` on the node."""
    (node.root / REMOTE.lstrip("/") / "30-mariadb.sh").write_text(text, encoding="utf-8")


def stage(directory: Path, node: Guest, **more: Any) -> Step:
    stages, _ = provisioner(directory, {"network-controller": node, "compute-01": node}, **more)
    return step(stages.node_steps(), "mariadb:network-controller")


def done(stage: Step) -> bool:
    assert stage.done is not None
    return stage.done()


def test_a_script_that_succeeded_is_done_for_every_later_run(
    tmp_path: Path, node: LocalGuest
) -> None:
    write(node, f"echo ran >>{node.root}/ran")
    first = stage(tmp_path, node)
    assert not done(first)
    first.run(StepContext(first.id))
    assert done(stage(tmp_path, node))
    assert (node.root / "ran").read_text() == "ran\n"


def test_a_script_that_failed_is_not_done_and_says_why(tmp_path: Path, node: LocalGuest) -> None:
    write(node, "echo one; echo two; echo; echo three >&2; echo 'E: four' >&2; exit 9")
    one = stage(tmp_path, node)
    with pytest.raises(LabError) as error:
        one.run(StepContext(one.id))
    assert error.value.message == "provision/30-mariadb.sh failed (exit 9): two / three / E: four"
    assert f"read {one.log}" in error.value.hint
    assert not done(stage(tmp_path, node))


def test_a_script_that_once_succeeded_and_then_failed_is_not_done_with_other_inputs(
    tmp_path: Path, node: LocalGuest
) -> None:
    write(node, "true")
    stage(tmp_path, node).run(StepContext("x"))
    assert done(stage(tmp_path, node))
    other = tmp_path / "other"
    shutil.copytree(PROVISION, other, ignore=shutil.ignore_patterns("__pycache__"))
    (other / "files" / "mariadb.cnf").write_text("changed")
    assert not done(stage(tmp_path, node, provision=other))
    text = "name: x\nprivate: {subnet: 10.77.0.0/24}\n"
    assert not done(stage(tmp_path, node, text=text))


def test_a_mark_that_was_cut_short_is_none(tmp_path: Path, node: LocalGuest) -> None:
    write(node, "true")
    stage(tmp_path, node).run(StepContext("x"))
    mark = node.root / "var/lib/labctl/done/30-mariadb.sh"
    assert mark.read_text().strip()
    for content in ("", mark.read_text()[:7], "\n"):
        mark.write_text(content)
        assert not done(stage(tmp_path, node))


def test_every_line_goes_to_the_log_and_to_whoever_watches(
    tmp_path: Path, node: LocalGuest
) -> None:
    write(node, "echo one; echo '  zwei 二'; echo; echo drei >&2")
    one = stage(tmp_path, node)
    bus, events = EventBus(), cast(list[Event], [])
    bus.subscribe(events.append)
    for _ in range(2):
        one.run(StepContext(one.id, one.node, bus=bus))
    assert one.log is not None
    log = one.log.read_text(encoding="utf-8")
    assert one.log == tmp_path / ".labctl/logs/network-controller/30-mariadb.log"
    assert log.count("30-mariadb.sh on network-controller\none\n  zwei 二\n\ndrei\n") == 2
    output = [event for event in events if isinstance(event, OutputLine)]
    assert [(event.text, event.stream) for event in output[:4]] == [
        ("one", "stdout"), ("  zwei 二", "stdout"), ("", "stdout"), ("drei", "stderr"),
    ]  # fmt: skip
    said = [event.message for event in events if isinstance(event, StepProgress)]
    assert said[:3] == ["one", "zwei 二", "drei"]


def test_what_an_interrupted_run_left_running_is_waited_for(
    tmp_path: Path, node: LocalGuest
) -> None:
    write(node, f"""
        echo begin >>{node.root}/order
        until [ -e {node.root}/go ]; do sleep 0.01; done
        echo end >>{node.root}/order
    """)  # fmt: skip
    order = node.root / "order"
    threads = [
        threading.Thread(target=stage(tmp_path, node).run, args=(StepContext("x"),))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 10
    while not order.exists() and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.1)  # the second has the time to begin, if nothing keeps it
    (node.root / "go").touch()
    for thread in threads:
        thread.join(10)
    assert order.read_text() == "begin\nend\n" * 2


def test_marks_are_read_once_for_all_stages_of_a_node(tmp_path: Path) -> None:
    guest = FakeGuest().on("", "30-mariadb.sh:abc\n31-rabbitmq.sh:def\n")
    stages, _ = provisioner(tmp_path, {"network-controller": guest, "compute-01": guest})
    for one in stages.node_steps():
        assert not done(one)
    assert len(guest.ran) == 2


def test_the_same_provision_gives_the_same_bytes(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(PROVISION, copy)
    (copy / "__pycache__").mkdir(exist_ok=True)
    (copy / "__pycache__" / "x.pyc").touch()
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))

    def sent(provision: Path) -> str:
        guest = FakeGuest().on("", "")
        stages, _ = provisioner(tmp_path, {"network-controller": guest}, provision=provision)
        step(stages.host_steps(), "boot:network-controller").run(StepContext("x"))
        (content,) = [ran.input for ran in guest.ran if ran.input is not None]
        return hashlib.sha256(content).hexdigest()

    assert sent(copy) == sent(PROVISION)
