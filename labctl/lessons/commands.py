"""The shell commands of checkpoints, on a node or in an instance, and the variables they set."""

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from labctl.access.capture import Tap
from labctl.access.guest import Guest, GuestResult, LateError
from labctl.access.packets import exchange
from labctl.engine.steps import StepContext
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr
from labctl.lessons.background import BackgroundCommand
from labctl.lessons.claims import ClaimChecker
from labctl.lessons.model import Checkpoint, instance_names
from labctl.lessons.results import CheckpointResult, CommandResult
from labctl.lessons.templates import fill
from labctl.probes.in_instance import run_in_instance
from labctl.terminal.console import Console
from labctl.topology import Instance, Topology

VARIABLES = "/var/lib/labctl/lesson.sh"
"""On the nodes: the shell variables that checkpoints set. /etc/profile.d/labctl.sh reads this file
at login."""
_MOST_OUTPUT = 262_144
"""Characters of a command's output that are shown and kept."""


def head_and_tail(text: str, left_out: int = 0) -> str:
    """The output of a command; if it is long, without its middle, which a note in it says.

    `left_out`: bytes of the middle that are not in the text any more.
    """
    if len(text) <= _MOST_OUTPUT:
        return text
    half = _MOST_OUTPUT // 2
    # At the ends of lines, if there are any nearby.
    end, start = text.rfind("\n", half - 1000, half) + 1, text.find("\n", -half, 1000 - half) + 1
    end, start = end or half, start or len(text) - half
    note = tr("[… {n} characters are left out here …]", n=start - end + left_out)
    return f"{text[:end].rstrip()}\n{note}\n{text[start:]}"


def _tcpdump(interface: str, filter: str) -> str:
    """As the tutorial calls it: verbose, numeric, with MAC addresses."""
    namespace, _, device = interface.rpartition("/")
    enter = f"ip netns exec {namespace} " if namespace else ""
    return f"{enter}tcpdump -vvneei {device} {shlex.quote(filter)}"


def _first_line(command: CommandResult) -> str:
    return command.command.splitlines()[0]


