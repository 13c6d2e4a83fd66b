"""Disks: how many operations a second, how long one takes, how many bytes a second, and what they cost.

An operation passes, in this order, what the disk has of these:

- `credits`: a token bucket of burst credits, one an operation, refilled at the baseline rate: an empty one waits.
- The ceiling of `iops`. Without a `latency` it is what `queue_depth` channels do that take `queue_depth / iops` for an
  operation: a servers station. With one, an operation alone takes `latency` whatever the ceiling is, and the ceiling is
  kept by pacing, as providers of volumes do: a token bucket that waits. Closed by N at a time, so by Little's law, both
  give N / latency operations a second up to the ceiling, and from there on a response time of N / iops.
- A hard disk's one head instead (`seek` and `rpm`): a random operation takes the seek, a part of a turn that is equally
  likely up to a whole one, and its bytes at `bandwidth`; a sequential one only its bytes.
- `bandwidth`: the bytes of all operations under way share it in equal parts.

With `raid`, an operation goes to one of the disks, each equally likely, which has all of these to itself. A random
write costs two operations on mirrors (1, 10), four on level 5 (read old data and parity, then write both) and six on
level 6 (Patterson, Gibson and Katz, "A case for redundant arrays of inexpensive disks (RAID)", SIGMOD 1988, for 1 and
5); those on different disks go at the same time. A sequential write fills whole stripes: parity is only more bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from simulator.distributions import Constant, Distribution, Gamma, Uniform
from simulator.model.catalogue import Typed
from simulator.model.distribution import DurationDistribution
from simulator.model.part import (
    Amount,
    Bandwidth,
    Count,
    Duration,
    OperationsPerSecond,
    Part,
    PositiveDuration,
    PositiveSize,
    Price,
)
from simulator.program.builder import Builder
from simulator.program.stations import Batch, Bucket, Discipline, Pool, Servers, Sharing

GIB, MIB = 2.0**30, 2.0**20
LEAST_DISKS = {0: 2, 1: 2, 5: 3, 6: 4, 10: 4}


@dataclass(frozen=True, slots=True)
class Device:
    """The stations of one disk of an array, or of the only one; None where it has no such thing."""

    credits: int | None
    pace: int | None
    channels: int | None
    head: int | None
    bytes: int | None


@dataclass(frozen=True, slots=True)
class DiskStations:
    """The stations of all disks of an array, or of the only one."""

    devices: tuple[Device, ...]


class Credits(Part):
    """Burst credits: operations above a baseline rate are paid from a balance, which is full at the start.

    As AWS describes gp2 volumes: 3 operations a second for a GiB, at least 100 and at most 16,000, fill a balance of
    at most 5.4 million, so that a burst of 3,000 lasts balance / (3,000 - baseline) seconds
    (docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html).
    """

    baseline: OperationsPerSecond | None = None
    """Operations a second that refill the balance, and are left when it is empty."""
    baseline_per_gib: OperationsPerSecond | None = None
    """The same for a GiB of the disk's size."""
    least_baseline: OperationsPerSecond = 100.0
    """The least that a baseline for a GiB comes to."""
    most_baseline: OperationsPerSecond = 16_000.0
    """The most that it comes to."""
    balance: Amount = 5.4e6
    """Operations that the balance has room for."""

    @model_validator(mode="after")
    def _one_baseline(self) -> Self:
        if (self.baseline is None) == (self.baseline_per_gib is None):
            raise ValueError("expected exactly one of baseline, baseline_per_gib")
        if self.balance < 1.0:
            raise ValueError(f"balance: got {self.balance:g}, expected room for at least one operation")
        return self

    def rate(self, size: float | None) -> float:
        """The baseline (1/s) of a disk of `size` bytes."""
        if self.baseline is not None:
            return self.baseline
        assert self.baseline_per_gib is not None
        assert size is not None
        return min(max(self.baseline_per_gib * size / GIB, self.least_baseline), self.most_baseline)


class Raid(Part):
    """Several equal disks as one."""

    level: Literal[0, 1, 5, 6, 10]
    """0 stripes, 1 mirrors all disks, 5 and 6 stripe with one or two parities, 10 stripes over mirrored pairs."""
    disks: Count
    """How many disks of the kind described there are."""

    @model_validator(mode="after")
    def _has_enough(self) -> Self:
        least = LEAST_DISKS[self.level]
        if not least <= self.disks <= 256:
            raise ValueError(f"{self.disks} disks, expected {least} to 256 for level {self.level}")
        if self.level == 10 and self.disks % 2:
            raise ValueError(f"{self.disks} disks, expected an even number for level 10")
        return self

    @property
    def parities(self) -> int:
        """Disks' worth of parity."""
        return {5: 1, 6: 2}.get(self.level, 0)


