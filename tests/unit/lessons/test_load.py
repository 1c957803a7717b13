"""Lessons: what is accepted and in which words it is refused, templates, quoting, expectations.

A case of a wrong lesson is tests/golden/lesson/NAME.yaml with NAME.txt, what labctl says of it.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.assets import PACKAGE
from labctl.assets import lessons as built_in
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import set_language
from labctl.lessons.load import available, json_schema, load_lesson, parse_lesson, source_of
from labctl.lessons.matching import OPERATORS, matches
from labctl.lessons.model import PROBES, Claim, Lesson, Text
from labctl.lessons.templates import fill, fill_all
from labctl.spec.problems import SpecError
from labctl.topology import Topology
from tests.unit.fakes import LocalGuest, topology
from tests.unit.golden import GOLDEN, expect_text

CASES = sorted((GOLDEN / "lesson").glob("*.yaml"))

ROOMY_LAB = "name: ovn-tutorial\nnetworks: {eth2: {physical_network: physnet1}}\n"
OTHER_LAB = """
name: other
nodes: {ctl: , n1: , n2: {eth1: 10.77.0.99}}
nat: {subnet: 10.9.8.0/24}
private: {subnet: 10.77.0.0/24}
external: {physical_network: phys.1, network: "it's \\"public\\"", subnet: 外部 net}
tenant: {network: "x; touch pwned", subnet: "`touch pwned`", router: "$(touch pwned)",
         cidr: 172.31.5.0/24}
