"""Storage: reading, writing and making durable, on the host's own disk or on a volume that hosts share (NAS, SAN).

Bytes to and from a shared volume pass its own network interface and the host's, where these have one: those read come
in to the host after the disk's operation, those written go out before it. Every operation takes the latency there and
back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from simulator.distributions import Constant
from simulator.model.disk import Disk, DiskStations
from simulator.model.disk_access import DiskAccess, Transfer
from simulator.model.distribution import CountDistribution, DurationDistribution, SizeDistribution
from simulator.model.nic import Nic, NicStations
from simulator.model.part import Count
from simulator.model.resource import Resource
from simulator.model.step import StepPart
from simulator.program.instructions import Place

if TYPE_CHECKING:
    from simulator.model.lowering import Lowering
    from simulator.model.site import Site


@dataclass(frozen=True, slots=True)
class VolumeStations:
    """The stations of a shared volume."""

    disk: DiskStations
    nic: NicStations | None


class Volume(Resource):
    """A disk, or an array of them, that all hosts reach over the network."""

    section: ClassVar[str] = "volumes"
    noun: ClassVar[str] = "volume"

    disk: Disk
    """What is behind it."""
    nic: Nic | None = None
    """Its network interface; unlimited where left out."""
    latency: DurationDistribution = DurationDistribution(constant=0.0)
    """One-way latency between a host and it."""

    @property
    def cost_per_hour(self) -> float:
        """Price of what is behind it, in USD an hour."""
        return self.disk.cost_per_hour

    def lower(self, lowering: Lowering, name: str) -> VolumeStations:
        """A disk's stations, and a NIC's."""
        resource = f"volumes.{name}"
        nic = self.nic.lower(lowering.builder, f"{resource}.nic") if self.nic else None
        return VolumeStations(self.disk.lower(lowering.builder, resource), nic)


class _StorageStep(StepPart):
    references: ClassVar[dict[str, str]] = {"volume": "volumes"}

    volume: str | None = None
    """Name of the shared volume; the host's own disk where left out."""

    @classmethod
    def needed_equipment(cls, step: dict[Any, Any]) -> dict[str, str]:
        """The host's disk, where no volume is named."""
        return {} if step.get("volume") is not None else super().needed_equipment(step)

    def _on_disk(self, site: Site, emit: Callable[[DiskAccess], None], sent: Any = None, received: Any = None) -> None:
        """Emit access to the disk, and to the network before and after it where it is a volume's."""
        if self.volume is None:
            disk = site.lowering.disk_of(site)
            emit(DiskAccess(site, disk, lambda station: site.place(lambda host: station(host.disk))))  # type: ignore[arg-type]
            return
        volume, stations = site.lowering.system.resources("volumes")[self.volume], site.resource("volumes", self.volume)
        assert isinstance(volume, Volume)
        part = f"volume {self.volume}"
        self._pass_latency(site, volume, part)
        self._exchange(site, stations, part, sent, "out")
        emit(DiskAccess(site, volume.disk, lambda station: Place((station(stations.disk),)), part))
        self._exchange(site, stations, part, received, "in")
        self._pass_latency(site, volume, part)

    @staticmethod
    def _pass_latency(site: Site, volume: Volume, part: str) -> None:
        latency = volume.latency.distribution()
        if latency.mean > 0.0:
            site.delay(f"{part} latency", latency)

    @staticmethod
    def _exchange(site: Site, stations: VolumeStations, part: str, size: Any, direction: Literal["in", "out"]) -> None:
        """Pass the bytes, where there are any, through the sender's interface and then the receiver's."""
        if size is None:
            return
        if direction == "out":
            site.lowering.transfer(site, size, "out")
        if stations.nic is not None:
            station = stations.nic.incoming if direction == "out" else stations.nic.outgoing
            site.work(f"{part} nic", Place((station,)), size.distribution())
        if direction == "in":
            site.lowering.transfer(site, size, "in")


class _Access(_StorageStep):
    times: CountDistribution | None = None
    """How many operations, one after the other; 1 where left out."""
    items: Count = 1
    """Items of the given size that one operation reads or writes together: batched I/O."""
    pattern: Literal["random", "sequential"] = "random"
    """At a random place, or after what was read or written before: a hard disk then neither seeks nor turns."""

    def _lower(self, site: Site, size: SizeDistribution, write: bool) -> None:
        if self.times is None:
            self._access(site, size, write)
            return
        with site.builder.repeat(self.times.distribution()):
            self._access(site, size, write)

    def _access(self, site: Site, size: SizeDistribution, write: bool) -> None:
        transfer = Transfer(size.distribution(), self.items, write, self.pattern == "sequential")
        whole = _Items(size, self.items)
        self._on_disk(site, lambda access: access.operate(transfer), whole if write else None, None if write else whole)


@dataclass(frozen=True, slots=True)
class _Items:
    """The bytes of several items; drawn ones are taken to be all as large as the one that is drawn."""

    size: SizeDistribution
    items: int

    def distribution(self) -> Any:
        """Their sum."""
        return self.size.distribution().scaled(float(self.items))


class Read(_Access):
    """Read from a disk."""

    verb: ClassVar[str] = "read"
    equipment: ClassVar[dict[str, str]] = {"read": "disk"}

    read: SizeDistribution
    """Bytes of one item."""

    def lower(self, site: Site) -> None:
        """Operations of the disk, then their bytes over its bandwidth."""
        self._lower(site, self.read, write=False)


class Write(_Access):
    """Write to a disk."""

    verb: ClassVar[str] = "write"
    equipment: ClassVar[dict[str, str]] = {"write": "disk"}

    write: SizeDistribution
    """Bytes of one item."""

    def lower(self, site: Site) -> None:
        """Operations of the disk, then their bytes over its bandwidth."""
        self._lower(site, self.write, write=True)


class Fsync(_StorageStep):
    """Make what was written durable, as a commit does: one flush serves all requests that wait for it."""

    verb: ClassVar[str] = "fsync"
    equipment: ClassVar[dict[str, str]] = {"fsync": "disk"}

    fsync: SizeDistribution
    """Bytes of log that the flush writes for this request."""

    def lower(self, site: Site) -> None:
        """A batch station: the flush's own time, and the bytes of all that it serves at the disk's bandwidth."""
        self._on_disk(site, lambda access: self._flush(site, access), sent=self.fsync)

    def _flush(self, site: Site, access: DiskAccess) -> None:
        disk = access.disk
        if self.volume is None:
            logs = site.lowering.logs_of_host(site)
            place = site.place(lambda host: logs[host])
        else:
            name = f"volumes.{self.volume}"
            place = Place((site.lowering.once(name, lambda: disk.lower_log(site.builder, name)),))
        size = self.fsync.distribution()
        seconds = size.scaled(disk.bytes_weight(write=True) / disk.bandwidth) if disk.bandwidth else Constant(0.0)
        site.work(f"{access.part} fsync", place, seconds)
