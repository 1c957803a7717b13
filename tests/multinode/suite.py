"""OVN's testsuite: made of its Autotest files without building OVN, run, and read.

What `configure` and `make` would write is written here: the testsuite by autom4te (the package
autoconf), and the two files that a testsuite reads first, atconfig and atlocal.
"""

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).parent
CENTRAL = "ovn-central-az1-1"
_PACKAGE = """m4_define([AT_PACKAGE_NAME],      [ovn])
m4_define([AT_PACKAGE_TARNAME],   [ovn])
m4_define([AT_PACKAGE_VERSION],   [{version}])
m4_define([AT_PACKAGE_STRING],    [ovn {version}])
m4_define([AT_PACKAGE_BUGREPORT], [bugs of labctl's run are labctl's])
"""
_ATCONFIG = """at_testdir='tests'
abs_builddir='{build}/tests'
at_srcdir='{tree}/tests'
abs_srcdir='{tree}/tests'
at_top_srcdir='{tree}'
abs_top_srcdir='{tree}'
at_top_build_prefix='{build}/'
abs_top_builddir='{build}'
at_top_builddir='{build}'
ovs_srcdir='{tree}'
AUTOTEST_PATH='bin'
SHELL=${{CONFIG_SHELL-'/bin/bash'}}
"""
_AS_PRINTED = re.compile(
    r"^ *(\d+): (.*?) +(ok|FAILED|skipped|expected failure|UNEXPECTED PASS)\b(.*)$", re.MULTILINE
)


@dataclass(frozen=True)
class Result:
    """How one test ended."""

    number: int
    name: str
    outcome: str
    """`passed`, `failed` or `skipped`."""
    where: str = ""
    """Of a failed test: the file and line that it failed at, `multinode.at:40`."""


class SuiteError(Exception):
    """The testsuite could not be made or run."""


def make(tree: Path, build: Path) -> Path:
    """The testsuite of an unpacked source, ready to run in `build`. Raises SuiteError."""
    version = _version((tree / "configure.ac").read_text(encoding="utf-8"))
    for directory in (build / "tests", build / "bin"):
        directory.mkdir(parents=True, exist_ok=True)
    (build / "package.m4").write_text(_PACKAGE.format(version=version), encoding="utf-8")
    suite = build / "tests" / "multinode-testsuite"
    _autom4te(tree, build, suite)
    (build / "tests/atconfig").write_text(_ATCONFIG.format(build=build, tree=tree))
    template = (tree / "tests/atlocal.in").read_text(encoding="utf-8")
    (build / "tests/atlocal").write_text(atlocal(template), encoding="utf-8")
    return suite


def _version(configure: str) -> str:
    """The version that a configure.ac names. Raises SuiteError."""
    if not (named := re.search(r"^AC_INIT\(ovn, ([\w.]+),", configure, re.MULTILINE)):
        raise SuiteError("configure.ac names no version of ovn: is this OVN's source?")
    return named[1]


def _autom4te(tree: Path, build: Path, suite: Path) -> None:
    try:
        done = subprocess.run(
            ["autom4te", "--language=autotest", f"--include={build}", f"--include={tree}",
             f"--output={suite}", "tests/multinode-testsuite.at"],
            cwd=build, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise SuiteError("autom4te is missing: install the package autoconf") from error
    if done.returncode != 0:
        raise SuiteError(f"autom4te: {done.stderr.strip()}")


def atlocal(template: str) -> str:
    """atlocal of atlocal.in: what `configure` would fill in, as far as these tests need it."""
    values = {"PYTHON3": sys.executable, "EGREP": "grep -E"}
    return re.sub(r"@(\w+)@", lambda found: values.get(found[1], "no"), template)


def stand_ins(build: Path, nodes: Mapping[str, int]) -> dict[str, str]:
    """podman, and the programs that the testsuite is about, in `build`/bin; the environment.

    `nodes`: {name: process ID of its init}. The testsuite asks ovs-vswitchd and ovs-vsctl for their
    versions before it starts: those of a node answer.
    """
    table = build / "nodes"
    table.write_text("".join(f"{name} {pid}\n" for name, pid in nodes.items()), encoding="utf-8")
    commands = {
        "podman": f'exec sh "{SCRIPTS / "podman.sh"}" "$@"',
        **{
            program: f'exec podman exec {CENTRAL} {program} "$@"'
            for program in ("ovs-vswitchd", "ovs-vsctl")
        },
    }
    for name, command in commands.items():
        file = build / "bin" / name
        file.write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
        file.chmod(0o755)
    return {"MULTINODE_NODES": str(table)}


def run(suite: Path, tests: Sequence[str], environment: Mapping[str, str], timeout: float) -> str:
    """Run the testsuite, all tests or those with these numbers; what it printed, which is shown.

    `timeout`: seconds for all of it. Raises SuiteError.
    """
    build = suite.parents[1]
    variables = [f"{name}={value}" for name, value in environment.items()]
    path = f"PATH={build / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    printed = ""
    with subprocess.Popen(
        ["timeout", "--kill-after=10", str(timeout), "env", path, *variables,
         "/bin/bash", suite, "-C", build / "tests", "-j1", *tests],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace",
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            printed += line
    if not results(printed):
        raise SuiteError(f"no test ran (exit status {process.returncode})")
    return printed


def results(printed: str) -> list[Result]:
    """What the testsuite printed, a result for each test that ended."""
    outcomes = {"ok": "passed", "FAILED": "failed", "skipped": "skipped"}
    return [
        Result(
            int(number),
            name,
            outcomes.get(outcome, "failed"),
            (re.search(r"\(([\w.-]+:\d+)\)", rest) or ["", ""])[1] if outcome == "FAILED" else "",
        )
        for number, name, outcome, rest in _AS_PRINTED.findall(printed)
    ]
