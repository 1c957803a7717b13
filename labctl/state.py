"""What a lab stores on disk: every file name under `.labctl/`, the lock, identity and secrets.

No other module contains a file name under `.labctl/`; user_files.py writes what lies
elsewhere. Files are written atomically (temporary file, fsync, rename): after a kill or on a full
disk a file has its old content or its new one.
"""

import json
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from labctl.errors import EXIT_USAGE, LabError, cannot_write, space_or_permissions
from labctl.i18n import tr
from labctl.operating_system import files, locks, rights
from labctl.own_directory import of_another_user, open_text, owner, vet

STATE_DIRECTORY = ".labctl"
# What JSON leaves as it is: C1, other line breaks, directions of writing, halves of characters.
_CONTROLS = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def write_atomic(path: Path, data: str | bytes, mode: int = 0o644) -> None:
    """Replace a file in one step. Its permissions are `mode` before anything is written to it.

    Raises LabError when the disk is full or the directory cannot be written.
    """
    content = data.encode() if isinstance(data, str) else data
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as stream:
            rights.set_mode(stream.fileno(), mode)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error, hint=space_or_permissions()) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


@dataclass(frozen=True)
class Secrets:
    """The passwords of one lab, each 128 random bits as 32 hexadecimal digits."""

    admin: str
    database: str
    rabbit: str
    service: str
    metadata: str

    @classmethod
    def generate(cls) -> "Secrets":
        """New random passwords."""
        return cls(*(secrets.token_hex(16) for _ in range(5)))


@dataclass(frozen=True)
class Identity:
    """What identifies this lab, from its first `create` until `destroy`."""

    lab: str
    lab_id: str
    """Eight hexadecimal digits, part of every name outside the lab's directory (namespaces …)."""
    provider: str
    created: float
    """Seconds since the epoch."""
    image: str = ""
    """Key of the baked image the nodes run on: it stays the same as long as the lab exists."""
    directory: str = ""
    """Where the lab is: the path of `.labctl`. Empty if an older labctl made the lab."""
    device: int = 0
    inode: int = 0
    """The same as the file system knows it, which stays when the directory is moved."""
    revision: int = 0
    """How many times `labctl apply` has changed the lab. A snapshot has that of its lab then."""

    def of_next_revision(self) -> "Identity":
        """The identity of the same lab after `labctl apply` has changed it."""
        return replace(self, revision=self.revision + 1)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Identity":
        """The identity in the content of lab.json.

        Raises TypeError, ValueError for what labctl would never write: the values become names and
        paths, and the file may have come with somebody else's directory.
        """
        identity = cls(**data)
        texts = {
            "lab": r"[a-z][a-z0-9-]{0,30}",
            "lab_id": r"[0-9a-f]{8}",
            "provider": r"[a-z0-9-]+",
            "image": r"[0-9a-z]*",
            "directory": r"(/.*|[A-Za-z]:[\\/].*|\\\\.*)?",  # Windows: C:\lab, \\server\share\lab
        }
        for name, pattern in texts.items():
            if not re.fullmatch(pattern, getattr(identity, name), re.DOTALL):
                raise ValueError(name)
        for name in ("created", "device", "inode", "revision"):
            float(getattr(identity, name))
        return identity


@dataclass(frozen=True)
class NodeFiles:
    """The directories of one container: the layers of its file system."""

    directory: Path

    @property
    def upper(self) -> Path:
        """Everything that differs from the baked image."""
        return self.directory / "upper"

    @property
    def work(self) -> Path:
        """Scratch space of overlayfs, on the same file system as `upper`."""
        return self.directory / "work"

    @property
    def root(self) -> Path:
        """Where the node's whole file system is mounted."""
        return self.directory / "root"

    @property
    def unpacking(self) -> Path:
        """The upper layer of a snapshot while it is unpacked; incomplete if labctl was killed."""
        return self.directory / "upper.unpacking"

    @property
    def staged(self) -> Path:
        """The unpacked upper layer of a snapshot, ready to become `upper`."""
        return self.directory / "upper.new"

    @property
    def replaced(self) -> Path:
        """The upper layer that the node had before a snapshot was restored."""
        return self.directory / "upper.old"


