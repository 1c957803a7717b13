"""lab.yaml -> spec: what is accepted, what is refused, and in which words.

The words are golden files: tests/golden/validate/NAME.yaml and NAME.txt, what `labctl validate`
says of it. Adding a case is adding a file; LABCTL_UPDATE_GOLDEN=1 writes the texts.
"""

import json
import os
import subprocess
import sys
import time
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from labctl.spec.load import LabSpec, Problem, SpecError, json_schema, load_spec, parse_spec

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "validate"
CASES = sorted(GOLDEN.glob("*.yaml"))


def parse(text: str) -> LabSpec:
    return parse_spec(text.encode(), "lab.yaml")


def problems(content: bytes) -> tuple[Problem, ...]:
    try:
        parse_spec(content, "lab.yaml")
    except SpecError as error:
        return error.problems
    return ()


# --- the words ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_golden(case: Path) -> None:
    said = "".join(f"{problem}\n" for problem in problems(case.read_bytes())) or "valid\n"
    expected = case.with_suffix(".txt")
    if os.environ.get("LABCTL_UPDATE_GOLDEN"):
        expected.write_text(said, encoding="utf-8")
    assert said == expected.read_text(encoding="utf-8")


def test_every_golden_text_has_its_case() -> None:
    assert {case.stem for case in CASES} == {text.stem for text in GOLDEN.glob("*.txt")}


def test_validity_is_in_the_name_of_a_golden_case() -> None:
    # So that a rewrite of all texts cannot turn a refusal into silence unnoticed.
    for case in CASES:
        promised = case.stem.endswith("valid") or "means-its-default" in case.stem
        assert (case.with_suffix(".txt").read_text(encoding="utf-8") == "valid\n") == promised, case


def test_a_problem_reads_as_file_line_path_message_mend() -> None:
    found = Problem("lab.yaml", 12, "nodes.a.eth1", "is wrong", "mend it")
    assert str(found) == "lab.yaml:12: nodes.a.eth1: is wrong; mend it"


def test_what_programs_read_of_a_problem_keeps_its_published_keys() -> None:
    assert Problem("lab.yaml", 12, "nodes.a.eth1", "is wrong", "mend it").to_json() == {
        "file": "lab.yaml",
        "line": 12,
        "path": "nodes.a.eth1",
        "message": "is wrong",
        "mend": "mend it",
    }
    assert str(Problem("lab.yaml", 0, "", "is empty")) == "lab.yaml: is empty"


def test_problems_come_in_the_order_of_lines_and_once() -> None:
    found = problems((GOLDEN / "types-and-rules-at-once.yaml").read_bytes())
    assert [p.line for p in found] == sorted(p.line for p in found)
    assert len(set(found)) == len(found) > 5


def test_the_error_tells_everything_and_means_wrong_use() -> None:
    with pytest.raises(SpecError) as error:
        parse("nme: x\nzzz: y\n")
    assert str(error.value) == "\n".join(str(problem) for problem in error.value.problems)
    assert len(error.value.problems) == 3
    assert error.value.code == 2


# --- files ----------------------------------------------------------------------------------------


def refusal(path: Path) -> str:
    with pytest.raises(SpecError) as error:
        load_spec(path)
    assert len(error.value.problems) == 1
    return str(error.value)


def test_the_lab_yaml_of_this_repository_is_the_default_lab() -> None:
    assert load_spec(ROOT / "lab.yaml") == parse("name: ovn-tutorial\n")


