"""Faults: what goes wrong with hosts, places, the network between them, and external APIs, and when.

    crash       {host: db, instance: 0, at: 5 min, lasts: 30 s}                 or `every: {exponential: 30 d}`
    slow node   {host: app, instance: 1, at: 2 min, lasts: 1 min, speed: 30%}
    zone loss   {place: eu-1a, at: 2 min, lasts: 1 min}                         of all hosts with this `place`
    partition   {between: [eu-1a, eu-1b], at: 2 min, lasts: 1 min}
    brown-out   {external: payments, at: 2 min, lasts: 1 min, latency_factor: 5, failures: 30%}

A crash fails every request that is inside a service on the instance, or waits for its workers, with `crashed`: as far
out as whoever called the service, whose own time-outs and retries apply. While it is down the instance refuses
requests (`refused`), or lets callers hang until they give up or it is back; balancers go on choosing it unless the
service has a `health_check`. Its CPU and disks stand still. What it kept in caches of the model is still there
afterwards. A slow node's CPU, disks and NICs work at a share of their speed. In a partition, calls between two places
hang, or are refused; what has been called before goes on, its answer waits. Where slow nodes or brown-outs of the same
thing overlap, the last change counts; crashes and partitions may overlap.

A fault with `at` happens once: such a system has no steady state, is simulated from its beginning to its end, and
needs a duration. One with `every` happens again and again, each time that long after the end of the one before; every
instance of a host by itself, unless it is the place that fails.

Lowers to a gauge that counts what is down, and a background workload whose one request is the fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from simulator.distributions import Constant
from simulator.model.distribution import DurationDistribution
from simulator.model.part import Duration, Factor, Share, WholeNumber
from simulator.model.resource import Finding, Resource
from simulator.model.words import unknown
from simulator.program.arrivals import Arrivals, Replay
from simulator.program.instructions import (
    Add,
    Break,
    Close,
    Delay,
    Halt,
    Instruction,
    Open,
    Place,
    Resume,
    Set,
    SetSpeed,
)
from simulator.program.program import Users
from simulator.program.stations import Gauge, Pool

if TYPE_CHECKING:
    from simulator.model.host import Host
    from simulator.model.lowering import Lowering

Instance = tuple[str, int]
KINDS = ("host", "place", "between", "external")
ONLY_OF = {
    "instance": ("host",), "speed": ("host", "place"), "connections": ("host", "place", "between"),
    "latency_factor": ("external",), "failures": ("external",),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Effect:
    """What a fault does where it begins and where it ends."""

    name: str
    begin: list[Instruction] = field(default_factory=list)
    end: list[Instruction] = field(default_factory=list)

    def add(self, begin: Instruction, end: Instruction) -> None:
        """Do one thing more, and undo it."""
        self.begin.append(begin)
        self.end.append(end)


@dataclass(frozen=True, slots=True)
class BrownOut:
    """What calls of an external API look at: the factor of its latency, and shares that fail while a gauge is up."""

    latency_factor: int
    failures: list[tuple[int, float]] = field(default_factory=list)


class Fault(Resource):
    """Something that goes wrong at some time, or again and again."""

    section: ClassVar[str] = "faults"
    noun: ClassVar[str] = "fault"
    references: ClassVar[dict[str, str]] = {"host": "hosts", "external": "externals"}

    host: str | None = None
    """The hosts that fail."""
    instance: WholeNumber | None = None
    """Which instance of them, from 0; all of them where left out."""
    place: str | None = None
    """The place all hosts of which fail together."""
    between: Annotated[list[str], Field(min_length=2, max_length=2)] | None = None
    """Two places between which nothing gets through."""
    external: str | None = None
    """The external API that does badly."""
    at: Duration | None = None
    """When it happens, once, after the start of the simulation."""
    every: DurationDistribution | None = None
    """Time from the start, or the end of one such fault, to the next one: the time to failure."""
    lasts: DurationDistribution
    """How long it lasts: the time to repair."""
    speed: Share | None = None
    """Speed of a host that is slow rather than down."""
    connections: Literal["refuse", "hang"] | None = None
    """What happens to who calls what is down, or not to be reached. A process that is gone refuses connections; a
    machine or network that is gone answers nothing. `refuse` where left out; `hang` in a partition."""
    latency_factor: Factor | None = None
    """How many times as long calls of the external API take."""
    failures: Share | None = None
    """Share of the calls of the external API that fail more, after the latency, with `external failure`."""

    @model_validator(mode="after")
    def _is_one_fault(self) -> Self:
        given = [name for name in KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"expected exactly one of {', '.join(KINDS)}, got {', '.join(given) or 'none'}")
        if (self.at is None) == (self.every is None):
            raise ValueError(f"expected exactly one of at, every, got {'none' if self.at is None else 'both'}")
        for name, kinds in ONLY_OF.items():
            if getattr(self, name) is not None and given[0] not in kinds:
                raise ValueError(f"{name} says nothing about a fault of {given[0]}, expected it with {kinds[0]}")
        if self.external is not None and self.latency_factor is None and self.failures is None:
            raise ValueError("expected latency_factor, failures or both for an external API that does badly")
        if self.between is not None and self.between[0] == self.between[1]:
            raise ValueError(f"between: got {self.between[0]!r} twice, expected two places")
        if self.speed is not None and self.connections is not None:
            raise ValueError("connections says nothing about a host that is only slow")
        return self

    @classmethod
    def problems(cls, fault: dict[Any, Any], document: dict[Any, Any]) -> Iterator[Finding]:
        """Places that no host is in, and instances that are not there."""
        hosts = document.get("hosts")
        specs = hosts if isinstance(hosts, dict) else {}
        given = [spec.get("place") for spec in specs.values() if isinstance(spec, dict)]
        places = {str(place): None for some in given for place in (some if isinstance(some, list) else [some]) if place}
        between = fault.get("between")
        named: list[tuple[tuple[str | int, ...], Any]] = [(("place",), fault.get("place"))]
        named += [(("between", n), each) for n, each in enumerate(between if isinstance(between, list) else [])]
        for where, place in named:
            if isinstance(place, str) and place not in places:
                yield where, unknown("place", place, places), place
        yield from cls._missing_instance(fault, specs)

    @staticmethod
    def _missing_instance(fault: dict[Any, Any], hosts: dict[Any, Any]) -> Iterator[Finding]:
        host, number = hosts.get(str(fault.get("host"))), fault.get("instance")
        count = host.get("count", 1) if isinstance(host, dict) else None
        if isinstance(number, int) and isinstance(count, int) and number >= count:
            yield (
                ("instance",),
                f"got {number}, expected at most {count - 1}, the last instance of {fault['host']!r}",
                number,
            )

    @property
    def cycle(self) -> float:
        """Mean time from one such fault to the next."""
        return self.every.distribution().mean + self.lasts.distribution().mean if self.every is not None else 0.0

    @property
    def stationary(self) -> bool:
        """Whether it happens again and again."""
        return self.at is None

    def crashes(self, hosts: Mapping[str, Host]) -> list[str]:
        """Names of the hosts that go down."""
        if self.speed is not None:
            return []
        return self._hosts(hosts)

    def _hosts(self, hosts: Mapping[str, Host]) -> list[str]:
        if self.host is not None:
            return [self.host]
        return [name for name, host in hosts.items() if self.place in host.place]

    def instances(self, counts: Mapping[str, int], hosts: Mapping[str, Host]) -> list[Instance]:
        """The instances that fail, given how many there are of each host."""
        return [
            (name, number)
            for name in self._hosts(hosts)
            for number in range(counts[name])
            if (self.instance is None or number == self.instance)
            and (self.place is None or hosts[name].place_of(number) == self.place)
        ]

    def lower(self, lowering: Lowering, name: str) -> int:
        """Its gauge; what it does comes after the workloads."""
        gauge = lowering.builder.station(Gauge(f"faults.{name}"))
        for effect in self._effects(lowering, f"faults.{name}", gauge):
            lowering.in_background(effect.name, *self._timing(lowering, effect))
        return gauge

    def _effects(self, lowering: Lowering, name: str, gauge: int) -> list[Effect]:
        if self.external is not None:
            effects = [self._brown_out(lowering, name, gauge)]
        elif self.between is not None:
            effects = [self._partition(lowering, name)]
        else:
            instances = self.instances(lowering.counts, lowering.system.hosts)
            together = self.at is not None or self.place is not None
            groups = [instances] if together else [[each] for each in instances]
            effects = [
                self._of_hosts(lowering, f"{name}.{n}" if len(groups) > 1 else name, group, gauge)
                for n, group in enumerate(groups)
            ]
        if self.external is not None or self.between is not None:
            effects[0].add(*_counted(lowering, gauge, 1))
        return effects

    def _of_hosts(self, lowering: Lowering, name: str, instances: list[Instance], gauge: int) -> Effect:
        effect = Effect(name)
        effect.add(*_counted(lowering, gauge, len(instances)))
        if self.speed is not None:
            for host, number in instances:
                for station in lowering.hosts[host][number].working(lowering.builder):
                    effect.add(SetSpeed(Place((station,)), self.speed), SetSpeed(Place((station,)), 1.0))
        else:
            self._crash(lowering, instances, effect)
        return effect

    def _crash(self, lowering: Lowering, instances: list[Instance], effect: Effect) -> None:
        hangs = self.connections == "hang"
        broken: list[int] = []
        for host, number in instances:
            for deployment in lowering.deployments.values():
                for replica in deployment.replicas_on(host, number):
                    broken.append(deployment.requests[replica])
                    pool = Place((deployment.requests[replica],))
                    effect.add(Close(pool, hangs), Open(pool, hangs))
                    if deployment.down:
                        effect.add(*_counted(lowering, deployment.down[replica], 1))
            for station in lowering.hosts[host][number].working(lowering.builder, nics=False):
                effect.add(Halt(Place((station,))), Resume(Place((station,))))
        effect.begin.append(Break(tuple(broken), lowering.builder.reason("crashed")))

    def _partition(self, lowering: Lowering, name: str) -> Effect:
        assert self.between is not None
        hangs = self.connections != "refuse"
        link = lowering.builder.station(Pool(f"{name}.link", float("inf")))
        lowering.links.append((frozenset(self.between), link))
        effect = Effect(name)
        effect.add(Close(Place((link,)), hangs), Open(Place((link,)), hangs))
        return effect

    def _brown_out(self, lowering: Lowering, name: str, gauge: int) -> Effect:
        assert self.external is not None
        builder, effect = lowering.builder, Effect(name)
        if self.external not in lowering.brown_outs:
            factor = builder.station(Gauge(f"externals.{self.external}.latency_factor", 1.0))
            lowering.brown_outs[self.external] = BrownOut(factor)
        found = lowering.brown_outs[self.external]
        if self.latency_factor is not None:
            slow, usual = (builder.draw(Constant(each), "factor") for each in (self.latency_factor, 1.0))
            place = Place((found.latency_factor,))
            effect.add(Set(place, slow), Set(place, usual))
        if self.failures:
            found.failures.append((gauge, self.failures))
        return effect

    def _timing(self, lowering: Lowering, effect: Effect) -> tuple[Callable[[], Arrivals | Users], Callable[[], None]]:
        """The source of a fault's requests, and their code."""
        builder = lowering.builder

        def source() -> Arrivals | Users:
            if self.every is None:
                return Replay((self.at or 0.0,))
            think = builder.draw(self.every.distribution(), "every")
            return Users(1, think, builder.draw(Constant(0.0), "start"))

        def code() -> None:
            for instruction in effect.begin:
                builder.emit(instruction)
            lasts = builder.draw(self.lasts.distribution(), "lasts")
            builder.emit(Delay(builder.component("lasts"), lasts))
            for instruction in effect.end:
                builder.emit(instruction)

        return source, code


def _counted(lowering: Lowering, gauge: int, number: int) -> tuple[Add, Add]:
    """Count something up, and down again."""
    amount = lowering.builder.draw(Constant(float(number)), "count")
    return Add(Place((gauge,)), amount), Add(Place((gauge,)), amount, negative=True)
