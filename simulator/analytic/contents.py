"""What a cache holds after a long time under independent requests: a deterministic sample of its steady state."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulator.analytic.caches import fifo_characteristic_time
from simulator.program.stations import GOLDEN_RATIO, Eviction

Floats = NDArray[np.float64]
SQUARE_ROOT = 0.4142135623730951  # of 2, its fraction


def settled_content(
    popularity: Floats,
    capacity: int,
    eviction: Eviction,
    rate: float | None = None,
    time_to_live: float | None = None,
) -> tuple[int, ...]:
    """Keys that a cache of `capacity` entries holds, the first to be evicted first, given each key's popularity.

    LRU: the keys that were asked for last, the times since being exponential (the independent reference model). FIFO:
    keys by their probability of being there (Martina, Garetto and Leonardi, INFOCOM 2014), in any order. LFU: the
    most popular. Where entries expire and the `rate` (1/s) of requests is known, only keys that were asked for within
    their time to live: λT / (1 + λT) of the time (Jung, Berger and Balakrishnan, INFOCOM 2003).
    """
    keys = np.flatnonzero(popularity > 0)
    chances = popularity[keys] / popularity.sum()
    if eviction is Eviction.LRU:
        ages = -np.log1p(-_spread(keys, GOLDEN_RATIO)) / chances
        kept = np.argsort(ages, kind="stable")[:capacity][::-1]
    elif eviction is Eviction.LFU or capacity >= len(keys):
        kept = np.argsort(-chances, kind="stable")[:capacity][::-1]
    else:
        time = fifo_characteristic_time(chances, capacity)
        reached = np.floor(np.cumsum(chances * time / (1.0 + chances * time)) + 0.5)
        kept = np.flatnonzero(np.diff(reached, prepend=0.0) > 0.0)[:capacity]
        kept = kept[np.argsort(_spread(keys[kept], GOLDEN_RATIO), kind="stable")]
    if rate is not None and time_to_live is not None:
        requests = chances[kept] * (rate * time_to_live)
        kept = kept[_spread(keys[kept], SQUARE_ROOT) < requests / (1.0 + requests)]
    return tuple(keys[kept].tolist())


def _spread(keys: NDArray[np.int64], irrational: float) -> Floats:
    """Numbers evenly spread between 0 and 1, one for each key, however many there are."""
    return np.asarray((keys + 1) * irrational % 1.0, dtype=np.float64)
