"""The scripts of the image that instances run, in a real shell."""

import os
import subprocess
from pathlib import Path

import pytest

from labctl.assets import assets

GUEST = assets() / "provision/image/instance"
UDHCPC = GUEST / "udhcpc.sh"


@pytest.mark.parametrize(
    ("offered", "wanted"),
    [
        ({"dns": "192.0.2.53"}, "nameserver 192.0.2.53\n"),
        (
            {"dns": "192.0.2.53 192.0.2.54", "domain": "lab.example"},
            "search lab.example\nnameserver 192.0.2.53\nnameserver 192.0.2.54\n",
        ),
        (
            {"domain": "lab.example", "search": "a.example b.example"},
            "search a.example b.example\n",
        ),
        ({}, ""),
    ],
)
def test_the_dhcp_client_writes_names_and_servers(
    offered: dict[str, str], wanted: str, tmp_path: Path
) -> None:
    (tmp_path / "ip").write_text("#!/bin/sh\n")  # no interface is there to be configured
    (tmp_path / "ip").chmod(0o755)
    resolv = tmp_path / "resolv.conf"
    script = tmp_path / "udhcpc.sh"
    script.write_text(UDHCPC.read_text().replace("/etc/resolv.conf", str(resolv)))
    lease = {"interface": "eth0", "ip": "192.0.2.9", "mask": "24", "router": "192.0.2.1"}
    subprocess.run(
        ["sh", script, "bound"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **lease, **offered},
        check=True,
    )
    assert resolv.read_text() == wanted


def run_with_fakes(name: str, words: list[str], directory: Path, ends: str = "exit 0") -> str:
    """What the guest's command of that name starts, a line for each program."""
    for program in ("busybox/nc", "busybox/ping", "traditional/nc", "iputils/ping"):
        file = directory / program
        file.parent.mkdir(exist_ok=True)
        shown = f"{program}$(printf ' [%s]' \"$@\")"
        file.write_text(f'#!/bin/sh\necho "{shown}" >>{directory}/started\n{ends}\n')
        file.chmod(0o755)
    script = directory / name
    script.write_text((GUEST / name).read_text().replace("/usr/libexec", str(directory)))
    subprocess.run(["sh", script, *words], check=False, timeout=30)
    return (directory / "started").read_text()


@pytest.mark.parametrize(
    ("words", "started"),
    [
        (["-w", "3", "192.0.2.7", "80"], "busybox/nc [-w] [3] [192.0.2.7] [80]\n"),
        (["-lp", "80"], "busybox/nc [-lp] [80]\n"),
        (["-l", "-p", "80", "-e", "cat", "-u"], "busybox/nc [-l] [-p] [80] [-e] [cat] [-u]\n"),
        (
            ["-u", "-w", "1", "192.0.2.7", "53"],
            "traditional/nc [-n] [-u] [-w] [1] [192.0.2.7] [53]\n",
        ),
        (["-zv", "192.0.2.7", "22"], "traditional/nc [-n] [-zv] [192.0.2.7] [22]\n"),
        (["192.0.2.7", "23", "-vv"], "traditional/nc [-n] [192.0.2.7] [23] [-vv]\n"),
        (
            ["-u", "-p", "53", "-l", "-e", "echo", "who asks"],
            "traditional/nc [-n] [-u] [-p] [53] [-l] [-c] [echo who asks]\n",
        ),
        (["-l", "-p", "80", "-c", "echo a"], "traditional/nc [-n] [-l] [-p] [80] [-c] [echo a]\n"),
    ],
)
def test_nc_takes_the_program_that_can_do_it(
    words: list[str], started: str, tmp_path: Path
) -> None:
    assert run_with_fakes("nc", words, tmp_path) == started


def test_nc_asks_for_names_only_where_it_has_one(tmp_path: Path) -> None:
    """Of an address it would ask, with -v, for the name: in vain, and for seconds."""
    assert run_with_fakes("nc", ["-v", "a.test", "22"], tmp_path) == (
        "traditional/nc [-v] [a.test] [22]\n"
    )


def test_what_ends_nc_ends_the_program(tmp_path: Path) -> None:
    """`timeout 5 nc -v …` did not end it, but only the shell before it."""
    run_with_fakes("nc", [], tmp_path, f"echo $$ >{tmp_path}/pid")
    with subprocess.Popen(["sh", tmp_path / "nc", "-v", "192.0.2.7", "23"]) as started:
        assert started.wait(timeout=30) == 0
    assert (tmp_path / "pid").read_text() == f"{started.pid}\n"


def test_nc_serves_one_after_the_other_with_k(tmp_path: Path) -> None:
    """Until it cannot: a port that is taken is not tried for ever."""
    started = run_with_fakes("nc", ["-p", "80", "-lk", "-e", "echo", "a"], tmp_path, "exit 1")
    assert started == "traditional/nc [-n] [-p] [80] [-l] [-c] [echo a]\n" * 5


@pytest.mark.parametrize(
    ("words", "program"),
    [
        (["-c", "1", "192.0.2.7"], "busybox/ping"),
        (["-c", "1", "-M", "do", "-s", "1472", "192.0.2.7"], "iputils/ping"),
    ],
)
def test_ping_takes_the_program_that_can_do_it(
    words: list[str], program: str, tmp_path: Path
) -> None:
    shown = "".join(f" [{word}]" for word in words)
    assert run_with_fakes("ping", words, tmp_path) == f"{program}{shown}\n"


def test_the_dhcp_client_leaves_the_addresses_of_ipv6_alone(tmp_path: Path) -> None:
    """The address of link scope is there before the lease: without it no router is asked."""
    asked = tmp_path / "asked"
    (tmp_path / "ip").write_text(f'#!/bin/sh\necho "$*" >>{asked}\n')
    (tmp_path / "ip").chmod(0o755)
    script = tmp_path / "udhcpc.sh"
    script.write_text(UDHCPC.read_text().replace("/etc/resolv.conf", str(tmp_path / "resolv.conf")))
    lease = {"interface": "eth0", "ip": "192.0.2.9", "mask": "24", "router": "192.0.2.1"}
    for event in ("bound", "renew"):
        subprocess.run(
            ["sh", script, event],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **lease},
            check=True,
        )
    calls = asked.read_text().splitlines()
    assert [call for call in calls if "flush" in call] == ["-4 addr flush dev eth0"] * 2
    assert calls.count("addr add 192.0.2.9/24 dev eth0") == 2
