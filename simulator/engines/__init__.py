"""Engines: each interprets a Program and returns Records; here one is chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from simulator.errors import UsageError
from simulator.program.program import Program
from simulator.records import Records

ENGINES = ("auto", "simpy")


def simulate(
    program: Program,
    duration: float,
    seed: int = 1,
    replication: int = 0,
    engine: str = "auto",
    windows: int = 200,
    processes: Mapping[str, Callable[[Any], Any]] | None = None,
) -> Records:
    """Simulate a Program for `duration` seconds and return its Records.

    `windows` is the number of equal steps at which stations are sampled; `processes` are a user's own SimPy
    stations by name. Raises UsageError for an engine that does not exist.
    """
    if engine not in ENGINES:
        raise UsageError(f"no engine named {engine!r}; known: {', '.join(ENGINES)}")
    from simulator.engines import simpy

    return simpy.simulate(program, duration, seed, replication, windows, processes)
