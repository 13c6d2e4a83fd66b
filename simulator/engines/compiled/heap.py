"""The event heap: a binary heap on (time, order of scheduling), from which an event can be taken out or moved.

`position` says where each event is, by its id. While an event happens it stays at the root as a hole: it is still
the least of all, and the next event that is scheduled takes its place in one pass down.
"""

from __future__ import annotations

from simulator.engines.compiled.pointers import Record, compiled, event_at, index_at, inlined, set_index


@inlined
def _put(w: Record, place: int, time: float, order: int, event: int) -> None:
    entry = event_at(w.heap, place)
    entry.time = time
    entry.order = order
    entry.id = event
    set_index(w.position, event, place)


@inlined
def _move(w: Record, source: int, place: int) -> None:
    entry = event_at(w.heap, source)
    _put(w, place, entry.time, entry.order, entry.id)


@inlined
def _precedes(time: float, order: int, other_time: float, other_order: int) -> bool:
    return time < other_time or (time == other_time and order < other_order)


@inlined
def _rise(w: Record, place: int, time: float, order: int, event: int) -> None:
    """Put an event at a place or above."""
    while place > 0:
        parent = (place - 1) >> 1
        above = event_at(w.heap, parent)
        if not _precedes(time, order, above.time, above.order):
            break
        _move(w, parent, place)
        place = parent
    _put(w, place, time, order, event)


@inlined
def _lesser(w: Record, place: int) -> int:
    """Of an event and its right neighbour the place of the one that comes first; without a branch to mispredict."""
    left, right = event_at(w.heap, place), event_at(w.heap, place + 1)
    same = right.time == left.time
    return place + int((right.time < left.time) | (same & (right.order < left.order)))


@inlined
def _sink(w: Record, place: int, time: float, order: int, event: int) -> None:
    """Put an event at a place or below."""
    count = w.events
    child = 2 * place + 1
    while child < count:
        if child + 1 < count:
            child = _lesser(w, child)
        least = event_at(w.heap, child)
        if not _precedes(least.time, least.order, time, order):
            break
        _move(w, child, place)
        place = child
        child = 2 * place + 1
    _put(w, place, time, order, event)


@compiled
def schedule(w: Record, delay: float, event: int) -> None:
    """Schedule an event in `delay` seconds (rule 1)."""
    time = w.now + delay
    order = w.order
    w.order = order + 1
    if w.hole:
        w.hole = 0
        _sink(w, 0, time, order, event)
    else:
        w.events += 1
        _rise(w, w.events - 1, time, order, event)


@compiled
def reschedule(w: Record, delay: float, event: int) -> None:
    """Move a scheduled event, as if it were cancelled and scheduled anew."""
    time = w.now + delay
    order = w.order
    w.order = order + 1
    _settle(w, index_at(w.position, event), time, order, event)


@inlined
def _settle(w: Record, place: int, time: float, order: int, event: int) -> None:
    if place > 0:
        above = event_at(w.heap, (place - 1) >> 1)
        if _precedes(time, order, above.time, above.order):
            _rise(w, place, time, order, event)
            return
    _sink(w, place, time, order, event)


@compiled
def cancel(w: Record, event: int) -> None:
    """Take a scheduled event out."""
    place = index_at(w.position, event)
    w.events -= 1
    last = event_at(w.heap, w.events)
    if place < w.events:
        _settle(w, place, last.time, last.order, last.id)


@inlined
def close_hole(w: Record) -> None:
    """Take the event that has happened off the root."""
    w.hole = 0
    w.events -= 1
    if w.events > 0:
        last = event_at(w.heap, w.events)
        _sink(w, 0, last.time, last.order, last.id)
