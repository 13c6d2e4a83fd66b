"""Processor sharing under a quota."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulator.engines.simpy.stations.sharing import SharingStation
from simulator.program.stations import Quota, Sharing

if TYPE_CHECKING:
    from simulator.engines.simpy.engine import Engine


class QuotaStation(SharingStation):
    """`Sharing` with a `Quota`: stands still while `throttled`; `left` seconds of period `number` are not yet used.

    While jobs are present, an event happens at the first of: a completion, the end of the period, the end of the
    quota; of several at once in this order. While none is, periods pass without events.
    """

    def __init__(self, engine: Engine, spec: Sharing, quota: Quota) -> None:
        super().__init__(engine, spec)
        self.quota = quota
        self.number = 0
        self.left = quota.seconds
        self.throttled = False

    def total_rate(self, jobs: int) -> float:
        """Work a second of that many jobs together, now."""
        return 0.0 if self.throttled else super().total_rate(jobs)

    @property
    def _processors(self) -> int:
        """Processors in use by the jobs present."""
        return min(self.busy, self.quota.processors)

    def _advance(self) -> float:
        span = self.engine.environment.now - self.changed
        if self.busy and self.total_rate(self.busy) > 0.0:
            self.left -= span * self._processors
        now = super()._advance()
        if now >= (self.number + 1) * self.quota.period:
            self._begin(max(int(now / self.quota.period), self.number + 1))
        return now

    def _begin(self, number: int) -> None:
        """Begin a period."""
        self.number = number
        self.left = self.quota.seconds
        self.throttled = False

    def _schedule(self, first: list[Any]) -> None:
        engine, quota = self.engine, self.quota
        to_end = max((self.number + 1) * quota.period - engine.environment.now, 0.0)
        if self.total_rate(self.busy) == 0.0:
            self.timer = engine.after(to_end, self._end_period, self.number)
            return
        remaining, processors = self._remaining(first), self._processors
        if remaining <= to_end and remaining * processors <= self.left + quota.SLACK * quota.seconds:
            self.timer = engine.after(remaining, self._complete, first[2])
        elif to_end * processors <= self.left:
            self.timer = engine.after(to_end, self._end_period, self.number)
        else:
            self.timer = engine.after(max(self.left / processors, 0.0), self._throttle, self.number)

    def _end_period(self, number: int) -> None:
        self._advance()
        self.timer = None
        if self.number == number:  # by rounding the event is a little early
            self._begin(number + 1)
        self._reschedule()

    def _throttle(self, number: int) -> None:
        self._advance()
        self.timer = None
        self.throttled = self.number == number  # by rounding the period may already be over
        self._reschedule()