def test_messages_name_the_file_as_it_was_given(tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text("name: X\n")
    assert refusal(file).startswith(f"{file}:1: name: ")


def test_missing_file(tmp_path: Path) -> None:
    assert "there is no such file; labctl init" in refusal(tmp_path / "lab.yaml")


def test_directory(tmp_path: Path) -> None:
    assert f"is a directory; give the file: {tmp_path / 'lab.yaml'}" in refusal(tmp_path)


def test_file_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert "cannot be read: Not a directory" in refusal(tmp_path / "a" / "lab.yaml")


def test_path_with_a_nul() -> None:
    assert "cannot be read" in refusal(Path("a\0b"))


def test_ten_megabytes_are_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_bytes(os.urandom(10 << 20))
    assert "is larger than 1 MiB" in refusal(file)


@pytest.mark.timeout(5)
def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    # A pipe that nobody writes to would be waited for, a device read without end.
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null")):
        assert refusal(path) == (
            f"{path}: is a device or a pipe, and no file; write its content to a file"
        )


def test_a_mebibyte_is_still_read() -> None:
    text = "name: x\n#"
    assert parse(text + "." * ((1 << 20) - len(text))).name == "x"
    assert "larger" in str(problems(b"#" * ((1 << 20) + 1))[0])


def test_byte_order_mark_and_windows_lines() -> None:
    assert parse("\ufeffname: x\r\nkeypair: k\r\n").keypair == "k"


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "content",
    [
        b"[" * 1_000_000,
        b"- " * 500_000,
        b"? " * 500_000,
        b"a: " * 300_000,
        b'name: "' + b"\n" * 1_000_000,
        b"name: {" + b"a b," * 250_000 + b"}",
        b"name: x\nnodes:\n" + b"".join(b" n%d:\n" % number for number in range(90_000)),
        b"name: x\n" + b"k" * 1_000_000,
        b"name: x\nflavor: {memory: " + b"9" * 1_000_000 + b"}",
        b"name: x\nnodes:\n" + b"".join(b" n%d: {x: 1}\n" % number for number in range(2_400)),
    ],
    ids=lambda content: content[:16].decode(),
)
def test_large_garbage_is_refused_in_time_and_in_short_lines(content: bytes) -> None:
    began = time.thread_time()
    found = problems(content)
    assert time.thread_time() - began < 20  # of the processor's, whoever else is busy
    assert found
    assert max(len(str(problem)) for problem in found) < 400


def test_more_values_than_any_lab_has() -> None:
    (found,) = problems(b"name: x\nnodes:\n" + b" a:\n" * 90_000)
    assert str(found) == (
        "lab.yaml:5000: there are more values than any lab has; is this a lab.yaml?"
    )


def test_what_the_yaml_library_may_yet_find(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse_nothing(*_: object, **__: object) -> None:
        raise yaml.YAMLError("new in PyYAML 7")

    monkeypatch.setattr(yaml, "parse", parse_nothing)
    (found,) = problems(b"name: x")
    assert str(found) == "lab.yaml:1: cannot be read as YAML: new in PyYAML 7"


# --- any input ------------------------------------------------------------------------------------


def holds(content: bytes) -> None:
    """Whatever comes in: a spec, or problems that a terminal can show."""
    spec: LabSpec | None = None
    found: tuple[Problem, ...] = ()
    try:
        spec = parse_spec(content, "lab.yaml")
    except SpecError as error:
        found = error.problems
    assert isinstance(spec, LabSpec) or found
    for problem in found:
        line = str(problem)
        assert line.isprintable(), line
        line.encode()
        assert 0 <= problem.line <= content.count(b"\n") + content.count(b"\r") + 1


@given(st.binary(max_size=200))
def test_any_bytes(content: bytes) -> None:
    holds(content)


@given(st.text(alphabet="nodes:ab1 \n\t-[]{},#&*!|>'\"%@`?\\Uu0~<.\x85\u2028é", max_size=120))
def test_any_text_of_yamls_own_characters(text: str) -> None:
    holds(text.encode())


KEYS_KNOWN = """
name provider nodes nat private external tenant instances image flavor security_group keypair
roles eth1 eth0 cpus memory mac subnet gateway address uplink physical_network network pool
start end cidr dns router source user vcpus disk vm_1 compute-01 network-controller
"""
VALUES_KNOWN = """
x auto host controller compute gateway builtin 10.0.2.2 10.0.2.0/24 10.0.2.0/29 192.168.33.10
192.168.33.0/24 172.16.100.1 172.16.0.0/12 8.8.8.8 0.0.0.0/0 ::1 52:54:00:12:34:56 4096 -1
"""
KEYS = st.sampled_from(KEYS_KNOWN.split())
SCALARS = st.one_of(
    st.none(), st.integers(), st.text(max_size=8), st.sampled_from(VALUES_KNOWN.split())
)
STRUCTURES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=4), inner, max_size=6)
    ),
    max_leaves=25,
)


