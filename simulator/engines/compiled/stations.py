"""The primitive stations; the same operations in the same order as `simulator.engines.simpy.stations`.

`enter_...` returns GOES_ON, BLOCKS, or the reason for which the station turned the token away.
"""

from __future__ import annotations

from simulator.engines.compiled import heap, queues, sharing_heap
from simulator.engines.compiled.draws_at import drawn
from simulator.engines.compiled.layout import NONE, PASSING, Kind
from simulator.engines.compiled.pointers import (
    Record,
    compiled,
    float_at,
    hold_at,
    inlined,
    queue_at,
    station_at,
    token_at,
)
from simulator.engines.compiled.tokens import (
    free_hold,
    new_hold,
    pass_time,
    served,
    spend,
    token_event,
    waited,
    wake,
)
from simulator.program.program import DOES_NOT_FIT, QUEUE_FULL, RATE_LIMITED
from simulator.program.stations import Discipline

GOES_ON, BLOCKS = -1, -2
FIFO, LIFO, PRIORITY = range(3)
DISCIPLINES = {Discipline.FIFO: FIFO, Discipline.LIFO: LIFO, Discipline.PRIORITY: PRIORITY}

SERVERS, SHARING, POOL, BUCKET = int(Kind.SERVERS), int(Kind.SHARING), int(Kind.POOL), int(Kind.BUCKET)
BATCH = int(Kind.BATCH)
WAITS, IN_SERVICE = range(2)  # a batch station's queues


@inlined
def account(w: Record, s: Record) -> None:
    """Bring the integrals of a station, other than a sharing one or a pool, up to now."""
    span = w.now - s.last
    if span > 0.0:
        s.busy_area += span * s.busy
        s.waiting_area += span * s.waiting
        s.last = w.now


@inlined
def _ask(w: Record, s: Record, token: int, amount: float, component: int) -> None:
    s.arrivals += 1
    t = token_at(w.tokens, token)
    t.since = w.now
    t.amount = amount
    t.component = component


@inlined
def _join_queue(w: Record, s: Record, station: int, token: int, level: int) -> None:
    token_at(w.tokens, token).at = station
    s.waiting += 1
    queues.push(w, s, token, level)


@inlined
def _leave_queue(w: Record, s: Record, token: int) -> None:
    queues.remove(w, s, token)
    s.waiting -= 1
    waited(w, token)
    token_at(w.tokens, token).at = NONE


# Servers.


@inlined
def enter_servers(w: Record, station: int, token: int, amount: float, component: int, level: int) -> int:
    """Ask for `amount` seconds of service."""
    s = station_at(w.stations, station)
    account(w, s)
    _ask(w, s, token, amount, component)
    if s.busy < s.servers:
        _start(w, s, station, token)
        return BLOCKS
    if s.limit != NONE and s.waiting >= s.limit:
        return QUEUE_FULL
    _join_queue(w, s, station, token, level if s.discipline == PRIORITY else 0)
    return BLOCKS


@inlined
def _start(w: Record, s: Record, station: int, token: int) -> None:
    s.busy += 1
    s.started += w.now
    pass_time(w, token, token_at(w.tokens, token).amount, station)


@inlined
def _start_next(w: Record, s: Record, station: int) -> None:
    if s.waiting:
        token = queues.head(w, s, s.discipline == LIFO)
        _leave_queue(w, s, token)
        _start(w, s, station, token)


@inlined
def _leave_server(w: Record, s: Record, token: int) -> None:
    t = token_at(w.tokens, token)
    s.delivered += w.now - t.since
    s.busy -= 1
    s.started = s.started - t.since if s.busy else 0.0
    served(w, token)
    t.timed = 0
    t.at = NONE


@inlined
def complete_service(w: Record, station: int, token: int) -> None:
    """A server has finished; it starts the next job (rule 4)."""
    s = station_at(w.stations, station)
    account(w, s)
    _leave_server(w, s, token)
    s.completions += 1
    _start_next(w, s, station)


@inlined
def _withdraw_from_servers(w: Record, station: int, token: int) -> None:
    s = station_at(w.stations, station)
    account(w, s)
    s.withdrawals += 1
    if not token_at(w.tokens, token).timed:
        _leave_queue(w, s, token)
        return
    heap.cancel(w, token_event(w, token))
    _leave_server(w, s, token)
    _start_next(w, s, station)


# Sharing.


