"""The kernel: the loop over events, compiled once for all models."""

from __future__ import annotations

from simulator.engines.compiled import heap
from simulator.engines.compiled.interpreter import step
from simulator.engines.compiled.layout import NONE, PASSING, Kind, Status
from simulator.engines.compiled.pointers import (
    Record,
    compiled,
    event_at,
    inlined,
    set_float,
    station_at,
    token_at,
    workload_at,
    world_at,
)
from simulator.engines.compiled.requests import FIRST_ARRIVAL, OK, arrive, sample_workload, send, think
from simulator.engines.compiled.stations import batch, bucket, inference, sample, servers, sharing
from simulator.engines.compiled.stations.station import BLOCKS, PAUSES
from simulator.engines.compiled.tokens import complete_passing, next_woken
from simulator.engines.compiled.unwinding import expire, refuse
from simulator.records import STATION_FIELDS, WORKLOAD_FIELDS

DONE, CHECK, GROW_ROWS = int(Status.DONE), int(Status.CHECK), int(Status.GROW_ROWS)
NEED_DRAW, GROW_NODES = int(Status.NEED_DRAW), int(Status.GROW_NODES)
SHARING, BATCH, INFERENCE = int(Kind.SHARING), int(Kind.BATCH), int(Kind.INFERENCE)
STATION_WIDTH, WORKLOAD_WIDTH = len(STATION_FIELDS), len(WORKLOAD_FIELDS)


def advance(address: int, budget: int) -> int:
    """Simulate on, for at most `budget` steps; returns why it stopped (a Status)."""
    w = world_at(address, 0)
    while True:
        if w.thinking != NONE:
            missing = think(w)
            if missing != OK:
                return missing
        if w.full != NONE:
            return GROW_ROWS
        if w.running == NONE:
            w.running = next_woken(w)
            if w.running != NONE and token_at(w.tokens, w.running).refused and not refuse(w, w.running):
                w.running = NONE
                continue
        if w.running == NONE:
            if w.hole:
                heap.close_hole(w)
            missing = _next_event(w)
            if missing != OK:
                return missing
        while w.running != NONE:
            budget -= 1
            if budget < 0:
                return CHECK
            went = step(w, w.running)
            if went >= 0:
                return went
            if went == BLOCKS:
                w.running = NONE
            elif went == PAUSES:
                break


@inlined
def _next_event(w: Record) -> int:
    """Let the next event happen; OK, or what is missing or else stops the run, in which case it has not happened."""
    if w.events == 0:
        return _finish(w)
    event = event_at(w.heap, 0)
    time, happens = event.time, event.id
    if time >= w.duration:
        return _finish(w)
    w.now = time
    if happens >= w.first_token:
        w.hole = 1
        index = (happens - w.first_token) >> 1
        if (happens - w.first_token) & 1:
            w.running = expire(w, index)
        else:
            _complete(w, index)
            w.running = index
        return OK
    if happens >= w.first_station:
        return _station_event(w, happens - w.first_station)
    if happens >= w.first_user:
        return send(w, happens - w.first_user)
    if happens >= FIRST_ARRIVAL:
        return arrive(w, happens - FIRST_ARRIVAL)
    w.hole = 1
    _tick(w)
    return OK


@inlined
def _complete(w: Record, token: int) -> None:
    station = token_at(w.tokens, token).at
    if station == PASSING:
        complete_passing(w, token)
    else:
        servers.complete(w, station, token)


@inlined
def _station_event(w: Record, station: int) -> int:
    kind = station_at(w.stations, station).kind
    if kind == BATCH and not batch.can_start(w, station):
        return NEED_DRAW
    if kind == INFERENCE and not inference.can_step(w, station):
        return GROW_NODES
    w.hole = 1
    if kind == SHARING:
        w.running = sharing.complete(w, station)
    elif kind == BATCH:
        batch.complete(w, station)
    elif kind == INFERENCE:
        inference.complete(w, station)
    else:
        w.running = bucket.complete(w, station)
    return OK


@compiled
def _tick(w: Record) -> None:
    _sample(w)
    w.ticks_left -= 1
    if w.ticks_left > 0:
        heap.schedule(w, w.window, 0)


@compiled
def _finish(w: Record) -> int:
    w.now = w.duration
    _sample(w)
    return DONE


@compiled
def _sample(w: Record) -> None:
    """Write down the fields of every station and workload."""
    inference.sample_tokens(w)
    row = w.sampled
    w.sampled = row + 1
    set_float(w.sample_times, row, w.now)
    for station in range(w.station_count):
        s = station_at(w.stations, station)
        delivered, present = sample(w, s)
        place = (row * w.station_count + station) * STATION_WIDTH
        set_float(w.station_samples, place, s.busy_area)
        set_float(w.station_samples, place + 1, s.waiting_area)
        set_float(w.station_samples, place + 2, s.arrivals)
        set_float(w.station_samples, place + 3, s.completions)
        set_float(w.station_samples, place + 4, s.rejections)
        set_float(w.station_samples, place + 5, s.withdrawals)
        set_float(w.station_samples, place + 6, s.hits)
        set_float(w.station_samples, place + 7, delivered)
        set_float(w.station_samples, place + 8, present)
    for workload in range(w.workload_count):
        spec = workload_at(w.workloads, workload)
        sample_workload(w, spec)
        place = (row * w.workload_count + workload) * WORKLOAD_WIDTH
        set_float(w.workload_samples, place, spec.population_area)
        set_float(w.workload_samples, place + 1, spec.arrived)
        set_float(w.workload_samples, place + 2, spec.completed)
        set_float(w.workload_samples, place + 3, spec.failed)
