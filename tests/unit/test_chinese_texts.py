"""Every Chinese text is written as engineers in Taiwan write: terms, punctuation, no English.

The texts are labctl.po, the built-in lessons, README.zh-TW.md and the examples in docs/. What the
terms are stands in zh-tw-terms.toml. Code in backquotes, quotations in 「」 and link targets are
not looked at; a value that a placeholder stands for is taken for Latin, so it has spaces around it.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.terminal.text import sanitize
from scripts import messages

ROOT = Path(__file__).parents[2]
TERMS_FILE = Path(__file__).with_name("zh-tw-terms.toml")
TERMS: dict[str, list[str]] = {
    term: variants
    for table in tomllib.loads(TERMS_FILE.read_text(encoding="utf-8")).values()
    for term, variants in table.items()
}
HAN = "\u3400-\u9fff"
WIDE = "，。、；：！？（）「」"
CHINESE_VALUES = ("holder", "what", "meant", "packaged")
"""Placeholders whose value may be Chinese itself, and then has no spaces around it."""
FUNCTION_WORDS = "the|is|are|was|were|be|of|and|or|not|with|has|have|from|in|at|it|by|an?|to|for"


def without_code(text: str) -> str:
    """The text with `code` as `x`, 「quotations」 as 「」 and placeholders as a Latin letter."""
    text = re.sub(r"\{\{.*?\}\}", "x", text)
    text = re.sub(r"`[^`]*`", "`x`", text)
    text = re.sub("「[^」]*」", "「」", text)
    text = re.sub(r"\]\([^)]*\)|<[^>]*>|https?://\S+", "]", text)
    for name in CHINESE_VALUES:
        text = text.replace(f"{{{name}}}", "◇")
    return re.sub(r"\{\w+(?:![rs])?(?::[^}]*)?\}", "x", text)


def faults(text: str) -> Iterator[str]:
    """What is wrong in one Chinese text."""
    prose = without_code(text)
    for term, variants in TERMS.items():
        for variant in variants:
            if match := re.search(variant, prose):
                yield f"{match[0]!r}: write {term}"
    yield from punctuation(prose)
    for pattern, advice in (
        (rf"[{HAN}][A-Za-z0-9`]|[A-Za-z0-9`%][{HAN}]", "a space between Chinese and Latin"),
        (rf"[{HAN}] [{HAN}]", "no space between Chinese characters"),
        (rf"\S [{WIDE}]|[{WIDE}] \S", "no space beside full-width punctuation"),
        (rf"(?<![-\w./])(?:{FUNCTION_WORDS})(?![-\w./])", "no English sentence"),
        (r"[A-Za-z]+(?: [a-z]+){3,}", "no English sentence"),
    ):
        if match := re.search(pattern, prose):
            yield f"{match[0]!r}: {advice}"
    for character in re.findall(f"[{HAN}]", prose):
        try:
            character.encode("cp950")
        except UnicodeEncodeError:
            yield f"{character!r}: not a character that is used in Taiwan"


def punctuation(prose: str) -> Iterator[str]:
    """ASCII punctuation in a Chinese sentence."""
    for pattern in (
        rf"[{HAN}] ?[,;:?!()]|[,;:?!()] ?[{HAN}]",
        rf"[{HAN}]\.(?!\w)",
        "[“”‘’]",
    ):
        if match := re.search(pattern, prose):
            yield f"{match[0]!r}: full-width punctuation"


# -- where Chinese stands --------------------------------------------------------------------------
def in_catalogue() -> Iterator[tuple[str, str]]:
    """(English, Chinese) of every translation."""
    for message in messages.translated():
        if message.id:
            for text in filter(None, messages.texts(message.string)):
                yield str(message.id), text


_ENTRY = re.compile(r"(?P<indent> *)(?:- )?(?P<before>.*?)zh-TW: *(?P<text>.*)$")
_NO_SPACE = re.compile(rf"(?<=[{WIDE}])\n|\n(?=[{WIDE}])|(?<=[{HAN}])\n(?=[{HAN}])")


def in_yaml(source: str) -> Iterator[str]:
    """Every text behind `zh-TW:`, whole; a line break in one is a space only between Latin."""
    lines = source.splitlines()
    for number, line in enumerate(lines):
        if not (match := _ENTRY.match(line)):
            continue
        text = match["text"].removesuffix("}") if "{en:" in match["before"] else match["text"]
        text = text.strip("\"'")
        if text in ("|", ">", ">-", "|-", ""):
            indent = len(match["indent"])
            block = []
            for more in lines[number + 1 :]:
                if more.strip() and len(more) - len(more.lstrip()) <= indent:
                    break
                block.append(more.strip())
            text = "\n".join(block)
        for paragraph in text.split("\n\n"):
            joined = re.sub(_NO_SPACE, "", paragraph)
            yield joined.replace("\n", " ")


def in_markdown(source: str) -> Iterator[str]:
    """Every line or cell of a table; of commands in a fence only the comment."""
    fenced = False
    for line in source.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced:
            yield line.partition("#")[2].strip()
        else:
            for cell in line.split("|") if line.startswith("|") else [line]:
                yield re.sub(r"^(?:#+|-|\d+\.) ", "", cell.strip())


def every_text() -> Iterator[tuple[str, str]]:
    """(place, text) of everything that is Chinese."""
    for english, text in in_catalogue():
        yield f"labctl.po: {english!r}", text
    for file in (*sorted((ROOT / "labctl/lessons").glob("*.yaml")), ROOT / "docs/lessons.md"):
        for text in in_yaml(file.read_text(encoding="utf-8")):
            if text.strip():
                yield file.name, text
    for text in in_markdown((ROOT / "README.zh-TW.md").read_text(encoding="utf-8")):
        if re.search(f"[{HAN}]", text):
            yield "README.zh-TW.md", text


def test_chinese_is_written_as_in_taiwan() -> None:
    found = [
        f"{place}: {text!r}: {fault}" for place, text in every_text() for fault in faults(text)
    ]
    assert not found, f"see {TERMS_FILE.name} and CONTRIBUTING.md:\n" + "\n".join(found)


def test_every_place_is_looked_at() -> None:
    places: dict[str, int] = {}
    for place, _ in every_text():
        name = place.partition(":")[0]
        places[name] = places.get(name, 0) + 1
    assert places["labctl.po"] > 1100
    assert places["README.zh-TW.md"] > 100
    lessons = {file.name: True for file in (ROOT / "labctl/lessons").glob("*.yaml")}
    assert {name: n > 5 for name, n in places.items() if name.endswith("yaml")} == lessons
    assert places["lessons.md"] == 9


SHOWN = sorted(
    file for file in (ROOT / "tests/golden").rglob("*zh-TW*.txt") if "colours" not in file.name
)


@pytest.mark.parametrize("file", SHOWN, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_code_joins_has_full_width_punctuation(file: Path) -> None:
    shown = sanitize(file.read_text(encoding="utf-8"))
    found = [
        f"{number}: {line}: {fault}"
        for number, line in enumerate(shown.splitlines(), start=1)
        for fault in punctuation(without_code(line))
    ]
    assert SHOWN
    assert not found, "join with tr(': '), tr('; ') or tr('{text} ({detail})', …)\n" + "\n".join(
        found
    )


# -- the checks find what they are for -------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("請執行命令", "'命令': write 指令"),
        ("錯誤訊息會指出紀錄檔", "'紀錄': write 記錄檔、記錄"),
        ("下一個檢查點", "'檢查點': write checkpoint"),
        ("{count} 項主張全部成立", "'主張': write 檢查"),
        ("這個 lab 還在", "'lab': write 實驗環境"),
        ("由 vm_1 ping 8.8.8.8", "'由 vm_1 ping ': write 從 vm_1 ping"),
        ("允許 TCP 22 port 進入", "'TCP 22 port': write UDP port 6081"),
        ("經由 geneve 送往節點", "'geneve': write Geneve"),
        ("通往外部的門", "'的門': write 對外的出口"),
        ("默認網絡", "'網絡': write 網路"),
        ("虛擬機器", "'虛擬機器': write 虛擬機"),
        ("kernel 與核心", "'核心': write kernel"),
        ("節點: 執行中", "'點:': full-width punctuation"),
        ("vm_1: 執行中", "': 執': full-width punctuation"),
        ("節點 (執行中)", "'點 (': full-width punctuation"),
        ("已經完成.", "'成.': full-width punctuation"),
        ("說“好”", "'“': full-width punctuation"),
        ("用SSH 登入", "'用S': a space between Chinese and Latin"),
        ("節點{name} 啟動", "'點x': a space between Chinese and Latin"),
        ("執行`labctl up`", "'行`': a space between Chinese and Latin"),
        ("節點 啟動", "'點 啟': no space between Chinese characters"),
        ("節點 {name} ：啟動", "'x ：': no space beside full-width punctuation"),
        ("最後看到：the console is gone", "'the': no English sentence"),
        (
            "無法還原：console garbles typed text",
            "'console garbles typed text': no English sentence",
        ),
        ("Waiting for the lab", "'for': no English sentence"),
        ("节点启动", "'节': not a character that is used in Taiwan"),
    ],
)
def test_a_fault_is_found(text: str, fault: str) -> None:
    assert fault in list(faults(text))


@pytest.mark.parametrize(
    "text",
    [
        "請執行 `virsh console $(the lab: 命令)`",
        "Vagrant 會說「version of VirtualBox installed that is not supported」，什麼都不建立",
        "鎖定由{holder}持有：請等它結束",
        "CPU 為 2 核心",
        "請從 Debian 鏡像站下載 400 MB",
        "2026-11-28 的 {{ lab.name }}，TTL {ttl}",
        "請以 .svg、.mmd 或 .txt 結尾，或使用 --format",
        "由 gateway 節點處理",
    ],
)
def test_what_is_right_has_no_fault(text: str) -> None:
    assert list(faults(text)) == []


def test_a_term_is_not_forbidden_for_another() -> None:
    forbidden = [
        (term, variant)
        for term in TERMS
        for variants in TERMS.values()
        for variant in variants
        if re.search(variant, term)
    ]
    assert not forbidden


@pytest.mark.parametrize(
    ("source", "texts"),
    [
        ("title: {en: One, zh-TW: 一}", ["一"]),
        ('- {id: a, text: {en: x, zh-TW: "甲：乙"}, probe: p}', None),
        (
            "task:\n  zh-TW: >-\n    第一行\n    第二行 SSH\n    port\n  en: x",
            ["第一行第二行 SSH port"],
        ),
    ],
)
def test_texts_of_a_lesson_are_whole(source: str, texts: list[str] | None) -> None:
    found = list(in_yaml(source))
    assert found == texts if texts else found


def test_a_comment_in_a_fence_is_a_text_and_its_command_is_not() -> None:
    source = "# 標題\n\n```console\n$ make lab   # 建立\n```\n| 甲 | **乙** |"
    assert [text for text in in_markdown(source) if text] == ["標題", "建立", "甲", "**乙**"]
