"""Sources: what makes requests come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from simulator.distributions import Constant
from simulator.engines.simpy.tokens import Request
from simulator.errors import UsageError
from simulator.program.arrivals import Arrivals
from simulator.program.program import Draw, Messages, Users
from simulator.streams import Stream

if TYPE_CHECKING:
    from simulator.engines.simpy.engine import Engine

MOST_STARTS_AT_ONCE = 1_000_000


class Source(Protocol):
    """Starts a workload's requests."""

    def start(self) -> None:
        """Schedule the first ones."""

    def request_ended(self, request: Request) -> None:
        """A request of this workload has ended."""


def source_of(engine: Engine, workload: int) -> Source:
    """The source of a workload."""
    spec = engine.program.workloads[workload]
    if isinstance(spec.source, Users):
        return ClosedSource(engine, workload, spec.source)
    if isinstance(spec.source, Messages):
        return MessageSource()
    return OpenSource(engine, workload, spec.source)


class OpenSource:
    """Requests come whatever becomes of them."""

    def __init__(self, engine: Engine, workload: int, arrivals: Arrivals) -> None:
        self.engine = engine
        self.workload = workload
        name = f"{engine.program.workloads[workload].name}/arrivals"
        self.gaps = self._each(arrivals, name)
        self.number = 0

    def _each(self, arrivals: Arrivals, name: str) -> Iterator[float]:
        for block in arrivals.gaps(self.engine.streams, name):
            yield from block.tolist()

    def start(self) -> None:
        """Schedule the first arrival."""
        self._schedule_next()

    def _schedule_next(self) -> None:
        gap = next(self.gaps, None)
        if gap is not None:
            self.engine.after(gap, self._arrive, self.number)

    def _arrive(self, number: int) -> None:
        self.number += 1
        self._schedule_next()
        self.engine.start_request(self.workload, number, -1)

    def request_ended(self, request: Request) -> None:
        """Nothing waits for an open workload's requests."""


class MessageSource:
    """Messages come when they are published."""

    def start(self) -> None:
        """Nothing is to be scheduled."""

    def request_ended(self, request: Request) -> None:
        """Who waits for a message is told by its token."""


class ClosedSource:
    """Users who think, send a request, and wait for its end."""

    def __init__(self, engine: Engine, workload: int, users: Users) -> None:
        self.engine = engine
        self.workload = workload
        self.count = users.count
        self.think = self._drawing(engine.program.draws[users.think])
        self.first = self._drawing(engine.program.draws[users.start])
        self.starts = 0
        self.last_start = 0.0

    def _drawing(self, draw: Draw) -> Callable[[int], float]:
        if isinstance(draw.distribution, Constant):
            value = draw.distribution.value
            return lambda number: value
        return Stream(self.engine.streams, draw.stream, draw.distribution).at

    def start(self) -> None:
        """Let every user come, and think before the first request."""
        for user in range(self.count):
            self.engine.after(self.first(user) + self.think(user), self._send, user)

    def _send(self, number: int) -> None:
        now = self.engine.environment.now
        self.starts = self.starts + 1 if now == self.last_start else 0
        self.last_start = now
        if self.starts > MOST_STARTS_AT_ONCE:
            name = self.engine.program.workloads[self.workload].name
            raise UsageError(
                f"workloads.{name}: its users send requests that end at once and do not think: time stands still"
            )
        self.engine.start_request(self.workload, number, number % self.count)

    def request_ended(self, request: Request) -> None:
        """Let the user think before the next request."""
        number = request.number + self.count
        self.engine.after(self.think(number), self._send, number)
