"""Looks at the host and fills HostFacts. Changes nothing, needs no root, asks no network.

`look` reads files and is instant. `ask` calls the programs of one provider, all at once, each with
a time limit; a program that is missing, broken or slow is a fact like any other.
"""

import os
import platform
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

from labctl.errors import LabError
from labctl.host import files
from labctl.host.facts import Disk, Family, HostFacts, Route
from labctl.host.files import disk_of, mounts
from labctl.host.questions import Question
from labctl.providers.kvm import kvm_works
from labctl.providers.registry import entries, find
from labctl.run import Completed, run

SECONDS = 10.0
"""How long a program may take to answer; Vagrant, in Ruby, takes one or two."""


class Survey:
    """This host, for a lab in `directory` whose images are in `cache`."""

    def __init__(
        self, directory: Path, cache: Path, env: Mapping[str, str], ports: Iterable[int] = ()
    ) -> None:
        """`ports` are those to look at, of 127.0.0.1. Nothing is looked at yet."""
        self._directory = directory
        self._cache = cache
        self.env = env
        self._ports = frozenset(ports)

    # -- what files tell -------------------------------------------------------------------------
    def look(self) -> HostFacts:
        """What is to be known without calling a program (on a Mac, without calling a slow one)."""
        family = self._family()
        linux = family in ("linux", "wsl")
        total, available = files.memory() if linux else self._mac_memory()
        facts = HostFacts(
            family=family,
            machine=platform.machine(),
            kernel=platform.release(),
            distribution=files.distribution(),
            root=os.geteuid() == 0,
            sudo=self.which("sudo") is not None and not self.env.get("LABCTL_NO_SUDO"),
            containers_allowed=files.capable(),
            tun=not linux or Path("/dev/net/tun").exists(),
            cpus=len(os.sched_getaffinity(0)) if linux else os.cpu_count() or 0,
            virtualization=files.virtualization() if linux else None,
            memory_mib=total,
            available_mib=available,
            modules=files.modules(),
            vboxdrv=Path("/dev/vboxdrv").exists(),
            secure_boot=files.secure_boot(),
            hyperv=family == "wsl",  # WSL 2 is a machine of Hyper-V
            windows_access=bool(self.env.get("VAGRANT_WSL_ENABLE_WINDOWS_ACCESS")),
            kvm=files.kvm(),
            commands=self._commands(),
            networks_conf=files.read("/etc/vbox/networks.conf"),
            disks=self._disks(),
            ports=files.taken(self._ports),
            routes=files.routes() if linux else self._mac_routes(),
        )
        for entry in entries():
            facts = entry.checks.look(self, facts)
        return facts

    def _mac_memory(self) -> tuple[int, None]:
        said = self.answers({"memory": ["sysctl", "-n", "hw.memsize"]})["memory"].stdout.strip()
        return (int(said) // 2**20 if said.isdigit() else 0), None

    def _mac_routes(self) -> tuple[Route, ...]:
        return mac_routes(self.answers({"": ["netstat", "-rn", "-f", "inet"]})[""].stdout)

    def _family(self) -> Family:
        system = platform.system()
        if system == "Linux":
            return "wsl" if "microsoft" in platform.release().lower() else "linux"
        return "macos" if system == "Darwin" else "windows"

    def which(self, name: str) -> str | None:
        """Where a program is, those of root included."""
        # Debian leaves the directories of root's programs out of a user's PATH.
        path = self.env.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
        return shutil.which(name, path=path)

    def _commands(self) -> tuple[str, ...]:
        checks = [entry.checks for entry in entries()]
        programs = dict.fromkeys(name for check in checks for name in check.programs)
        wanted = {name: file for check in checks for name, file in check.files.items()}
        return (
            *(name for name in programs if self.which(name)),
            *(name for name, file in wanted.items() if file.exists()),
        )

    def _disks(self) -> dict[str, Disk]:
        places = {"lab": self._directory, "cache": self._cache}
        for entry in entries():
            places |= entry.checks.places(self.env)
        table = mounts()
        found = {place: disk_of(path, table) for place, path in places.items()}
        return {place: disk for place, disk in found.items() if disk}

    # -- what programs tell ----------------------------------------------------------------------
    def ask(self, provider: str, facts: HostFacts) -> HostFacts:
        """The facts, and all that the programs of this provider say."""
        for question in find(provider).checks.questions:
            facts = self.put(question, facts)
        return facts

    def put(self, question: Question, facts: HostFacts) -> HostFacts:
        """The facts, and what is said to one question."""
        return question(self, facts)

    def try_kvm(self, facts: HostFacts) -> HostFacts:
        """The facts, and whether /dev/kvm is any good; a tenth of a second if it is there."""
        if not facts.kvm.accessible or facts.kvm.works is not None:
            return facts
        return replace(facts, kvm=replace(facts.kvm, works=kvm_works()))

    def answers(self, questions: Mapping[str, Sequence[str]]) -> dict[str, Completed]:
        """What each command says; all run at the same time."""
        # Vagrant would look for a newer one of itself, and a Vagrantfile nearby would be loaded.
        # In the C locale without UTF-8, some versions of VBoxManage list nothing.
        env = {**self.env, "VAGRANT_CHECKPOINT_DISABLE": "1", "LC_ALL": "C.UTF-8"}

        def answer(argv: Sequence[str]) -> Completed:
            try:
                return run(argv, check=False, timeout=SECONDS, cwd=Path("/"), env=env)
            except LabError as error:
                return Completed(-1, "", error.message)

        with ThreadPoolExecutor(max_workers=max(1, len(questions))) as pool:
            return dict(zip(questions, pool.map(answer, questions.values()), strict=True))


# -- what their answers mean: pure -----------------------------------------------------------------
def mac_routes(text: str) -> tuple[Route, ...]:
    """`netstat -rn -f inet` of macOS, which leaves out zeros: `192.168.33`, `10.0.2/24`."""
    found: list[Route] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 4 or not re.fullmatch(r"\d+(\.\d+){0,3}(/\d+)?", words[0]):
            continue
        address, _, bits = words[0].partition("/")
        parts = address.split(".")
        if len(parts) == 4 and not bits:
            continue  # one host
        network = f"{'.'.join([*parts, '0', '0', '0'][:4])}/{bits or 8 * len(parts)}"
        found.append(Route(str(IPv4Network(network, strict=False)), words[3]))
    return tuple(found)
