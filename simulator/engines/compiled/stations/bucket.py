"""Token buckets."""

from __future__ import annotations

from simulator.engines.compiled import heap
from simulator.engines.compiled.pointers import Record, float_at, inlined, set_float, station_at, token_at
from simulator.engines.compiled.stations import queue
from simulator.engines.compiled.stations.station import BLOCKS, GOES_ON, account, ask, join_queue, leave_queue
from simulator.program.program import DOES_NOT_FIT, RATE_LIMITED


@inlined
def _refill(w: Record, s: Record) -> None:
    account(w, s)
    level = s.level + (w.now - s.refilled) * s.rate
    s.level = level if level < s.burst else s.burst
    s.refilled = w.now


@inlined
def enter(w: Record, station: int, token: int, amount: float, component: int) -> int:
    """Ask for `amount` tokens."""
    s = station_at(w.stations, station)
    _refill(w, s)
    ask(w, s, token, amount, component)
    if amount > s.burst:
        return DOES_NOT_FIT
    if not s.waiting and s.level >= amount:
        _take(s, amount)
        return GOES_ON
    if not s.waits:
        return RATE_LIMITED
    join_queue(w, s, station, token, 0)
    if s.waiting == 1:
        _await_head(w, s, station)
    return BLOCKS


@inlined
def enter_of_key(w: Record, station: int, token: int, amount: float, component: int, key: int) -> int:
    """Ask for `amount` tokens of a key's bucket."""
    s = station_at(w.stations, station)
    account(w, s)
    ask(w, s, token, amount, component)
    place = s.taken + 2 * (key % s.keys)
    missing = float_at(w.numbers, place) - (w.now - float_at(w.numbers, place + 1)) * s.rate
    if missing < 0.0:
        missing = 0.0
    if amount > s.burst:
        return DOES_NOT_FIT
    if missing + amount > s.burst:
        return RATE_LIMITED
    set_float(w.numbers, place, missing + amount)
    set_float(w.numbers, place + 1, w.now)
    _count(s, amount)
    return GOES_ON


@inlined
def _take(s: Record, amount: float) -> None:
    level = s.level - amount
    s.level = 0.0 if level < 0.0 else level
    _count(s, amount)


@inlined
def _count(s: Record, amount: float) -> None:
    s.busy_area += amount
    s.delivered += amount
    s.completions += 1


@inlined
def _await_head(w: Record, s: Record, station: int) -> None:
    delay = (token_at(w.tokens, queue.head(w, s, False)).amount - s.level) / s.rate
    s.timed = 1
    heap.schedule(w, 0.0 if delay < 0.0 else delay, w.first_station + station)


@inlined
def complete(w: Record, station: int) -> int:
    """The head of the queue has its tokens; returns it."""
    s = station_at(w.stations, station)
    _refill(w, s)
    s.timed = 0
    token = queue.head(w, s, False)
    _take(s, token_at(w.tokens, token).amount)
    _leave(w, s, station, token)
    return token


@inlined
def _leave(w: Record, s: Record, station: int, token: int) -> None:
    leave_queue(w, s, token)
    if s.waiting and not s.timed:
        _await_head(w, s, station)


@inlined
def withdraw(w: Record, station: int, token: int) -> None:
    """Leave the queue; the next at its head waits for its own tokens."""
    s = station_at(w.stations, station)
    _refill(w, s)
    s.withdrawals += 1
    if queue.head(w, s, False) == token:
        heap.cancel(w, w.first_station + station)
        s.timed = 0
    _leave(w, s, station, token)
