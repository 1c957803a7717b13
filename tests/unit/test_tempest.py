"""tests/tempest: what Tempest is told of a lab, what is run, what is made of its results."""

import json
import re
import tomllib
from configparser import ConfigParser
from pathlib import Path
from typing import get_args

import pytest

from labctl.spec.load import parse_spec
from labctl.spec.model import ServicePlugin
from tests.tempest.results import (
    NOBODY,
    Result,
    Verdict,
    figures,
    read_junit,
    read_verdicts,
    tables,
    verdict_of,
)
from tests.tempest.run import BEGIN, DOCUMENT, END, FIGURES
from tests.tempest.selections import SELECTIONS, WHOLE, Selection
from tests.tempest.settings import LabFacts, tempest_conf

TESTS = Path(__file__).parents[1]
HERE = TESTS / "tempest"
WHOSE = {"lab", "guest", "machine", "Neutron", "Nova", "Tempest", "not asked", NOBODY}
FACTS = LabFacts(
    keystone="http://192.168.33.10:5000/v3",
    password="a$b%c",
    external_network="ext_n2",
    external_network_id="e1",
    image_id="i1",
    other_image_id="i2",
    flavor_id="f1",
    other_flavor_id="f2",
    user="cirros",
    computes=2,
    extensions=("qos", "router"),
    physical_networks=("physnet1",),
    internet_host="8.8.8.8",
)


def read_conf(facts: LabFacts) -> ConfigParser:
    parser = ConfigParser(interpolation=None, default_section="")
    parser.read_string(tempest_conf(facts, Path("/work"), Path("/work/instance.qcow2")))
    return parser


def test_tempest_is_told_what_the_lab_has() -> None:
    conf = read_conf(FACTS)
    assert conf["identity"]["uri_v3"] == FACTS.keystone
    assert conf["auth"]["admin_password"] == "a$$b%c", "oslo.config substitutes $name"
    assert conf["compute"]["image_ref"] == "i1"
    assert conf["compute"]["flavor_ref_alt"] == "f2"
    assert conf["compute"]["min_compute_nodes"] == "2"
    assert conf["network"]["public_network_id"] == "e1"
    assert conf["network-feature-enabled"]["api_extensions"] == "qos,router"
    assert conf["service_available"]["cinder"] == "false"
    assert conf["service_available"]["neutron"] == "true"
    plugin = conf["neutron_plugin_options"]
    assert plugin["available_type_drivers"] == "local,flat,vlan,geneve"
    networks = json.loads(plugin["test_mtu_networks"])
    assert [network["provider:network_type"] for network in networks] == ["geneve", "geneve"]


def test_the_scheduler_has_the_filters_that_tempest_is_told_of() -> None:
    conf = ConfigParser(interpolation=None, default_section="")
    conf.read(TESTS.parent / "provision/files/nova-controller.conf")
    wanted = read_conf(FACTS)["compute-feature-enabled"]["scheduler_enabled_filters"]
    assert conf["filter_scheduler"]["enabled_filters"] == wanted


def chosen(selection: Selection, tests: list[str]) -> list[str]:
    return [
        test
        for test in tests
        if re.search(selection.regex, test)
        and not any(re.search(pattern, test) for pattern in selection.exclude)
    ]


def test_selections_have_what_their_names_promise() -> None:
    networks = "tempest.api.network.test_networks.NetworksTest.test_show_network[id-1,smoke]"
    slow = "tempest.api.compute.servers.test_create.X.test_a[id-2,slow]"
    images = "tempest.api.image.v2.test_images.X.test_b[id-3,smoke]"
    basic = "tempest.scenario.test_network_basic_ops.X.test_c[compute,id-4]"
    vpn = "neutron_tempest_plugin.vpnaas.api.test_vpnaas.X.test_d[id-5,smoke]"
    qos = "neutron_tempest_plugin.api.test_qos.QosTestJSON.test_e[id-6]"
    trunk = "neutron_tempest_plugin.scenario.test_trunk.TrunkTest.test_subport_connectivity[id-7]"
    tests = [networks, slow, images, basic, vpn, qos, trunk]
    assert {name: chosen(selection, tests) for name, selection in SELECTIONS.items()} == {
        "smoke": [networks, images],
        "integrated-network": [networks],
        "integrated-network-scenario": [basic],
        "plugin-api": [qos],
        "plugin-scenario": [trunk],
        "api-network": [networks],
        "short": [networks, trunk],
    }
    assert set(WHOLE) < set(SELECTIONS)


