"""Hit ratios of caches under independent requests, by the time that a key survives in the cache.

Every function takes the popularities of the keys, one number a key on any common scale: they are normalised
to probabilities. Requests are independent draws from them, and keys have equal sizes.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.program.stations import Eviction

_Floats = NDArray[np.float64]


def che_hit_ratio(probabilities: ArrayLike, capacity: int) -> float:
    """Return the fraction of requests that hit an LRU cache of `capacity` keys.

    An approximation, close from a few tens of keys on. Raises `ValueError` for negative popularities or
    capacity. Che, Tung and Wang, IEEE Journal on Selected Areas in Communications 20 (2002); Fricker, Robert
    and Roberts, ITC 24 (2012).
    """
    return _characteristic_time_hit_ratio(probabilities, capacity, _requested_within)


def fifo_hit_ratio(probabilities: ArrayLike, capacity: int) -> float:
    """Return the fraction of requests that hit a FIFO (or random-eviction) cache of `capacity` keys.

    An approximation, close from a few tens of keys on. Raises `ValueError` for negative popularities or
    capacity. Martina, Garetto and Leonardi, A unified approach to the performance analysis of caching
    systems, INFOCOM (2014).
    """
    return _characteristic_time_hit_ratio(probabilities, capacity, _present_until)


def fifo_characteristic_time(probabilities: ArrayLike, capacity: int) -> float:
    """Return the time, in requests, that a key survives in a FIFO cache of fewer keys than are asked for."""
    requested = _normalised(probabilities)
    _check_capacity(capacity)
    return _solve_increasing(lambda guess: float(_present_until(requested * guess).sum()), capacity)


def lfu_hit_ratio(probabilities: ArrayLike, capacity: int) -> float:
    """Return the fraction of requests that hit a cache that has settled on the `capacity` most popular keys.

    The best that any cache can do without foresight under independent requests. Raises `ValueError` for
    negative popularities or capacity. Coffman and Denning, Operating Systems Theory, ch. 6 (policy A0).
    """
    popularity = _normalised(probabilities)
    _check_capacity(capacity)
    kept = max(popularity.size - capacity, 0)
    return min(float(np.partition(popularity, kept)[kept:].sum()), 1.0) if kept < popularity.size else 0.0


def lru_behind_lru_hit_ratio(probabilities: ArrayLike, first: int, capacity: int) -> float:
    """Return the fraction of requests that hit an LRU cache asked only for what an LRU cache of `first` keys misses.

    A key comes back only after it has left the first cache, so it has to survive in the second one for longer than in
    the first. An approximation, within 0.06 of simulations from a few tens of keys on. Raises `ValueError` for negative
    popularities or capacities. Martina, Garetto and Leonardi, A unified approach to the performance analysis of
    caching systems, INFOCOM (2014), section on tandems.
    """
    popularity = _normalised(probabilities)
    _check_capacity(capacity)
    in_first = _characteristic_time(popularity, first, _requested_within)
    come = popularity * np.exp(-popularity * in_first)
    come = come[come > 0.0]
    if not come.size or capacity >= come.size:
        return 1.0
    if capacity == 0:
        return 0.0
    in_second = _solve_increasing(lambda guess: float(_requested_within(come * guess).sum()), capacity)
    return float(come @ _requested_within(come * max(in_second - in_first, 0.0)) / come.sum())


def missed(probabilities: ArrayLike, capacity: int, eviction: Eviction) -> _Floats:
    """Return the probability that a request for a key misses a cache of `capacity` keys, shape (keys,).

    Raises as the hit ratios do, by whose approximations it is.
    """
    popularity = _normalised(probabilities)
    _check_capacity(capacity)
    if eviction is Eviction.LFU:
        kept = np.argsort(popularity, kind="stable")[max(popularity.size - capacity, 0) :]
        misses = np.ones_like(popularity)
        misses[kept] = 0.0
        return misses
    occupancy = _requested_within if eviction is Eviction.LRU else _present_until
    time = _characteristic_time(popularity, capacity, occupancy)
    return np.zeros_like(popularity) if time == np.inf else 1.0 - occupancy(popularity * time)


def _characteristic_time(popularity: _Floats, capacity: int, occupancy: Callable[[_Floats], _Floats]) -> float:
    """Return the time, in requests, that a key survives; infinite where all have room."""
    requested = popularity[popularity > 0]
    if capacity >= requested.size:
        return np.inf
    return _solve_increasing(lambda guess: float(occupancy(requested * guess).sum()), capacity) if capacity else 0.0


def ttl_hit_ratio(probabilities: ArrayLike, request_rate: float, ttl: float) -> float:
    """Return the fraction of requests that hit when keys expire `ttl` seconds after insertion.

    Hits do not renew a key, and the cache is unbounded. Exact for Poisson requests, `request_rate` (1/s) over
    all keys. Raises `ValueError` for negative inputs. Jung, Berger and Balakrishnan, Modeling TTL-based
    Internet caches, INFOCOM (2003): λT / (1 + λT).
    """
    popularity = _normalised(probabilities)
    if not (0 <= request_rate < np.inf and 0 <= ttl < np.inf):
        raise ValueError(f"request_rate and ttl must be at least 0 and finite, got {request_rate:g} and {ttl:g}")
    return float(popularity @ _present_until(popularity * (request_rate * ttl)))


def _characteristic_time_hit_ratio(
    probabilities: ArrayLike, capacity: int, occupancy: Callable[[_Floats], _Floats]
) -> float:
    """Return the hit ratio when keys survive for the time that fills the cache on average."""
    popularity = _normalised(probabilities)
    _check_capacity(capacity)
    time = _characteristic_time(popularity, capacity, occupancy)
    return 1.0 if time == np.inf else float(popularity @ occupancy(popularity * time))


def _solve_increasing(function: Callable[[float], float], target: int) -> float:
    """Return where an increasing function of a time counted in requests reaches `target`, by bisection."""
    # No more keys can have come in than there were requests.
    low = high = float(target)
    while function(high) < target:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) < target else (low, middle)
    return high


def _requested_within(requests: _Floats) -> _Floats:
    return -np.expm1(-requests)


def _present_until(requests: _Floats) -> _Floats:
    return requests / (1 + requests)


def _normalised(probabilities: ArrayLike) -> _Floats:
    popularity = np.asarray(probabilities, dtype=np.float64)
    if popularity.ndim != 1 or not np.all((popularity >= 0) & (popularity < np.inf)) or not popularity.any():
        raise ValueError("popularities must be one list of finite numbers of at least 0, not all 0")
    normalised: _Floats = popularity / popularity.sum()
    return normalised


def _check_capacity(capacity: int) -> None:
    if capacity < 0 or capacity != int(capacity):
        raise ValueError(f"capacity must be a whole number of at least 0, got {capacity:g}")
