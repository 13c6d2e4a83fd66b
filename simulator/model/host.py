"""Hosts: machines (or virtual ones) that services run on, rented by the hour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from simulator.model.catalogue import Typed
from simulator.model.cpu import Cpu
from simulator.model.disk import Disk, DiskStations
from simulator.model.memory import Memory
from simulator.model.network import Location
from simulator.model.nic import Nic, NicStations
from simulator.model.part import Instances, Price
from simulator.model.words import short
from simulator.program.builder import Builder
from simulator.program.stations import Servers, Sharing

MOST_THREADS = 1_000_000
PLACES = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    "description": "a place, or a list of places",
}


@dataclass(frozen=True, slots=True)
class HostStations:
    """The stations of one instance of a host."""

    cpu: int
    memory: int | None
    memory_bandwidth: int | None
    disk: DiskStations | None
    nic: NicStations | None
    all: range

    def working(self, builder: Builder, nics: bool = True) -> list[int]:
        """The stations that do work at a speed: CPU, disks, and NICs unless they are left out."""
        passive = set() if nics or self.nic is None else {self.nic.outgoing, self.nic.incoming}
        return [
            number
            for number in self.all
            if isinstance(builder.stations[number], Servers | Sharing) and number not in passive
        ]


class Host(Typed):
    """`count` equal machines."""

    section: ClassVar[str] = "machines"
    least: ClassVar[dict[str, Any]] = {"cpu": 1}

    cpu: Cpu
    """Processors; `cpu: 8` is short for `cpu: {cores: 8}`."""
    memory: Memory | None = None
    """Memory; `memory: 32 GiB` is short for `memory: {size: 32 GiB}`. Unlimited where left out."""
    disk: Disk | None = None
    """Disk; steps that read or write need one."""
    nic: Nic | None = None
    """Network; `nic: 10 Gbit/s` is short for `nic: {bandwidth: 10 Gbit/s}`. Unlimited where left out."""
    price: Price = 0.0
    """Price of one instance."""
    count: Instances = 1
    """How many there are."""
    place: Annotated[list[str], BeforeValidator(lambda value: _listed(value)), WithJsonSchema(PLACES)] = Field(
        default_factory=list
    )
    """Where they stand, as region/zone/rack (see `network`): one place, or several over which they spread in turn. What
    faults call by this name happens to all that are there."""

    @field_validator("place")
    @classmethod
    def _are_places(cls, places: list[str]) -> list[str]:
        for place in places:
            Location.of(place)
        return places

    @model_validator(mode="after")
    def _is_of_this_world(self) -> Self:
        threads = self.count * self.cpu.hardware_threads
        if threads > MOST_THREADS:
            raise ValueError(f"{threads:,} hardware threads, expected at most {MOST_THREADS:,}")
        return self

    @property
    def cost_per_hour(self) -> float:
        """Price of one instance with its disk, in USD an hour."""
        return self.price + (self.disk.cost_per_hour if self.disk else 0.0)

    def place_of(self, instance: int) -> str | None:
        """The name of the place of an instance, if that is said."""
        return self.place[instance % len(self.place)] if self.place else None

    def location(self, instance: int) -> Location | None:
        """Where an instance stands, if that is said."""
        place = self.place_of(instance)
        return Location.of(place) if place is not None else None

    def lower(self, builder: Builder, name: str, taken: Sequence[float]) -> tuple[HostStations, ...]:
        """The stations of every instance, of whose memory so many bytes are held for good."""
        return tuple(self._instance(builder, f"hosts.{name}", each) for each in taken)

    def _instance(self, builder: Builder, resource: str, taken: float) -> HostStations:
        first = len(builder.stations)
        return HostStations(
            self.cpu.lower(builder, f"{resource}.cpu"),
            self.memory.lower(builder, f"{resource}.memory", taken) if self.memory else None,
            self.memory.lower_bandwidth(builder, f"{resource}.memory") if self.memory else None,
            self.disk.lower(builder, f"{resource}.disk") if self.disk else None,
            self.nic.lower(builder, f"{resource}.nic") if self.nic else None,
            range(first, len(builder.stations)),
        )


def _listed(value: Any) -> Any:
    """One place may stand alone."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not all(isinstance(place, str) for place in value):
        raise ValueError(f"got {short(value)}, expected a place such as eu-west-1a, or a list of places")
    return value
