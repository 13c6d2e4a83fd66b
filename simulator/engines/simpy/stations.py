"""The primitive stations on SimPy events.

`enter` (or `take`) returns whether the token goes on at once; otherwise the station resumes it later.
`withdraw` takes a blocked token out again, wherever in the station it is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Protocol

import simpy

from simulator.engines.simpy.tokens import Token
from simulator.errors import UsageError
from simulator.program import stations as specs
from simulator.program.program import DOES_NOT_FIT, QUEUE_FULL, RATE_LIMITED
from simulator.program.stations import (
    Bucket,
    Discipline,
    Eviction,
    External,
    Pool,
    Servers,
    Sharing,
    Store,
)

if TYPE_CHECKING:
    from simulator.engines.simpy.engine import Engine


class Position(Protocol):
    """Somewhere that a token can be blocked at."""

    def withdraw(self, token: Token) -> None:
        """Take the token out, accounting the time that it spent."""

    def now(self) -> float:
        """The present time."""


class Queue:
    """Waiting tokens; joining, leaving from the middle and taking the next are all O(1) per priority level."""

    def __init__(self, discipline: Discipline) -> None:
        self._levels: dict[int, OrderedDict[Token, None]] = {}
        self._priority = discipline is Discipline.PRIORITY
        self._last = discipline is Discipline.LIFO

    def push(self, token: Token, priority: int = 0) -> None:
        """Join the queue."""
        level = priority if self._priority else 0
        token.mark = [level]
        self._levels.setdefault(level, OrderedDict())[token] = None

    def pop(self) -> Token:
        """Take the next to be served."""
        level = min(self._levels)
        token, _ = self._levels[level].popitem(last=self._last)
        if not self._levels[level]:
            del self._levels[level]
        return token

    def remove(self, token: Token) -> None:
        """Leave the queue."""
        level: int = token.mark[0]  # type: ignore[assignment]
        del self._levels[level][token]
        if not self._levels[level]:
            del self._levels[level]

    def head(self) -> Token:
        """The next to be served, left in place."""
        level = self._levels[min(self._levels)]
        return next(reversed(level)) if self._last else next(iter(level))

    def __bool__(self) -> bool:
        return bool(self._levels)


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

    def reject(self, token: Token, reason: int) -> bool:
        """Turn a token away; True where it goes on in a handler."""
        self.rejections += 1
        return self.engine.fail(token, reason)


class ServersStation(Station):
    """`Servers`: a queue before c servers."""

    def __init__(self, engine: Engine, spec: Servers) -> None:
        super().__init__(engine)
        self.servers = spec.servers
        self.queue_limit = spec.queue_limit
        self.queue = Queue(spec.discipline)
        self.started = 0.0  # sum of the times at which the jobs in service were started

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
        token.timer = self.engine.after(token.amount, self._complete, token)

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
        """Work a second of that many jobs together."""
        return self.capacity[jobs if jobs < self.most else self.most]

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
        if jobs:
            remaining = (jobs[0][0] - self.virtual) / (self.total_rate(self.busy) / self.busy)
            self.timer = self.engine.after(max(remaining, 0.0), self._complete, jobs[0][2])

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


class PoolStation(Station):
    """`Pool`: units held across instructions."""

    def __init__(self, engine: Engine, spec: Pool) -> None:
        super().__init__(engine)
        self.capacity = spec.capacity
        self.queue_limit = spec.queue_limit
        self.queue = Queue(Discipline.FIFO)
        self.used = 0.0

    def account(self) -> float:
        """Bring the integrals of units held and tokens waiting up to now."""
        now = self.engine.environment.now
        span = now - self.last
        if span > 0.0:
            self.busy_area += span * self.used
            self.waiting_area += span * self.waiting
            self.last = now
        return now

    @property
    def outstanding(self) -> int:
        """Requests that hold units or wait for them."""
        return self.busy + self.waiting

    def enter(self, token: Token, amount: float, component: int) -> bool:
        """Ask for `amount` units."""
        token.since = self.account()
        token.amount = amount
        token.component = component
        self.arrivals += 1
        if amount > self.capacity:
            return self.reject(token, DOES_NOT_FIT)
        if not self.waiting and self.used + amount <= self.capacity:
            self._grant(token)
            return True
        if self.queue_limit is not None and self.waiting >= self.queue_limit:
            return self.reject(token, QUEUE_FULL)
        token.at = self
        self.waiting += 1
        self.queue.push(token)
        return False

    def _grant(self, token: Token) -> None:
        self.busy += 1
        self.used += token.amount
        token.holds.append((self, token.amount))

    def _grant_waiting(self, now: float) -> None:
        while self.waiting and self.used + self.queue.head().amount <= self.capacity:
            token = self.queue.pop()
            self.waiting -= 1
            token.waited(now)
            token.at = None
            self._grant(token)
            self.engine.wake(token)

    def release(self, amount: float) -> None:
        """Give units back and grant them to those waiting."""
        now = self.account()
        self.completions += 1
        self.busy -= 1
        self.used = self.used - amount if self.busy else 0.0
        self._grant_waiting(now)

    def withdraw(self, token: Token) -> None:
        """Leave the queue; those behind may now fit."""
        now = self.account()
        self.withdrawals += 1
        self.queue.remove(token)
        self.waiting -= 1
        token.waited(now)
        token.at = None
        self._grant_waiting(now)


class BucketStation(Station):
    """`Bucket`: tokens drip in at a rate; `busy_area` and `delivered` count the tokens taken."""

    def __init__(self, engine: Engine, spec: Bucket) -> None:
        super().__init__(engine)
        self.rate, self.burst, self.waits = spec.rate, spec.burst, spec.waits
        self.level = spec.burst
        self.refilled = 0.0
        self.queue = Queue(Discipline.FIFO)
        self.timer: Any = None

    def _refill(self) -> float:
        """Bring the level and the integrals up to now; a sample leaves the level, so changes no trajectory."""
        now = self.account()
        self.level = min(self.burst, self.level + (now - self.refilled) * self.rate)
        self.refilled = now
        return now

    def enter(self, token: Token, amount: float, component: int) -> bool:
        """Ask for `amount` tokens."""
        token.since = self._refill()
        token.amount = amount
        token.component = component
        self.arrivals += 1
        if amount > self.burst:
            return self.reject(token, DOES_NOT_FIT)
        if not self.waiting and self.level >= amount:
            self._take(amount)
            return True
        if not self.waits:
            return self.reject(token, RATE_LIMITED)
        token.at = self
        self.waiting += 1
        self.queue.push(token)
        if self.waiting == 1:
            self._await_head()
        return False

    def _take(self, amount: float) -> None:
        self.level = max(self.level - amount, 0.0)
        self.busy_area += amount
        self.delivered += amount
        self.completions += 1

    def _await_head(self) -> None:
        head = self.queue.head()
        delay = max((head.amount - self.level) / self.rate, 0.0)
        self.timer = self.engine.after(delay, self._serve_head, head)

    def _serve_head(self, token: Token) -> None:
        now = self._refill()
        self.timer = None
        self._take(token.amount)
        self._dequeue(token, now)
        self.engine.run(token)

    def _dequeue(self, token: Token, now: float) -> None:
        self.queue.remove(token)
        self.waiting -= 1
        token.waited(now)
        token.at = None
        if self.waiting and self.timer is None:
            self._await_head()

    def withdraw(self, token: Token) -> None:
        """Leave the queue; where it was the head, the next one's wait starts from the present level."""
        now = self._refill()
        self.withdrawals += 1
        if self.queue.head() is token:
            self.engine.cancel_timer(self.timer)
            self.timer = None
        self._dequeue(token, now)


