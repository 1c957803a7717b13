"""What the doctor makes of a host: each file in tests/golden/doctor is one host and one lab.

CASE.yaml: `host` (hosts/HOST.json), `facts` and `here` that differ from it, `provider`, `ignored`,
and `lab`, a lab.yaml. Beside it CASE.txt, what people read, and CASE.json, what programs do.
"""

import ast
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import TypeAdapter

import labctl
from labctl.cli.app import main
from labctl.doctor.judge import DoctorReport, judge
from labctl.doctor.programs import FactCollector
from labctl.doctor.show import TITLES, show
from labctl.errors import LabError
from labctl.host.facts import HostFacts, LabHere, numbers
from labctl.host.findings import Case, Group
from labctl.i18n import set_language
from labctl.terminal.plain import PlainConsole
from labctl.terminal.text import cell_width
from tests.documents import expect_document
from tests.unit.fakes import topology
from tests.unit.golden import GOLDEN, expect_json, expect_text

CASES = sorted((GOLDEN / "doctor").glob("*.yaml"))
FACTS, HERE = TypeAdapter(HostFacts), TypeAdapter(LabHere)


def merged(base: Any, more: Any) -> Any:
    """The base with what is said more of it; an empty mapping takes all away."""
    if not (isinstance(base, dict) and isinstance(more, dict) and more):
        return more
    return base | {key: merged(base.get(key), value) for key, value in more.items()}


def report(file: Path) -> DoctorReport:
    case = yaml.safe_load(file.read_text("utf-8"))
    assert set(case) <= {"host", "facts", "here", "provider", "ignored", "lab"}
    host = json.loads((GOLDEN / "doctor" / "hosts" / f"{case['host']}.json").read_text("utf-8"))
    text = json.dumps(merged(host, case.get("facts", {"root": host.get("root", False)})))
    facts = FACTS.validate_json(text, extra="forbid")  # a misspelt fact would prove nothing
    here = HERE.validate_python(case.get("here", {}))
    lab = Case(topology(case["lab"]), here)
    return judge(case.get("provider", "auto"), facts, lab, frozenset(case.get("ignored", ())))


def shown(one: DoctorReport) -> str:
    stream = io.StringIO()
    show(one, PlainConsole(stream, width=80))
    return stream.getvalue()


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_golden(file: Path) -> None:
    data = expect_document("doctor", report(file).to_json())
    del data["host"]
    expect_json(file.with_suffix(".json"), data)
    said = []
    for language in ("en", "zh-TW"):
        set_language(language)
        said.append(shown(report(file)))
    expect_text(file.with_suffix(".txt"), "\n".join(said))
    wide = [line for text in said for line in text.splitlines() if cell_width(line) > 80]
    # What is typed is not broken: it must come whole out of a copy.
    assert [line for line in wide if not line.startswith("      $ ")] == []


def test_there_is_a_case_for_every_finding() -> None:
    known = {finding.id for file in CASES for finding in report(file).findings}
    assert finding_ids() - known == set(), "a case in tests/golden/doctor/ for each"


def test_every_finding_is_documented() -> None:
    text = (GOLDEN.parents[1] / "docs" / "doctor.md").read_text("utf-8")
    assert [one for one in sorted(finding_ids()) if f"| `{one}` |" not in text] == [], (
        "docs/doctor.md: a row for each"
    )


def finding_ids() -> set[str]:
    """The names in all `Finding(…)` and `_missing(facts, …)` of the package."""
    package = Path(labctl.__file__).parent
    found: set[str] = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            place = {"Finding": 0, "_missing": 1}.get(node.func.id)
            word = node.args[place] if place is not None else None
            if isinstance(word, ast.Constant):
                found.add(str(word.value))
    assert len(found) > 35
    return found


def test_every_group_has_a_title() -> None:
    assert set(TITLES) == set(get_args(Group))


# -- the report ------------------------------------------------------------------------------------
def case(name: str) -> DoctorReport:
    return report(GOLDEN / "doctor" / f"{name}.yaml")


def test_only_errors_stop_create() -> None:
    assert case("virtualbox-ready").ok
    assert case("virtualbox-7.2.6-nat").ok
    assert not case("virtualbox-kvm-holds-vtx").ok
    case("virtualbox-7.2.6-nat").raise_if_not_ok()


def test_create_is_told_everything_that_stops_it() -> None:
    with pytest.raises(LabError) as refused:
        case("nspawn-in-a-container").raise_if_not_ok()
    assert refused.value.code == 1
    for said in ("a container, and its root", "/dev/net/tun", "overlayfs"):
        assert said in refused.value.message
    assert "labctl doctor" in refused.value.hint


