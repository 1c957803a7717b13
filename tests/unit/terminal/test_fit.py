"""Commands, output and tables, made to fit a terminal."""

import subprocess

import pytest

from labctl.terminal.fit import fit_command, fit_output, shares, table
from labctl.terminal.text import Span, cell_width

COMMANDS = [
    "openstack network create --provider-network-type flat --external ext_n2",
    "printf '<%s>' \"two  words\" 'it is quoted and long enough to be broken' tail",
    'x=$(printf %s a | tr a b); printf "<%s>" "$x" one two three four five six seven eight',
    "printf '<%s>' one \\\n  two three four five six seven eight nine ten eleven twelve",
    "printf '<%s>' escaped\\ blank in a word, and a great many more words behind it",
    "printf '<%s>' one # a comment that is longer than any terminal in this test is",
    "printf '<%s>' 'line one\n    line two, indented and rather long for its terminal' end",
    "cat <<EOF\nas it is, however long this line may be in the end, really\nEOF",
    "printf '<%s>' \"$(printf '%s' 'inner words')\" and then some more words after it",
]


@pytest.mark.parametrize("width", [24, 40])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_broken_command_means_what_the_whole_one_means(command: str, width: int) -> None:
    lines = fit_command(command, width, prompt_width=9)
    stub = "openstack() { printf '<%s>' \"$@\"; }\n"

    def said(script: str) -> str:
        argv = ["bash", "-euc", stub + script]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    assert said("\n".join(lines)) == said(command)


def test_a_command_is_broken_between_words_within_the_width() -> None:
    lines = fit_command(COMMANDS[0], 40, prompt_width=10)
    assert lines == [
        "openstack network create \\",
        "  --provider-network-type flat \\",
        "  --external ext_n2",
    ]
    assert len(lines[0]) + 10 <= 40


def test_a_command_that_fits_to_the_last_cell_stays_whole() -> None:
    assert fit_command("echo one two", 14, prompt_width=2) == ["echo one two"]
    assert fit_command("echo one two", 13, prompt_width=2) == ["echo one \\", "  two"]


def test_what_is_quoted_or_a_comment_is_never_broken() -> None:
    quoted = "echo 'one two three four five'"
    assert fit_command(quoted, 12, prompt_width=2) == ["echo \\", "  'one two three four five'"]
    assert fit_command("a # one two three four", 12, prompt_width=2) == ["a # one two three four"]


WIDE = """\
+--------------------------------------+------+------------------------------+
| ID                                   | Name | Networks                     |
+--------------------------------------+------+------------------------------+
| 14db2925-fc0b-4538-8965-d2618c64dd6f | vm|1 | n1=10.0.2.217, 172.16.100.10 |
+--------------------------------------+------+------------------------------+"""


@pytest.mark.parametrize("width", [40, 50, 60, 77])
def test_a_table_becomes_narrower_and_stays_a_table(width: int) -> None:
    lines = fit_output(WIDE, width)
    assert {len(line) for line in lines} == {width}
    bars = {at for at, letter in enumerate(lines[0]) if letter == "+"}
    for line in lines:
        assert all(line[at] in "+|" for at in bars)
    first = "".join(line.split("|")[1].strip() for line in lines[3:-1])
    assert first == "14db2925-fc0b-4538-8965-d2618c64dd6f"


def test_a_table_that_fits_stays_as_it_is() -> None:
    assert fit_output(WIDE, 78) == WIDE.split("\n")


def test_a_table_with_chinese_in_it_stays_aligned() -> None:
    border = "+----------+----------------+"
    wide = f"{border}\n| 名稱     | 說明           |\n{border}"
    lines = fit_output(wide, 26)
    assert {cell_width(line) for line in lines} == {26}


def test_columns_are_folded_at_the_same_place() -> None:
    said = (
        "TYPE             GATEWAY_PORT    EXTERNAL_IP    LOGICAL_IP\n"
        "dnat_and_snat    lrp-5ae373dc    10.0.2.217     172.16.100.10\n"
        "snat                             10.0.2.214     172.16.100.0/24"
    )
    assert fit_output(said, 50) == [
        "TYPE             GATEWAY_PORT    EXTERNAL_IP",
        "    LOGICAL_IP",
        "dnat_and_snat    lrp-5ae373dc    10.0.2.217",
        "    172.16.100.10",
        "snat                             10.0.2.214",
        "    172.16.100.0/24",
    ]


def test_a_long_line_is_broken_between_words_below_its_indent() -> None:
    said = "  listen: one two three four five six\nshort"
    assert fit_output(said, 22) == [
        "  listen: one two",
        "      three four five",
        "      six",
        "short",
    ]


@pytest.mark.parametrize("width", [1, 2, 5, 10, 20])
def test_no_width_is_too_small(width: int) -> None:
    assert fit_output(WIDE + "\nwords and more words\n\n", width)
    assert fit_command(COMMANDS[0], width, prompt_width=20)
    assert list(table([[Span("")] + [Span("head")] * 3, [Span("x")] * 4], width))


def test_the_widest_columns_give_way_first() -> None:
    assert shares([36, 4, 28], 60) == [28, 4, 28]
    assert shares([36, 4, 28], 30) == [13, 4, 13]
    assert shares([5, 5], 10) == [5, 5]


ROWS = [
    [Span(""), Span("節點", "bold"), Span("roles", "bold"), Span("eth0", "bold")],
    [Span("✓", "ok"), Span("compute-01"), Span("compute"), Span("10.0.2.15")],
]


def test_our_tables_are_aligned_by_cells() -> None:
    lines = ["".join(span.text for span in line) for line in table(ROWS, 80)]
    assert lines == ["   節點        roles    eth0", "✓  compute-01  compute  10.0.2.15"]


def test_where_a_table_has_no_room_each_row_is_a_block() -> None:
    lines = ["".join(span.text for span in line) for line in table(ROWS, 24)]
    assert lines == ["✓  compute-01", "   roles  compute", "   eth0   10.0.2.15"]
