"""The Program: stations, draws and request code, everything that an engine needs and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from simulator.distributions import Distribution
from simulator.program.arrivals import Arrivals
from simulator.program.instructions import NO_REGISTER, Instruction
from simulator.program.stations import External, Station
from simulator.traces.prefixes import TracePrefixes

TIMEOUT, QUEUE_FULL, RATE_LIMITED, DEADLINE, DOES_NOT_FIT, WAITED_TOO_LONG, CIRCUIT_OPEN, REFUSED, NO_REPLICA = range(9)
REASONS = (
    "timeout", "queue full", "rate limited", "deadline", "does not fit", "waited too long", "circuit open", "refused",
    "no replica",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Draw:
    """A named source of random amounts.

    A token's draw is the value number `request number` of stream `stream` at draw number `frame[0] + n`, where n
    counts the token's earlier draws here in register `counter`; code that runs once per frame needs no counter. Where
    there is a `factor`, it is multiplied by what that register has, for analysis `mean_factor` on average.
    """

    stream: str
    distribution: Distribution
    counter: int = NO_REGISTER
    factor: int = NO_REGISTER
    mean_factor: float = 1.0


class Policy(StrEnum):
    """How a balancer chooses a replica.

    Round robin goes through the replicas in order. Least outstanding takes the replica with the fewest requests
    in service and waiting, the next in round-robin order among equals. Power of two does so among two at random.
    Weighted is NGINX's smooth weighted round robin: every replica's credit grows by its weight, the one with the most
    credit (the first of equals) is taken, and pays the sum of all weights.
    """

    ROUND_ROBIN = "round_robin"
    RANDOM = "random"
    LEAST_OUTSTANDING = "least_outstanding"
    POWER_OF_TWO = "power_of_two"
    WEIGHTED = "weighted"


@dataclass(frozen=True, slots=True)
class Balancer:
    """A balancer, shared by all callers, over replicas; those of replica i are in, or wait for, `pools[i]`.

    It chooses among the replicas that nothing excludes, and fails with `no replica` where there is none; `excluded`
    counts the exclusions of each replica at time 0 (empty: none). A `steered` one may have replicas excluded.
    """

    policy: Policy
    pools: tuple[int, ...]
    weights: tuple[float, ...] = ()
    excluded: tuple[int, ...] = ()
    steered: bool = False


@dataclass(frozen=True, slots=True)
class Scaler:
    """An autoscaler: changes the number of instances, the level of `gauge`, with the mean of a metric (rule 12).

    The metric is what the busy (or `waiting`) areas of `stations` grow by in a second, together; `target` is what one
    instance should have of it. Replica i of the balancer is instance i.
    """

    gauge: int
    balancer: int
    stations: tuple[int, ...]
    waiting: bool
    target: float
    tolerance: float
    least: int
    most: int
    cool_down: float


@dataclass(frozen=True, slots=True)
class Users:
    """Closed load: `count` users, each thinking (draw `think`), then waiting for its request, for ever.

    Request number j * count + u is the j-th request of user u, who comes after the delay (draw `start`) u.
    """

    count: int
    think: int
    start: int


@dataclass(frozen=True, slots=True)
class Messages:
    """Requests that come when the code of others publishes them (`simulator.program.instructions.Publish`)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where an operation's request code starts, and the share of the workload's requests that it gets."""

    operation: str
    pc: int
    share: float


@dataclass(frozen=True, slots=True)
class Workload:
    """A source of requests; `choice` draws which entry a request takes, and `meters` name the numbers that it carries.

    Messages start where they are published; their one entry only names the operation.

    The requests of a `background` workload are what happens to the system (faults, health checks, autoscaling):
    they are simulated and recorded like others and reported nowhere. Background workloads stand last.
    """

    name: str
    source: Arrivals | Users | Messages
    entries: tuple[Entry, ...]
    choice: int
    components: tuple[str, ...]
    frame_size: int
    priority: int = 0
    background: bool = False
    meters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Program:
    """What an engine interprets; hashable, picklable, made by lowering a model."""

    name: str
    stations: tuple[Station, ...]
    draws: tuple[Draw, ...]
    instructions: tuple[Instruction, ...]
    balancers: tuple[Balancer, ...]
    workloads: tuple[Workload, ...]
    reasons: tuple[str, ...] = REASONS
    scalers: tuple[Scaler, ...] = ()
    prefixes: tuple[TracePrefixes, ...] = ()

    @property
    def foreground(self) -> tuple[Workload, ...]:
        """The workloads that results are about: those that are sent from outside."""
        return tuple(self.workloads[number] for number in self.senders)

    @property
    def has_processes(self) -> bool:
        """Whether a station is a user's own SimPy process, which only the SimPy engine has."""
        return any(isinstance(station, External) for station in self.stations)

    @property
    def senders(self) -> tuple[int, ...]:
        """Numbers of the workloads in the foreground, which come first."""
        return tuple(
            number
            for number, workload in enumerate(self.workloads)
            if not workload.background and not isinstance(workload.source, Messages)
        )

    @property
    def streams(self) -> tuple[int, ...]:
        """Numbers of the workloads that are streams of messages, which come next."""
        return tuple(n for n, workload in enumerate(self.workloads) if isinstance(workload.source, Messages))

    def resources(self) -> dict[str, tuple[int, ...]]:
        """Station numbers by resource name, in order of first appearance."""
        groups: dict[str, list[int]] = {}
        for number, station in enumerate(self.stations):
            groups.setdefault(station.resource, []).append(number)
        return {name: tuple(numbers) for name, numbers in groups.items()}
