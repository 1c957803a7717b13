"""What `create` makes in OpenStack: once, in pieces if it was interrupted, and never twice."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import labctl.provisioning.seed
from labctl.access.guest import GuestError
from labctl.engine.steps import StepContext
from labctl.engine.wait import NotYet, wait_until
from labctl.errors import EXIT_USAGE, Cancelled, LabError
from labctl.provisioning.seed import (
    Seed,
    compute_ready,
    make_access,
    make_flavors,
    make_image,
    make_instance,
    make_network,
)
from labctl.provisioning.services import units_of
from labctl.topology import Topology
from tests.unit.fakes import FakeGuest, topology

LAB = topology()
CONTEXT = StepContext("test")


def never() -> bool:
    return False


def silent(message: str) -> None:
    pass


@dataclass
class Cloud:
    """The part of openstacksdk that is used, in memory. `calls` is what changed something."""

    calls: list[str] = field(default_factory=list)
    things: dict[str, list[Any]] = field(default_factory=dict)
    turns: dict[str, list[str]] = field(default_factory=dict)
    """Of a server by name: the statuses that are seen one after the other; the last one stays."""
    current_project_id: str = "project"
    ids: Iterator[int] = field(default_factory=count)
    asked: set[str] = field(default_factory=set)
    """Projects whose security groups were listed."""

    def __post_init__(self) -> None:
        self.network = self.compute = self.image = self.placement = cast(Any, self)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        verb, _, kind = name.partition("_")
        if verb == "find":
            return lambda wanted, **_: self.named(kind, wanted)
        if verb == "create":
            return lambda name="", **values: self.make(kind, name, **values)
        raise AttributeError(name)

    def named(self, kind: str, name: str) -> Any:
        return next((one for one in self.things.get(kind, []) if one.name == name), None)

    def make(self, kind: str, name: str, **values: Any) -> Any:
        self.calls.append(f"create {kind} {name}".strip())
        made = SimpleNamespace(id=f"{kind}-{next(self.ids)}", name=name, **values)
        self.things.setdefault(kind, []).append(made)
        return made

    def list_projects(self) -> list[Any]:
        return [SimpleNamespace(id="admin"), SimpleNamespace(id="service")]

    def security_groups(self, project_id: str) -> Iterator[Any]:
        self.asked.add(project_id)
        yield from ()

    def create_security_group(self, name: str, description: str) -> Any:
        return self.make("security_group", name, security_group_rules=[])

    def create_security_group_rule(self, security_group_id: str, **rule: Any) -> None:
        self.calls.append(f"create rule {rule['protocol']} {rule['port_range_min']}")
        (group,) = [g for g in self.things["security_group"] if g.id == security_group_id]
        group.security_group_rules.append(rule)

    def ports(self, **query: str) -> list[Any]:
        return [p for p in self.things.get("port", []) if vars(p).items() >= query.items()]

    def add_interface_to_router(self, router: Any, subnet: str) -> None:
        self.calls.append("add interface")
        (its,) = [one for one in self.things["subnet"] if one.id == subnet]
        self.things.setdefault("port", []).append(
            SimpleNamespace(
                device_id=router.id,
                device_owner="network:router_interface",
                network_id=its.network_id,
            )
        )

    def delete_image(self, image: str, *, ignore_missing: bool) -> None:
        self.calls.append(f"delete {image}")
        self.things["image"] = [one for one in self.things["image"] if one.id != image]

    def create_image(self, name: str, **values: Any) -> Any:
        return self.make("image", name, status="active", **values)

    def create_server(self, name: str, **values: Any) -> Any:
        return self.make("server", name, status="BUILD", task_state="spawning", **values)

    def delete_server(self, server: Any, *, force: bool) -> None:
        self.calls.append(f"delete {server.name}")
        self.things["server"].remove(server)

    def wait_for_delete(self, server: Any, **_: Any) -> None:
        assert server not in self.things["server"]

    def start_server(self, server: str) -> None:
        self.calls.append("start")

    def get_server(self, server: str) -> Any:
        (its,) = [one for one in self.things["server"] if one.id == server]
        turns = self.turns.setdefault(its.name, ["ACTIVE"])
        status = turns.pop(0) if len(turns) > 1 else turns[0]
        its.status, _, task = status.partition(" ")
        its.task_state = task or None
        its.fault = {"message": "No valid host was found."} if its.status == "ERROR" else None
        return its


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting takes no time, and three looks are all there is."""

    def brief(*args: Any, **kwargs: Any) -> Any:
        clock = count()
        return wait_until(
            *args,
            **{**kwargs, "deadline": 3, "clock": lambda: next(clock), "sleep": lambda s: None},
        )

    monkeypatch.setattr(labctl.provisioning.seed, "wait_until", brief)


