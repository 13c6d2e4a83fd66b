"""Blocks of a GPU's memory, shared by sequences that begin alike.

Free blocks are in doubly linked lists in the order in which they came free, by how often what they hold was found again
where that decides; those that keep what they hold are in a
hash table by their keys. A sequence's own list of blocks is a chain of nodes from the last one back.
"""

from __future__ import annotations

from simulator.engines.compiled.layout import NONE
from simulator.engines.compiled.pointers import (
    Record,
    block_at,
    compiled,
    index_at,
    inlined,
    node_at,
    set_index,
)


@compiled
def found(n: Record, key: int) -> int:
    """The block with a key, or NONE."""
    block = index_at(n.kept, key & n.mask)
    while block != NONE and block_at(n.blocks, block).key != key:
        block = block_at(n.blocks, block).chained
    return block


@compiled
def keep(n: Record, block: int, key: int) -> None:
    """Give what a block holds a key, unless another block has it."""
    if found(n, key) == NONE:
        b = block_at(n.blocks, block)
        b.key = key
        b.kept = 1
        b.chained = index_at(n.kept, key & n.mask)
        set_index(n.kept, key & n.mask, block)


@inlined
def _forget(n: Record, block: int) -> None:
    """Take the key of what a block holds away."""
    b = block_at(n.blocks, block)
    b.kept = 0
    place = b.key & n.mask
    other = index_at(n.kept, place)
    if other == block:
        set_index(n.kept, place, b.chained)
        return
    while block_at(n.blocks, other).chained != block:
        other = block_at(n.blocks, other).chained
    block_at(n.blocks, other).chained = b.chained


@inlined
def _hold(w: Record, n: Record, q: Record, block: int) -> None:
    """Put a block at the end of a sequence's; there must be a free node."""
    block_at(n.blocks, block).users += 1
    node = w.free_node
    link = node_at(w.nodes, node)
    w.free_node = link.before
    w.free_nodes -= 1
    link.block = block
    link.before = q.last_node
    q.last_node = node
    q.held += 1
    q.room += n.block


@compiled
def use(w: Record, n: Record, q: Record, block: int) -> None:
    """Let a sequence use a block that is found."""
    if not block_at(n.blocks, block).users:
        _leave_free(n, block)
    block_at(n.blocks, block).uses += 1
    _hold(w, n, q, block)


@compiled
def take(w: Record, n: Record, q: Record) -> None:
    """Let a sequence have the free block that came free first, which forgets what it holds."""
    level = 0
    while index_at(n.lists, 2 * level) == NONE:
        level += 1
    block = index_at(n.lists, 2 * level)
    _leave_free(n, block)
    block_at(n.blocks, block).uses = 0
    if block_at(n.blocks, block).kept:
        _forget(n, block)
    _hold(w, n, q, block)


@inlined
def _level(n: Record, b: Record) -> int:
    """The list of free blocks that a block belongs to."""
    return min(b.uses, n.levels - 1)


@compiled
def _leave_free(n: Record, block: int) -> None:
    b = block_at(n.blocks, block)
    level = _level(n, b)
    n.free -= 1
    if b.before == NONE:
        set_index(n.lists, 2 * level, b.after)
    else:
        block_at(n.blocks, b.before).after = b.after
    if b.after == NONE:
        set_index(n.lists, 2 * level + 1, b.before)
    else:
        block_at(n.blocks, b.after).before = b.before


@inlined
def _come_free(n: Record, block: int) -> None:
    b = block_at(n.blocks, block)
    level = _level(n, b)
    end = index_at(n.lists, 2 * level + 1)
    n.free += 1
    b.before = end
    b.after = NONE
    if end == NONE:
        set_index(n.lists, 2 * level, block)
    else:
        block_at(n.blocks, end).after = block
    set_index(n.lists, 2 * level + 1, block)


@compiled
def give_back(w: Record, n: Record, q: Record) -> None:
    """Use a sequence's blocks no more, the last of them first."""
    while q.last_node != NONE:
        node = q.last_node
        link = node_at(w.nodes, node)
        b = block_at(n.blocks, link.block)
        b.users -= 1
        if not b.users:
            _come_free(n, link.block)
        q.last_node = link.before
        link.before = w.free_node
        w.free_node = node
        w.free_nodes += 1
    q.held = q.room = 0
