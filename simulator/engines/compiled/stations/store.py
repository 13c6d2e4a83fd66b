"""Stores: entries found by their key through a direct table, and linked in the order in which they are evicted.

An LFU store keeps its entries in a binary heap on (uses, order of the last use) instead of a list.
"""

from __future__ import annotations

from simulator.engines.compiled.choices import LFU, LRU
from simulator.engines.compiled.layout import NONE
from simulator.engines.compiled.pointers import (
    Record,
    compiled,
    entry_at,
    index_at,
    inlined,
    set_index,
    station_at,
)
from simulator.engines.compiled.stations.station import account


@inlined
def _find(w: Record, s: Record, key: int) -> int:
    return index_at(w.keys, s.row * w.universe + key)


@compiled
def lookup(w: Record, station: int, key: int, counted: int) -> bool:
    """Whether the key is present and fresh; a use of it, which the statistics count or do not."""
    s = station_at(w.stations, station)
    account(w, s)
    s.arrivals += counted
    s.completions += counted
    entry = _find(w, s, key)
    if entry == NONE:
        return False
    e = entry_at(w.entries, entry)
    if s.expires and w.now - e.inserted > s.time_to_live:
        _remove(w, s, entry)
        return False
    s.hits += counted
    e.uses += 1
    _use(w, s, entry)
    return True


@compiled
def insert(w: Record, station: int, key: int) -> None:
    """Put the key in (or renew it), evicting one entry where the store is full; there must be a free entry."""
    s = station_at(w.stations, station)
    account(w, s)
    entry = _find(w, s, key)
    if entry != NONE:
        e = entry_at(w.entries, entry)
        e.inserted = w.now
        e.copies += 1
        _use(w, s, entry)
        return
    if s.busy >= s.entries_most:
        _remove(w, s, index_at(w.uses, s.uses) if s.eviction == LFU else s.first)
    _add(w, s, key)


@compiled
def remove(w: Record, station: int, key: int) -> None:
    """Take the key out, where it is there; of a multiset one of its copies."""
    s = station_at(w.stations, station)
    account(w, s)
    entry = _find(w, s, key)
    if entry == NONE:
        return
    e = entry_at(w.entries, entry)
    e.copies -= 1
    if not s.multiset or e.copies == 0:
        _remove(w, s, entry)


@inlined
def _add(w: Record, s: Record, key: int) -> None:
    entry = w.free_entry
    e = entry_at(w.entries, entry)
    w.free_entry = e.free
    e.key = key
    e.inserted = w.now
    e.uses = 0
    e.copies = 1
    set_index(w.keys, s.row * w.universe + key, entry)
    s.busy += 1
    if s.eviction == LFU:
        s.order += 1
        e.order = s.order
        _rise(w, s, s.busy - 1, entry)
    else:
        _link(w, s, entry)


@compiled
def _remove(w: Record, s: Record, entry: int) -> None:
    e = entry_at(w.entries, entry)
    set_index(w.keys, s.row * w.universe + e.key, NONE)
    s.busy -= 1
    if s.eviction == LFU:
        last = index_at(w.uses, s.uses + s.busy)
        if last != entry:
            _settle(w, s, e.place, last)
    else:
        _unlink(w, s, entry)
    e.free = w.free_entry
    w.free_entry = entry


@inlined
def _use(w: Record, s: Record, entry: int) -> None:
    if s.eviction == LRU:
        _unlink(w, s, entry)
        _link(w, s, entry)
    elif s.eviction == LFU:
        s.order += 1
        e = entry_at(w.entries, entry)
        e.order = s.order
        _settle(w, s, e.place, entry)


@inlined
def _link(w: Record, s: Record, entry: int) -> None:
    e = entry_at(w.entries, entry)
    e.before = s.end
    e.after = NONE
    if s.end == NONE:
        s.first = entry
    else:
        entry_at(w.entries, s.end).after = entry
    s.end = entry


@inlined
def _unlink(w: Record, s: Record, entry: int) -> None:
    e = entry_at(w.entries, entry)
    if e.before == NONE:
        s.first = e.after
    else:
        entry_at(w.entries, e.before).after = e.after
    if e.after == NONE:
        s.end = e.before
    else:
        entry_at(w.entries, e.after).before = e.before


@inlined
def _less_used(w: Record, entry: int, other: int) -> bool:
    a, b = entry_at(w.entries, entry), entry_at(w.entries, other)
    return a.uses < b.uses or (a.uses == b.uses and a.order < b.order)


@inlined
def _put(w: Record, s: Record, place: int, entry: int) -> None:
    set_index(w.uses, s.uses + place, entry)
    entry_at(w.entries, entry).place = place


@compiled
def _rise(w: Record, s: Record, place: int, entry: int) -> None:
    while place > 0:
        parent = (place - 1) >> 1
        above = index_at(w.uses, s.uses + parent)
        if not _less_used(w, entry, above):
            break
        _put(w, s, place, above)
        place = parent
    _put(w, s, place, entry)


@compiled
def _sink(w: Record, s: Record, place: int, entry: int) -> None:
    child = 2 * place + 1
    while child < s.busy:
        least = index_at(w.uses, s.uses + child)
        if child + 1 < s.busy and _less_used(w, index_at(w.uses, s.uses + child + 1), least):
            child += 1
            least = index_at(w.uses, s.uses + child)
        if not _less_used(w, least, entry):
            break
        _put(w, s, place, least)
        place = child
        child = 2 * place + 1
    _put(w, s, place, entry)


@inlined
def _settle(w: Record, s: Record, place: int, entry: int) -> None:
    """Put an entry at a place of the heap, or where it belongs above or below."""
    if place > 0 and _less_used(w, entry, index_at(w.uses, s.uses + ((place - 1) >> 1))):
        _rise(w, s, place, entry)
    else:
        _sink(w, s, place, entry)
