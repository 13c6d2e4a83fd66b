"""Hashing of keys to buckets: consistent, so that another bucket moves only the keys that it gets.

Jump consistent hash (Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm", arXiv:1406.2294, 2014)
of the key mixed with a salt by the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom
number generators", OOPSLA 2014), for keys here are small numbers in order of their popularity. The reference engine,
the analysis and lowering use this; `simulator.engines.compiled.hashing` gives the same numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WORD = (1 << 64) - 1
INCREMENT, FIRST_FACTOR, SECOND_FACTOR = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
JUMP_FACTOR = 2862933555777941757


def bucket_of(key: int, count: int, salt: int = 0) -> int:
    """Bucket 0 .. count - 1 of a key >= 0."""
    state = mixed(key, salt)
    bucket, following = 0, 0
    while following < count:
        bucket = following
        state = (state * JUMP_FACTOR + 1) & WORD
        following = int((bucket + 1) * (2147483648.0 / ((state >> 33) + 1)))
    return bucket


def mixed(key: int, salt: int) -> int:
    """64 bits that look random, the same for the same key and salt."""
    state = (key + (salt + 1) * INCREMENT) & WORD
    state = ((state ^ (state >> 30)) * FIRST_FACTOR) & WORD
    state = ((state ^ (state >> 27)) * SECOND_FACTOR) & WORD
    return state ^ (state >> 31)


def buckets_of(keys: int, count: int, salt: int = 0) -> NDArray[np.int64]:
    """Bucket of each of the keys 0 .. keys - 1; shape (keys,)."""
    with np.errstate(over="ignore"):
        state = np.arange(keys, dtype=np.uint64) + np.uint64((salt + 1) * INCREMENT & WORD)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(FIRST_FACTOR)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(SECOND_FACTOR)
        state ^= state >> np.uint64(31)
        buckets = np.zeros(keys, dtype=np.int64)
        moving, following = np.arange(keys), np.zeros(keys, dtype=np.int64)
        while len(moving):
            buckets[moving] = following
            state = state * np.uint64(JUMP_FACTOR) + np.uint64(1)
            step = 2147483648.0 / ((state >> np.uint64(33)).astype(np.float64) + 1.0)
            following = ((following + 1) * step).astype(np.int64)
            stays = following < count
            moving, state, following = moving[stays], state[stays], following[stays]
    return buckets


def prompt_key(key: int) -> int:
    """What the keys of the blocks of prompts that begin with the same text have in common."""
    return mixed(key, 0)


def prefix_key(block: int, salt: int) -> int:
    """What the keys of blocks have in common that end in the block of that id of a recorded prompt; a salt is > 0."""
    return mixed(block, salt)


def block_key(prompt: int, block: int) -> int:
    """The key of a block of a prompt: equal ones hold the same tokens after the same tokens."""
    return mixed(prompt, block)
