"""What is shipped is complete, and what is installed is pinned."""

import gettext
import re
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import dataclass, replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from labctl.cli.schemas import DOCUMENTS

ROOT = Path(__file__).parents[2]
LOCK, DEV_LOCK = ROOT / "requirements.lock", ROOT / "requirements-dev.lock"
LOCKS = (LOCK, DEV_LOCK)
PIN = re.compile(r"(?P<name>[a-z0-9][a-z0-9-]*)==(?P<version>[0-9][0-9a-z.]*)(?P<marker> ; .+)?")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    to = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(to)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = to.glob("*.whl")
    return zipfile.ZipFile(path)


def files_under(folder: Path) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_carries_everything_provision_holds(wheel: zipfile.ZipFile) -> None:
    carried = set(wheel.namelist())
    expected = {f"labctl/_assets/{name}" for name in files_under(ROOT / "provision")}
    if (ROOT / "Vagrantfile.j2").exists():
        expected.add("labctl/_assets/Vagrantfile.j2")
    assert expected - carried == set()


def test_the_wheel_carries_the_package_with_its_data(wheel: zipfile.ZipFile) -> None:
    assert files_under(ROOT / "labctl") - set(wheel.namelist()) == set()


def test_the_wheel_speaks_chinese(wheel: zipfile.ZipFile) -> None:
    compiled = wheel.read("labctl/locale/zh_TW/LC_MESSAGES/labctl.mo")
    assert gettext.GNUTranslations(BytesIO(compiled)).gettext("failed") == "失敗"


def test_the_wheel_is_typed_and_carries_every_schema(wheel: zipfile.ZipFile) -> None:
    carried = set(wheel.namelist())
    assert wheel.read("labctl/py.typed") == b""  # PEP 561: all of the package has types
    assert {
        f"labctl/schema/{name}.schema.json" for name in (*DOCUMENTS, "lab", "lesson")
    } <= carried


def test_the_wheel_carries_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    (info,) = tops - {"labctl"}
    assert re.fullmatch(r"ovn_labctl-.+\.dist-info", info)


def test_what_is_executable_stays_so_and_nothing_else_becomes_so(wheel: zipfile.ZipFile) -> None:
    entries = [one for one in wheel.infolist() if one.filename.startswith("labctl/_assets/prov")]
    assert len(entries) > 50
    for entry in entries:
        path = ROOT / entry.filename.removeprefix("labctl/_assets/")
        assert bool(entry.external_attr >> 16 & 0o111) == bool(path.stat().st_mode & 0o111), path


def test_the_command_is_called_labctl(wheel: zipfile.ZipFile) -> None:
    (entry_points,) = (n for n in wheel.namelist() if n.endswith("dist-info/entry_points.txt"))
    assert "labctl = labctl.cli:main" in wheel.read(entry_points).decode().splitlines()


@dataclass(frozen=True)
class Pin:
    """One package of a lock file."""

    version: str
    marker: str
    hashes: tuple[str, ...]


def pins(lock: Path) -> dict[str, Pin]:
    """The packages of a lock file, each with the hashes of its archives."""
    found = {}
    text = "".join(line for line in lock.read_text("utf-8").splitlines(True) if line[0] != "#")
    for line in text.replace("\\\n", "").splitlines():
        requirement, *hashes = line.split(" --hash=")
        pin = PIN.fullmatch(requirement.strip())
        assert pin, f"{lock.name} holds plain name==version lines, not {requirement!r}"
        found[pin["name"]] = Pin(pin["version"], pin["marker"] or "", tuple(map(str.strip, hashes)))
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_names_no_place_to_fetch_from(lock: Path) -> None:
    # A pin must hold behind any mirror, and comments are no place for one either.
    assert not re.search(r"://|\bfile:|--\S*index|--find-links|@ ", lock.read_text("utf-8"))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_archive_is_known_by_its_hash(lock: Path) -> None:
    locked = pins(lock)
    assert len(locked) > 40
    for name, pin in locked.items():
        assert pin.hashes, name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in pin.hashes), name


def test_every_dependency_is_pinned(project: dict[str, Any]) -> None:
    groups = project["dependency-groups"]
    build = project["build-system"]["requires"]
    for lock, wanted in (
        (LOCK, project["project"]["dependencies"] + groups["build"] + build),
        (DEV_LOCK, groups["dev"]),
    ):
        names = {re.split(r"[<>=~!;\[ ]", line)[0].lower().replace("_", "-") for line in wanted}
        assert names - pins(lock).keys() == set()


def test_the_tests_run_with_the_versions_that_users_get() -> None:
    users, developers = pins(LOCK), pins(DEV_LOCK)
    # What users get on another system only, developers may have on every one.
    found = {name: developers.get(name) for name in users}
    for name, pin in users.items():
        there = found[name]
        if "sys_platform" in pin.marker and there is not None:
            found[name] = replace(there, marker=pin.marker)
    assert found == users


def test_an_archive_that_was_altered_is_not_installed(tmp_path: Path) -> None:
    """As scripts/setup.sh installs, by pip itself."""
    archive = tmp_path / "example-1.0-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w") as wheel:
        wheel.writestr("example.py", "")
        wheel.writestr(
            "example-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: example\nVersion: 1.0\n"
        )
        wheel.writestr(
            "example-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr("example-1.0.dist-info/RECORD", "")
    script = (ROOT / "scripts/setup.sh").read_text("utf-8")
    (options,) = re.findall(
        r"^install_locked\(\) \{ pip_install (.*) -r \"\$1\"; \}$", script, re.M
    )
    for digest, code in ((sha256(archive.read_bytes()).hexdigest(), 0), ("0" * 64, 1)):
        lock = tmp_path / "lock"
        lock.write_text(f"example==1.0 --hash=sha256:{digest}\n")
        pip = [sys.executable, "-m", "pip", "install", "--isolated", "--no-index", "--no-deps"]
        done = subprocess.run(
            [*pip, "--find-links", tmp_path, "--target", tmp_path / digest,
             *options.split(), "-r", lock],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
