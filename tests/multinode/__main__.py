"""`make multinode`: OVN's multinode tests in a lab of nine nodes; the lab is destroyed afterwards.

Root. Exit status 0: each test ended as known.yaml says, 1: not so, 2: they could not be run.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from labctl.images.baked import ImageCache
from labctl.state import cache_directory
from tests.multinode import ASSETS, judge, source, suite
from tests.multinode.nodes import Nodes, NodesError

TIMEOUT = 3600.0
"""Seconds for all tests; they take some minutes where the processor is not emulated."""


def main() -> int:
    options = _options()
    work = options.work or cache_directory(roots=True) / "test" / "multinode"
    try:
        return _run(options, work.absolute())
    except (source.SourceError, suite.SuiteError, NodesError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.multinode", description=__doc__)
    parser.add_argument("tests", nargs="*", help="numbers of tests; without: all")
    parser.add_argument("--source", type=Path, help="OVN's source, unpacked, instead of Debian's")
    parser.add_argument("--work", type=Path, help="where to put downloads, testsuite and lab")
    parser.add_argument("--prepare", action="store_true", help="downloads only, no lab")
    parser.add_argument(
        "--kernel",
        choices=("own", "uml"),
        default="own",
        help="this machine's, or User Mode Linux (begun: it boots, no lab was made in it yet)",
    )
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds for all tests")
    return parser.parse_args()


def _run(options: argparse.Namespace, work: Path) -> int:
    work.mkdir(parents=True, exist_ok=True)
    image = ImageCache(cache_directory(roots=True), ASSETS / "provision").build(
        log=work / "image.log", progress=lambda _: None, cancel=lambda: False
    )
    sources = image.file("etc/apt/sources.list").read_text(encoding="utf-8")
    version = source.installed_version(
        image.file("var/lib/dpkg/status").read_text(encoding="utf-8"), "ovn-common"
    )
    tree = options.source or source.source(work, sources, version)
    packages = source.programs(work, sources)
    testsuite = suite.make(tree.absolute(), work / "build")
    if options.prepare:
        return 0
    if options.kernel == "uml":
        return _run_in_uml(options, work, tree)
    nodes = Nodes(work / "lab")
    try:
        nodes.create()
        nodes.prepare(packages)
        datapath = _datapath(nodes)
        environment = suite.stand_ins(work / "build", nodes.inits)
        printed = suite.run(testsuite, options.tests, environment, options.timeout)
    finally:
        nodes.destroy()
    results, known = suite.results(printed), judge.known_failures(datapath)
    passed = sum(result.outcome == "passed" for result in results)
    sys.stdout.write(f"\n{judge.table(results, known)}\n\n")
    sys.stdout.write(f"OVN {version}, datapath in {datapath}: {passed} of {len(results)} passed\n")
    surprises = judge.surprises(results, known)
    for surprise in surprises:
        sys.stdout.write(f"otherwise than known: {surprise}\n")
    return 1 if surprises else 0


def _run_in_uml(options: argparse.Namespace, work: Path, tree: Path) -> int:
    """The same on another kernel; its exit status."""
    lab = work / "lab"
    lab.mkdir(exist_ok=True)
    return subprocess.run(
        [suite.SCRIPTS / "uml.sh", work, work / "build", lab,
         sys.executable, "-m", "tests.multinode", "--work", work,
         "--source", tree.absolute(), "--timeout", str(options.timeout), *options.tests],
        check=False,
    ).returncode  # fmt: skip


def _datapath(nodes: Nodes) -> str:
    kind = nodes.run("ovn-chassis-1", ["ovs-vsctl", "get", "bridge", "br-int", "datapath_type"])
    return judge.USER_SPACE if kind.strip() == b"netdev" else judge.KERNEL


if __name__ == "__main__":
    sys.exit(main())
