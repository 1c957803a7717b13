"""The report: what goes in, what the page holds of it, and what it never holds."""

import base64
import hashlib
import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup
from typer.testing import CliRunner

from labctl.assets import lessons as built_in
from labctl.cli.app import app
from labctl.errors import LabError
from labctl.graph.model import INTERNET
from labctl.graph.planned import planned
from labctl.i18n import current_language
from labctl.lessons.load import load_lesson
from labctl.report.page import chosen, render
from labctl.report.walks import walk_of, walk_shown, with_walk
from labctl.report.words import WORDS, Both, Prose, both, same, speaking
from labctl.state import as_json
from labctl.walks.describe import verdict
from labctl.walks.walk import Walk
from tests.unit.fakes import SECRETS, topology
from tests.unit.report.reports import HOSTILE, LESSON, RECORDED, SHOWN, RecordedReport
from tests.unit.walks.walks import CASES, NEVER_LEFT, PLAYED, WALKS, RecordedLab

PACKAGE = Path(__file__).parents[3] / "labctl" / "report"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RecordedReport:
    return RecordedReport(tmp_path, monkeypatch)


def walked(case: str, monkeypatch: pytest.MonkeyPatch) -> Walk:
    return RecordedLab(WALKS / case, monkeypatch).walk()


def stored(walk: Walk) -> Any:
    """As the lab keeps it."""
    return json.loads(as_json(walk))


# -- words -----------------------------------------------------------------------------------------
def test_a_text_in_both_languages() -> None:
    text = both(lambda: "語言 <b>" if current_language() == "zh-TW" else "language <b>")
    assert text.__html__() == (
        '<span class="tongue" lang="en">language &lt;b&gt;</span>'
        '<span class="tongue" lang="zh-TW">語言 &lt;b&gt;</span>'
    )
    assert current_language() == "en"


def test_what_is_the_same_in_both_languages_is_there_once() -> None:
    assert same("<i>eth0").__html__() == "&lt;i&gt;eth0"
    assert not same("")
    assert isinstance(same("x").__html__(), Markup)


def test_the_language_is_put_back_even_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), speaking("zh-TW"):
        raise ZeroDivisionError
    assert current_language() == "en"


def test_escape_sequences_go() -> None:
    assert both(lambda: "\x1b[31mred\x1b[0m\u202e").said_in("en") == "red"


def test_explanations_keep_their_structure_and_nothing_else() -> None:
    text = "First `code<`\nand **bold>**.\n\n- one <b>\n- two\n\n    ip link\n    <script>\n\nLast."
    assert Prose({"en": text}).__html__() == (
        '<div class="tongue prose" lang="en">'
        "<p>First <code>code&lt;</code> and <strong>bold&gt;</strong>.</p>"
        "<ul><li>one &lt;b&gt;</li><li>two</li></ul>"
        "<pre>ip link\n&lt;script&gt;</pre><p>Last.</p></div>"
    )


def test_the_page_uses_all_of_its_words() -> None:
    template = (PACKAGE / "page.html.j2").read_text("utf-8")
    assert set(re.findall(r"\bwords\.(\w+)", template)) == set(WORDS)


def test_an_unknown_language_is_refused() -> None:
    assert chosen("zh-TW") == "zh-TW"
    with pytest.raises(LabError, match="does not speak fr"):
        chosen("fr")


