"""`labctl box get` and `box add` with the Vagrant, VirtualBox and guests of a file of text."""

import functools
import http.server
import io
import json
import ssl
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from labctl.access.guest import GuestError
from labctl.actions.box import BoxMaker, add, provider_here, require_builder
from labctl.actions.create import create
from labctl.cli.app import app
from labctl.doctor.judge import DoctorReport
from labctl.engine.steps import StepFailed
from labctl.errors import EXIT_USAGE, LabError
from labctl.images.box_file import CATALOGUE, BuiltBox, catalogue, sha256
from labctl.lab import Lab
from labctl.providers.vagrant.command import VagrantCommand
from tests.unit.fakes import FakeGuest
from tests.unit.images.test_cloud import archive
from tests.unit.providers.fake_vagrant import UUID
from tests.unit.providers.test_vagrant import HOST_KEY, World

NODE = "labctl-lab"
FACTS = '"SATA Controller-0-0"="/vms/a b/disk.vmdk"\n"SATA Controller-1-0"="/vms/a b/seed.vmdk"'


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("LABCTL_LANG", "en")
    made = World(tmp_path / "bin")
    made.set(
        machine_facts=FACTS, disks=["/pool/vm.img", "/pool/vm_1.img"],
        bases={"/pool/vm.img": "/pool/box.img"},
    )  # fmt: skip
    monkeypatch.setenv("PATH", str(made.directory))
    monkeypatch.setenv("VAGRANT_HOME", str(tmp_path / "vagrant-home"))
    monkeypatch.setenv("LABCTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "labctl.providers.vagrant.provider.install_lab_key", lambda *_, **__: HOST_KEY
    )
    monkeypatch.setattr(DoctorReport, "ok", True)  # of a host that this one need not be
    return made


@pytest.fixture
def guest(world: World, monkeypatch: pytest.MonkeyPatch) -> FakeGuest:
    """The machine: once it is filled it is off."""
    made = FakeGuest(NODE)
    made.on(".*").on("make.sh", "packages\nsealed\n")
    run = made.run

    def run_and_power_off(command: Any, **options: Any) -> Any:
        result = run(command, **options)
        if "make.sh" in str(command) and result.ok:
            machines = {name: {**one, "state": "poweroff"} for name, one in
                        world["machines"].items()}  # fmt: skip
            world.set(machines=machines)
        return result

    monkeypatch.setattr(made, "run", run_and_power_off)
    monkeypatch.setattr("labctl.providers.vagrant.provider.SSHGuest", lambda *_, **__: made)
    return made


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return archive(tmp_path / "cloud.tar.xz")


def boxes(world: World) -> list[str]:
    return [f"{name} ({provider})" for name, provider, _ in world["boxes"]]


def content(file: Path) -> dict[str, bytes]:
    with tarfile.open(file) as box:
        members = {name: box.extractfile(name) for name in box.getnames()}
        return {name: stream.read() for name, stream in members.items() if stream}


