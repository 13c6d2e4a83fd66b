"""The queues of a station: doubly linked lists through the waiting tokens, one for each level of priority."""

from __future__ import annotations

from simulator.engines.compiled.layout import NONE
from simulator.engines.compiled.pointers import Record, inlined, queue_at, token_at


@inlined
def push(w: Record, station: Record, token: int, level: int) -> None:
    """Join a station's queue at a level."""
    token_at(w.tokens, token).level = level
    link(w, queue_at(w.queues, station.queue + level), token)


@inlined
def link(w: Record, queue: Record, token: int) -> None:
    """Put a token at the end of a list with a first and an end."""
    t = token_at(w.tokens, token)
    t.before = queue.end
    t.after = NONE
    if queue.end == NONE:
        queue.first = token
    else:
        token_at(w.tokens, queue.end).after = token
    queue.end = token


@inlined
def push_first(w: Record, station: Record, token: int, level: int) -> None:
    """Join a station's queue at a level, before all others of it."""
    t = token_at(w.tokens, token)
    queue = queue_at(w.queues, station.queue + level)
    t.level = level
    t.before = NONE
    t.after = queue.first
    if queue.first == NONE:
        queue.end = token
    else:
        token_at(w.tokens, queue.first).before = token
    queue.first = token


@inlined
def remove(w: Record, station: Record, token: int) -> None:
    """Leave a station's queue."""
    unlink(w, queue_at(w.queues, station.queue + token_at(w.tokens, token).level), token)


@inlined
def unlink(w: Record, queue: Record, token: int) -> None:
    """Take a token out of a list."""
    t = token_at(w.tokens, token)
    if t.before == NONE:
        queue.first = t.after
    else:
        token_at(w.tokens, t.before).after = t.after
    if t.after == NONE:
        queue.end = t.before
    else:
        token_at(w.tokens, t.after).before = t.before


@inlined
def head(w: Record, station: Record, last: bool) -> int:
    """The next token to be served: of the first level that has any, the first or the last to come."""
    level = station.queue
    while queue_at(w.queues, level).first == NONE:
        level += 1
    queue = queue_at(w.queues, level)
    return queue.end if last else queue.first
