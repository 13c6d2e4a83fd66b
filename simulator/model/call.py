"""Calls of another service, and messages that nobody waits for; time-outs and retries."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, ClassVar, Literal

from simulator.distributions import Constant, StandardUniform
from simulator.model.distribution import SizeDistribution
from simulator.model.part import (
    Count,
    Duration,
    Factor,
    Part,
    PositiveDuration,
    Share,
    Tries,
)
from simulator.model.step import StepPart
from simulator.program.builder import Builder
from simulator.program.instructions import (
    Clear,
    End,
    EndScope,
    Fail,
    Fork,
    Jump,
    Retry,
    Scope,
)
from simulator.program.program import TIMEOUT

if TYPE_CHECKING:
    from simulator.model.site import Site


class Retries(Part):
    """How often, and after what wait, a failed call is tried again."""

    bare: ClassVar[str | None] = "most"

    most: Tries
    """Tries after the first one."""
    backoff: Duration = 0.0
    """Wait before the first retry."""
    factor: Factor = 2.0
    """Growth of the wait from one retry to the next."""
    longest: PositiveDuration = 60.0
    """The wait grows no further than this."""
    jitter: Share = 0.0
    """Share of the wait that is random: 1 waits anything between 0 and the back-off."""

    def delays(self) -> tuple[float, ...]:
        """The wait before each retry, in seconds."""
        waits, wait = [], self.backoff
        for _ in range(self.most):
            waits.append(min(wait, self.longest))
            wait *= self.factor
        return tuple(waits)


class Guard(Part):
    """Time-out and retries around something that may fail."""

    timeout: PositiveDuration | None = None
    """How long the caller waits for one try."""
    on_timeout: Literal["cancel", "abandon"] = "cancel"
    """Whether work that timed out stops at once, or goes on uselessly as it does on most real servers."""
    retries: Retries | None = None
    """`retries: 3` is short for `retries: {most: 3}`."""

    def guard(self, builder: Builder, name: str, body: Callable[[], None]) -> None:
        """Emit `body` inside a scope with the time-out, and the retries in its handler."""
        if self.timeout is None and self.retries is None:
            body()
            return
        attempt, handler, done = builder.label(), builder.label(), builder.label()
        register = builder.register()
        if self.retries:
            builder.emit(Clear(register))
        with builder.repeating() if self.retries else nullcontext():
            builder.mark(attempt)
            timeout = None if self.timeout is None else builder.draw(Constant(self.timeout), "timeout")
            builder.emit(Scope(handler, timeout, TIMEOUT))
            self._attempt(builder, body, done)
            builder.mark(handler)
            if self.retries:
                builder.emit(self._retry(builder, name, self.retries, register, attempt))
            else:
                builder.emit(Fail())
        builder.mark(done)

    def _attempt(self, builder: Builder, body: Callable[[], None], done: int) -> None:
        if self.on_timeout == "cancel":
            body()
            builder.emit(EndScope())
            builder.emit(Jump(done))
            return
        branch = builder.label()
        builder.emit(Fork((branch,), need=1, detach=True, counter=builder.counter()))
        builder.emit(EndScope())
        builder.emit(Jump(done))
        builder.mark(branch)
        with builder.detached():
            body()
        builder.emit(End())

    @staticmethod
    def _retry(builder: Builder, name: str, retries: Retries, register: int, attempt: int) -> Retry:
        draw = builder.draw(StandardUniform() if retries.jitter else Constant(0.0), "backoff")
        component = builder.component(f"{name}.backoff")
        return Retry(register, component, retries.delays(), retries.jitter, draw, attempt)


class Call(Guard, StepPart):
    """Call an operation of another service (or another operation of this one) and wait for its end."""

    verb: ClassVar[str] = "call"
    targets: ClassVar[tuple[str, ...]] = ("call",)
    equipment: ClassVar[dict[str, str]] = {"request": "nic", "response": "nic"}

    call: str
    """`service.operation`."""
    request: SizeDistribution | None = None
    """Bytes sent; they use the NICs of both hosts where these have one."""
    response: SizeDistribution | None = None
    """Bytes that come back."""

    def lower(self, site: Site) -> None:
        """The operation's code, in place."""

        def body() -> None:
            site.lowering.call(self.call, caller=site, request=self.request, response=self.response)

        with site.builder.within(f"call {self.call}"):
            self.guard(site.builder, self.call.partition(".")[0], body)


class Scatter(StepPart):
    """Call an operation at all replicas of a service at once, and go on when enough of them have answered.

    All of them: a query across shards. R or W of N: a quorum, whose time is the R-th or W-th fastest answer's.
    """

    verb: ClassVar[str] = "scatter"
    targets: ClassVar[tuple[str, ...]] = ("scatter",)

    scatter: str
    """`service.operation`."""
    need: Count | None = None
    """How many replicas must have answered; all where left out."""
    unfinished: Literal["cancel", "continue"] = "continue"
    """What becomes of the others then: a quorum's writes go on."""

    def lower(self, site: Site) -> None:
        """A fork with a branch for every replica."""
        builder, lowering = site.builder, site.lowering
        replicas = len(lowering.deployments[self.scatter.partition(".")[0]].instances)
        need = min(self.need or replicas, replicas)
        detach = need < replicas and self.unfinished == "continue"
        targets, done = [builder.label() for _ in range(replicas)], builder.label()
        builder.emit(Fork(tuple(targets), need, detach, builder.counter() if detach else -1))
        builder.emit(Jump(done))
        for number, target in enumerate(targets):
            builder.mark(target)
            with builder.within(f"replica {number}"), builder.detached() if detach else nullcontext():
                lowering.call(self.scatter, caller=site, replica=number)
            builder.emit(End())
        builder.mark(done)
