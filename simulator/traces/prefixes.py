"""Prefixes of recorded prompts: the ids of their blocks, equal where prompts are equal up to the block's end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from simulator.distributions import Distribution, Uniforms
from simulator.traces.column import TraceTimes
from simulator.traces.trace import CHUNK, Trace

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

ROWS = 512
CHUNKS_KEPT = 8
NUMBERS = 1 << 16


@dataclass(frozen=True, slots=True)
class TracePrefixes:
    """Ids of the blocks of recorded prompts, each id of `tokens` tokens: those of row n for request number n.

    They begin anew after the last row, and are read some hundred rows at a time.
    """

    times: TraceTimes
    tokens: int

    @property
    def most(self) -> int:
        """The most ids that a prompt has."""
        return _most_ids(self.times.trace, self.times.rows)

    def of(self, number: int) -> Integers:
        """The ids of the prompt of request `number`; shape (blocks,)."""
        row = number % self.times.rows
        offsets, ids = _chunk(self.times.trace, row // ROWS)
        place = row % ROWS
        return ids[offsets[place] : offsets[place + 1]]

    def salt(self, shared: int, shared_key: int) -> int:
        """What tells ids of this trace, behind so many tokens with that key, from others; above 0."""
        own = crc32(f"{self.times.trace.digest} {self.tokens}".encode())
        return 1 + (own ^ shared_key if shared else own)


@dataclass(frozen=True, slots=True)
class PrefixNumbers(Distribution):
    """A number below 65,536 for the prompt of request n, the same for prompts that begin with the same `blocks` blocks.

    Of a shorter prompt all counts, and one without blocks has 0. Different beginnings rarely have the same number.
    """

    prefixes: TracePrefixes
    blocks: int

    @property
    def mean(self) -> float:
        """The mean over the rows, which says nothing."""
        return float(self.probabilities() @ np.arange(NUMBERS))

    @property
    def variance(self) -> float:
        """The mean squared deviation over the rows."""
        return float(self.probabilities() @ np.square(np.arange(NUMBERS) - self.mean))

    def probabilities(self) -> Floats:
        """Share of the rows that has each number; shape (65,536,)."""
        return _shares(self)

    def sample(self, uniform: Uniforms) -> Floats:
        """The number of any row, each equally likely."""
        rows = self.prefixes.times.rows
        return np.array([self._number(self.prefixes.of(int(each * rows))) for each in uniform(0)], dtype=np.float64)

    def block(self, first: int, count: int, uniform: Uniforms) -> Floats:
        """The numbers of requests first .. first + count - 1."""
        numbers = (self._number(self.prefixes.of(request)) for request in range(first, first + count))
        return np.fromiter(numbers, np.float64, count)

    def _number(self, ids: Integers) -> int:
        return int(ids[min(self.blocks, len(ids)) - 1]) % NUMBERS if len(ids) else 0


@lru_cache(maxsize=CHUNKS_KEPT)
def _chunk(trace: Trace, number: int) -> tuple[list[int], Integers]:
    """The ids of some rows, and where those of each begin and end."""
    offsets = trace.column("offsets", number * ROWS, ROWS + 1)
    ids: NDArray[Any] = trace.column("blocks", int(offsets[0]), int(offsets[-1] - offsets[0]))
    ids.flags.writeable = False
    return (offsets - offsets[0]).tolist(), ids


@lru_cache(maxsize=64)
def _most_ids(trace: Trace, rows: int) -> int:
    return max(int(np.diff(offsets).max()) for offsets in _offsets(trace, rows))


def _offsets(trace: Trace, rows: int) -> Iterator[Integers]:
    """Where the ids of each row begin and end, some thousand rows at a time."""
    for first in range(0, rows, CHUNK):
        yield trace.column("offsets", first, min(CHUNK, rows - first) + 1)


@lru_cache(maxsize=64)
def _shares(numbers: PrefixNumbers) -> Floats:
    rows = numbers.prefixes.times.rows
    counts = np.zeros(NUMBERS)
    for first in range(0, rows, CHUNK):
        drawn = numbers.block(first, min(CHUNK, rows - first), lambda _: np.empty(0))
        counts += np.bincount(drawn.astype(np.int64), minlength=NUMBERS)
    shares: Floats = counts / rows
    return shares
