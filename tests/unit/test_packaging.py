"""What is shipped is complete, and what is installed is pinned."""

import gettext
import re
import subprocess
import sys
import tomllib
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from labctl.cli.schemas import DOCUMENTS

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements.lock"
PIN = re.compile(r"(?P<name>[a-z0-9][a-z0-9-]*)==(?P<version>[0-9][0-9a-z.]*)( ; [a-z_]+ .+)?")


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


def pins() -> dict[str, str]:
    found = {}
    for line in LOCK.read_text("utf-8").splitlines():
        if line.startswith("#"):
            continue
        pin = PIN.fullmatch(line)
        assert pin, f"requirements.lock holds plain name==version lines, not {line!r}"
        found[pin["name"]] = pin["version"]
    return found


def test_the_lock_names_no_place_to_fetch_from() -> None:
    # A pin must hold behind any mirror, and comments are no place for one either.
    assert not re.search(r"://|\bfile:|--\S*index|--find-links|@ ", LOCK.read_text("utf-8"))


def test_every_dependency_is_pinned(project: dict[str, Any]) -> None:
    wanted = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    names = {re.split(r"[<>=~!;\[ ]", line)[0].lower().replace("_", "-") for line in wanted}
    assert names - pins().keys() == set()
