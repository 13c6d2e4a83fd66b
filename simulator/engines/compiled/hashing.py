"""Hashing of keys: the numbers of `simulator.hashing`, on signed 64-bit words."""

from __future__ import annotations

from simulator import hashing
from simulator.engines.compiled.pointers import compiled, inlined


def _signed(word: int) -> int:
    """The signed number of the same 64 bits."""
    return word - (1 << 64) if word >> 63 else word


INCREMENT, JUMP_FACTOR = _signed(hashing.INCREMENT), hashing.JUMP_FACTOR
FIRST_FACTOR, SECOND_FACTOR = _signed(hashing.FIRST_FACTOR), _signed(hashing.SECOND_FACTOR)


@inlined
def _shifted(word: int, bits: int) -> int:
    """The word shifted right, zeros coming in."""
    return (word >> bits) & ((1 << (64 - bits)) - 1)


@compiled
def mixed(key: int, salt: int) -> int:
    """64 bits that look random, the same for the same key and salt."""
    state = key + (salt + 1) * INCREMENT
    state = (state ^ _shifted(state, 30)) * FIRST_FACTOR
    state = (state ^ _shifted(state, 27)) * SECOND_FACTOR
    return state ^ _shifted(state, 31)


@compiled
def bucket_of(key: int, count: int, salt: int) -> int:
    """Bucket 0 .. count - 1 of a key >= 0."""
    state = mixed(key, salt)
    bucket, following = 0, 0
    while following < count:
        bucket = following
        state = state * JUMP_FACTOR + 1
        following = int((bucket + 1) * (2147483648.0 / (_shifted(state, 33) + 1)))
    return bucket
