"""Engines: each interprets a Program and returns Records; here one is chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from simulator.errors import UsageError
from simulator.program.program import Program
from simulator.records import WINDOWS, Consume, Records, RequestDigest, RequestTable

ENGINES = ("auto", "simpy", "compiled")


def simulate(
    program: Program,
    duration: float,
    seed: int = 1,
    replication: int = 0,
    engine: str = "auto",
    windows: int = WINDOWS,
    processes: Mapping[str, Callable[[Any], Any]] | None = None,
    consume: Consume | None = None,
    begin: float = 0.0,
) -> Records:
    """Simulate a Program for `duration` seconds and return its Records, the same on every engine.

    `windows` is the number of steps at which stations are sampled, equal ones but for the first where that is to go to
    `begin` (s); `processes` are a user's own SimPy
    stations by name. The engine `auto` is the compiled one where it can run the Program. Where there is
    something to `consume` requests, they go there while the simulation runs and not into the Records, so that memory
    does not grow with their number. Raises UsageError for an engine that does not exist or cannot run the Program.
    """
    if engine not in ENGINES:
        raise UsageError(f"no engine named {engine!r}; known: {', '.join(ENGINES)}")
    if engine == "auto" and not _compiled_can_run(program):
        engine = "simpy"
    outlet = None if consume is None else _Outlet(consume, program)
    if engine == "simpy":
        from simulator.engines import simpy

        records = simpy.simulate(program, duration, seed, replication, windows, processes, outlet, begin)
        return _complete(records, outlet)
    from simulator.engines import compiled

    records = compiled.simulate(program, duration, seed, replication, windows, consume=outlet, begin=begin)
    return _complete(records, outlet)


class _Outlet:
    """Where an engine hands requests on: their digests stay."""

    def __init__(self, consume: Consume, program: Program) -> None:
        self.consume = consume
        self.digests = [RequestDigest() for _ in program.workloads]

    def __call__(self, workload: int, requests: RequestTable) -> None:
        self.digests[workload].update(requests)
        self.consume(workload, requests)


def _complete(records: Records, outlet: _Outlet | None) -> Records:
    """The records with the digests of the requests that were handed on."""
    if outlet is None:
        return records
    return replace(records, request_digests=tuple(each.digest() for each in outlet.digests))


def prepare(program: Program, engine: str = "auto") -> None:
    """Compile, or load from the cache, what `simulate` will need: once, before worker processes each do so."""
    if engine == "compiled" or (engine == "auto" and _compiled_can_run(program)):
        from simulator.engines.compiled.engine import prepare as compile_all

        compile_all()


def _compiled_can_run(program: Program) -> bool:
    """Whether the compiled engine is installed and has all of the Program's stations."""
    return find_spec("numba") is not None and not program.has_processes
