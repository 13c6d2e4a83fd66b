"""Sums by tick: what requests add up to between two sampling times, request by request."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.records import Floats
from simulator.results.latencies import Counts, ExactCollector, LatencySeries, SketchCollector


def add_by_tick(sums: Floats, tick: Counts, values: NDArray[Any]) -> None:
    """Add rows of `values`, shape (n, columns), to the rows of `sums` that their ticks say, one after the other."""
    if not len(tick):
        return
    first, last = int(tick[0]), int(tick[-1]) + 1
    places = np.concatenate([np.arange(last - first), tick - first])
    for column, added in zip(sums.T, values.T, strict=True):
        column[first:last] = np.bincount(places, weights=np.concatenate([column[first:last], added]))


class TimeSums:
    """Times (s) of requests and their sums, by tick; `sketched` ones are counted in bins."""

    def __init__(self, ticks: int, sketched: bool) -> None:
        self.collector: SketchCollector | ExactCollector = SketchCollector(ticks) if sketched else ExactCollector(ticks)
        self.totals = np.zeros((ticks, 1))

    def add(self, tick: Counts, times: Floats) -> None:
        """Add the next times, shape (n,), and the tick of each, in order."""
        add_by_tick(self.totals, tick, times[:, None])
        self.collector.add(tick, times)

    def series(self) -> LatencySeries:
        """All of them, to be cut at ticks."""
        return self.collector.series(np.ascontiguousarray(self.totals[:, 0]))
