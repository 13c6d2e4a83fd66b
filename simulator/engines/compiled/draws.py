"""Draws for the kernel: blocks made by the same code that the reference engine draws with (rule 8)."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.engines.compiled import layout
from simulator.engines.compiled.layout import NONE
from simulator.engines.compiled.sampling import Sampler
from simulator.program.arrivals import Renewal
from simulator.program.program import Messages, Program, Users
from simulator.streams import Stream, Streams

Floats = NDArray[np.float64]

LATER_BITS = 10
FEWEST_LATER_BLOCKS = 64
MOST_BYTES = 1 << 30
AHEAD = 1 << 13
MOST_AHEAD = 1024  # blocks of this length
NO_VALUES: Floats = np.empty(0)
GAP_BLOCKS = 16  # of arrivals, asked for together
GAPS = 1 << 12


class FirstDraws:
    """Blocks of a draw's first values of successive requests: block b is kept in slot b modulo their number.

    Where a block comes back that was there before, requests in flight lie wider apart than the slots: their
    number doubles, as long as there is memory.
    """

    def __init__(self, sampler: Sampler, bits: int) -> None:
        self.sampler = sampler
        self.bits = bits
        self.resize(2)

    def resize(self, slots: int) -> None:
        """Begin anew with a number of slots, a power of two."""
        self.slots = slots
        self.loaded: set[int] = set()
        self.tags = np.full(slots, NONE, np.int64)
        self.values = np.empty(slots << self.bits)

    def load(self, number: int) -> None:
        """Fill the slot of block `number`."""
        slot = number & (self.slots - 1)
        self.sampler.fill(self.values[slot << self.bits : (slot + 1) << self.bits], number << self.bits)
        self.tags[slot] = number
        self.loaded.add(number)


class Draws:
    """All draws of a run, filled as the kernel asks for them."""

    def __init__(self, program: Program, streams: Streams, records: NDArray[Any], bits: int) -> None:
        self.records = records
        self.bits = bits
        self.program = program
        self.streams = streams
        self.samplers: dict[int, Sampler] = {}
        self.first: dict[int, FirstDraws] = {}
        self.nothing = np.full(1, NONE, np.int64)
        records["tags"] = self.nothing.ctypes.data
        self.bytes = 0
        self.ahead: dict[tuple[int, int], tuple[int, Floats]] = {}
        self.later_loaded: set[tuple[int, int, int]] = set()
        self.resize_later(FEWEST_LATER_BLOCKS)

    def load(self, draw: int, number: int, draw_number: int) -> None:
        """Fill the block of a draw's value."""
        if draw_number:
            self._load_later(draw, number >> LATER_BITS, draw_number)
        else:
            self._load_first(draw, number >> self.bits)

    def _sampler(self, draw: int) -> Sampler:
        if draw not in self.samplers:
            spec = self.program.draws[draw]
            self.samplers[draw] = Sampler(Stream(self.streams, spec.stream, spec.distribution))
        return self.samplers[draw]

    def _load_first(self, draw: int, number: int) -> None:
        blocks = self.first.get(draw)
        if blocks is None:
            blocks = self.first[draw] = FirstDraws(self._sampler(draw), self.bits)
            self._place(draw, blocks)
        elif number in blocks.loaded and self.bytes + blocks.values.nbytes <= MOST_BYTES:
            blocks.resize(2 * blocks.slots)
            self._place(draw, blocks)
        blocks.load(number)

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

    def _load_later(self, draw: int, number: int, draw_number: int) -> None:
        key = (draw, number, draw_number)
        if key in self.later_loaded and 2 * self.later.nbytes <= MOST_BYTES:
            self.resize_later(2 * self.later_slots)
        slot = later_slot(draw, number, draw_number, self.later_slots - 1)
        self.later[slot << LATER_BITS : (slot + 1) << LATER_BITS] = self._later_values(draw, number, draw_number)
        self.later_tags[slot] = (number, draw, draw_number)
        self.later_loaded.add(key)

    def _later_values(self, draw: int, number: int, draw_number: int) -> Floats:
        """A block, cut from a longer one where it follows another: a few long blocks cost less than many short."""
        start, values = self.ahead.pop((draw, draw_number), (0, NO_VALUES))
        first, size = number << LATER_BITS, 1 << LATER_BITS
        place = first - start
        if not 0 <= place < len(values):
            count = AHEAD - first % AHEAD if len(values) and place == len(values) else size
            start, place, values = first, 0, self._sampler(draw).block(first, count, draw_number)
        if len(self.ahead) < MOST_AHEAD:
            self.ahead[draw, draw_number] = start, values
        return values[place : place + size]


def later_slot(draw: int, block: int, draw_number: int, mask: int) -> int:
    """Where a block of second and later draws is kept; the same as in `draws_at`, on 64 bits."""
    mixed = ((draw * 0x9E3779B1 + draw_number) * 0x85EBCA77 + block) & 0xFFFF_FFFF_FFFF_FFFF
    return (mixed ^ (mixed >> 15)) & mask


class Gaps:
    """The gaps between an open workload's arrivals, several blocks at a time."""

    def __init__(self, program: Program, streams: Streams, workload: int) -> None:
        spec = program.workloads[workload]
        assert not isinstance(spec.source, Users | Messages)
        self.name = f"{spec.name}/arrivals"
        self.blocks = spec.source.gaps(streams, self.name)
        self.renewal = None
        if isinstance(spec.source, Renewal):
            self.renewal = Sampler(Stream(streams, self.name, spec.source.gap))
        self.first = 0

    def next(self) -> Floats:
        """The next gaps; none where no arrivals are left."""
        if self.renewal is not None:
            self.first += GAPS
            return self.renewal.block(self.first - GAPS, GAPS)
        blocks = list(islice(self.blocks, GAP_BLOCKS))
        return np.concatenate(blocks) if blocks else np.empty(0)