# -- network and access ----------------------------------------------------------------------------
def test_the_tenants_network_is_made_once() -> None:
    cloud = Cloud()
    for _ in range(2):
        make_network(cast(Any, cloud), LAB)
    assert cloud.calls == [
        "create network n1", "create subnet subnet1", "create router r", "add interface",
    ]  # fmt: skip
    (subnet,) = cloud.things["subnet"]
    assert (subnet.cidr, subnet.gateway_ip) == ("172.16.100.0/24", "172.16.100.1")
    assert subnet.network_id == cloud.things["network"][0].id


@pytest.mark.parametrize("made", range(1, 4))
def test_what_an_interruption_left_out_is_made(made: int) -> None:
    class Stopped(Exception):  # noqa: N818
        pass

    class Fragile(Cloud):
        def make(self, kind: str, name: str, **values: Any) -> Any:
            if len(self.calls) == made:
                raise Stopped
            return super().make(kind, name, **values)

        def add_interface_to_router(self, router: Any, subnet: str) -> None:
            if len(self.calls) == made:
                raise Stopped
            super().add_interface_to_router(router, subnet)

    fragile = Fragile()
    with pytest.raises(Stopped):
        make_network(cast(Any, fragile), LAB)
    cloud = Cloud(fragile.calls, fragile.things)
    make_network(cast(Any, cloud), LAB)
    assert cloud.calls == [
        "create network n1", "create subnet subnet1", "create router r", "add interface",
    ]  # fmt: skip


def controller() -> FakeGuest:
    return FakeGuest(files={"/root/.ssh/id_ed25519.pub": b"ssh-ed25519 AAAA labctl\n"})


def test_access_is_made_once() -> None:
    cloud = Cloud()
    for _ in range(2):
        make_access(cast(Any, cloud), LAB, controller())
    assert cloud.calls == [
        "create security_group allow-icmp-ssh", "create rule icmp None", "create rule tcp 22",
        f"create keypair {LAB.keypair}",
    ]  # fmt: skip
    assert cloud.things["keypair"][0].public_key == "ssh-ed25519 AAAA labctl"
    assert cloud.asked == {"admin", "service"}  # their groups "default" exist before `base`


def test_a_group_with_other_rules_gets_those_it_lacks() -> None:
    cloud = Cloud()
    group = cloud.create_security_group(LAB.security_group, "")
    group.security_group_rules += [
        {"direction": "ingress", "protocol": "tcp", "port_range_min": 80},
        {"direction": "egress", "protocol": "icmp", "port_range_min": None},
    ]
    make_access(cast(Any, cloud), LAB, controller())
    assert cloud.calls[1:3] == ["create rule icmp None", "create rule tcp 22"]


# -- image -----------------------------------------------------------------------------------------
@pytest.fixture
def qcow2(tmp_path: Path) -> Path:
    file = tmp_path / "image"
    file.write_bytes(b"QFI\xfb" + bytes(2_000_000))
    return file


