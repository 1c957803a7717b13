"""The engine incus on the REST API of a pretended cluster: what is made, found again, removed."""

import itertools
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
import yaml

from labctl.classroom.first_boot import first_boot_of_a_bare_image
from labctl.classroom.incus.api import IncusAPI, IncusError
from labctl.classroom.incus.remotes import Remote, find, image_source
from labctl.classroom.incus.room import require
from labctl.classroom.incus.server import NESTING, IncusEngine
from labctl.classroom.incus.shared import network_name, rules, taken_ports
from labctl.classroom.load import parse_class
from labctl.classroom.model import ClassSpec
from labctl.classroom.registry import find as find_engine
from labctl.classroom.work import ClassWork
from labctl.errors import LabError
from labctl.i18n import set_language
from tests.unit.classroom.fake_incus import LONG_AGO, FakeIncus, keys_in

Make = Callable[..., ClassWork]


@pytest.fixture
def incus(tmp_path: Path) -> Iterator[FakeIncus]:
    fake = FakeIncus()
    fake.add_image("tiny")
    server = fake.serve(tmp_path / "socket")
    yield fake
    server.shutdown()
    server.server_close()


@pytest.fixture
def parts(
    incus: FakeIncus, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[ClassSpec, IncusEngine, Path]]:
    """A class of that many learners, its engine, and where its class.yaml is."""
    assert incus.instances == {}
    home = tmp_path_factory.mktemp("laptop")

    def make(
        learners: str = "[amy, bob, cat, dan]", *, laptop: Path = home, name: str = "day",
        **settings: object,
    ) -> tuple[ClassSpec, IncusEngine, Path]:  # fmt: skip
        values = {"type": "container", "image": "tiny", **settings}
        text = (f"name: {name}\nengine: incus\nuser: lab\nlearners: {learners}\n"
                f"incus: {yaml.safe_dump(values, default_flow_style=True)}")  # fmt: skip
        spec = parse_class(text.encode(), "class.yaml")
        remote = Remote("local", "default", sockets=(tmp_path / "socket",))
        api = IncusAPI(remote, "default", 60, sleep=lambda _: None)
        return spec, IncusEngine(spec, laptop, api, remote), laptop

    return make


@pytest.fixture
def work(parts: Callable[..., tuple[ClassSpec, IncusEngine, Path]]) -> Make:
    def make(learners: str = "[amy, bob, cat, dan]", **settings: object) -> ClassWork:
        spec, engine, laptop = parts(learners, **settings)
        return ClassWork(spec, engine, laptop, lambda _: None, sleep=lambda _: None)

    return make


def places(work: ClassWork, learners: int = 4) -> dict[str, str]:
    """{learner: address and port} of those that run."""
    outcome = work.create()
    assert len(outcome.machines) + len(outcome.failed) == learners
    return {machine.learner: f"{machine.address}:{machine.port}" for machine in outcome.machines}


def test_each_learner_gets_a_machine_with_labels_keys_and_a_port(
    incus: FakeIncus, work: Make
) -> None:
    found = places(work())
    assert {learner: place.partition(":")[2] for learner, place in found.items()} == {
        "amy": "22001", "bob": "22002", "cat": "22003", "dan": "22004",
    }  # fmt: skip
    amy = incus.instances["labctl-day-amy"]
    assert amy["config"]["user.labctl-class"] == "day"
    assert amy["config"]["user.labctl-learner"] == "amy"
    assert keys_in(amy["config"]["cloud-init.user-data"]) == [
        "labctl-class=day", "labctl-class=day labctl-learner=amy",
    ]  # fmt: skip
    assert NESTING.items() <= amy["config"].items()
    assert amy["devices"]["eth0"]["ipv4.address"] == "10.98.0.2"
    assert amy["devices"]["eth0"]["security.port_isolation"] == "true"
    assert amy["devices"]["root"]["pool"] == "pool"
    orders = [path for method, path, _ in incus.changes if path.startswith("instances ")]
    assert orders == ["instances "] * 4, "the cluster chooses the member"
    locations = sorted(each["location"] for each in incus.instances.values())
    assert locations == ["m1", "m1", "m2", "m2"]
    member = {"m1": "10.77.0.1", "m2": "10.77.0.2"}
    assert found["amy"] == f"{member[amy['location']]}:22001"


