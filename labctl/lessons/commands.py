"""The shell commands of checkpoints: on a node or in an instance, with variables that live on."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from labctl.access.guest import Guest, GuestResult, LateError
from labctl.engine.steps import StepContext
from labctl.errors import LabError
from labctl.i18n import tr
from labctl.lessons.claims import ClaimChecker
from labctl.lessons.model import Checkpoint
from labctl.lessons.results import CheckpointResult, CommandResult
from labctl.lessons.templates import fill
from labctl.probes.in_instance import run_in_instance
from labctl.terminal.console import Console
from labctl.topology import Topology

VARIABLES = "/var/lib/labctl/lesson.sh"
"""On the nodes: the shell variables that checkpoints set; profile.sh reads it at login."""
COMMAND_SECONDS = 300
"""How long one command of a checkpoint may take."""
_MOST_OUTPUT = 262_144
"""Characters of a command's output that are shown and kept."""


def head_and_tail(text: str, left_out: int = 0) -> str:
    """Output of a command, without its middle if it is long, and told so.

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


class Commands:
    """Runs the commands of one lesson's checkpoints on one lab."""

    def __init__(
        self,
        topology: Topology,
        guest: Callable[[str], Guest],
        checker: ClaimChecker,
        console: Console,
    ) -> None:
        """`guest` finds a node's handle by its name; `checker` knows the templates' values."""
        self._topology = topology
        self._guest_of = guest
        self._checker = checker
        self._console = console

    def of(self, checkpoint: Checkpoint, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """(prompt, command) of what the checkpoint runs, one after the other."""
        if checkpoint.node == "instance":
            prompt = f"{self._topology.image.user}@{self._topology.instances[0].name}$"
        else:
            prompt = f"{self.node_of(checkpoint)}#"
        for template in checkpoint.run:
            yield prompt, fill(template, values, quoting=True).strip()

    def run(
        self,
        checkpoint: Checkpoint,
        values: Mapping[str, Any],
        result: CheckpointResult,
        context: StepContext,
        *,
        checking: bool = False,
    ) -> None:
        """Show and run the checkpoint's commands; what came of each is added to `result`.

        Raises LabError when one fails. `checking`: for what they make visible only, so nothing is
        shown, no variable is kept, and a command may fail.
        """
        inside = checkpoint.node == "instance"
        node = self.node_of(checkpoint)
        name = self._topology.instances[0].name if inside else node
        for prompt, command in self.of(checkpoint, values):
            if not checking:
                self._console.command(command, prompt)
            context.progress(command.splitlines()[0])
            late: LateError | None = None
            try:
                if inside:
                    done = run_in_instance(
                        self._checker.sight(),
                        command,
                        timeout=COMMAND_SECONDS,
                        cancelled=context.cancelled,
                    )
                else:
                    sets = () if checking else tuple(checkpoint.sets)
                    done = self.shell(node, command, sets, context)
            except LateError as error:
                late, done = error, error.result
            text = head_and_tail(done.stdout + done.stderr, done.left_out)
            result.commands.append(
                CommandResult(name, command, text, done.returncode, done.seconds, prompt)
            )
            if checking and late is None:
                continue  # the claims tell
            if not checking:
                self._console.output(text)
            if late is not None:
                raise LabError(
                    tr(
                        "`{command}` on {node} did not finish within {seconds} s",
                        command=command.splitlines()[0],
                        node=name,
                        seconds=f"{done.seconds:.0f}",
                    ),
                    hint=late.hint,
                ) from late
            if not done.ok:
                raise LabError(
                    tr(
                        "`{command}` failed on {node} (exit {code})",
                        command=command.splitlines()[0],
                        node=name,
                        code=done.returncode,
                    ),
                    hint=tr(
                        "what it said is above; `labctl next` tries this checkpoint again,"
                        " `labctl replay` starts the day anew"
                    ),
                )

    def shell(
        self, node: str, script: str, sets: Sequence[str], context: StepContext | None = None
    ) -> GuestResult:
        """Run a script on a node with the learner's variables; those in `sets` are kept."""
        keep = f"for v in {' '.join(sets)}; do declare -p $v; done >>{VARIABLES} 2>/dev/null"
        # Variables live on in a file that profile.sh reads too: the learner who logs in has them.
        lines = [
            ". /etc/profile.d/labctl.sh",
            "shopt -s expand_aliases",
            script,
            "labctl_exit=$?",
            *([keep] if sets else []),
            "exit $labctl_exit",
        ]
        return self._guest_of(node).run(
            "mkdir -p /var/lib/labctl\n" + "\n".join(lines),
            timeout=COMMAND_SECONDS,
            check=False,
            cancelled=None if context is None else context.cancelled,
        )

    def set_variables(self, checkpoint: Checkpoint) -> None:
        """Set the checkpoint's variables for a learner who typed its commands elsewhere."""
        values = self._checker.values()
        known = {
            name: fill(template, values) for name, template in checkpoint.sets.items() if template
        }
        if script := "\n".join(f"{name}={shlex.quote(its)}" for name, its in known.items()):
            self.shell(self.node_of(checkpoint), script, tuple(known))
            self.share(checkpoint)

    def node_of(self, checkpoint: Checkpoint) -> str:
        """The node that a checkpoint works on; for one inside an instance the controller."""
        inside = checkpoint.node == "instance"
        return self._checker.node_name("controller" if inside else checkpoint.node)

    def share(self, checkpoint: Checkpoint) -> None:
        """Give what the checkpoint set to the other nodes, as far as they are there."""
        if not checkpoint.sets:
            return
        place = self.node_of(checkpoint)
        others = [node.name for node in self._topology.nodes if node.name != place]
        with suppress(LabError):  # nothing was set
            content = self._guest_of(place).get(VARIABLES)

            def give(name: str) -> None:
                with suppress(LabError):
                    self._guest_of(name).put(content, VARIABLES)

            with ThreadPoolExecutor(max_workers=8) as pool:
                list(pool.map(give, others))