def test_image_and_flavor_are_made_once(qcow2: Path) -> None:
    cloud, said = Cloud(), cast(list[str], [])
    for _ in range(2):
        make_image(cast(Any, cloud), LAB.image.name, qcow2, said.append)
        make_flavors(cast(Any, cloud), LAB)
    assert cloud.calls == ["create image cirros", "create flavor m1.nano"]
    (image,) = cloud.things["image"]
    assert (image.disk_format, image.visibility) == ("qcow2", "public")
    assert image.hw_qemu_guest_agent == "yes"  # else Nova makes no port for labctl's way in
    assert said == ["uploading 2 MB"]
    (flavor,) = cloud.things["flavor"]
    assert (flavor.ram, flavor.vcpus, flavor.disk) == (
        LAB.flavor.memory, LAB.flavor.vcpus, LAB.flavor.disk,
    )  # fmt: skip


def test_a_raw_image_is_called_raw(tmp_path: Path) -> None:
    cloud = Cloud()
    for content in (b"", b"QF", b"\xeb\x63\x90\x00"):
        cloud.things.clear()
        (tmp_path / "image").write_bytes(content)
        make_image(cast(Any, cloud), LAB.image.name, tmp_path / "image", silent)
        assert cloud.things["image"][0].disk_format == "raw"


def test_an_upload_that_was_interrupted_is_done_again(qcow2: Path) -> None:
    cloud = Cloud()
    half = cloud.make("image", "cirros", status="saving")
    make_image(cast(Any, cloud), LAB.image.name, qcow2, silent)
    assert cloud.calls[1:3] == [f"delete {half.id}", "create image cirros"]
    assert [image.status for image in cloud.things["image"]] == ["active"]


# -- instances -------------------------------------------------------------------------------------
def ready_cloud() -> Cloud:
    cloud = Cloud()
    for kind, name in (("network", "n1"), ("image", "cirros"), ("flavor", "m1.nano")):
        cloud.make(kind, name)
    cloud.calls.clear()
    return cloud


def instance(cloud: Cloud, said: list[str] | None = None) -> None:
    progress: list[str] = [] if said is None else said
    make_instance(cast(Any, cloud), LAB, LAB.instances[0], progress.append, never)


def test_an_instance_is_made_at_its_address_and_waited_for() -> None:
    cloud, said = ready_cloud(), cast(list[str], [])
    cloud.turns["vm_1"] = ["BUILD scheduling", "BUILD spawning", "ACTIVE"]
    instance(cloud, said)
    assert cloud.calls == ["create server vm_1"]
    assert said == ["BUILD scheduling", "BUILD spawning", "ACTIVE"]
    (server,) = cloud.things["server"]
    network = cloud.things["network"][0].id
    assert server.networks == [{"uuid": network, "fixed_ip": "172.16.100.10"}]
    assert server.key_name == LAB.keypair
    instance(cloud)
    assert cloud.calls == ["create server vm_1"]


def test_an_instance_that_cannot_start_says_why() -> None:
    cloud = ready_cloud()
    cloud.turns["vm_1"] = ["BUILD", "ERROR"]
    with pytest.raises(LabError, match=r"could not start vm_1: No valid host was found\.") as error:
        instance(cloud)
    assert "nova-compute" in error.value.hint


def test_a_failed_attempt_is_removed_and_made_again() -> None:
    cloud = ready_cloud()
    cloud.make("server", "vm_1", status="ERROR")
    instance(cloud)
    assert cloud.calls[1:] == ["delete vm_1", "create server vm_1"]


def test_an_instance_that_was_shut_off_is_started() -> None:
    cloud = ready_cloud()
    cloud.make("server", "vm_1", status="SHUTOFF")
    cloud.turns["vm_1"] = ["SHUTOFF", "SHUTOFF powering-on", "ACTIVE"]
    instance(cloud)
    assert cloud.calls[1:] == ["start"]  # once: not again while Nova is at it


