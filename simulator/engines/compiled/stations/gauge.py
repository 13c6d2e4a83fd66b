"""Numbers that instructions read and change."""

from __future__ import annotations

from simulator.engines.compiled.pointers import Record, compiled, station_at
from simulator.engines.compiled.stations.pool import account


@compiled
def set_level(w: Record, station: int, level: float) -> None:
    """Change the level."""
    s = station_at(w.stations, station)
    account(w, s)
    s.used = level