@given(st.dictionaries(KEYS, STRUCTURES, max_size=8))
def test_any_structure(data: dict[str, Any]) -> None:
    holds(yaml.safe_dump(data, allow_unicode=True).encode())
    holds(yaml.safe_dump({**data, "name": "x"}, default_flow_style=True).encode())


# --- defaults -------------------------------------------------------------------------------------


def networks(longest: int = 29) -> st.SearchStrategy[IPv4Network]:
    """Private networks that no default of another section overlaps."""
    return st.builds(
        lambda bits, prefix: IPv4Network((0x0A800000 | bits, prefix), strict=False),
        st.integers(0, (1 << 23) - 1),
        st.integers(9, longest),
    )


def test_the_name_alone_gives_the_tutorials_lab() -> None:
    spec = parse("name: x")
    assert list(spec.nodes) == ["network-controller", "compute-01"]
    controller, compute = spec.nodes.values()
    assert controller.roles == ("controller", "gateway")
    assert compute.roles == ("compute",)
    assert [str(n.eth1) for n in spec.nodes.values()] == ["192.168.33.10", "192.168.33.20"]
    assert [n.memory for n in spec.nodes.values()] == [4096, 3072]
    assert str(spec.external.pool.start) == "10.0.2.210"
    assert str(spec.external.pool.end) == "10.0.2.220"
    assert {name: str(i.address) for name, i in spec.instances.items()} == {"vm_1": "172.16.100.10"}


@given(networks())
def test_nat_defaults_move_with_the_subnet(subnet: IPv4Network) -> None:
    spec = parse(f"name: x\nnat: {{subnet: {subnet}}}")
    nat, pool = spec.nat, spec.external.pool
    assert nat.gateway == subnet[2]
    if subnet.prefixlen <= 24:
        assert nat.address == subnet[15]
        assert (pool.start, pool.end) == (subnet[210], subnet[220])
    assert subnet[0] < pool.start < pool.end < subnet[-1]


@given(networks(), st.data())
def test_the_default_pool_makes_way_for_gateway_and_eth0(
    subnet: IPv4Network, data: st.DataObject
) -> None:
    hosts = st.integers(1, min(subnet.num_addresses - 2, 300)).map(lambda number: subnet[number])
    gateway = data.draw(hosts)
    address = data.draw(hosts.filter(lambda host: host != gateway))
    spec = parse(f"name: x\nnat: {{subnet: {subnet}, gateway: {gateway}, address: {address}}}")
    assert spec.external.pool.start < spec.external.pool.end


@given(networks(26), st.integers(1, 40))
def test_eth1_defaults_move_with_the_subnet(subnet: IPv4Network, computes: int) -> None:
    names = ["controller", *(f"c{number}" for number in range(computes))]
    nodes = "".join(f"  {name}:\n" for name in names)
    spec = parse(f"name: x\nprivate: {{subnet: {subnet}}}\nnodes:\n{nodes}")
    addresses = [node.eth1 for node in spec.nodes.values()]
    fitting = range(10, min(subnet.num_addresses - 1, 10 * len(names) + 1), 10)
    assert addresses[: len(fitting)] == [subnet[number] for number in fitting]
    assert len(set(addresses)) == len(addresses)
    assert all(subnet[1] < address < subnet[-1] for address in addresses)


@given(networks(27), st.integers(1, 28))
def test_tenant_defaults_move_with_the_cidr(cidr: IPv4Network, count: int) -> None:
    instances = "".join(f"  vm_{number}:\n" for number in range(count))
    spec = parse(f"name: x\ntenant: {{cidr: {cidr}}}\ninstances:\n{instances}")
    assert spec.tenant.gateway == cidr[1]
    addresses = [instance.address for instance in spec.instances.values()]
    straight = min(count, cidr.num_addresses - 1 - 10)
    assert addresses[:straight] == [cidr[10 + number] for number in range(straight)]
    assert len(set(addresses)) == count
    assert not {cidr[0], cidr[1], cidr[2], cidr[-1]} & set(addresses)


def eth1(text: str) -> dict[str, str]:
    spec = parse(f"name: x\nnodes: {{{text}}}")
    return {name: str(node.eth1).rpartition(".")[2] for name, node in spec.nodes.items()}