def test_a_class_that_is_skipped_counts_as_its_tests() -> None:
    text = (TESTS / "golden/tempest/results.xml").read_text("utf-8")
    listed = [
        "toy.Broken.test_c[id-1]",
        "toy.Late.test_d[id-2]",
        "toy.Skipped.test_a[id-3]",
        "toy.Skipped.test_b[id-4]",
    ]
    found = [(result.test, result.outcome, result.reason) for result in read_junit(text, listed)]
    dvr = "Skipped because network extension: dvr is not enabled"
    differ = "testtools.matchers._impl.MismatchError: 1 != 2: two addresses | differ"
    late = "RuntimeError: Request timed out Details: (Good:test_raises) nothing"
    assert found == [
        ("toy.Broken.test_c", "failed", "RuntimeError: no quota"),
        ("toy.Good.test_fails", "failed", differ),
        ("toy.Good.test_passes", "passed", ""),
        ("toy.Good.test_raises", "failed", late),
        ("toy.Good.test_skips", "skipped", "no Cinder here"),
        ("toy.Late.test_d", "passed", ""),
        ("tearDownClass (toy.Late)", "failed", "RuntimeError: network in use"),
        ("toy.Skipped.test_a", "skipped", dvr),
        ("toy.Skipped.test_b", "skipped", dvr),
    ]


def test_the_first_verdict_that_fits_counts() -> None:
    verdicts = [
        Verdict("Neutron", "no DVR", reason="extension: dvr"),
        Verdict("lab", "the rest", test=r"^toy\."),
    ]
    dvr = Result("toy.A.test_a", "skipped", 0, "network extension: dvr is not enabled")
    other = Result("toy.A.test_b", "failed", 1, "1 != 2")
    stranger = Result("elsewhere.B.test_c", "failed", 1, "1 != 2")
    found = [verdict_of(result, verdicts).whose for result in (dvr, other, stranger)]
    assert found == ["Neutron", "lab", NOBODY]


def test_the_tables_name_what_did_not_run_and_whose_fault_it_is() -> None:
    results = [
        Result("a.b.Good.test_1", "passed", 1),
        Result("a.b.Good.test_2", "failed", 1, "1 != 2 | 3"),
        Result("a.b.Dvr.test_3", "skipped", 0, "network extension: dvr is not enabled"),
        Result("a.b.Dvr.test_4", "skipped", 0, "network extension: dvr is not enabled"),
    ]
    run = figures(results, [Verdict("Neutron", "no DVR", "dvr")], selected=6, minutes=12.345)
    lines = tables({"smoke": run}, {"smoke": "the least"}).splitlines()
    assert "| `smoke`: the least | 6 | 1 | 1 | 2 | 2 | 12.3 |" in lines
    assert rf"| {NOBODY} | 1 != 2 \| 3 | 1 | `Good.test_2` |" in lines
    assert "| Neutron | no DVR | 2 | `Dvr.test_3`, `Dvr.test_4` |" in lines


def test_every_verdict_can_be_read() -> None:
    verdicts = read_verdicts((HERE / "verdicts.toml").read_text("utf-8"))
    assert {verdict.whose for verdict in verdicts} <= WHOSE
    assert all(verdict.why and (verdict.reason or verdict.test) for verdict in verdicts)
    for verdict in verdicts:
        re.compile(verdict.reason)
        re.compile(verdict.test)


def test_the_document_has_the_figures_of_the_last_run() -> None:
    kept = json.loads(FIGURES.read_text("utf-8"))
    what = {name: selection.what for name, selection in SELECTIONS.items()}
    _, _, rest = DOCUMENT.read_text("utf-8").partition(BEGIN)
    assert rest.partition(END)[0].strip() == tables(kept, what).strip(), (
        "run `document()` of run.py"
    )
    assert {group["whose"] for run in kept.values() for group in run["not_passed"]} <= WHOSE


def test_the_lab_has_what_the_tests_are_about() -> None:
    spec = parse_spec((HERE / "lab.yaml").read_bytes(), "lab.yaml")
    assert set(spec.neutron.service_plugins) == set(get_args(ServicePlugin))
    assert len(spec.images) == len(spec.flavors) == 1


def test_versions_are_pinned_and_outside_the_projects_own() -> None:
    lines = (HERE / "requirements.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [line for line in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    assert {"tempest", "neutron-tempest-plugin"} <= {line.partition("==")[0] for line in pins}
    project = tomllib.loads((TESTS.parent / "pyproject.toml").read_text("utf-8"))
    groups = json.dumps([project["project"]["dependencies"], project["dependency-groups"]])
    assert "tempest" not in groups


@pytest.mark.parametrize("name", WHOLE)
def test_the_whole_has_no_more_than_two_tests_at_once(name: str) -> None:
    """Each instance is emulated."""
    assert SELECTIONS[name].workers <= 2