def test_create_is_told_what_to_type() -> None:
    with pytest.raises(LabError) as refused:
        case("virtualbox-kvm-holds-vtx").raise_if_not_ok()
    assert "sudo modprobe -r kvm_intel" in refused.value.hint


def test_where_nothing_works_each_provider_says_what_it_lacks() -> None:
    one = case("nothing-works")
    assert (one.ok, one.choice.provider) == (False, "")
    whose = {finding.provider for finding in one.findings}
    assert whose == {"", "virtualbox", "libvirt", "nspawn"}
    assert set(one.choice.passed_over) == {"virtualbox", "libvirt", "nspawn"}


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("virtualbox-ready", "virtualbox"),
        ("virtualbox-vagrant-too-old-auto", "nspawn"),
        ("virtualbox-ignored", "virtualbox"),
        ("libvirt-ready", "libvirt"),
        ("libvirt-emulated-auto", "nspawn"),
        ("wsl-auto", "nspawn"),
        ("nspawn-ready", "nspawn"),
        ("existing-lab-keeps-its-provider", "nspawn"),
        ("mac-arm", "virtualbox"),
        ("linux-riscv", ""),
    ],
)
def test_auto_chooses(name: str, provider: str) -> None:
    assert case(name).choice.provider == provider


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7.2.6r172322", (7, 2, 6)),
        ("7.0.16_Ubuntur162802", (7, 0, 16)),
        ("6.12.48+deb13-amd64", (6, 12, 48)),
        ("", ()),
        (None, ()),
        ("WARNING", ()),
    ],
)
def test_numbers_of_a_version(text: str | None, expected: tuple[int, ...]) -> None:
    assert numbers(text) == expected


# -- the verb --------------------------------------------------------------------------------------
@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """`labctl doctor …` beside this lab.yaml, on a host of the golden files."""

    def run_on(host: str, *words: str, lab: str = "name: x\n") -> tuple[int, str, str]:
        text = (GOLDEN / "doctor" / "hosts" / f"{host}.json").read_text("utf-8")
        monkeypatch.setattr(FactCollector, "look", lambda self: FACTS.validate_json(text))
        monkeypatch.setattr(FactCollector, "ask_one", lambda self, question, facts: facts)
        monkeypatch.setattr(FactCollector, "try_kvm", lambda self, facts: facts)
        (tmp_path / "lab.yaml").write_text(lab, encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["labctl", "--lang", "en", "doctor", *words])
        code = main()
        said = capsys.readouterr()
        assert list(tmp_path.iterdir()) == [tmp_path / "lab.yaml"]  # it changes nothing
        return code, said.out, said.err

    return run_on


def test_exit_codes(run: Callable[..., tuple[int, str, str]]) -> None:
    assert run("laptop")[0] == 0
    assert run("laptop", "--provider", "libvirt")[0] == 1
    assert run("laptop", lab="name: x\nprovder: nspawn\n")[0] == 2
    code, out, err = run("laptop", "-p", "vmware")
    assert (code, out) == (2, "")
    assert "nspawn" in err