class Flush(Part):
    """How long it takes to make what has been written durable, and for how many requests at a time.

    Requests that wait are served by one flush together: group commit. The flush itself is not counted against the
    disk's `iops`.
    """

    bare: ClassVar[str | None] = "time"

    time: PositiveDuration | None = None
    """Time of a flush; that of a random write where left out. Measured: tens of microseconds on SSDs whose cache
    survives a power cut, 1 to 3 ms on others, 8 to 20 ms on hard disks."""
    cv: Amount = 1.0
    """Coefficient of variation of that time; 0 is constant, 1 exponential."""
    most: Count = 1_000_000
    """Requests that one flush serves at most; 1 is no group commit."""
    linger: Duration = 0.0
    """Time that a flush waits for more requests, from the first one on."""


class Tariff(Part):
    """What a volume costs beyond its own price."""

    per_gib: Price = 0.0
    """For a GiB of its size."""
    per_iops: Price = 0.0
    """For an operation a second above those included."""
    included_iops: Amount = 0.0
    """Operations a second that cost nothing more."""
    per_mib_per_s: Price = 0.0
    """For a MiB a second of bandwidth above what is included."""
    included_bandwidth: Bandwidth | None = None
    """Bandwidth that costs nothing more."""


class Disk(Typed):
    """A disk, an array of disks, or a volume."""

    bare: ClassVar[str | None] = "type"
    section: ClassVar[str] = "disks"
    least: ClassVar[dict[str, Any]] = {"iops": 1}

    iops: OperationsPerSecond | None = None
    """Operations a second that it does at most; with credits, that it bursts to."""
    write_iops: OperationsPerSecond | None = None
    """The same if all are writes; as many as reads where left out."""
    queue_depth: Count | None = None
    """Operations that it works on at a time. Without a latency 1 where left out; with one, any number."""
    latency: PositiveDuration | None = None
    """Time of an operation alone, without its bytes; queue_depth / iops where left out."""
    write_latency: PositiveDuration | None = None
    """The same of a write; as of a read where left out."""
    cv: Amount = 1.0
    """Coefficient of variation of an operation's time; 0 is constant, 1 exponential. Measured on NVMe: about 0.5."""
    discipline: Discipline = Discipline.FIFO
    """Which waiting operation goes next; `priority` takes that of the workload with the lowest `priority` number."""
    burst_window: Duration = 0.0
    """Where there is a latency: time over which the ceiling is kept, so that many seconds' operations may come at once.
    0 paces them evenly, the strictest reading; providers count over up to a second."""
    bandwidth: Bandwidth | None = None
    """Bytes a second, reads and writes together; unlimited where left out."""
    write_bandwidth: Bandwidth | None = None
    """The same if all are writes; as many as reads where left out."""
    seek: DurationDistribution | None = None
    """Of a hard disk, time to move the head to a random place, with no queue to sort: data sheets' average."""
    rpm: Count | None = None
    """Of a hard disk, turns a minute."""
    raid: Raid | None = None
    """Several disks of this kind as one; size, price and ceilings are each one's own."""
    credits: Credits | None = None
    """Burst credits; without limit where left out."""
    fsync: Flush = Flush()
    """What the step `fsync` takes; a bare time is short for `fsync: {time: ...}`."""
    size: PositiveSize | None = None
    """Capacity, of which price and baseline may depend; nothing ever fills it."""
    price: Price = 0.0
    """Price of it, beside what the tariff says."""
    tariff: Tariff | None = None
    """What it costs by its size, operations and bandwidth."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.rotates:
            self._check_rotation()
        elif self.iops is None:
            raise ValueError("expected iops, or seek and rpm of a hard disk")
        for field, needed in (("write_bandwidth", "bandwidth"), ("write_latency", "latency")):
            if getattr(self, field) is not None and getattr(self, needed) is None:
                raise ValueError(f"{field} without {needed}, expected both")
        if self.size is None and (
            (self.credits and self.credits.baseline_per_gib) or (self.tariff and self.tariff.per_gib)
        ):
            raise ValueError("credits or a price for a GiB without a size, expected one (size: ...)")
        if self.latency and self.queue_depth is None and self.discipline is not Discipline.FIFO:
            raise ValueError("a discipline with a latency but no queue_depth, expected one: nobody waits in a queue")
        self.operation_time(write=False)
        self.flush_time()
        return self

    def _check_rotation(self) -> None:
        if self.seek is None or self.rpm is None:
            raise ValueError("expected both seek and rpm of a hard disk")
        for field in ("iops", "write_iops", "queue_depth", "latency", "credits"):
            if getattr(self, field) is not None:
                raise ValueError(f"{field} beside seek and rpm, expected only one of them: a head does one thing")
        if self.discipline is not Discipline.FIFO:
            raise ValueError(f"discipline {self.discipline.value!r} of a hard disk, expected 'fifo'")

    @property
    def rotates(self) -> bool:
        """Whether it is a hard disk with one head."""
        return self.seek is not None or self.rpm is not None

    @property
    def ceiling(self) -> float:
        """Operations a second at most."""
        assert self.iops is not None
        return max(self.iops, self.baseline or 0.0)

    @property
    def baseline(self) -> float | None:
        """Operations a second without credits; None where there is no such thing."""
        return self.credits.rate(self.size) if self.credits else None

    def write_weight(self) -> float:
        """Reads that a write counts for against the ceiling."""
        return self.iops / self.write_iops if self.iops and self.write_iops else 1.0

    def bytes_weight(self, write: bool) -> float:
        """Bytes read that a byte counts for against the bandwidth."""
        return self.bandwidth / self.write_bandwidth if write and self.bandwidth and self.write_bandwidth else 1.0

    def operation_time(self, write: bool) -> Distribution:
        """Time of a random operation, without its bytes; of a hard disk only the mean is meant."""
        mean = self._operation_mean(write)
        return Gamma(mean, self.cv) if self.cv > 0 else Constant(mean)

    def _operation_mean(self, write: bool) -> float:
        if self.rotates:
            assert self.seek is not None
            return float(self.seek.distribution().mean + self.turn().mean)
        if self.latency is not None:
            return (self.write_latency if write else None) or self.latency
        return (self.queue_depth or 1) / self.ceiling * (self.write_weight() if write else 1.0)

    def turn(self) -> Distribution:
        """Time until the sought place has turned to the head."""
        assert self.rpm is not None
        return Uniform(0.0, 60.0 / self.rpm)

    def flush_time(self) -> Distribution:
        """Time of a flush."""
        mean = self.fsync.time or self._operation_mean(write=True)
        return Gamma(mean, self.fsync.cv) if self.fsync.cv > 0 else Constant(mean)

    @property
    def cost_per_hour(self) -> float:
        """Price of all its disks, in USD an hour."""
        each = self.price
        if self.tariff is not None:
            tariff = self.tariff
            each += tariff.per_gib * (self.size or 0.0) / GIB
            each += tariff.per_iops * max((self.iops or 0.0) - tariff.included_iops, 0.0)
            each += tariff.per_mib_per_s * max((self.bandwidth or 0.0) - (tariff.included_bandwidth or 0.0), 0.0) / MIB
        return each * (self.raid.disks if self.raid else 1)

    def lower(self, builder: Builder, resource: str) -> DiskStations:
        """The stations of one array."""
        return DiskStations(tuple(self._device(builder, resource) for _ in range(self.raid.disks if self.raid else 1)))

    def _device(self, builder: Builder, resource: str) -> Device:
        if self.rotates:
            return Device(None, None, None, builder.station(Pool(resource, 1.0)), None)
        pace = channels = shared = balance = None
        if self.latency is not None:
            burst = max(1.0, self.write_weight(), self.ceiling * self.burst_window)
            pace = builder.station(Bucket(f"{resource}.iops", self.ceiling, burst, waits=True))
        if self.latency is None or self.queue_depth is not None:
            channels = builder.station(Servers(resource, self.queue_depth or 1, self.discipline))
        if self.bandwidth is not None:
            shared = builder.station(Sharing(f"{resource}.bandwidth", (self.bandwidth,), unit="B"))
        if self.credits is not None and self.baseline is not None and self.baseline < self.ceiling:
            balance = builder.station(Bucket(f"{resource}.credits", self.baseline, self.credits.balance, waits=True))
        return Device(balance, pace, channels, None, shared)

    def lower_log(self, builder: Builder, resource: str) -> int:
        """The station that flushes."""
        base = builder.draw_of_station(self.flush_time(), f"{resource}.fsync")
        return builder.station(Batch(f"{resource}.fsync", self.fsync.most, base, self.fsync.linger))
