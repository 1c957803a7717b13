"""What the engine openstack decides: who reaches whom, what fits, what is tried again."""

from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from openstack.exceptions import HttpException

from labctl.classroom.labels import belongs, description, learner_in, learner_of, metadata
from labctl.classroom.openstack.quotas import Quota, require
from labctl.classroom.openstack.retries import retried
from labctl.classroom.openstack.shared import rules
from labctl.errors import LabError
from labctl.i18n import set_language

MACHINES = IPv4Network("10.99.0.0/22")
FLOATING = IPv4Network("203.0.113.0/24")


def allowed(found: list[dict[str, Any]], direction: str, address: str | IPv4Address) -> bool:
    return any(
        rule["direction"] == direction
        and IPv4Address(str(address)) in IPv4Network(rule["remote_ip_prefix"])
        for rule in found
    )


@given(address=st.ip_addresses(v=4))
def test_everything_is_reached_but_the_machines_of_the_class(address: IPv4Address) -> None:
    found = rules([], [MACHINES], [FLOATING])
    assert allowed(found, "egress", address) == (
        address not in MACHINES and address not in FLOATING
    )
    assert allowed(found, "ingress", address) == (address not in MACHINES)


def test_learners_reach_each_other_by_neither_address() -> None:
    found = rules([], [MACHINES], [FLOATING])
    for other in ("10.99.0.5", "10.99.3.254", "203.0.113.77"):
        assert not allowed(found, "egress", other)
    assert not allowed(found, "ingress", "10.99.0.5")
    for elsewhere in ("8.8.8.8", "169.254.169.254", "10.99.4.1", "192.0.2.1"):
        assert allowed(found, "egress", elsewhere)
        assert allowed(found, "ingress", elsewhere)
    assert {rule["port_range_min"] for rule in found if rule["direction"] == "ingress"} == {22}
    assert len(found) < 90, "Neutron's default quota of rules is 100"


def test_a_network_that_may_reach_them_is_let_in_but_for_the_machines_in_it() -> None:
    found = rules([IPv4Network("10.0.0.0/8")], [MACHINES], [])
    assert allowed(found, "ingress", "10.1.2.3")
    assert not allowed(found, "ingress", "10.99.1.1")
    assert not allowed(found, "ingress", "8.8.8.8")


@pytest.mark.parametrize(
    ("text", "ours", "learner"),
    [
        (description("day"), True, ""),
        (description("day", "amy"), True, "amy"),
        (description("day-2"), False, ""),
        ("labctl-class=day and more", False, ""),
        ("", False, ""),
        (None, False, ""),
    ],
)
def test_a_label_is_that_of_one_class(text: str | None, ours: bool, learner: str) -> None:
    assert belongs(text, "day") == ours
    assert learner_of(text or "") == learner


def test_a_server_is_known_by_both_parts_of_its_label() -> None:
    assert learner_in(metadata("day", "amy", None), "day") == "amy"
    assert learner_in(metadata("day", "amy", None), "other") is None
    assert learner_in({"labctl-class": "day"}, "day") is None
    assert learner_in({}, "day") is None


def test_every_quota_that_is_too_small_is_told_with_its_figures() -> None:
    set_language("en")
    quotas = {
        "instances": Quota(10, 4), "cores": Quota(-1, 4), "ram": Quota(51200, 0),
        "routers": Quota(10, 10),
    }  # fmt: skip
    needed = {"instances": 30, "cores": 60, "ram": 122880, "routers": 0}
    with pytest.raises(LabError) as error:
        require(quotas, needed, 30)
    assert error.value.message == (
        "the cloud's quota is too small for 30 more machines: "
        "instances: 4 of 10 are used, 30 more are needed; "
        "memory in MiB: 0 of 51200 are used, 122880 more are needed"
    )
    require(quotas, {"instances": 6, "ram": 51200}, 6)


def answer(code: int, **headers: str) -> HttpException:
    response = requests.Response()
    response.status_code = code
    response.headers.update(headers)
    return HttpException(f"answer {code}", response=response)


class Cloud:
    """Answers with these errors, then with what was made."""

    def __init__(self, *errors: Exception, made_at: int = 0) -> None:
        self.errors = list(errors)
        self.tries = 0
        self.made: list[int] = []
        self.made_at = made_at
        self.waits: list[float] = []

    def make(self) -> int:
        self.tries += 1
        if self.tries == self.made_at or not self.errors:
            self.made.append(self.tries)
        if self.errors:
            raise self.errors.pop(0)
        return self.tries

    def find(self) -> int | None:
        return self.made[0] if self.made else None


def test_a_busy_or_broken_server_is_asked_again_later_and_later() -> None:
    cloud = Cloud(answer(500), answer(429), answer(503))
    assert retried(cloud.make, sleep=cloud.waits.append) == 4
    assert cloud.waits == sorted(cloud.waits)
    assert 4 < sum(cloud.waits) < 10


def test_the_server_says_how_long() -> None:
    cloud = Cloud(answer(429, **{"Retry-After": "7"}))
    retried(cloud.make, sleep=cloud.waits.append)
    assert cloud.waits == [7.0]


def test_what_a_broken_answer_has_made_is_found_and_not_made_twice() -> None:
    cloud = Cloud(answer(500), made_at=1)
    assert retried(cloud.make, cloud.find, sleep=cloud.waits.append) == 1
    assert cloud.made == [1]


def test_what_cannot_become_better_is_told_at_once() -> None:
    set_language("en")
    cloud = Cloud(answer(403))
    with pytest.raises(LabError, match="the cloud answered 403"):
        retried(cloud.make, sleep=cloud.waits.append)
    assert cloud.waits == []


def test_a_server_that_stays_broken_is_given_up_after_half_a_minute() -> None:
    cloud = Cloud(*[answer(500)] * 9)
    with pytest.raises(LabError):
        retried(cloud.make, sleep=cloud.waits.append)
    assert cloud.tries == 6
    assert 20 < sum(cloud.waits) < 40
