"""Processor sharing."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from simulator.engines.simpy.stations.station import Station
from simulator.engines.simpy.tokens import Token
from simulator.program.stations import Sharing

if TYPE_CHECKING:
    from simulator.engines.simpy.engine import Engine


class SharingStation(Station):
    """`Sharing`: all jobs present progress together; V is the work that each has had since it joined."""

    def __init__(self, engine: Engine, spec: Sharing) -> None:
        super().__init__(engine)
        self.capacity = (0.0, *spec.capacity)
        self.most = len(spec.capacity)
        self.alone = spec.capacity[0]
        self.virtual = 0.0
        self.changed = 0.0
        self.order = 0
        self.owed = 0.0  # sum of amount - mark over the jobs present
        self.jobs: list[list[Any]] = []  # heap of [mark, order of joining, token or None where it left]
        self.timer: Any = None

    def total_rate(self, jobs: int) -> float:
        """Work a second of that many jobs together, now."""
        return self.capacity[jobs if jobs < self.most else self.most] * self.speed

    def _change_speed(self, speed: float) -> None:
        self._advance()
        self.speed = speed
        self._reschedule()

    def account(self) -> float:
        """Bring the integrals up to now; V stays, so that a sample changes no trajectory."""
        now = self.engine.environment.now
        span = now - self.last
        if span > 0.0:
            if self.busy:
                rate = self.total_rate(self.busy)
                self.busy_area += span * rate
                self.waiting_area += span * (self.busy - rate / self.alone)
            self.last = now
        return now

    def _virtual_at(self, now: float) -> float:
        if not self.busy:
            return self.virtual
        return self.virtual + (now - self.changed) * (self.total_rate(self.busy) / self.busy)

    def _advance(self) -> float:
        """Bring V and the integrals up to a change now (rule 5)."""
        now = self.account()
        self.virtual = self._virtual_at(now)
        self.changed = now
        return now

    def enter(self, token: Token, amount: float, component: int) -> bool:
        """Ask for `amount` units of work."""
        now = self._advance()
        self.arrivals += 1
        token.at = self
        token.since = now
        token.amount = amount
        token.component = component
        self.order += 1
        token.mark = [self.virtual + amount, self.order, token]
        heappush(self.jobs, token.mark)
        self.owed += amount - (self.virtual + amount)
        self.busy += 1
        self._reschedule()
        return False

    def _reschedule(self) -> None:
        if self.timer is not None:
            self.engine.cancel_timer(self.timer)
            self.timer = None
        jobs = self.jobs
        while jobs and jobs[0][2] is None:
            heappop(jobs)
        if jobs and self.speed > 0.0:
            self._schedule(jobs[0])

    def _schedule(self, first: list[Any]) -> None:
        self.timer = self.engine.after(self._remaining(first), self._complete, first[2])

    def _remaining(self, first: list[Any]) -> float:
        """Seconds until the job that is first to leave has its work."""
        mark: float = first[0]
        return max((mark - self.virtual) / (self.total_rate(self.busy) / self.busy), 0.0)

    def _complete(self, token: Token) -> None:
        now = self._advance()
        self.timer = None
        heappop(self.jobs)
        self.virtual = token.mark[0]  # type: ignore[assignment]
        self._leave(token, token.amount, now)
        self.completions += 1
        self._reschedule()
        self.engine.run(token)

    def _leave(self, token: Token, attained: float, now: float) -> None:
        """Account the time that the work takes alone as service, the rest as waiting."""
        self.delivered += attained
        elapsed = now - token.since
        service = min(attained / self.alone, elapsed)
        token.times[2 * token.component] += elapsed - service
        token.times[2 * token.component + 1] += service
        token.at = None
        self.busy -= 1
        self.owed -= token.amount - token.mark[0]  # type: ignore[operator]
        if not self.busy:
            self.virtual = self.owed = 0.0

    def withdraw(self, token: Token) -> None:
        """Leave with the work unfinished."""
        now = self._advance()
        self.withdrawals += 1
        attained = max(token.amount - (token.mark[0] - self.virtual), 0.0)  # type: ignore[operator]
        token.mark[2] = None
        self._leave(token, attained, now)
        self._reschedule()

    def in_progress(self, now: float) -> float:
        """Work that jobs present have had."""
        return self.owed + self.busy * self._virtual_at(now)
