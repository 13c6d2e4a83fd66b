"""Tokens chosen for a control to work on, in the order in which they were made."""

from __future__ import annotations

from simulator.engines.compiled.pointers import Record, compiled, index_at, inlined, set_index, token_at


@inlined
def choose(w: Record, token: int) -> None:
    """Add a token."""
    set_index(w.chosen, w.chosen_count, token)
    w.chosen_count += 1


@compiled
def sort(w: Record) -> None:
    """Put those chosen into order: a heap sort."""
    count = w.chosen_count
    for place in range(count // 2 - 1, -1, -1):
        _sink(w, place, count)
    for end in range(count - 1, 0, -1):
        first = index_at(w.chosen, 0)
        set_index(w.chosen, 0, index_at(w.chosen, end))
        set_index(w.chosen, end, first)
        _sink(w, 0, end)


@inlined
def _created(w: Record, place: int) -> int:
    return token_at(w.tokens, index_at(w.chosen, place)).created


@compiled
def _sink(w: Record, place: int, count: int) -> None:
    child = 2 * place + 1
    while child < count:
        if child + 1 < count and _created(w, child + 1) > _created(w, child):
            child += 1
        if _created(w, child) <= _created(w, place):
            break
        token = index_at(w.chosen, place)
        set_index(w.chosen, place, index_at(w.chosen, child))
        set_index(w.chosen, child, token)
        place = child
        child = 2 * place + 1
