"""Batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulator.engines.simpy.stations.queue import Queue
from simulator.engines.simpy.stations.station import UsedStation
from simulator.engines.simpy.tokens import Token
from simulator.program.stations import Batch, Discipline
from simulator.streams import Stream

if TYPE_CHECKING:
    from simulator.engines.simpy.engine import Engine


class BatchStation(UsedStation):
    """`Batch`: `busy` counts the jobs in service, `used` the share of its time that they take in full batches.

    There a job takes `each` seconds of the base beside its own. A batch in service `lasts` so long.
    """

    def __init__(self, engine: Engine, spec: Batch) -> None:
        super().__init__(engine)
        self.most, self.linger = spec.most, spec.linger
        base = engine.program.draws[spec.base]
        self.base = Stream(engine.streams, base.stream, base.distribution)
        self.batches = 0
        self.queue = Queue(Discipline.FIFO)
        self.batch: dict[Token, None] = {}
        self.serving = False
        self.began = self.each = self.lasts = 0.0
        self.timer: Any = None  # runs while the server is free and the first waiting job lingers

    def enter(self, token: Token, amount: float, component: int) -> bool:
        """Ask for service in which `amount` seconds are the job's own."""
        now = self.account()
        self.arrivals += 1
        token.at = self
        token.since = now
        token.amount = amount
        token.component = component
        self.waiting += 1
        self.queue.push(token)
        if not self.serving and (self.timer is None or self.waiting >= self.most):
            self._start_or_linger(now)
        return False

    def _start_or_linger(self, now: float) -> None:
        if self.waiting >= self.most or now - self.queue.head().since >= self.linger:
            self._start(now)
        else:
            self._linger(now)

    def _linger(self, now: float) -> None:
        left = self.linger - (now - self.queue.head().since)
        self.timer = self.engine.after(max(left, 0.0), self._start_late, None)

    def _stop_lingering(self) -> None:
        if self.timer is not None:
            self.engine.cancel_timer(self.timer)
            self.timer = None

    def _start_late(self, _: None) -> None:
        self.timer = None
        self._start(self.account())

    def _start(self, now: float) -> None:
        self._stop_lingering()
        duration = self.base.at(self.batches)
        self.each = duration / self.most
        self.batches += 1
        self.serving = True
        self.began = now
        while self.waiting and self.busy < self.most:
            token = self.queue.pop()
            self.waiting -= 1
            token.waited(now)
            self.batch[token] = None
            self.busy += 1
            duration += token.amount
        self.lasts = duration
        for token in self.batch:
            self.used += self._work(token)
        self.engine.after(duration, self._complete, None)

    def _work(self, token: Token) -> float:
        """Seconds of a full batch's that a job in service does in a second."""
        return (self.each + token.amount) / self.lasts if self.lasts > 0.0 else 0.0

    def _complete(self, _: None) -> None:
        now = self.account()
        self.serving = False
        for token in self.batch:
            self._leave(token, now)
            self.completions += 1
            self.engine.wake(token)
        self.batch.clear()
        if self.waiting:
            self._start_or_linger(now)

    def _leave(self, token: Token, now: float) -> None:
        work = self._work(token)
        self.delivered += work * (now - token.since)
        self.busy -= 1
        self.used = self.used - work if self.busy else 0.0
        token.served(now)
        token.at = None

    def withdraw(self, token: Token) -> None:
        """Leave the queue, or the batch, which goes on; where it was the first, the next one's time to linger runs."""
        now = self.account()
        self.withdrawals += 1
        if token in self.batch:
            del self.batch[token]
            self._leave(token, now)
            return
        first = self.queue.head() is token
        self.queue.remove(token)
        self.waiting -= 1
        token.waited(now)
        token.at = None
        if first and self.timer is not None:
            self._stop_lingering()
            if self.waiting:
                self._linger(now)

    def in_progress(self, now: float) -> float:
        """What jobs now in service have had."""
        return self.used * (now - self.began)
