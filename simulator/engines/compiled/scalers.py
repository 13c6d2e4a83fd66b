"""Autoscalers (rule 12); the same operations in the same order as `simulator.engines.simpy.scalers`."""

from __future__ import annotations

import math

from simulator.engines.compiled.balancers import exclude, include
from simulator.engines.compiled.choices import JOINED, OFF
from simulator.engines.compiled.layout import Kind
from simulator.engines.compiled.pointers import (
    Record,
    compiled,
    inlined,
    integer_at,
    scaler_at,
    set_integer,
    station_at,
)
from simulator.engines.compiled.stations import gauge, pool, sharing, station

ROUNDING = 1e-9
SHARING, POOL = int(Kind.SHARING), int(Kind.POOL)


@compiled
def look(w: Record, scaler: int) -> int:
    """Look at the metric and act; returns the number of instances to be started, the last ones of the new level."""
    s = scaler_at(w.scalers, scaler)
    level = int(station_at(w.stations, s.gauge).used)
    wanted = _wanted(w, s)
    if wanted < level:
        _shrink(w, s, level, wanted)
        return 0
    s.lower_since = -1.0
    if wanted > level:
        s.started += 1
        for replica in range(level, wanted):
            set_integer(w.counters, s.starts + replica, s.started)
        gauge.set_level(w, s.gauge, float(wanted))
    return wanted - level


@inlined
def _account(w: Record, number: int) -> None:
    s = station_at(w.stations, number)
    if s.kind == SHARING:
        sharing.account(w, s)
    elif s.kind == POOL:
        pool.account(w, s)
    else:
        station.account(w, s)


@compiled
def _wanted(w: Record, s: Record) -> int:
    level = station_at(w.stations, s.gauge).used
    area = 0.0
    for i in range(s.count):
        number = integer_at(w.table, s.stations + i)
        _account(w, number)
        each = station_at(w.stations, number)
        area += each.waiting_area if s.waiting else each.busy_area
    ratio = (area - s.seen) / ((w.now - s.looked) * level * s.target)
    s.looked = w.now
    s.seen = area
    if abs(ratio - 1.0) <= s.tolerance:
        return int(level)
    wanted = math.ceil(level * ratio - ROUNDING)
    return min(max(wanted, s.least), s.most)


@compiled
def _shrink(w: Record, s: Record, level: int, wanted: int) -> None:
    if s.lower_since < 0.0:
        s.lower_since = w.now
        s.highest = wanted
    s.highest = max(s.highest, wanted)
    if w.now - s.lower_since < s.cool_down:
        return
    for replica in range(s.highest, level):
        if integer_at(w.counters, s.starts + replica) == JOINED:
            exclude(w, s.balancer, replica)
        set_integer(w.counters, s.starts + replica, OFF)
    gauge.set_level(w, s.gauge, float(s.highest))
    s.lower_since = -1.0


@compiled
def join(w: Record, scaler: int, replica: int, start: int) -> None:
    """An instance has started: let the balancer choose it, unless it is not wanted any more."""
    s = scaler_at(w.scalers, scaler)
    if integer_at(w.counters, s.starts + replica) == start:
        set_integer(w.counters, s.starts + replica, JOINED)
        include(w, s.balancer, replica)