class StoreStation(Station):
    """`Store`: entries with their time of insertion and number of uses, the next to be evicted first."""

    def __init__(self, engine: Engine, spec: Store) -> None:
        super().__init__(engine)
        self.spec = spec
        self.entries: OrderedDict[int, tuple[float, int]] = OrderedDict()
        self.by_use: list[tuple[int, int, int]] = []  # LFU: heap of (uses, order of use, key), stale ones kept
        self.used: dict[int, tuple[int, int]] = {}
        self.order = 0

    def lookup(self, key: int) -> bool:
        """Whether the key is present and fresh; counts as a use."""
        now = self.account()
        self.arrivals += 1
        self.completions += 1
        entry = self.entries.get(key)
        if entry is None:
            return False
        if self.spec.time_to_live is not None and now - entry[0] > self.spec.time_to_live:
            self._remove(key)
            return False
        self.hits += 1
        self._use(key, entry[1] + 1)
        return True

    def insert(self, key: int) -> None:
        """Put the key in (or renew it), evicting one entry where the store is full."""
        now = self.account()
        if key in self.entries:
            self.entries[key] = (now, self.entries[key][1])
            self._use(key, self.entries[key][1])
            return
        if len(self.entries) >= self.spec.capacity:
            self._remove(self._victim())
        self.entries[key] = (now, 0)
        self.busy = len(self.entries)
        self._use(key, 0)

    def _use(self, key: int, uses: int) -> None:
        self.entries[key] = (self.entries[key][0], uses)
        if self.spec.eviction is Eviction.LRU:
            self.entries.move_to_end(key)
        elif self.spec.eviction is Eviction.LFU:
            self.order += 1
            self.used[key] = (uses, self.order)
            heappush(self.by_use, (uses, self.order, key))
            if len(self.by_use) > 4 * self.spec.capacity + 64:
                self.by_use = sorted((*use, key) for key, use in self.used.items())

    def _victim(self) -> int:
        if self.spec.eviction is not Eviction.LFU:
            return next(iter(self.entries))
        while self.used.get(self.by_use[0][2]) != self.by_use[0][:2]:
            heappop(self.by_use)
        return self.by_use[0][2]

    def _remove(self, key: int) -> None:
        del self.entries[key]
        self.used.pop(key, None)
        self.busy = len(self.entries)