@inlined
def _set_jobs(w: Record, s: Record, jobs: int) -> None:
    """Change the number of jobs, and with it their total rate and each one's share."""
    s.busy = jobs
    if jobs:
        s.rate = float_at(w.numbers, s.rates + (jobs if jobs < s.most else s.most))
        s.share = s.rate / jobs


@inlined
def _account_sharing(w: Record, s: Record) -> None:
    span = w.now - s.last
    if span > 0.0:
        if s.busy:
            s.busy_area += span * s.rate
            s.waiting_area += span * (s.busy - s.rate / s.alone)
        s.last = w.now


@inlined
def _virtual_now(w: Record, s: Record) -> float:
    if not s.busy:
        return s.virtual  # type: ignore[no-any-return]
    return s.virtual + (w.now - s.changed) * s.share  # type: ignore[no-any-return]


@inlined
def _advance(w: Record, s: Record) -> None:
    """Bring V and the integrals up to a change now (rule 5)."""
    _account_sharing(w, s)
    s.virtual = _virtual_now(w, s)
    s.changed = w.now


@inlined
def enter_sharing(w: Record, station: int, token: int, amount: float, component: int) -> int:
    """Ask for `amount` units of work."""
    s = station_at(w.stations, station)
    _advance(w, s)
    _ask(w, s, token, amount, component)
    t = token_at(w.tokens, token)
    t.at = station
    s.order += 1
    mark = s.virtual + amount
    t.mark = mark
    t.order = s.order
    sharing_heap.join(w, s, token)
    s.owed += amount - mark
    _set_jobs(w, s, s.busy + 1)
    _reschedule(w, s, station)
    return BLOCKS


@inlined
def _reschedule(w: Record, s: Record, station: int) -> None:
    """Schedule the next completion; the event that there may be is moved."""
    event = w.first_station + station
    if s.root == NONE:
        if s.timed:
            s.timed = 0
            heap.cancel(w, event)
        return
    remaining = (token_at(w.tokens, s.root).mark - s.virtual) / s.share
    delay = 0.0 if remaining < 0.0 else remaining
    if s.timed:
        heap.reschedule(w, delay, event)
    else:
        s.timed = 1
        heap.schedule(w, delay, event)


@inlined
def complete_sharing(w: Record, station: int) -> int:
    """The job that is first to leave has its work; returns its token."""
    s = station_at(w.stations, station)
    _advance(w, s)
    s.timed = 0
    token = s.root
    sharing_heap.leave(w, s, token)
    t = token_at(w.tokens, token)
    s.virtual = t.mark
    _leave_sharing(w, s, token, t.amount)
    s.completions += 1
    _reschedule(w, s, station)
    return token  # type: ignore[no-any-return]


@inlined
def _leave_sharing(w: Record, s: Record, token: int, attained: float) -> None:
    """Account the time that the work takes alone as service, the rest as waiting."""
    t = token_at(w.tokens, token)
    s.delivered += attained
    elapsed = w.now - t.since
    alone = attained / s.alone
    service = elapsed if elapsed < alone else alone
    spend(w, token, t.component, elapsed - service)
    spend(w, token, t.component + 1, service)
    t.at = NONE
    _set_jobs(w, s, s.busy - 1)
    s.owed -= t.amount - t.mark
    if not s.busy:
        s.virtual = 0.0
        s.owed = 0.0


@inlined
def _withdraw_from_sharing(w: Record, station: int, token: int) -> None:
    s = station_at(w.stations, station)
    _advance(w, s)
    s.withdrawals += 1
    t = token_at(w.tokens, token)
    attained = t.amount - (t.mark - s.virtual)
    sharing_heap.leave(w, s, token)
    _leave_sharing(w, s, token, 0.0 if attained < 0.0 else attained)
    _reschedule(w, s, station)


# Pool.


@inlined
def _account_pool(w: Record, s: Record) -> None:
    span = w.now - s.last
    if span > 0.0:
        s.busy_area += span * s.used
        s.waiting_area += span * s.waiting
        s.last = w.now


@inlined
def enter_pool(w: Record, station: int, token: int, amount: float, component: int) -> int:
    """Ask for `amount` units; there must be a free record to hold them."""
    s = station_at(w.stations, station)
    _account_pool(w, s)
    _ask(w, s, token, amount, component)
    if amount > s.capacity:
        return DOES_NOT_FIT
    t = token_at(w.tokens, token)
    if not s.waiting and s.used + amount <= s.capacity:
        t.reserved = new_hold(w)
        _grant(w, s, station, token)
        return GOES_ON
    if s.limit != NONE and s.waiting >= s.limit:
        return QUEUE_FULL
    t.reserved = new_hold(w)
    _join_queue(w, s, station, token, 0)
    return BLOCKS


