"""Where a lab's secrets are, and where they are not: command lines, journals, logs, other labs."""

import base64
import gzip
import json
import re
from pathlib import Path

import pytest

from tests.e2e.cli import Cli, on

NODES = ("network-controller", "compute-01")
COOKIE = "var/lib/rabbitmq/.erlang.cookie"


@pytest.fixture(scope="module")
def lab(shared_lab: Cli) -> Cli:
    return shared_lab


def root(lab: Cli, node: str) -> Path:
    return lab.directory / ".labctl/nodes" / node / "root"


def secrets(lab: Cli) -> dict[str, bytes]:
    """Everything that opens something in this lab, by a name."""
    found = {
        name: str(value).encode()
        for name, value in json.loads((lab.directory / ".labctl/secrets.json").read_text()).items()
    }
    controller = root(lab, "network-controller")
    found["cookie"] = (controller / COOKIE).read_bytes()
    for key in controller.glob("etc/keystone/*-keys/[01]"):
        found[f"{key.parent.name}/{key.name}"] = key.read_bytes()
    assert len(found) == 10
    assert all(len(value) >= 32 for value in found.values())
    return found


def test_no_secret_was_on_a_command_line_while_the_lab_was_created(lab: Cli) -> None:
    seen = lab.command_lines
    assert any(b"keystone-manage\0bootstrap" in line for line in seen), "the watcher saw the nodes"
    for name, value in secrets(lab).items():
        assert not [line for line in seen if value in line], name


CRASH = """
before=$(systemctl show --property=MainPID --value rabbitmq-server)
pkill --signal USR1 beam.smp  # "write a crash dump and end", to Erlang
for _ in {1..90}; do
    sleep 1
    now=$(systemctl show --property=MainPID --value rabbitmq-server)
    if [ "$now" != "$before" ] && systemctl --quiet is-active rabbitmq-server; then exit; fi
done
exit 1
"""


# Calls that were under way when it crashed wait a minute for their answer: meanwhile Nova takes a
# compute for down, and the tests that come after this one would find no host.
AFTERWARDS = {
    "network-controller": "systemctl restart nova-conductor nova-scheduler",
    "compute-01": "systemctl restart nova-compute neutron-ovn-metadata-agent",
}


@pytest.mark.long
def test_a_broker_that_crashes_leaves_no_dump_with_its_cookie(lab: Cli) -> None:
    on(lab, "network-controller", CRASH)
    for node, command in AFTERWARDS.items():
        on(lab, node, command)
    assert not [*(root(lab, "network-controller") / "var").rglob("*crash.dump")]


def test_no_secret_is_in_a_journal_or_a_log(lab: Cli) -> None:
    for node in NODES:
        # Packed: a service's traceback in it is none of labctl's.
        packed = on(lab, node, "journalctl --all --output=export --no-pager | gzip | base64")
        journal = gzip.decompress(base64.b64decode(packed))
        assert journal.count(b"MESSAGE=") > 100
        logs = [path for path in (root(lab, node) / "var/log").rglob("*") if path.is_file()]
        assert len(logs) > 3
        for name, value in secrets(lab).items():
            assert value not in journal, (node, name)
            assert not [path for path in logs if value in path.read_bytes()], (node, name)
    state = lab.directory / ".labctl"
    written = [*state.glob("logs/**/*.log"), state / "events.jsonl"]
    assert len(written) > 20
    for name, value in secrets(lab).items():
        assert not [path for path in written if value in path.read_bytes()], name


def test_journals_are_in_memory_and_small(lab: Cli) -> None:
    for node in NODES:
        on_disk = root(lab, node) / "var/log/journal"
        assert not [path for path in on_disk.rglob("*") if path.is_file()]
        assert "Runtime Journal" in on(lab, node, "journalctl --no-pager -u systemd-journald")


def test_only_the_controller_itself_reaches_erlang(lab: Cli) -> None:
    """Whoever reaches Erlang's distribution with the cookie can run any command there."""
    listening = on(lab, "network-controller", "ss -tlnH")
    for port in (4369, 25672):
        assert re.findall(rf"(\S+):{port}\b", listening) == ["127.0.0.1"]
    # RabbitMQ's own tools go on working there.
    assert "openstack" in on(lab, "network-controller", "rabbitmqctl --quiet list_users")
    # Elsewhere nobody answers; the port of the bus itself does.
    for port, answers in ((4369, False), (25672, False), (5672, True)):
        probe = f"timeout 3 bash -c 'exec 3<>/dev/tcp/192.168.33.10/{port}' && echo open || true"
        assert ("open" in on(lab, "compute-01", probe)) == answers, port