def test_an_instance_that_takes_for_ever_is_said() -> None:
    cloud = ready_cloud()
    cloud.turns["vm_1"] = ["BUILD networking"]
    with pytest.raises(LabError, match="vm_1 is ACTIVE; last seen: BUILD, task networking"):
        instance(cloud)


def test_waiting_for_an_instance_can_be_cancelled() -> None:
    with pytest.raises(Cancelled):
        make_instance(cast(Any, ready_cloud()), LAB, LAB.instances[0], silent, lambda: True)


MORE = topology("""
name: x
nodes: {ctl: , n1: , n2: }
tenant: {networks: {n2: }}
flavors: {small: {memory: 256}}
images: {debian: {source: debian.qcow2, user: debian}}
instances: {a: , b: {network: n2, compute: n2, flavor: small, image: debian}}
""")


def test_further_networks_have_an_interface_of_the_router_each() -> None:
    cloud = Cloud()
    for _ in range(2):
        make_network(cast(Any, cloud), MORE)
    assert cloud.calls == [
        "create network n1", "create subnet subnet1", "create network n2",
        "create subnet n2-subnet", "create router r", "add interface", "add interface",
    ]  # fmt: skip
    assert [subnet.cidr for subnet in cloud.things["subnet"]] == [
        "172.16.100.0/24", "172.16.101.0/24",
    ]  # fmt: skip


def test_an_instance_is_made_where_and_of_what_lab_yaml_says() -> None:
    cloud = Cloud()
    made = {
        name: cloud.make(kind, name)
        for kind, name in (("network", "n2"), ("image", "debian"), ("flavor", "small"))
    }
    make_instance(cast(Any, cloud), MORE, MORE.instances[1], silent, never)
    (server,) = cloud.things["server"]
    assert server.networks == [{"uuid": made["n2"].id, "fixed_ip": "172.16.101.10"}]
    assert (server.image_id, server.flavor_id) == (made["debian"].id, made["small"].id)
    assert server.availability_zone == "nova:n2"
    assert MORE.image_of("b").user == "debian"


# -- computes --------------------------------------------------------------------------------------
TWO = topology("name: x\nnodes: {ctl: , n1: , n2: }\n")


def with_computes(
    hypervisors: str = "n1 n2", up: str = "n1 n2", down: str = "", inventories: str = "n1 n2"
) -> Any:
    named = [SimpleNamespace(name=name) for name in hypervisors.split()]
    services = [SimpleNamespace(host=name, state="up") for name in up.split()]
    services += [SimpleNamespace(host=name, state="down") for name in down.split()]
    providers = [SimpleNamespace(name=name) for name in ("n1", "n2")]

    def of_binary(binary: str) -> list[Any]:
        assert binary == "nova-compute"
        return services

    return SimpleNamespace(
        compute=SimpleNamespace(hypervisors=lambda: named, services=of_binary),
        placement=SimpleNamespace(
            resource_providers=lambda: providers,
            resource_provider_inventories=lambda one: (
                ["VCPU"] if one.name in inventories.split() else []
            ),
        ),
    )


def test_computes_are_ready_when_the_scheduler_can_use_all_of_them() -> None:
    assert compute_ready(with_computes(), TWO)
    assert compute_ready(with_computes(hypervisors="n1 n2 gone", down="gone"), TWO)


@pytest.mark.parametrize(
    ("lacking", "missing"),
    [
        ({"hypervisors": "n1"}, "n2"),
        ({"up": "n2", "down": "n1"}, "n1"),
        ({"inventories": ""}, "n1, n2"),
        ({"hypervisors": "", "up": "", "inventories": ""}, "n1, n2"),
    ],
)
def test_a_compute_that_is_not_ready_is_named(lacking: dict[str, str], missing: str) -> None:
    with pytest.raises(NotYet, match=f"^{missing} not yet registered$"):
        compute_ready(with_computes(**lacking), TWO)


