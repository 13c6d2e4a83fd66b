"""Primitive stations: all that an engine has to know about hardware, databases or GPUs.

Each is data. `resource` names what the planner wrote (`hosts.app.cpu`); the stations of its instances and
replicas share that name and are reported together.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Literal

from simulator.program.step_time import StepTime

MOST_USES = 63
"""Uses of a block that are told apart where the frequency of use decides."""
GOLDEN_RATIO = 0.6180339887498949  # its multiples' fractions lie evenly between 0 and 1, however many


class Discipline(StrEnum):
    """Order in which waiting jobs are served; a lower priority number is served first."""

    FIFO = "fifo"
    LIFO = "lifo"
    PRIORITY = "priority"


class Eviction(StrEnum):
    """Which entry a full store gives up.

    LRU: least recently looked up or inserted. FIFO: oldest insertion. LFU: fewest uses since its insertion,
    the least recently used of these.
    """

    LRU = "lru"
    FIFO = "fifo"
    LFU = "lfu"


@dataclass(frozen=True, slots=True)
class Servers:
    """`servers` identical servers and one queue; amounts of work are seconds of service.

    A job that finds `queue_limit` jobs waiting (None: no limit) fails with `queue full`.
    """

    resource: str
    servers: int
    discipline: Discipline = Discipline.FIFO
    queue_limit: int | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit on processor time: `seconds` of it in each period of `period` seconds, the first one from time 0.

    n jobs use min(n, `processors`) seconds of it a second. When it is used up, the station stands still until the
    next period begins. A job that lacks no more than `SLACK` of the quota to be done still gets it, so that
    rounding stops no job at its end.
    """

    seconds: float
    period: float
    processors: int

    SLACK: ClassVar[float] = 1e-9

    def share_of_time(self, jobs: int) -> float:
        """Share of the time that as many jobs run, where they are always there."""
        return min(self.seconds / (self.period * min(jobs, self.processors)), 1.0)


@dataclass(frozen=True, slots=True)
class Sharing:
    """Processor sharing: n jobs get capacity[min(n, len) - 1] units of work a second together, in equal parts.

    A table of total rates says all that is needed: four cores of speed s are (s, 2s, 3s, 4s), a link is (b,),
    a hyper-threaded CPU bends after its physical cores, one with contention bends back. `unit` says what work is
    measured in, seconds or bytes, to whoever shows it.
    """

    resource: str
    capacity: tuple[float, ...]
    quota: Quota | None = None
    unit: Literal["s", "B"] = "s"


@dataclass(frozen=True, slots=True)
class Pool:
    """`capacity` units that tokens acquire, hold across other instructions, and release; one queue in strict order.

    A token whose turn comes more than `wait_limit` seconds (None: no limit) after it joined the queue fails with
    `waited too long` instead of being granted, where the queue has not been empty for `standing` seconds by then.
    One that finds `queue_limit` tokens waiting fails with reason number `refusal` of the Program's (1: `queue full`).
    `unit` says what the units are, bytes or things that are counted, to whoever shows them.
    """

    resource: str
    capacity: float
    queue_limit: int | None = None
    discipline: Discipline = Discipline.FIFO
    wait_limit: float | None = None
    standing: float = 0.0
    refusal: int = 1
    unit: Literal["1", "B"] = "1"


@dataclass(frozen=True, slots=True)
class KeyedLocks:
    """`capacity` units for every key, one of which a token holds across other instructions; FIFO queue of each key.

    The units of a key come into being when it is first asked for, and are forgotten when all of them are free. A
    token that finds `queue_limit` tokens waiting for its key (None: no limit) fails with `queue full`. The busy area is
    that of the key `watched` alone, where there is one.
    """

    resource: str
    capacity: int = 1
    queue_limit: int | None = None
    watched: int | None = None


@dataclass(frozen=True, slots=True)
class Bucket:
    """Token bucket: `rate` tokens a second up to `burst`, full at time 0; an empty one rejects, or waits FIFO.

    With `keys` above 1 it is as many buckets, of which a token takes from number key modulo `keys`; they reject.
    """

    resource: str
    rate: float
    burst: float
    waits: bool = False
    keys: int = 1


@dataclass(frozen=True, slots=True)
class Breaker:
    """Circuit breaker: lets tokens pass, and stops that for a while when too many of them fail.

    A token that passes holds a permit until it reports: a success where it releases the permit, a failure where the
    permit is taken from it by a failure or time-out, and nothing where the token is cancelled.

    Closed: all pass. Of the last `window` reports, when there are at least `least`, a share of `failure_share` or more
    failures opens it. Open: all fail with `circuit open`, until `open_time` seconds have passed; the first to come then
    makes it half-open. Half-open: `trials` tokens may pass, the others fail; a failure opens it again, and `trials`
    successes close it, with no reports. Reports of those who passed before the last change of state do not count.
    """

    resource: str
    window: int
    least: int
    failure_share: float
    open_time: float
    trials: int = 1


@dataclass(frozen=True, slots=True)
class Budget:
    """Retry budget: a retry takes one token of it, or is not made; `Deposit` and `rate` a second add, up to `burst`.

    It is full at time 0.
    """

    resource: str
    rate: float
    burst: float


