"""What stations have in common.

`enter` returns GOES_ON, BLOCKS, or the reason for which the station turned the token away.
"""

from __future__ import annotations

from simulator.engines.compiled.layout import NONE
from simulator.engines.compiled.pointers import Record, inlined, token_at
from simulator.engines.compiled.stations import queue
from simulator.engines.compiled.tokens import waited

GOES_ON, BLOCKS, PAUSES = -1, -2, -3


@inlined
def account(w: Record, s: Record) -> None:
    """Bring the integrals of a station, that is busy with tokens, up to now."""
    span = w.now - s.last
    if span > 0.0:
        s.busy_area += span * s.busy
        s.waiting_area += span * s.waiting
        s.last = w.now


@inlined
def ask(w: Record, s: Record, token: int, amount: float, component: int) -> None:
    """Count an arrival and write down what it asks for."""
    s.arrivals += 1
    t = token_at(w.tokens, token)
    t.since = w.now
    t.amount = amount
    t.component = component


@inlined
def join_queue(w: Record, s: Record, station: int, token: int, level: int) -> None:
    """Block a token in the queue."""
    token_at(w.tokens, token).at = station
    s.waiting += 1
    queue.push(w, s, token, level)


@inlined
def leave_queue(w: Record, s: Record, token: int) -> None:
    """Take a token out of the queue, and account the time that it waited."""
    queue.remove(w, s, token)
    s.waiting -= 1
    waited(w, token)
    token_at(w.tokens, token).at = NONE