instances: {web-1: {address: 172.31.5.77}, web-2: }
image: {user: debian}
keypair: my key
networks: {eth2: {physical_network: phys.2}}
security_group: "a && touch pwned || b"
"""


@pytest.fixture(scope="module", params=available())
def lesson(request: pytest.FixtureRequest) -> Lesson:
    return load_lesson(request.param)


def context(lab: Topology, lesson: Lesson) -> dict[str, Any]:
    """What templates see, with a fact of its own kind for each name."""
    kinds = {"ip": "10.0.2.213", "mac": "fa:16:3e:00:00:01", "key": "3", "ovn": "neutron-ab",
             "id": "56baaddf-32c2-4ab6-8762-6b5f199926c6",
             "host": "compute-02", "cookie": "0x670299b9"}  # fmt: skip
    facts = {name: kinds[name.rpartition("_")[2]] for name in lesson.facts}
    return {
        "lab": lab,
        "instance": lab.instances[0],
        "fact": SimpleNamespace(**facts),
        "node": SimpleNamespace(
            controller=lab.controller, gateway=lab.gateways[0], hypervisor=lab.computes[0]
        ),
    }


# -- files -----------------------------------------------------------------------------------------
def said(case: Path) -> str:
    try:
        parse_lesson(case.read_bytes(), case.name)
    except SpecError as error:
        return f"{error.message}\n"
    return "valid\n"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_golden(case: Path) -> None:
    expect_text(case.with_suffix(".txt"), said(case))
    assert (said(case) == "valid\n") == case.stem.endswith("valid")


def test_no_golden_text_is_an_orphan() -> None:
    assert {case.stem for case in CASES} == {p.stem for p in (GOLDEN / "lesson").glob("*.txt")}


def test_a_key_with_the_colon_of_a_chinese_keyboard_is_no_text() -> None:
    content = (GOLDEN / "lesson" / "smallest-is-valid.yaml").read_text(encoding="utf-8")
    wrong = re.sub("^title: .*", "title:\n  en：Floating IP", content, flags=re.M)
    assert wrong != content
    with pytest.raises(SpecError, match="title: U\\+FF1A FULLWIDTH COLON stands where"):
        parse_lesson(wrong.encode(), "own.yaml")


def test_an_unknown_lesson_names_those_there_are() -> None:
    with pytest.raises(LabError, match="there is no lesson 'flaoting-ip'") as error:
        load_lesson("flaoting-ip")
    assert error.value.code == EXIT_USAGE
    assert "floating-ip" in error.value.hint


def test_a_lesson_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes((GOLDEN / "lesson" / "smallest-is-valid.yaml").read_bytes())
    assert load_lesson(str(file)).id == "smallest"
    file.write_text("id: [")
    with pytest.raises(SpecError, match=f"^{re.escape(str(file))}:1: ") as wrong:
        load_lesson(str(file))
    assert wrong.value.code == EXIT_USAGE
    with pytest.raises(LabError, match="no lesson"):
        load_lesson(str(tmp_path))
    file.write_bytes((GOLDEN / "lesson" / "smallest-is-valid.yaml").read_bytes())
    file.rename(tmp_path / "lesson.yaml")
    assert load_lesson(str(tmp_path)).id == "smallest"


def test_a_source_finds_the_lesson_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert source_of("floating-ip") == "floating-ip"
    monkeypatch.chdir(tmp_path)
    assert source_of("./mine.yaml") == f"{tmp_path}/mine.yaml"


def test_learners_of_the_built_in_days_get_tasks_and_hints(lesson: Lesson) -> None:
    for checkpoint in lesson.checkpoints:
        if checkpoint.undo:  # there is something to be made
            assert checkpoint.task is not None, checkpoint.id
            assert checkpoint.hints, checkpoint.id


def test_what_is_set_has_a_value_for_those_who_type(lesson: Lesson) -> None:
    for checkpoint in lesson.checkpoints:
        assert all(checkpoint.sets.values()), checkpoint.id


def test_a_task_gives_no_command_away(lesson: Lesson) -> None:
    for checkpoint in lesson.checkpoints:
        words = " ".join(str(text) for text in (checkpoint.task, checkpoint.explain))
        for command in checkpoint.scripts:
            start = " ".join(command.split()[:3])
            assert start not in words, f"{checkpoint.id}: {start}"


def test_packets_are_looked_at_where_commands_change_nothing(lesson: Lesson) -> None:
    # `check` runs the commands of a checkpoint with captures again.
    for checkpoint in lesson.checkpoints:
        if checkpoint.capture:
            assert not checkpoint.sets
            looks = r"ping|ip|curl|nc|getent|busybox udhcpc .*-s /bin/true|ovs-appctl dpctl/dump-.*"
            looks += "|bridge fdb show|ovs-ofctl dump-flows|wget|sudo udhcpc|curl|sleep|ovn-trace"
            looks += r"|sudo sysctl -w net\.ipv6\.conf\.eth0\.disable_ipv6=1 \S+=0"
            assert all(re.match(rf"(ip netns exec (\{{\{{.*?\}}\}}|\S+) )?({looks})( |$)", one)
                       for one in checkpoint.scripts), checkpoint.scripts  # fmt: skip


# -- for editors -----------------------------------------------------------------------------------
def test_the_schema_in_the_repository_is_current() -> None:
    committed = (PACKAGE / "schema/lesson.schema.json").read_text(encoding="utf-8")
    printed = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    assert printed == committed, (
        "run python -m labctl.lessons.load > labctl/schema/lesson.schema.json"
    )


def test_the_schema_names_every_key_and_probe() -> None:
    schema = json_schema()
    assert set(schema["$defs"]["Claim"]["properties"]) == {
        field.alias or name for name, field in Claim.model_fields.items()
    } | {"use"}
    assert schema["$defs"]["Claim"]["properties"]["probe"]["enum"] == sorted(PROBES)
    short = ("Text", "Background", "Command", "Count", "CountFromNone")
    plain_or_keys = {name: schema["$defs"].pop(name)["anyOf"] for name in short}
    assert {name: set(either[1]["properties"]) for name, either in plain_or_keys.items()} == {
        "Text": {"en", "zh-TW"},
        "Background": {"run", "node", "for_each"},
        "Command": {"run", "node", "for_each"},
        "Count": {"at_least", "at_most"},
        "CountFromNone": {"at_least", "at_most"},
    }
    assert all(its.get("description") for definition in (schema, *schema["$defs"].values())
               for its in definition["properties"].values())  # fmt: skip


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").touch()

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(LabError, match=r"mine\.yaml: cannot be read: Permission denied") as error:
        load_lesson(str(tmp_path / "mine.yaml"))
    assert error.value.code == EXIT_USAGE


@pytest.mark.timeout(10)
def test_a_lesson_is_a_file_of_some_size(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    large = tmp_path / "large.yaml"
    with large.open("wb") as stream:
        stream.truncate(3 << 30)
    for path, said in ((tmp_path / "pipe", "is a device or a pipe"), (large, "larger than 1 MiB")):
        with pytest.raises(SpecError, match=f"^{re.escape(str(path))}: {said}|{said}"):
            load_lesson(str(path))
    with pytest.raises(LabError, match="there is no lesson"):
        load_lesson("x" * 5000)


def test_no_lesson_of_ones_own_takes_a_built_in_id(tmp_path: Path) -> None:
    # The position knows lessons by their ids: neither could be taken back any more.
    content = (built_in() / "floating-ip.yaml").read_bytes()
    (tmp_path / "mine.yaml").write_bytes(content)
    with pytest.raises(SpecError, match=r"mine\.yaml:\d+: id: .*; choose another id") as error:
        load_lesson(str(tmp_path / "mine.yaml"))
    (line,) = (problem.line for problem in error.value.problems)
    assert content.decode().splitlines()[line - 1] == "id: floating-ip"
    assert load_lesson(str(built_in() / "floating-ip.yaml")).id == "floating-ip"


def test_nodes_that_a_lab_does_not_have_are_named_before_anything_runs() -> None:
    text = """
