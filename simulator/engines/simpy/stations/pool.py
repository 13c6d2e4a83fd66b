"""Units that are held."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.engines.simpy.stations.queue import Queue
from simulator.engines.simpy.stations.station import Outcome, UsedStation
from simulator.engines.simpy.tokens import Token
from simulator.program.program import DOES_NOT_FIT, REFUSED, WAITED_TOO_LONG
from simulator.program.stations import Pool

if TYPE_CHECKING:
    from simulator.engines.simpy.engine import Engine


class PoolStation(UsedStation):
    """`Pool`: units held across instructions."""

    def __init__(self, engine: Engine, spec: Pool) -> None:
        super().__init__(engine)
        self.capacity = spec.capacity
        self.queue_limit = spec.queue_limit
        self.refusal = spec.refusal
        self.wait_limit, self.standing = spec.wait_limit, spec.standing
        self.queue = Queue(spec.discipline)
        self.filled = 0.0  # when the queue was last empty
        self.refusals = self.hangs = 0  # how often it has been closed, in either way

    @property
    def outstanding(self) -> int:
        """Requests that hold units or wait for them."""
        return self.busy + self.waiting

    @property
    def room(self) -> float:
        """Units that may be in use before nobody gets more."""
        return -1.0 if self.refusals or self.hangs else self.capacity

    def close(self, hangs: bool) -> None:
        """Grant no more units: turn newcomers away, or let them queue."""
        self.hangs += hangs
        self.refusals += not hangs

    def open(self, hangs: bool) -> None:
        """Undo one `close` of the same kind, and grant units to those waiting."""
        self.hangs -= hangs
        self.refusals -= not hangs
        self._grant_waiting(self.account())

    def enter(self, token: Token, amount: float, component: int) -> bool:
        """Ask for `amount` units."""
        token.since = self.account()
        token.amount = amount
        token.component = component
        self.arrivals += 1
        if amount > self.capacity:
            return self.reject(token, DOES_NOT_FIT)
        if not self.waiting and self.used + amount <= self.room:
            self._grant(token)
            return True
        if self.refusals:
            return self.reject(token, REFUSED)
        if self.queue_limit is not None and self.waiting >= self.queue_limit:
            return self.reject(token, self.refusal)
        token.at = self
        if not self.waiting:
            self.filled = token.since
        self.waiting += 1
        self.queue.push(token, self.engine.program.workloads[token.request.workload].priority)
        return False

    def _grant(self, token: Token) -> None:
        self.busy += 1
        self.used += token.amount
        token.holds.append((self, token.amount))

    def _grant_waiting(self, now: float) -> None:
        while self.waiting and self.used + self.queue.head().amount <= self.room:
            token = self.queue.pop()
            self.waiting -= 1
            waited = now - token.since
            token.waited(now)
            token.at = None
            if self.wait_limit is not None and waited > self.wait_limit and now - self.filled >= self.standing:
                self.rejections += 1
                token.refused = WAITED_TOO_LONG
            else:
                self._grant(token)
            self.engine.wake(token)

    def release(self, amount: float, outcome: Outcome) -> None:
        """Give units back and grant them to those waiting."""
        now = self.account()
        self.completions += 1
        self.busy -= 1
        self.used = self.used - amount if self.busy else 0.0
        self._grant_waiting(now)

    def withdraw(self, token: Token) -> None:
        """Leave the queue; those behind may now fit."""
        now = self.account()
        self.withdrawals += 1
        self.queue.remove(token)
        self.waiting -= 1
        token.waited(now)
        token.at = None
        self._grant_waiting(now)