# -- steps -----------------------------------------------------------------------------------------
@dataclass
class Parts:
    """What Seed needs of a lab."""

    topology: Topology = LAB
    file: Path = Path("/nowhere/lab.yaml")
    cache: Path = Path("/nowhere")
    image_file: Path | None = None
    cloud: Callable[[], Any] = field(default_factory=lambda: Cloud)
    controller: FakeGuest = field(default_factory=FakeGuest)
    guests: dict[str, FakeGuest] = field(default_factory=dict)

    @property
    def provider(self) -> Any:
        return SimpleNamespace(
            image_file=lambda path: self.image_file,
            guest=lambda node: self.guests[node.name],
            timeout_factor=1,
        )


def yesterday(**parts: Any) -> Seed:
    return Seed(cast(Any, Parts(**parts)))


def source(text: str, directory: Path, **parts: Any) -> Path:
    made = topology(f"name: x\nimage: {{source: {text}}}\n")
    file = directory / "lab.yaml"
    with yesterday(topology=made, file=file, **parts).image_source(
        CONTEXT, made.image.source, "image.source"
    ) as path:
        return path.resolve()  # of an open file: its name


def test_the_image_is_the_baked_one_unless_lab_yaml_names_another(tmp_path: Path) -> None:
    baked = tmp_path / "baked.qcow2"
    assert source("builtin", tmp_path, image_file=baked) == baked


def test_the_built_in_image_of_a_virtual_machine_is_fetched_and_kept(tmp_path: Path) -> None:
    controller = FakeGuest(files={"/usr/share/labctl/instance.qcow2": b"QFI"})
    parts = {"image_file": None, "controller": controller, "cache": tmp_path}
    fetched = source("builtin", tmp_path, **parts)
    assert (fetched.read_bytes(), fetched.parent) == (b"QFI", tmp_path / "downloads")
    assert source("builtin", tmp_path, **parts) == fetched
    with pytest.raises(LabError, match=r"instance\.qcow2 cannot be read"):
        source("builtin", tmp_path, **parts | {"controller": FakeGuest()})


def test_a_file_counts_from_the_directory_of_lab_yaml(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "x.img").touch()
    assert source("images/x.img", tmp_path) == tmp_path / "images" / "x.img"
    assert source(str(tmp_path / "images/x.img"), Path("/nowhere")).is_file()
    with pytest.raises(LabError, match=r"^lab\.yaml: image\.source: there is no file /") as error:
        source("./y.img", tmp_path)
    assert error.value.code == EXIT_USAGE
    with pytest.raises(LabError, match="images is no regular file"):
        source("./images", tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="what root must not do, only root can try")
def test_only_what_the_caller_may_read_becomes_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_UID", "65534")
    monkeypatch.setenv("SUDO_GID", "65534")
    for above in (tmp_path, *tmp_path.parents):
        if above.stat().st_mode & 0o077 == 0:
            above.chmod(0o755)
    roots, theirs = tmp_path / "shadow", tmp_path / "theirs.img"
    roots.write_text("secret")
    roots.chmod(0o600)
    theirs.write_text("QFI")
    (tmp_path / "link.img").symlink_to(roots)
    (tmp_path / "good.img").symlink_to(theirs)
    os.mkfifo(tmp_path / "pipe.img", 0o666)
    (tmp_path / "pipe.img").chmod(0o666)
    assert source("./good.img", tmp_path) == theirs
    for name in (str(roots), "./link.img", "/etc/shadow"):
        with pytest.raises(LabError, match="cannot be read: Permission denied") as error:
            source(name, tmp_path)
        assert error.value.code == EXIT_USAGE
        assert "with your rights, not with root's" in error.value.hint
    for name in ("./pipe.img", "/dev/zero"):
        with pytest.raises(LabError, match="is no regular file"):
            source(name, tmp_path)
    assert roots.read_text() == "secret"  # root is root again


