"""Which faults are in the lab: a file of its state, written before anything is changed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from labctl.state import LabState, not_ours


@dataclass(frozen=True)
class Record:
    """A fault that was put into the lab, or half put when labctl was killed."""

    fault: str
    node: str
    at: float
    """When, in seconds since the epoch."""
    secret: bool
    plan: Mapping[str, Any] = field(hash=False)
    """What takes it back."""
    complete: bool = False
    """False from before the change until after it."""


def read_records(state: LabState) -> list[Record]:
    """The faults in the lab, the oldest first. Raises LabError."""
    data = state.read_json(state.faults)
    try:
        return [Record(**record) for record in (data or {"faults": []})["faults"]]
    except (TypeError, KeyError) as error:
        raise not_ours(state.faults) from error


def write_records(state: LabState, records: Sequence[Record]) -> None:
    """Note which faults are in the lab; no file stands for none. Raises LabError."""
    if records:
        state.write_json(state.faults, {"faults": [asdict(record) for record in records]})
    else:
        state.faults.unlink(missing_ok=True)
