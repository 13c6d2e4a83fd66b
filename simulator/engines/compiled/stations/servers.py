"""Servers behind a queue."""

from __future__ import annotations

import math

from simulator.engines.compiled import chosen, heap
from simulator.engines.compiled.choices import LIFO, PRIORITY
from simulator.engines.compiled.layout import NONE
from simulator.engines.compiled.pointers import Record, compiled, index_at, inlined, station_at, token_at
from simulator.engines.compiled.stations import queue
from simulator.engines.compiled.stations.station import BLOCKS, account, ask, join_queue, leave_queue
from simulator.engines.compiled.tokens import pass_time, served, token_event
from simulator.program.program import QUEUE_FULL


@inlined
def enter(w: Record, station: int, token: int, amount: float, component: int, level: int) -> int:
    """Ask for `amount` seconds of service."""
    s = station_at(w.stations, station)
    account(w, s)
    ask(w, s, token, amount, component)
    if s.busy < s.servers:
        _start(w, s, station, token)
        return BLOCKS
    if s.limit != NONE and s.waiting >= s.limit:
        return QUEUE_FULL
    join_queue(w, s, station, token, level if s.discipline == PRIORITY else 0)
    return BLOCKS


@inlined
def _start(w: Record, s: Record, station: int, token: int) -> None:
    s.busy += 1
    s.started += w.now
    pass_time(w, token, _time_left(s, token_at(w.tokens, token)), station)


@inlined
def _time_left(s: Record, t: Record) -> float:
    if s.speed == 1.0:
        return t.amount
    return t.amount / s.speed if s.speed > 0.0 else math.inf


@compiled
def change_speed(w: Record, station: int, speed: float) -> None:
    """Go on at another speed from now (rule 10)."""
    s = station_at(w.stations, station)
    account(w, s)
    w.chosen_count = 0
    for token in range(w.token_count):
        t = token_at(w.tokens, token)
        if t.alive and t.at == station and t.timed:
            chosen.choose(w, token)
    chosen.sort(w)
    for i in range(w.chosen_count):
        t = token_at(w.tokens, index_at(w.chosen, i))
        left = t.amount - (w.now - max(t.since, s.changed)) * s.speed
        t.amount = 0.0 if left < 0.0 else left
    s.speed = speed
    s.changed = w.now
    for i in range(w.chosen_count):
        token = index_at(w.chosen, i)
        heap.reschedule(w, _time_left(s, token_at(w.tokens, token)), token_event(w, token))


@inlined
def _start_next(w: Record, s: Record, station: int) -> None:
    if s.waiting:
        token = queue.head(w, s, s.discipline == LIFO)
        leave_queue(w, s, token)
        _start(w, s, station, token)


@inlined
def _leave(w: Record, s: Record, token: int) -> None:
    t = token_at(w.tokens, token)
    s.delivered += w.now - t.since
    s.busy -= 1
    s.started = s.started - t.since if s.busy else 0.0
    served(w, token)
    t.timed = 0
    t.at = NONE


@inlined
def complete(w: Record, station: int, token: int) -> None:
    """A server has finished; it starts the next job (rule 4)."""
    s = station_at(w.stations, station)
    account(w, s)
    _leave(w, s, token)
    s.completions += 1
    _start_next(w, s, station)


@inlined
def withdraw(w: Record, station: int, token: int) -> None:
    """Leave the queue, or free the server."""
    s = station_at(w.stations, station)
    account(w, s)
    s.withdrawals += 1
    if not token_at(w.tokens, token).timed:
        leave_queue(w, s, token)
        return
    heap.cancel(w, token_event(w, token))
    _leave(w, s, token)
    _start_next(w, s, station)
