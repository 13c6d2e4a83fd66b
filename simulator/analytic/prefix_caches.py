"""Hit rates of a prefix (KV) cache under a recorded trace: one pool of blocks, walked request by request.

A block of a prompt is a hit while it and all blocks before it are in the pool; then all blocks of the prompt are
touched in order, those that are not there are put in, and where the pool is full one is evicted for each. There is no
time in it, and the cold start counts. Only whole blocks can be shared: a prompt's last block counts where it is whole.

Source: R. Qin et al., Mooncake: Trading More Storage for Less Computation (FAST 2025), section 4 and Figure 9, for LRU.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

import numpy as np

from simulator.traces.column import TraceTimes
from simulator.traces.formats import BLOCK_TOKENS
from simulator.traces.trace import Trace

ROWS = 4096
MOST_ROWS = 1 << 14  # so that memory does not grow with the trace

Policy = Literal["lru", "lfu", "fifo"]
Request = tuple[list[int], int]


@dataclass(frozen=True, slots=True)
class PrefixHits:
    """What a pool of `capacity` tokens spares a trace, in tokens: hits in whole blocks, of those in whole blocks."""

    capacity: int
    hit_tokens: int
    whole_block_tokens: int
    prompt_tokens: int

    @property
    def rate(self) -> float:
        """Share of the tokens in whole blocks that hit; 0 where there are none."""
        return self.hit_tokens / self.whole_block_tokens if self.whole_block_tokens else 0.0

    @property
    def rate_of_prompts(self) -> float:
        """Share of all tokens of the prompts that need no prefill; 0 where there are none."""
        return self.hit_tokens / self.prompt_tokens if self.prompt_tokens else 0.0


def prefix_hits(
    trace: Trace, capacities: Iterable[int], policy: Policy = "lru", rows: int | None = None
) -> list[PrefixHits]:
    """Hits of a trace, or its first `rows` requests, with pools of so many tokens (rounded down to whole blocks).

    LFU evicts the block touched least often since it came in, of those the one touched least recently. Raises
    ValueError for a negative capacity, and TraceError for a trace without block ids.
    """
    wanted = list(capacities)
    if any(capacity < 0 for capacity in wanted):
        raise ValueError(f"capacities must be at least 0 tokens, got {min(wanted):g}")
    return [_walk(trace, capacity, POOLS[policy](capacity // BLOCK_TOKENS), rows or trace.rows) for capacity in wanted]


@lru_cache(maxsize=64)
def most_found(times: TraceTimes) -> float:
    """Mean tokens of a prompt that are hits where nothing is ever evicted, of the first 16,384 at most.

    Raises TraceError for a trace without block ids.
    """
    rows = min(times.rows, MOST_ROWS)
    (found,) = prefix_hits(times.trace, [(times.trace.block_ids or 0) * BLOCK_TOKENS], "fifo", rows)
    return found.hit_tokens / rows


def _walk(trace: Trace, capacity: int, pool: Pool, rows: int) -> PrefixHits:
    hit = whole = prompts = 0
    for blocks, tokens in _requests(trace, rows):
        shareable = tokens // BLOCK_TOKENS
        hits = next((place for place, block in enumerate(blocks) if block not in pool), len(blocks))
        hit += min(hits, shareable)
        whole += shareable
        prompts += tokens
        for block in blocks:
            pool.touch(block)
    return PrefixHits(capacity, hit * BLOCK_TOKENS, whole * BLOCK_TOKENS, prompts)


def _requests(trace: Trace, rows: int) -> Iterator[Request]:
    """Block ids and prompt tokens of the first requests, read a few thousand at a time."""
    for first in range(0, rows, ROWS):
        tokens = trace.column("input", first, min(ROWS, rows - first))
        offsets = trace.column("offsets", first, len(tokens) + 1)
        blocks = trace.column("blocks", int(offsets[0]), int(offsets[-1] - offsets[0])).tolist()
        bounds = np.subtract(offsets, offsets[0]).tolist()
        for start, stop, prompt in zip(bounds, bounds[1:], tokens.tolist(), strict=False):
            yield blocks[start:stop], prompt


class Pool(Protocol):
    """Blocks that are kept, at most so many."""

    def __contains__(self, block: int) -> bool: ...

    def touch(self, block: int) -> None:
        """Use a block: put it in where it is not there, in place of another where there is no room."""


class FirstInFirstOut:
    """Evicts what came in first."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.blocks: OrderedDict[int, None] = OrderedDict()

    def __contains__(self, block: int) -> bool:
        return block in self.blocks

    def touch(self, block: int) -> None:
        """See `Pool`."""
        if block not in self.blocks and self.room:
            if len(self.blocks) >= self.room:
                self.blocks.popitem(last=False)
            self.blocks[block] = None


class LeastRecentlyUsed(FirstInFirstOut):
    """Evicts what has not been touched for longest."""

    def touch(self, block: int) -> None:
        """See `Pool`."""
        if block in self.blocks:
            self.blocks.move_to_end(block)
        else:
            super().touch(block)


class LeastFrequentlyUsed:
    """Evicts what was touched least often since it came in, of those what has not been touched for longest."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.touches: dict[int, int] = {}
        self.by_touches: defaultdict[int, OrderedDict[int, None]] = defaultdict(OrderedDict)
        self.fewest = 1

    def __contains__(self, block: int) -> bool:
        return block in self.touches

    def touch(self, block: int) -> None:
        """See `Pool`."""
        if block in self.touches:
            self._count(block)
        elif self.room:
            if len(self.touches) >= self.room:
                evicted, _ = self.by_touches[self.fewest].popitem(last=False)
                del self.touches[evicted]
            self.touches[block] = self.fewest = 1
            self.by_touches[1][block] = None

    def _count(self, block: int) -> None:
        before = self.touches[block]
        self.touches[block] = before + 1
        self.by_touches[before + 1][block] = None
        del self.by_touches[before][block]
        if before == self.fewest and not self.by_touches[before]:
            self.fewest = before + 1


POOLS: dict[str, type[FirstInFirstOut] | type[LeastFrequentlyUsed]] = {
    "lru": LeastRecentlyUsed,
    "lfu": LeastFrequentlyUsed,
    "fifo": FirstInFirstOut,
}
