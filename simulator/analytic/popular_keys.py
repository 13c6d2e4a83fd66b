"""Stations with something for every key: they can do no more when the most popular key's is used up."""

from __future__ import annotations

from simulator.analytic.keys import keys_of, popularity_of
from simulator.analytic.reading import fetches_once
from simulator.program import instructions as ops
from simulator.program.program import Program
from simulator.program.stations import Bucket, KeyedLocks


def capacities_of_keys(program: Program) -> dict[int, float]:
    """What stations with something for every key can do when the most popular key's is used up.

    The units of keyed locks that are held then, and the tokens a second of buckets.
    """
    found: dict[int, float] = {}
    for number, share in most_popular(program).items():
        match program.stations[number]:
            case KeyedLocks(capacity=capacity):
                found[number] = capacity / share
            case Bucket(rate=rate):
                found[number] = rate / share
    return found


def most_popular(program: Program) -> dict[int, float]:
    """The share of the most popular key, by station that has something for every key."""
    most: dict[int, float] = {}
    for pc, keys in keys_of(program).items():
        instruction = program.instructions[pc]
        match instruction:
            case ops.AcquireKey() if not fetches_once(program.instructions[pc + 1]):
                stations = instruction.place.stations
            case ops.TakeTokens() if instruction.key_register != ops.NO_REGISTER:
                stations = instruction.place.stations
            case _:
                continue
        for number in stations:
            most[number] = max(most.get(number, 0.0), float(popularity_of(keys).max()))
    return most
