"""Puts faults into a lab and takes them out; the caller holds the lab's lock.

A record is on disk before anything is changed, and goes after all is mended. So what a killed
labctl has left is taken back as well.
"""

import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial

from labctl.errors import EXIT_USAGE, LabError
from labctl.faults.catalogue import find_fault, node_for, shuffled
from labctl.faults.model import Fault
from labctl.faults.records import Record, read_records, write_records
from labctl.i18n import tr, tr_list
from labctl.lab import Lab
from labctl.topology import Node


def inject(lab: Lab, name: str, node_name: str = "", *, secret: bool = False) -> Record:
    """Put a fault into the lab; `node_name` is "" for the node that is usual.

    Raises LabError when it cannot be had here, is there already, or there is nothing to break; the
    lab is then as it was before.
    """
    fault = find_fault(name)
    return _inject(lab, fault, node_for(fault, lab, node_name), secret=secret)


def inject_random(
    lab: Lab, dice: random.Random, node_name: str = "", *, secret: bool = False
) -> Record:
    """Put one of those faults into the lab that `labctl check` tells. Raises LabError."""
    for fault, node in shuffled(lab, node_name, dice):
        with suppress(LabError):  # nothing to break, or it is broken already: another one
            return _inject(lab, fault, node, secret=secret)
    raise LabError(tr("no fault can be injected now"), hint=tr("`labctl fault clear` first"))


def _inject(lab: Lab, fault: Fault, node: Node, *, secret: bool) -> Record:
    records = read_records(lab.state)
    if any((record.fault, record.node) == (fault.id, node.name) for record in records):
        raise LabError(
            tr("{fault} is on {node} already", fault=fault.id, node=node.name),
            hint=tr("`labctl fault clear` takes it back"),
            code=EXIT_USAGE,
        )
    if not lab.provider.running(node):
        raise LabError(
            tr("{node} does not run", node=node.name), hint=tr("start the lab: `labctl up`")
        )
    plan = fault.mechanism.plan(lab, node)
    record = Record(fault.id, node.name, time.time(), secret, plan)
    write_records(lab.state, [*records, record])
    try:
        fault.mechanism.inject(lab, node, plan)
    except LabError:
        _undo(lab, record)
        write_records(lab.state, records)
        raise
    record = replace(record, complete=True)
    write_records(lab.state, [*records, record])
    return record


def present(lab: Lab, record: Record) -> bool | None:
    """Whether the fault is there now; somebody may have mended it. None: it cannot be found out."""
    fault, node = find_fault(record.fault), lab.topology.node(record.node)
    running = lab.provider.running(node)
    if not running and not fault.mechanism.on_host:
        return None
    try:
        return fault.mechanism.present(lab, node, record.plan)
    except (LabError, ValueError, KeyError):
        return None


def with_presence(lab: Lab, records: Sequence[Record]) -> list[tuple[Record, bool | None]]:
    """Each record with what `present` says of it; all are asked at the same time."""
    if not records:
        return []
    with ThreadPoolExecutor(max_workers=min(8, len(records))) as pool:
        return list(zip(records, pool.map(partial(present, lab), records), strict=True))


def clear(lab: Lab, chosen: Sequence[Record] | None = None) -> list[Record]:
    """Take back all faults, or the `chosen` ones; returns those that were taken back.

    Raises LabError naming those that cannot be taken back; the others are.
    """
    cleared, failed = _clear(lab, read_records(lab.state) if chosen is None else chosen)
    if failed:
        reasons = [f"{record.fault} ({record.node})" + tr(": ") + why for record, why in failed]
        raise LabError(
            tr("not taken back: {reasons}", reasons=tr("; ").join(reasons)),
            hint=tr("start the lab with `labctl up` and try again; `labctl reset` mends it all"),
        )
    return cleared


def clear_for_restore(lab: Lab, *, files: bool) -> bool:
    """Before a snapshot is restored take back what is injected; whether all of it was.

    With `files` the restore may put back the files of all nodes, which mends what is inside of
    them; nodes without power are then left to it. Raises LabError.
    """
    records = read_records(lab.state)
    if files:
        records = [record for record in records if not find_fault(record.fault).mechanism.node_down]
    _, failed = _clear(lab, records)
    outside = [record for record, _ in failed if find_fault(record.fault).mechanism.on_host]
    if outside or (failed and not files):
        names = tr_list(f"{record.fault} ({record.node})" for record, _ in failed)
        raise LabError(tr("not taken back: {reasons}", reasons=names), hint=failed[0][1])
    return not failed


def without_power(lab: Lab) -> bool:
    """Whether a node is down because its power was cut."""
    records = read_records(lab.state)
    return any(find_fault(record.fault).mechanism.node_down for record in records)


def forget(lab: Lab) -> None:
    """Note that no fault is in the lab any more: the files of all nodes were put back."""
    write_records(lab.state, [])


def _clear(lab: Lab, records: Sequence[Record]) -> tuple[list[Record], list[tuple[Record, str]]]:
    """Take faults back; (those that were taken back, those that were not with the reason).

    The latest first, but nodes without power last: what waits for the whole lab must not wait for a
    service that is frozen. What needs such a node is tried again then.
    """
    newest_first = list(records)[::-1]
    down_last = sorted(
        newest_first, key=lambda record: find_fault(record.fault).mechanism.node_down
    )
    cleared: list[Record] = []
    failed: dict[Record, str] = {}
    for _ in range(2):
        for record in [record for record in down_last if record not in cleared]:
            if why := _undo(lab, record):
                failed[record] = why
                continue
            failed.pop(record, None)
            cleared.append(record)
            write_records(lab.state, [left for left in read_records(lab.state) if left != record])
        if not failed:
            break
    return cleared, list(failed.items())


def _undo(lab: Lab, record: Record) -> str:
    """Take one fault back; why that failed, "" if it did not."""
    mechanism, node = find_fault(record.fault).mechanism, lab.topology.node(record.node)
    if not mechanism.on_host and not lab.provider.running(node):
        return "" if mechanism.gone_at_boot else tr("{node} does not run", node=node.name)
    try:
        mechanism.undo(lab, node, record.plan)
    except LabError as error:
        return error.message
    return ""
