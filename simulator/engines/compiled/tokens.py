"""Tokens: making and freeing them, waking them, and the time that they spend.

A token that has ended is freed at once, or where it is among the woken ones, when its turn comes. What it recorded
stays readable until the next token is made, which no step does after it has ended one.
"""

from __future__ import annotations

from simulator.engines.compiled import heap
from simulator.engines.compiled.layout import AWAITING, NONE
from simulator.engines.compiled.pointers import (
    Record,
    compiled,
    float_at,
    hold_at,
    index_at,
    inlined,
    integer_at,
    scope_at,
    set_float,
    set_index,
    set_integer,
    token_at,
)


@inlined
def new_token(w: Record, pc: int, spec: Record) -> int:
    """A new token of a workload with a frame of its own, not yet filled; there must be a free one."""
    token = w.free_token
    t = token_at(w.tokens, token)
    w.free_token = t.free
    w.free_tokens -= 1
    t.pc = pc
    t.at = NONE
    t.timed = 0
    t.frame = token
    t.scope = t.hold = t.reserved = NONE
    t.holds = 0
    t.alive = 1
    t.woken = t.detached = t.is_root = t.refused = 0
    t.parent = t.first_branch = t.last_branch = t.publisher = NONE
    t.branches = 0
    t.reason = 0
    w.created += 1
    t.created = w.created
    times = token * w.times_size
    for i in range(times, times + 2 * spec.components + spec.meters):
        set_float(w.times, i, 0.0)
    return token


@inlined
def free_token(w: Record, token: int) -> None:
    """Mark a token as ended and give it back, unless it is among the woken ones."""
    t = token_at(w.tokens, token)
    t.alive = 0
    if not t.woken:
        t.free = w.free_token
        w.free_token = token
        w.free_tokens += 1


@inlined
def wake(w: Record, token: int) -> None:
    """Let a token go on after those already woken."""
    token_at(w.tokens, token).woken = 1
    set_index(w.ready, (w.ready_first + w.ready_count) & w.ready_mask, token)
    w.ready_count += 1


@inlined
def next_woken(w: Record) -> int:
    """The next token in the ring that is alive, or NONE; dead ones are freed."""
    while w.ready_count > 0:
        token = index_at(w.ready, w.ready_first)
        w.ready_first = (w.ready_first + 1) & w.ready_mask
        w.ready_count -= 1
        t = token_at(w.tokens, token)
        t.woken = 0
        if t.alive:
            return token
        free_token(w, token)
    return NONE


@inlined
def register(w: Record, t: Record, number: int) -> int:
    """A register of a token's frame."""
    return integer_at(w.frames, t.frame * w.frame_size + number)


@inlined
def set_register(w: Record, t: Record, number: int, value: int) -> None:
    """Write a register of a token's frame."""
    set_integer(w.frames, t.frame * w.frame_size + number, value)


@inlined
def spend(w: Record, token: int, component: int, seconds: float) -> None:
    """Add to a token's time in a component: `component` is the index of its waiting, one more of its service."""
    place = token * w.times_size + component
    set_float(w.times, place, float_at(w.times, place) + seconds)


@inlined
def waited(w: Record, token: int) -> None:
    """Account the time since `since` as waiting, and start afresh from now."""
    t = token_at(w.tokens, token)
    spend(w, token, t.component, w.now - t.since)
    t.since = w.now


@inlined
def served(w: Record, token: int) -> None:
    """Account the time since `since` as service, and start afresh from now."""
    t = token_at(w.tokens, token)
    spend(w, token, t.component + 1, w.now - t.since)
    t.since = w.now


@inlined
def token_event(w: Record, token: int) -> int:
    """Id of the event that ends a token's visit."""
    return w.first_token + 2 * token


@inlined
def scope_event(w: Record, scope: int) -> int:
    """Id of the event that ends a scope."""
    return w.first_token + 2 * scope + 1


@inlined
def pass_time(w: Record, token: int, delay: float, place: int) -> None:
    """Let a token block at a place for a time."""
    t = token_at(w.tokens, token)
    t.at = place
    t.timed = 1
    heap.schedule(w, delay, token_event(w, token))


@inlined
def complete_passing(w: Record, token: int) -> None:
    """The time that a token let pass is over."""
    served(w, token)
    t = token_at(w.tokens, token)
    t.at = NONE
    t.timed = 0


@inlined
def await_message(w: Record, token: int, message: int, component: int) -> None:
    """Let a publisher block until its message acknowledges."""
    t = token_at(w.tokens, token)
    t.at = AWAITING
    t.since = w.now
    t.component = component
    t.message = message
    token_at(w.tokens, message).publisher = token


@inlined
def stop_awaiting(w: Record, token: int) -> None:
    """Let a publisher wait no more, whatever becomes of the message."""
    t = token_at(w.tokens, token)
    token_at(w.tokens, t.message).publisher = NONE
    waited(w, token)
    t.at = NONE


@inlined
def acknowledge(w: Record, message: int, levels: int) -> None:
    """Wake the publisher so many levels up, if it waits (rule 13)."""
    publisher = awaited_by(w, message, levels)
    if publisher != NONE:
        stop_awaiting(w, publisher)
        wake(w, publisher)


@inlined
def awaited_by(w: Record, message: int, levels: int) -> int:
    """The publisher so many levels up, if it waits, or NONE."""
    publisher = message
    for _ in range(levels):
        if publisher != NONE:
            publisher = token_at(w.tokens, publisher).publisher
    return publisher


@compiled
def hand_back(w: Record, message: int, number: int) -> None:
    """Give the publisher who waits for a message, if one does, what a register has."""
    publisher = awaited_by(w, message, 1)
    if publisher != NONE:
        set_register(w, token_at(w.tokens, publisher), number, register(w, token_at(w.tokens, message), number))


@inlined
def new_hold(w: Record) -> int:
    """A free record of something held; there must be one."""
    hold = w.free_hold
    w.free_hold = hold_at(w.holds, hold).below
    return hold


@inlined
def hold(w: Record, t: Record, record: int, station: int, amount: float) -> None:
    """Let a token hold something of a station, on top of what it holds."""
    h = hold_at(w.holds, record)
    h.station = station
    h.amount = amount
    h.below = t.hold
    t.hold = record
    t.holds += 1


@inlined
def free_hold(w: Record, hold: int) -> None:
    """Give a record of something held back."""
    hold_at(w.holds, hold).below = w.free_hold
    w.free_hold = hold


@inlined
def stop_timer(w: Record, scope: int) -> None:
    """Cancel a scope's timer, where it has one under way."""
    s = scope_at(w.scopes, scope)
    if s.timed:
        s.timed = 0
        heap.cancel(w, scope_event(w, scope))


@compiled
def first_token(w: Record, token: int) -> None:
    """Stop the timers that run until the first token of an answer (rule 14)."""
    branch = token
    while branch != NONE:
        t = token_at(w.tokens, branch)
        scope = t.scope
        while scope != NONE:
            s = scope_at(w.scopes, scope)
            if s.until_first_token:
                stop_timer(w, scope)
            scope = s.outer
        branch = t.parent


@inlined
def close_scope(w: Record, token: int) -> int:
    """Take a token's innermost scope off and stop its timer; returns the scope, which is free but readable."""
    t = token_at(w.tokens, token)
    scope = t.scope
    s = scope_at(w.scopes, scope)
    stop_timer(w, scope)
    t.scope = s.outer
    s.outer = w.free_scope
    w.free_scope = scope
    return scope
