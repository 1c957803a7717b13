"""OVN's testsuite: what is written for it, and what is read of what it prints."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from labctl.spec.load import load_spec
from tests.multinode import judge, source, suite
from tests.multinode.suite import Result

PRINTED = """## ----------------------- ##
## ovn 25.03.0 test suite. ##
## ----------------------- ##

ovn multinode system tests using ovn-fake-multinode

  1: ovn multinode basic test                        ok
  2: ovn multinode pmtu - distributed router - geneve FAILED (multinode.at:99)
  9: ovn multinode NAT on a provider network with no localnet ports ok
 16: Migration of container ports                    skipped (multinode.at:2780)

## ------------- ##
## Test results. ##
## ------------- ##

ERROR: 3 tests were run,
1 failed unexpectedly.
"""
ROOT = Path(__file__).parents[3]
RESULTS = [
    Result(1, "ovn multinode basic test", "passed"),
    Result(2, "ovn multinode pmtu - distributed router - geneve", "failed", "multinode.at:99"),
    Result(9, "ovn multinode NAT on a provider network with no localnet ports", "passed"),
    Result(16, "Migration of container ports", "skipped"),
]


def test_what_the_testsuite_prints_is_read() -> None:
    assert suite.results(PRINTED) == RESULTS


def test_each_test_that_ends_otherwise_than_is_known_is_told() -> None:
    assert judge.surprises(RESULTS, {2: "no Geneve device", 16: "no VLANs"}) == []
    assert judge.surprises(RESULTS, {9: "something", 16: "no VLANs"}) == [
        "2 (ovn multinode pmtu - distributed router - geneve) failed at multinode.at:99",
        "9 (ovn multinode NAT on a provider network with no localnet ports) passed, although it is"
        " known for: something",
    ]


def test_the_table_has_a_row_for_each_test_with_the_reason() -> None:
    rows = judge.table(RESULTS, {2: "no Geneve device"}).splitlines()
    assert len(rows) == 2 + len(RESULTS)
    assert rows[3].endswith("geneve | failed | no Geneve device |")


def test_what_is_known_of_the_tests_is_in_the_document() -> None:
    document = (ROOT / "docs/tests-of-others.md").read_text(encoding="utf-8")
    section = document.partition("## OVN's multinode tests")[2].partition("\n## ")[0]
    shown = dict(re.findall(r"^\| (\d+) \| [^|]* \| ([\w ]+) \|", section, re.MULTILINE))
    assert [int(number) for number in shown] == list(range(1, 17))
    passing = {int(number) for number, outcome in shown.items() if outcome == "passed"}
    assert passing
    assert not passing & set(judge.known_failures(judge.USER_SPACE))


def test_the_nodes_are_those_that_the_tests_name() -> None:
    spec = load_spec(suite.SCRIPTS / "lab.yaml")
    numbered = [f"{kind}-{number}" for kind in ("ovn-gw", "ovn-chassis") for number in range(1, 5)]
    assert list(spec.nodes) == [suite.CENTRAL, *numbered]
    # What the tests have by heart: the network of the tunnels, and where the databases are.
    assert str(spec.private.subnet) == "170.168.0.0/16"
    assert str(spec.nodes[suite.CENTRAL].eth1) == "170.168.0.2"


def test_atlocal_is_filled_in() -> None:
    written = suite.atlocal("PYTHON3='@PYTHON3@'\nHAVE_OPENSSL='@HAVE_OPENSSL@'\nmail=a@b.c\n")
    assert re.fullmatch(r"PYTHON3='/\S+'\nHAVE_OPENSSL='no'\nmail=a@b\.c\n", written)


def test_the_testsuite_asks_a_node_for_its_versions(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    environment = suite.stand_ins(tmp_path, {suite.CENTRAL: 4711})
    assert Path(environment["MULTINODE_NODES"]).read_text() == f"{suite.CENTRAL} 4711\n"
    podman = tmp_path / "bin/podman"
    podman.write_text('#!/bin/sh\nprintf "<%s>" "$@"\n')
    asked = subprocess.run(
        [tmp_path / "bin/ovs-vsctl", "--version"],
        env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert asked.stdout == f"<exec><{suite.CENTRAL}><ovs-vsctl><--version>"


SOURCES = "deb http://mirror.example/debian trixie main\n# a comment\n"
STATUS = """Package: ovn-common-dbg
Status: install ok installed
Version: 1

Package: ovn-common
Status: install ok installed
Version: 25.03.0-1
Description: OVN
 Version: 2 it is not

Package: ovn-ic
Status: deinstall ok config-files
Version: 3
"""


def test_the_source_is_of_the_version_in_the_nodes() -> None:
    assert source.installed_version(STATUS, "ovn-common") == "25.03.0-1"
    for missing in ("ovn-ic", "ovn"):
        with pytest.raises(source.SourceError, match=missing):
            source.installed_version(STATUS, missing)


def test_a_mirror_of_the_nodes_is_asked_for_sources_too() -> None:
    assert source.with_sources(SOURCES).splitlines() == [
        "deb http://mirror.example/debian trixie main",
        "deb-src http://mirror.example/debian trixie main",
    ]


def test_known_failures_have_reasons() -> None:
    known = yaml.safe_load((suite.SCRIPTS / "known.yaml").read_text(encoding="utf-8"))
    assert set(known) == {judge.KERNEL, judge.USER_SPACE}
    for datapath in known:
        for number, reason in judge.known_failures(datapath).items():
            assert 1 <= number <= 16
            assert len(reason) > 20