id: nodes
title: {en: x, zh-TW: 甲}
goal: {en: x, zh-TW: 甲}
facts: {f: {probe: wire.ping, with: {from: vm_east, to: 8.8.8.8}, column: sent}}
checkpoints:
  - id: one
    title: {en: One, zh-TW: 一}
    explain: {en: x, zh-TW: 甲}
    node: compute-09
    run: [ping]
    capture:
      - {node: gateway, interface: eth0, filter: icmp}
      - {node: "{{ node.gateway.name }}x", interface: eth1, filter: icmp}
    claims:
      - {id: a, text: {en: x, zh-TW: 甲}, probe: wire.packets, where: {node: compute-01}, count: 0}
      - {id: b, text: {en: x, zh-TW: 甲}, probe: wire.packets, where: {node: network-controller}}
      - {id: c, text: {en: x, zh-TW: 甲}, probe: wire.packets, where: {interface: eth9}, count: 0}
"""
    with pytest.raises(SpecError) as wrong:
        parse_lesson(text.encode(), "x.yaml")
    assert str(wrong.value) == (
        "x.yaml:18: checkpoints[0].claims[2].where.interface: no capture of this checkpoint "
        "listens on 'eth9'; did you mean eth1?"
    )
    lesson = parse_lesson(text.replace("eth9", "eth1").encode(), "x.yaml")
    with pytest.raises(SpecError) as missing:
        lesson.require(topology())
    known = "known are controller, gateway, hypervisor, network-controller, compute-01"
    assert str(missing.value).splitlines() == [
        f"x.yaml:5: facts.f.with.from: this lab has no node 'vm_east'; {known}",
        f"x.yaml:10: checkpoints[0].node: this lab has no node 'compute-09'; {known}",
        "x.yaml:14: checkpoints[0].capture[1].node: this lab has no node "
        f"'network-controllerx'; {known}",
        "x.yaml:16: checkpoints[0].claims[0].where.node: no capture of this checkpoint listens on "
        "'compute-01'; known are network-controller, network-controllerx",
    ]


@pytest.mark.parametrize(
    ("captures", "claim", "place", "deaf", "known"),
    [
        # A template that names a node, an interface that is captured on another node, and pairs.
        (
            "{node: gateway, interface: eth1, filter: icmp}",
            "probe: wire.packets, where: {node: '{{ node.hypervisor.name }}'}",
            "where.node", "hypervisor", "network-controller",
        ),
        (
            "{node: gateway, interface: eth0, filter: icmp},"
            " {node: hypervisor, interface: eth1, filter: icmp}",
            "probe: wire.packets, where: {node: '{{ node.gateway.name }}', interface: eth1}",
            "where.node", "gateway eth1", "compute-01 eth1, network-controller eth0",
        ),
        (
            "{node: gateway, interface: eth1, filter: icmp}",
            "probe: wire.pairs, with: {first: '{{ node.gateway.name }} eth1',"
            " second: compute-01 eth1}, where: {same: false}",
            "with.second", "compute-01", "network-controller eth1",
        ),
    ],
)  # fmt: skip
def test_no_claim_is_about_packets_where_nobody_listens(
    captures: str, claim: str, place: str, deaf: str, known: str
) -> None:
    lesson = parse_lesson(f"""