class Job:
    """What a user's own process is told of a request that it serves."""

    __slots__ = ("amount", "number", "operation", "workload")

    def __init__(self, workload: str, operation: str, number: int, amount: float) -> None:
        self.workload = workload
        self.operation = operation
        self.number = number
        self.amount = amount


Serve = Callable[[Job], Generator[Any, Any, Any]]


class ExternalStation(Station):
    """`External`: each job is a SimPy process of the user's."""

    def __init__(self, engine: Engine, spec: External, serve: Serve) -> None:
        super().__init__(engine)
        self.spec = spec
        self.serve = serve
        self.processes: dict[Token, Any] = {}

    def enter(self, token: Token, amount: float, component: int) -> bool:
        """Start the user's process."""
        token.since = self.account()
        token.amount = amount
        token.component = component
        token.at = self
        self.arrivals += 1
        self.busy += 1
        workload = self.engine.program.workloads[token.request.workload]
        operation = workload.entries[token.request.operation].operation
        job = Job(workload.name, operation, token.request.number, amount)
        process = self.engine.environment.process(self.serve(job))
        self.processes[token] = process
        self.engine.when(process, self._complete, token)
        return False

    def _complete(self, token: Token) -> None:
        self._leave(token)
        self.completions += 1
        self.engine.run(token)

    def _leave(self, token: Token) -> None:
        now = self.account()
        del self.processes[token]
        self.delivered += now - token.since
        token.served(now)
        token.at = None
        self.busy -= 1

    def withdraw(self, token: Token) -> None:
        """Interrupt the user's process with simpy.Interrupt('cancelled')."""
        process = self.processes[token]
        process.callbacks.clear()
        process.callbacks.append(defuse)
        if process.is_alive:
            process.interrupt("cancelled")
        self.withdrawals += 1
        self._leave(token)

    def in_progress(self, now: float) -> float:
        """Seconds that jobs present have spent."""
        return sum(now - token.since for token in self.processes)


def station_of(engine: Engine, spec: specs.Station, serves: Mapping[str, Serve]) -> Station:
    """The station of a specification; `serves` are the users' own, by name."""
    match spec:
        case Servers():
            return ServersStation(engine, spec)
        case Sharing():
            return SharingStation(engine, spec)
        case Pool():
            return PoolStation(engine, spec)
        case Bucket():
            return BucketStation(engine, spec)
        case Store():
            return StoreStation(engine, spec)
        case External():
            if spec.name not in serves:
                raise UsageError(f"no process was given for the station {spec.name!r}: pass processes={{...}}")
            return ExternalStation(engine, spec, serves[spec.name])


def defuse(event: Any) -> None:
    """Let an interrupted process end by the interrupt without stopping the simulation; its own errors still do."""
    if isinstance(event.value, simpy.Interrupt):
        event.defused = True
