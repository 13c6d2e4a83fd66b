"""What instructions do to the system: speeds of stations, pools closed and opened, and tokens broken off."""

from __future__ import annotations

from simulator.engines.compiled import chosen
from simulator.engines.compiled.layout import NONE, Kind
from simulator.engines.compiled.pointers import (
    Record,
    compiled,
    hold_at,
    index_at,
    inlined,
    integer_at,
    station_at,
    token_at,
)
from simulator.engines.compiled.stations import pool, servers, sharing
from simulator.engines.compiled.unwinding import break_token

SERVERS = int(Kind.SERVERS)


@compiled
def set_speed(w: Record, station: int, factor: float, halts: int) -> None:
    """Let a station go on at `factor` times its full speed, and be halted so many times more (rule 10)."""
    s = station_at(w.stations, station)
    s.factor = factor
    s.halts += halts
    speed = 0.0 if s.halts else s.factor
    if s.kind == SERVERS:
        servers.change_speed(w, station, speed)
    else:
        sharing.change_speed(w, station, speed)


@compiled
def close(w: Record, station: int, hangs: bool, times: int) -> None:
    """Close a pool once more (`times` is 1) or once less (-1)."""
    s = station_at(w.stations, station)
    if hangs:
        s.hangs += times
    else:
        s.refusals += times
    s.room = -1.0 if s.hangs or s.refusals else s.capacity
    if times < 0:
        pool.account(w, s)
        pool.grant_waiting(w, station)


@compiled
def break_next(w: Record, pools: int, count: int, reason: int) -> bool:
    """Break off the next token that has units of `count` pools or waits for them (rule 11); whether there was one.

    Pools are listed in the table from `pools` on.
    """
    if not w.breaking:
        _begin(w, pools, count)
    while w.chosen_next < w.chosen_count:
        token = index_at(w.chosen, w.chosen_next)
        w.chosen_next += 1
        if token_at(w.tokens, token).alive:
            depth = _depth(w, token)
            if depth != NONE:
                break_token(w, token, depth, reason)
                return True
    _mark(w, pools, count, 0)
    w.breaking = 0
    return False


@inlined
def _mark(w: Record, pools: int, count: int, broken: int) -> None:
    for i in range(count):
        station_at(w.stations, integer_at(w.table, pools + i)).broken = broken


@compiled
def _begin(w: Record, pools: int, count: int) -> None:
    w.breaking = 1
    _mark(w, pools, count, 1)
    w.chosen_count = w.chosen_next = 0
    for token in range(w.token_count):
        if token_at(w.tokens, token).alive and _depth(w, token) != NONE:
            chosen.choose(w, token)
    chosen.sort(w)


@compiled
def _depth(w: Record, token: int) -> int:
    """How much a token had acquired when it asked for units of a pool that breaks; NONE where it has none."""
    t = token_at(w.tokens, token)
    depth = NONE
    if t.at >= 0 and station_at(w.stations, t.at).broken:
        depth = t.holds
    hold, below = t.hold, t.holds
    while hold != NONE:
        h = hold_at(w.holds, hold)
        below -= 1
        if station_at(w.stations, h.station).broken:
            depth = below
        hold = h.below
    return depth