@inlined
def _grant(w: Record, s: Record, station: int, token: int) -> None:
    t = token_at(w.tokens, token)
    s.busy += 1
    s.used += t.amount
    hold = hold_at(w.holds, t.reserved)
    hold.station = station
    hold.amount = t.amount
    hold.below = t.hold
    t.hold = t.reserved
    t.reserved = NONE
    t.holds += 1


@compiled
def _grant_waiting(w: Record, station: int) -> None:
    s = station_at(w.stations, station)
    while s.waiting:
        token = queues.head(w, s, False)
        if not s.used + token_at(w.tokens, token).amount <= s.capacity:
            break
        _leave_queue(w, s, token)
        _grant(w, s, station, token)
        wake(w, token)


@compiled
def release_holds(w: Record, token: int, keep: int) -> None:
    """Release all but the first `keep` things that a token holds, the last acquired first."""
    t = token_at(w.tokens, token)
    while t.holds > keep:
        hold = t.hold
        h = hold_at(w.holds, hold)
        station, amount = h.station, h.amount
        t.hold = h.below
        t.holds -= 1
        free_hold(w, hold)
        s = station_at(w.stations, station)
        _account_pool(w, s)
        s.completions += 1
        s.busy -= 1
        s.used = s.used - amount if s.busy else 0.0
        if s.waiting:
            _grant_waiting(w, station)


@inlined
def _withdraw_from_pool(w: Record, station: int, token: int) -> None:
    s = station_at(w.stations, station)
    _account_pool(w, s)
    s.withdrawals += 1
    _leave_queue(w, s, token)
    t = token_at(w.tokens, token)
    free_hold(w, t.reserved)
    t.reserved = NONE
    _grant_waiting(w, station)


# Bucket.


@inlined
def _refill(w: Record, s: Record) -> None:
    account(w, s)
    level = s.level + (w.now - s.refilled) * s.rate
    s.level = level if level < s.burst else s.burst
    s.refilled = w.now


@inlined
def enter_bucket(w: Record, station: int, token: int, amount: float, component: int) -> int:
    """Ask for `amount` tokens."""
    s = station_at(w.stations, station)
    _refill(w, s)
    _ask(w, s, token, amount, component)
    if amount > s.burst:
        return DOES_NOT_FIT
    if not s.waiting and s.level >= amount:
        _take(s, amount)
        return GOES_ON
    if not s.waits:
        return RATE_LIMITED
    _join_queue(w, s, station, token, 0)
    if s.waiting == 1:
        _await_head(w, s, station)
    return BLOCKS


@inlined
def _take(s: Record, amount: float) -> None:
    level = s.level - amount
    s.level = 0.0 if level < 0.0 else level
    s.busy_area += amount
    s.delivered += amount
    s.completions += 1


@inlined
def _await_head(w: Record, s: Record, station: int) -> None:
    delay = (token_at(w.tokens, queues.head(w, s, False)).amount - s.level) / s.rate
    s.timed = 1
    heap.schedule(w, 0.0 if delay < 0.0 else delay, w.first_station + station)


@inlined
def complete_bucket(w: Record, station: int) -> int:
    """The head of the queue has its tokens; returns it."""
    s = station_at(w.stations, station)
    _refill(w, s)
    s.timed = 0
    token = queues.head(w, s, False)
    _take(s, token_at(w.tokens, token).amount)
    _leave_bucket(w, s, station, token)
    return token


@inlined
def _leave_bucket(w: Record, s: Record, station: int, token: int) -> None:
    _leave_queue(w, s, token)
    if s.waiting and not s.timed:
        _await_head(w, s, station)


@inlined
def _withdraw_from_bucket(w: Record, station: int, token: int) -> None:
    s = station_at(w.stations, station)
    _refill(w, s)
    s.withdrawals += 1
    if queues.head(w, s, False) == token:
        heap.cancel(w, w.first_station + station)
        s.timed = 0
    _leave_bucket(w, s, station, token)


# Batch.


@inlined
def can_start_batch(w: Record, station: int) -> bool:
    """Whether the next batch's base is there, so that it may start; else it has been asked for."""
    s = station_at(w.stations, station)
    base = drawn(w, s.base, s.batches, 0)
    return base == base


