"""Collects facts about the host. Changes nothing, needs no root, uses no network.

`look` reads files, which is fast. `ask_all` calls the programs of one provider, each with a time
limit. A program that is missing, broken or too slow is a fact, not an error.
"""

import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

from labctl.errors import LabError
from labctl.host import files
from labctl.host.facts import Disk, Family, HostFacts, Route
from labctl.host.files import disk_of
from labctl.host.questions import Question
from labctl.operating_system import memory, processes, programs, rights
from labctl.providers.kvm import kvm_works
from labctl.providers.registry import entries, find
from labctl.providers.timeout_factor import timeout_factor_from
from labctl.run import CommandTimeoutError, Completed, run

SECONDS = 10.0
"""How long a program may take, times LABCTL_PATIENCE if that is set.

Vagrant, written in Ruby, takes one or two seconds; on an emulated host 22 were measured.
"""


class FactCollector:
    """Collects facts about this host, for a lab in `directory` whose images are in `cache`."""

    def __init__(
        self, directory: Path, cache: Path, env: Mapping[str, str], ports: Iterable[int] = ()
    ) -> None:
        """`ports` are the ports of 127.0.0.1 that the lab forwards; `env` is the environment."""
        self._directory = directory
        self._cache = cache
        self.env = env
        self._ports = frozenset(ports)

    # -- what files tell -------------------------------------------------------------------------
    def look(self) -> HostFacts:
        """The facts that need no program to be called; on macOS, no slow one."""
        family = self._family()
        linux = family in ("linux", "wsl")
        total, available = files.memory() if linux else memory.windows_memory()
        if family == "macos":
            total, available = self._macos_memory()
        facts = HostFacts(
            family=family,
            machine=platform.machine(),
            kernel=platform.release(),
            root=rights.is_root(),
            sudo=self.which("sudo") is not None and not self.env.get("LABCTL_NO_SUDO"),
            cpus=processes.usable_cpus(),
            memory_mib=total,
            available_mib=available,
            hyperv=family == "wsl",  # WSL 2 is a virtual machine of Hyper-V
            commands=self._commands(),
            networks_conf=files.read("/etc/vbox/networks.conf"),
            disks=self._disks(files.mounts() if linux else {}),
            ports=files.taken(self._ports, files.PROC if linux else None),
            routes=self._macos_routes() if family == "macos" else files.routes() if linux else (),
        )
        if linux:
            facts = replace(
                facts,
                distribution=files.distribution(),
                containers_allowed=files.capable(),
                tun=Path("/dev/net/tun").exists(),
                virtualization=files.virtualization(),
                modules=files.modules(),
                vboxdrv=Path("/dev/vboxdrv").exists(),
                secure_boot=files.secure_boot(),
                kvm=files.kvm(),
            )
        for entry in entries():
            facts = entry.checks.look(self, facts)
        return facts

    def _macos_memory(self) -> tuple[int, None]:
        output = self.answers({"memory": ["sysctl", "-n", "hw.memsize"]})["memory"].stdout.strip()
        return (int(output) // 2**20 if output.isdigit() else 0), None

    def _macos_routes(self) -> tuple[Route, ...]:
        return mac_routes(self.answers({"": ["netstat", "-rn", "-f", "inet"]})[""].stdout)

    def _family(self) -> Family:
        system = platform.system()
        if system == "Linux":
            return "wsl" if "microsoft" in platform.release().lower() else "linux"
        return "macos" if system == "Darwin" else "windows"

    def which(self, name: str) -> str | None:
        """The path of a program, None if there is none."""
        # Debian's PATH of a user lacks the directories of root's programs.
        more = ("/usr/local/sbin", "/usr/sbin", "/sbin")
        return programs.find(name, os.pathsep.join([self.env.get("PATH", os.defpath), *more]))

    def _commands(self) -> tuple[str, ...]:
        checks = [entry.checks for entry in entries()]
        wanted = dict.fromkeys(name for check in checks for name in check.programs)
        return tuple(name for name in wanted if self.which(name))

    def _disks(self, mounted: Mapping[str, str]) -> dict[str, Disk]:
        places = {"lab": self._directory, "cache": self._cache}
        for entry in entries():
            places |= entry.checks.places(self.env)
        disks = {place: disk_of(path, mounted) for place, path in places.items()}
        return {place: disk for place, disk in disks.items() if disk}

    # -- what programs tell ----------------------------------------------------------------------
    def ask_all(self, provider: str, facts: HostFacts) -> HostFacts:
        """The facts, with what all programs of this provider say."""
        for question in find(provider).checks.questions:
            facts = self.ask_one(question, facts)
        return facts

    def ask_one(self, question: Question, facts: HostFacts) -> HostFacts:
        """The facts, with the answer to one question."""
        return question(self, facts)

    def try_kvm(self, facts: HostFacts) -> HostFacts:
        """The facts, with whether KVM works; trying it takes a tenth of a second."""
        if not facts.kvm.accessible or facts.kvm.works is not None:
            return facts
        return replace(facts, kvm=replace(facts.kvm, works=kvm_works()))

    def answers(self, questions: Mapping[str, Sequence[str]]) -> dict[str, Completed]:
        """The result of each command; all run at the same time.

        Raises LabError (wrong use) if LABCTL_PATIENCE is no usable number.
        """
        # VAGRANT_CHECKPOINT_DISABLE: Vagrant does not look for a newer version of itself. The
        # directory is / so that it loads no Vagrantfile. LC_ALL: without UTF-8 some versions of
        # VBoxManage list nothing.
        env = {**self.env, "VAGRANT_CHECKPOINT_DISABLE": "1", "LC_ALL": "C.UTF-8"}

        seconds = SECONDS * (timeout_factor_from(self.env) or 1)

        def answer(argv: Sequence[str]) -> Completed:
            try:
                return run(argv, check=False, timeout=seconds, cwd=Path("/"), env=env)
            except LabError as error:
                late = isinstance(error, CommandTimeoutError)
                return Completed(-1, "", error.message, timed_out=late)

        with ThreadPoolExecutor(max_workers=max(1, len(questions))) as pool:
            return dict(zip(questions, pool.map(answer, questions.values()), strict=True))


# -- parsing ---------------------------------------------------------------------------------------
def mac_routes(text: str) -> tuple[Route, ...]:
    """`netstat -rn -f inet` of macOS, which leaves out zeros: `192.168.33`, `10.0.2/24`."""
    routes: list[Route] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 4 or not re.fullmatch(r"\d+(\.\d+){0,3}(/\d+)?", words[0]):
            continue
        address, _, bits = words[0].partition("/")
        parts = address.split(".")
        if len(parts) == 4 and not bits:
            continue  # the route to a single host
        network = f"{'.'.join([*parts, '0', '0', '0'][:4])}/{bits or 8 * len(parts)}"
        routes.append(Route(str(IPv4Network(network, strict=False)), words[3]))
    return tuple(routes)