@pytest.fixture(params=["virtualbox", "libvirt"])
def provider(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("labctl.providers.libvirt.hypervisor.kvm_works", lambda: True)
    return str(request.param)


# -- get -------------------------------------------------------------------------------------------
def test_a_box_is_made_of_a_cloud_image(
    world: World, guest: FakeGuest, provider: str, image: Path, tmp_path: Path
) -> None:
    version = BoxMaker(provider, image=image, output=tmp_path / "out").make()
    assert world["boxes"] == [["labctl/lab", provider, version]]
    assert world["machines"] == {}, "the machine was for this only"
    assert not (tmp_path / "cache" / "box-get").exists()
    (ups,) = {call for call in world.calls() if call.startswith("vagrant up")}
    assert ups.split()[2:4] == [NODE, "--provider"], "one machine, whatever boots together"
    (file,) = (tmp_path / "out").glob("*.box")
    files = content(file)
    metadata = json.loads(files["metadata.json"])
    assert (metadata["provider"], metadata["labctl"]["version"]) == (provider, version)
    if provider == "virtualbox":
        disk = files["box-disk001.vmdk"]
        assert disk.endswith(b"the whole of /vms/a b/disk.vmdk"), "the first disk, not the seed"
        assert UUID in files["box.ovf"].decode(), "that of the disk, which VirtualBox compares"
    else:
        # The machine's own disk, and the box that it is based on.
        assert files["box.img"] == b"all of /pool/vm.img on /pool/box.img"
        assert "disks" not in metadata, "one disk: the seed has done its work"
    document = json.loads((tmp_path / "out" / CATALOGUE).read_text(encoding="utf-8"))
    assert document["versions"][0]["version"] == version
    (filled,) = (ran for ran in guest.ran if "make.sh" in ran.command)
    assert filled.command.rstrip().endswith(f"make.sh {version} 9>&-")


@pytest.mark.parametrize(("kvm", "cpus"), [(True, 2), (False, 1)])
def test_an_emulated_machine_has_one_processor(
    world: World, guest: FakeGuest, image: Path, kvm: bool, cpus: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("labctl.providers.libvirt.hypervisor.kvm_works", lambda: kvm)
    guest.on("make.sh", stderr="E: no mirror", exit=100)
    maker = BoxMaker("libvirt", image=image)
    with pytest.raises(StepFailed):
        maker.make()
    (vagrantfile,) = maker.directory.rglob("Vagrantfile")
    assert f".cpus = {cpus}\n" in vagrantfile.read_text(encoding="utf-8")


def test_what_was_interrupted_goes_on_with_the_same_machine(
    world: World, guest: FakeGuest, image: Path, tmp_path: Path
) -> None:
    guest.on("make.sh", stderr="E: no mirror", exit=100, once=True)
    with pytest.raises(StepFailed, match=r"make.sh failed \(exit 100\): E: no mirror"):
        BoxMaker("virtualbox", image=image).make()
    assert boxes(world) == ["labctl/cloud (virtualbox)"]
    assert len(world["machines"]) == 1
    world.calls()
    BoxMaker("virtualbox", image=image).make()
    calls = world.calls()
    assert not [call for call in calls if " up " in call or "labctl/cloud --provider" in call]
    assert boxes(world) == ["labctl/lab (virtualbox)"]


def test_a_machine_that_may_be_sealed_is_made_anew(
    world: World, guest: FakeGuest, image: Path
) -> None:
    world.set(fail={"VBoxManage clonemedium": "VERR_DISK_FULL"})
    with pytest.raises(StepFailed, match="VERR_DISK_FULL"):
        BoxMaker("virtualbox", image=image).make()
    assert [machine["state"] for machine in world["machines"].values()] == ["poweroff"]
    world.set(fail={})
    world.calls()
    BoxMaker("virtualbox", image=image).make()
    assert [call for call in world.calls() if call.startswith("vagrant destroy")]
    assert boxes(world) == ["labctl/lab (virtualbox)"]


def test_a_machine_without_a_disk(
    world: World, guest: FakeGuest, provider: str, image: Path
) -> None:
    world.set(machine_facts='"SATA Controller-0-0"="none"', disks=[])
    with pytest.raises(StepFailed, match="has no disk"):
        BoxMaker(provider, image=image).make()


def test_libvirts_cloud_box_has_both_disks(
    world: World, guest: FakeGuest, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labctl.providers.libvirt.hypervisor.kvm_works", lambda: True)
    kept: dict[str, bytes] = {}
    run = VagrantCommand.run

    def keep(self: VagrantCommand, *words: str, **how: Any) -> Any:
        if words[:2] == ("box", "add") and "labctl/cloud" in words:
            kept.update(content(Path(words[-1])))
        return run(self, *words, **how)

    monkeypatch.setattr(VagrantCommand, "run", keep)
    BoxMaker("libvirt", image=image).make()
    disks = json.loads(kept["metadata.json"])["disks"]
    assert [disk["path"] for disk in disks] == ["box.img", "box-disk002.img"]
    assert kept["box-disk002.img"] == b"all of box-disk002.partial.vmdk"
    assert "box.ovf" not in kept
    assert sorted(kept) == ["Vagrantfile", "box-disk002.img", "box.img", "metadata.json"]


def test_the_doctor_is_asked_before_anything_is_made(
    world: World, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(tmp_path))  # nothing is installed
    monkeypatch.setenv("LABCTL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(LabError, match=r"the box cannot be made here: .*[Vv]agrant") as error:
        BoxMaker("virtualbox", image=image).make()
    assert error.value.hint
    assert not (tmp_path / "cache" / "box-get" / ".labctl").exists()
    with pytest.raises(LabError, match="the box cannot be made here: ") as error:
        require_builder()
    assert "mmdebstrap" in error.value.message


def test_box_build_asks_the_doctor_before_it_asks_sudo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("LABCTL_LANG", "en")
    monkeypatch.setenv("LABCTL_CACHE", str(tmp_path / "cache"))
    asked: list[bool] = []
    monkeypatch.setattr("labctl.cli.box.become_root", lambda: asked.append(True))
    done = CliRunner().invoke(app, ["box", "build", "--output", str(tmp_path / "out")])
    assert isinstance(done.exception, LabError)
    assert done.exception.message.startswith("the box cannot be made here: ")
    assert (asked, (tmp_path / "out").exists()) == ([], False)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["get", "--provider", "vmware"], "--provider vmware: choose libvirt, virtualbox"),
        (["get", "--provider", "nspawn"], "--provider nspawn: choose libvirt, virtualbox"),
        (["add", "x.box", "--provider", "vmware"], "--provider vmware: choose"),
        (["get", "--provider", "virtualbox", "--from", "/nowhere"], "/nowhere is no file"),
        (["add", "/nowhere.box"], "/nowhere.box is no file"),
        (["add", "/nowhere.json"], "/nowhere.json cannot be read: No such file"),
    ],
)
def test_wrong_use(world: World, words: list[str], told: str) -> None:
    done = CliRunner().invoke(app, ["box", *words])
    assert isinstance(done.exception, LabError)
    assert done.exception.code == EXIT_USAGE
    assert told in done.exception.message


def test_the_provider_is_the_one_that_works_here(monkeypatch: pytest.MonkeyPatch) -> None:
    works: set[str] = set()

    def judged(self: DoctorReport) -> bool:
        return self.choice.provider in works

    monkeypatch.setattr(DoctorReport, "ok", property(judged))
    assert provider_here() == "virtualbox", "what is missing for it is told"
    works.add("libvirt")
    assert provider_here() == "libvirt"
    works.add("virtualbox")
    assert provider_here() == "virtualbox"


# -- create's own step -----------------------------------------------------------------------------
def lab_in(directory: Path, more: str = "") -> Lab:
    directory.mkdir()
    (directory / "lab.yaml").write_text(
        f"name: x\nstack: ovn\nprovider: virtualbox\n{more}", encoding="utf-8"
    )
    return Lab(directory / "lab.yaml")


class ReachedError(Exception):
    """The box is there and the lab itself would begin."""


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The providers for which a box is made; what comes after that in `create` is not done."""
    asked: list[str] = []

    class Maker:
        def __init__(self, provider: str, **_: Any) -> None:
            asked.append(provider)

        def make(self) -> str:
            return "1.2.3"

    def stop(lab: Lab) -> None:
        raise ReachedError

    monkeypatch.setattr("labctl.actions.create.BoxMaker", Maker)
    monkeypatch.setattr("labctl.actions.create.provisioner", stop)
    return asked


@pytest.mark.parametrize(
    ("more", "boxes", "made"),
    [
        ("", [], ["virtualbox"]),
        ("", [["labctl/lab", "virtualbox", "1"]], []),
        ("", [["labctl/lab", "libvirt", "1"]], ["virtualbox"]),
        ("box: {name: my/box}\n", [], []),
        ("box: {version: '1.2.3'}\n", [], []),  # a box of that very version cannot be made
    ],
)
def test_create_makes_the_box_where_there_is_none(
    world: World, tmp_path: Path, stopped: list[str], more: str, boxes: list[Any], made: list[str]
) -> None:
    world.set(boxes=boxes)
    lab = lab_in(tmp_path / "lab", more)
    notes: list[str] = []
    lab.bus.subscribe(lambda event: notes.append(getattr(event, "message", "")))
    with pytest.raises(ReachedError):
        create(lab)
    assert stopped == made
    told = [note for note in notes if "has no box labctl/lab for virtualbox yet" in note]
    assert len(told) == len(made)


# -- add -------------------------------------------------------------------------------------------
def box_file(path: Path, provider: str = "virtualbox", **more: Any) -> Path:
    """A box as labctl's: what counts is its metadata."""
    metadata = {
        "provider": provider, "architecture": "amd64", "labctl": {"version": "20261128.9.1"}, **more
    }  # fmt: skip
    with tarfile.open(path, "w") as box:
        for name, text in (("metadata.json", json.dumps(metadata)), ("disk", "0" * 9999)):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            box.addfile(member, io.BytesIO(text.encode()))
    return path


@pytest.fixture
def school(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificate: tuple[Path, Path]
) -> Iterator[tuple[Path, str]]:
    """A teacher's web server, by HTTPS: its directory and its URL."""
    directory = tmp_path / "school"
    directory.mkdir()
    handler = functools.partial(Quiet, directory=str(directory))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    yield directory, f"https://localhost:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of localhost that signs itself, and its key."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    directory = tmp_path_factory.mktemp("certificate")
    files = directory / "certificate.pem", directory / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


def publish(directory: Path, *, checksum: str = "", **more: Any) -> Path:
    """Put a box and its catalogue into a directory; returns the box."""
    file = box_file(directory / "labctl-lab-20261128.9.1-virtualbox.box", **more)
    size = file.stat().st_size
    box = BuiltBox("virtualbox", file, size, checksum or sha256(file), "amd64")
    document = catalogue("20261128.9.1", [box])
    (directory / CATALOGUE).write_text(json.dumps(document), encoding="utf-8")
    return file


WANTED = [["labctl/lab", "virtualbox", "20261128.9.1"]]
Source = Callable[[Path, str], str]


@pytest.mark.parametrize(
    ("source", "checked"),
    [
        (lambda file, url: str(file), True),
        (lambda file, url: str(file.parent / CATALOGUE), True),
        (lambda file, url: f"{url}/{CATALOGUE}", True),
        (lambda file, url: f"{url}/{file.name}", False),
    ],
    ids=["file", "catalogue", "https-catalogue", "https-file"],
)
def test_a_teachers_box(
    world: World, school: tuple[Path, str], tmp_path: Path, source: Source, checked: bool
) -> None:
    file = publish(school[0])
    found = add(source(file, school[1]), "virtualbox", lambda text: None)
    assert world["boxes"] == WANTED
    assert found.checked is checked
    assert not (tmp_path / "cache" / "box-add").exists(), "what was downloaded is Vagrant's now"


@pytest.mark.parametrize("way", ["file", "https"])
def test_a_box_that_is_not_the_teachers(
    world: World, school: tuple[Path, str], tmp_path: Path, way: str
) -> None:
    file = publish(school[0], checksum="ab" * 32)
    source = str(file) if way == "file" else f"{school[1]}/{CATALOGUE}"
    with pytest.raises(LabError, match="is not what its checksum says: SHA-256 is") as error:
        add(source, "virtualbox", lambda text: None)
    assert "abababab" in error.value.message
    assert world["boxes"] == []
    assert file.exists()
    assert not list((tmp_path / "cache").rglob("*.box")), "else it would be taken the next time"


def test_a_server_whose_certificate_nobody_knows(
    world: World, school: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(school[0])
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(LabError, match=r"cannot be fetched: .*CERTIFICATE_VERIFY_FAILED"):
        add(f"{school[1]}/{CATALOGUE}", "virtualbox", lambda text: None)


@pytest.mark.parametrize(
    ("content", "told"),
    [("{}", "is no catalogue of boxes"), ("not json", "is no catalogue of boxes"),
     ('{"versions": []}', "has no box for virtualbox on amd64")],
)  # fmt: skip
def test_a_catalogue_that_does_not_help(
    world: World, tmp_path: Path, content: str, told: str
) -> None:
    file = tmp_path / "boxes.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(LabError, match=told) as error:
        add(str(file), "virtualbox", lambda text: None)
    assert error.value.code == EXIT_USAGE
    assert error.value.hint


def test_a_box_for_other_machines(world: World, tmp_path: Path) -> None:
    file = publish(tmp_path, architecture="arm64")
    with pytest.raises(LabError, match="is a box for arm64; this machine is amd64"):
        add(str(file), "virtualbox", lambda text: None)
    file.write_text("a text")
    (tmp_path / CATALOGUE).unlink()
    with pytest.raises(LabError, match="is no Vagrant box"):
        add(str(file), "virtualbox", lambda text: None)


def test_the_newest_box_that_fits_is_taken(world: World, tmp_path: Path) -> None:
    publish(tmp_path)
    document = json.loads((tmp_path / CATALOGUE).read_text(encoding="utf-8"))
    (old,) = document["versions"]
    newer = {"version": "20261128.10.1", "providers": [
        {**old["providers"][0], "name": "libvirt", "url": "no-such-file"}]}  # fmt: skip
    document["versions"] = [old, newer]
    (tmp_path / CATALOGUE).write_text(json.dumps(document), encoding="utf-8")
    add(str(tmp_path / CATALOGUE), "virtualbox", lambda text: None)
    assert world["boxes"] == WANTED


def test_a_box_in_a_directory_that_vagrant_cannot_read(world: World, tmp_path: Path) -> None:
    directory = tmp_path / "王小明 box"
    directory.mkdir()
    assert add(str(publish(directory)), "virtualbox", lambda text: None).checked
    assert world["boxes"] == WANTED
    (call,) = world.calls(verb="box add")
    assert call.isascii()


def test_the_guest_that_cannot_be_asked(world: World, guest: FakeGuest, image: Path) -> None:
    guest.on("make.sh", raises=GuestError("labctl-lab: the connection was lost"))
    with pytest.raises(StepFailed, match="the connection was lost"):
        BoxMaker("virtualbox", image=image).make()
