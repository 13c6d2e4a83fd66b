"""A server of batches."""

from __future__ import annotations

from simulator.engines.compiled import heap
from simulator.engines.compiled.draws_at import drawn
from simulator.engines.compiled.layout import NONE
from simulator.engines.compiled.pointers import Record, compiled, inlined, queue_at, station_at, token_at
from simulator.engines.compiled.stations import queue
from simulator.engines.compiled.stations.pool import account
from simulator.engines.compiled.stations.station import BLOCKS, ask, join_queue, leave_queue
from simulator.engines.compiled.tokens import served, waited, wake

WAITS, IN_SERVICE = range(2)  # the queues


@inlined
def can_start(w: Record, station: int) -> bool:
    """Whether the next batch's base is there, so that it may start; else it has been asked for."""
    s = station_at(w.stations, station)
    base = drawn(w, s.base, s.batches, 0)
    return base == base


@inlined
def enter(w: Record, station: int, token: int, amount: float, component: int) -> int:
    """Ask for service in which `amount` seconds are the job's own; the next batch must be able to start."""
    s = station_at(w.stations, station)
    account(w, s)
    ask(w, s, token, amount, component)
    join_queue(w, s, station, token, WAITS)
    if not s.serving and (not s.timed or s.waiting >= s.most):
        _start_or_linger(w, s, station)
    return BLOCKS


@inlined
def _start_or_linger(w: Record, s: Record, station: int) -> None:
    since = token_at(w.tokens, queue.head(w, s, False)).since
    if s.waiting >= s.most or w.now - since >= s.linger:
        _start(w, s, station)
    else:
        _linger(w, s, station)


@inlined
def _linger(w: Record, s: Record, station: int) -> None:
    left = s.linger - (w.now - token_at(w.tokens, queue.head(w, s, False)).since)
    s.timed = 1
    heap.schedule(w, 0.0 if left < 0.0 else left, w.first_station + station)


@inlined
def _stop_lingering(w: Record, s: Record, station: int) -> None:
    if s.timed:
        s.timed = 0
        heap.cancel(w, w.first_station + station)


@compiled
def _start(w: Record, s: Record, station: int) -> None:
    _stop_lingering(w, s, station)
    duration = drawn(w, s.base, s.batches, 0)
    s.each = duration / s.most
    s.batches += 1
    s.serving = 1
    s.began = w.now
    while s.waiting and s.busy < s.most:
        token = queue.head(w, s, False)
        queue.remove(w, s, token)
        s.waiting -= 1
        waited(w, token)
        queue.push(w, s, token, IN_SERVICE)
        s.busy += 1
        duration += token_at(w.tokens, token).amount
    s.lasts = duration
    token = queue_at(w.queues, s.queue + IN_SERVICE).first
    while token != NONE:
        s.used += _work(s, token_at(w.tokens, token))
        token = token_at(w.tokens, token).after
    heap.schedule(w, duration, w.first_station + station)


@inlined
def _work(s: Record, t: Record) -> float:
    """Seconds of a full batch's that a job in service does in a second."""
    return (s.each + t.amount) / s.lasts if s.lasts > 0.0 else 0.0


@compiled
def complete(w: Record, station: int) -> None:
    """A batch is done and its jobs are woken, or the first job has lingered; the next batch must be able to start."""
    s = station_at(w.stations, station)
    account(w, s)
    if not s.serving:
        s.timed = 0
        _start(w, s, station)
        return
    s.serving = 0
    jobs = queue_at(w.queues, s.queue + IN_SERVICE)
    while jobs.first != NONE:
        token = jobs.first
        _leave(w, s, token)
        s.completions += 1
        wake(w, token)
    if s.waiting:
        _start_or_linger(w, s, station)


@inlined
def _leave(w: Record, s: Record, token: int) -> None:
    queue.remove(w, s, token)
    t = token_at(w.tokens, token)
    work = _work(s, t)
    s.delivered += work * (w.now - t.since)
    s.busy -= 1
    s.used = s.used - work if s.busy else 0.0
    served(w, token)
    t.at = NONE


@inlined
def withdraw(w: Record, station: int, token: int) -> None:
    """Leave the batch in service, which takes as long as before, or the queue."""
    s = station_at(w.stations, station)
    account(w, s)
    s.withdrawals += 1
    if token_at(w.tokens, token).level == IN_SERVICE:
        _leave(w, s, token)
        return
    first = queue.head(w, s, False) == token
    leave_queue(w, s, token)
    if first and s.timed:
        _stop_lingering(w, s, station)
        if s.waiting:
            _linger(w, s, station)
