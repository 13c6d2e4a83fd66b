"""What tokens hold of stations, and how it comes back."""

from __future__ import annotations

from simulator.engines.compiled.layout import Kind
from simulator.engines.compiled.pointers import Record, compiled, hold_at, station_at, token_at
from simulator.engines.compiled.stations import breaker, keyed_locks, pool
from simulator.engines.compiled.tokens import free_hold

BREAKER, KEYED_LOCKS = int(Kind.BREAKER), int(Kind.KEYED_LOCKS)


@compiled
def release_holds(w: Record, token: int, keep: int, outcome: int) -> None:
    """Release all but the first `keep` things that a token holds, the last acquired first."""
    t = token_at(w.tokens, token)
    while t.holds > keep:
        hold = t.hold
        h = hold_at(w.holds, hold)
        station, amount = h.station, h.amount
        t.hold = h.below
        t.holds -= 1
        free_hold(w, hold)
        kind = station_at(w.stations, station).kind
        if kind == BREAKER:
            breaker.release(w, station, amount, outcome)
        elif kind == KEYED_LOCKS:
            keyed_locks.release(w, station, int(amount))
        else:
            pool.release(w, station, amount)
