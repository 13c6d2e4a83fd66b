"""Servers behind a queue."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from simulator.engines.simpy.stations.queue import Queue
from simulator.engines.simpy.stations.station import Station
from simulator.engines.simpy.tokens import Token
from simulator.program.program import QUEUE_FULL
from simulator.program.stations import Servers

if TYPE_CHECKING:
    from simulator.engines.simpy.engine import Engine


class ServersStation(Station):
    """`Servers`: a queue before c servers."""

    def __init__(self, engine: Engine, spec: Servers) -> None:
        super().__init__(engine)
        self.servers = spec.servers
        self.queue_limit = spec.queue_limit
        self.queue = Queue(spec.discipline)
        self.started = 0.0  # sum of the times at which the jobs in service were started
        self.serving: dict[Token, None] = {}
        self.changed = 0.0  # when the speed changed last; the amount of a job is what was left then

    def enter(self, token: Token, amount: float, component: int) -> bool:
        """Ask for `amount` seconds of service."""
        now = self.account()
        self.arrivals += 1
        token.since = now
        token.amount = amount
        token.component = component
        if self.busy < self.servers:
            token.at = self
            self._start(token, now)
            return False
        if self.queue_limit is not None and self.waiting >= self.queue_limit:
            return self.reject(token, QUEUE_FULL)
        token.at = self
        self.waiting += 1
        self.queue.push(token, self.engine.program.workloads[token.request.workload].priority)
        return False

    def _start(self, token: Token, now: float) -> None:
        token.waited(now)
        self.busy += 1
        self.started += now
        self.serving[token] = None
        self._schedule(token)

    def _schedule(self, token: Token) -> None:
        delay = token.amount / self.speed if self.speed > 0.0 else inf
        token.timer = self.engine.after(delay, self._complete, token)

    def _change_speed(self, speed: float) -> None:
        now = self.account()
        for token in sorted(self.serving, key=lambda token: token.created):
            assert token.timer is not None
            self.engine.cancel_timer(token.timer)
            token.amount = max(token.amount - (now - max(token.since, self.changed)) * self.speed, 0.0)
        self.speed, self.changed = speed, now
        for token in sorted(self.serving, key=lambda token: token.created):
            self._schedule(token)

    def _start_next(self, now: float) -> None:
        if self.waiting:
            self.waiting -= 1
            self._start(self.queue.pop(), now)

    def _complete(self, token: Token) -> None:
        now = self.account()
        self._leave(token, now)
        self.completions += 1
        self._start_next(now)
        self.engine.run(token)

    def _leave(self, token: Token, now: float) -> None:
        del self.serving[token]
        self.delivered += now - token.since
        self.busy -= 1
        self.started = self.started - token.since if self.busy else 0.0
        token.served(now)
        token.timer = token.at = None

    def withdraw(self, token: Token) -> None:
        """Leave the queue, or free the server."""
        now = self.account()
        self.withdrawals += 1
        if token.timer is None:
            self.queue.remove(token)
            self.waiting -= 1
            token.waited(now)
            token.at = None
            return
        self.engine.cancel_timer(token.timer)
        self._leave(token, now)
        self._start_next(now)

    def in_progress(self, now: float) -> float:
        """Seconds of service that jobs now in service have had."""
        return self.busy * now - self.started