@dataclass(frozen=True, slots=True)
class Store:
    """A keyed set of at most `capacity` entries; an entry older than `time_to_live` seconds is a miss.

    `content` are the keys that are there at time 0, the first to be evicted first: the k-th (from 1) has been used
    k times, and where entries expire, their ages are spread evenly. In a `multiset` a key that is inserted several
    times is gone when it has been removed as often.
    """

    resource: str
    capacity: int
    eviction: Eviction = Eviction.LRU
    time_to_live: float | None = None
    content: range | tuple[int, ...] = ()
    multiset: bool = False

    def __post_init__(self) -> None:
        if len(self.content) > self.capacity:
            raise ValueError(f"{self.resource}: {len(self.content)} keys do not fit in {self.capacity} entries")
        if len(set(self.content)) < len(self.content):
            raise ValueError(f"{self.resource}: a key stands in its content more than once")

    def inserted(self, position: int) -> float:
        """Time (s) at which the key at a position of `content` was inserted: 0 or before."""
        if self.time_to_live is None:
            return 0.0
        return -self.time_to_live * ((position + 1) * GOLDEN_RATIO % 1.0)


@dataclass(frozen=True, slots=True)
class Batch:
    """One server that takes up to `most` waiting jobs at a time, first in first out; they complete together.

    A batch starts when the server is free and `most` jobs wait or the first of them has waited `linger` seconds. It
    takes the sum of its jobs' amounts (seconds) and `base`, an index into `Program.draws`: batch n of the station,
    counted from 0, draws what request n would. A job that leaves a batch in service lets it finish as if it were there.
    """

    resource: str
    most: int
    base: int
    linger: float = 0.0


@dataclass(frozen=True, slots=True)
class Inference:
    """An LLM serving engine that forms a new batch for every step: continuous batching, as vLLM's scheduler does it.

    At most `sequences` sequences run at a time, each computing its prompt in parts, then a token a step. A step takes
    at most `tokens` tokens: one of each sequence that generates and parts of prompts, of at most `part` tokens, in the
    order in which they were admitted; what is left of them goes to prompts that wait. Where prompts are not `chunked`
    they are computed whole, the first of a step however long it is. Where they are computed `apart`, a step has either
    parts of prompts, as long as there are any, or tokens of sequences that generate. The time of a step is that of
    `step`.

    The keys and values of a sequence's tokens take blocks of `block` tokens from the pool number `memory`. A waiting
    sequence is admitted where its prompt fits. A sequence that finds no block free takes the blocks of the one that
    was admitted last, which waits again at the head of the queue and computes everything anew. With `prefix_caching`
    blocks that are full keep what they hold when they come free, until they are needed: the least recently used first,
    or with LFU those that were found again least often. A prompt that begins with the same tokens has them already.

    `static` batching admits only when nothing runs. With `priority` the queue is served by it, and the sequences of
    least priority lose their blocks first. Where the engine plans `ahead`, it puts a step together when the one before
    begins, so that who comes while a step runs waits for one more.
    """

    resource: str
    step: StepTime
    sequences: int
    tokens: int
    part: int
    memory: int
    block: int = 16
    prefix_caching: bool = True
    priority: bool = False
    static: bool = False
    ahead: bool = False
    eviction: Eviction = Eviction.LRU
    chunked: bool = True
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Gauge:
    """A number that instructions read and change; `busy_area` integrates it over time. It starts as `level`."""

    resource: str
    level: float = 0.0


@dataclass(frozen=True, slots=True)
class External:
    """A station whose behaviour is a user's own SimPy process, found by `name` when the run starts."""

    resource: str
    name: str


Station = (
    Servers | Sharing | Pool | KeyedLocks | Bucket | Store | Batch | Inference | Breaker | Budget | Gauge | External
)


def capacity_of(station: Station) -> float:
    """Units that a station's busy area grows by in a second at most; infinite where there is no such thing.

    A batch's busy area is the time that its jobs would have taken in full batches.
    """
    match station:
        case Servers():
            return float(station.servers)
        case Batch():
            return 1.0
        case Inference():
            return float(station.sequences)
        case Sharing(_, capacity, quota):
            if quota is None:
                return max(capacity)
            return max(rate * quota.share_of_time(jobs) for jobs, rate in enumerate(capacity, start=1))
        case Pool():
            return station.capacity
        case KeyedLocks(watched=int()):
            return float(station.capacity)
        case Bucket(keys=1):
            return station.rate
        case KeyedLocks() | Bucket() | Breaker() | Budget() | Store() | Gauge() | External():
            return float("inf")


def work_unit_of(station: Station) -> Literal["s", "B", "B s", "1"]:
    """What is measured in that a request asks of a station: seconds, of servers or of units held; bytes; bytes held for
    seconds; or things that are counted, such as operations and lookups."""
    match station:
        case Sharing():
            return station.unit
        case Pool():
            return "B s" if station.unit == "B" else "s"
        case Servers() | Batch() | Inference() | KeyedLocks() | External():
            return "s"
        case Bucket() | Breaker() | Budget() | Store() | Gauge():
            return "1"
