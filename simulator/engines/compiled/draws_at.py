"""Draws in compiled code: a look into the blocks that Python has filled.

A draw that is not there comes as NaN, with the place to be filled in `asked`, `asked_number` and `asked_draw`.
"""

from __future__ import annotations

from simulator.engines.compiled.layout import NONE, as_signed
from simulator.engines.compiled.pointers import (
    Record,
    compiled,
    draw_at,
    float_at,
    inlined,
    integer_at,
    later_tag_at,
)
from simulator.engines.compiled.tokens import register, set_register
from simulator.streams import FIRST_MIX, GOLDEN_GAMMA, SECOND_MIX

MISSING = float("nan")
GAMMA, FIRST, SECOND = as_signed(GOLDEN_GAMMA), as_signed(FIRST_MIX), as_signed(SECOND_MIX)


@inlined
def drawn(w: Record, draw: int, number: int, draw_number: int) -> float:
    """The value of a draw for request `number`, or NaN."""
    d = draw_at(w.draws, draw)
    if d.constant:
        return d.value
    if draw_number != 0:
        return later(w, draw, number, draw_number)
    block = number >> w.block_bits
    slot = block & d.mask
    if integer_at(d.tags, slot) != block:
        _ask(w, draw, number, draw_number)
        return MISSING
    return float_at(d.values, (slot << w.block_bits) + (number & ((1 << w.block_bits) - 1)))


@inlined
def _ask(w: Record, draw: int, number: int, draw_number: int) -> None:
    w.asked = draw
    w.asked_number = number
    w.asked_draw = draw_number


@inlined
def later_slot(draw: int, block: int, draw_number: int, mask: int) -> int:
    """Where a block of second and later draws is kept."""
    mixed = (draw * 0x9E3779B1 + draw_number) * 0x85EBCA77 + block
    return (mixed ^ (mixed >> 15)) & mask


@compiled
def later(w: Record, draw: int, number: int, draw_number: int) -> float:
    """The value of a second or later draw, or NaN."""
    block = number >> w.later_bits
    slot = later_slot(draw, block, draw_number, w.later_mask)
    tag = later_tag_at(w.later_tags, slot)
    if tag.block != block or tag.draw != draw or tag.number != draw_number:
        _ask(w, draw, number, draw_number)
        return MISSING
    return float_at(w.later, (slot << w.later_bits) + (number & ((1 << w.later_bits) - 1)))


@inlined
def draw_for(w: Record, t: Record, draw: int) -> float:
    """A token's draw (rule 8), counted where the draw has a counter, or NaN with nothing changed."""
    d = draw_at(w.draws, draw)
    if d.counter == NONE:
        value = drawn(w, draw, t.number, register(w, t, 0))
    else:
        count = register(w, t, d.counter)
        value = drawn(w, draw, t.number, register(w, t, 0) + count)
        if value == value:
            set_register(w, t, d.counter, count + 1)
    return value if d.factor == NONE else value * register(w, t, d.factor)


@inlined
def message_base(base: int, message: int) -> int:
    """Base of a message's draw numbers: `simulator.streams.message_base` on signed words."""
    mixed = base + message * GAMMA
    mixed = (mixed ^ ((mixed >> 30) & ((1 << 34) - 1))) * FIRST
    mixed = (mixed ^ ((mixed >> 27) & ((1 << 37) - 1))) * SECOND
    return ((mixed ^ ((mixed >> 31) & ((1 << 33) - 1))) >> 2) & ((1 << 62) - 1)