class Commands:
    """Runs the commands of one lesson's checkpoints on one lab."""

    def __init__(
        self,
        topology: Topology,
        guest: Callable[[str], Guest],
        checker: ClaimChecker,
        console: Console,
    ) -> None:
        """`guest` finds a node's handle by its name; `checker` has the values for templates."""
        self._topology = topology
        self._guest_of = guest
        self._checker = checker
        self._console = console

    def of(self, checkpoint: Checkpoint, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """(prompt, command) for each command of the checkpoint, in the order they are run."""
        for _, prompt, command in self._placed(checkpoint, values):
            yield prompt, command

    def _placed(
        self, checkpoint: Checkpoint, values: Mapping[str, Any]
    ) -> Iterator[tuple[tuple[str, Instance | None], str, str]]:
        """(where, prompt, command) for each; `where` is as `place_of` gives it."""
        own = self.place_of(checkpoint)
        for command in checkpoint.run:
            place = self._place(command.node) if command.node else own
            node, instance = place
            prompt = f"{node}#" if instance is None else f"{instance.image.user}@{instance.name}$"
            yield place, prompt, fill(command.run, values, quoting=True).strip()

    def run(
        self,
        checkpoint: Checkpoint,
        values: Mapping[str, Any],
        result: CheckpointResult,
        context: StepContext,
        *,
        checking: bool = False,
    ) -> None:
        """Show and run the checkpoint's commands; add the result of each to `result`.

        Raises LabError when a command fails. `checking`: the commands run only to cause packets
        that a claim looks at, so they are not shown, may fail, and keep no variables.
        """
        with self._in_background(checkpoint, values, result, checking):
            self._run_in_turn(checkpoint, values, result, context, checking)

    @contextmanager
    def _in_background(
        self,
        checkpoint: Checkpoint,
        values: Mapping[str, Any],
        result: CheckpointResult,
        checking: bool,
    ) -> Iterator[None]:
        """The checkpoint's commands in the background run while the body does.

        Raises LabError when one of them failed before it was ended.
        """
        running: list[tuple[BackgroundCommand, CommandResult]] = []
        try:
            for number, (node, prompt, script) in enumerate(self.behind(checkpoint, values)):
                command = BackgroundCommand(
                    self._guest_of(node), script, f"{checkpoint.id}-{number}"
                )
                command.start()
                shown = f"{script} &"
                if not checking:
                    self._console.command(shown, prompt)
                ran = CommandResult(node, shown, "", 0, 0.0, prompt, background=True)
                running.append((command, ran))
            result.commands.extend(ran for _, ran in running)
            yield
        except BaseException:
            for command, _ in running:
                with suppress(LabError):  # the first error is raised
                    command.end()
            raise
        failed: CommandResult | None = None
        for command, ran in running:
            ended = command.end()
            ran.output, ran.seconds = head_and_tail(ended.output), ended.seconds
            # What is ended by a signal need not exit 0.
            ran.exit_code = ended.exit_code if ended.by_itself else 0
            if not checking:
                self._console.say(tr("in the background: {command}", command=_first_line(ran)))
                self._console.output(ran.output)
            failed = failed or (ran if ran.exit_code else None)
        if failed is not None and not checking:
            raise LabError(
                tr(
                    "`{command}` failed on {node} (exit {code})",
                    command=_first_line(failed),
                    node=failed.node,
                    code=failed.exit_code,
                ),
                hint=tr("it was to run until the others were over; its output is above"),
            )

    def behind(
        self, checkpoint: Checkpoint, values: Mapping[str, Any]
    ) -> Iterator[tuple[str, str, str]]:
        """(node, prompt, command) for each of the checkpoint's commands in the background.

        Raises LabError when it is to run in an instance.
        """
        for background in checkpoint.background:
            if background.node:
                node = self._checker.place(background.node)
            else:
                node, instance = self.place_of(checkpoint)
                if instance is not None:
                    raise LabError(
                        tr("in an instance nothing runs in the background"),
                        hint=tr("say `node:` at the command"),
                        code=EXIT_USAGE,
                    )
            yield node, f"{node}#", fill(background.run, values, quoting=True).strip()

    def end_background(self, checkpoint: Checkpoint) -> None:
        """End what a labctl that was killed left in the background of this checkpoint's nodes."""
        if checkpoint.background:
            for node in self._topology.machines:
                with suppress(LabError):  # a node that does not answer runs nothing
                    for number in range(len(checkpoint.background)):
                        guest = self._guest_of(node.name)
                        BackgroundCommand(guest, "", f"{checkpoint.id}-{number}").end()

    def _run_in_turn(
        self,
        checkpoint: Checkpoint,
        values: Mapping[str, Any],
        result: CheckpointResult,
        context: StepContext,
        checking: bool,
    ) -> None:
        own, _ = self.place_of(checkpoint)
        for (node, instance), prompt, command in self._placed(checkpoint, values):
            name = node if instance is None else instance.name
            if not checking:
                self._console.command(command, prompt)
            context.progress(command.splitlines()[0])
            late: LateError | None = None
            try:
                if instance is not None:
                    completed = run_in_instance(
                        self._checker.probe_context(),
                        command,
                        timeout=checkpoint.timeout,
                        cancelled=context.cancelled,
                        instance=instance,
                    )
                else:
                    sets = () if checking or node != own else tuple(checkpoint.sets)
                    completed = self.shell(checkpoint, node, command, sets, context)
            except LateError as error:
                late, completed = error, error.result
            text = head_and_tail(completed.stdout + completed.stderr, completed.left_out)
            result.commands.append(
                CommandResult(name, command, text, completed.returncode, completed.seconds, prompt)
            )
            if checking and late is None:
                continue  # a command that failed is seen by the claims
            if not checking:
                self._console.output(text)
            if late is not None:
                raise LabError(
                    tr(
                        "`{command}` on {node} did not finish within {seconds} s",
                        command=command.splitlines()[0],
                        node=name,
                        seconds=f"{completed.seconds:.0f}",
                    ),
                    hint=late.hint,
                ) from late
            if not completed.ok:
                raise LabError(
                    tr(
                        "`{command}` failed on {node} (exit {code})",
                        command=command.splitlines()[0],
                        node=name,
                        code=completed.returncode,
                    ),
                    hint=tr(
                        "its output is above; `labctl next` runs this checkpoint again,"
                        " `labctl replay` the whole lesson"
                    ),
                )

    def listening(
        self, checkpoint: Checkpoint, values: Mapping[str, Any]
    ) -> Iterator[tuple[str, str]]:
        """(prompt, command) by which a learner sees what the checkpoint's captures see."""
        for capture in checkpoint.capture:
            node, interface = self._checker.place(capture.node), fill(capture.interface, values)
            yield f"{node}#", _tcpdump(interface.strip(), fill(capture.filter, values))

    def show_frames(self, captured: Mapping[Tap, bytes], result: CheckpointResult) -> None:
        """Show a request and its reply as tcpdump prints them, for each capture that has any.

        The node's own tcpdump prints them; where it cannot, nothing is shown.
        """
        for tap, pcap in captured.items():
            began = time.monotonic()
            print_them = ["tcpdump", "-vvneer", "-"]
            with suppress(LabError):
                guest, file = self._guest_of(tap.node), exchange(pcap)
                printed = guest.run(print_them, timeout=20, check=False, input=file).stdout
                if not printed.strip():
                    continue
                command, prompt = _tcpdump(tap.interface, tap.filter), f"{tap.node}#"
                self._console.command(command, prompt)
                self._console.output(printed)
                seconds = time.monotonic() - began
                result.commands.append(
                    CommandResult(tap.node, command, printed, 0, seconds, prompt)
                )

    def shell(
        self,
        checkpoint: Checkpoint,
        node: str,
        script: str,
        sets: Sequence[str],
        context: StepContext | None = None,
    ) -> GuestResult:
        """Run a script on a node with the learner's variables; those in `sets` are saved.

        It may take as long as the checkpoint's commands may. Raises LateError.
        """
        save = f"for v in {' '.join(sets)}; do declare -p $v; done >>{VARIABLES} 2>/dev/null"
        lines = [
            f"# {(script.strip().splitlines() or ['true'])[0]}",  # names it in messages
            "mkdir -p /var/lib/labctl",
            ". /etc/profile.d/labctl.sh",
            "shopt -s expand_aliases",
            script,
            "labctl_exit=$?",
            *([save] if sets else []),
            "exit $labctl_exit",
        ]
        return self._guest_of(node).run(
            "\n".join(lines),
            timeout=checkpoint.timeout,
            check=False,
            cancelled=None if context is None else context.cancelled,
        )

    def set_variables(self, checkpoint: Checkpoint) -> None:
        """Set the checkpoint's variables when the learner typed its commands in another shell."""
        values = self._checker.values()
        variables = {
            name: fill(template, values) for name, template in checkpoint.sets.items() if template
        }
        lines = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
        if lines:
            self.shell(checkpoint, self.node_of(checkpoint), "\n".join(lines), tuple(variables))
            self.share(checkpoint)

    def node_of(self, checkpoint: Checkpoint) -> str:
        """The node that a checkpoint works on; the controller if it works in an instance."""
        return self.place_of(checkpoint)[0]

    def place_of(self, checkpoint: Checkpoint) -> tuple[str, Instance | None]:
        """Where a checkpoint's commands run: a node, or (with the controller) an instance.

        Raises LabError when the lab has no node of that name.
        """
        return self._place(checkpoint.node)

    def _place(self, template: str) -> tuple[str, Instance | None]:
        name = fill(template, self._checker.values()).strip()
        if name == "instance":
            return self._topology.controller.name, self._topology.instances[0]
        for instance in self._topology.instances:
            if instance.name == name and name in instance_names(self._topology):
                return self._topology.controller.name, instance
        return self._checker.place(template), None

    def share(self, checkpoint: Checkpoint) -> None:
        """Copy the variables that the checkpoint set to the other nodes.

        A node that does not answer is left out.
        """
        if not checkpoint.sets:
            return
        origin = self.node_of(checkpoint)
        others = [each.name for each in self._topology.machines if each.name != origin]
        with suppress(LabError):  # the file does not exist before the first variable is set
            content = self._guest_of(origin).get(VARIABLES)

            def copy_to(name: str) -> None:
                with suppress(LabError):
                    self._guest_of(name).put(content, VARIABLES)

            with ThreadPoolExecutor(max_workers=8) as pool:
                list(pool.map(copy_to, others))
