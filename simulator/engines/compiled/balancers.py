"""Balancers: choosing a replica among those that are not excluded, given a uniform draw."""

from __future__ import annotations

from simulator.engines.compiled.choices import LEAST_OUTSTANDING, RANDOM, ROUND_ROBIN, WEIGHTED
from simulator.engines.compiled.pointers import (
    Record,
    balancer_at,
    compiled,
    float_at,
    inlined,
    integer_at,
    set_float,
    set_integer,
    station_at,
)

NOBODY = -1


@inlined
def _outstanding(w: Record, b: Record, replica: int) -> int:
    pool = station_at(w.stations, integer_at(w.table, b.pools + replica))
    return pool.busy + pool.waiting


@inlined
def _is_member(w: Record, b: Record, replica: int) -> bool:
    return b.members == b.count or integer_at(w.counters, b.excluded + replica) == 0


@compiled
def exclude(w: Record, balancer: int, replica: int) -> None:
    """Choose a replica no more, until as many `include`."""
    b = balancer_at(w.balancers, balancer)
    before = integer_at(w.counters, b.excluded + replica)
    set_integer(w.counters, b.excluded + replica, before + 1)
    if before == 0:
        b.members -= 1


@compiled
def include(w: Record, balancer: int, replica: int) -> None:
    """Undo one `exclude`."""
    b = balancer_at(w.balancers, balancer)
    after = integer_at(w.counters, b.excluded + replica) - 1
    set_integer(w.counters, b.excluded + replica, after)
    if after == 0:
        b.members += 1


@compiled
def choose(w: Record, balancer: int, uniform: float) -> int:
    """The index of a replica, or NOBODY."""
    b = balancer_at(w.balancers, balancer)
    if b.members == 0:
        return NOBODY
    if b.policy == ROUND_ROBIN:
        b.position = _next_member(w, b, b.position)
        return b.position
    if b.policy == RANDOM:
        return _member(w, b, int(uniform * b.members))
    if b.policy == LEAST_OUTSTANDING:
        best = candidate = _next_member(w, b, b.position)
        for _ in range(1, b.members):
            candidate = _next_member(w, b, candidate)
            if _outstanding(w, b, candidate) < _outstanding(w, b, best):
                best = candidate
        b.position = best
        return best
    if b.policy == WEIGHTED:
        return _weighted(w, b)
    return _power_of_two(w, b, uniform)


@inlined
def _next_member(w: Record, b: Record, replica: int) -> int:
    """The member after a replica in round-robin order."""
    replica = (replica + 1) % b.count
    while not _is_member(w, b, replica):
        replica = (replica + 1) % b.count
    return replica


@inlined
def _member(w: Record, b: Record, number: int) -> int:
    """The member with so many before it."""
    if b.members == b.count:
        return number
    replica = -1
    for _ in range(number + 1):
        replica += 1
        while not _is_member(w, b, replica):
            replica += 1
    return replica


@inlined
def _weighted(w: Record, b: Record) -> int:
    """The member with the most credit; credits follow the weights among the numbers."""
    best = _next_member(w, b, b.count - 1)
    credits = b.weights + b.count
    total = 0.0
    for candidate in range(b.count):
        if _is_member(w, b, candidate):
            weight = float_at(w.numbers, b.weights + candidate)
            credit = float_at(w.numbers, credits + candidate) + weight
            set_float(w.numbers, credits + candidate, credit)
            total += weight
            if credit > float_at(w.numbers, credits + best):
                best = candidate
    set_float(w.numbers, credits + best, float_at(w.numbers, credits + best) - total)
    return best


@inlined
def _power_of_two(w: Record, b: Record, uniform: float) -> int:
    count = b.members
    if count == 1:
        return _member(w, b, 0)
    pair = int(uniform * (count * (count - 1)))
    first, second = pair // (count - 1), pair % (count - 1)
    if second >= first:
        second += 1
    one, other = _member(w, b, first), _member(w, b, second)
    return other if _outstanding(w, b, other) < _outstanding(w, b, one) else one
