"""Garbage collection: pauses that come as often as requests fill the young generation.

Every request allocates; when what a replica has allocated since its last collection reaches the size of its young
generation, its host's CPU stands still for a pause. So pauses a second = throughput * allocation / young. All that
computes on the host instance stands still: a process that pauses is meant to have its host for itself. How long a young
collection takes depends on what survives, not on the size of the generation; it is measured (a log of the collector has
it): 1 ms to 50 ms are usual for stop-the-world collectors of young generations, seconds for full collections.
Source: Oracle, HotSpot Virtual Machine Garbage Collection Tuning Guide, chapters on generations and ergonomics.

Lowers to a gauge a replica (of what it has allocated), and a message that halts the CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import model_validator

from simulator.distributions import Constant
from simulator.model.distribution import DurationDistribution, SizeDistribution
from simulator.model.part import Part, PositiveSize
from simulator.program.instructions import Add, Branch, End, Halt, Jump, Publish, Resume

if TYPE_CHECKING:
    from simulator.model.site import Site


class GarbageCollection(Part):
    """Stop-the-world pauses of a replica's host whenever its young generation is full."""

    allocation: SizeDistribution
    """Bytes that a request allocates."""
    young: PositiveSize
    """Bytes that a replica allocates from one collection to the next: the size of its young generation (Eden)."""
    pause: DurationDistribution
    """How long a collection stops it."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        mean = self.allocation.distribution().mean
        if mean > self.young:
            raise ValueError(f"a request allocates {mean:g} B, expected no more than young has ({self.young:g} B)")
        return self

    def allocate(self, site: Site) -> None:
        """What a request's allocation leads to."""
        builder, heap = site.builder, site.spread(site.deployment.heap)
        allocation = self.allocation.distribution()
        collect, pause, done = builder.label(), builder.label(), builder.label()
        builder.emit(Add(heap, builder.draw(allocation, "allocation")))
        builder.emit(Branch(heap, self.young, collect, allocation.mean / self.young))
        builder.emit(Jump(done))
        builder.mark(collect)
        builder.emit(Add(heap, builder.draw(Constant(self.young), "young"), negative=True))
        builder.emit(Publish(pause, builder.counter()))
        builder.emit(Jump(done))
        builder.mark(pause)
        cpu = site.place(lambda host: host.cpu)
        with builder.detached():
            builder.emit(Halt(cpu))
            site.delay("garbage collection", self.pause.distribution())
            builder.emit(Resume(cpu))
        builder.emit(End())
        builder.mark(done)
