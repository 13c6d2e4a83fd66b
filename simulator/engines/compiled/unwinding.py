"""Failure, time-out and cancellation: undoing what a token was in the middle of (rule 7)."""

from __future__ import annotations

from simulator.engines.compiled.layout import NONE
from simulator.engines.compiled.pointers import (
    Record,
    compiled,
    float_at,
    inlined,
    scope_at,
    set_float,
    token_at,
    workload_at,
)
from simulator.engines.compiled.requests import end_request
from simulator.engines.compiled.stations import withdraw
from simulator.engines.compiled.stations.breaker import CANCELLED, FAILURE
from simulator.engines.compiled.stations.holds import release_holds
from simulator.engines.compiled.tokens import acknowledge, close_scope, free_token, wake


@compiled
def fail(w: Record, token: int, reason: int) -> bool:
    """Unwind a token that is not blocked to its innermost scope; True where it goes on in the handler.

    Where it has none it ends, and may take its fork's token with it, and so on up.
    """
    failed = token
    while True:
        t = token_at(w.tokens, failed)
        t.reason = reason
        if t.scope != NONE:
            _leave_scope(w, failed)
            if failed == token:
                return True
            wake(w, failed)
            return False
        release_holds(w, failed, 0, FAILURE)
        parent = t.parent
        if parent == NONE:
            _refuse(w, t, failed)
            if not t.detached:
                end_request(w, failed, 1 + reason)
            free_token(w, failed)
            return False
        free_token(w, failed)
        _remove_branch(w, parent, failed)
        p = token_at(w.tokens, parent)
        if p.branches >= p.need:
            return False
        _abandon_branches(w, parent)
        _adopt_times(w, parent, failed)
        failed = parent


@inlined
def _refuse(w: Record, t: Record, message: int) -> None:
    """Wake the publisher who waits for a message that has failed, to fail in its turn (rule 13)."""
    if t.publisher != NONE:
        token_at(w.tokens, t.publisher).refused = 1 + t.reason
        acknowledge(w, message, 1)


@compiled
def refuse(w: Record, token: int) -> bool:
    """Let a woken token fail that a station has refused; True where it goes on in a handler."""
    t = token_at(w.tokens, token)
    reason = t.refused - 1
    t.refused = 0
    return fail(w, token, reason)


@compiled
def expire(w: Record, scope: int) -> int:
    """A scope's timer has fired: interrupt its token, which goes on in the handler; returns the token."""
    s = scope_at(w.scopes, scope)
    s.timed = 0
    token = s.token
    t = token_at(w.tokens, token)
    t.reason = s.reason
    _interrupt(w, token)
    while t.scope != scope:
        close_scope(w, token)
    _leave_scope(w, token)
    return token


@compiled
def break_token(w: Record, token: int, depth: int, reason: int) -> None:
    """Fail a token to the innermost scope that was opened when it had acquired no more than `depth` things."""
    t = token_at(w.tokens, token)
    blocked = t.at != NONE or t.branches > 0
    _interrupt(w, token)
    t.refused = 0
    while t.scope != NONE and scope_at(w.scopes, t.scope).holds > depth:
        close_scope(w, token)
    if fail(w, token, reason) and blocked:
        wake(w, token)


@compiled
def _leave_scope(w: Record, token: int) -> None:
    s = scope_at(w.scopes, close_scope(w, token))
    release_holds(w, token, s.holds, FAILURE)
    token_at(w.tokens, token).pc = s.handler


@compiled
def _interrupt(w: Record, token: int) -> None:
    t = token_at(w.tokens, token)
    if t.branches:
        first = t.first_branch
        _abandon_branches(w, token)
        _adopt_times(w, token, first)
    elif t.at != NONE:
        withdraw(w, token)


@compiled
def _abandon_branches(w: Record, token: int) -> None:
    """Cancel a token's branches in order, or let them go on detached."""
    t = token_at(w.tokens, token)
    if t.detaches:
        _detach_branches(w, token)
    else:
        branch = t.first_branch
        while branch != NONE:
            following = token_at(w.tokens, branch).next
            _cancel(w, branch)
            branch = following
    _forget_branches(t)


@inlined
def _detach_branches(w: Record, token: int) -> None:
    branch = token_at(w.tokens, token).first_branch
    while branch != NONE:
        b = token_at(w.tokens, branch)
        b.parent = NONE
        b.detached = 1
        branch = b.next


@inlined
def _forget_branches(t: Record) -> None:
    t.first_branch = t.last_branch = NONE
    t.branches = 0


@compiled
def _cancel(w: Record, top: int) -> None:
    """End a blocked or woken token and everything below it, the deepest of the first branches first."""
    token = top
    down = True
    while True:
        t = token_at(w.tokens, token)
        if down and t.branches and not t.detaches:
            token = t.first_branch
            continue
        if t.branches:
            first = t.first_branch
            if t.detaches:
                _detach_branches(w, token)
            _forget_branches(t)
            _adopt_times(w, token, first)
        elif t.at != NONE:
            withdraw(w, token)
        _end_cancelled(w, token)
        if token == top:
            return
        down = t.next != NONE
        token = t.next if down else t.parent


@inlined
def _end_cancelled(w: Record, token: int) -> None:
    t = token_at(w.tokens, token)
    while t.scope != NONE:
        close_scope(w, token)
    release_holds(w, token, 0, CANCELLED)
    free_token(w, token)


@compiled
def branch_ended(w: Record, branch: int, parent: int) -> None:
    """A branch has done its work: end the fork if it was the last one needed."""
    free_token(w, branch)
    _remove_branch(w, parent, branch)
    p = token_at(w.tokens, parent)
    p.need -= 1
    if p.need == 0:
        _abandon_branches(w, parent)
        _adopt_times(w, parent, branch)
        wake(w, parent)


@inlined
def _remove_branch(w: Record, parent: int, branch: int) -> None:
    p, b = token_at(w.tokens, parent), token_at(w.tokens, branch)
    p.branches -= 1
    if b.previous == NONE:
        p.first_branch = b.next
    else:
        token_at(w.tokens, b.previous).next = b.next
    if b.next == NONE:
        p.last_branch = b.previous
    else:
        token_at(w.tokens, b.next).previous = b.previous


@compiled
def _adopt_times(w: Record, token: int, branch: int) -> None:
    """Add the time that a branch has spent to its parent's (rule 9).

    What a branch has spent is its own times and those of its first unfinished branch, and so on down; the visit
    that the last of these is in counts as waiting.
    """
    deepest = branch
    while token_at(w.tokens, deepest).branches:
        deepest = token_at(w.tokens, deepest).first_branch
    visit = token_at(w.tokens, deepest)
    size = w.times_size
    for i in range(2 * workload_at(w.workloads, visit.workload).components):
        spent = float_at(w.times, deepest * size + i)
        if visit.at != NONE and i == visit.component:
            spent += w.now - visit.since
        node = deepest
        while node != branch:
            node = token_at(w.tokens, node).parent
            spent = float_at(w.times, node * size + i) + spent
        set_float(w.times, token * size + i, float_at(w.times, token * size + i) + spent)
