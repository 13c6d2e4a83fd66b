"""The compiled engine: runs the kernel and gives it what it asks for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from simulator.engines.compiled.compiling import compiled_once
from simulator.engines.compiled.layout import MOST_STARTS_AT_ONCE, Status
from simulator.engines.compiled.sampling import filling
from simulator.engines.compiled.state import Memory, Sizes
from simulator.errors import UsageError
from simulator.program.program import Program
from simulator.records import WINDOWS, Consume, Records
from simulator.streams import Streams

__all__ = ["MOST_STARTS_AT_ONCE", "simulate"]


def simulate(
    program: Program,
    duration: float,
    seed: int,
    replication: int = 0,
    windows: int = WINDOWS,
    sizes: Sizes | None = None,
    consume: Consume | None = None,
    begin: float = 0.0,
) -> Records:
    """Run a Program for `duration` seconds and return its Records, equal to the SimPy engine's.

    Where there is something to `consume` requests, they go there and not into the Records.
    Raises `UsageError` for a Program with a user's own process, and where time stands still.
    """
    if program.has_processes:
        raise UsageError("the compiled engine runs no process of your own: use the engine simpy")
    sizes = sizes or Sizes()
    memory = Memory(program, Streams(seed, replication), duration, windows, sizes, consume, begin)
    _run(memory, sizes.budget)
    return _records(memory, seed, replication, duration)


def kernel() -> Callable[[int, int], int]:
    """The compiled kernel."""
    return compiled_once("simulator.engines.compiled.kernel", "advance", "int64(int64, int64)", announce=True)


def prepare() -> None:
    """Compile, or load, all that simulating calls."""
    kernel()
    filling()


def _run(memory: Memory, budget: int) -> None:
    """Call the kernel until it is done; a Ctrl-C arrives between two calls."""
    run, address = kernel(), memory.world.ctypes.data
    services: dict[int, Callable[[], None]] = {
        Status.CHECK: lambda: None,
        Status.NEED_DRAW: memory.more_draws,
        Status.NEED_GAPS: memory.more_gaps,
        Status.NEED_PREFIX: memory.give_prefix,
        Status.GROW_TOKENS: memory.more_tokens,
        Status.GROW_SCOPES: memory.more_scopes,
        Status.GROW_HOLDS: memory.more_holds,
        Status.GROW_KEYS: memory.more_keys,
        Status.GROW_ENTRIES: memory.more_entries,
        Status.GROW_LOCKS: memory.more_locks,
        Status.GROW_NODES: memory.more_nodes,
        Status.GROW_ROWS: memory.more_rows,
        Status.SPINNING: lambda: _spinning(memory),
    }
    while status := run(address, budget):
        services[status]()


def _spinning(memory: Memory) -> None:
    name = memory.program.workloads[int(memory.w["asked"])].name
    raise UsageError(f"workloads.{name}: its users send requests that end at once and do not think: time stands still")


def _records(memory: Memory, seed: int, replication: int, duration: float) -> Records:
    sampled = int(memory.w["sampled"])
    return Records(
        seed=seed,
        replication=replication,
        duration=duration,
        engine="compiled",
        requests=memory.request_tables(),
        resources=tuple(station.resource for station in memory.program.stations),
        times=memory.arrays["sample_times"][:sampled],
        stations=np.ascontiguousarray(memory.arrays["station_samples"][:sampled]),
        inference=np.ascontiguousarray(memory.arrays["inference_samples"][:sampled]),
        workloads=np.ascontiguousarray(memory.arrays["workload_samples"][:sampled]),
    )
