"""What is wrong with a lab.yaml or a lesson, said in Traditional Chinese.

The English words are golden files (test_spec.py, test_lesson.py). Here every one of these files is
judged again in zh-TW: the same problems at the same places, with the same values in them.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.classroom.load import parse_class
from labctl.i18n import Language, set_language
from labctl.lessons.load import load_lesson, parse_lesson
from labctl.spec.load import load_spec, parse_spec
from labctl.spec.problems import Problem, SpecError

GOLDEN = Path(__file__).parents[2] / "golden"
CASES = [
    pytest.param(parse, case, id=f"{case.parent.name}/{case.stem}")
    for kind, parse in (
        ("validate", parse_spec),
        ("lesson", parse_lesson),
        ("class", parse_class),
    )
    for case in sorted((GOLDEN / kind).glob("*.yaml"))
    if case.with_suffix(".txt").read_text(encoding="utf-8") != "valid\n"
]
CHINESE = re.compile("[\u4e00-\u9fff]")
# What a message is about: text in quotes, addresses and numbers, keys, what is offered instead.
VALUES = re.compile(
    r"""
    (?<![\w'"]) '[^']*' (?!\w)
    | "[^"]*"
    | \[ (?!\ ) [^\]]+ \]
    | /? \b \w* [0-9] [\w.:/+-]* (?<![.:,])
    | \b [a-z_]+ (?: \. [a-z_]+ )+ \b
    | \b [\w-]+ _ [\w-]+ \b
    | (?<=did\ you\ mean\ ) [^?]+
    | (?<=keys\ are\ ) .+ | (?<=here:\ ) .+ | (?<=known\ are\ ) .+ | (?<=must\ match\ ) .+
    """,
    re.VERBOSE,
)

Parse = Callable[[bytes, str], object]


def problems(parse: Parse, content: bytes, language: Language) -> tuple[Problem, ...]:
    set_language(language)
    with pytest.raises(SpecError) as error:
        parse(content, "lab.yaml")
    return error.value.problems


def in_both(parse: Parse, case: Path) -> list[tuple[Problem, Problem]]:
    content = case.read_bytes()
    english, chinese = (problems(parse, content, language) for language in ("en", "zh-TW"))
    assert english
    return list(zip(english, chinese, strict=True))


@pytest.mark.parametrize(("parse", "case"), CASES)
def test_every_problem_is_said_in_chinese_at_the_same_place(parse: Parse, case: Path) -> None:
    for english, chinese in in_both(parse, case):
        place = (chinese.file, chinese.line, chinese.path)
        assert place == (english.file, english.line, english.path)
        assert CHINESE.search(chinese.message), chinese
        assert bool(chinese.fix) == bool(english.fix)
        assert not chinese.fix or CHINESE.search(chinese.fix), chinese


@pytest.mark.parametrize(("parse", "case"), CASES)
def test_no_value_gets_lost(parse: Parse, case: Path) -> None:
    for english, chinese in in_both(parse, case):
        for one, other in ((english.message, chinese.message), (english.fix, chinese.fix)):
            other = other.replace("、", ", ")  # how lists are written in Chinese
            lost = [value for value in VALUES.findall(one) if value not in other]
            assert not lost, f"{one} / {other}"


def test_values_are_looked_for() -> None:
    assert VALUES.findall("'4G' is not a whole number of MiB") == ["'4G'"]
    assert VALUES.findall("52:54:00:12:34:56 is already the MAC address of a's eth0") == [
        "52:54:00:12:34:56", "eth0",
    ]  # fmt: skip
    assert VALUES.findall("choose a prefix length from /8 to /29") == ["/8", "/29"]
    assert VALUES.findall("10.0.0.0/8 overlaps nat.subnet 10.0.0.0/16") == [
        "10.0.0.0/8", "nat.subnet", "10.0.0.0/16",
    ]  # fmt: skip
    assert VALUES.findall("known here: start, end") == ["start, end"]
    assert VALUES.findall("give one node [controller, gateway]") == ["[controller, gateway]"]


def test_the_place_stays_as_editors_know_it() -> None:
    problem = Problem("lab.yaml", 12, "nodes.a.eth1", "不是 IPv4 位址", "請改用 IPv4 位址")
    assert str(problem) == "lab.yaml:12: nodes.a.eth1: 不是 IPv4 位址; 請改用 IPv4 位址"
    set_language("zh-TW")
    assert str(problem) == "lab.yaml:12: nodes.a.eth1: 不是 IPv4 位址；請改用 IPv4 位址"


def test_sentences_and_not_words_are_translated() -> None:
    text = (
        b"name: x\nprovider: virtualbx\nnodes: {a: {cpus: 65, memory: 4G}}\n"
        b"nat: {subnet: 'fd00::/64'}\n"
    )
    assert [str(problem) for problem in problems(parse_spec, text, "zh-TW")] == [
        "lab.yaml:2: provider: 必須是 auto、nspawn、virtualbox 或 libvirt，這裡卻是：'virtualbx'；"
        "是不是要輸入 virtualbox？",
        "lab.yaml:3: nodes.a.cpus: 65 太大：最大是 64",
        "lab.yaml:3: nodes.a.memory: '4G' 不是整數（單位是 MiB）；請寫 4096",
        "lab.yaml:4: nat.subnet: fd00::/64 是 IPv6 網路，而實驗環境只用 IPv4；請改用 IPv4 網路",
    ]


def test_files_that_are_none(tmp_path: Path) -> None:
    set_language("zh-TW")
    for path in (tmp_path, tmp_path / "none.yaml", Path("/dev/zero"), Path("a\0b")):
        with pytest.raises(SpecError) as error:
            load_spec(path)
        (found,) = error.value.problems
        assert found.file == str(path)
        assert CHINESE.search(found.message)


def test_a_lesson_is_judged_anew_in_another_language() -> None:
    # What parse_lesson remembers are lessons, never what was said about a wrong one.
    for language, words in (("zh-TW", "必須由鍵與值組成"), ("en", "must hold keys and values")):
        set_language(language)
        with pytest.raises(SpecError, match=words):
            parse_lesson(b"text", "lesson.yaml")
    set_language("zh-TW")
    assert load_lesson("floating-ip").id == "floating-ip"
