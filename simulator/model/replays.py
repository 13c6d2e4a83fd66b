"""Columns of the trace that a workload replays, where the workload replays none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from simulator.model.checks import Finding, all_steps, calls_of
from simulator.model.step import Place

if TYPE_CHECKING:
    from simulator.model.system import System


def replay_problems(system: System, document: Any) -> Iterator[Finding]:
    """Steps that draw from the trace of a workload that has none; `document` is what the system was made of."""
    calls, found = calls_of(document), set[Place]()
    for name, workload in system.workloads.items():
        if workload.replay is not None and workload.replay.trace() is not None:
            continue
        for operation in _reached(calls, workload.shares()):
            for here, step in all_steps(document, operation):
                for place, column in _columns(step, here):
                    if place not in found:
                        found.add(place)
                        message = f"workload {name!r} gets here and replays no trace, expected a column with its file"
                        yield place, message, column


def _reached(calls: dict[str, list[tuple[Place, str]]], entries: dict[str, float]) -> Iterator[str]:
    """All operations that a request to one of the entries may get to."""
    waiting, seen = list(entries), set[str]()
    while waiting:
        operation = waiting.pop()
        if operation not in seen:
            seen.add(operation)
            waiting += [target for _, target in calls[operation]]
            yield operation


def _columns(value: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    """Every `trace` without a file, with its place."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "trace" and (isinstance(inner, str) or (isinstance(inner, dict) and inner.get("file") is None)):
                yield (*place, key), inner
            else:
                yield from _columns(inner, (*place, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _columns(inner, (*place, index))
