"""Lessons fetched from a Git repository: real repositories, fetched by real git."""

import os
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from labctl.cli.app import app
from labctl.errors import EXIT_USAGE, LabError
from labctl.lessons import travel
from labctl.lessons.new import new_lesson
from labctl.lessons.travel import MOST_BYTES, actions, get_lesson, parse_address
from labctl.spec.problems import SpecError

WHO = {
    "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@a", "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@a", "GIT_CONFIG_NOSYSTEM": "1",
}  # fmt: skip
HASH = "0123456789abcdef0123456789abcdef01234567"
WITH_PARTS = new_lesson("taken") + "parts: [library/parts.yaml]\n"


class Repository:
    """A repository of a stranger."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = path.as_uri()
        path.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=self.path, env={**os.environ, **WHO}, check=True,
            capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout.strip()

    def commit(self, **files: str) -> str:
        """Write the files, commit everything, and return the commit's name."""
        for name, content in files.items():
            path = self.path / name.replace("__", "/").replace("_yaml", ".yaml")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message=x")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "stranger's lessons")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in WHO.items():
        monkeypatch.setenv(name, value)
    # A file that is not there, and not the null device: git would replace that one, as root.
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "no-settings"))
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    monkeypatch.setenv("LABCTL_LANG", "en")
    return directory


def refusal(address: str) -> str:
    with pytest.raises(LabError) as error:
        get_lesson(address)
    assert list(Path().iterdir()) == [], "something was written"
    return error.value.message


def test_the_commit_is_taken_and_not_what_came_later(repository: Repository, here: Path) -> None:
    first = repository.commit(lesson_yaml=new_lesson("taken"))
    repository.commit(lesson_yaml=new_lesson("another"))
    repository.commit(README="x")
    shown = CliRunner().invoke(app, ["lesson", "get", f"{repository.url}@{first}"])
    assert shown.exit_code == 0, shown.output
    assert (here / "taken" / "lesson.yaml").read_text("utf-8") == new_lesson("taken")
    assert sorted(path.name for path in here.rglob("*")) == ["lesson.yaml", "taken"]
    assert "runs (controller):\n    ovn-nbctl --may-exist ls-add taken" in shown.output
    assert "to take it back (controller):\n    ovn-nbctl --if-exists ls-del taken" in shown.output
    assert "start ./taken" in shown.output
    again = CliRunner().invoke(app, ["lesson", "get", f"{repository.url}@{first}"])
    assert isinstance(again.exception, LabError)
    assert (again.exception.message, again.exception.code) == (
        "taken is there already", EXIT_USAGE,
    )  # fmt: skip
    elsewhere = CliRunner().invoke(
        app, ["lesson", "get", f"{repository.url}@{first}", "-o", "mine"]
    )
    assert elsewhere.exit_code == 0, elsewhere.output
    assert (here / "mine" / "lesson.yaml").exists()


def test_a_directory_of_the_repository_with_its_parts(repository: Repository, here: Path) -> None:
    commit = repository.commit(
        days__one__lesson_yaml=WITH_PARTS,
        days__one__library__parts_yaml="facts: {}\n",
        days__one__program="#!/bin/sh\n",
    )
    directory, lesson = get_lesson(f"{repository.url}@{commit}:days/one")
    assert (str(directory), lesson.id) == ("taken", "taken")
    found = sorted(str(path.relative_to(here)) for path in here.rglob("*") if path.is_file())
    assert found == ["taken/lesson.yaml", "taken/library/parts.yaml"]


def test_a_server_that_gives_only_the_ends_of_branches(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = repository.commit(lesson_yaml=new_lesson("taken"))
    repository.commit(lesson_yaml=new_lesson("another"))
    # Git's protocol of before 2018, in which a server refuses everything else.
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "protocol.version")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "0")
    _, lesson = get_lesson(f"{repository.url}@{old}")
    assert lesson.id == "taken"


def test_links_and_submodules_are_no_lessons(repository: Repository) -> None:
    repository.commit(real_yaml=new_lesson("taken"))
    (repository.path / "lesson.yaml").symlink_to("/etc/passwd")
    linked = repository.commit()
    assert "'lesson.yaml' is no regular file" in refusal(f"{repository.url}@{linked}")
    repository.git("rm", "--quiet", "lesson.yaml")
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{linked},lesson.yaml")
    repository.git("commit", "--quiet", "--message=x")
    submodule = repository.git("rev-parse", "HEAD")
    assert "'lesson.yaml' is no regular file" in refusal(f"{repository.url}@{submodule}")


def test_parts_elsewhere_are_not_fetched(repository: Repository) -> None:
    text = new_lesson("taken") + "parts: [../../secret.yaml]\n"
    commit = repository.commit(a__b__lesson_yaml=text, secret_yaml="facts: {}\n")
    with pytest.raises(SpecError) as error:
        get_lesson(f"{repository.url}@{commit}:a/b")
    (problem,) = error.value.problems
    assert "is not in the lesson's directory" in problem.message
    assert problem.file.endswith(f"@{commit[:12]}:lesson.yaml")
    assert list(Path().iterdir()) == []


