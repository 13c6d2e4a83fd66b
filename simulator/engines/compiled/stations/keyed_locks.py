"""Units of keys, acquired and released; a lock is a record of its own as long as somebody holds its key."""

from __future__ import annotations

from simulator.engines.compiled.layout import NONE
from simulator.engines.compiled.pointers import (
    Record,
    index_at,
    inlined,
    lock_at,
    set_index,
    station_at,
    token_at,
)
from simulator.engines.compiled.stations.pool import account
from simulator.engines.compiled.stations.queue import link, unlink
from simulator.engines.compiled.stations.station import BLOCKS, GOES_ON, ask
from simulator.engines.compiled.tokens import free_hold, hold, new_hold, waited, wake
from simulator.program.program import QUEUE_FULL


@inlined
def _lock_of(w: Record, s: Record, key: int) -> int:
    return index_at(w.keys, s.row * w.universe + key)


@inlined
def _new_lock(w: Record, s: Record, key: int) -> int:
    lock = w.free_lock
    record = lock_at(w.locks, lock)
    w.free_lock = record.free
    record.held = record.waiting = 0
    record.first = record.end = NONE
    set_index(w.keys, s.row * w.universe + key, lock)
    return lock


@inlined
def enter(w: Record, station: int, token: int, key: int, component: int) -> int:
    """Ask for a unit of a key; there must be a free record to hold it, and one for its lock."""
    s = station_at(w.stations, station)
    account(w, s)
    ask(w, s, token, float(key), component)
    lock = _lock_of(w, s, key)
    if lock == NONE:
        lock = _new_lock(w, s, key)
    record = lock_at(w.locks, lock)
    t = token_at(w.tokens, token)
    if record.held < s.capacity:
        t.reserved = new_hold(w)
        _grant(w, s, station, token, record)
        return GOES_ON
    if s.limit != NONE and record.waiting >= s.limit:
        return QUEUE_FULL
    t.reserved = new_hold(w)
    t.at = station
    s.waiting += 1
    record.waiting += 1
    link(w, record, token)
    return BLOCKS


@inlined
def _grant(w: Record, s: Record, station: int, token: int, record: Record) -> None:
    t = token_at(w.tokens, token)
    s.busy += 1
    record.held += 1
    _use(s, int(t.amount), 1.0)
    hold(w, t, t.reserved, station, t.amount)
    t.reserved = NONE


@inlined
def _use(s: Record, key: int, units: float) -> None:
    if s.watched == NONE or key == s.watched:
        s.used += units


@inlined
def _leave_queue(w: Record, s: Record, token: int, record: Record) -> None:
    unlink(w, record, token)
    s.waiting -= 1
    record.waiting -= 1
    waited(w, token)
    token_at(w.tokens, token).at = NONE


@inlined
def release(w: Record, station: int, key: int) -> None:
    """Give the unit of a key back and grant it to the first that waits for this key."""
    s = station_at(w.stations, station)
    account(w, s)
    s.completions += 1
    s.busy -= 1
    _use(s, key, -1.0)
    lock = _lock_of(w, s, key)
    record = lock_at(w.locks, lock)
    record.held -= 1
    if record.waiting:
        token = record.first
        _leave_queue(w, s, token, record)
        _grant(w, s, station, token, record)
        wake(w, token)
    elif not record.held:
        set_index(w.keys, s.row * w.universe + key, NONE)
        record.free = w.free_lock
        w.free_lock = lock


@inlined
def withdraw(w: Record, station: int, token: int) -> None:
    """Leave the queue."""
    s = station_at(w.stations, station)
    account(w, s)
    s.withdrawals += 1
    t = token_at(w.tokens, token)
    _leave_queue(w, s, token, lock_at(w.locks, _lock_of(w, s, int(t.amount))))
    free_hold(w, t.reserved)
    t.reserved = NONE
