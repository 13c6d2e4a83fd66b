"""Balancers: choosing a replica among those that are not excluded, given a uniform draw."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from simulator.engines.simpy.stations.pool import PoolStation
from simulator.program.program import Balancer, Policy

if TYPE_CHECKING:
    from simulator.engines.simpy.engine import Engine

NOBODY = -1


class BalancerState:
    """A balancer with its round-robin position, and how often each replica is excluded."""

    def __init__(self, engine: Engine, spec: Balancer) -> None:
        self.policy = spec.policy
        self.pools = [pool for number in spec.pools if isinstance(pool := engine.stations[number], PoolStation)]
        self.count = len(spec.pools)
        self.position = self.count - 1
        self.weights = spec.weights
        self.credits = [0.0] * len(spec.weights)
        self.excluded = list(spec.excluded) or [0] * self.count
        self._find_members()

    def _find_members(self) -> None:
        self.members = [replica for replica in range(self.count) if not self.excluded[replica]]

    def exclude(self, replica: int) -> None:
        """Choose a replica no more, until as many `include`."""
        self.excluded[replica] += 1
        self._find_members()

    def include(self, replica: int) -> None:
        """Undo one `exclude`."""
        self.excluded[replica] -= 1
        self._find_members()

    def choose(self, uniform: float) -> int:
        """The index of a replica, or NOBODY."""
        if not self.members:
            return NOBODY
        if self.policy is Policy.ROUND_ROBIN:
            self.position = next(self._after_position())
            return self.position
        if self.policy is Policy.RANDOM:
            return self.members[int(uniform * len(self.members))]
        if self.policy is Policy.LEAST_OUTSTANDING:
            # Of equals, min takes the first.
            self.position = min(self._after_position(), key=lambda replica: self.pools[replica].outstanding)
            return self.position
        if self.policy is Policy.WEIGHTED:
            return self._weighted()
        return self._power_of_two(uniform)

    def _after_position(self) -> Iterator[int]:
        """The members in round-robin order."""
        around = ((self.position + step) % self.count for step in range(1, self.count + 1))
        return (replica for replica in around if not self.excluded[replica])

    def _weighted(self) -> int:
        """The member with the most credit: each gets its weight as credit, and the one chosen pays for all."""
        best, total = self.members[0], 0.0
        for candidate in self.members:
            self.credits[candidate] += self.weights[candidate]
            total += self.weights[candidate]
            if self.credits[candidate] > self.credits[best]:
                best = candidate
        self.credits[best] -= total
        return best

    def _power_of_two(self, uniform: float) -> int:
        count = len(self.members)
        if count == 1:
            return self.members[0]
        pair = int(uniform * (count * (count - 1)))
        first, second = pair // (count - 1), pair % (count - 1)
        second += second >= first
        one, other = self.members[first], self.members[second]
        return other if self.pools[other].outstanding < self.pools[one].outstanding else one