def test_what_is_wrong_with_it_is_told_at_its_place(repository: Repository) -> None:
    commit = repository.commit(lesson_yaml="id: taken\ntitle: x\n")
    with pytest.raises(SpecError) as error:
        get_lesson(f"{repository.url}@{commit}")
    assert {problem.path for problem in error.value.problems} == {"goal", "checkpoints"}
    assert all(str(p.file).endswith(f"@{commit[:12]}:lesson.yaml") for p in error.value.problems)
    assert list(Path().iterdir()) == []
    taken = repository.commit(lesson_yaml=new_lesson("x").replace("id: x", "id: floating-ip"))
    with pytest.raises(SpecError, match="the built-in lesson floating-ip has this id"):
        get_lesson(f"{repository.url}@{taken}")


def test_what_is_not_there(repository: Repository, tmp_path: Path) -> None:
    commit = repository.commit(README="x" * (MOST_BYTES + 1), big__lesson_yaml="x" * (1 << 21))
    assert "there is no 'lesson.yaml'" in refusal(f"{repository.url}@{commit}")
    assert "there is no 'no/lesson.yaml'" in refusal(f"{repository.url}@{commit}:no")
    assert "larger than 1024 KiB" in refusal(f"{repository.url}@{commit}:big")
    assert "cannot be fetched" in refusal(f"{repository.url}@{HASH}")
    assert "cannot be fetched" in refusal(f"{(tmp_path / 'nothing').as_uri()}@{HASH}")


def test_a_repository_that_would_fill_the_disk(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(travel, "MOST_FETCHED", 1 << 20)
    (repository.path / "large").write_bytes(os.urandom(3 << 20))
    commit = repository.commit(lesson_yaml=new_lesson("taken"))
    assert "it is larger than 1 MiB" in refusal(f"{repository.url}@{commit}")
    # Where the server can leave files out, it does not matter how large they are.
    repository.git("config", "uploadpack.allowFilter", "true")
    repository.git("config", "uploadpack.allowAnySHA1InWant", "true")
    _, lesson = get_lesson(f"{repository.url}@{commit}")
    assert lesson.id == "taken"


def test_the_repository_of_a_hook_that_calls_labctl_is_left_alone(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = repository.commit(lesson_yaml=new_lesson("taken"))
    other = Repository(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(other.path / ".git"))
    get_lesson(f"{repository.url}@{commit}")
    monkeypatch.delenv("GIT_DIR")
    assert other.git("remote") == ""


def test_no_hook_of_the_users_templates_runs(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks = tmp_path / "template" / "hooks"
    hooks.mkdir(parents=True)
    for name in ("post-checkout", "reference-transaction", "post-index-change"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran'\n", encoding="utf-8")
        (hooks / name).chmod(0o755)
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(hooks.parent))
    commit = repository.commit(lesson_yaml=new_lesson("taken"))
    get_lesson(f"{repository.url}@{commit}")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "floating-ip",
        "https://host/x.git",
        "https://host/x.git@main",
        "https://host/x.git@v1.0:qos",
        f"https://host/x.git@{HASH[:12]}",
        f"http://host/x.git@{HASH}",
        f"ext::sh -c touch%20/tmp/x@{HASH}",
        f"--upload-pack=touch /tmp/x@{HASH}",
        f"-uhost:x@{HASH}",
        f"ssh://-oProxyCommand=x/y@{HASH}",
        f"git@-oProxyCommand=x:y@{HASH}",
        f"https://host/x.git@{HASH}:../up",
        f"https://host/x.git@{HASH}:/etc",
        f"https://host/x.git@{HASH}:a\nb",
        f"/srv/lessons@{HASH}",
    ],
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(LabError) as error:
        parse_address(address)
    assert error.value.code == EXIT_USAGE
    assert error.value.hint


@pytest.mark.parametrize(
    "url",
    ["https://host/a/b.git", "ssh://git@host:2222/b.git", "git@host:a/b.git", "file:///srv/x"],
)
def test_addresses(url: str) -> None:
    address = parse_address(f"{url}@{HASH}:days/qos")
    assert (address.url, address.commit, str(address.directory)) == (url, HASH, "days/qos")


def test_a_password_in_the_address_is_not_shown() -> None:
    address = parse_address(f"https://me:token@host/b.git@{HASH}")
    assert address.url == "https://me:token@host/b.git"
    assert str(address) == f"https://host/b.git@{HASH[:12]}"


def test_everything_that_a_lesson_would_run_is_told() -> None:
    from labctl.lessons.load import available, load_lesson

    for name in available():
        lesson = load_lesson(name)
        told = [action for _, done in actions(lesson) for action in done]
        scripts = [
            script
            for checkpoint in lesson.checkpoints
            for script in (
                *(each.run for each in checkpoint.breaks),
                *(each.run for each in checkpoint.background),
                *checkpoint.scripts,
                *([checkpoint.undo] if checkpoint.undo else []),
            )
        ]
        texts = [each.text for each in told if each.kind not in ("capture", "fault")]
        assert sorted(texts) == sorted(scripts)
        assert sum(each.kind == "fault" for each in told) == len(lesson.faults)
