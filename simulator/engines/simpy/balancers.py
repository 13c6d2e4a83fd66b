"""Balancers: functions that choose a replica, given a uniform draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from simulator.engines.simpy.stations.pool import PoolStation
from simulator.program.program import Balancer, Policy

if TYPE_CHECKING:
    from simulator.engines.simpy.engine import Engine

Choice = Callable[[float], int]


def balancer_of(engine: Engine, spec: Balancer) -> Choice:
    """The choice function of a balancer, with its own round-robin position."""
    count = len(spec.pools)
    if spec.policy is Policy.ROUND_ROBIN:
        return _round_robin(count)
    if spec.policy is Policy.RANDOM:
        return lambda uniform: int(uniform * count)
    if spec.policy is Policy.WEIGHTED:
        return _weighted(spec.weights)
    pools = [pool for number in spec.pools if isinstance(pool := engine.stations[number], PoolStation)]
    if spec.policy is Policy.LEAST_OUTSTANDING:
        return _least_outstanding(pools)
    return _power_of_two(pools)


def _round_robin(count: int) -> Choice:
    position = count - 1

    def choose(uniform: float) -> int:
        nonlocal position
        position = (position + 1) % count
        return position

    return choose


def _weighted(weights: tuple[float, ...]) -> Choice:
    credits = [0.0] * len(weights)
    total = sum(weights)

    def choose(uniform: float) -> int:
        best = 0
        for candidate, weight in enumerate(weights):
            credits[candidate] += weight
            if credits[candidate] > credits[best]:
                best = candidate
        credits[best] -= total
        return best

    return choose


def _least_outstanding(pools: list[PoolStation]) -> Choice:
    count = len(pools)
    position = count - 1

    def choose(uniform: float) -> int:
        nonlocal position
        best = (position + 1) % count
        for step in range(2, count + 1):
            candidate = (position + step) % count
            if pools[candidate].outstanding < pools[best].outstanding:
                best = candidate
        position = best
        return best

    return choose


def _power_of_two(pools: list[PoolStation]) -> Choice:
    count = len(pools)

    def choose(uniform: float) -> int:
        pair = int(uniform * (count * (count - 1)))
        first, second = pair // (count - 1), pair % (count - 1)
        second += second >= first
        return second if pools[second].outstanding < pools[first].outstanding else first

    return choose
