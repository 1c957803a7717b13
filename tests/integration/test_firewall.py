"""What the doctor sees of a firewall, with real rules in a network namespace of the test's own."""

import subprocess
from collections.abc import Callable

import pytest

from labctl.providers.nspawn.questions import forward_drops

DOCKER = """
table ip filter {
  chain INPUT { type filter hook input priority filter; policy drop; }
  chain FORWARD { type filter hook forward priority filter; policy drop; jump DOCKER-USER; }
  chain DOCKER-USER { %s return; }
}
table inet other {
  chain forward { type filter hook forward priority 5; policy accept; }
}
"""
ACCEPT = "ip saddr 100.127.0.0/16 counter accept; ip daddr 100.127.0.0/16 counter accept;"


@pytest.mark.parametrize(
    ("rules", "drops"),
    [
        (DOCKER % "", (("ip filter", "FORWARD"),)),
        (DOCKER % ACCEPT, ()),
        (DOCKER % "ip saddr 100.64.0.0/10 counter accept;", (("ip filter", "FORWARD"),)),
        ("", ()),
    ],
    ids=["docker", "accepted", "another network", "none"],
)
def test_a_chain_that_drops_what_is_forwarded_is_seen(
    rules: str, drops: tuple[tuple[str, str], ...], require: Callable[..., None]
) -> None:
    require("nft", "unshare", root=True)
    listed = subprocess.run(
        ["unshare", "--net", "sh", "-c", "nft -f - && nft list ruleset"],
        input=rules, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert forward_drops(listed) == drops
