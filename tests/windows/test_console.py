"""What a console of Windows shows, and Ctrl-C in it."""

import pytest

from tests.windows.rig import HOME, LABCTL, Windows

LAB = HOME / "我的 console"


@pytest.mark.parametrize("page", ["950", "65001", "437"])
def test_chinese_is_shown_whatever_the_code_page(system: Windows, page: str) -> None:
    system.write(LAB / "lab.yaml", b"name: x\nstack: ovn\n")
    script = f'@chcp {page} >nul\r\n@"{LABCTL}" --lang zh-TW validate\r\n'.encode("cp950")
    system.write(LAB / "run.cmd", script)
    with system.terminal("cmd", "/c", "run.cmd", directory=LAB) as console:
        assert "內容正確" in console.end()