def test_create_again_changes_nothing(incus: FakeIncus, work: Make) -> None:
    work().create()
    before = len(incus.changes)
    assert not work().create().failed
    assert incus.changes[before:] == []


def test_destroy_removes_what_is_labelled_and_nothing_else(
    incus: FakeIncus, work: Make, tmp_path_factory: pytest.TempPathFactory
) -> None:
    incus.networks["incusbr0"] = {"name": "incusbr0", "type": "bridge", "config": {}, "status":
                                  "Created"}  # fmt: skip
    work(name="day-2", first_port=23001, cidr="10.97.0.0/24").create()
    before = deepcopy([incus.instances, incus.networks, incus.acls, incus.profiles, incus.images])
    (laptop := tmp_path_factory.mktemp("golden")).joinpath("golden.tar.gz").write_bytes(b"image")
    work(laptop=laptop, image="golden.tar.gz").create()
    assert len(incus.images) == 2
    elsewhere = work(laptop=tmp_path_factory.mktemp("another"))
    assert elsewhere.destroy().failed == {}
    after = [incus.instances, incus.networks, incus.acls, incus.profiles, incus.images]
    assert after == before


def test_what_was_interrupted_anywhere_is_gone_on_with(
    incus: FakeIncus, work: Make, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def everything() -> list[object]:
        return deepcopy([incus.instances, incus.networks, incus.acls, incus.profiles])

    def interrupted(verb: str, cut: int) -> bool:
        """Whether it was: the server falls silent after that change."""
        incus.changes.clear()
        incus.cut_at = cut
        try:
            failed = getattr(work("[amy, bob]"), verb)().failed
        except LabError as error:
            failed = {"": error.message}
        incus.cut_at = 0
        return bool(failed)

    clean = everything()
    cuts = {}
    for verb in ("create", "destroy"):
        for cut in itertools.count(1):
            if not interrupted(verb, cut):
                break
            cuts[verb] = cut
            if verb == "create":
                outcome = work("[amy, bob]").create()
                assert outcome.failed == {}, f"after change {cut}"
                assert len(outcome.machines) == len(incus.instances) == 2
            elsewhere = work("[amy, bob]", laptop=tmp_path_factory.mktemp("another"))
            assert elsewhere.destroy().failed == {}
            assert everything() == clean, f"{verb} after change {cut}"
            if verb == "destroy":
                assert not work("[amy, bob]").create().failed
    assert cuts == {"create": 9, "destroy": 7}, "every change of a day was the last"


def test_the_rest_goes_on_when_a_member_is_lost(incus: FakeIncus, work: Make) -> None:
    set_language("en")
    work().create()
    gone = [each["config"]["user.labctl-learner"] for each in incus.instances.values()
            if each["location"] == "m2"]  # fmt: skip
    incus.lost = {"m2"}
    before = len(incus.changes)
    outcome = work().create()
    assert outcome.failed == dict.fromkeys(gone, "the cluster member m2 does not answer")
    assert len(outcome.machines) == 2
    assert incus.changes[before:] == [], "nobody gets a second machine"
    destroyed = work().destroy()
    assert destroyed.failed == dict.fromkeys(gone, "the cluster member m2 does not answer")
    assert len(incus.instances) == 2
    assert "labctl-day" in incus.profiles, "it is how they are found"
    incus.lost = set()
    assert work().destroy().failed == {}
    assert (incus.instances, list(incus.profiles)) == ({}, ["default"])


def test_a_lost_machine_of_somebody_else_is_not_taken_for_ours(
    incus: FakeIncus, work: Make
) -> None:
    work("[amy]").create()
    other = deepcopy(incus.instances["labctl-day-amy"])
    other |= {"name": "labctl-day-zoe", "location": "m2", "config": {}, "profiles": ["default"],
              "devices": {}}  # fmt: skip
    incus.instances["labctl-day-zoe"] = other
    incus.lost = {"m2"}
    assert work("[amy]").destroy().failed == {}
    assert list(incus.instances) == ["labctl-day-zoe"]


def test_a_machine_that_fails_stops_nobody_and_is_replaced(incus: FakeIncus, work: Make) -> None:
    set_language("en")
    incus.refuse = {"labctl-day-bob": "Failed creating file: no space left on device"}
    outcome = work().create()
    assert outcome.failed == {
        "bob": "the pool pool is full: Failed creating file: no space left on device"
    }
    assert len(outcome.machines) == 3
    assert incus.instances["labctl-day-bob"]["last_used_at"] == LONG_AGO
    incus.refuse = {}
    assert places(work())["bob"].endswith(":22002")


def test_what_another_labctl_is_making_is_waited_for(
    incus: FakeIncus, work: Make, parts: Callable[..., tuple[ClassSpec, IncusEngine, Path]]
) -> None:
    work().create()
    amy = incus.instances["labctl-day-amy"]
    amy |= {"status_code": 102, "last_used_at": LONG_AGO}
    incus.running = [{"resources": {"instances": ["/1.0/instances/labctl-day-amy"]}}]
    before = len(incus.changes)
    _, engine, _ = parts()
    seen = [machine.state for machine in engine.machines() if machine.learner == "amy"]
    assert seen == ["building"]
    assert incus.changes[before:] == []


def test_somebody_elses_instance_of_that_name_is_left_alone(incus: FakeIncus, work: Make) -> None:
    work("[amy]", name="x").create()
    theirs = incus.instances.pop("labctl-x-amy")
    incus.instances["labctl-day-amy"] = {**theirs, "name": "labctl-day-amy", "config": {}}
    before = deepcopy(incus.instances["labctl-day-amy"])
    outcome = work().create()
    assert "did not make" in outcome.failed["amy"]
    assert len(outcome.machines) == 3
    work().destroy()
    assert incus.instances == {"labctl-day-amy": before}


def test_somebody_elses_profile_of_that_name_stops_the_class(incus: FakeIncus, work: Make) -> None:
    theirs = {"name": "labctl-day", "config": {}, "devices": {}}
    incus.profiles["labctl-day"] = deepcopy(theirs)
    with pytest.raises(LabError, match="labctl-day that labctl did not make"):
        work().create()
    assert incus.profiles["labctl-day"] == theirs
    assert incus.instances == {}


def test_another_teacher_is_told(
    incus: FakeIncus, work: Make, tmp_path_factory: pytest.TempPathFactory
) -> None:
    work("[amy]").create()
    with pytest.raises(LabError, match="another teacher's key"):
        work(laptop=tmp_path_factory.mktemp("another")).create()
    assert list(incus.instances) == ["labctl-day-amy"]


def test_a_learner_keeps_address_and_port_over_a_reset_and_a_change_of_the_list(
    incus: FakeIncus, work: Make
) -> None:
    before = places(work())
    reset = work()
    outcome = reset.reset(["bob", "cat"])
    assert outcome.failed == {}
    assert {each.learner: f"{each.address}:{each.port}" for each in outcome.machines} == {
        name: before[name] for name in ("bob", "cat")
    }
    changed = places(work("[zoe, dan, cat, bob, amy]"), 5)
    assert {name: changed[name] for name in before} == before
    addresses = [each["devices"]["eth0"]["ipv4.address"] for each in incus.instances.values()]
    assert len(set(addresses)) == 5
    assert changed["zoe"].endswith(":22005")


def test_ports_of_other_machines_are_passed_over(incus: FakeIncus, work: Make) -> None:
    places(work("[x, y]", name="other"), 2)
    found = places(work("[amy]", cidr="10.97.0.0/24"), 1)
    assert found["amy"].endswith(":22003")


def test_one_server_opens_ports_at_its_own_address_or_the_one_of_class_yaml(
    incus: FakeIncus, work: Make
) -> None:
    incus.clustered = False
    assert places(work("[amy]"), 1) == {"amy": "192.0.2.9:22001"}
    work("[amy]").destroy()
    assert places(work("[amy]", listen="198.51.100.7"), 1) == {"amy": "198.51.100.7:22001"}
    (acl,) = incus.acls.values()
    assert "198.51.100.7" in acl["egress"][0]["destination"]


def test_the_network_is_made_on_every_member_and_keeps_machines_apart(
    incus: FakeIncus, work: Make
) -> None:
    work("[amy]").create()
    network = incus.networks[network_name("day")]
    assert len(network["name"]) <= 15, "a Linux interface has the name"
    assert sorted(network["locations"]) == ["m1", "m2"]
    assert network["config"]["ipv4.address"] == "10.98.0.1/22"
    assert network["config"]["security.acls"] == "labctl-day"
    (rule,) = incus.acls["labctl-day"]["egress"]
    assert rule["action"] == "reject"
    assert rule["destination"] == "10.77.0.1,10.77.0.2,10.98.0.0/22"
    incus.acls["labctl-day"]["egress"] = rules("10.98.0.0/22", ["10.77.0.1"])
    work("[amy]").create()
    assert incus.acls["labctl-day"]["egress"] == [rule], "a member more is known to the rules"


@pytest.mark.parametrize(
    ("managed", "kind", "device"),
    [
        (True, "bridge", {"network": "lan", "security.port_isolation": "true"}),
        (False, "bridge", {"nictype": "bridged", "parent": "lan",
                           "security.port_isolation": "true"}),
        (True, "macvlan", {"network": "lan"}),
    ],
)  # fmt: skip
def test_machines_on_a_network_that_is_there(
    incus: FakeIncus, work: Make, managed: bool, kind: str, device: dict[str, str]
) -> None:
    incus.networks["lan"] = {"name": "lan", "type": kind, "managed": managed, "config": {},
                             "status": "Created"}  # fmt: skip
    found = places(work("[amy, bob]", access="fixed", network="lan"), 2)
    assert sorted(found.values()) == ["192.0.2.1:22", "192.0.2.2:22"]
    nic = incus.instances["labctl-day-amy"]["devices"]["eth0"]
    assert nic == {"type": "nic", "name": "eth0", **device}
    assert incus.acls == {}
    assert work("[amy, bob]", access="fixed", network="lan").destroy().failed == {}
    assert list(incus.networks) == ["lan"]


def test_a_network_that_is_not_there_is_named(work: Make) -> None:
    outcome = work("[amy]", access="fixed", network="lan").create()
    assert outcome.failed["amy"] == "Incus has no network 'lan'"


def test_images_by_alias_fingerprint_and_from_a_server_of_images(
    incus: FakeIncus, work: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = incus.aliases["tiny"]
    for image in ("tiny", fingerprint[:12]):
        work("[amy]", image=image).create()
        assert incus.instances["labctl-day-amy"]["source"]["fingerprint"] == fingerprint
        work("[amy]").destroy()
    with pytest.raises(LabError, match="no image 'tiney'"):
        work(image="tiney").create()
    with pytest.raises(LabError, match="there is no file"):
        work(image="./none.tar.xz").create()
    with pytest.raises(LabError, match=r"for container, .*incus\.type: vm"):
        work(type="vm").create()
    monkeypatch.setenv("INCUS_CONF", str(tmp_path))
    (tmp_path / "config.yml").write_text(
        "remotes: {shop: {addr: 'https://images.example', protocol: simplestreams, public: true}}"
    )
    work("[amy]", image="shop:debian/13/cloud").create()
    assert incus.instances["labctl-day-amy"]["source"] == {
        "type": "image", "mode": "pull", "protocol": "simplestreams",
        "server": "https://images.example", "alias": "debian/13/cloud",
    }  # fmt: skip
    with pytest.raises(LabError, match="no server of images 'local'"):
        image_source("local:tiny")


def test_the_pool_is_the_default_profiles_or_the_only_one(incus: FakeIncus, work: Make) -> None:
    incus.pools = ["fast", "slow"]
    with pytest.raises(LabError, match="2 storage pools"):
        work("[amy]").create()
    incus.profiles["default"]["devices"] = {"root": {"type": "disk", "path": "/", "pool": "slow"}}
    work("[amy]").create()
    work("[amy, bob]", pool="fast").create()
    assert [each["devices"]["root"]["pool"] for each in incus.instances.values()] == [
        "slow", "fast",
    ]  # fmt: skip


def test_limits_of_the_project_are_told_with_figures_before_anything_is_made(
    incus: FakeIncus, work: Make
) -> None:
    set_language("en")
    incus.limits = {
        "instances": {"Limit": 3, "Usage": 1}, "memory": {"Limit": 2**34, "Usage": 2**30},
        "cpu": {"Limit": 8, "Usage": 0}, "networks": {"Limit": 0, "Usage": 0},
    }  # fmt: skip
    with pytest.raises(LabError) as error:
        work().create()
    assert error.value.message == (
        "the project's limit is too small for 4 more machines: "
        "instances: 1 of 3 are used, 4 more are needed; "
        "memory in MiB: 1024 of 16384 are used, 16384 more are needed; "
        "networks: 0 of 0 are used, 1 more are needed"
    )
    assert incus.changes == []
    require({"instances": {"Limit": 4, "Usage": 0}}, {"instances": 4}, 4)


def test_a_server_that_is_starting_is_asked_again_and_one_that_fails_is_not(
    incus: FakeIncus, work: Make
) -> None:
    incus.busy = [503, 502, 429]
    assert not work("[amy]").create().failed
    incus.busy = [500]
    with pytest.raises(IncusError, match="Incus answered 500: daemon is starting up"):
        work("[amy]").create()
    assert incus.busy == []


def test_a_frozen_machine_is_removed_as_well_as_one_that_stops_meanwhile(
    incus: FakeIncus, work: Make, parts: Callable[..., tuple[ClassSpec, IncusEngine, Path]]
) -> None:
    work("[amy, bob]").create()
    incus.instances["labctl-day-amy"] |= {"status_code": 110, "status": "Frozen"}
    _, engine, _ = parts("[amy, bob]")
    amy, bob = sorted(engine.machines(), key=lambda machine: machine.learner)
    incus.instances["labctl-day-bob"] |= {"status_code": 102, "status": "Stopped"}
    assert [amy.state, bob.state] == ["stopped", "running"]
    engine.delete(amy)
    engine.delete(bob)
    engine.delete(bob)
    assert incus.instances == {}


def test_the_end_of_the_class_is_in_the_labels(incus: FakeIncus, work: Make) -> None:
    work().create()
    assert work().end() is None
    end, outcome = work().extend("2h", datetime(2027, 3, 5, tzinfo=UTC))
    assert outcome.failed == {}
    assert work().end() == end
    assert end == datetime(2027, 3, 5, 2, tzinfo=UTC)  # told in the zone of the teacher
    assert {each["config"]["user.labctl-ends"] for each in incus.instances.values()} == {
        end.isoformat()
    }
    incus.lost = {"m2"}
    _, outcome = work().extend("3h", datetime(2027, 3, 5, tzinfo=UTC))
    assert sorted(outcome.failed) == sorted(
        each["config"]["user.labctl-learner"] for each in incus.instances.values()
        if each["location"] == "m2"
    )  # fmt: skip


def test_the_end_of_the_console_is_shown(work: Make) -> None:
    work().create()
    lines = work().console_log("amy").splitlines()
    assert (len(lines), lines[-1]) == (200, "299")


def test_a_virtual_machine_gets_nothing_of_what_containers_need(
    incus: FakeIncus, work: Make
) -> None:
    incus.add_image("big", "virtual-machine")
    work("[amy]", type="vm", image="big").create()
    amy = incus.instances["labctl-day-amy"]
    assert amy["type"] == "virtual-machine"
    assert not NESTING.keys() & amy["config"].keys()
    assert find_engine("incus").makes_machines


def test_a_member_or_group_can_be_named(incus: FakeIncus, work: Make) -> None:
    work("[amy, bob]", target="m2").create()
    assert {each["location"] for each in incus.instances.values()} == {"m2"}


@pytest.mark.parametrize(
    ("device", "ports"),
    [
        ({"type": "proxy", "listen": "tcp:192.0.2.1:22001"}, [("192.0.2.1", 22001)]),
        ({"type": "proxy", "listen": "tcp:[2001:db8::1]:80"}, [("2001:db8::1", 80)]),
        ({"type": "proxy", "listen": "udp:192.0.2.1:22001"}, []),
        ({"type": "proxy", "listen": "unix:/run/x"}, []),
        ({"type": "proxy", "listen": "tcp:192.0.2.1:80-90"}, []),
        ({"type": "nic"}, []),
        ({}, []),
    ],
)
def test_ports_of_proxies(device: dict[str, str], ports: list[tuple[str, int]]) -> None:
    assert list(taken_ports([device])) == ports


def test_the_rules_name_others_and_the_servers() -> None:
    (rule,) = rules("10.98.0.0/22", ["192.0.2.2", "192.0.2.1", "192.0.2.2"])
    networks = [IPv4Network(part) for part in rule["destination"].split(",")]
    for address, refused in (("10.98.3.9", True), ("192.0.2.1", True), ("192.0.2.3", False)):
        assert any(IPv4Address(address) in network for network in networks) == refused


CONFIGURATION = """
default-remote: school
remotes:
  school: {addr: "https://192.0.2.1:8443/", protocol: incus, project: lessons}
  shop: {addr: "https://images.example", protocol: simplestreams, public: true}
  oidc: {addr: "https://192.0.2.2:8443", auth_type: oidc}
  near: {addr: "unix:///srv/incus.socket"}
  local: {addr: "unix://"}
"""


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("INCUS_SOCKET", "INCUS_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("INCUS_CONF", str(tmp_path))
    for name in ("client.crt", "client.key", "config.yml", "servercerts/school.crt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(CONFIGURATION if name == "config.yml" else "")
    return tmp_path


def test_servers_are_those_of_the_incus_client(configuration: Path) -> None:
    school = find(None)
    assert (school.name, school.url, school.project) == (
        "school", "https://192.0.2.1:8443", "lessons",
    )  # fmt: skip
    assert school.host == "192.0.2.1"
    assert school.client == (configuration / "client.crt", configuration / "client.key")
    assert school.pinned == configuration / "servercerts/school.crt"
    assert find("near").sockets == (Path("/srv/incus.socket"),)
    assert Path("/var/lib/incus/unix.socket") in find("local").sockets


@pytest.mark.parametrize(
    ("name", "words"),
    [("none", "no server 'none'"), ("shop", "images only"), ("oidc", "OpenID Connect")],
)
def test_servers_that_cannot_be_used(configuration: Path, name: str, words: str) -> None:
    assert configuration.is_dir()
    with pytest.raises(LabError, match=words) as error:
        find(name)
    assert error.value.code == 2


def test_without_a_configuration_it_is_the_server_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INCUS_CONF", str(tmp_path))
    monkeypatch.setenv("INCUS_SOCKET", str(tmp_path / "none"))
    assert find(None).sockets == (tmp_path / "none",)
    with pytest.raises(LabError, match="no Incus server is on this machine"):
        IncusAPI(find(None), "default", 1)
    (tmp_path / "config.yml").write_text("{")
    with pytest.raises(LabError, match="cannot be read"):
        find(None)


def test_a_server_that_is_gone_is_told_in_one_line(tmp_path: Path) -> None:
    set_language("en")
    (tmp_path / "socket").touch()
    remote = Remote("local", "default", sockets=(tmp_path / "socket",))
    waits: list[float] = []
    api = IncusAPI(remote, "default", 1, sleep=waits.append)
    with pytest.raises(LabError) as error:
        api.get()
    assert error.value.message == ("the Incus server 'local' cannot be reached: Connection refused")
    assert 8 < sum(waits) < 20
    assert api.calls == 5


@pytest.mark.parametrize("user", ["root", "lab"])
def test_the_first_boot_of_an_image_without_user_and_server_is_shell(
    user: str, tmp_path: Path
) -> None:
    import subprocess

    script = first_boot_of_a_bare_image(user, "amy", ["ssh-ed25519 A labctl-class=day", "b 'c"])
    assert subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0
    home = tmp_path / "home"
    home.mkdir()
    script = script.replace(f"~{user}", str(home))
    tools = "".join(f"{name}() {{ :; }}\n" for name in ("id", "useradd", "chown", "chmod", "apt"))
    script = script.replace("/etc/sudoers.d", str(tmp_path / "none"))
    for _ in itertools.repeat(None, 2):
        subprocess.run(["sh"], input=tools + script, text=True, check=True)
    keys = (home / ".ssh/authorized_keys").read_text().splitlines()
    assert keys[:2] == ["ssh-ed25519 A labctl-class=day", "b 'c"]
