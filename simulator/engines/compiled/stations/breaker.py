"""Circuit breakers."""

from __future__ import annotations

from simulator.engines.compiled.pointers import Record, compiled, float_at, inlined, set_float, station_at, token_at
from simulator.engines.compiled.stations.station import GOES_ON
from simulator.engines.compiled.tokens import hold, new_hold
from simulator.program.program import CIRCUIT_OPEN

SUCCESS, FAILURE, CANCELLED = range(3)
CLOSED, OPEN, HALF_OPEN = range(3)


@inlined
def account(w: Record, s: Record) -> None:
    """Bring the integral of the time in which it is not closed up to now."""
    span = w.now - s.last
    if span > 0.0:
        if s.state != CLOSED:
            s.busy_area += span
        s.last = w.now


@compiled
def enter(w: Record, station: int, token: int, component: int) -> int:
    """Ask for a permit; there must be a free record to hold it."""
    s = station_at(w.stations, station)
    account(w, s)
    s.arrivals += 1
    t = token_at(w.tokens, token)
    t.component = component
    if s.state == OPEN and w.now - s.opened >= s.open_time:
        _change(s, HALF_OPEN)
    if s.state == OPEN or (s.state == HALF_OPEN and s.trials >= s.trials_most):
        return CIRCUIT_OPEN
    s.trials += 1
    s.busy += 1
    hold(w, t, new_hold(w), station, float(s.changes))
    return GOES_ON


@compiled
def release(w: Record, station: int, permit: float, outcome: int) -> None:
    """Take a report."""
    s = station_at(w.stations, station)
    account(w, s)
    s.completions += 1
    s.busy -= 1
    if outcome == FAILURE:
        s.hits += 1
    if permit != s.changes:
        return
    if outcome == CANCELLED:
        s.trials -= 1
    elif s.state == HALF_OPEN:
        _report_trial(w, s, outcome == FAILURE)
    else:
        _report(w, s, 1 if outcome == FAILURE else 0)


@inlined
def _report_trial(w: Record, s: Record, failure: bool) -> None:
    s.successes += 1
    if failure:
        _open(w, s)
    elif s.successes >= s.trials_most:
        _change(s, CLOSED)


@inlined
def _report(w: Record, s: Record, failure: int) -> None:
    if s.reported == s.window:
        s.failures -= int(float_at(w.numbers, s.reports + s.oldest))
    else:
        s.reported += 1
    set_float(w.numbers, s.reports + s.oldest, float(failure))
    s.oldest = s.oldest + 1 if s.oldest + 1 < s.window else 0
    s.failures += failure
    if s.reported >= s.least and s.failures >= s.failure_share * s.reported:
        _open(w, s)


@inlined
def _open(w: Record, s: Record) -> None:
    s.opened = w.now
    _change(s, OPEN)


@inlined
def _change(s: Record, state: int) -> None:
    s.state = state
    s.changes += 1
    s.reported = s.oldest = s.failures = s.trials = s.successes = 0
