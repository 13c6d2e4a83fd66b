"""Requests and the tokens that walk their programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simpy import Timeout

if TYPE_CHECKING:
    from simulator.engines.simpy.stations.station import Held, Position


class Request:
    """One request of a workload; `user` is the closed workload's user who waits for it, `meters` its meters."""

    __slots__ = ("arrival", "meters", "number", "operation", "retries", "user", "workload")

    def __init__(self, workload: int, number: int, user: int, arrival: float, meters: int) -> None:
        self.meters = [0.0] * meters
        self.workload = workload
        self.number = number
        self.user = user
        self.arrival = arrival
        self.operation = 0
        self.retries = 0


@dataclass(slots=True)
class OpenScope:
    """A scope that a token is inside: where to go when it fails, and how much to undo."""

    handler: int
    holds: int
    reason: int
    until_first_token: bool = False
    timer: Timeout | None = None


class Token:
    """One thread of control of a request.

    `times` holds (wait, service) of each component in turn. `at` is where the token is blocked, None while it
    runs or is about to; `since`, `amount`, `component` and `timer` belong to that place. `refused` is the reason for
    which a woken token is to fail, None where it goes on. Tokens are numbered as they are `created`. `publisher` is who
    waits for it.
    """

    __slots__ = (
        "__weakref__", "alive", "amount", "at", "branches", "component", "created", "detached", "detaches", "frame",
        "holds", "mark", "need", "parent", "pc", "publisher", "reason", "refused", "request", "scopes", "since",
        "timer", "times",
    )  # fmt: skip

    def __init__(self, request: Request, pc: int, frame: list[int], times: list[float], created: int = 0) -> None:
        self.created = created
        self.request = request
        self.pc = pc
        self.frame = frame
        self.times = times
        self.parent: Token | None = None
        self.publisher: Token | None = None
        self.detached = False
        self.alive = True
        self.scopes: list[OpenScope] = []
        self.holds: list[tuple[Held, float]] = []  # with the units of a pool, or the key of a lock
        self.branches: list[Token] = []
        self.need = 0
        self.detaches = False
        self.reason = 0
        self.refused: int | None = None
        self.at: Position | None = None
        self.since = 0.0
        self.amount = 0.0
        self.component = 0
        self.timer: Timeout | None = None
        self.mark: list[object] = []

    def waited(self, now: float) -> None:
        """Account the time since `since` as waiting, and start afresh from now."""
        self.times[2 * self.component] += now - self.since
        self.since = now

    def served(self, now: float) -> None:
        """Account the time since `since` as service, and start afresh from now."""
        self.times[2 * self.component + 1] += now - self.since
        self.since = now