id: deaf
title: {{en: x, zh-TW: 甲}}
goal: {{en: x, zh-TW: 甲}}
checkpoints:
  - id: one
    title: {{en: One, zh-TW: 一}}
    explain: {{en: x, zh-TW: 甲}}
    run: [ping]
    capture: [{captures}]
    claims:
      - {{id: a, text: {{en: x, zh-TW: 甲}}, {claim}, count: 0}}
""".encode(), "x.yaml")  # fmt: skip
    with pytest.raises(SpecError) as wrong:
        lesson.require(topology())
    assert str(wrong.value) == (
        f"x.yaml:12: checkpoints[0].claims[0].{place}: no capture of this checkpoint listens on "
        f"{deaf!r}; known are {known}"
    )


# -- the built-in lessons --------------------------------------------------------------------------
def texts(lesson: Lesson) -> Iterator[Text]:
    yield from (lesson.title, lesson.goal)
    for checkpoint in lesson.checkpoints:
        yield from (checkpoint.title, checkpoint.explain, *checkpoint.hints)
        if checkpoint.task is not None:
            yield checkpoint.task
        yield from (claim.text for claim in checkpoint.claims)


def test_the_tutorials_day_is_there() -> None:
    assert "floating-ip" in available()
    ids = [checkpoint.id for checkpoint in load_lesson("floating-ip").checkpoints]
    assert ids == [
        "external-network", "external-subnet", "router-gateway", "floating-ip", "associate",
        "ports", "security-group", "nat-rules", "ping-out", "ping-in", "ssh-in",
    ]  # fmt: skip


def test_a_lesson_is_called_like_its_file(lesson: Lesson) -> None:
    assert lesson.id in available()
    assert lesson.checkpoint(lesson.checkpoints[0].id) is lesson.checkpoints[0]
    with pytest.raises(KeyError):
        lesson.checkpoint("no-such-checkpoint")


def test_both_languages_are_there_and_differ(lesson: Lesson) -> None:
    same = {str(lesson.title)}  # a name is a name
    assert len(list(texts(lesson))) > 3 * len(lesson.checkpoints)
    for text in texts(lesson):
        assert text.en.strip()
        assert text.zh_tw.strip()
        if text.en not in same:
            assert text.en != text.zh_tw
            assert re.search("[\u4e00-\u9fff]", text.zh_tw), text.zh_tw
        assert not re.search("[\u4e00-\u9fff]", text.en), text.en


def test_both_languages_speak_of_the_same_values(lesson: Lesson) -> None:
    for text in texts(lesson):
        used = [set(re.findall(r"\{\{.*?\}\}", words)) for words in (text.en, text.zh_tw)]
        assert used[0] == used[1], text.en


@pytest.mark.parametrize(
    ("written", "english", "chinese"),
    [
        ("A title", "A title", "A title"),
        ({"en": "A title"}, "A title", "A title"),
        ({"zh-TW": "標題"}, "標題", "標題"),
        ({"en": "A title", "zh-TW": "標題"}, "A title", "標題"),
    ],
)
def test_one_language_is_enough(written: Any, english: str, chinese: str) -> None:
    text = Text.model_validate(written)
    assert (text.said_in("en"), text.said_in("zh-TW")) == (english, chinese)


def test_the_language_is_that_of_the_moment(lesson: Lesson) -> None:
    goal = lesson.goal
    assert str(goal) == goal.en.strip()
    set_language("zh-TW")
    assert str(goal) == goal.zh_tw.strip()


def test_every_probe_exists(lesson: Lesson) -> None:
    claims = [claim for checkpoint in lesson.checkpoints for claim in checkpoint.claims]
    for look in (*claims, *lesson.facts.values()):
        assert look.probe in PROBES


def test_columns_of_facts_and_claims_are_documented(lesson: Lesson) -> None:
    # A misspelt column is a claim that never holds, or (with count: 0) always does.
    claims = [claim for checkpoint in lesson.checkpoints for claim in checkpoint.claims]
    for look in (*claims, *lesson.facts.values()):
        columns = {*look.where}
        columns |= {*look.each} if isinstance(look, Claim) else {getattr(look, "column", "")}
        if look.probe == "wire.packets":
            from labctl.access.packets import Frame

            known = set(Frame.__dataclass_fields__)
        else:
            known = set(re.findall(r"\b[a-z0-9_]+\b", PROBES[look.probe].__doc__ or ""))
        assert columns <= known, f"{look.probe} has no {columns - known}"


@pytest.mark.parametrize("text", [ROOMY_LAB, OTHER_LAB], ids=["default", "other"])
def test_every_template_can_be_filled(lesson: Lesson, text: str) -> None:
    lab = topology(text)
    values = context(lab, lesson)
    for fact in lesson.facts.values():
        fill_all(fact.where, values)
        fill_all(fact.arguments, values)
    for words in texts(lesson):
        for language in (words.en, words.zh_tw):
            assert "{{" not in fill(language, values)
    for checkpoint in lesson.checkpoints:
        for one in (*checkpoint.scripts, checkpoint.undo):
            assert "{{" not in fill(one, values, quoting=True)
        for capture in checkpoint.capture:
            assert fill(capture.filter, values)
        for claim in checkpoint.claims:
            fill_all([claim.where, claim.each, claim.arguments], values)
            assert claim.count is None or int(fill(str(claim.count), values)) >= 0


def test_no_value_of_the_tutorial_is_typed_into_a_claim(lesson: Lesson) -> None:
    """Claims hold for the values a lab really has, never for the article's literals."""
    lab = topology()
    literals = {
        str(value)
        for value in (
            lab.nat, lab.nat_gateway, lab.private, lab.pool.start, lab.pool.end, lab.tenant_cidr,
            lab.tenant_gateway, lab.external_network, lab.tenant_network, lab.physical_network,
            lab.external_subnet, lab.instances[0].name, lab.instances[0].address, lab.keypair,
            lab.security_group, lab.image.user,
            *(node.name for node in lab.nodes), *(node.eth1.address.ip for node in lab.nodes),
        )
    }  # fmt: skip

    def typed(data: Any) -> Iterator[str]:
        if isinstance(data, str):
            yield re.sub(r"\{\{.*?\}\}", "", data)
        elif isinstance(data, dict):
            for item in data.values():
                yield from typed(item)
        elif isinstance(data, list | tuple):
            for item in data:
                yield from typed(item)

    data = lesson.model_dump(include={"facts", "checkpoints"})
    for text in typed(data):
        for literal in literals:
            assert not re.search(rf"(?<![\w.-]){re.escape(literal)}(?![\w.-])", text), text


