"""What stations have in common.

`enter` returns whether the token goes on at once; otherwise the station resumes it later. `withdraw` takes a blocked
token out again, wherever in the station it is.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

from simulator.engines.simpy.tokens import Token

if TYPE_CHECKING:
    from simulator.engines.simpy.engine import Engine


class Position(Protocol):
    """Somewhere that a token can be blocked at."""

    def withdraw(self, token: Token) -> None:
        """Take the token out, accounting the time that it spent."""

    def now(self) -> float:
        """The present time."""


class Outcome(Enum):
    """How what a token held came back: released by itself, taken from it by a failure, or as it was cancelled."""

    SUCCESS = auto()
    FAILURE = auto()
    CANCELLED = auto()


class Held(Protocol):
    """A station of which tokens hold something."""

    def release(self, amount: float, outcome: Outcome) -> None:
        """Take back what a token held."""


class Station:
    """What every station counts; see `simulator.records.STATION_FIELDS`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.last = 0.0
        self.busy_area = 0.0
        self.waiting_area = 0.0
        self.delivered = 0.0
        self.arrivals = self.completions = self.rejections = self.withdrawals = self.hits = 0
        self.busy = 0
        self.waiting = 0
        self.speed = self.factor = 1.0
        self.halts = 0

    def now(self) -> float:
        """The present time."""
        return self.engine.environment.now

    def account(self) -> float:
        """Bring the integrals up to now, and return now."""
        now = self.engine.environment.now
        span = now - self.last
        if span > 0.0:
            self.busy_area += span * self.busy
            self.waiting_area += span * self.waiting
            self.last = now
        return now

    def in_progress(self, now: float) -> float:
        """Work already credited to jobs still in service."""
        return 0.0

    def sample(self) -> tuple[float, ...]:
        """The station's fields, up to now."""
        now = self.account()
        return (
            self.busy_area, self.waiting_area, self.arrivals, self.completions, self.rejections,
            self.withdrawals, self.hits, self.delivered + self.in_progress(now), self.busy + self.waiting,
        )  # fmt: skip

    def set_speed(self, factor: float) -> None:
        """Go on at `factor` times the full speed, where the station is not halted."""
        self.factor = factor
        self._change_speed(0.0 if self.halts else factor)

    def halt(self) -> None:
        """Stop."""
        self.halts += 1
        self._change_speed(0.0)

    def resume(self) -> None:
        """Undo one `halt`."""
        self.halts -= 1
        self._change_speed(0.0 if self.halts else self.factor)

    def _change_speed(self, speed: float) -> None:
        """Go on at another speed from now (rule 10)."""
        raise NotImplementedError

    def reject(self, token: Token, reason: int) -> bool:
        """Turn a token away; True where it goes on in a handler."""
        self.rejections += 1
        return self.engine.fail(token, reason)


class UsedStation(Station):
    """A station that is busy by what is `used` of it, and not by how many use it."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.used = 0.0

    def account(self) -> float:
        """Bring the integrals of what is used and of tokens waiting up to now, and return now."""
        now = self.engine.environment.now
        span = now - self.last
        if span > 0.0:
            self.busy_area += span * self.used
            self.waiting_area += span * self.waiting
            self.last = now
        return now
