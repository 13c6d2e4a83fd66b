"""Balancers: choosing a replica, given a uniform draw."""

from __future__ import annotations

from simulator.engines.compiled.pointers import (
    Record,
    balancer_at,
    compiled,
    float_at,
    inlined,
    integer_at,
    set_float,
    station_at,
)
from simulator.program.program import Policy

ROUND_ROBIN, RANDOM, LEAST_OUTSTANDING, POWER_OF_TWO, WEIGHTED = range(5)
POLICIES = {
    Policy.ROUND_ROBIN: ROUND_ROBIN,
    Policy.RANDOM: RANDOM,
    Policy.LEAST_OUTSTANDING: LEAST_OUTSTANDING,
    Policy.POWER_OF_TWO: POWER_OF_TWO,
    Policy.WEIGHTED: WEIGHTED,
}


@inlined
def _outstanding(w: Record, b: Record, replica: int) -> int:
    pool = station_at(w.stations, integer_at(w.table, b.pools + replica))
    return pool.busy + pool.waiting  # type: ignore[no-any-return]


@inlined
def _weighted(w: Record, b: Record) -> int:
    """The replica with the most credit; credits follow the weights among the numbers."""
    best, credits = 0, b.weights + b.count
    for candidate in range(b.count):
        credit = float_at(w.numbers, credits + candidate) + float_at(w.numbers, b.weights + candidate)
        set_float(w.numbers, credits + candidate, credit)
        if credit > float_at(w.numbers, credits + best):
            best = candidate
    set_float(w.numbers, credits + best, float_at(w.numbers, credits + best) - b.total)
    return best


@compiled
def choose(w: Record, balancer: int, uniform: float) -> int:
    """The index of a replica."""
    b = balancer_at(w.balancers, balancer)
    count = b.count
    if b.policy == ROUND_ROBIN:
        b.position = (b.position + 1) % count
        return b.position  # type: ignore[no-any-return]
    if b.policy == RANDOM:
        return int(uniform * count)
    if b.policy == LEAST_OUTSTANDING:
        best = (b.position + 1) % count
        for step in range(2, count + 1):
            candidate = (b.position + step) % count
            if _outstanding(w, b, candidate) < _outstanding(w, b, best):
                best = candidate
        b.position = best
        return best  # type: ignore[no-any-return]
    if b.policy == WEIGHTED:
        return _weighted(w, b)
    pair = int(uniform * (count * (count - 1)))
    first, second = pair // (count - 1), pair % (count - 1)
    if second >= first:
        second += 1
    return second if _outstanding(w, b, second) < _outstanding(w, b, first) else first  # type: ignore[no-any-return]
