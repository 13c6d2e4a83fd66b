"""Caches: keyed entries with an eviction policy; whether a lookup hits is simulated key by key."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from simulator.model.distribution import KeySpec
from simulator.model.part import Count, PositiveDuration
from simulator.model.resource import Resource
from simulator.model.step import StepPart, lower_steps
from simulator.program.instructions import DrawInto, Insert, Jump, Lookup, Place
from simulator.program.stations import Eviction, Store

if TYPE_CHECKING:
    from simulator.model.lowering import Lowering
    from simulator.model.site import Site
    from simulator.model.steps import Step


class Cache(Resource):
    """A cache of equal-sized entries, shared by all that look up in it; a lookup itself takes no time."""

    section: ClassVar[str] = "caches"
    noun: ClassVar[str] = "cache"

    entries: Count
    """How many it holds."""
    eviction: Eviction = Eviction.LRU
    """Which entry goes when it is full: least recently used, oldest, or least frequently used."""
    time_to_live: PositiveDuration | None = None
    """Age at which an entry no longer counts."""

    @property
    def cycle(self) -> float:
        """The time to live of its entries."""
        return self.time_to_live or 0.0

    def lower(self, lowering: Lowering, name: str) -> int:
        """The cache's store."""
        return lowering.builder.station(Store(f"caches.{name}", self.entries, self.eviction, self.time_to_live))


class LookupStep(StepPart):
    """Look a key up in a cache; a miss does its steps and then puts the key in."""

    verb: ClassVar[str] = "lookup"
    references: ClassVar[dict[str, str]] = {"lookup": "caches"}
    inner: ClassVar[tuple[str, ...]] = ("hit", "miss")

    lookup: str
    """Name of the cache."""
    key: KeySpec
    """Which key is looked up."""
    hit: list[Step] = Field(default_factory=list)
    """What is done where the key is there."""
    miss: list[Step] = Field(default_factory=list)
    """What is done where it is not, before it is put in."""

    def lower(self, site: Site) -> None:
        """A lookup in a store, which itself takes no time."""
        builder = site.builder
        register, miss, done = builder.register(), builder.label(), builder.label()
        place = Place((site.resource("caches", self.lookup),))
        builder.emit(DrawInto(register, builder.draw(self.key.distribution(), f"key {self.lookup}")))
        builder.emit(Lookup(place, register, miss))
        lower_steps(self.hit, site)
        builder.emit(Jump(done))
        builder.mark(miss)
        lower_steps(self.miss, site)
        builder.emit(Insert(place, register))
        builder.mark(done)
