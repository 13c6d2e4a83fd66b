"""Balancers: choosing a replica, given a uniform draw."""

from __future__ import annotations

from simulator.engines.compiled.pointers import Record, balancer_at, compiled, inlined, integer_at, station_at
from simulator.program.program import Policy

ROUND_ROBIN, RANDOM, LEAST_OUTSTANDING, POWER_OF_TWO = range(4)
POLICIES = {
    Policy.ROUND_ROBIN: ROUND_ROBIN,
    Policy.RANDOM: RANDOM,
    Policy.LEAST_OUTSTANDING: LEAST_OUTSTANDING,
    Policy.POWER_OF_TWO: POWER_OF_TWO,
}


@inlined
def _outstanding(w: Record, b: Record, replica: int) -> int:
    pool = station_at(w.stations, integer_at(w.table, b.pools + replica))
    return pool.busy + pool.waiting  # type: ignore[no-any-return]


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
    pair = int(uniform * (count * (count - 1)))
    first, second = pair // (count - 1), pair % (count - 1)
    if second >= first:
        second += 1
    return second if _outstanding(w, b, second) < _outstanding(w, b, first) else first  # type: ignore[no-any-return]
