"""Keyed stores."""

from __future__ import annotations

from collections import OrderedDict
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from simulator.engines.simpy.stations.station import Station
from simulator.program.stations import Eviction, Store

if TYPE_CHECKING:
    from simulator.engines.simpy.engine import Engine


class StoreStation(Station):
    """`Store`: entries with their time of insertion and number of uses, the next to be evicted first."""

    def __init__(self, engine: Engine, spec: Store) -> None:
        super().__init__(engine)
        self.spec = spec
        self.entries: OrderedDict[int, tuple[float, int]] = OrderedDict()
        self.by_use: list[tuple[int, int, int]] = []  # LFU: heap of (uses, order of use, key), stale ones kept
        self.used: dict[int, tuple[int, int]] = {}
        self.copies: dict[int, int] = {}  # of each key of a multiset
        self.order = 0
        for position, key in enumerate(spec.content):
            self._add(key, spec.inserted(position), position + 1)

    def _add(self, key: int, inserted: float, uses: int) -> None:
        self.entries[key] = (inserted, uses)
        self.copies[key] = 1
        self.busy = len(self.entries)
        self._use(key, uses)

    def lookup(self, key: int, counted: bool = True) -> bool:
        """Whether the key is present and fresh; a use of it, which the statistics count or do not."""
        now = self.account()
        self.arrivals += counted
        self.completions += counted
        entry = self.entries.get(key)
        if entry is None:
            return False
        if self.spec.time_to_live is not None and now - entry[0] > self.spec.time_to_live:
            self._remove(key)
            return False
        self.hits += counted
        self._use(key, entry[1] + 1)
        return True

    def insert(self, key: int) -> None:
        """Put the key in (or renew it), evicting one entry where the store is full."""
        now = self.account()
        if key in self.entries:
            self.entries[key] = (now, self.entries[key][1])
            self.copies[key] += 1
            self._use(key, self.entries[key][1])
            return
        if len(self.entries) >= self.spec.capacity:
            self._remove(self._victim())
        self._add(key, now, 0)

    def remove(self, key: int) -> None:
        """Take the key out, where it is there; of a multiset one of its copies."""
        self.account()
        if key not in self.entries:
            return
        self.copies[key] -= 1
        if not self.spec.multiset or not self.copies[key]:
            self._remove(key)

    def _use(self, key: int, uses: int) -> None:
        self.entries[key] = (self.entries[key][0], uses)
        if self.spec.eviction is Eviction.LRU:
            self.entries.move_to_end(key)
        elif self.spec.eviction is Eviction.LFU:
            self.order += 1
            self.used[key] = (uses, self.order)
            heappush(self.by_use, (uses, self.order, key))
            if len(self.by_use) > 4 * self.spec.capacity + 64:
                self.by_use = sorted((*use, key) for key, use in self.used.items())

    def _victim(self) -> int:
        if self.spec.eviction is not Eviction.LFU:
            return next(iter(self.entries))
        while self.used.get(self.by_use[0][2]) != self.by_use[0][:2]:
            heappop(self.by_use)
        return self.by_use[0][2]

    def _remove(self, key: int) -> None:
        del self.entries[key], self.copies[key]
        self.used.pop(key, None)
        self.busy = len(self.entries)
