"""Token buckets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulator.engines.simpy.stations.queue import Queue
from simulator.engines.simpy.stations.station import Station
from simulator.engines.simpy.tokens import Token
from simulator.program.program import DOES_NOT_FIT, RATE_LIMITED
from simulator.program.stations import Bucket, Discipline

if TYPE_CHECKING:
    from simulator.engines.simpy.engine import Engine


class BucketStation(Station):
    """`Bucket`: tokens drip in at a rate; `busy_area` and `delivered` count the tokens taken."""

    def __init__(self, engine: Engine, spec: Bucket) -> None:
        super().__init__(engine)
        self.rate, self.burst, self.waits = spec.rate, spec.burst, spec.waits
        self.level = spec.burst
        self.refilled = 0.0
        self.queue = Queue(Discipline.FIFO)
        self.timer: Any = None
        self.keys = spec.keys
        self.taken: dict[int, tuple[float, float]] = {}  # by key: tokens that were missing when, where there are keys

    def _refill(self) -> float:
        """Bring the level and the integrals up to now; a sample leaves the level, so changes no trajectory."""
        now = self.account()
        self.level = min(self.burst, self.level + (now - self.refilled) * self.rate)
        self.refilled = now
        return now

    def enter(self, token: Token, amount: float, component: int) -> bool:
        """Ask for `amount` tokens."""
        token.since = self._refill()
        token.amount = amount
        token.component = component
        self.arrivals += 1
        if amount > self.burst:
            return self.reject(token, DOES_NOT_FIT)
        if not self.waiting and self.level >= amount:
            self._take(amount)
            return True
        if not self.waits:
            return self.reject(token, RATE_LIMITED)
        token.at = self
        self.waiting += 1
        self.queue.push(token)
        if self.waiting == 1:
            self._await_head()
        return False

    def enter_of_key(self, token: Token, amount: float, component: int, key: int) -> bool:
        """Ask for `amount` tokens of a key's bucket."""
        now = token.since = self.account()
        token.amount = amount
        token.component = component
        self.arrivals += 1
        missing, since = self.taken.get(key % self.keys, (0.0, 0.0))
        missing = max(missing - (now - since) * self.rate, 0.0)
        if amount > self.burst:
            return self.reject(token, DOES_NOT_FIT)
        if missing + amount > self.burst:
            return self.reject(token, RATE_LIMITED)
        self.taken[key % self.keys] = missing + amount, now
        self._count(amount)
        return True

    def _take(self, amount: float) -> None:
        self.level = max(self.level - amount, 0.0)
        self._count(amount)

    def _count(self, amount: float) -> None:
        self.busy_area += amount
        self.delivered += amount
        self.completions += 1

    def _await_head(self) -> None:
        head = self.queue.head()
        delay = max((head.amount - self.level) / self.rate, 0.0)
        self.timer = self.engine.after(delay, self._serve_head, head)

    def _serve_head(self, token: Token) -> None:
        now = self._refill()
        self.timer = None
        self._take(token.amount)
        self._dequeue(token, now)
        self.engine.run(token)

    def _dequeue(self, token: Token, now: float) -> None:
        self.queue.remove(token)
        self.waiting -= 1
        token.waited(now)
        token.at = None
        if self.waiting and self.timer is None:
            self._await_head()

    def withdraw(self, token: Token) -> None:
        """Leave the queue; where it was the head, the next one's wait starts from the present level."""
        now = self._refill()
        self.withdrawals += 1
        if self.queue.head() is token:
            self.engine.cancel_timer(self.timer)
            self.timer = None
        self._dequeue(token, now)
