"""Counted units, acquired and released."""

from __future__ import annotations

from simulator.engines.compiled.choices import LIFO, PRIORITY
from simulator.engines.compiled.layout import NONE
from simulator.engines.compiled.pointers import Record, compiled, inlined, station_at, token_at
from simulator.engines.compiled.stations import queue
from simulator.engines.compiled.stations.station import BLOCKS, GOES_ON, ask, join_queue, leave_queue
from simulator.engines.compiled.tokens import free_hold, hold, new_hold, wake
from simulator.program.program import DOES_NOT_FIT, REFUSED, WAITED_TOO_LONG


@inlined
def account(w: Record, s: Record) -> None:
    """Bring the integrals up to now; what is `used` is busy, not those who use it."""
    span = w.now - s.last
    if span > 0.0:
        s.busy_area += span * s.used
        s.waiting_area += span * s.waiting
        s.last = w.now


@inlined
def enter(w: Record, station: int, token: int, amount: float, component: int, level: int) -> int:
    """Ask for `amount` units; there must be a free record to hold them."""
    s = station_at(w.stations, station)
    account(w, s)
    ask(w, s, token, amount, component)
    if amount > s.capacity:
        return DOES_NOT_FIT
    t = token_at(w.tokens, token)
    if not s.waiting and s.used + amount <= s.room:
        t.reserved = new_hold(w)
        _grant(w, s, station, token)
        return GOES_ON
    if s.refusals:
        return REFUSED
    if s.limit != NONE and s.waiting >= s.limit:
        return s.refusal
    t.reserved = new_hold(w)
    if not s.waiting:
        s.filled = w.now
    join_queue(w, s, station, token, level if s.discipline == PRIORITY else 0)
    return BLOCKS


@inlined
def _grant(w: Record, s: Record, station: int, token: int) -> None:
    t = token_at(w.tokens, token)
    s.busy += 1
    s.used += t.amount
    hold(w, t, t.reserved, station, t.amount)
    t.reserved = NONE


@compiled
def grant_waiting(w: Record, station: int) -> None:
    """Grant units to those waiting."""
    s = station_at(w.stations, station)
    while s.waiting:
        token = queue.head(w, s, s.discipline == LIFO)
        t = token_at(w.tokens, token)
        if not s.used + t.amount <= s.room:
            break
        waited = w.now - t.since
        leave_queue(w, s, token)
        if s.wait_limit >= 0.0 and waited > s.wait_limit and w.now - s.filled >= s.standing:
            s.rejections += 1
            free_hold(w, t.reserved)
            t.reserved = NONE
            t.refused = 1 + WAITED_TOO_LONG
        else:
            _grant(w, s, station, token)
        wake(w, token)


@inlined
def release(w: Record, station: int, amount: float) -> None:
    """Give units back and grant them to those waiting."""
    s = station_at(w.stations, station)
    account(w, s)
    s.completions += 1
    s.busy -= 1
    s.used = s.used - amount if s.busy else 0.0
    if s.waiting:
        grant_waiting(w, station)


@inlined
def withdraw(w: Record, station: int, token: int) -> None:
    """Leave the queue; those behind may now fit."""
    s = station_at(w.stations, station)
    account(w, s)
    s.withdrawals += 1
    leave_queue(w, s, token)
    t = token_at(w.tokens, token)
    free_hold(w, t.reserved)
    t.reserved = NONE
    grant_waiting(w, station)
