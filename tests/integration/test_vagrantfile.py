"""The rendered Vagrantfile under real Vagrant and Ruby: accepted, and unable to run anything."""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.assets import assets
from labctl.providers.vagrant.vagrantfile import ruby, vagrantfile
from labctl.spec.load import load_spec
from labctl.spec.model import BoxSpec
from labctl.topology import Topology, build_topology
from tests.unit.golden import GOLDEN

CASES = sorted((GOLDEN / "vagrantfile").glob("*.yaml"))


@pytest.fixture(scope="module", autouse=True)
def _tools(require: Callable[..., None]) -> None:
    require("vagrant", "ruby")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vagrant-home")


def vagrant(
    directory: Path, home: Path, *words: str, **more: str
) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        **more,
        "VAGRANT_HOME": str(home),
        "VAGRANT_CWD": str(directory),
        "VAGRANT_CHECKPOINT_DISABLE": "1",
        "VAGRANT_NO_COLOR": "1",
    }
    return subprocess.run(
        ["vagrant", *words], capture_output=True, text=True, env=env, timeout=120, check=False
    )


def written(directory: Path, topology: Topology) -> Path:
    text = vagrantfile(topology, assets() / "Vagrantfile.j2", "../ssh/id_ed25519", "../logs")
    (directory / "Vagrantfile").write_text(text, encoding="utf-8")
    return directory / "Vagrantfile"


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_vagrant_accepts_it(case: Path, home: Path, tmp_path: Path) -> None:
    shutil.copy(case.with_suffix(".Vagrantfile"), tmp_path / "Vagrantfile")
    done = vagrant(tmp_path, home, "validate")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "validated successfully" in done.stdout


@pytest.mark.parametrize("machine", ["aarch64", "arm64"])  # Linux, macOS
def test_vagrant_accepts_it_on_arm(machine: str, home: Path, tmp_path: Path) -> None:
    text = CASES[0].with_suffix(".Vagrantfile").read_text(encoding="utf-8")
    assert text.count("    if arm\n") == 1
    shown = text.replace("    if arm\n", '    if arm\n      puts "a machine for arm64"\n')
    (tmp_path / "Vagrantfile").write_text(shown, encoding="utf-8")
    done = vagrant(tmp_path, home, "validate", LABCTL_MACHINE=machine)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a machine for arm64" in done.stdout
    done = vagrant(tmp_path, home, "validate", LABCTL_MACHINE="x86_64")
    assert "a machine for arm64" not in done.stdout


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        # Of libvirt's provider, which is the one that Vagrant finds usable here: VirtualBox's own
        # options are judged where there is a VirtualBox (test_virtualbox.py).
        ("libvirt.memory =", "libvirt.memoryy =", "memoryy"),
        ("libvirt.cpu_mode =", "libvirt.cpumode =", "cpumode"),
        ("config.vm.box_check_update", "config.vm.box_check_updates", "box_check_updates"),
        ("node.vm.base_mac", "node.vm.basemac", "basemac"),
    ],
)
def test_a_mistyped_option_is_caught(
    right: str, wrong: str, said: str, home: Path, tmp_path: Path
) -> None:
    text = CASES[0].with_suffix(".Vagrantfile").read_text(encoding="utf-8")
    assert right in text
    (tmp_path / "Vagrantfile").write_text(text.replace(right, wrong), encoding="utf-8")
    done = vagrant(tmp_path, home, "validate")
    assert done.returncode != 0
    assert said in done.stdout + done.stderr


NASTY = [
    "'; system('touch OWNED'); '",
    "#{system('touch OWNED')}",
    "`touch OWNED`",
    "x\nsystem('touch OWNED')\n",
    "=begin\n",
    "\\' + system('touch OWNED') + \\'",
    "__END__",
]


@pytest.mark.parametrize("text", NASTY)
def test_nothing_in_it_can_run(text: str, home: Path, tmp_path: Path) -> None:
    """Names are refused long before they come here; the template does not rely on that."""
    topology = build_topology(load_spec(CASES[0]))
    nasty = replace(
        topology,
        spec=topology.spec.model_copy(
            update={"name": text, "box": BoxSpec.model_construct(name=text, version=text)}
        ),
        nodes=tuple(replace(node, name=text) for node in topology.nodes[:1]),
    )
    written(tmp_path, nasty)
    # Vagrant has its own opinion of such names; what counts is what was evaluated.
    vagrant(tmp_path, home, "status")
    checked = subprocess.run(
        ["ruby", "-c", "Vagrantfile"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert not [path for place in (tmp_path, Path.cwd()) for path in place.glob("OWNED*")]


@settings(max_examples=5, deadline=None)
@given(
    st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"])), min_size=40, max_size=60)
)
def test_ruby_reads_what_was_written(texts: list[str]) -> None:
    # Many to a process: a Ruby takes a tenth of a second to start.
    script = "# encoding: utf-8\n" + "".join(
        f"print {ruby(text)}.encode('utf-8').unpack1('H*'), \"\\n\"\n" for text in texts
    )
    done = subprocess.run(["ruby", "-"], input=script.encode(), capture_output=True, check=True)
    assert done.stdout.decode().split("\n")[:-1] == [text.encode().hex() for text in texts]
