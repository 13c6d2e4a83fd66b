"""Hit ratios: how often lookups find their key in the long run, by keys' popularity and rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.analytic.caches import (
    che_hit_ratio,
    fifo_hit_ratio,
    lfu_hit_ratio,
    lru_behind_lru_hit_ratio,
    ttl_hit_ratio,
)
from simulator.analytic.keys import Keys, Missed, Sharded, keys_of, popularity_of, shards_of, shares_of
from simulator.analytic.reading import (
    CodePath,
    Reading,
    offered_rate,
    operation_shares,
    reciprocal,
    users_of,
)
from simulator.program import instructions as ops
from simulator.program.program import Entry, Program, Users, Workload
from simulator.program.stations import (
    Eviction,
    Store,
)

Floats = NDArray[np.float64]

_HIT_RATIO: dict[Eviction, Callable[[Floats, int], float]] = {
    Eviction.LRU: che_hit_ratio,
    Eviction.FIFO: fifo_hit_ratio,
    Eviction.LFU: lfu_hit_ratio,
}


@dataclass(frozen=True, slots=True)
class _Request:
    """A lookup's traffic to a store: keys, rate (1/s) to weigh it by, and whether that is an offered rate."""

    keys: Keys
    rate: float = 1.0
    known: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class StoreFacts:
    """What a store is asked for: the `popularity` of each key from 0 on, and its hit ratio in the long run.

    `rate` (1/s) is that of the lookups of open workloads, None where closed ones come too.
    """

    popularity: Floats
    hit_ratio: float
    rate: float | None


def stores(program: Program) -> dict[int, StoreFacts]:
    """The stores that are looked up, by station number. Raises as `facts` does."""
    keys = _lookups(program)
    reading = Reading(program, _hit_ratios(program, {pc: [_Request(drawn)] for pc, drawn in keys.items()}))
    found = {}
    for number, requests in _traffic(program, _rated(reading, keys)).items():
        total = math.fsum(request.rate for request in requests)
        if total > 0.0:
            known = all(request.known for request in requests)
            ratio = _store_hit_ratio(_store(program, number), requests)
            found[number] = StoreFacts(_popularity(_mix(requests)), ratio, total if known else None)
    return found


def _lookups(program: Program) -> dict[int, Keys]:
    """The keys of lookups that count, by instruction; of one that others lead to, those that these miss."""
    drawn, sharding = keys_of(program), shards_of(program)
    found: dict[int, Keys] = {}
    for pc, asked in drawn.items():
        instruction = program.instructions[pc]
        if isinstance(instruction, ops.Lookup) and instruction.counted:
            behind = [before for before in found if _leads_to(program, before, pc)]
            found[pc] = _missed_by(program, behind[-1], found[behind[-1]], behind[-1] in sharding) if behind else asked
    return found


def _leads_to(program: Program, lookup: int, later: int) -> bool:
    """Whether a later lookup is for the same key and comes only where this one misses."""
    instructions: Any = program.instructions
    first, second = instructions[lookup], instructions[later]
    end = instructions[first.miss - 1]
    if not (isinstance(end, ops.Jump) and first.miss <= later < end.target):
        return False
    between = instructions[lookup + 1 : later]
    written = any(getattr(each, "register", None) == first.key_register for each in between)
    return first.key_register == second.key_register and not written


def _missed_by(program: Program, lookup: int, keys: Keys, sharded: bool) -> Keys:
    """The keys that a lookup does not find; times to live are left out."""
    caches = [_store(program, number) for number in _stores_of(program, lookup)]
    if any(cache.multiset for cache in caches):
        return keys
    capacity = sum(cache.capacity for cache in caches) if sharded else caches[0].capacity
    return Missed(keys, capacity, caches[0].eviction, sharded or len(caches) == 1)


def settled_reading(program: Program) -> Reading:
    """Read with all lookups weighing the same; where hit ratios depend on rates, read again at the rates so found."""
    keys = _lookups(program)
    reading = Reading(program, _hit_ratios(program, {pc: [_Request(drawn)] for pc, drawn in keys.items()}))
    return Reading(program, _hit_ratios(program, _rated(reading, keys))) if _need_rates(program, keys) else reading


def _rated(reading: Reading, keys: Mapping[int, Keys]) -> dict[int, list[_Request]]:
    """The traffic of each lookup, weighed by how often it comes."""
    requests: dict[int, list[_Request]] = {pc: [] for pc in keys}
    for workload, entry, rate, path in entries_of(reading):
        known = not isinstance(workload.source, Users) and math.isfinite(rate)
        for pc in keys.keys() & path.flow.keys():
            weight = rate if math.isfinite(rate) else 1.0
            requests[pc].append(_Request(keys[pc], weight * entry.share * path.flow[pc], known))
    return requests


