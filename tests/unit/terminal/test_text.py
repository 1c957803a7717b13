"""Text from guests is made harmless; text for people is measured and wrapped."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.terminal.text import (
    Line,
    Span,
    cell_width,
    duration,
    hang,
    one_line,
    pad,
    paragraphs,
    sanitize,
)


def flat(lines: list[Line]) -> list[str]:
    return ["".join(span.text for span in line) for line in lines]


@pytest.mark.parametrize(
    ("raw", "safe"),
    [
        ("plain\ntext", "plain\ntext"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;owned\x07title", "title"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;never ends\nnext", "\nnext"),
        ("\x1bP1$r0m\x1b\\dcs", "dcs"),
        ("\x9b2Jc1 \x9d0;t\x9cosc", "c1 osc"),
        ("\x1b(Bcharset \x1bcreset", "charset reset"),
        ("\x1b", ""),
        ("\x1b[\x1b[2J!", "!"),
        ("bell\x07 null\x00 del\x7f back\x08", "bell null del back"),
        ("10 %\r20 %\r\nend", "10 %\n20 %\nend"),
        ("a\tb", "a       b"),
        ("safe\u202eexe.txt\u2066", "safeexe.txt"),
        ("two\u2028lines", "two\nlines"),
        ("caf\udce9", "caf\N{REPLACEMENT CHARACTER}"),
        ("中文 ✓ é", "中文 ✓ é"),
    ],
)
def test_nothing_that_commands_a_terminal_is_left(raw: str, safe: str) -> None:
    assert sanitize(raw) == safe


@given(
    st.text(st.sampled_from("\x1b\x9b\x9d[]PX^_;?0mJ\\\x07\n\r\t a(\u202e\udc80中"), max_size=40)
)
def test_no_sequence_survives_sanitizing(text: str) -> None:
    safe = sanitize(text)
    assert {c for c in safe if unicodedata.category(c) in ("Cc", "Cs")} <= {"\n"}
    safe.encode()
    assert sanitize(safe) == safe


def test_an_endless_sequence_takes_linear_time() -> None:
    assert sanitize("\x1b]" * 200_000) == ""
    assert sanitize("\x1b[" + "1;" * 500_000) == ""


def test_a_progress_bar_says_its_last_words() -> None:
    assert one_line("10 %\r20 %\r\x1b[K99 %\r\n  \n") == "99 %"
    assert one_line("\x1b[2J\n") == ""


def test_chinese_takes_two_cells() -> None:
    assert cell_width("中文ab") == 6
    assert pad("中文", 6) == "中文  "
    assert pad("完成", 6, right=True) == "  完成"
    assert pad("too long", 3) == "too long"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-0.1, "0.0s"),
        (12.34, "12.3s"),
        (59.94, "59.9s"),
        (59.96, "1m 00s"),
        (125, "2m 05s"),
        (3599.7, "1h 00m"),
        (7500, "2h 05m"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_paragraphs_join_wrap_and_keep_what_is_verbatim() -> None:
    text = (
        "The router `r`\ngets a **gateway port**.\n"
        "- one item\n  goes on\n- two\n1. first\n\n    $ verbatim   stays\n"
    )
    lines = paragraphs(text, 30)
    assert flat(lines) == [
        "The router r gets a gateway",
        "port.",
        "• one item goes on",
        "• two",
        "1. first",
        "",
        "    $ verbatim   stays",
    ]
    assert lines[0] == (
        Span("The router "),
        Span("r", "code"),
        Span(" gets a "),
        Span("gateway", "bold"),
    )
    assert lines[-1] == (Span("    $ verbatim   stays", "code"),)


def test_items_hang_below_their_text() -> None:
    assert flat(paragraphs("- aaaa bbbb cccc", 11)) == ["• aaaa bbbb", "  cccc"]


def test_chinese_breaks_anywhere_but_before_closing_punctuation() -> None:
    assert flat(paragraphs("一二三四，五六（七八）九", 6)) == [
        "一二三",
        "四，五",
        "六（七",
        "八）九",
    ]
    # A line break inside a Chinese sentence is no space; one beside English is.
    assert flat(paragraphs("一二\n三四\nOVN", 80)) == ["一二三四 OVN"]


def test_punctuation_stays_with_code() -> None:
    assert flat(paragraphs("aaaa bbbb `cccc`.", 14)) == ["aaaa bbbb", "cccc."]


@given(
    st.text(st.sampled_from("ab 中文，。（）`*-.\n"), max_size=80),
    st.integers(8, 40),
)
def test_no_line_is_wider_and_no_letter_lost(text: str, width: int) -> None:
    lines = flat(paragraphs(text, width))
    words = set("".join(lines))
    assert {c for c in text if c in "ab中文"} <= words
    for line in lines:
        # A single unbreakable word may stick out: what is left then has no space to break at.
        assert cell_width(line) <= width or " " not in line.strip("• ").strip() or "    " in line


def test_a_long_line_hangs_below_its_lead() -> None:
    line = (Span("  hint  "), Span("is MariaDB up? systemctl status mariadb"))
    assert flat(hang(line, 32)) == [
        "  hint  is MariaDB up? systemctl",
        "        status mariadb",
    ]
    assert hang(line, 80) == [line]
    assert flat(hang((Span("    "), Span("  deep er", "bad")), 8)) == ["      deep er"]
