"""Retry budgets."""

from __future__ import annotations

from simulator.engines.compiled.pointers import Record, inlined, station_at
from simulator.engines.compiled.stations.station import account


@inlined
def _refill(w: Record, s: Record) -> None:
    account(w, s)
    level = s.level + (w.now - s.refilled) * s.rate
    s.level = level if level < s.burst else s.burst
    s.refilled = w.now


@inlined
def deposit(w: Record, station: int, amount: float) -> None:
    """Add tokens."""
    s = station_at(w.stations, station)
    _refill(w, s)
    level = s.level + amount
    s.level = level if level < s.burst else s.burst


@inlined
def allows(w: Record, station: int) -> bool:
    """Whether there is a token for a retry; where there is none, the retry is counted as refused."""
    s = station_at(w.stations, station)
    _refill(w, s)
    if s.level < 1.0:
        s.arrivals += 1
        s.rejections += 1
        return False
    return True


@inlined
def spend(w: Record, station: int) -> None:
    """Take the token that there is for a retry."""
    s = station_at(w.stations, station)
    s.arrivals += 1
    s.level -= 1.0
    s.busy_area += 1.0
    s.delivered += 1.0
    s.completions += 1