@inlined
def enter_batch(w: Record, station: int, token: int, amount: float, component: int) -> int:
    """Ask for service in which `amount` seconds are the job's own; the next batch must be able to start."""
    s = station_at(w.stations, station)
    account(w, s)
    _ask(w, s, token, amount, component)
    _join_queue(w, s, station, token, WAITS)
    if not s.serving and (not s.timed or s.waiting >= s.most):
        _start_batch_or_linger(w, s, station)
    return BLOCKS


@inlined
def _start_batch_or_linger(w: Record, s: Record, station: int) -> None:
    since = token_at(w.tokens, queues.head(w, s, False)).since
    if s.waiting >= s.most or w.now - since >= s.linger:
        _start_batch(w, s, station)
    else:
        _linger(w, s, station)


@inlined
def _linger(w: Record, s: Record, station: int) -> None:
    left = s.linger - (w.now - token_at(w.tokens, queues.head(w, s, False)).since)
    s.timed = 1
    heap.schedule(w, 0.0 if left < 0.0 else left, w.first_station + station)


@inlined
def _stop_lingering(w: Record, s: Record, station: int) -> None:
    if s.timed:
        s.timed = 0
        heap.cancel(w, w.first_station + station)


@compiled
def _start_batch(w: Record, s: Record, station: int) -> None:
    _stop_lingering(w, s, station)
    duration = drawn(w, s.base, s.batches, 0)
    s.batches += 1
    s.serving = 1
    s.began = w.now
    while s.waiting and s.busy < s.most:
        token = queues.head(w, s, False)
        queues.remove(w, s, token)
        s.waiting -= 1
        waited(w, token)
        queues.push(w, s, token, IN_SERVICE)
        s.busy += 1
        duration += token_at(w.tokens, token).amount
    heap.schedule(w, duration, w.first_station + station)


@compiled
def complete_batch(w: Record, station: int) -> None:
    """A batch is done and its jobs are woken, or the first job has lingered; the next batch must be able to start."""
    s = station_at(w.stations, station)
    account(w, s)
    if not s.serving:
        s.timed = 0
        _start_batch(w, s, station)
        return
    s.serving = 0
    jobs = queue_at(w.queues, s.queue + IN_SERVICE)
    while jobs.first != NONE:
        token = jobs.first
        _leave_batch(w, s, token)
        s.completions += 1
        wake(w, token)
    if s.waiting:
        _start_batch_or_linger(w, s, station)


@inlined
def _leave_batch(w: Record, s: Record, token: int) -> None:
    queues.remove(w, s, token)
    t = token_at(w.tokens, token)
    s.delivered += w.now - t.since
    s.busy -= 1
    served(w, token)
    t.at = NONE


@inlined
def _withdraw_from_batch(w: Record, station: int, token: int) -> None:
    s = station_at(w.stations, station)
    account(w, s)
    s.withdrawals += 1
    if token_at(w.tokens, token).level == IN_SERVICE:
        _leave_batch(w, s, token)
        return
    first = queues.head(w, s, False) == token
    _leave_queue(w, s, token)
    if first and s.timed:
        _stop_lingering(w, s, station)
        if s.waiting:
            _linger(w, s, station)


# All.


@inlined
def complete_passing(w: Record, token: int) -> None:
    """The time that a token let pass is over."""
    served(w, token)
    t = token_at(w.tokens, token)
    t.at = NONE
    t.timed = 0


@compiled
def withdraw(w: Record, token: int) -> None:
    """Take a token out of where it is blocked, accounting the time that it spent."""
    station = token_at(w.tokens, token).at
    if station == PASSING:
        heap.cancel(w, token_event(w, token))
        complete_passing(w, token)
        return
    kind = station_at(w.stations, station).kind
    if kind == SERVERS:
        _withdraw_from_servers(w, station, token)
    elif kind == SHARING:
        _withdraw_from_sharing(w, station, token)
    elif kind == POOL:
        _withdraw_from_pool(w, station, token)
    elif kind == BATCH:
        _withdraw_from_batch(w, station, token)
    else:
        _withdraw_from_bucket(w, station, token)


@inlined
def sample_station(w: Record, s: Record) -> tuple[float, float]:
    """Bring a station's integrals up to now; returns the work delivered and the number present."""
    in_progress = 0.0
    if s.kind == SHARING:
        _account_sharing(w, s)
        in_progress = s.owed + s.busy * _virtual_now(w, s)
    elif s.kind == POOL:
        _account_pool(w, s)
    else:
        account(w, s)
        if s.kind == SERVERS:
            in_progress = s.busy * w.now - s.started
        elif s.kind == BATCH:
            in_progress = s.busy * (w.now - s.began)
    return s.delivered + in_progress, s.busy + s.waiting
