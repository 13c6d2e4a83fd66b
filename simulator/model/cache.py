"""Caches: keyed entries with an eviction policy; whether a lookup hits is simulated key by key."""

from __future__ import annotations

from simulator.model.part import Count, Part, PositiveDuration
from simulator.program.builder import Builder
from simulator.program.stations import Eviction, Store


class Cache(Part):
    """A cache of equal-sized entries, shared by all that look up in it; a lookup itself takes no time."""

    entries: Count
    """How many it holds."""
    eviction: Eviction = Eviction.LRU
    """Which entry goes when it is full: least recently used, oldest, or least frequently used."""
    time_to_live: PositiveDuration | None = None
    """Age at which an entry no longer counts."""

    def lower(self, builder: Builder, name: str) -> int:
        """The cache's store."""
        return builder.station(Store(f"caches.{name}", self.entries, self.eviction, self.time_to_live))
