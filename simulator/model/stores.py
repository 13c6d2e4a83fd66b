"""Stores as caches and buffer pools use them: full from the beginning, or known by their hit ratio only."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.analytic.contents import settled_content
from simulator.analytic.hit_ratios import stores
from simulator.program.builder import Builder
from simulator.program.instructions import Insert, Jump, Lookup, Place
from simulator.program.program import Program
from simulator.program.stations import Eviction, Store

if TYPE_CHECKING:
    from simulator.model.lowering import Lowering


@dataclass(frozen=True, slots=True)
class SettledStore:
    """What a store has in the long run: its hit ratio, and the keys in it, the first to be evicted first."""

    hit_ratio: float
    content: tuple[int, ...]


SettledStores = tuple[SettledStore, ...]


def settle(program: Program, resources: Collection[str]) -> dict[str, SettledStores]:
    """What the stores of some resources have in the long run, those of a resource in the order of their stations."""
    if not resources:
        return {}
    asked = stores(program)
    settled: dict[str, list[SettledStore]] = {}
    for number, spec in enumerate(program.stations):
        if isinstance(spec, Store) and spec.resource in resources:
            store = SettledStore(0.0, ())
            if number in asked:
                found = asked[number]
                content = settled_content(found.popularity, spec.capacity, spec.eviction, found.rate, spec.time_to_live)
                store = SettledStore(found.hit_ratio, content)
            settled.setdefault(spec.resource, []).append(store)
    return {resource: tuple(several) for resource, several in settled.items()}


def warm_store(
    lowering: Lowering,
    resource: str,
    capacity: int,
    eviction: Eviction = Eviction.LRU,
    time_to_live: float | None = None,
    number: int = 0,
) -> int:
    """A store (number `number` of its resource) that begins with what it has in the long run; returns its station."""
    lowering.unsettled.add(resource)
    settled = lowering.settled.get(resource)
    content = settled[number].content if settled else ()
    return lowering.builder.station(Store(resource, capacity, eviction, time_to_live, content))


def look_up(
    builder: Builder,
    place: Place,
    register: int,
    miss: Callable[[], None],
    hit: Callable[[], None] = lambda: None,
    counted: bool = True,
    puts: bool = True,
) -> None:
    """Emit a lookup of the key in a register, and what is done on a hit, or on a miss, after which it `puts` it in."""
    missing, done = builder.label(), builder.label()
    builder.emit(Lookup(place, register, missing, counted))
    hit()
    builder.emit(Jump(done))
    builder.mark(missing)
    miss()
    if puts:
        builder.emit(Insert(place, register))
    builder.mark(done)


def hit_by_chance(
    builder: Builder, hit_ratio: float, miss: Callable[[], None], hit: Callable[[], None] = lambda: None
) -> None:
    """Emit a lookup that hits with a probability, and what is done on a hit or a miss."""
    done = builder.label()
    with builder.choice((hit_ratio, 1.0 - hit_ratio)) as (hits, misses):
        builder.mark(hits)
        hit()
        builder.emit(Jump(done))
        builder.mark(misses)
        miss()
    builder.mark(done)
