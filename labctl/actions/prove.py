"""Proving a lesson in a lab, and taking back the fault that a killed `labctl prove` left there."""

from collections.abc import Sequence

from labctl.actions.held import held
from labctl.engine.steps import RunResult
from labctl.i18n import tr
from labctl.lab import Lab
from labctl.lessons.load import load_lesson
from labctl.lessons.proof import Proof
from labctl.lessons.prove import DEADLINE, Bench, Prover


def prove(
    lab: Lab, name: str, chosen: Sequence[str] = (), seconds: float = DEADLINE
) -> tuple[Proof, RunResult]:
    """Prove a lesson, or `chosen` checkpoints of it, within `seconds` of a container's time.

    Whatever happens, a fault that it has put into the lab is taken back. Raises LabError when that
    cannot be done, when the lab is not up, or is not one that the lesson can be run in.
    """
    lab.require_created()
    lesson = load_lesson(name)
    lesson.require(lab.topology)
    with held(lab, f"prove {name}"):
        lab.require_up()
        bench = Bench(lab.topology, lab.state, lab.guest, lab.one_connection())
        prover = Prover(name, bench, chosen, seconds)
        result: RunResult | None = None
        try:
            title = tr("prove {lesson}", lesson=lesson.title)
            result = lab.run(title, prover.steps(), workers=1)
        finally:
            proof = prover.end(result)
    return proof, result
