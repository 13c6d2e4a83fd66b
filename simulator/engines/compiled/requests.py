"""Requests: how they come, and what is written down when they end."""

from __future__ import annotations

from simulator.engines.compiled import heap
from simulator.engines.compiled.draws_at import drawn
from simulator.engines.compiled.layout import MOST_STARTS_AT_ONCE, NONE, Status
from simulator.engines.compiled.pointers import (
    Record,
    compiled,
    draw_at,
    float_at,
    inlined,
    integer_at,
    set_float,
    set_integer,
    token_at,
    user_at,
    workload_at,
)
from simulator.engines.compiled.tokens import new_token, set_register
from simulator.records import COMPLETED

OK = -1
NEED_GAPS, GROW_TOKENS = int(Status.NEED_GAPS), int(Status.GROW_TOKENS)
NEED_DRAW, SPINNING = int(Status.NEED_DRAW), int(Status.SPINNING)
FIRST_ARRIVAL = 1  # id of the event of workload 0


@inlined
def can_start(w: Record, workload: int, number: int) -> int:
    """OK where request `number` of a workload can be made, or what is missing."""
    if w.free_tokens == 0:
        return GROW_TOKENS
    spec = workload_at(w.workloads, workload)
    if spec.entry_count > 1:
        choice = drawn(w, spec.choice, number, 0)
        if choice != choice:
            return NEED_DRAW
    return OK


@inlined
def arrive(w: Record, workload: int) -> int:
    """An open workload's request comes, after its next arrival is scheduled (rule 3)."""
    spec = workload_at(w.workloads, workload)
    if spec.gap == spec.gap_count and not spec.ended:
        w.asked = workload
        return NEED_GAPS
    number = spec.number
    missing = can_start(w, workload, number)
    if missing != OK:
        return missing
    w.hole = 1
    spec.number = number + 1
    if spec.gap < spec.gap_count:
        gap = float_at(spec.gaps, spec.gap)
        spec.gap += 1
        heap.schedule(w, gap, FIRST_ARRIVAL + workload)
    _start_request(w, workload, number, NONE)
    return OK


@inlined
def send(w: Record, user: int) -> int:
    """A closed workload's user sends the next request."""
    u = user_at(w.users, user)
    workload = u.workload
    spec = workload_at(w.workloads, workload)
    starts = spec.starts + 1 if w.now == spec.last_start else 0
    if starts > MOST_STARTS_AT_ONCE:
        w.asked = workload
        return SPINNING
    missing = can_start(w, workload, u.number)
    if missing != OK:
        return missing
    w.hole = 1
    spec.starts = starts
    spec.last_start = w.now
    _start_request(w, workload, u.number, user)
    return OK


@inlined
def think(w: Record) -> int:
    """Schedule the next request of the user whose request has ended."""
    user = w.thinking
    u = user_at(w.users, user)
    seconds = drawn(w, workload_at(w.workloads, u.workload).think, u.number, 0)
    if seconds != seconds:
        return NEED_DRAW
    w.thinking = NONE
    heap.schedule(w, seconds, w.first_user + user)
    return OK


@inlined
def _start_request(w: Record, workload: int, number: int, user: int) -> None:
    spec = workload_at(w.workloads, workload)
    token = new_token(w, 0, spec)
    t = token_at(w.tokens, token)
    for i in range(spec.frame_size):
        set_register(w, t, i, 0)
    operation = 0
    if spec.entry_count > 1:
        operation = int(drawn(w, spec.choice, number, 0))
        counter = draw_at(w.draws, spec.choice).counter
        if counter != NONE:
            set_register(w, t, counter, 1)
    t.pc = integer_at(w.table, spec.entries + operation)
    enlist(w, token, workload, number, user, operation)
    w.running = token


@inlined
def enlist(w: Record, token: int, workload: int, number: int, user: int, operation: int) -> None:
    """Make a new token the root of a request that comes now."""
    spec = workload_at(w.workloads, workload)
    t = token_at(w.tokens, token)
    t.number = number
    t.workload = workload
    t.root = token
    t.is_root = 1
    t.serial = w.requests
    w.requests += 1
    t.user = user
    t.retries = 0
    t.arrival = w.now
    t.operation = operation
    _account(w, spec)
    spec.arrived += 1
    spec.live += 1
    t.earlier = spec.end
    t.later = NONE
    if spec.end == NONE:
        spec.first = token
    else:
        token_at(w.tokens, spec.end).later = token
    spec.end = token


@inlined
def _account(w: Record, spec: Record) -> None:
    spec.population_area += (w.now - spec.last) * spec.live
    spec.last = w.now


@compiled
def end_request(w: Record, token: int, outcome: int) -> None:
    """Record a request that completed or failed; its user is to think (rule 3)."""
    t = token_at(w.tokens, token)
    spec = workload_at(w.workloads, t.workload)
    _account(w, spec)
    spec.live -= 1
    if t.earlier == NONE:
        spec.first = t.later
    else:
        token_at(w.tokens, t.earlier).later = t.later
    if t.later == NONE:
        spec.end = t.earlier
    else:
        token_at(w.tokens, t.later).earlier = t.earlier
    t.is_root = 0
    if outcome == COMPLETED:
        spec.completed += 1
    else:
        spec.failed += 1
    _write(w, t, spec, token, outcome)
    if spec.room == 0:
        w.full = t.workload
    if t.user != NONE:
        user_at(w.users, t.user).number = t.number + spec.users
        w.thinking = t.user


@inlined
def _write(w: Record, t: Record, spec: Record, token: int, outcome: int) -> None:
    row = spec.rows
    spec.rows = row + 1
    spec.room -= 1
    set_integer(spec.numbers, row, t.number)
    set_integer(spec.operations, row, t.operation)
    set_float(spec.arrivals, row, t.arrival)
    set_float(spec.ends, row, w.now)
    set_integer(spec.outcomes, row, outcome)
    set_integer(spec.retries, row, t.retries)
    components = spec.components
    times = token * w.times_size
    for i in range(components):
        set_float(spec.waits, row * components + i, float_at(w.times, times + 2 * i))
        set_float(spec.services, row * components + i, float_at(w.times, times + 2 * i + 1))
    for i in range(spec.meters):
        set_float(spec.metered, row * spec.meters + i, float_at(w.times, times + 2 * components + i))


@inlined
def sample_workload(w: Record, spec: Record) -> None:
    """Bring the integral of the number of requests in flight up to now."""
    _account(w, spec)
