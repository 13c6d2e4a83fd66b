"""Draws for the kernel: blocks made by the same code that the reference engine draws with (rule 8)."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.distributions import Constant
from simulator.engines.compiled import layout
from simulator.engines.compiled.layout import NONE
from simulator.program.arrivals import Renewal
from simulator.program.program import Program, Users
from simulator.streams import Stream, Streams

Floats = NDArray[np.float64]

LATER_BITS = 9
FEWEST_LATER_BLOCKS = 64
MOST_BYTES = 1 << 30
GAP_BLOCKS = 16  # of arrivals, asked for together
GAPS = 1 << 14


class FirstDraws:
    """Blocks of a draw's first values of successive requests: block b is kept in slot b modulo their number.

    Where a block comes back that was there before, requests in flight lie wider apart than the slots: their
    number doubles, as long as there is memory.
    """

    def __init__(self, stream: Stream, bits: int) -> None:
        self.stream = stream
        self.bits = bits
        self.loaded: set[int] = set()
        self.resize(2)

    def resize(self, slots: int) -> None:
        """Begin anew with a number of slots, a power of two."""
        self.slots = slots
        self.tags = np.full(slots, NONE, np.int64)
        self.values = np.empty(slots << self.bits)

    def load(self, block: int) -> None:
        """Fill the slot of a block."""
        slot = block & (self.slots - 1)
        count = 1 << self.bits
        self.values[slot << self.bits : (slot + 1) << self.bits] = self.stream.block(block << self.bits, count)
        self.tags[slot] = block
        self.loaded.add(block)


class Draws:
    """All draws of a run, filled as the kernel asks for them."""

    def __init__(self, program: Program, streams: Streams, records: NDArray[Any], bits: int) -> None:
        self.records = records
        self.bits = bits
        self.streams = [
            None if isinstance(draw.distribution, Constant) else Stream(streams, draw.stream, draw.distribution)
            for draw in program.draws
        ]
        self.first: dict[int, FirstDraws] = {}
        self.nothing = np.full(1, NONE, np.int64)
        records["tags"] = self.nothing.ctypes.data
        self.bytes = 0
        self.later_loaded: set[tuple[int, int, int]] = set()
        self.resize_later(FEWEST_LATER_BLOCKS)

    def load(self, draw: int, number: int, draw_number: int) -> None:
        """Fill the block of a draw's value."""
        if draw_number:
            self._load_later(draw, number >> LATER_BITS, draw_number)
        else:
            self._load_first(draw, number >> self.bits)

    def _stream(self, draw: int) -> Stream:
        stream = self.streams[draw]
        assert stream is not None
        return stream

    def _load_first(self, draw: int, block: int) -> None:
        blocks = self.first.get(draw)
        if blocks is None:
            blocks = self.first[draw] = FirstDraws(self._stream(draw), self.bits)
            self._place(draw, blocks)
        elif block in blocks.loaded and self.bytes + blocks.values.nbytes <= MOST_BYTES:
            blocks.resize(2 * blocks.slots)
            self._place(draw, blocks)
        blocks.load(block)

    def _place(self, draw: int, blocks: FirstDraws) -> None:
        record = self.records[draw]
        record["tags"], record["values"] = blocks.tags.ctypes.data, blocks.values.ctypes.data
        record["mask"] = blocks.slots - 1
        self.bytes = sum(each.values.nbytes for each in self.first.values())

    def resize_later(self, slots: int) -> None:
        """Begin anew with a number of slots for blocks of second and later draws."""
        self.later_slots = slots
        self.later = np.empty(slots << LATER_BITS)
        self.later_tags = np.full(slots, NONE, layout.LATER_TAG)
        self.later_loaded.clear()

    def _load_later(self, draw: int, block: int, draw_number: int) -> None:
        key = (draw, block, draw_number)
        if key in self.later_loaded and 2 * self.later.nbytes <= MOST_BYTES:
            self.resize_later(2 * self.later_slots)
        slot = later_slot(draw, block, draw_number, self.later_slots - 1)
        count = 1 << LATER_BITS
        values = self._stream(draw).block(block << LATER_BITS, count, draw_number)
        self.later[slot << LATER_BITS : (slot + 1) << LATER_BITS] = values
        self.later_tags[slot] = (block, draw, draw_number)
        self.later_loaded.add(key)


def later_slot(draw: int, block: int, draw_number: int, mask: int) -> int:
    """Where a block of second and later draws is kept; the same as in `draws_at`, on 64 bits."""
    mixed = ((draw * 0x9E3779B1 + draw_number) * 0x85EBCA77 + block) & 0xFFFF_FFFF_FFFF_FFFF
    return (mixed ^ (mixed >> 15)) & mask


class Gaps:
    """The gaps between an open workload's arrivals, several blocks at a time."""

    def __init__(self, program: Program, streams: Streams, workload: int) -> None:
        spec = program.workloads[workload]
        assert not isinstance(spec.source, Users)
        self.name = f"{spec.name}/arrivals"
        self.blocks = spec.source.gaps(streams, self.name)
        self.renewal = Stream(streams, self.name, spec.source.gap) if isinstance(spec.source, Renewal) else None
        self.first = 0

    def next(self) -> Floats:
        """The next gaps; none where no arrivals are left."""
        if self.renewal is not None:
            self.first += 4096
            return self.renewal.block(self.first - 4096, 4096)
        blocks = list(islice(self.blocks, GAP_BLOCKS))
        return np.concatenate(blocks) if blocks else np.empty(0)
