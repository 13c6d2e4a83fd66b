"""The primitive stations; the same operations in the same order as `simulator.engines.simpy.stations`."""

from __future__ import annotations

from simulator.engines.compiled import heap
from simulator.engines.compiled.layout import AWAITING, PASSING, Kind
from simulator.engines.compiled.pointers import Record, compiled, inlined, station_at, token_at
from simulator.engines.compiled.stations import (
    batch,
    breaker,
    bucket,
    inference,
    keyed_locks,
    pool,
    servers,
    sharing,
    station,
)
from simulator.engines.compiled.tokens import complete_passing, stop_awaiting, token_event

SERVERS, SHARING, POOL = int(Kind.SERVERS), int(Kind.SHARING), int(Kind.POOL)
BATCH, BREAKER, GAUGE = int(Kind.BATCH), int(Kind.BREAKER), int(Kind.GAUGE)
KEYED_LOCKS, INFERENCE = int(Kind.KEYED_LOCKS), int(Kind.INFERENCE)


@compiled
def withdraw(w: Record, token: int) -> None:
    """Take a token out of where it is blocked, accounting the time that it spent."""
    place = token_at(w.tokens, token).at
    if place == PASSING:
        heap.cancel(w, token_event(w, token))
        complete_passing(w, token)
        return
    if place == AWAITING:
        stop_awaiting(w, token)
        return
    kind = station_at(w.stations, place).kind
    if kind == SERVERS:
        servers.withdraw(w, place, token)
    elif kind == SHARING:
        sharing.withdraw(w, place, token)
    elif kind == POOL:
        pool.withdraw(w, place, token)
    elif kind == BATCH:
        batch.withdraw(w, place, token)
    elif kind == KEYED_LOCKS:
        keyed_locks.withdraw(w, place, token)
    elif kind == INFERENCE:
        inference.withdraw(w, place, token)
    else:
        bucket.withdraw(w, place, token)


@inlined
def sample(w: Record, s: Record) -> tuple[float, float]:
    """Bring a station's integrals up to now; returns the work delivered and the number present."""
    in_progress = 0.0
    if s.kind == SHARING:
        sharing.account(w, s)
        in_progress = s.owed + s.busy * sharing.virtual_now(w, s)
    elif s.kind == POOL or s.kind == GAUGE or s.kind == KEYED_LOCKS:
        pool.account(w, s)
    elif s.kind == BATCH:
        pool.account(w, s)
        in_progress = s.used * (w.now - s.began)
    elif s.kind == BREAKER:
        breaker.account(w, s)
    else:
        station.account(w, s)
        if s.kind == SERVERS:
            in_progress = s.busy * w.now - s.started
        elif s.kind == INFERENCE:
            in_progress = inference.in_progress(w, s)
    return s.delivered + in_progress, s.busy + s.waiting
