"""Units that are held, a number of them for each key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.engines.simpy.stations.queue import Queue
from simulator.engines.simpy.stations.station import Outcome, UsedStation
from simulator.engines.simpy.tokens import Token
from simulator.program.program import QUEUE_FULL
from simulator.program.stations import Discipline, KeyedLocks

if TYPE_CHECKING:
    from simulator.engines.simpy.engine import Engine


class Lock:
    """The units of one key that are held, and who waits for one."""

    __slots__ = ("held", "queue", "waiting")

    def __init__(self) -> None:
        self.held = self.waiting = 0
        self.queue = Queue(Discipline.FIFO)


class KeyedLocksStation(UsedStation):
    """`KeyedLocks`: a lock for each key that is held; units of the key watched are `used`, or of all."""

    def __init__(self, engine: Engine, spec: KeyedLocks) -> None:
        super().__init__(engine)
        self.capacity = spec.capacity
        self.queue_limit = spec.queue_limit
        self.watched = spec.watched
        self.locks: dict[int, Lock] = {}

    def enter(self, token: Token, key: int, component: int) -> bool:
        """Ask for a unit of a key."""
        token.since = self.account()
        token.amount = key
        token.component = component
        self.arrivals += 1
        lock = self.locks.setdefault(key, Lock())
        if lock.held < self.capacity:
            self._grant(token, lock)
            return True
        if self.queue_limit is not None and lock.waiting >= self.queue_limit:
            return self.reject(token, QUEUE_FULL)
        token.at = self
        self.waiting += 1
        lock.waiting += 1
        lock.queue.push(token)
        return False

    def _grant(self, token: Token, lock: Lock) -> None:
        self.busy += 1
        lock.held += 1
        self._use(token.amount, 1.0)
        token.holds.append((self, token.amount))

    def _use(self, key: float, units: float) -> None:
        if self.watched is None or key == self.watched:
            self.used += units

    def _leave_queue(self, token: Token, now: float) -> None:
        self.waiting -= 1
        self.locks[int(token.amount)].waiting -= 1
        token.waited(now)
        token.at = None

    def release(self, amount: float, outcome: Outcome) -> None:
        """Give the unit of a key (`amount`) back and grant it to the first that waits for this key."""
        now = self.account()
        self.completions += 1
        self.busy -= 1
        self._use(amount, -1.0)
        lock = self.locks[int(amount)]
        lock.held -= 1
        if lock.waiting:
            token = lock.queue.pop()
            self._leave_queue(token, now)
            self._grant(token, lock)
            self.engine.wake(token)
        elif not lock.held:
            del self.locks[int(amount)]

    def withdraw(self, token: Token) -> None:
        """Leave the queue."""
        now = self.account()
        self.withdrawals += 1
        self.locks[int(token.amount)].queue.remove(token)
        self._leave_queue(token, now)
