"""Access to disks: the instructions of an operation on a disk or an array of disks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from simulator.distributions import Constant, Distribution
from simulator.model.disk import Device, Disk, DiskStations
from simulator.program.instructions import Jump, Place, TakeTokens

if TYPE_CHECKING:
    from simulator.model.site import Site

Station = Callable[[DiskStations], int]


@dataclass(frozen=True, slots=True)
class Transfer:
    """What an operation does: `items` times `size` bytes, read or written, at a random place or the next one."""

    size: Distribution
    items: int
    write: bool
    sequential: bool

    def other(self, write: bool) -> Transfer:
        """The same place read or written."""
        return Transfer(self.size, self.items, write, self.sequential)

    def larger(self, factor: float) -> Transfer:
        """The same with that many times the bytes."""
        return Transfer(self.size.scaled(factor), self.items, self.write, self.sequential)


@dataclass(frozen=True, slots=True)
class DiskAccess:
    """A disk as a site sees it: `at` gives the place of a station, `part` what its time is accounted to."""

    site: Site
    disk: Disk
    at: Callable[[Station], Place]
    part: str = "disk"

    def operate(self, transfer: Transfer) -> None:
        """One operation."""
        raid = self.disk.raid
        if raid is None:
            self._on_device(0, transfer)
        elif raid.level == 1 and transfer.write:
            self._on_devices(range(raid.disks), transfer)
        else:
            with self._any_disk(raid.disks) as targets:
                for number in targets:
                    self._striped(number, transfer)

    @contextmanager
    def _any_disk(self, disks: int) -> Iterator[Iterator[int]]:
        """Code that is emitted for each number that it yields, one of which is chosen at random."""
        builder = self.site.builder
        done = builder.label()
        with builder.choice((1.0 / disks,) * disks) as labels:

            def numbers() -> Iterator[int]:
                for number, label in enumerate(labels):
                    builder.mark(label)
                    yield number
                    builder.emit(Jump(done))

            yield numbers()
        builder.mark(done)

    def _striped(self, number: int, transfer: Transfer) -> None:
        """An operation whose data are on one disk of a striped array."""
        raid = self.disk.raid
        assert raid is not None
        if not transfer.write or raid.level in (0, 1):
            self._on_device(number, transfer)
        elif raid.level == 10:
            self._on_devices((number, number ^ 1), transfer)
        elif transfer.sequential:
            self._on_device(number, transfer.larger(raid.disks / (raid.disks - raid.parities)))
        else:
            touched = tuple((number + shift) % raid.disks for shift in range(1 + raid.parities))
            self._on_devices(touched, transfer.other(write=False))
            self._on_devices(touched, transfer)

    def _on_devices(self, numbers: range | tuple[int, ...], transfer: Transfer) -> None:
        """The operation on several disks at the same time."""
        self.site.builder.fork([partial(self._on_device, number, transfer) for number in numbers], "copy")

    def _on_device(self, number: int, transfer: Transfer) -> None:
        """The operation on one disk, passing what it has (see `simulator.model.disk`)."""
        if self.disk.rotates:
            self._under_the_head(number, transfer)
            return
        self._take(number, lambda device: device.credits, 1.0)
        self._take(number, lambda device: device.pace, self.disk.write_weight() if transfer.write else 1.0)
        time = self.disk.operation_time(transfer.write)
        channels = self._place(number, lambda device: device.channels)
        if channels is None:
            self.site.delay(self.part, time)
        else:
            self.site.work(self.part, channels, time)
        shared = self._place(number, lambda device: device.bytes)
        if shared is not None:
            weight = self.disk.bytes_weight(transfer.write)
            self._pass_bytes(transfer, weight, lambda bytes_: self.site.work(f"{self.part} bandwidth", shared, bytes_))

    def _under_the_head(self, number: int, transfer: Transfer) -> None:
        head = self._place(number, lambda device: device.head)
        assert head is not None
        assert self.disk.seek is not None
        self.site.acquire(self.part, head, Constant(1.0))
        if not transfer.sequential:
            self.site.delay(self.part, self.disk.seek.distribution())
            self.site.delay(self.part, self.disk.turn())
        if self.disk.bandwidth is not None:
            weight = self.disk.bytes_weight(transfer.write) / self.disk.bandwidth
            self._pass_bytes(transfer, weight, lambda seconds: self.site.delay(self.part, seconds))
        self.site.release()

    def _pass_bytes(self, transfer: Transfer, weight: float, emit: Callable[[Distribution], None]) -> None:
        """Emit the passing of all items' bytes, at once where they are known, else one item after the other."""
        if isinstance(transfer.size, Constant) or transfer.items == 1:
            emit(transfer.size.scaled(weight * transfer.items))
            return
        with self.site.builder.repeat(Constant(float(transfer.items))):
            emit(transfer.size.scaled(weight))

    def _place(self, number: int, station: Callable[[Device], int | None]) -> Place | None:
        """The place of a device's station, None where the device has none: all instances are alike."""
        place = self.at(lambda stations: station(stations.devices[number]))  # type: ignore[arg-type,return-value]
        return None if place.stations[0] is None else place

    def _take(self, number: int, station: Callable[[Device], int | None], tokens: float) -> None:
        place = self._place(number, station)
        if place is not None:
            builder = self.site.builder
            draw = builder.draw(Constant(tokens), "tokens")
            builder.emit(TakeTokens(place, self.site.component(self.part), draw))
