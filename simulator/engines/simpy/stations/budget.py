"""Retry budgets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.engines.simpy.stations.station import Station
from simulator.program.stations import Budget

if TYPE_CHECKING:
    from simulator.engines.simpy.engine import Engine


class BudgetStation(Station):
    """`Budget`: `delivered` counts the retries allowed, `rejections` those refused."""

    def __init__(self, engine: Engine, spec: Budget) -> None:
        super().__init__(engine)
        self.rate, self.burst = spec.rate, spec.burst
        self.level = spec.burst
        self.refilled = 0.0

    def _refill(self) -> None:
        now = self.account()
        self.level = min(self.burst, self.level + (now - self.refilled) * self.rate)
        self.refilled = now

    def deposit(self, amount: float) -> None:
        """Add tokens."""
        self._refill()
        self.level = min(self.burst, self.level + amount)

    def spend(self) -> bool:
        """Take a token for a retry, where there is one."""
        self._refill()
        self.arrivals += 1
        if self.level < 1.0:
            self.rejections += 1
            return False
        self.level -= 1.0
        self.busy_area += 1.0
        self.delivered += 1.0
        self.completions += 1
        return True
