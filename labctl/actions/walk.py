"""`labctl walk`: one packet and its answer, followed hop by hop."""

from pathlib import Path

from labctl.engine.events import PlannedStep, RunStarted, StepProgress, StepStarted
from labctl.i18n import tr
from labctl.lab import Lab
from labctl.state import as_json, write_atomic
from labctl.walks.walk import Walk
from labctl.walks.walker import Walker, check_protocol

KEPT_WALKS = 20
"""How many walks a lab keeps for the report, which shows them all on one page."""


def walk(
    lab: Lab,
    protocol: str,
    source: str,
    target: str,
    port: int | None,
    keep: Path | None,
    *,
    ipv6: bool = False,
) -> Walk:
    """Send one packet and follow it and its answer; `keep` is a directory for the captures.

    With `ipv6`, by IPv6 where both ends have both kinds of IP.

    A missing answer is no error: the walk that is returned says so. Raises LabError when nothing
    could be sent.
    """
    kind = check_protocol(protocol, port)
    lab.require_up()
    title = tr("a packet from {source} to {target}", source=source, target=target)
    lab.bus.emit(RunStarted("", (PlannedStep("walk", title),)))
    lab.bus.emit(StepStarted("walk", title))
    walker = Walker(
        lab.topology,
        lab.guest,
        lab.cloud,
        lab.provider.host_end,
        lambda message: lab.bus.emit(StepProgress("walk", message)),
    )
    walked = walker.walk(kind, source, target, port, keep=keep, ipv6=ipv6)
    _remember(lab, walked)
    return walked


def _remember(lab: Lab, walked: Walk) -> None:
    """Save the walk in the lab, for the report; only the last KEPT_WALKS stay."""
    text = as_json(walked)
    write_atomic(lab.state.walks / f"{walked.began * 1000:.0f}.json", text)
    for old in sorted(lab.state.walks.glob("*.json"))[:-KEPT_WALKS]:
        old.unlink(missing_ok=True)
