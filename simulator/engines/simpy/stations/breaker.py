"""Circuit breakers."""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING

from simulator.engines.simpy.stations.station import Outcome, Station
from simulator.engines.simpy.tokens import Token
from simulator.program.program import CIRCUIT_OPEN
from simulator.program.stations import Breaker

if TYPE_CHECKING:
    from simulator.engines.simpy.engine import Engine


class State(Enum):
    """Whether tokens may pass."""

    CLOSED = auto()
    OPEN = auto()
    HALF_OPEN = auto()


class BreakerStation(Station):
    """`Breaker`: `busy` counts permits, `hits` failures, and `busy_area` the time in which it is not closed.

    A permit is the number of changes of state before it was given.
    """

    def __init__(self, engine: Engine, spec: Breaker) -> None:
        super().__init__(engine)
        self.spec = spec
        self.state = State.CLOSED
        self.changes = 0
        self.opened = 0.0
        self.reports: deque[bool] = deque(maxlen=spec.window)  # the last ones while closed: whether each is a failure
        self.failures = 0  # among them
        self.trials = self.successes = 0  # while half-open: permits that are out or have succeeded, and the latter

    def account(self) -> float:
        """Bring the integral of the time in which it is not closed up to now."""
        now = self.engine.environment.now
        span = now - self.last
        if span > 0.0:
            if self.state is not State.CLOSED:
                self.busy_area += span
            self.last = now
        return now

    def enter(self, token: Token, amount: float, component: int) -> bool:
        """Ask for a permit."""
        now = self.account()
        self.arrivals += 1
        token.component = component
        if self.state is State.OPEN and now - self.opened >= self.spec.open_time:
            self._change(State.HALF_OPEN)
        if self.state is State.OPEN or (self.state is State.HALF_OPEN and self.trials >= self.spec.trials):
            return self.reject(token, CIRCUIT_OPEN)
        self.trials += 1
        self.busy += 1
        token.holds.append((self, float(self.changes)))
        return True

    def release(self, amount: float, outcome: Outcome) -> None:
        """Take a report: `amount` is the permit."""
        now = self.account()
        self.completions += 1
        self.busy -= 1
        if outcome is Outcome.FAILURE:
            self.hits += 1
        if amount != self.changes:
            return
        if outcome is Outcome.CANCELLED:
            self.trials -= 1
        elif self.state is State.HALF_OPEN:
            self._report_trial(outcome is Outcome.FAILURE, now)
        else:
            self._report(outcome is Outcome.FAILURE, now)

    def _report_trial(self, failure: bool, now: float) -> None:
        self.successes += 1
        if failure:
            self._open(now)
        elif self.successes >= self.spec.trials:
            self._change(State.CLOSED)

    def _report(self, failure: bool, now: float) -> None:
        if len(self.reports) == self.spec.window:
            self.failures -= self.reports[0]
        self.reports.append(failure)
        self.failures += failure
        count = len(self.reports)
        if count >= self.spec.least and self.failures >= self.spec.failure_share * count:
            self._open(now)

    def _open(self, now: float) -> None:
        self.opened = now
        self._change(State.OPEN)

    def _change(self, state: State) -> None:
        self.state = state
        self.changes += 1
        self.reports.clear()
        self.failures = self.trials = self.successes = 0
