"""scripts/record-openstack.py: what it makes of a lab's answers, and what it never writes."""

import importlib.util
import json
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from labctl.probes import ProbeContext
from tests.unit.access.test_cloud import API, connection, pytestmark  # noqa: F401  # it counts here too
from tests.unit.fakes import FakeGuest, topology

SCRIPT = Path(__file__).parents[2] / "scripts/record-openstack.py"
LOGIN = "POST http://192.168.33.10:5000/v3/auth/tokens"
SERVERS = "GET http://192.168.33.10:8774/v2.1/servers/detail"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("record_openstack", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def record(script: ModuleType, answers: dict[str, Any], *secrets: str) -> Any:
    cloud, _ = connection(answers, "of-this-lab")
    return script.record(ProbeContext(topology(), lambda: cloud, lambda name: FakeGuest()), secrets)


def test_the_recordings_are_what_it_would_write(script: ModuleType) -> None:
    text = API.read_text(encoding="utf-8")
    made = record(script, json.loads(text))
    expected = json.loads(text)
    for answers in (made, expected):  # the times of a token are those of the moment
        for name in ("issued_at", "expires_at"):
            assert answers[LOGIN]["body"]["token"].pop(name)
    assert made == expected
    assert list(made) == list(expected)


def test_no_secret_is_written(script: ModuleType) -> None:
    answers = json.loads(API.read_text(encoding="utf-8"))
    honest = deepcopy(answers)
    (server,) = answers[SERVERS]["body"]["servers"]
    server["adminPass"] = "chosen-by-nova"
    server["user_data"] = "I2Nsb3VkLWNvbmZpZwo="
    server["description"] = "log in with of-this-lab, or gAAAAABn-a_b=, or token-of-the-test"
    server["metadata"] = {"keys": ["ssh-ed25519 AAAAC3Nza me@host", {"private_key": "abc"}]}
    made = record(script, answers, "of-this-lab")
    (said,) = made[SERVERS]["body"]["servers"]
    assert said["adminPass"] == said["user_data"] == "removed"
    assert said["description"] == "log in with removed, or removed, or removed"
    assert said["metadata"] == {"keys": ["removed", {"private_key": "removed"}]}
    # And nothing else is: what says when a password expires is none.
    assert made[LOGIN]["body"]["token"]["methods"] == ["password"]
    assert made[LOGIN]["body"]["token"]["user"] == honest[LOGIN]["body"]["token"]["user"]
    (before,) = honest[SERVERS]["body"]["servers"]
    untouched = before.keys() - {"description", "metadata", "user_data"}
    assert {key: said[key] for key in untouched} == {key: before[key] for key in untouched}
