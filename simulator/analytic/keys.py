"""Keys: how popular each key is that an instruction asks for, read off a Program's code."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from simulator.analytic.caches import missed
from simulator.distributions import Constant, Discrete, Distribution, Zipf
from simulator.hashing import buckets_of
from simulator.program import instructions as ops
from simulator.program.instructions import NO_REGISTER
from simulator.program.program import Program
from simulator.program.stations import Eviction
from simulator.traces.prefixes import PrefixNumbers

Floats = NDArray[np.float64]

MOST_NUMBERS = 10_000
"""Requests or users that are told apart; more of them spread as evenly."""


@dataclass(frozen=True, slots=True)
class Hashed:
    """What `HashInto` makes of keys."""

    keys: Keys
    count: int
    salt: int
    first: int


@dataclass(frozen=True, slots=True)
class Grouped:
    """What `GroupInto` makes of keys."""

    keys: Keys
    size: int
    first: int


@dataclass(frozen=True, slots=True)
class Sharded:
    """Those of the keys that go to number `index` of the shards that their hash, or something else, chooses."""

    keys: Keys
    shards: Keys
    index: int


@dataclass(frozen=True, slots=True)
class Missed:
    """Those of the keys that a cache of so many did not have; `alone` where all of them came to one and the same."""

    keys: Keys
    capacity: int
    eviction: Eviction
    alone: bool


Keys = Distribution | Hashed | Grouped | Sharded | Missed


WITH_PROBABILITIES = (Zipf, Discrete, PrefixNumbers, Constant)


@lru_cache(maxsize=64)
def popularity_of(keys: Keys) -> Floats:
    """Probability of each key from 0 on; of `Sharded` keys, together that of the shard.

    Raises `ValueError` for keys drawn from a distribution without probabilities; lowering a model makes none.
    """
    drawn, numbers, kept = _made_of(keys)
    if numbers is None:
        return drawn
    if kept is not None:
        drawn, numbers = drawn[kept], numbers[kept]
    return np.bincount(numbers, drawn, minlength=1).astype(np.float64)


def _made_of(keys: Keys) -> tuple[Floats, NDArray[np.int64] | None, NDArray[np.bool_] | None]:
    """The probabilities of what was drawn, the key made of each (None: itself), and whether it is kept (None: all)."""
    if isinstance(keys, Sharded):
        drawn, numbers, _ = _made_of(keys.keys)
        _, shards, _ = _made_of(keys.shards)
        numbers = np.arange(len(drawn)) if numbers is None else numbers
        if shards is None or _drawn_from(keys.keys) != _drawn_from(keys.shards):
            return drawn * shares_of(keys.shards, keys.index + 1)[keys.index], numbers, None
        return drawn, numbers, shards == keys.index
    if isinstance(keys, Missed):
        drawn, numbers, kept = _made_of(keys.keys)
        asked = popularity_of(keys.keys)
        misses = missed(asked, keys.capacity, keys.eviction) if asked.any() else asked
        return drawn * (misses if numbers is None else misses[numbers]), numbers, kept
    if isinstance(keys, (Hashed, Grouped)):
        drawn, numbers, _ = _made_of(keys.keys)
        most = len(drawn) if numbers is None else int(numbers.max()) + 1
        made = keys.first + (
            buckets_of(most, keys.count, keys.salt) if isinstance(keys, Hashed) else np.arange(most) // keys.size
        )
        return drawn, made if numbers is None else made[numbers], None
    return _probabilities(keys), None, None


def _drawn_from(keys: Keys) -> Distribution:
    while isinstance(keys, (Hashed, Grouped, Sharded, Missed)):
        keys = keys.keys
    return keys


def _probabilities(distribution: Distribution) -> Floats:
    if isinstance(distribution, (Zipf, Discrete, PrefixNumbers)):
        return distribution.probabilities()
    if isinstance(distribution, Constant):
        only = np.zeros(int(distribution.value) + 1)
        only[-1] = 1.0
        return only
    kind = type(distribution).__name__
    raise ValueError(f"keys or choices drawn from {kind}, expected Zipf, Discrete, PrefixNumbers or Constant")


def keys_of(program: Program) -> dict[int, Keys]:
    """The keys that each lookup and each asking for a keyed lock or for tokens of a key is for, by its instruction.

    They are what the code before it last put into the register.
    """
    found: dict[int, Keys] = {}
    for pc, (instruction, known) in enumerate(_registers(program)):
        if isinstance(instruction, (ops.Lookup, ops.AcquireKey, ops.TakeTokens)):
            found[pc] = known.get(instruction.key_register, Constant(0.0))
    return found


def shards_of(program: Program) -> dict[int, Keys]:
    """What chooses among the stations of an instruction's place, or a switch's ways, where keys do, by instruction."""
    found: dict[int, Keys] = {}
    for pc, (instruction, known) in enumerate(_registers(program)):
        place = instruction if isinstance(instruction, ops.Switch) else getattr(instruction, "place", None)
        if place is not None and place.register != NO_REGISTER and place.register in known:
            found[pc] = known[place.register]
    return found


def shares_of(shards: Keys, count: int) -> tuple[float, ...]:
    """The share of each of `count` stations that keys choose among."""
    shares = popularity_of(shards)
    return tuple(np.pad(shares, (0, max(count - len(shares), 0))).tolist())


def ways_of(chosen_by: Keys | None, count: int) -> tuple[float, ...]:
    """The share of each of `count` ways of a switch; equal ones where what chooses is not known to be one of so many.

    What is known of registers follows the code's order: one that several branches write may have had another number.
    """
    if chosen_by is not None and isinstance(_drawn_from(chosen_by), WITH_PROBABILITIES):
        shares = shares_of(chosen_by, count)
        if len(shares) == count:
            return shares
    return (1.0 / count,) * count


def _registers(program: Program) -> list[tuple[ops.Instruction, dict[int, Keys]]]:
    """Each instruction with what keys are in the registers before it."""
    known: dict[int, Keys] = {}
    rows: list[tuple[ops.Instruction, dict[int, Keys]]] = []
    for instruction in program.instructions:
        rows.append((instruction, known))
        match instruction:
            case ops.DrawInto():
                known = {**known, instruction.register: program.draws[instruction.draw].distribution}
            case ops.HashInto(register, key, count, salt, first):
                known = {**known, register: Hashed(known.get(key, Constant(0.0)), count, salt, first)}
            case ops.GroupInto(register, key, size, first):
                known = {**known, register: Grouped(known.get(key, Constant(0.0)), size, first)}
            case ops.NumberInto():
                known = {**known, instruction.register: Zipf(min(instruction.modulus, MOST_NUMBERS), 0.0)}
            case ops.Calculate(register, _, left):
                known = {**known, register: known.get(left, Zipf(MOST_NUMBERS, 0.0))}
            case ops.Select() if instruction.register in known:
                known = {register: keys for register, keys in known.items() if register != instruction.register}
    return rows
