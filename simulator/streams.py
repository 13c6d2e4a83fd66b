"""Counter-based random numbers: a draw is a pure function of where it is, never of when it is asked for.

A draw's place is (seed, replication, stream name, index, draw number, k): usually the index is the request's
number, the draw number says which of the request's draws from that stream it is, and k counts the uniforms
that one draw takes. Neither the order of events nor an added component moves anybody else's draws, so two
variants of a model that are run with one seed share their randomness exactly.

Source: Philox4x64-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC
2011), in NumPy's implementation. The key is 128 bits of BLAKE2b of "seed replication name"; the 256-bit
counter holds, from its lowest word, [index // 4, draw number, k, 0], and the index's two lowest bits choose
one of the four outputs.
"""

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.distributions import Distribution

FloatArray = npt.NDArray[np.float64]

LANES = 4
WORD = 64
BLOCK_BITS, BLOCKS_KEPT = 12, 8
LATER_BLOCK_BITS, LATER_BLOCKS_KEPT = 10, 32
MASK = (1 << WORD) - 1
GOLDEN_GAMMA, FIRST_MIX, SECOND_MIX = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def message_base(base: int, message: int) -> int:
    """Base of the draw numbers of message 0, 1, ... that a token with base `base` sends, from 0 to 2^62 - 1.

    The request itself has base 0, and so has its first message: it draws what the request would draw in its place.
    All other bases are as good as random, at any depth of messages that send messages: of n messages of one request,
    each with d draws from one stream, any two share a draw with a probability of about n² d / 2^62, which is 2^-42
    for a thousand messages that draw once.
    Source: output number `message` of SplitMix64 seeded with `base`, its upper 62 bits; G. L. Steele, D. Lea and
    C. H. Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014).
    """
    mixed = (base + message * GOLDEN_GAMMA) & MASK
    mixed = (mixed ^ (mixed >> 30)) * FIRST_MIX & MASK
    mixed = (mixed ^ (mixed >> 27)) * SECOND_MIX & MASK
    return (mixed ^ (mixed >> 31)) >> 2


class Streams:
    """All random numbers of one replication of one run.

    Raises ValueError unless seed and replication are whole numbers >= 0.
    """

    def __init__(self, seed: int, replication: int = 0) -> None:
        for parameter, value in (("seed", seed), ("replication", replication)):
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 0:
                raise ValueError(f"{parameter}: got {value!r}, expected a whole number >= 0")
        self.seed = int(seed)
        self.replication = int(replication)
        self._states: dict[str, Any] = {}
        self._generator: Any = np.random.Philox(key=0)

    def __getstate__(self) -> tuple[int, int]:
        return self.seed, self.replication

    def __setstate__(self, state: tuple[int, int]) -> None:
        Streams.__init__(self, *state)

    def __repr__(self) -> str:
        return f"Streams(seed={self.seed}, replication={self.replication})"

    def uniforms(self, name: str, first: int, count: int, draw: int = 0, k: int = 0) -> FloatArray:
        """The uniforms of indices first .. first + count - 1, in the open interval (0, 1).

        Returns a new array of shape (count,). Values are odd multiples of 2^-53: 52 random bits and a half,
        which is the most that leaves out 1 (with 53 bits the largest value would round up to it).
        Raises ValueError for a negative place. Not safe to call from several threads on one object.
        """
        if min(first, count, draw, k) < 0:
            raise ValueError(f"{name}: got a negative place ({first=}, {count=}, {draw=}, {k=})")
        start, lane = divmod(first, LANES)
        state = self._states.get(name) or self._new_state(name)
        # NumPy's generator adds one to its counter before each block of four.
        counter = ((k << 2 * WORD) + (draw << WORD) + start - 1) % (1 << 4 * WORD)
        words = state["state"]["counter"]
        for position in range(4):
            words[position] = counter & MASK
            counter >>= WORD
        self._generator.state = state
        raw = self._generator.random_raw(lane + count)
        raw >>= np.uint64(12)
        uniforms: FloatArray = raw[lane:].astype(np.float64)
        uniforms += 0.5
        uniforms *= 2.0**-52
        return uniforms

    def _new_state(self, name: str) -> Any:
        text = f"{self.seed} {self.replication} {name}".encode()
        key = int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")
        self._states[name] = np.random.Philox(key=key).state
        return self._states[name]


class Stream:
    """Draws from one distribution under one name: what an arrival process, a service or a choice holds.

    ``at`` keeps the blocks it has drawn, at most 8 of 4096 first draws and 32 of 1024 later draws (about a
    megabyte each), and forgets the one loaded first: requests in flight are near to each other.
    """

    __slots__ = ("_blocks", "_later_blocks", "distribution", "name", "streams")

    def __init__(self, streams: Streams, name: str, distribution: Distribution) -> None:
        self.streams = streams
        self.name = name
        self.distribution = distribution
        self._blocks: dict[int, list[float]] = {}
        self._later_blocks: dict[tuple[int, int], list[float]] = {}

    def __repr__(self) -> str:
        return f"Stream({self.streams!r}, {self.name!r}, {self.distribution!r})"

    def block(self, first: int, count: int, draw: int = 0) -> FloatArray:
        """The draws of indices first .. first + count - 1; shape (count,), in the distribution's unit.

        Raises ValueError for a negative place.
        """
        uniforms, name = self.streams.uniforms, self.name
        return self.distribution.block(first, count, lambda k: uniforms(name, first, count, draw, k))

    def at(self, index: int, draw: int = 0) -> float:
        """The draw of one index: ``block(index, 1, draw)[0]``, quicker when its neighbours follow."""
        if draw:
            return self._later(index, draw)
        try:
            return self._blocks[index >> 12][index & 4095]  # BLOCK_BITS, written out for speed
        except KeyError:
            return self._load(index)

    def _load(self, index: int) -> float:
        number = index >> BLOCK_BITS
        if len(self._blocks) >= BLOCKS_KEPT:
            del self._blocks[next(iter(self._blocks))]
        values: list[float] = self.block(number << BLOCK_BITS, 1 << BLOCK_BITS).tolist()
        self._blocks[number] = values
        return values[index - (number << BLOCK_BITS)]

    def _later(self, index: int, draw: int) -> float:
        number = index >> LATER_BLOCK_BITS
        first = number << LATER_BLOCK_BITS
        values = self._later_blocks.get((number, draw))
        if values is None:
            if len(self._later_blocks) >= LATER_BLOCKS_KEPT:
                del self._later_blocks[next(iter(self._later_blocks))]
            values = self.block(first, 1 << LATER_BLOCK_BITS, draw).tolist()
            self._later_blocks[number, draw] = values
        return values[index - first]