def test_json_alone_is_on_stdout(run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = run("laptop", "--json", "--provider", "libvirt")
    data = json.loads(out)
    assert (code, err, data["ok"], data["provider"]) == (1, "", False, "libvirt")
    assert {"id", "level", "what", "breaks", "mend", "commands"} <= set(data["findings"][0])
    assert data["host"]["vagrant"]["version"] == "2.4.9"


def test_the_provider_named_stands_in_for_that_of_lab_yaml(
    run: Callable[..., tuple[int, str, str]],
) -> None:
    lab = "name: x\nprovider: libvirt\n"
    assert "x on libvirt" in run("laptop", lab=lab)[1]
    assert "x on VirtualBox" in run("laptop", "-p", "virtualbox", lab=lab)[1]


def test_quiet_is_quiet_where_all_is_well(run: Callable[..., tuple[int, str, str]]) -> None:
    out = run("laptop", "--quiet")[1]
    assert out.strip() == "✓ the lab can be made here"
    assert "✓ the lab can be made here" in run("mac-arm", "--quiet", "-p", "virtualbox")[1]
    assert (
        "✗ the provider libvirt is for Linux hosts" in run("mac-arm", "--quiet", "-p", "libvirt")[1]
    )


# -- where one version ends and the next begins ----------------------------------------------------
def laptop(**facts: Any) -> HostFacts:
    text = (GOLDEN / "doctor" / "hosts" / "laptop.json").read_text("utf-8")
    return FACTS.validate_json(json.dumps(merged(json.loads(text), facts)), extra="forbid")


def found(facts: HostFacts, *ids: str, lab: str = "name: x\n") -> set[str]:
    """Which of these findings the host has with VirtualBox."""
    findings = judge("virtualbox", facts, Case(topology(lab), LabHere())).findings
    return {one.id for one in findings} & set(ids)


@pytest.mark.parametrize(
    ("version", "id"),
    [
        ("7.0.26", "virtualbox-guest-ip"),
        ("7.1.0", ""),
        ("7.2.0", "virtualbox-forwards"),
        ("7.2.2", "virtualbox-forwards"),
        ("7.2.4", "virtualbox-resets"),
        ("7.2.6", "virtualbox-resets"),
        ("7.2.8", ""),
        ("7.2.22", ""),
    ],
)
def test_bugs_of_nat(version: str, id: str) -> None:
    ids = ("virtualbox-guest-ip", "virtualbox-forwards", "virtualbox-resets")
    assert found(laptop(virtualbox={"version": version}), *ids) == set(filter(None, [id]))


@pytest.mark.parametrize(
    ("kernel", "version", "at_load", "id"),
    [
        ("6.11.9", "7.2.8", True, ""),
        ("6.12.0", "7.2.8", True, "kvm-holds-processor"),
        ("6.12.0", "7.2.8", None, "kvm-holds-processor"),
        ("6.12.0", "7.2.8", False, ""),
        ("6.15.9", "7.2.10", True, "kvm-holds-processor"),
        ("6.15.9", "7.2.10", False, ""),
        ("6.16.0", "7.2.0", True, "kvm-holds-processor"),
        ("6.16.0", "7.1.12", True, "kvm-holds-processor"),
        ("6.16.0", "7.2.2", True, ""),
        ("6.16.0", "7.2.8", False, ""),
        ("6.16.0", "7.2.10", False, "kvm-off"),
        ("6.16.0", "7.2.10", True, ""),
    ],
)
def test_who_has_the_processor(kernel: str, version: str, at_load: bool | None, id: str) -> None:
    facts = laptop(
        kernel=kernel,
        modules=["kvm", "kvm_intel", "vboxdrv"],
        virtualbox={"version": version},
        kvm={"virt_at_load": at_load},
    )
    ids = found(facts, "kvm-holds-processor", "kvm-off")
    assert ids == set(filter(None, [id]))


@pytest.mark.parametrize(
    ("cpus", "kvm", "expected"), [(4, False, 0), (3, False, 1), (3, True, 0), (2, False, 1)]
)
def test_emulated_processors_are_counted_together(cpus: int, kvm: bool, expected: int) -> None:
    facts = laptop(cpus=cpus, kvm={"works": kvm})
    findings = judge("libvirt", facts, Case(topology("name: x\n"), LabHere())).findings
    assert sum(one.id == "cpus" for one in findings) == expected


@pytest.mark.parametrize(
    ("family", "version", "allowed"),
    [
        ("linux", "6.1.26", True),
        ("linux", "6.1.28", False),
        ("linux", "7.2.8", False),
        ("macos", "6.1.50", False),
        ("macos", "7.0.0", True),
        ("windows", "7.2.8", True),
    ],
)
def test_where_host_only_networks_are_restricted(family: str, version: str, allowed: bool) -> None:
    facts = laptop(family=family, virtualbox={"version": version})
    lab = "name: x\nprivate: {attach: hostonly}\n"
    assert found(facts, "networks-conf", lab=lab) == (set() if allowed else {"networks-conf"})


@pytest.mark.parametrize(
    ("conf", "allowed"),
    [
        (None, False),
        ("", False),
        ("192.168.33.0/24\n", False),  # only lines that begin with * count
        ("* 192.168.33.0/25\n", False),
        ("* 192.168.33.0/24\n", True),
        ("  * 192.168.33.1/24\n", True),
        ("* 0.0.0.0/0 ::/0\n", True),
    ],
)
def test_what_networks_conf_allows(conf: str | None, allowed: bool) -> None:
    lab = "name: x\nprivate: {attach: hostonly}\n"
    ids = found(laptop(networks_conf=conf), "networks-conf", lab=lab)
    assert ids == (set() if allowed else {"networks-conf"})
