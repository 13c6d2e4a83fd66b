"""Memory: bytes that requests hold, and the bandwidth at which cores move them.

Lowers to one pool per host instance, less what programs hold for good, and where the bandwidth is given to a sharing
station: so many bytes a second for all cores together, in equal parts, as a memory bus serves them.

A service says what it holds in its `memory`: `base` for each replica for good, `per_connection` for each request from
its arrival on, and `per_request` while a worker has it. What a step holds for a while is a `hold` step's. When the
memory is full, who asks for more waits, is turned away with `out of memory`, or has its replica killed and started
again (`simulator.model.out_of_memory`). Requests that wait for memory while they hold some can bring everything to a
standstill, as they do in reality: connections that fill the memory leave nothing for a request to be served with.
`when_full: reject` or `restart`, or time-outs, keep a system out of that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import model_validator

from simulator.distributions import Constant, Distribution
from simulator.model.distribution import DurationDistribution, SizeDistribution
from simulator.model.out_of_memory import OUT_OF_MEMORY, take_or_be_killed
from simulator.model.part import Bandwidth, Part, PositiveSize, Size
from simulator.model.resource import RESOURCES
from simulator.program.builder import Builder
from simulator.program.instructions import Acquire
from simulator.program.stations import Pool, Sharing

if TYPE_CHECKING:
    from simulator.model.site import Site
    from simulator.model.system import System


class Memory(Part):
    """The memory of one host that requests may hold."""

    bare: ClassVar[str | None] = "size"

    size: PositiveSize
    """Bytes that services and requests may hold."""
    when_full: Literal["wait", "reject", "restart"] = "wait"
    """What happens to a request that asks for more than is free; where it is turned away, with `out of memory`. With
    `restart` the replica that serves it is killed, with all of its requests, and started again."""
    restart: DurationDistribution = DurationDistribution.model_validate("30 s")
    """How long after it was killed a replica serves again, with `when_full: restart`: what notices it, and the start of
    the program. systemd waits 100 ms (RestartSec), Kubernetes nothing at first, and 10 s to 5 min where a container is
    killed again and again (Pod Lifecycle, restart policy). Programs take from 100 ms to some minutes where they warm
    up."""
    bandwidth: Bandwidth | None = None
    """Bytes a second that all cores together move to and from it; unlimited where left out. A DDR4-3200 channel has
    25.6 GB/s, a DDR5-4800 channel 38.4 GB/s (JEDEC JESD79-4 and -5: transfers a second times 8 bytes), servers have
    6 to 12 channels, and programs such as STREAM reach 70 to 90 % of that."""

    @model_validator(mode="after")
    def _restarts_where_it_kills(self) -> Self:
        if "restart" in self.model_fields_set and self.when_full != "restart":
            raise ValueError(f"got restart with when_full: {self.when_full}, expected it with when_full: restart")
        return self

    @property
    def kills(self) -> bool:
        """Whether replicas are killed when it is full."""
        return self.when_full == "restart"

    @property
    def cycle(self) -> float:
        """Mean time for which a replica is down."""
        return self.restart.distribution().mean if self.kills else 0.0

    def lower(self, builder: Builder, resource: str, taken: float) -> int:
        """The pool of one host instance, of which `taken` bytes are held for good."""
        if self.when_full == "wait":
            return builder.station(Pool(resource, self.size - taken, unit="B"))
        refusal = builder.reason(OUT_OF_MEMORY)
        return builder.station(Pool(resource, self.size - taken, 0, refusal=refusal, unit="B"))

    def lower_bandwidth(self, builder: Builder, resource: str) -> int | None:
        """The bus of one host instance."""
        if self.bandwidth is None:
            return None
        return builder.station(Sharing(f"{resource}.bandwidth", (self.bandwidth,), unit="B"))


def take_memory(site: Site, amount: Distribution) -> None:
    """Emit the taking of bytes of the memory of a site's host, which are held until `release`."""
    memory = site.lowering.system.hosts[site.deployment.service.host].memory
    assert memory is not None
    place = site.place(lambda host: host.memory)  # type: ignore[arg-type,return-value]
    acquire = Acquire(place, site.component("memory"), site.builder.draw(amount, "memory"))
    if memory.kills:
        take_or_be_killed(site, acquire, memory.restart.distribution())
    else:
        site.builder.emit(acquire)


class ServiceMemory(Part):
    """What a service holds of its host's memory."""

    base: Size = 0.0
    """Bytes of each replica, for good: program, heap that is not given back, threads."""
    per_connection: Size = 0.0
    """Bytes of a request from its arrival on, while it waits for a worker, too: buffers of its connection."""
    per_request: SizeDistribution | None = None
    """Bytes of a request while a worker has it."""

    def connect(self, site: Site) -> int:
        """Take what a connection holds; returns how many things are to be released."""
        if not self.per_connection:
            return 0
        take_memory(site, Constant(self.per_connection))
        return 1

    def begin(self, site: Site) -> int:
        """Take what a request holds; returns how many things are to be released."""
        if self.per_request is None:
            return 0
        take_memory(site, self.per_request.distribution())
        return 1


NO_MEMORY = ServiceMemory()


@dataclass(frozen=True, slots=True)
class Holder:
    """A program that holds memory of a host, and where the model says so."""

    place: tuple[str, ...]
    host: str
    memory: ServiceMemory
    replicas: int | None
    scaled_to: int | None = None


def _holders(system: System) -> Iterator[Holder]:
    for name, service in system.services.items():
        if service.memory is not None:
            most = service.scaling.most if service.scaling else None
            yield Holder(("services", name, "memory"), service.host, service.memory, service.replicas, most)
    for section in RESOURCES:
        for name, resource in system.resources(section).items():
            held = resource.held_memory()
            if held is not None and held[2] is not None:
                yield Holder((section, name, *held[0]), held[1], held[2], held[3])


def held_for_good(system: System, host: str) -> list[float]:
    """Bytes that programs hold for good on each instance of a host that there may be."""
    held = [0.0] * system.most_instances(host)
    for holder in _holders(system):
        if holder.host == host:
            instances = len(held) if holder.scaled_to else system.hosts[host].count
            for replica in range(holder.scaled_to or holder.replicas or instances):
                held[replica % instances] += holder.memory.base
    return held


def memory_problems(system: System) -> Iterator[tuple[tuple[str | int, ...], str, Any]]:
    """Programs that hold memory where there is none, or more than there is."""
    for holder in _holders(system):
        memory = system.hosts[holder.host].memory
        if memory is None:
            yield holder.place, f"host {holder.host!r} has no memory, expected one (hosts.{holder.host}.memory)", None
        elif max(held_for_good(system, holder.host)) >= memory.size:
            message = f"services hold all memory of a host {holder.host!r} for good, expected less than its size"
            yield (*holder.place, "base"), message, None
