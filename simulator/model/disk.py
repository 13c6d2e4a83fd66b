"""Disk: an IOPS ceiling reached at a queue depth, and a bandwidth that all transfers share.

Lowers to a servers station of `queue_depth` channels, each operation taking `queue_depth / iops` on average, and
a sharing station for the bytes. An operation alone so takes `queue_depth / iops` plus its bytes / bandwidth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pydantic import model_validator

from simulator.distributions import Constant, Distribution, Gamma
from simulator.model.part import Amount, Bandwidth, Count, OperationsPerSecond, Part
from simulator.program.builder import Builder
from simulator.program.stations import Discipline, Servers, Sharing


@dataclass(frozen=True, slots=True)
class DiskStations:
    """The stations of one disk."""

    channels: int
    bytes: int | None


class Disk(Part):
    """The disk of one host."""

    iops: OperationsPerSecond
    """Operations a second that the disk does when its queue is full."""
    queue_depth: Count = 1
    """Operations that the disk works on at a time; a hard disk has 1, an NVMe device many."""
    cv: Amount = 1.0
    """Coefficient of variation of an operation's time; 0 is constant, 1 exponential."""
    discipline: Discipline = Discipline.FIFO
    """Which waiting operation goes next; `priority` takes that of the workload with the lowest `priority` number."""
    bandwidth: Bandwidth | None = None
    """Bytes a second, reads and writes together; unlimited where left out."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        self.operation_time()
        return self

    def operation_time(self) -> Distribution:
        """Time of one operation in a channel, without its bytes."""
        mean = self.queue_depth / self.iops
        return Gamma(mean, self.cv) if self.cv > 0 else Constant(mean)

    def lower(self, builder: Builder, resource: str) -> DiskStations:
        """The stations of one host instance."""
        channels = builder.station(Servers(resource, self.queue_depth, self.discipline))
        if self.bandwidth is None:
            return DiskStations(channels, None)
        return DiskStations(channels, builder.station(Sharing(f"{resource}.bandwidth", (self.bandwidth,))))
