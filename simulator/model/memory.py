"""Memory: bytes that requests hold, and the bandwidth at which cores move them.

Lowers to one pool per host instance, less what services hold for good, and where the bandwidth is given to a sharing
station: so many bytes a second for all cores together, in equal parts, as a memory bus serves them.

A service says what it holds in its `memory`: `base` for each replica for good, `per_connection` for each request from
its arrival on, and `per_request` while a worker has it. What a step holds for a while is a `hold` step's. When the
memory is full, who asks for more waits, or is turned away with `out of memory`. Requests that wait for memory while
they hold some can bring everything to a standstill, as they do in reality: connections that fill the memory leave
nothing for a request to be served with. `when_full: reject`, or time-outs, keep a system out of that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from simulator.distributions import Constant
from simulator.model.distribution import SizeDistribution
from simulator.model.part import Bandwidth, Part, PositiveSize, Size
from simulator.program.builder import Builder
from simulator.program.stations import Pool, Sharing

if TYPE_CHECKING:
    from simulator.model.site import Site
    from simulator.model.system import System

OUT_OF_MEMORY = "out of memory"


class Memory(Part):
    """The memory of one host that requests may hold."""

    bare: ClassVar[str | None] = "size"

    size: PositiveSize
    """Bytes that services and requests may hold."""
    when_full: Literal["wait", "reject"] = "wait"
    """What happens to a request that asks for more than is free; where it is turned away, with `out of memory`."""
    bandwidth: Bandwidth | None = None
    """Bytes a second that all cores together move to and from it; unlimited where left out. A DDR4-3200 channel has
    25.6 GB/s, a DDR5-4800 channel 38.4 GB/s (JEDEC JESD79-4 and -5: transfers a second times 8 bytes), servers have
    6 to 12 channels, and programs such as STREAM reach 70 to 90 % of that."""

    def lower(self, builder: Builder, resource: str, taken: float) -> int:
        """The pool of one host instance, of which `taken` bytes are held for good."""
        if self.when_full == "wait":
            return builder.station(Pool(resource, self.size - taken))
        refusal = builder.reason(OUT_OF_MEMORY)
        return builder.station(Pool(resource, self.size - taken, 0, refusal=refusal))

    def lower_bandwidth(self, builder: Builder, resource: str) -> int | None:
        """The bus of one host instance."""
        if self.bandwidth is None:
            return None
        return builder.station(Sharing(f"{resource}.bandwidth", (self.bandwidth,)))


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
        site.acquire("memory", site.place(lambda host: host.memory), Constant(self.per_connection))  # type: ignore[arg-type,return-value]
        return 1

    def begin(self, site: Site) -> int:
        """Take what a request holds; returns how many things are to be released."""
        if self.per_request is None:
            return 0
        site.acquire("memory", site.place(lambda host: host.memory), self.per_request.distribution())  # type: ignore[arg-type,return-value]
        return 1


NO_MEMORY = ServiceMemory()


def held_for_good(system: System, host: str) -> list[float]:
    """Bytes that services hold for good on each instance of a host that there may be."""
    held = [0.0] * system.most_instances(host)
    for service in system.services.values():
        if service.host == host and service.memory is not None:
            instances = len(held) if service.scaling else system.hosts[host].count
            replicas = service.scaling.most if service.scaling else service.replicas or instances
            for replica in range(replicas):
                held[replica % instances] += service.memory.base
    return held


def memory_problems(system: System) -> Iterator[tuple[tuple[str | int, ...], str, Any]]:
    """Services that hold memory where there is none, or more than there is."""
    for name, service in system.services.items():
        if service.memory is None:
            continue
        memory = system.hosts[service.host].memory
        place = ("services", name, "memory")
        if memory is None:
            yield place, f"host {service.host!r} has no memory, expected one (hosts.{service.host}.memory)", None
        elif max(held_for_good(system, service.host)) >= memory.size:
            message = f"services hold all memory of a host {service.host!r} for good, expected less than its size"
            yield (*place, "base"), message, None
