"""A quota of a sharing station: the events that it adds, by the rules of `simulator.engines.simpy.stations.quota`."""

from __future__ import annotations

from simulator.engines.compiled.pointers import Record, inlined
from simulator.program.stations import Quota

COMPLETION, END_OF_PERIOD, END_OF_QUOTA = 1, 2, 3
SLACK = Quota.SLACK


@inlined
def _in_use(s: Record) -> int:
    """Processors in use by the jobs present."""
    return s.busy if s.busy < s.processors else s.processors


@inlined
def spend_time(w: Record, s: Record) -> None:
    """Count the processor time since the last change."""
    if s.busy and s.rate > 0.0:
        s.left -= (w.now - s.changed) * _in_use(s)


@inlined
def _begin(s: Record, number: int) -> None:
    s.number = number
    s.left = s.quota
    s.throttled = 0


@inlined
def begin_period_if_due(w: Record, s: Record) -> bool:
    """Begin the period that it is now, and say so."""
    if w.now < (s.number + 1) * s.period:
        return False
    number = int(w.now / s.period)
    _begin(s, number if number > s.number + 1 else s.number + 1)
    return True


@inlined
def next_event(w: Record, s: Record, remaining: float) -> tuple[float, int]:
    """Seconds to the next event, and its kind; `remaining` are those to the next completion, were it the first."""
    to_end = (s.number + 1) * s.period - w.now
    to_end = 0.0 if to_end < 0.0 else to_end
    if s.rate == 0.0:
        return to_end, END_OF_PERIOD
    processors = _in_use(s)
    if remaining <= to_end and remaining * processors <= s.left + SLACK * s.quota:
        return remaining, COMPLETION
    if to_end * processors <= s.left:
        return to_end, END_OF_PERIOD
    to_quota = s.left / processors
    return 0.0 if to_quota < 0.0 else to_quota, END_OF_QUOTA


@inlined
def happen(s: Record, kind: int) -> None:
    """What the event does that is not a completion, in the period for which it was scheduled."""
    if kind == END_OF_PERIOD:
        _begin(s, s.number + 1)
    else:
        s.throttled = 1
