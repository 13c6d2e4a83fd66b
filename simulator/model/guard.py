"""Guards of calls: time-outs, retries within a budget, circuit breakers, bulkheads and hedged requests.

What a caller does around one try, from the outside in:

    retries (within the budget) -> time-out -> circuit breaker -> bulkhead -> the call, and its copy where it is hedged

so a retry asks the breaker again, a time-out is a failure to the breaker, and one without a permit waits for nothing.
Every replica of the calling service has a breaker, bulkhead and budget of its own for each service that it calls, as
the clients' libraries have, whichever of its steps calls (`simulator.model.shared_guards`); the clients of a workload
have them together.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, Protocol, Self

from pydantic import model_validator

from simulator.distributions import Constant, StandardUniform
from simulator.model.part import (
    AtLeastOne,
    Count,
    Duration,
    Factor,
    Part,
    PositiveDuration,
    PositiveShare,
    Rate,
    Share,
    Tries,
    WholeNumber,
)
from simulator.program.builder import Builder
from simulator.program.instructions import (
    Acquire,
    Clear,
    Delay,
    Deposit,
    EndScope,
    Fail,
    Jump,
    Place,
    Release,
    Retry,
    Scope,
)
from simulator.program.program import TIMEOUT
from simulator.program.stations import Breaker, Budget, Pool, Station


class Caller(Protocol):
    """Who calls: a replica of a service, or the clients of a workload."""

    @property
    def builder(self) -> Builder:
        """The Program under construction."""

    def own(self, part: str, make: Callable[[str], Station]) -> Place:
        """A station of the caller's own, made of the name of its resource, each replica's where it has several.

        The same for all who ask for the part.
        """


@dataclass(frozen=True, slots=True)
class Watch:
    """Numbers of meters that count the tries of guarded calls, those that failed by themselves, and all that failed,
    which are as many more as timed out."""

    tries: int
    errors: int
    failures: int


class SharedPart(Part):
    """What a caller has one of for each callee, whichever of its calls asks for it."""

    of_each_call: ClassVar[tuple[str, ...]] = ()
    """Fields that each call has for itself."""

    def station(self, resource: str) -> Station:
        """That of one replica."""
        raise NotImplementedError


class RetryBudget(SharedPart):
    """Bounds retries to a share of the requests, so that they do not multiply an overload.

    Each request (first try) adds `ratio` tokens, each retry takes one, and none is made without. Finagle allows 20 %
    and 10/s beside (finagle.github.io/blog/2016/02/08/retry-budgets), gRPC's retry throttling usually 10 %.
    """

    bare: ClassVar[str | None] = "ratio"
    of_each_call: ClassVar[tuple[str, ...]] = ("ratio",)

    ratio: Share = 0.2
    """Retries per request in the long run; 10 to 20 % are usual."""
    reserve: Rate = 0.0
    """Retries a second that are allowed beside, which a client with few requests needs; Finagle has 10/s."""
    saved: AtLeastOne = 100.0
    """Most retries that are saved up, and those that are allowed at first. Finagle saves those of 10 s."""

    def station(self, resource: str) -> Budget:
        """One replica's budget."""
        return Budget(resource, self.reserve, self.saved)


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
    budget: RetryBudget | None = None
    """Bounds retries to a share of the requests; `budget: 20%` is short for `budget: {ratio: 20%}`. All steps of a
    service that call the same share one, to which each adds by its own `ratio`."""

    def delays(self) -> tuple[float, ...]:
        """The wait before each retry, in seconds."""
        waits, wait = [], self.backoff
        for _ in range(self.most):
            waits.append(min(wait, self.longest))
            wait *= self.factor
        return tuple(waits)


class CircuitBreaker(SharedPart):
    """Stops calling what fails: calls fail at once with `circuit open` for a while, then a few may try.

    The defaults are Hystrix's (20 calls, 50 %, 5 s, one trial); Resilience4j's are 100 calls, 50 %, 60 s, 10 trials.
    """

    failures: PositiveShare = 0.5
    """Share of failures among the last `calls` that opens it. Time-outs and failures of any reason count."""
    calls: Count = 20
    """How many of the last calls count."""
    least: Count | None = None
    """How many calls must have ended before it may open; `calls` where left out."""
    consecutive: Count | None = None
    """Open after that many failures in a row instead."""
    open: PositiveDuration = 5.0
    """How long it stays open before it lets trials pass. 1 s to 60 s are usual."""
    trials: Count = 1
    """Calls that may try then, all of which must succeed to close it again."""

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if self.consecutive is not None and {"failures", "calls", "least"} & self.model_fields_set:
            raise ValueError("got consecutive beside failures, calls or least, expected the one or the other")
        if self.least is not None and self.least > self.calls:
            raise ValueError(f"least: got {self.least}, expected at most the {self.calls} calls that count")
        return self

    def station(self, resource: str) -> Breaker:
        """One replica's breaker."""
        if self.consecutive is not None:
            return Breaker(resource, self.consecutive, self.consecutive, 1.0, self.open, self.trials)
        return Breaker(resource, self.calls, self.least or self.calls, self.failures, self.open, self.trials)


class Bulkhead(SharedPart):
    """Bounds how many calls are under way at a time, so that one slow callee does not take up the whole caller."""

    bare: ClassVar[str | None] = "most"

    most: Count
    """Calls under way at a time."""
    queue_limit: WholeNumber = 0
    """Calls that may wait for one of them to end; one more fails with `queue full`. 0 is what most libraries do."""

    def station(self, resource: str) -> Pool:
        """One replica's bulkhead."""
        return Pool(resource, float(self.most), self.queue_limit)