# -- quoting ---------------------------------------------------------------------------------------
NASTY = [
    "x; touch pwned", "$(touch pwned)", "`touch pwned`", "a && touch pwned", "| touch pwned",
    "it's", 'say "x"', "${HOME}", "*", "~", "a\ttab", "a\nb", "#x", "\\", "!!", "外部", "",
    "' touch pwned '", "--option", "x >pwned",
]  # fmt: skip


@pytest.mark.parametrize("name", NASTY, ids=repr)
def test_a_value_reaches_the_shell_as_one_word(name: str, tmp_path: Path) -> None:
    guest = LocalGuest(tmp_path / "node")
    guest.stub("show", 'printf "<%s>" "$@"')
    command = fill(
        "show {{ name }} before={{ name }} {{ name }}{{ name }}", {"name": name}, quoting=True
    )
    assert guest.run(command).stdout == f"<{name}><before={name}><{name}{name}>"
    assert not (guest.root / "pwned").exists()


def test_text_takes_values_as_they_are() -> None:
    assert fill("it is {{ name }}", {"name": "$(id) <b>"}) == "it is $(id) <b>"


def test_the_day_of_a_lab_with_nasty_names_runs_none_of_them(
    lesson: Lesson, tmp_path: Path
) -> None:
    """Every command and every undo, in a real shell, with commands that only note their words."""
    lab = topology(OTHER_LAB)
    values = context(lab, lesson)
    guest = LocalGuest(tmp_path / "node")
    noted = guest.root / "noted"
    # `show` and `list` answer something true, so that an undo goes on to what it undoes.
    note = f'printf "%s\\0" "${{0##*/}}" "$@" >>{noted}; printf "\\n" >>{noted}; echo thing'
    commands = (
        "openstack ovn-nbctl ovn-sbctl ovn-trace ovs-vsctl ovs-appctl ovs-ofctl"
        " ip bridge ping ssh jq abbrev curl busybox getent kill labctl-workloads"
        " sudo wget pkill sleep nc dd ovn-detrace"
    )
    for command in commands.split():
        guest.stub(command, note)
    for checkpoint in lesson.checkpoints:
        for template in (*checkpoint.scripts, checkpoint.undo):
            ran = guest.run(fill(template, values, quoting=True), check=False)
            assert ran.stderr == "", template  # such as an unexpected end of file
    assert not (guest.root / "pwned").exists()
    lines = noted.read_text(encoding="utf-8").split("\n")
    calls = [line.rstrip("\0").split("\0") for line in lines if line]
    words = {word for call in calls for word in call}
    used = (lab.external_network, lab.external_subnet, lab.router, lab.security_group)
    if lesson.id == "floating-ip":
        assert set(used) <= words
        listed = ["openstack", "network", "list", "--provider-physical-network"]
        assert [*listed, lab.physical_network, "-f", "value", "-c", "ID"] in calls
    # A template inside quotes of the command would give such a name quotes of its own.
    for word in words:
        if re.search("pwned|public|外部", word):
            # (As it is, or behind a prefix: lrp-NAME.)
            assert word.endswith((*used, lab.tenant_network, lab.tenant_subnet))