def vagrant_data(directory: Path) -> Path:
    """Where Vagrant, run in that directory, stores what it knows about its machines."""
    return directory / ".vagrant"


class LabState:
    """The `.labctl/` directory beside one lab.yaml."""

    def __init__(self, lab_directory: Path) -> None:
        self.root = lab_directory / STATE_DIRECTORY
        self._vetted = False

    # -- names -----------------------------------------------------------------------------------
    @property
    def logs(self) -> Path:
        """The logs: one for each node and stage, and the consoles of the nodes."""
        return self.root / "logs"

    @property
    def image_log(self) -> Path:
        """The log of the baked image, if this lab built it."""
        return self.logs / "image.log"

    @property
    def vagrant_log(self) -> Path:
        """All output of Vagrant."""
        return self.logs / "vagrant.log"

    @property
    def internet_log(self) -> Path:
        """The log of the namespace that simulates the Internet."""
        return self.logs / "internet.log"

    def node_logs(self, node: str) -> Path:
        """Directory of one node's logs: its console, and one for each stage."""
        return self.logs / node

    def console_log(self, node: str) -> Path:
        """The output of a node's console."""
        return self.node_logs(node) / "console.log"

    def earlier_console_log(self, node: str) -> Path:
        """The output of a virtual machine's console at the boot before this one."""
        return self.node_logs(node) / "console-before.log"

    def stage_log(self, node: str, stage: str) -> Path:
        """The output of a stage on a node."""
        return self.node_logs(node) / f"{stage}.log"

    @property
    def events(self) -> Path:
        """All events, one JSON object per line."""
        return self.root / "events.jsonl"

    @property
    def ssh_key(self) -> Path:
        """Private key for logging in to every node of this lab."""
        return self.root / "ssh" / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """Host keys of the nodes, for the OpenSSH client."""
        return self.root / "ssh" / "known_hosts"

    def host_key(self, node: str) -> Path:
        """Private SSH host key of a node, made before it boots for the first time."""
        return self.root / "ssh" / f"host_{node}"

    def public_host_key(self, node: str) -> Path:
        """Public SSH host key that a node made itself, recorded at the first login."""
        return self.root / "ssh" / f"host_{node}.pub"

    def address(self, node: str) -> Path:
        """Address of a virtual machine's SSH server at its last boot: host and port."""
        return self.root / "ssh" / f"address_{node}.json"

    @property
    def vagrant(self) -> Path:
        """The directory Vagrant runs in, with the Vagrantfile and Vagrant's own `.vagrant`."""
        return self.root / "vagrant"

    def machine_id(self, node: str, provider: str) -> Path:
        """The file in which Vagrant stores the ID of a machine it has made."""
        return vagrant_data(self.vagrant) / "machines" / node / provider / "id"

    @property
    def nodes(self) -> Path:
        """One directory per container."""
        return self.root / "nodes"

    def node(self, name: str) -> Path:
        """Directory of one node: its file system's upper layer and mount point."""
        return self.nodes / name

    def node_files(self, name: str) -> NodeFiles:
        """The layers of a container's file system."""
        return NodeFiles(self.node(name))

    @property
    def identity_file(self) -> Path:
        """The file that `identity` reads."""
        return self.root / "lab.json"

    @property
    def built_spec(self) -> Path:
        """The spec that this lab was made from, with all defaults."""
        return self.root / "spec.json"

    @property
    def created(self) -> Path:
        """Exists once `create` has succeeded."""
        return self.root / "created"

    @property
    def destroying(self) -> Path:
        """Exists from the moment `destroy` begins until nothing of the lab is left."""
        return self.root / "destroying"

    @property
    def lesson_position(self) -> Path:
        """Which lesson is being done, and which of its checkpoints have been run."""
        return self.root / "lesson.json"

    @property
    def last_check(self) -> Path:
        """Which claims did not hold when `check` was last run."""
        return self.root / "check.json"

    @property
    def snapshots(self) -> Path:
        """One directory per snapshot: its manifest and its parts."""
        return self.root / "snapshots"

    def snapshot_manifest(self, snapshot: Path) -> Path:
        """The file without which a directory is no snapshot: what was saved, when, and how."""
        return snapshot / "manifest.json"

    def snapshot_part(self, snapshot: Path, node: str) -> Path:
        """The upper layer of a container, packed, in the directory of a snapshot."""
        return snapshot / f"{node}.tar"

    @property
    def snapshot_current(self) -> Path:
        """Which snapshot the lab was last restored from, or saved as."""
        return self.root / "current.json"

    @property
    def snapshot_journal(self) -> Path:
        """What is being saved, restored or deleted now; removed when that is finished."""
        return self.root / "journal.json"

    @property
    def pages(self) -> Path:
        """Directory of what each `labctl open` notes of itself while it runs."""
        return self.root / "pages"

    def page(self, port: int) -> Path:
        """The note of the `labctl open` at that port."""
        return self.pages / f"{port}.json"

    @property
    def page_certificate(self) -> Path:
        """Certificate and private key of `labctl open --listen`, in one PEM file (0600)."""
        return self.root / "page.pem"

    @property
    def walks(self) -> Path:
        """Directory of the last packet walks, each a JSON file named by its time."""
        return self.root / "walks"

    @property
    def records(self) -> Path:
        """Directory of the records, one directory for each lesson."""
        return self.root / "records"

    @property
    def fault(self) -> Path:
        """What takes back the fault that `labctl prove` has put into the lab."""
        return self.root / "fault.json"

    @property
    def faults(self) -> Path:
        """The faults that `labctl fault inject` has put into the lab."""
        return self.root / "faults.json"

    @property
    def renewal(self) -> Path:
        """Exists from the moment `renew` begins until the lab has new passwords and runs."""
        return self.root / "renewal.json"

    def proof(self, lesson: str) -> Path:
        """What `labctl prove` found of a lesson."""
        return self.root / "proofs" / f"{lesson}.json"

    def record(self, lesson: str, checkpoint: str) -> Path:
        """Output and claims of a checkpoint's last run; transcripts are made from it."""
        return self.records / lesson / f"{checkpoint}.json"

    # -- identity --------------------------------------------------------------------------------
    @property
    def owner(self) -> int | None:
        """ID of the user whom `.labctl` belongs to, whether or not we may read it; None: no such.

        Raises LabError if `.labctl` is no directory.
        """
        return owner(self.root)

    @property
    def usable(self) -> bool:
        """Whether `.labctl` is there. Raises LabError if it is not ours, or not as labctl makes it.

        The first look also takes the rights of others away.
        """
        self._vetted = self._vetted or vet(self.root, self.identity_file.name)
        return self._vetted and self.root.is_dir()

    @property
    def exists(self) -> bool:
        """Whether a lab exists here, finished or not. Raises LabError as `usable` does."""
        return self.usable and self.identity_file.is_file()

    def identity(self) -> Identity:
        """The lab's identity. Raises LabError when there is no lab, or a copy of one."""
        identity = self._read_identity()
        if (original := self._original(identity)) is not None:
            raise LabError(
                tr("this directory is a copy: its lab is the one in {directory}",
                   directory=original.parent),
                hint=tr("`labctl destroy` here deletes the copy of the lab's files and leaves that"
                        " lab alone; then `labctl create` makes a lab of its own"),
            )  # fmt: skip
        return identity

    @property
    def copied_from(self) -> Path | None:
        """The directory of the lab that this one is a copy of; None if it is the lab itself."""
        if not self.exists:
            return None
        original = self._original(self._read_identity())
        return None if original is None else original.parent

    @property
    def made_by(self) -> str:
        """Name of the provider of the lab, also of one that is a copy. Raises LabError."""
        return self._read_identity().provider

    def _read_identity(self) -> Identity:
        path = self.identity_file
        data = self.read_json(path) if self.usable else None
        if data is None:
            raise LabError(tr("there is no lab here yet"), hint=tr("make it with `labctl create`"))
        try:
            return Identity.from_json(data)
        except (TypeError, ValueError) as error:
            raise not_ours(path) from error

    def _place(self) -> dict[str, Any]:
        info = self.root.stat()
        return {"directory": str(self.root), "device": info.st_dev, "inode": info.st_ino}

    def _original(self, identity: Identity) -> Path | None:
        """The `.labctl` that has this identity, if it is another one than ours and still there.

        A directory that was moved keeps its inode; one that was put back from a backup has its
        path. If neither is so, and no lab has this identity at the old path, it was moved too, to
        another file system.
        """
        here = self._place()
        if identity.directory in ("", here["directory"]):
            return None
        if (identity.device, identity.inode) == (here["device"], here["inode"]):
            return None
        other = Path(identity.directory)
        try:
            found = json.loads((other / self.identity_file.name).read_text(encoding="utf-8"))
            same = found["lab_id"] == identity.lab_id
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return other if same else None

    def _record_place(self) -> None:
        """Note where the lab is now, if it was moved there."""
        try:
            identity = self._read_identity()
        except LabError:
            return  # whoever needs it reports it
        if self._original(identity) is None:
            recorded = replace(identity, **self._place())
            if recorded != identity:
                self.save_identity(recorded)

    def begin(self, lab: str, provider: str) -> Identity:
        """The identity of this lab, created now if there is none."""
        if self.exists:
            return self.identity()
        self.make_root()
        self.logs.mkdir(exist_ok=True)
        identity = Identity(lab, secrets.token_hex(4), provider, time.time(), **self._place())
        self.save_identity(identity)
        return identity

    def make_root(self) -> None:
        """Make `.labctl` unless it exists. Raises LabError."""
        try:
            if not self.usable:
                self.root.mkdir(mode=0o700, exist_ok=True)
            self.usable  # noqa: B018 - another labctl, or somebody else, may have been faster
        except OSError as error:
            raise cannot_write(self.root, error) from error

    def save_identity(self, identity: Identity) -> None:
        """Write the identity to disk."""
        write_atomic(self.identity_file, json.dumps(asdict(identity), indent=1) + "\n")

    def secrets(self) -> Secrets:
        """The lab's passwords, generated at the first call; only their owner can read the file."""
        data = self.read_json(self._secrets)
        if data is None:
            generated = Secrets.generate()
            self._write_secrets(generated)
            return generated
        return secrets_in(data, self._secrets)

    def replace_secrets(self, new: Secrets) -> None:
        """Make these the lab's passwords, and forget its keys: new ones are made at the boot."""
        self._write_secrets(new)
        shutil.rmtree(self.ssh_key.parent, ignore_errors=True)
        self.page_certificate.unlink(missing_ok=True)

    def _write_secrets(self, secrets: Secrets) -> None:
        write_atomic(self._secrets, json.dumps(asdict(secrets), indent=1) + "\n", 0o600)

    @property
    def _secrets(self) -> Path:
        return self.root / "secrets.json"

    # -- JSON files ------------------------------------------------------------------------------
    def read_json(self, path: Path) -> dict[str, Any] | None:
        """The JSON object in one of our files; None when there is no such file.

        Raises LabError when the file cannot be read, or holds something else.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise of_another_user(path, path.parent.stat().st_uid) from error
        except (OSError, ValueError, RecursionError) as error:
            raise LabError(
                tr("{path} cannot be read: {error}", path=path, error=error),
                hint=tr("`labctl destroy` and `labctl create` anew"),
            ) from error
        if not isinstance(data, dict):
            raise not_ours(path)
        return data

    def write_json(self, path: Path, data: Mapping[str, Any]) -> None:
        """Replace one of our files. Raises LabError."""
        write_atomic(path, json.dumps(data, indent=1, ensure_ascii=False) + "\n")

    # -- the lock --------------------------------------------------------------------------------
    @contextmanager
    def locked(self, verb: str) -> Iterator[None]:
        """Lock the lab for one command that changes it; `verb` is the command's name.

        Raises LabError when another labctl holds the lock, and names that one. The kernel releases
        the lock when the process ends, so a killed labctl leaves none behind.
        """
        path = locks.beside(self.root)
        self.make_root()
        since = time.strftime("%H:%M:%S")
        who = tr("`labctl {verb}`, process {pid}, since {time}",
                 verb=verb, pid=os.getpid(), time=since)  # fmt: skip
        with ExitStack() as held:
            try:
                held.enter_context(locks.holding(path, who, open_text))
            except locks.HeldError as holder:
                raise LabError(
                    tr("another labctl is at work on this lab: {who}", who=holder),
                    hint=tr("wait for it to finish, or stop it"),
                ) from holder
            except locks.GoneError as gone:
                raise LabError(
                    tr("another labctl destroyed this lab just now"),
                    hint=tr("run the same command again"),
                ) from gone
            except OSError as error:
                raise cannot_write(path, error) from error
            self._record_place()
            yield

    def remove(self) -> None:
        """Delete the whole `.labctl/` directory.

        The note that the lab is being destroyed goes last, for labctl may be killed meanwhile.
        Raises LabError when the system does not let a file be deleted.
        """
        self.note_destroying()
        try:
            for path in list(self.root.iterdir()):
                if path == self.destroying:
                    continue
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            shutil.rmtree(self.root)
        except OSError as error:
            # Busy: a file system is mounted there, that of a node whose lab.json was deleted.
            raise LabError(
                tr("{path} cannot be deleted: {error}", path=self.root, error=error.strerror),
                hint=tr("`labctl doctor` names a lab that still runs there, and how to end it"),
            ) from error

    def note_destroying(self) -> None:
        """Note that the lab is being destroyed. Raises LabError."""
        if not self.destroying.exists():
            write_atomic(self.destroying, f"{time.time()}\n")

    @property
    def being_destroyed(self) -> bool:
        """Whether a `destroy` was begun and has not ended. Raises LabError as `usable` does."""
        return self.usable and self.destroying.exists()


def secrets_in(data: Mapping[str, Any], path: Path) -> Secrets:
    """The passwords in a JSON object of the file `path`. Raises LabError for anything else."""
    try:
        known = Secrets(**data)
    except TypeError as error:
        raise not_ours(path) from error
    if not all(re.fullmatch("[0-9a-f]{32}", str(word)) for word in asdict(known).values()):
        raise not_ours(path)
    return known


def not_ours(path: Path, detail: str = "") -> LabError:
    """The error for a file under `.labctl/` with another content; `detail` says what is wrong."""
    message = tr("{path} does not hold what this version of labctl writes there", path=path)
    return LabError(
        message + tr(": ") + detail if detail else message,
        hint=tr("`labctl destroy` and `labctl create` anew"),
    )


def cache_directory(*, roots: bool = False, chosen: str | None = None) -> Path:
    """Where images and timings are stored for all labs of this machine; `roots`: root's cache.

    `chosen` stands in for LABCTL_CACHE. Raises LabError when that names a directory which cannot be
    given to overlayfs.
    """
    if chosen := os.environ.get("LABCTL_CACHE") if chosen is None else chosen:
        try:
            path = Path(chosen).expanduser().absolute()
        except (OSError, RuntimeError) as error:  # ~nobody, a working directory that is gone
            raise LabError(tr("LABCTL_CACHE: {error}", error=error), code=EXIT_USAGE) from error
        if wrong := files.unfit_for_overlayfs(path):
            raise LabError(
                tr("LABCTL_CACHE: {path} holds {character!r}, which overlayfs takes for its own",
                   path=path, character=wrong),
                hint=tr("choose a directory without colons, commas and backslashes in its path"),
                code=EXIT_USAGE,
            )  # fmt: skip
        return path
    if roots or rights.is_root():
        return Path("/var/cache/labctl")
    return files.cache_home() / "labctl"


def as_json(data: Any) -> str:
    """JSON for programs: UTF-8, one document; a dataclass is an object with its fields.

    It may be shown on a terminal, and guests and lessons may say anything: what controls a terminal
    is escaped, which programs read as the same.
    """
    text = json.dumps(data, indent=2, ensure_ascii=False, default=_json_value)
    return _CONTROLS.sub(lambda control: f"\\u{ord(control[0]):04x}", text)


def _json_value(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return str(value)
