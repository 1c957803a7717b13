"""Parts that lessons share: put in, overridden, and told at their own line when they are wrong."""

from pathlib import Path

import pytest

from labctl.errors import LabError
from labctl.lessons.load import load_lesson
from labctl.lessons.proof import digest_of
from labctl.lessons.templates import fill
from labctl.spec.problems import SpecError

COMMON = """\
facts:
  host: {probe: ovn.chassis, column: name}
claims:
  all-chassis:
    text: All nodes are chassis
    probe: ovn.chassis
    count: "{{ lab.nodes | length }}"
checkpoints:
  look:
    title: Look
    explain: Nothing.
    run: [ovn-sbctl show]
    claims: [{use: all-chassis}]
"""
HEAD = "id: mine\ntitle: Mine\ngoal: Share.\n"
LESSON = """\
parts: common.yaml
facts:
  host: {use: host, where: {name: compute-01}}
checkpoints:
  - {use: look}
  - use: look
    id: look-again
    claims:
      - {use: all-chassis, id: again, within: 60}
"""


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_LANG", "en")


def write(directory: Path, lesson: str = LESSON, common: str = COMMON) -> str:
    (directory / "common.yaml").write_text(common, encoding="utf-8")
    file = directory / "lesson.yaml"
    file.write_text(HEAD + lesson, encoding="utf-8")
    return str(file)


def wrong(file: str) -> list[str]:
    with pytest.raises(SpecError) as error:
        load_lesson(file)
    return [
        f"{Path(p.file).name}:{p.line}: {p.path}: {p.message}; {p.fix}".removesuffix("; ")
        for p in error.value.problems
    ]


def test_parts_are_put_in_and_a_lesson_may_say_otherwise(tmp_path: Path) -> None:
    lesson = load_lesson(write(tmp_path))
    assert [checkpoint.id for checkpoint in lesson.checkpoints] == ["look", "look-again"]
    assert [[claim.id for claim in c.claims] for c in lesson.checkpoints] == [
        ["all-chassis"], ["again"],
    ]  # fmt: skip
    assert [c.claims[0].within for c in lesson.checkpoints] == [5, 60]
    assert lesson.checkpoints[1].scripts == ["ovn-sbctl show"]
    assert lesson.facts["host"].where == {"name": "compute-01"}
    assert lesson.facts["host"].column == "name"


def test_what_is_wrong_with_a_part_is_told_in_its_file(tmp_path: Path) -> None:
    common = COMMON.replace("probe: ovn.chassis\n", "probe: ovn.chasis\n").replace(
        "explain: Nothing.", "explan: Nothing."
    )
    assert wrong(write(tmp_path, LESSON.replace("within: 60", "within: soon"), common)) == [
        "lesson.yaml:8: checkpoints[0].explain: is missing",
        "lesson.yaml:9: checkpoints[1].explain: is missing",
        "lesson.yaml:12: checkpoints[1].claims[0].within: must be a number",
        "common.yaml:6: checkpoints[0].claims[0].probe: there is no probe 'ovn.chasis';"
        " did you mean ovn.chassis?",
        "common.yaml:6: checkpoints[1].claims[0].probe: there is no probe 'ovn.chasis';"
        " did you mean ovn.chassis?",
        "common.yaml:11: checkpoints[0].explan: unknown key; did you mean explain?",
        "common.yaml:11: checkpoints[1].explan: unknown key; did you mean explain?",
    ]


@pytest.mark.parametrize(
    ("lesson", "common", "expected"),
    [
        (LESSON.replace("- {use: look}", "- {use: lok}"), COMMON,
         "lesson.yaml:8: checkpoints[0].use: there is no part 'lok' in checkpoints;"
         " did you mean look?"),
        (LESSON.replace("parts: common.yaml", "# none"), COMMON,
         "lesson.yaml:6: facts.host.use: there is no part 'host' in facts; there are none"),
        (LESSON.replace("common.yaml", "../common.yaml"), COMMON,
         "lesson.yaml:4: parts[0]: '../common.yaml' is not in the lesson's directory;"
         " put it beside the lesson"),
        (LESSON.replace("common.yaml", "/etc/passwd"), COMMON,
         "lesson.yaml:4: parts[0]: '/etc/passwd' is not in the lesson's directory;"
         " put it beside the lesson"),
        (LESSON.replace("common.yaml", "comon.yaml"), COMMON,
         "lesson.yaml:4: parts[0]: 'comon.yaml': there is no such file; put it beside the lesson"),
        (LESSON.replace("common.yaml", "[common.yaml, common.yaml]"), COMMON,
         "common.yaml:2: facts.host: common.yaml has a part of this name, too"),
        (LESSON, COMMON.replace("claims:\n  all", "claim:\n  all"),
         "common.yaml:3: claim: unknown key; known are facts, claims, checkpoints"),
        (LESSON, COMMON + "  other: 1\n",
         "common.yaml:14: checkpoints.other: must hold keys and values"),
        (LESSON, "facts: [", "common.yaml:1: : cannot be read as YAML"),
        (LESSON, COMMON + "facts: {}\n", "common.yaml:14: facts: is given twice"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_use_of_parts_is_told(
    tmp_path: Path, lesson: str, common: str, expected: str
) -> None:
    messages = [
        line.replace(str(tmp_path) + "/", "") for line in wrong(write(tmp_path, lesson, common))
    ]
    assert any(line.startswith(expected) for line in messages), messages


def test_a_link_out_of_the_directory_is_not_followed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    file = write(home)
    (home / "common.yaml").unlink()
    (tmp_path / "secret.yaml").write_text(COMMON, encoding="utf-8")
    (home / "common.yaml").symlink_to(tmp_path / "secret.yaml")
    assert "is not in the lesson's directory" in wrong(file)[0]


def test_a_part_that_changed_is_read_anew_and_is_in_the_digest(tmp_path: Path) -> None:
    file = write(tmp_path)
    before = load_lesson(file)
    digest = digest_of(before)
    write(tmp_path, LESSON, COMMON.replace("title: Look", "title: See"))
    after = load_lesson(file)
    assert (str(before.checkpoints[0].title), str(after.checkpoints[0].title)) == ("Look", "See")
    assert digest_of(after) != digest


def test_a_template_of_a_part_that_cannot_be_filled_in_names_the_part(tmp_path: Path) -> None:
    common = COMMON.replace("ovn-sbctl show", "'echo {{ fact.host.nothing }} mine'")
    lesson = load_lesson(write(tmp_path, LESSON, common))
    with pytest.raises(LabError, match=r"common\.yaml:12: checkpoints\[1\]\.run\[0\]"):
        fill(lesson.checkpoints[0].scripts[0], {"fact": {"host": "x"}})