def entries_of(reading: Reading) -> Iterator[tuple[Workload, Entry, float, CodePath]]:
    """Every operation of every workload, with the workload's rate: offered, or of closed ones at zero load."""
    for workload, paths in zip(reading.program.foreground, reading.workloads, strict=True):
        rate = offered_rate(workload)
        if rate is None:
            users, think = users_of(workload, reading)
            times = [reading.time_left[entry.pc] for entry in workload.entries]
            cycle = think + float(np.average(times, weights=operation_shares(workload)))
            rate = (users or 0) * reciprocal(cycle)
        for entry, path in zip(workload.entries, paths, strict=True):
            yield workload, entry, rate, path


def _need_rates(program: Program, keys: Mapping[int, Keys]) -> bool:
    """Whether a hit ratio depends on how often lookups come: stores with a time to live, or with several keys."""
    seen: dict[int, set[Keys]] = {}
    for pc, asked in keys.items():
        for number in _stores_of(program, pc):
            seen.setdefault(number, set()).add(asked)
    return any(len(kinds) > 1 or _store(program, number).time_to_live for number, kinds in seen.items())


def _traffic(program: Program, requests: Mapping[int, list[_Request]]) -> dict[int, list[_Request]]:
    """The requests that come to each store, by station number, of those of each lookup, by instruction."""
    sharding = shards_of(program)
    traffic: dict[int, list[_Request]] = {}
    for pc, several in requests.items():
        stations, shards = _stores_of(program, pc), sharding.get(pc)
        shares = [1.0 / len(stations)] * len(stations) if shards is None else shares_of(shards, len(stations))
        for index, (number, share) in enumerate(zip(stations, shares, strict=False)):
            traffic.setdefault(number, []).extend(
                _Request(one.keys if shards is None else Sharded(one.keys, shards, index), one.rate * share, one.known)
                for one in several
            )
    return traffic


def _stores_of(program: Program, pc: int) -> tuple[int, ...]:
    instruction: Any = program.instructions[pc]
    stations: tuple[int, ...] = instruction.place.stations
    return stations


def _store(program: Program, number: int) -> Store:
    station = program.stations[number]
    if not isinstance(station, Store):
        raise ValueError(f"a lookup in {station.resource}, which is no store")
    return station


def _hit_ratios(program: Program, requests: Mapping[int, list[_Request]]) -> dict[int, float]:
    """Hit ratio of each lookup: the mean over the stores of its place."""
    of_store = {
        number: _store_hit_ratio(_store(program, number), several)
        for number, several in _traffic(program, requests).items()
    }
    sharding, ratios = shards_of(program), {}
    for pc in requests:
        stations = _stores_of(program, pc)
        shares = shares_of(sharding[pc], len(stations)) if pc in sharding else [1.0 / len(stations)] * len(stations)
        ratios[pc] = math.fsum(share * of_store[number] for share, number in zip(shares, stations, strict=False))
    return ratios


def _store_hit_ratio(store: Store, requests: list[_Request]) -> float:
    """Hit ratio of all requests to a store together; 0 where there are none, or where others put in what they find."""
    total = math.fsum(request.rate for request in requests)
    if total <= 0.0 or store.multiset:
        return 0.0
    mix = _mix(requests)
    ratio = _policy_hit_ratio(mix, store.capacity, store.eviction)
    if store.time_to_live is None or not all(request.known for request in requests):
        return ratio
    popularity = _popularity(mix)
    return min(ratio, ttl_hit_ratio(popularity, total, store.time_to_live)) if popularity.any() else ratio


def _mix(requests: list[_Request]) -> tuple[tuple[Keys, float], ...]:
    """The kinds of keys with their shares of the requests."""
    weights: dict[Keys, float] = {}
    for request in requests:
        weights[request.keys] = weights.get(request.keys, 0.0) + request.rate
    total = math.fsum(weights.values())
    return tuple((keys, weight / total) for keys, weight in weights.items() if weight > 0.0)


@lru_cache(maxsize=256)
def _policy_hit_ratio(mix: tuple[tuple[Keys, float], ...], capacity: int, eviction: Eviction) -> float:
    popularity = _popularity(mix)
    if not popularity.any():
        return 1.0
    match mix:
        case ((Missed(keys, first, Eviction.LRU, True), _),) if eviction is Eviction.LRU:
            return lru_behind_lru_hit_ratio(popularity_of(keys), first, capacity)
    return _HIT_RATIO[eviction](popularity, capacity)


def _popularity(mix: tuple[tuple[Keys, float], ...]) -> Floats:
    """Probability of each key among requests that draw from several distributions."""
    parts = [(popularity_of(keys), weight) for keys, weight in mix]
    total = np.zeros(max(len(part) for part, _ in parts))
    for part, weight in parts:
        if (whole := part.sum()) > 0.0:
            total[: len(part)] += weight / whole * part
    return total