def test_an_url_is_downloaded_into_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Path]] = []

    def fake(url: str, directory: Path, *_: object, **__: object) -> Path:
        asked.append((url, directory))
        return directory / "x"

    monkeypatch.setattr(labctl.provisioning.seed, "download", fake)
    assert source("http://x/y.img", tmp_path, cache=tmp_path) == tmp_path / "downloads" / "x"
    assert asked == [("http://x/y.img", tmp_path / "downloads")]


def test_after_up_services_computes_and_instances_are_waited_for() -> None:
    steps = yesterday().ready_steps()
    assert [(step.id, step.needs) for step in steps] == [
        ("services", ("boot:network-controller", "boot:compute-01")),
        ("computes", ("services",)),
        ("instances", ("computes",)),
    ]


def run(id: str, **parts: Any) -> None:
    made = yesterday(**parts)
    next(step for step in made.ready_steps() if step.id == id).run(CONTEXT)


def answering(**states: str) -> dict[str, FakeGuest]:
    """Guests whose units are all active, but for these."""
    guests = {}
    for node in LAB.nodes:
        said = "\n".join(
            states.get(unit.replace("-", "_"), "active") for unit in units_of(node, "openstack")
        )
        guests[node.name] = FakeGuest(node.name).on("^systemctl is-active", said, exit=3)
    return guests


def test_services_are_back_when_every_unit_of_every_node_is_active() -> None:
    guests = answering()
    guests["compute-01"].on("systemctl", raises=GuestError("not yet"), once=True)
    run("services", guests=guests)
    with pytest.raises(LabError, match="compute-01: nova-compute activating"):
        run("services", guests=answering(nova_compute="activating"))
    with pytest.raises(LabError, match="network-controller: mariadb failed, keystone inactive"):
        run("services", guests=answering(mariadb="failed", keystone="inactive"))


def test_a_unit_that_is_not_told_of_is_not_active() -> None:
    guests = answering()
    guests["compute-01"].on("systemctl", "active\nactive\n")
    with pytest.raises(LabError, match="neutron-ovn-metadata-agent unknown"):
        run("services", guests=guests)


def servers(*states: tuple[str, str, int]) -> Callable[[], Any]:
    found = [
        SimpleNamespace(
            name=name, status=status, power_state=power, instance_name=f"instance-{name}",
            compute_host="compute-01",
        )
        for name, status, power in states
    ]  # fmt: skip
    return lambda: SimpleNamespace(compute=SimpleNamespace(servers=lambda all_projects: found))


def plugged(*names: str) -> dict[str, FakeGuest]:
    """A compute node on which these instances run, with their interfaces."""
    said = "".join(f"instance-{name}\n" for name in names)
    return {"compute-01": FakeGuest("compute-01").on("virsh domiflist", said)}


def test_instances_are_back_when_those_that_ran_run() -> None:
    run(
        "instances",
        guests=plugged("a"),
        cloud=servers(("a", "ACTIVE", 1), ("b", "SHUTOFF", 4)),
    )
    run("instances", cloud=servers())
    with pytest.raises(LabError, match=r"last seen: b\n"):
        run(
            "instances",
            guests=plugged("a", "b"),
            cloud=servers(("a", "ACTIVE", 1), ("b", "ACTIVE", 0)),
        )


def test_an_instance_that_only_nova_takes_to_run_is_waited_for() -> None:
    with pytest.raises(LabError, match=r"last seen: b\n"):
        run(
            "instances",
            guests=plugged("a"),
            cloud=servers(("a", "ACTIVE", 1), ("b", "ACTIVE", 1)),
        )


def test_an_api_that_is_not_there_yet_is_asked_again() -> None:
    answers: Iterator[Callable[[], Any]] = iter([servers(("a", "ACTIVE", 1))])
    failed: list[bool] = []

    def cloud() -> Any:
        if not failed:
            failed.append(True)
            raise ConnectionRefusedError
        return next(answers)()

    run("instances", guests=plugged("a"), cloud=cloud)
    assert failed
    assert list(answers) == []
