"""labctl as people install it: a wheel in an environment of its own, outside of a checkout."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program `labctl` of a wheel that was built and installed without a network.

    The libraries are those of this Python: behind the wheel's own, so that labctl is the wheel's.
    """
    top = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(top)]
    subprocess.run(build, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = top.glob("*.whl")
    venv.create(top / "venv", with_pip=False, symlinks=True)
    python = top / "venv" / "bin" / "python"
    place = sysconfig.get_path("purelib", vars={"base": str(top / "venv")})
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--isolated"]
    subprocess.run(
        [*pip, "--no-index", "--no-deps", "--quiet", str(wheel)], capture_output=True, check=True
    )
    libraries = Path(place) / "libraries.pth"
    libraries.write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    return python.with_name("labctl")


@pytest.fixture
def labctl(installed: Path, tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """labctl(words) in an empty directory of a user with an empty home."""
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8"}

    def call(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [installed, *words], cwd=tmp_path, env=env, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False, timeout=50,
        )  # fmt: skip

    return call


def test_it_is_the_wheels_own(installed: Path) -> None:
    program = "import labctl, labctl.assets; print(labctl.__file__, labctl.assets.assets())"
    python = installed.with_name("python")
    found = subprocess.run(
        [python, "-I", "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    place = str(installed.parents[1])
    assert [path.startswith(place) for path in found] == [True, True], found


def test_the_verbs_that_need_no_lab(
    labctl: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path: Path
) -> None:
    done = labctl("init", "mine")
    assert (done.returncode, done.stderr) == (0, "")
    assert "name: mine" in (tmp_path / "lab.yaml").read_text("utf-8")
    for words in (["validate"], ["status"], ["lessons"], ["graph"], ["render"], ["destroy"]):
        done = labctl(*words)
        assert (done.returncode, done.stderr) == (0, ""), words
        assert done.stdout, words
    assert "正確" in labctl("--lang", "zh-TW", "validate").stdout
    assert labctl("doctor", "--json").returncode in (0, 1)
    assert json.loads(labctl("doctor", "--json").stdout)["lab"] == "mine"


def test_everything_of_provision_is_there(
    installed: Path, labctl: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path: Path
) -> None:
    """What a lab is made of, by the same hash as in the checkout."""
    program = (
        "from pathlib import Path; from labctl.assets import assets;"
        " from labctl.images.baked import ImageCache;"
        " print(ImageCache(Path('/nowhere'), assets() / 'provision').key)"
    )
    keys = {
        subprocess.run(
            [python, "-I", "-c", program], capture_output=True, text=True, check=True
        ).stdout
        for python in (installed.with_name("python"), Path(sys.executable))
    }
    assert len(keys) == 1
