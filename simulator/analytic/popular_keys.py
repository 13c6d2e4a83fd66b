"""Stations with something for every key: they can do no more when the key asked for most is used up."""

from __future__ import annotations

from dataclasses import dataclass, replace

from simulator.analytic.keys import Sharded, keys_of, popularity_of, shards_of
from simulator.analytic.reading import fetches_once
from simulator.program import instructions as ops
from simulator.program.program import Program
from simulator.program.stations import Bucket, KeyedLocks, Station


@dataclass(frozen=True, slots=True)
class PopularKey:
    """The key that a station is asked for most, and its `share` of what comes there."""

    key: int
    share: float


def most_popular(program: Program) -> dict[int, PopularKey]:
    """The key asked for most, by station with something for every key; of several kinds of keys, of the most skewed."""
    sharding, most = shards_of(program), dict[int, PopularKey]()
    for pc, keys in keys_of(program).items():
        instruction = program.instructions[pc]
        match instruction:
            case ops.AcquireKey() if not fetches_once(program.instructions[pc + 1]):
                stations = instruction.place.stations
            case ops.TakeTokens() if instruction.key_register != ops.NO_REGISTER:
                stations = instruction.place.stations
            case _:
                continue
        for index, number in enumerate(stations):
            asked = popularity_of(Sharded(keys, sharding[pc], index) if pc in sharding else keys)
            key = int(asked.argmax())
            share = float(asked[key] / asked.sum()) if asked[key] > 0.0 else 0.0
            if share > (most[number].share if number in most else 0.0):
                most[number] = PopularKey(key, share)
    return most


def capacities_of_keys(program: Program) -> dict[int, float]:
    """What stations with something for every key can do when the most popular key's is used up.

    The units of keyed locks that are held then, and the tokens a second of buckets.
    """
    found: dict[int, float] = {}
    for number, popular in most_popular(program).items():
        match program.stations[number]:
            case KeyedLocks(capacity=capacity):
                found[number] = capacity / popular.share
            case Bucket(rate=rate):
                found[number] = rate / popular.share
    return found


def watched(program: Program) -> Program:
    """The Program with its keyed locks watching the keys asked for most."""
    popular = most_popular(program)

    def watching(number: int, station: Station) -> Station:
        if isinstance(station, KeyedLocks) and number in popular:
            return replace(station, watched=popular[number].key)
        return station

    if not any(isinstance(station, KeyedLocks) for station in program.stations):
        return program
    return replace(program, stations=tuple(watching(*each) for each in enumerate(program.stations)))