# -- walks -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", CASES)
def test_a_walk_survives_the_disk(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = walked(case, monkeypatch)
    assert walk_of(stored(walk)) == walk


@pytest.mark.parametrize("case", sorted(NEVER_LEFT))
def test_a_packet_that_did_not_leave_is_shown_at_its_sender(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk = walked(case, monkeypatch)
    shown = walk_shown(walk, planned(topology()))
    assert [path.steps for path in shown.paths] == [()]
    assert shown.verdict.said_in("en") == verdict(walk)
    node, _, interface = shown.last.partition("/")
    assert node == walk.source.node
    (host,) = [host for host in with_walk(planned(topology()), walk).hosts if host.name == node]
    assert host.interface(interface) is not None


@pytest.mark.parametrize("junk", [None, [], {}, {"lab": "x"}, {"request": {"hops": []}}])
def test_what_is_no_walk_is_left_out(junk: Any) -> None:
    assert walk_of(junk) is None


@pytest.mark.parametrize("case", PLAYED)
def test_every_hop_is_a_step(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = walked(case, monkeypatch)
    shown = walk_shown(walk, planned(topology()))
    steps = [step for path in shown.paths for step in path.steps]
    hops = [hop for path in (walk.request, walk.reply) if path for hop in path.hops]
    assert [step.number for step in steps] == list(range(1, len(hops) + 1))
    for step, hop in zip(steps, hops, strict=True):
        fields = {field.id: field for field in step.fields}
        frame = hop.frame
        place = INTERNET if hop.node == INTERNET else f"{hop.node}/{hop.interface}"
        assert step.place == place
        assert (fields["src"].now, fields["dst"].now) == (frame.src, frame.dst)
        assert fields["ttl"].now == str(frame.ttl)
        # A field has changed exactly if the walk says what changed it.
        changed = {one.id for one in step.fields if one.changed} - {"kind", "option"}
        assert changed == {change.field for change in hop.changes}
        for change in hop.changes:
            if change.field in ("src", "dst", "ttl"):
                assert fields[change.field].before == str(change.before)
    assert shown.verdict.said_in("en") == verdict(walk)


def test_rewrites_say_who_made_them(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = planned(topology())
    shown = walk_shown(walked("out", monkeypatch), graph)
    (source,) = [
        field for step in shown.paths[0].steps for field in step.fields
        if field.id == "src" and field.changed
    ]  # fmt: skip
    assert (source.before, source.now) == ("172.16.100.10", "10.0.2.210")
    assert source.why.said_in("en") == "SNAT of r: dnat_and_snat"
    tunnelled = shown.paths[0].steps[1]
    assert tunnelled.logical == (graph.routers[0].name,)


def test_beside_it_stands_what_ovn_trace_says(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = walk_shown(walked("blocked", monkeypatch), planned(topology()))
    said = shown.paths[0].explanation
    assert said is not None
    assert not said.good
    assert said.verdict.said_in("zh-TW") == "丟棄"
    assert [one.name for one in said.passages] == ["ext_n2", "r", "n1"]
    assert any(against for one in said.passages for _, against in one.decisions)
    assert said.question.startswith("ovn-trace --detailed")
    assert shown.expected == "compute-01/tap7be16941-da"


def test_interfaces_that_are_gone_are_drawn_for_their_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    walk = walked("out", monkeypatch)
    bare = planned(topology())
    graph = with_walk(bare, walk)
    places = {step.place for path in walk_shown(walk, graph).paths for step in path.steps}
    assert "compute-01/tap7be16941-da" not in set(bare.places())
    assert places <= set(graph.places())
    compute = graph.host("compute-01")
    assert compute is not None
    assert [vm.interface for vm in compute.vms if vm.name == "vm_1"] == ["tap7be16941-da"]
    assert with_walk(graph, walk) == graph


def test_the_tap_of_another_life_does_not_replace_the_one_of_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    walk = walked("out", monkeypatch)
    graph = planned(topology())
    hosts = tuple(
        replace(host, vms=tuple(replace(vm, interface="tapnew") for vm in host.vms))
        for host in graph.hosts
    )
    drawn = with_walk(replace(graph, hosts=hosts), walk).host("compute-01")
    assert drawn is not None
    assert [vm.interface for vm in drawn.vms] == ["tapnew"]
    assert drawn.interface("tap7be16941-da") is not None


# -- what is collected -----------------------------------------------------------------------------
def test_a_lesson_with_its_evidence(made: RecordedReport) -> None:
    (lesson,) = [one for one in made.page().lessons if one.id == LESSON]
    assert lesson.begun
    assert [one.id for one in lesson.checkpoints] == [
        one.id for one in load_lesson(LESSON).checkpoints
    ]
    assert {one.standing for one in lesson.checkpoints} == {"passed"}
    record = json.loads((RECORDED / "records" / "associate.json").read_text("utf-8"))
    (shown,) = [one for one in lesson.checkpoints if one.id == "associate"]
    assert [one.command for one in shown.commands] == [one["command"] for one in record["commands"]]
    assert "ACTIVE" in shown.commands[1].output
    assert shown.claims[0].text.texts == record["claims"][0]["texts"]
    assert "fixed_address=172.16.100.10" in shown.claims[0].evidence[0].said_in("en")


def test_the_summary_stands_at_the_end_of_the_lesson(made: RecordedReport) -> None:
    assert '<h4 id="lesson-floating-ip-summary"' not in render(made.page(), "en")
    file = made.state.root / "records" / LESSON / "ssh-in.json"
    record = json.loads(file.read_text("utf-8"))
    record["summary"] = {"en": "- one `rule` <b>", "zh-TW": "- 一條 `rule`"}
    file.write_text(json.dumps(record), "utf-8")
    html = render(made.page(), "en")
    end = html[html.index('<h4 id="lesson-floating-ip-summary"') :]
    assert "<li>one <code>rule</code> &lt;b&gt;</li>" in end
    assert "<li>一條 <code>rule</code></li>" in end


def test_checkpoints_stand_as_they_are(made: RecordedReport) -> None:
    records = made.state.root / "records" / LESSON
    (records / "ssh-in.json").unlink()
    failed = json.loads((records / "ping-in.json").read_text("utf-8"))
    failed["claims"][0]["result"]["holds"] = False
    (records / "ping-in.json").write_text(json.dumps(failed), "utf-8")
    position = json.loads(made.state.lesson_position.read_text("utf-8"))
    position["lessons"][LESSON]["attempted"].remove("ping-out")
    made.state.lesson_position.write_text(json.dumps(position), "utf-8")
    (lesson,) = [one for one in made.page().lessons if one.id == LESSON]
    standing = {one.id: one.standing for one in lesson.checkpoints}
    assert (standing["ssh-in"], standing["ping-in"], standing["ping-out"], standing["ports"]) == (
        "open", "failed", "back", "passed",
    )  # fmt: skip
    (ping,) = [one for one in lesson.checkpoints if one.id == "ping-in"]
    assert ping.claims[0].expected == failed["claims"][0]["result"]["expected"]
    assert lesson.score.said_in("en") == "8 of 11 checkpoints passed"


def test_a_lesson_of_ones_own_stays_after_the_learner_went_on(
    made: RecordedReport, tmp_path: Path
) -> None:
    # It is in no position any more, but its records name its file.
    file = tmp_path / "own.yaml"
    text = (built_in() / f"{LESSON}.yaml").read_text("utf-8")
    file.write_text(text.replace(f"id: {LESSON}\n", "id: own\n", 1), "utf-8")
    records = made.state.root / "records"
    (records / "own").mkdir()
    for path in (records / LESSON).glob("*.json"):
        record = json.loads(path.read_text("utf-8")) | {"source": str(file)}
        (records / "own" / path.name).write_text(json.dumps(record), "utf-8")
    (records / "own" / "broken.json").write_text('{"at": "x", "source": 7}', "utf-8")
    shown = {one.id: one for one in made.page().lessons}
    assert {one.standing for one in shown["own"].checkpoints} == {"back"}
    file.unlink()
    assert "own" not in {one.id for one in made.page().lessons}


def test_a_lab_that_is_down_is_drawn_as_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = RecordedReport(tmp_path, monkeypatch, up=False).page()
    assert not page.good
    assert set(page.pictures) == {"en", "zh-TW"}
    assert 'data-place="network-controller/eth1"' in page.pictures["en"]
    assert [node["name"] for node in page.nodes] == ["network-controller", "compute-01"]
    assert len(page.walks_at_steps) == 3


def test_a_broken_file_is_left_out(made: RecordedReport) -> None:
    (made.state.walks / "2000.json").write_text("{", "utf-8")
    (made.state.walks / "2001.json").write_text('{"lab": "of another version"}', "utf-8")
    assert len(made.page().walks_at_steps) == 3


# -- the document ----------------------------------------------------------------------------------
class _Document(HTMLParser):
    """What a browser has to obey in a page: elements and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_no_guest_makes_markup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = render(RecordedReport(tmp_path, monkeypatch, hostile=True).page(), "en")
    parsed = _Document(document)
    tags = [tag for tag, _ in parsed.elements]
    assert tags.count("script") == 1
    assert "img" not in tags
    assert not [
        name for _, given in parsed.elements for name in given
        if name.startswith("on") or name in ("src", "style")
    ]  # fmt: skip
    assert SHOWN in parsed.text
    assert HOSTILE not in document
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", document)


def test_the_policy_knows_every_style_and_script(made: RecordedReport) -> None:
    document = render(made.page(), "en")
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', document)
    policy = policy.replace("&#39;", "'")
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (allowed,) = re.findall(rf"{tag}-src ([^;]+)", policy)
        found = re.findall(rf"<{tag}>(.*?)</{tag}>", document, re.DOTALL)
        assert found
        hashes = {base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in found}
        assert {f"'sha256-{one}'" for one in hashes} == set(allowed.split())


def test_nothing_is_asked_from_anywhere(made: RecordedReport) -> None:
    elements = _Document(render(made.page(), "en")).elements
    assert len(elements) > 100
    for tag, given in elements:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            value = given.get(name) or "#"
            assert value.startswith("#"), f"{tag} {name}={value}"


def test_the_page_holds_no_secret_and_no_path(made: RecordedReport) -> None:
    made.state.secrets()
    secrets = json.loads((made.state.root / "secrets.json").read_text("utf-8"))
    document = render(made.page(), "en")
    for secret in (*secrets.values(), *vars(SECRETS).values()):
        assert secret not in document
    assert str(made.directory) not in document


@pytest.mark.parametrize("language", ["en", "zh-TW"])
def test_it_opens_in_the_language_that_was_chosen(made: RecordedReport, language: Any) -> None:
    document = render(made.page(), language)
    assert f'<html lang="{language}"' in document
    assert len(document) < 1_000_000


def test_ids_are_unique_and_what_refers_to_them_finds_them(made: RecordedReport) -> None:
    elements = _Document(render(made.page(), "en")).elements
    ids = [given["id"] for _, given in elements if given.get("id")]
    assert len(ids) == len(set(ids))
    for _, given in elements:
        for one in (given.get("aria-labelledby") or "").split():
            assert one in ids


# -- the verb --------------------------------------------------------------------------------------
@pytest.fixture
def in_a_new_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "lab.yaml").write_text("name: quiet\nprovider: nspawn\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABCTL_NO_SUDO", "1")
    return tmp_path


def test_before_there_is_a_lab(in_a_new_lab: Path) -> None:
    done = CliRunner().invoke(app, ["--lang", "en", "report", "--language", "zh-TW"])
    assert done.exit_code == 0, done.output
    file = in_a_new_lab / "report.html"
    assert str(file) in done.output.replace("\n", "")
    assert '<html lang="zh-TW"' in file.read_text("utf-8")
    assert sorted(path.name for path in in_a_new_lab.iterdir()) == ["lab.yaml", "report.html"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_it_belongs_to_whoever_called_sudo(
    in_a_new_lab: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = home / "page.html"
    monkeypatch.setenv("SUDO_UID", str(home.stat().st_uid))
    monkeypatch.setenv("SUDO_GID", str(home.stat().st_gid))
    assert CliRunner().invoke(app, ["report", "-o", str(page)]).exit_code == 0
    assert page.stat().st_uid == home.stat().st_uid


def test_where_it_is_told(in_a_new_lab: Path) -> None:
    done = CliRunner().invoke(app, ["--lang", "en", "report", "--output", "page.html"])
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in in_a_new_lab.iterdir()) == ["lab.yaml", "page.html"]


def test_a_directory_is_no_place_for_it(in_a_new_lab: Path) -> None:
    done = CliRunner().invoke(app, ["--lang", "en", "report", "--output", "."])
    assert isinstance(done.exception, LabError)
    assert "is a directory" in done.exception.message


def test_both_is_empty_only_if_all_its_texts_are() -> None:
    assert Both({"en": "", "zh-TW": "x"})
    assert not Both({"en": "", "zh-TW": ""})
