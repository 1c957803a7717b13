"""What needs no machine, on a Windows in Taiwan: code page 950, a user 王 小明."""

import json
from pathlib import PureWindowsPath

import pytest

from tests.windows.rig import HOME, PYTHON, Windows

LAB = HOME / "我的 lab"
VERBS = ("validate", "doctor", "render", "graph", "lessons", "help", "status")


@pytest.fixture(scope="module")
def lab(system: Windows) -> PureWindowsPath:
    """A directory with the lab.yaml that `labctl init` writes."""
    system.write(LAB / "empty", b"")
    done = system.labctl("init", directory=LAB)
    assert done.code == 0, done.text
    assert "labctl create" in done.text
    written = system.path(LAB / "lab.yaml").read_bytes()
    assert b"\r" not in written
    assert b"name: ovn-tutorial" in written
    return LAB


def test_the_system_is_what_it_plays(system: Windows) -> None:
    code = (
        "import locale, os, sys;"
        "print(sys.platform, locale.getencoding(),"
        " os.path.samefile(os.environ['USERPROFILE'], '.'),"
        " 'LANG' in os.environ, 'LC_ALL' in os.environ)"
    )
    done = system.run(PYTHON / "python.exe", "-I", "-c", code)
    assert done.text.split() == ["win32", "cp950", "True", "False", "False"]


@pytest.mark.parametrize("language", ["en", "zh-TW"])
@pytest.mark.parametrize(
    ("words", "code", "english", "chinese"),
    [
        (["validate"], 0, "a valid lab with", "內容正確"),
        (["doctor"], 1, "there is no VBoxManage", "找不到 VBoxManage"),
        (["lessons"], 0, "checkpoints", "個 checkpoint"),
        (["graph", "--planned"], 0, "192.168.33.0/24", "私有網路"),
        (["--help"], 0, "Usage:", "用法："),
        (["create", "--help"], 0, "Usage:", "用法："),
        (["validate", "-f", "nothing.yaml"], 2, "nothing.yaml", "nothing.yaml"),
        (["status"], 0, "labctl create", "labctl create"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_verbs(
    system: Windows, lab: PureWindowsPath, words: list[str], code: int, english: str, chinese: str,
    language: str,
) -> None:  # fmt: skip
    done = system.labctl("--lang", language, *words, directory=lab)
    assert done.code == code, done.text
    assert (english if language == "en" else chinese) in done.text


def test_render_names_the_place_and_writes_plain_lines(
    system: Windows, lab: PureWindowsPath
) -> None:
    done = system.labctl("render", directory=lab)
    assert done.code == 0, done.text
    file = PureWindowsPath(done.text.strip())
    assert file == LAB / ".labctl" / "vagrant" / "Vagrantfile"
    text = system.path(file).read_bytes()
    assert b"\r" not in text
    assert b"network-controller" in text


def test_json_is_utf8(system: Windows, lab: PureWindowsPath) -> None:
    done = system.labctl("--lang", "zh-TW", "doctor", "--json", directory=lab)
    assert "這裡" in json.dumps(json.loads(done.stdout.decode()), ensure_ascii=False)


def test_what_the_doctor_sees_of_the_machine(system: Windows, lab: PureWindowsPath) -> None:
    code = (
        "from labctl.operating_system import memory; print(memory.windows_memory());"
        "from labctl.operating_system.language import user_language; print(user_language())"
    )
    done = system.run(PYTHON / "python.exe", "-I", "-c", code)
    memory, language = done.text.splitlines()
    total, available = (int(number) for number in memory.strip("()").split(","))
    assert total >= available > 100
    assert language == "en_US"  # what wine answers; no variable says anything


def test_no_program_of_the_current_directory_is_run(system: Windows, lab: PureWindowsPath) -> None:
    system.program(lab / "vagrant.exe", {"__main__.py": b"open('ran', 'w')"})
    system.program(lab / "VBoxManage.exe", {"__main__.py": b"open('ran', 'w')"})
    done = system.labctl("--lang", "en", "doctor", directory=lab)
    assert "Vagrant is not installed" in done.text
    assert not system.path(lab / "ran").exists()


def test_a_lab_yaml_of_notepad(system: Windows, lab: PureWindowsPath) -> None:
    """With a byte order mark and Windows' line ends."""
    system.write(lab / "memo.yaml", "\ufeffname: x\r\n# 實驗\r\nstack: ovn\r\n".encode())
    done = system.labctl("validate", "-f", "memo.yaml", directory=lab)
    assert done.code == 0, done.text