def test_a_written_address_moves_no_other() -> None:
    assert eth1("nc: , a: , b: , c: ") == {"nc": "10", "a": "20", "b": "30", "c": "40"}
    assert eth1("nc: , a: {eth1: 192.168.33.99}, b: , c: ")["b"] == "30"
    assert eth1("nc: , a: {eth1: 192.168.33.30}, b: , c: ") == {
        "nc": "10", "a": "30", "b": "40", "c": "50",
    }  # fmt: skip


def test_one_written_end_of_the_pool_keeps_its_size() -> None:
    pool = parse("name: x\nexternal: {pool: {start: 10.0.2.100}}").external.pool
    assert pool.end == IPv4Address("10.0.2.110")
    pool = parse("name: x\nexternal: {pool: {end: 10.0.2.110}}").external.pool
    assert pool.start == IPv4Address("10.0.2.100")
    pool = parse("name: x\nexternal: {pool: {start: 10.0.2.250}}").external.pool
    assert pool.end == IPv4Address("10.0.2.254")


def test_instances_make_way_for_the_gateway_and_one_another() -> None:
    spec = parse("name: x\ninstances: {a: , b: {address: 172.16.100.10}}")
    assert [str(i.address) for i in spec.instances.values()] == ["172.16.100.11", "172.16.100.10"]
    spec = parse("name: x\ntenant: {gateway: 172.16.100.10}\ninstances: {a: , b: }")
    assert [str(i.address) for i in spec.instances.values()] == ["172.16.100.11", "172.16.100.12"]


@pytest.mark.parametrize(
    ("nodes", "controller"),
    [
        ("a: , b: ", "a"),
        ("a: , my-controller: , b: ", "my-controller"),
        ("a: {roles: [compute]}, b: , c: ", "b"),
        ("controller: , b: {roles: [controller, gateway]}", "b"),
        ("b: , controller: {roles: [compute]}", "b"),
    ],
)
def test_who_becomes_controller(nodes: str, controller: str) -> None:
    spec = parse(f"name: x\nnodes: {{{nodes}}}")
    expected = dict.fromkeys(spec.nodes, ("compute",)) | {controller: ("controller", "gateway")}
    assert {name: node.roles for name, node in spec.nodes.items()} == expected


def test_memory_follows_the_role() -> None:
    spec = parse("name: x\nnodes: {a: {roles: [compute]}, b: }")
    assert [node.memory for node in spec.nodes.values()] == [3072, 4096]


def test_text_is_kept_until_its_type_reads_it() -> None:
    nodes = "a: {mac: {eth0: 52:54:00:12:34:56, eth1: 52-54-00-AB-CD-EF}}, b: {cpus: 010}"
    spec = parse(f"name: x\nkeypair: on\ninstances: {{1: }}\nnodes: {{{nodes}}}")
    assert spec.nodes["a"].mac.eth0 == "52:54:00:12:34:56"
    assert spec.nodes["a"].mac.eth1 == "52:54:00:ab:cd:ef"
    assert spec.nodes["b"].cpus == 10
    assert spec.keypair == "on"
    assert list(spec.instances) == ["1"]


def test_a_quoted_null_is_a_word() -> None:
    assert parse("name: x\nkeypair: 'null'").keypair == "null"
    assert parse("name: x\nkeypair: null").keypair == "lab"


# --- the JSON Schema ------------------------------------------------------------------------------


def test_the_committed_schema_is_current() -> None:
    committed = (ROOT / "labctl/schema/lab.schema.json").read_text(encoding="utf-8")
    command = [sys.executable, "-m", "labctl.spec.load"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    assert printed == committed, "run python -m labctl.spec.load > labctl/schema/lab.schema.json"
    assert json.loads(printed) == json_schema()


def test_every_field_is_documented_and_only_the_name_is_required() -> None:
    schema = json_schema()
    for definition in (schema, *schema["$defs"].values()):
        assert definition["additionalProperties"] is False
        assert definition["description"]
        for key, field in definition["properties"].items():
            assert len(field["description"]) > 10, key
    assert schema["required"] == ["name"]
    assert not any("required" in definition for definition in schema["$defs"].values())


def test_lab_yaml_names_the_schema_for_editors() -> None:
    first = (ROOT / "lab.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=labctl/schema/lab.schema.json"


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse("name: x").name = "y"  # type: ignore[misc]
