"""A container lab of an ordinary user: every verb with sudo, and without it one clear message.

The users are made for the test and removed with everything they have. They run a copy of labctl of
their own, for the checkout may lie where only root can read.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

import labctl
from labctl.assets import assets
from tests.e2e.cli import host_facts
from tests.e2e.conftest import TOOLS

WITH, WITHOUT = "labctl-e2e-sudo", "labctl-e2e-plain"
SUDOERS = Path("/etc/sudoers.d/labctl-e2e")
PLANTED = ("typer", "json", "html", "socket", "yaml")

LOOKS = [
    ["status"], ["status", "--json"], ["logs", "compute-01"], ["ssh", "compute-01", "--", "true"],
    ["snapshot", "list"], ["graph"], ["graph", "--planned"], ["render"], ["check"], ["hint"],
    ["transcript", "ovn-snat-dnat"], ["walk", "ping", "network-controller", "internet"],
]  # fmt: skip
CHANGES = [
    ["create"], ["up"], ["halt"], ["start", "ovn-snat-dnat"], ["next"], ["solve"],
    ["goto", "ovn-snat-dnat"], ["replay", "ovn-snat-dnat"], ["snapshot", "save", "mine"],
    ["snapshot", "restore", "mine"], ["snapshot", "delete", "mine"], ["reset"], ["report"],
    ["destroy"],
]  # fmt: skip


@dataclass(frozen=True)
class User:
    """A user of this machine, with a labctl and a lab's directory of their own."""

    name: str
    home: Path

    def __call__(
        self, *words: str, directory: Path | None = None, **env: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run labctl as this user."""
        command = [
            "setpriv", f"--reuid={self.name}", f"--regid={self.name}", "--init-groups",
            "env", "-i", f"HOME={self.home}", f"USER={self.name}", "LANG=C.UTF-8",
            "PATH=/usr/local/bin:/usr/bin:/bin", *(f"{key}={value}" for key, value in env.items()),
            str(self.home / "venv" / "bin" / "labctl"), *words,
        ]  # fmt: skip
        done = subprocess.run(
            command,
            cwd=directory or self.home / "lab",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            start_new_session=True,  # no terminal on which sudo could ask for a password
            timeout=600,
            check=False,
        )
        assert "Traceback" not in done.stdout + done.stderr, (words, done.stderr[-3000:])
        assert "labctl itself broke" not in done.stderr, (words, done.stderr[-3000:])
        return done

    def does(self, *words: str, **env: str) -> str:
        """Run it, and expect that it works; stdout."""
        done = self(*words, directory=None, **env)
        assert done.returncode == 0, (words, done.stdout[-2000:], done.stderr[-3000:])
        return done.stdout


def install(user: User) -> None:
    """Copy labctl, and the libraries it is running with, to where this user can read them."""
    libraries = Path(typer.__file__).parents[1]
    venv = user.home / "venv"
    base = Path(sys.base_prefix) / "bin" / "python3"
    # An interpreter below /root is of no use to others.
    reachable = subprocess.run(
        ["setpriv", f"--reuid={user.name}", f"--regid={user.name}", "--clear-groups",
         "env", base, "-c", ""],
        check=False, capture_output=True, cwd="/",
    ).returncode == 0  # fmt: skip
    python = base
    if not reachable:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        found = shutil.which(f"python{version}", path="/usr/bin:/usr/local/bin")
        if found is None:
            python = user.home / "python" / "bin" / f"python{version}"
            shutil.copytree(sys.base_prefix, user.home / "python", symlinks=True)
        else:
            python = Path(found)
    subprocess.run([python, "-m", "venv", "--without-pip", venv], check=True, cwd="/")
    (packages,) = venv.glob("lib/python*/site-packages")
    ours = shutil.ignore_patterns("playwright*", "babel*", "mypy*", "*mypyc*", "pip", "ruff*",
                                  "hypothesis*", "setuptools*", "__pycache__")  # fmt: skip
    shutil.copytree(libraries, packages, dirs_exist_ok=True, symlinks=True, ignore=ours)
    for hook in packages.glob("*labctl*.pth"):
        hook.unlink()
    source = user.home / "src"
    source.mkdir()
    shutil.copytree(Path(labctl.__file__).parent, source / "labctl")
    shutil.copytree(assets() / "provision", source / "provision")
    for name in ("lab.yaml", "Vagrantfile.j2"):
        shutil.copy(assets() / name, source / name)
    (packages / "labctl-e2e.pth").write_text(f"{source}\n")
    command = venv / "bin" / "labctl"
    command.write_text(f"#!{venv}/bin/python3\nimport sys\nfrom labctl.cli import main\n"
                       "sys.exit(main())\n")  # fmt: skip
    command.chmod(0o755)
    lab = user.home / "lab"
    lab.mkdir()
    (lab / "lab.yaml").write_text("name: mine\nstack: ovn\nprovider: nspawn\n")
    subprocess.run(["chown", "-R", f"{user.name}:", user.home], check=True)


def remove(name: str) -> None:
    subprocess.run(["userdel", "-r", name], check=False, capture_output=True)


@pytest.fixture(scope="module")
def users(require: Callable[..., None]) -> Iterator[tuple[User, User]]:
    """The one with sudo and the one without, with their installations."""
    require(*TOOLS, "sudo", "useradd", "userdel", "visudo", root=True)
    made = []
    try:
        for name in (WITH, WITHOUT):
            remove(name)
            subprocess.run(["useradd", "--create-home", "--user-group", name], check=True)
            made.append(User(name, Path(f"~{name}").expanduser()))
            install(made[-1])
        SUDOERS.write_text(f"{WITH} ALL=(ALL:ALL) NOPASSWD: ALL\n")
        SUDOERS.chmod(0o440)
        subprocess.run(["visudo", "-cqf", SUDOERS], check=True)
        yield made[0], made[1]
    finally:
        SUDOERS.unlink(missing_ok=True)
        for name in (WITH, WITHOUT):
            remove(name)


@pytest.fixture(scope="module")
def lab(users: tuple[User, User]) -> Iterator[User]:
    """The lab of the user with sudo, made with the umask of a hardened machine."""
    user, _ = users
    before = host_facts()
    old = os.umask(0o077)
    try:
        user.does("create", "-q")
        yield user
    finally:
        os.umask(old)
        user.does("destroy", "-q")
    assert [path.name for path in (user.home / "lab").iterdir()] == ["lab.yaml"]
    for what in ("namespaces", "mounts"):
        assert not [line for line in host_facts()[what] - before[what] if str(user.home) in line]


@pytest.mark.long
def test_every_verb_works_with_sudo(lab: User) -> None:
    report = json.loads(lab.does("status", "--json"))
    assert report["state"] == "up"
    lab.does("replay", "ovn-snat-dnat", "-q")
    for words in LOOKS:
        done = lab(*words)
        # After a replay there is no step to look at, and that is a message of its own.
        assert done.returncode == 0 or words[0] in ("check", "hint"), (words, done.stderr[-2000:])
    for words in (["halt", "-q"], ["up", "-q"], ["snapshot", "save", "mine", "-q"],
                  ["snapshot", "delete", "mine", "-q"], ["start", "ovn-snat-dnat"], ["next"],
                  ["reset", "-q"], ["doctor"], ["validate"], ["lessons"]):  # fmt: skip
        lab.does(*words)
    # What is in labctl's own directory is root's alone.
    own = lab.home / "lab" / ".labctl"
    assert (own.stat().st_uid, own.stat().st_mode & 0o777) == (0, 0o700)
    assert Path("/var/cache/labctl").stat().st_mode & 0o777 == 0o700


def test_what_is_written_for_the_user_is_theirs(lab: User) -> None:
    directory = lab.home / "lab"
    uid = directory.stat().st_uid
    lab.does("replay", "ovn-snat-dnat", "-q")
    lab.does("report")
    lab.does("graph", "-o", "graph.svg")
    lab.does("transcript", "ovn-snat-dnat", "-o", "day.md")
    lab.does("walk", "ping", "network-controller", "internet", "--pcap", "frames")
    made = [directory / name for name in ("report.html", "graph.svg", "day.md", "frames")]
    made += [*(directory / "frames").iterdir()]
    assert len(made) > 5
    assert {path.stat().st_uid for path in made} == {uid}
    # A link of theirs to what only root may write, or to nothing of theirs, is not written through.
    (directory / "link.md").symlink_to("/etc/labctl-e2e")
    done = lab("transcript", "ovn-snat-dnat", "-o", "link.md")
    assert (done.returncode, "is a link" in done.stderr) == (2, True), done.stderr
    assert not Path("/etc/labctl-e2e").exists()
    assert "# " in lab.does("transcript", "ovn-snat-dnat", "-o", "/dev/stdout")
    done = lab("report", "-o", "/etc/labctl-e2e.html")
    assert (done.returncode, "Permission denied" in done.stderr) == (1, True), done.stderr
    (directory / "link.md").unlink()
    for path in (*(directory / "frames").iterdir(), *made[:3]):
        path.unlink()
    (directory / "frames").rmdir()


def test_nodes_are_made_as_ever_under_a_strict_umask(lab: User) -> None:
    """(The lab was created with umask 077.)"""
    for node in ("network-controller", "compute-01"):
        script = (
            "stat -c %a / /etc; systemctl --failed --no-legend; id -un 65534;"
            " setpriv --reuid=65534 --regid=65534 --clear-groups cat /etc/hostname"
        )
        said = lab.does("ssh", node, "--", "sh", "-c", script)
        assert said.split() == ["755", "755", "nobody", node]


def test_no_file_beside_lab_yaml_runs_as_root(lab: User) -> None:
    directory = lab.home / "lab"
    proof = Path("/run/labctl-e2e-planted")
    for name in PLANTED:
        (directory / f"{name}.py").write_text(
            f"import os\nopen('{proof}' if os.geteuid() == 0 else '/dev/null', 'a').write('x')\n"
        )
        (directory / f"{name}.py").chmod(0o644)  # the umask is 077
    try:
        for words in (["status"], ["halt", "-q"], ["up", "-q"], ["graph"]):
            lab.does(*words)
        assert not proof.exists()
    finally:
        proof.unlink(missing_ok=True)
        for name in PLANTED:
            (directory / f"{name}.py").unlink()
        shutil.rmtree(directory / "__pycache__", ignore_errors=True)


@pytest.mark.parametrize("words", [*LOOKS, *CHANGES], ids=" ".join)
def test_without_sudo_there_is_one_message(
    lab: User, users: tuple[User, User], words: list[str]
) -> None:
    """In a lab that root's container provider made for somebody else, and in one of their own."""
    _, plain = users
    others = lab.home / "lab"
    lab.home.chmod(0o755)
    for directory in (others, plain.home / "lab"):
        existing = directory == others
        if not existing and words[0] in ("graph", "render", "transcript"):
            continue  # these work on what is planned or was recorded, without root
        done = plain(*words, directory=directory)
        assert done.returncode == 1, (directory, words, done)
        assert done.stderr.count("✗") == 1, done.stderr
        assert "only root can do this, and sudo refuses" in done.stderr
        assert "hint  run it as a user who may use sudo" in done.stderr
    assert not (plain.home / "lab" / ".labctl").exists() or words == ["render"]


def test_proxies_go_along_and_loaders_do_not(lab: User) -> None:
    """What root's labctl finds in its environment, where sudo keeps nothing by itself."""
    program = (
        "import os, sys; sys.argv = ['labctl', 'status'];"
        "from labctl.cli import elevate;"
        "elevate.python_module = lambda *words: ['/usr/bin/env'];"
        "elevate.become_root()"
    )
    given = {
        "http_proxy": "http://127.0.0.1:9", "no_proxy": "deb.debian.org", "NO_PROXY": "x",
        "LABCTL_MIRROR": "http://x", "TZ": "Asia/Taipei", "LC_ALL": "zh_TW.UTF-8",
        "TMPDIR": "/nowhere", "LD_LIBRARY_PATH": "/tmp", "PYTHONPATH": "/tmp", "PERL5LIB": "/tmp",
        "BASH_ENV": "/tmp/x",
    }  # fmt: skip
    done = subprocess.run(
        ["setpriv", f"--reuid={lab.name}", f"--regid={lab.name}", "--init-groups",
         lab.home / "venv/bin/python3", "-c", program],
        env={"PATH": "/usr/bin:/bin", **given},
        cwd="/", capture_output=True, text=True, check=True, start_new_session=True,
    )  # fmt: skip
    there = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    kept = {name for name, value in given.items() if there.get(name) == value}
    assert kept == {"http_proxy", "no_proxy", "NO_PROXY", "LABCTL_MIRROR", "TZ", "LC_ALL"}
    assert not {"TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "PERL5LIB", "BASH_ENV"} & set(there)