# -- templates -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "template",
    [
        "{{ nothing }}", "{{ lab.nothing }}", "{{ lab.nodes[99].name }}", "{{ fact['x'] }}",
        "{{ 1 / 0 }}", "{{ 5 + 'x' }}", "{% if %}", "{{ lab", "{{ lab.__class__.__mro__ }}",
        "{{ ''.__class__ }}", "{{ range(100000000) | list }}", "{{ lab.nat | nofilter }}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("quoting", [False, True])
def test_a_template_that_cannot_be_filled_is_named(template: str, quoting: bool) -> None:
    with pytest.raises(LabError, match=r"cannot fill in") as error:
        fill(template, {"lab": topology(), "fact": SimpleNamespace()}, quoting=quoting)
    assert repr(template) in error.value.message


def test_filling_goes_into_lists_and_mappings() -> None:
    data = {"a": ["{{ x }}", {"b": "{{ x }}{{ x }}"}], "n": 3, "t": True, "none": None}
    assert fill_all(data, {"x": 7}) == {
        "a": ["7", {"b": "77"}],
        "n": 3,
        "t": True,
        "none": None,
    }


# -- expectations ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("seen", "expected", "holds"),
    [
        # equal, as text
        ("a", "a", True),
        ("a", "A", False),
        (3, "3", True),
        (3, 3, True),
        (0, "0", True),
        (True, "true", True),
        (False, "false", True),
        (True, "True", False),
        (None, "None", True),
        (None, "", False),
        ("", "", True),
        (None, "-", False),
        # in
        ("10.0.2.213", {"in": "10.0.2.0/24"}, True),
        ("10.0.3.1", {"in": "10.0.2.0/24"}, False),
        (None, {"in": "10.0.2.0/24"}, False),
        ("garbage", {"in": "10.0.2.0/24"}, False),
        ("fe80::1", {"in": "10.0.2.0/24"}, False),
        ("10.0.2.213/24", {"in": "10.0.2.0/24"}, False),
        ([], {"in": "10.0.2.0/24"}, False),
        # between: both ends belong to it
        ("10.0.2.210", {"between": ["10.0.2.210", "10.0.2.220"]}, True),
        ("10.0.2.220", {"between": ["10.0.2.210", "10.0.2.220"]}, True),
        ("10.0.2.209", {"between": ["10.0.2.210", "10.0.2.220"]}, False),
        ("10.0.2.221", {"between": ["10.0.2.210", "10.0.2.220"]}, False),
        ("10.0.2.22", {"between": ["10.0.2.210", "10.0.2.220"]}, False),
        (None, {"between": ["10.0.2.210", "10.0.2.220"]}, False),
        ("fe80::1", {"between": ["10.0.2.210", "10.0.2.220"]}, False),
        ("10.0.2.215", {"between": ["-", "-"]}, False),
        ("10.0.2.215", {"between": ["10.0.2.210"]}, False),
        # not
        ("a", {"not": "b"}, True),
        ("a", {"not": "a"}, False),
        (None, {"not": "a"}, True),
        ("10.0.2.1", {"not": {"in": "10.0.2.0/24"}}, False),
        ("10.1.2.1", {"not": {"in": "10.0.2.0/24"}}, True),
        # matches: the whole value
        ("fa:16:3e:00", {"matches": "fa:16:.*"}, True),
        ("fa:16:3e:00", {"matches": "16:3e"}, False),
        (12, {"matches": "[0-9]+"}, True),
        (None, {"matches": "x"}, False),
        # one_of
        ("ACTIVE", {"one_of": ["ACTIVE", "DOWN"]}, True),
        ("BUILD", {"one_of": ["ACTIVE", "DOWN"]}, False),
        (2, {"one_of": ["1", {"at_least": 2}]}, True),
        (None, {"one_of": []}, False),
        # contains: an element, or a part of a text
        (["a", "b"], {"contains": "b"}, True),
        (["ab"], {"contains": "b"}, False),
        ([22, 80], {"contains": "22"}, True),
        ("tcp.dst == 22 && ip4", {"contains": "tcp.dst == 22"}, True),
        (None, {"contains": "on"}, False),
        ([], {"contains": ""}, False),
        (("x",), {"contains": "x"}, True),
        # at_least
        (3, {"at_least": 3}, True),
        ("3", {"at_least": "2.5"}, True),
        (2, {"at_least": 3}, False),
        (None, {"at_least": 0}, False),
        ("many", {"at_least": 0}, False),
        ([1, 2], {"at_least": 1}, False),
        # at_most
        (3, {"at_most": 3}, True),
        ("2.5", {"at_most": "3"}, True),
        (4, {"at_most": 3}, False),
        (None, {"at_most": 3}, False),
        ("few", {"at_most": 3}, False),
        # a whole number is one, however a probe has it
        (1.0, 1, True),
        (1, 1.0, True),
        (1.5, 1, False),
        ([1.0, 2], "1, 2", True),
        # all of them must hold
        (5, {"at_least": 3, "not": 5}, False),
        (4, {"at_least": 3, "not": 5}, True),
        ("anything", {}, True),
    ],
)
def test_expectations(seen: Any, expected: Any, holds: bool) -> None:
    assert matches(seen, expected) is holds


def test_every_operator_is_in_the_table() -> None:
    marks = getattr(test_expectations, "pytestmark")  # noqa: B009  # pytest puts it there
    used = {
        name for case in marks[0].args[1] for name in (case[1] if isinstance(case[1], dict) else ())
    }
    assert used == set(OPERATORS), "rows of test_expectations, above, for each"


def test_a_lessons_own_mistakes_are_said() -> None:
    with pytest.raises(LabError, match="unknown operator 'approx'") as error:
        matches(1, {"approx": 1})
    assert error.value.code == EXIT_USAGE
    with pytest.raises(LabError, match="regular expression") as error:
        matches("x", {"matches": "("})
    with pytest.raises(LabError, match="comes to no end"):
        matches("a" * 60 + "b", {"matches": "(a|aa)+"})
    assert error.value.code == EXIT_USAGE