class Hedge(Part):
    """Send the request once more when its answer is late; the first answer wins and the other try is cancelled.

    Dean and Barroso, The Tail at Scale (CACM 2013), wait for the 95th percentile of the latency, which costs 5 % more
    requests at most.
    """

    bare: ClassVar[str | None] = "after"

    after: PositiveDuration
    """Time from the request to its copy."""
    copies: Count = 1
    """Copies at most, each `after` the one before it."""


class Guard(Part):
    """Time-out, retries, circuit breaker, bulkhead and hedging around something that may fail or be slow."""

    timeout: PositiveDuration | None = None
    """How long the caller waits for one try."""
    on_timeout: Literal["cancel", "abandon"] = "cancel"
    """Whether work that timed out stops at once, or goes on uselessly as it does on most real servers."""
    retries: Retries | None = None
    """`retries: 3` is short for `retries: {most: 3}`."""
    circuit_breaker: CircuitBreaker | None = None
    """Fail at once while most tries fail; `circuit_breaker: {}` takes the defaults. All steps of a service that call
    the same share one, as they do a bulkhead."""
    bulkhead: Bulkhead | None = None
    """Most tries under way at a time; `bulkhead: 20` is short for `bulkhead: {most: 20}`. All steps of a service that
    call the same (another service, whichever of its operations; an external API) and have one share one, of each
    replica, so they say the same, and an override of one's values is of all. This is how to model a connection pool,
    with as many connections as `most` and a `queue_limit` of those who may wait for one."""
    hedge: Hedge | None = None
    """Send a late request once more; `hedge: 30 ms` is short for `hedge: {after: 30 ms}`."""

    def guard(self, caller: Caller, name: str, body: Callable[[], None], watch: Watch | None = None) -> None:
        """Emit `body` inside a scope with the time-out, and the retries in its handler; `name` is the callee's."""
        builder = caller.builder
        if self.timeout is None and self.retries is None and watch is None:
            self._protected(caller, name, lambda: self._hedged(builder, name, body))
            return
        attempt, handler, done = builder.label(), builder.label(), builder.label()
        register = builder.register()
        if self.retries:
            builder.emit(Clear(register))
            self._earn(caller, name, self.retries.budget)
        with builder.repeating() if self.retries else nullcontext():
            builder.mark(attempt)
            timeout = None if self.timeout is None else builder.draw(Constant(self.timeout), "timeout")
            if watch is not None:
                builder.count(watch.tries)
            builder.emit(Scope(handler, timeout, TIMEOUT))
            with self.begun(builder), nullcontext() if watch is None else builder.counting_failures(watch.errors):
                self._protected(caller, name, lambda: self._attempt(builder, lambda: self._hedged(builder, name, body)))
            builder.emit(EndScope())
            builder.emit(Jump(done))
            builder.mark(handler)
            if watch is not None:
                builder.count(watch.failures)
            if self.retries:
                builder.emit(self._retry(caller, name, self.retries, register, attempt))
            else:
                builder.emit(Fail())
        builder.mark(done)

    def begun(self, builder: Builder) -> AbstractContextManager[None]:
        """Fail with a time-out where the answer to a try, emitted inside, has not begun in time."""
        return nullcontext()

    def _protected(self, caller: Caller, name: str, body: Callable[[], None]) -> None:
        """Hold a permit of the breaker and a place in the bulkhead meanwhile; what fails gives them back itself."""
        builder = caller.builder
        held = 0
        if self.circuit_breaker is not None:
            self._hold(caller, f"{name}.breaker", caller.own(f"breakers.{name}", self.circuit_breaker.station))
            held += 1
        if self.bulkhead is not None:
            self._hold(caller, f"{name}.bulkhead", caller.own(f"bulkheads.{name}", self.bulkhead.station))
            held += 1
        body()
        for _ in range(held):
            builder.emit(Release())

    @staticmethod
    def _hold(caller: Caller, component: str, place: Place) -> None:
        builder = caller.builder
        builder.emit(Acquire(place, builder.component(component), builder.draw(Constant(1.0), "permit")))

    def _attempt(self, builder: Builder, body: Callable[[], None]) -> None:
        """The try itself, in a branch that goes on by itself where what timed out is to go on."""
        if self.on_timeout == "cancel":
            body()
            return
        builder.fork([body], detach=True)

    def _hedged(self, builder: Builder, name: str, body: Callable[[], None]) -> None:
        """The call and its later copies, of which the first to end ends the others."""
        if self.hedge is None:
            body()
            return
        after = self.hedge.after

        def attempt(number: int) -> None:
            if number:
                wait = builder.draw(Constant(number * after), "hedge")
                builder.emit(Delay(builder.component(f"{name}.hedge"), wait))
            body()

        builder.fork([partial(attempt, number) for number in range(1 + self.hedge.copies)], "try", need=1)

    @staticmethod
    def _earn(caller: Caller, name: str, budget: RetryBudget | None) -> None:
        if budget is not None and budget.ratio > 0.0:
            amount = caller.builder.draw(Constant(budget.ratio), "earned")
            caller.builder.emit(Deposit(_budget(caller, name, budget), amount))

    @staticmethod
    def _retry(caller: Caller, name: str, retries: Retries, register: int, attempt: int) -> Retry:
        builder = caller.builder
        draw = builder.draw(StandardUniform() if retries.jitter else Constant(0.0), "backoff")
        component = builder.component(f"{name}.backoff")
        place = _budget(caller, name, retries.budget) if retries.budget is not None else None
        return Retry(register, component, retries.delays(), retries.jitter, draw, attempt, place)


def _budget(caller: Caller, name: str, budget: RetryBudget) -> Place:
    return caller.own(f"retry-budgets.{name}", budget.station)
