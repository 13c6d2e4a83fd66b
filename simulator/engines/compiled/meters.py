"""Meters: numbers that are recorded with every request, kept behind the times of its root token."""

from __future__ import annotations

from simulator.engines.compiled.layout import NONE
from simulator.engines.compiled.pointers import Record, compiled, float_at, inlined, set_float, token_at, workload_at


@inlined
def meters_of(w: Record, t: Record) -> int:
    """Where the meters of a token's request start among the times; NONE where the request has ended."""
    root = token_at(w.tokens, t.root)
    if not root.is_root or root.serial != t.serial:
        return NONE
    return t.root * w.times_size + 2 * workload_at(w.workloads, t.workload).components


@compiled
def add_to_meter(w: Record, t: Record, meter: int, amount: float) -> None:
    """Add to a meter of a token's request."""
    meters = meters_of(w, t)
    if meters != NONE:
        set_float(w.times, meters + meter, float_at(w.times, meters + meter) + amount)


@compiled
def set_meter(w: Record, t: Record, meter: int, amount: float) -> None:
    """Set a meter of a token's request."""
    meters = meters_of(w, t)
    if meters != NONE:
        set_float(w.times, meters + meter, amount)
