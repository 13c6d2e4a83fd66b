"""Processor sharing."""

from __future__ import annotations

from simulator.engines.compiled import heap
from simulator.engines.compiled.layout import NONE
from simulator.engines.compiled.pointers import Record, compiled, float_at, inlined, station_at, token_at
from simulator.engines.compiled.stations import quota, sharing_heap
from simulator.engines.compiled.stations.quota import COMPLETION
from simulator.engines.compiled.stations.station import BLOCKS, ask
from simulator.engines.compiled.tokens import spend


@inlined
def _set_jobs(w: Record, s: Record, jobs: int) -> None:
    """Change the number of jobs, and with it their total rate and each one's share."""
    s.busy = jobs
    if jobs:
        full = float_at(w.numbers, s.rates + (jobs if jobs < s.most else s.most)) * s.speed
        s.rate = 0.0 if s.throttled else full
        s.share = s.rate / jobs


@inlined
def account(w: Record, s: Record) -> None:
    """Bring the integrals up to now."""
    span = w.now - s.last
    if span > 0.0:
        if s.busy:
            s.busy_area += span * s.rate
            s.waiting_area += span * (s.busy - s.rate / s.alone)
        s.last = w.now


@inlined
def virtual_now(w: Record, s: Record) -> float:
    """The work that each job present has had since it joined, were it counted up to now."""
    if not s.busy:
        return s.virtual
    return s.virtual + (w.now - s.changed) * s.share


@inlined
def _advance(w: Record, s: Record) -> None:
    """Bring V and the integrals up to a change now (rule 5)."""
    if s.period > 0.0:
        quota.spend_time(w, s)
    account(w, s)
    s.virtual = virtual_now(w, s)
    s.changed = w.now
    if s.period > 0.0 and quota.begin_period_if_due(w, s):
        _set_jobs(w, s, s.busy)


@compiled
def change_speed(w: Record, station: int, speed: float) -> None:
    """Go on at another speed from now (rule 10)."""
    s = station_at(w.stations, station)
    _advance(w, s)
    s.speed = speed
    _set_jobs(w, s, s.busy)
    _reschedule(w, s, station)


@inlined
def enter(w: Record, station: int, token: int, amount: float, component: int) -> int:
    """Ask for `amount` units of work."""
    s = station_at(w.stations, station)
    _advance(w, s)
    ask(w, s, token, amount, component)
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
    if s.root == NONE or s.speed == 0.0:
        if s.timed:
            s.timed = 0
            heap.cancel(w, event)
        return
    delay, kind = 0.0, COMPLETION
    if s.rate > 0.0:
        remaining = (token_at(w.tokens, s.root).mark - s.virtual) / s.share
        delay = 0.0 if remaining < 0.0 else remaining
    if s.period > 0.0:
        delay, kind = quota.next_event(w, s, delay)
    if s.timed:
        heap.reschedule(w, delay, event)
    else:
        heap.schedule(w, delay, event)
    s.timed = kind


@inlined
def complete(w: Record, station: int) -> int:
    """The station's event happens: a job has its work, whose token is returned, or what a quota does."""
    s = station_at(w.stations, station)
    number, kind = s.number, s.timed
    _advance(w, s)
    s.timed = 0
    if kind != COMPLETION:
        if s.number == number:
            quota.happen(s, kind)
            _set_jobs(w, s, s.busy)
        _reschedule(w, s, station)
        return NONE
    token = s.root
    sharing_heap.leave(w, s, token)
    t = token_at(w.tokens, token)
    s.virtual = t.mark
    _leave(w, s, token, t.amount)
    s.completions += 1
    _reschedule(w, s, station)
    return token


@inlined
def _leave(w: Record, s: Record, token: int, attained: float) -> None:
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
def withdraw(w: Record, station: int, token: int) -> None:
    """Leave with the work unfinished."""
    s = station_at(w.stations, station)
    _advance(w, s)
    s.withdrawals += 1
    t = token_at(w.tokens, token)
    attained = t.amount - (t.mark - s.virtual)
    sharing_heap.leave(w, s, token)
    _leave(w, s, token, 0.0 if attained < 0.0 else attained)
    _reschedule(w, s, station)
