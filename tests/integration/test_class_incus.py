"""A class on a real Incus cluster: two members in namespaces, machines with SSH, one member lost.

The machines are containers of a tiny image that does what its user data says. Nothing of this
machine's own network or Incus is used; incus_cluster.py says how.
"""

import csv
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.documents import expect_said_by
from tests.integration.incus_cluster import Cluster, packages

pytestmark = [pytest.mark.timeout(600), pytest.mark.long]
LEARNERS = ["amy", "bob", "cat", "dan"]


@pytest.fixture(scope="module")
def cluster(require: Callable[..., None]) -> Iterator[Cluster]:
    require("unshare", "nsenter", "ip", "nft", "dnsmasq", "ssh", "apt-get", root=True)
    with tempfile.TemporaryDirectory(prefix="labctl-incus-", dir="/var/tmp") as directory:
        made = Cluster(Path(directory), packages())
        try:
            made.form()
            made.add_image("tiny")
            made.trust_teacher(made.directory / "incus")
            yield made
        finally:
            made.stop()


class Teacher:
    """A laptop on the cluster's network: a directory with class.yaml, and the client's settings."""

    def __init__(self, cluster: Cluster, directory: Path, **settings: object) -> None:
        self.cluster, self.directory = cluster, directory
        directory.mkdir()
        self.writes(**settings)

    def writes(self, **settings: object) -> None:
        spec = {
            "name": "day", "engine": "incus", "user": "root", "learners": LEARNERS, "minutes": 2,
            "ends": "2099-03-05T17:00+08:00", "size": {"cpus": 1, "memory": 64, "disk": 1},
            "incus": {"remote": "school", "type": "container", "image": "tiny", **settings},
        }  # fmt: skip
        (self.directory / "class.yaml").write_text(yaml.safe_dump(spec))

    def __call__(self, *words: str) -> "subprocess.CompletedProcess[str]":
        done = self.run(sys.executable, "-m", "labctl", "--lang", "en", "class", *words)
        assert "Traceback" not in done.stderr, done.stderr
        assert "labctl itself broke" not in done.stderr, done.stderr
        return done

    def run(self, *argv: str) -> "subprocess.CompletedProcess[str]":
        conf = self.cluster.directory / "incus"
        return subprocess.run(
            [*self.cluster.teacher(), "env", f"INCUS_CONF={conf}", *argv], cwd=self.directory,
            capture_output=True, text=True, check=False, timeout=300, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def status(self) -> Any:
        done = self("status", "--json")
        assert done.returncode == 0, done.stderr
        return expect_said_by(("class", "status"), json.loads(done.stdout))

    def cards(self) -> dict[str, dict[str, str]]:
        assert self("cards").returncode == 0
        with (self.directory / "cards/cards.csv").open(encoding="utf-8", newline="") as table:
            return {row["learner"]: row for row in csv.DictReader(table)}

    def log_in(
        self, card: dict[str, str], key: str, *command: str
    ) -> "subprocess.CompletedProcess[str]":
        """What a learner types who has the card, with the key of any learner."""
        words = card["command"].replace(card["key"], f"cards/{key}.key").split()
        options = ["-F", "none", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes",
                   "-o", "StrictHostKeyChecking=no", "-o", "IdentitiesOnly=yes", "-o",
                   "LogLevel=ERROR"]  # fmt: skip
        return self.run(words[0], *options, *words[1:], *command)


def note(figure: str) -> None:
    """Figures of docs/class.md; pytest's -rP shows them."""
    sys.stdout.write(f"{figure}\n")


def everything(cluster: Cluster) -> dict[str, list[str]]:
    """The names of all that is in Incus."""
    kinds = ("instances", "networks", "network-acls", "profiles", "images", "storage-pools")
    return {kind: json.loads(cluster.on(1, "incus", "query", f"/1.0/{kind}")) for kind in kinds}


def places(cluster: Cluster) -> dict[str, str]:
    """{instance: its member}, by the incus client."""
    listed = cluster.on(1, "incus", "list", "-f", "csv", "-c", "nL")
    return dict(line.split(",") for line in listed.splitlines())


@pytest.fixture
def teacher(cluster: Cluster, tmp_path: Path) -> Iterator[Teacher]:
    made = Teacher(cluster, tmp_path / "laptop")
    yield made
    made("destroy", "--yes")


def test_a_class_of_four_on_two_members_one_of_which_is_lost(
    cluster: Cluster, teacher: Teacher, tmp_path: Path
) -> None:
    cluster.on(1, "incus", "launch", "tiny", "labctl-day-other", "-s", "pool",
               "-c", "user.labctl-class=day-2", "-c", "user.labctl-learner=amy")  # fmt: skip
    before = everything(cluster)
    began = time.monotonic()
    done = teacher("create")
    took = time.monotonic() - began
    assert done.returncode == 0, done.stdout + done.stderr
    calls = re.search(r"4 of 4 machines run; (\d+) calls", done.stdout)
    assert calls, done.stdout
    note(f"create of four: {took:.1f} s, {calls[1]} calls")
    assert int(calls[1]) < 50
    where = {name.rpartition("-")[2]: member for name, member in places(cluster).items()
             if name != "labctl-day-other"}  # fmt: skip
    assert sorted(where) == LEARNERS
    assert set(where.values()) == {"m1", "m2"}, "the cluster chose"

    # Everybody gets in with their own key and nobody's else; the teacher gets in everywhere.
    cards = teacher.cards()
    members = {"m1": "10.77.0.1", "m2": "10.77.0.2"}
    for number, learner in enumerate(LEARNERS, 22001):
        place = f"ssh -i {learner}.key -p {number} root@{members[where[learner]]}"
        assert cards[learner]["command"] == place
        entered = teacher.log_in(cards[learner], learner, "hostname")
        assert (entered.returncode, entered.stdout) == (0, f"labctl-day-{learner}\n"), entered
        other = LEARNERS[LEARNERS.index(learner) - 1]
        refused = teacher.log_in(cards[learner], other, "hostname")
        assert refused.returncode == 255
        assert "Permission denied" in refused.stderr
        assert teacher("ssh", learner, "--", "hostname").stdout == f"labctl-day-{learner}\n"
    assert "the machine of the test is ready: labctl-day-amy" in teacher("log", "amy").stdout
    assert [row["ssh"] for row in teacher.status()["learners"]] == [True] * 4

    # Labels are what Incus keeps, and the end is one of them.
    assert teacher("extend", "2h").returncode == 0
    labels = cluster.on(1, "incus", "config", "get", "labctl-day-amy", "user.labctl-ends")
    assert labels.strip() == "2099-03-05T19:00:00+08:00"

    # A second run changes nothing; a reset keeps address, port and key.
    (first,) = re.findall(r"(\d+) calls", teacher("create").stdout)
    assert int(first) < 12
    was = teacher("ssh", "amy", "--", "touch", "/mine", "&&", "ls", "/mine")
    assert was.stdout == "/mine\n", was.stderr
    assert teacher("reset", "amy").returncode == 0
    assert teacher.cards()["amy"] == {**cards["amy"], "ends": teacher.cards()["amy"]["ends"]}
    entered = teacher.log_in(cards["amy"], "amy", "ls", "/mine")
    assert "No such file" in entered.stderr, entered

    # A power cut: who is on the other member goes on.
    gone = {learner for learner, member in where.items() if member == "m2"}
    cluster.kill(2)
    began = time.monotonic()
    rows = {row["learner"]: row for row in teacher.status()["learners"]}
    note(f"status with a lost member: {time.monotonic() - began:.1f} s")
    for learner, row in rows.items():
        lost = learner in gone
        assert row["state"] == ("stopped" if lost else "running")
        assert row["ssh"] is not lost
        assert ("the cluster member m2 does not answer" in row["reason"]) is lost
    done = teacher("create")
    assert done.returncode == 1
    assert f"{4 - len(gone)} of 4 machines run" in done.stdout
    staying = next(learner for learner in LEARNERS if learner not in gone)
    assert teacher("reset", staying).returncode == 0
    assert teacher.log_in(cards[staying], staying, "hostname").returncode == 0

    # Another laptop has class.yaml and nothing of the class; it does not call it gone.
    elsewhere = Teacher(cluster, tmp_path / "elsewhere")
    done = elsewhere("destroy", "--yes")
    assert done.returncode == 1
    for learner in gone:
        assert f"{learner}: the cluster member m2 does not answer" in done.stdout + done.stderr
    cluster.start(2)
    left = {f"labctl-day-{learner}" for learner in gone} | {"labctl-day-other"}
    assert set(places(cluster)) == left, "what was lost is there again"
    began = time.monotonic()
    done = elsewhere("destroy", "--yes")
    note(f"destroy of {len(gone)}: {time.monotonic() - began:.1f} s")
    assert (done.returncode, "nothing of class day is left" in done.stdout) == (0, True), done
    assert everything(cluster) == before
    assert cluster.on(1, "incus", "exec", "labctl-day-other", "--", "hostname").strip() == (
        "labctl-day-other"
    )
    cluster.on(1, "incus", "delete", "-f", "labctl-day-other")


def test_nothing_of_one_learners_machine_is_reached_from_anothers(
    cluster: Cluster, teacher: Teacher
) -> None:
    assert teacher("create").returncode == 0
    cards = teacher.cards()
    own = {learner: teacher.log_in(cards[learner], learner, "ip", "-4", "-o", "addr", "show",
                                   "eth0").stdout.split()[3].partition("/")[0]
           for learner in LEARNERS}  # fmt: skip
    assert len(set(own.values())) == 4
    for learner in LEARNERS:
        others = [name for name in LEARNERS if name != learner]
        # Straight, by way of the server (a route through it), and at the ports of both servers.
        probes = [f"ping -c 1 -W 1 {own[name]}" for name in others]
        probes += [f"ip route replace {own[name]}/32 via 10.98.0.1 && ping -c 1 -W 1 {own[name]}"
                   for name in others]  # fmt: skip
        probes += [f"echo | nc -w 1 {own[name]} 22 | grep SSH" for name in others]
        probes += [f"echo | nc -w 1 {cards[name]['address']} {cards[name]['port']} | grep SSH"
                   for name in others]  # fmt: skip
        probes += ["echo | nc -w 1 10.77.0.1 8443 && echo open"]
        script = "\n".join(f"({probe}) >/dev/null 2>&1 && echo '{probe}'" for probe in probes)
        reached = teacher.log_in(cards[learner], learner, f"{script}\ntrue")
        assert (reached.returncode, reached.stdout) == (0, ""), f"from {learner}"
        out = teacher.log_in(cards[learner], learner, "ping -c 1 -W 2 10.77.0.100")
        assert out.returncode == 0, "but the world outside is"
    assert teacher("destroy", "--yes").returncode == 0


def test_a_limit_and_a_full_pool_are_told(cluster: Cluster, teacher: Teacher) -> None:
    cluster.on(1, "incus", "config", "set", "cluster.offline_threshold", "11")
    cluster.on(1, "incus", "project", "create", "small", "-c", "limits.instances=2",
               "-c", "features.images=false", "-c", "features.profiles=true")  # fmt: skip
    teacher.writes(project="small")
    done = teacher("create")
    assert done.returncode == 1
    assert "instances: 0 of 2 are used, 4 more are needed" in done.stdout + done.stderr
    assert json.loads(cluster.on(1, "incus", "query", "/1.0/instances?project=small")) == []
    cluster.on(1, "incus", "project", "delete", "small")

    for target in ("m1", "m2"):
        number = int(target[1])
        path = cluster.directory / target / "tight"
        path.mkdir()
        cluster.on(number, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path))
        cluster.on(1, "incus", "storage", "create", "tight", "dir", f"source={path}", "--target",
                   target)  # fmt: skip
    cluster.on(1, "incus", "storage", "create", "tight", "dir")
    teacher.writes(pool="tight")
    done = teacher("create")
    assert done.returncode == 1
    assert "0 of 4 machines run" in done.stdout + done.stderr
    assert "the pool tight is full: " in done.stdout + done.stderr, done.stdout + done.stderr
    teacher.writes()
    assert teacher("create").returncode == 0, "the failed ones are replaced"
    assert teacher("destroy", "--yes").returncode == 0


def test_a_create_that_is_killed_is_gone_on_with(cluster: Cluster, teacher: Teacher) -> None:
    before = everything(cluster)
    for seconds in (1.2, 1.8, 2.4, 3.0):
        process = subprocess.Popen(
            [*cluster.teacher(), "env", f"INCUS_CONF={cluster.directory}/incus", sys.executable,
             "-m", "labctl", "class", "create"],
            cwd=teacher.directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(seconds)
        process.kill()
        process.wait()
        done = teacher("create")
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(places(cluster)) == 4
        assert teacher("destroy", "--yes").returncode == 0
        assert everything(cluster) == before


def test_the_servers_certificate_is_the_one_that_was_trusted(
    cluster: Cluster, teacher: Teacher
) -> None:
    pinned = cluster.directory / "incus/servercerts/school.crt"
    right = pinned.read_bytes()
    try:
        pinned.write_bytes((cluster.directory / "incus/client.crt").read_bytes())
        done = teacher("status")
    finally:
        pinned.write_bytes(right)
    assert done.returncode == 2
    assert "Fingerprints did not match" in done.stderr, done.stderr
