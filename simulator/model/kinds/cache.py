"""Caches: keyed entries with an eviction policy; whether a lookup hits is simulated key by key.

A cache is known by its `entries` (or by its `size` and that of an entry), and its hit ratio follows from the
popularity of the keys: simulated, or computed by Che's approximation and its relatives (`hit_ratio: computed`), which
is quick for very large caches. Or the hit ratio is known, from a measurement say, and given (`hit_ratio: 90%`).

A simulated cache begins as it is after a long time (`start: warm`), so that a short run of a large cache measures its
steady state; `start: cold` is a restart, with everything missing. While a key that is missing is fetched, all
requests for it fetch it too: a stampede, where the key is a popular one. With `single_flight` one of them fetches it,
and the others wait for that.

A lookup takes no time. What it takes where the cache is a server of its own (Redis, memcached) is a `call` of that
server's operation before the `lookup` step; writes `invalidate` what they change, or `put` it in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from simulator.model.keys import KeyUse
from simulator.model.part import Count, Either, PositiveDuration, PositiveSize, Share
from simulator.model.resource import Resource
from simulator.model.step import StepPart, lower_steps
from simulator.model.stores import hit_by_chance, look_up, warm_store
from simulator.program.instructions import AcquireKey, Insert, Place, Release, Remove
from simulator.program.stations import Eviction, KeyedLocks, Store

if TYPE_CHECKING:
    from simulator.model.lowering import Lowering
    from simulator.model.site import Site
    from simulator.model.steps import Step


@dataclass(frozen=True, slots=True)
class CacheStations:
    """A cache's store, where keys are simulated, and the locks of what is being fetched; else its hit ratio."""

    place: Place | None
    fetching: Place | None
    hit_ratio: float


class Cache(Resource):
    """A cache of equal-sized entries, shared by all that look up in it; a lookup itself takes no time."""

    section: ClassVar[str] = "caches"
    noun: ClassVar[str] = "cache"

    entries: Count | None = None
    """How many it holds."""
    size: PositiveSize | None = None
    """Bytes that it holds, in place of `entries`."""
    entry_size: PositiveSize | None = None
    """Bytes of an entry, its key and the cache's own overhead included (50 to 100 bytes in Redis and memcached)."""
    hit_ratio: Annotated[float | Literal["simulated", "computed"], Either(Share, "simulated", "computed")] = "simulated"
    """Simulated key by key, computed from the keys' popularity, or given: then every lookup hits with this chance."""
    eviction: Eviction = Eviction.LRU
    """Which entry goes when it is full: least recently used, oldest, or least frequently used."""
    time_to_live: PositiveDuration | None = None
    """Age at which an entry no longer counts."""
    start: Literal["warm", "cold"] = "warm"
    """Whether it holds at time 0 what it holds after a long time, or nothing."""
    single_flight: bool = False
    """Whether requests that miss a key that is already being fetched wait for that, in place of fetching it too.
    Lookups that a fetch itself makes do not wait so: two fetches would wait for each other."""

    @model_validator(mode="after")
    def _has_a_capacity(self) -> Self:
        given = self.entries is not None, self.size is not None, not isinstance(self.hit_ratio, str)
        if sum(given) != 1:
            raise ValueError("expected exactly one of entries, size (with entry_size) and a given hit_ratio")
        if (self.size is None) != (self.entry_size is None):
            raise ValueError("expected size and entry_size together")
        if self.size is not None and self.entry_size is not None and self.size < self.entry_size:
            raise ValueError(f"an entry of {self.entry_size:g} bytes does not fit, expected room for one")
        return self

    @property
    def cycle(self) -> float:
        """The time to live of its entries."""
        return self.time_to_live or 0.0

    @property
    def capacity(self) -> int:
        """Entries that fit."""
        if self.size is not None and self.entry_size is not None:
            return int(self.size / self.entry_size)
        return self.entries or 0

    def lower(self, lowering: Lowering, name: str) -> CacheStations:
        """The cache's store, and the locks of single flight; neither where lookups hit by chance."""
        resource = f"caches.{name}"
        if not isinstance(self.hit_ratio, str):
            return CacheStations(None, None, self.hit_ratio)
        if self.hit_ratio == "computed" and resource in lowering.settled:
            return CacheStations(None, None, lowering.settled[resource][0].hit_ratio)
        spec = (resource, self.capacity, self.eviction, self.time_to_live)
        warm = self.start == "warm" or self.hit_ratio == "computed"
        store = warm_store(lowering, *spec) if warm else lowering.builder.station(Store(*spec))
        locks = lowering.builder.station(KeyedLocks(f"{resource}.fetching")) if self.single_flight else None
        return CacheStations(Place((store,)), None if locks is None else Place((locks,)), 0.0)


class LookupStep(StepPart):
    """Look a key up in a cache; a miss does its steps and then puts the key in."""

    verb: ClassVar[str] = "lookup"
    references: ClassVar[dict[str, str]] = {"lookup": "caches", "key": "keys"}
    inner: ClassVar[tuple[str, ...]] = ("hit", "miss")

    lookup: str
    """Name of the cache."""
    key: KeyUse
    """Which key is looked up."""
    hit: list[Step] = Field(default_factory=list)
    """What is done where the key is there."""
    miss: list[Step] = Field(default_factory=list)
    """What is done where it is not, before it is put in."""

    def lower(self, site: Site) -> None:
        """A lookup in a store, which itself takes no time."""
        builder, cache = site.builder, site.resource("caches", self.lookup)
        if cache.place is None:
            hit_by_chance(builder, cache.hit_ratio, lambda: lower_steps(self.miss, site), lambda: self._hit(site))
            return
        register = self.key.register(site, self.lookup)

        def fetch() -> None:
            if not once:
                lower_steps(self.miss, site)
                return
            builder.emit(AcquireKey(cache.fetching, site.component(f"fetch {self.lookup}"), register))
            site.lowering.fetches_once = True
            look_up(builder, cache.place, register, lambda: lower_steps(self.miss, site), counted=False)
            site.lowering.fetches_once = False
            builder.emit(Release())

        once = cache.fetching is not None and not site.lowering.fetches_once
        look_up(builder, cache.place, register, fetch, lambda: self._hit(site), puts=not once)

    def _hit(self, site: Site) -> None:
        lower_steps(self.hit, site)


class Invalidate(StepPart):
    """Take a key out of a cache, as a write does that changes what it stands for."""

    verb: ClassVar[str] = "invalidate"
    references: ClassVar[dict[str, str]] = {"invalidate": "caches", "key": "keys"}

    invalidate: str
    """Name of the cache; one with a given or computed hit ratio stays as it is."""
    key: KeyUse
    """Which key."""

    def lower(self, site: Site) -> None:
        """A removal, which takes no time."""
        cache = site.resource("caches", self.invalidate)
        if cache.place is not None:
            site.builder.emit(Remove(cache.place, self.key.register(site, self.invalidate)))


class Put(StepPart):
    """Put a key into a cache without looking it up, as a write does that writes through."""

    verb: ClassVar[str] = "put"
    references: ClassVar[dict[str, str]] = {"put": "caches", "key": "keys"}

    put: str
    """Name of the cache; one with a given or computed hit ratio stays as it is."""
    key: KeyUse
    """Which key."""

    def lower(self, site: Site) -> None:
        """An insertion, which takes no time."""
        cache = site.resource("caches", self.put)
        if cache.place is not None:
            site.builder.emit(Insert(cache.place, self.key.register(site, self.put)))
