"""What `tpsim monitor` shows: every window beside its prediction, then what drifted and what moved, in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from simulator.calibration.drift import LEAST_RATIO, Drift, Monitoring, Series
from simulator.report.layout import heading, lines_of, number_text, table_of
from simulator.results.estimate import Estimate
from simulator.results.results import to_json

if TYPE_CHECKING:
    from rich.console import RenderableType

MOST_SERIES = 4
ENOUGH_WINDOWS = 12
"""Of normal ones, from which a shift right after them is told from their own spread."""
FAR = 2.0
"""From this ratio on a difference is told as so many times, below it in per cent."""


def monitoring_tables(found: Monitoring) -> Iterable[RenderableType]:
    """Everything that `tpsim monitor` shows."""
    yield heading(found.model)
    yield _windows(found)
    yield lines_of(_closing(found))


def _windows(found: Monitoring) -> Table:
    """Measured against predicted, window by window; of many series those that drifted come first."""
    shown = sorted(found.series, key=lambda each: each.alarm is None)[:MOST_SERIES]
    table = table_of("time", *(_name(each, found.series) for each in shown), "drift")
    residuals = [each.residuals for each in shown]
    for number, window in enumerate(found.windows):
        cells = (_percent(float(each[number])) for each in residuals)
        table.add_row(_time(window.written), *cells, _mark(found.drift, number))
    return table


def _percent(residual: float) -> str:
    return "–" if math.isnan(residual) else f"{math.expm1(residual):+.1%}"


def _time(written: str) -> str:
    """Seconds get their unit; what has one, or is a timestamp, stays as it is."""
    return f"{written} s" if written.replace(".", "", 1).isdigit() else written


def _mark(drift: Drift | None, number: int) -> str:
    if drift is None or number < drift.start:
        return ""
    if number == drift.start:
        return "begins"
    return "seen" if number == drift.seen else "drift"


def _closing(found: Monitoring) -> Iterable[tuple[str, str]]:
    label = "before" if found.drift else "measured"
    for kind, of, estimate in found.offsets:
        yield label, f"{_what(kind, of, found.series)} {_against_the_model(estimate)}"
        label = ""
    if len(found.series) > MOST_SERIES:
        yield "not shown", f"{len(found.series) - MOST_SERIES} more in the table above, all with --json"
    yield "false alarms", f"one in {number_text(found.windows_per_false_alarm)} windows, if they are independent"
    if found.baseline < ENOUGH_WINDOWS:
        yield "warning", f"a shift soon after {found.baseline} windows alone may pass for normal, or be seen late"
    yield "drift", drift_sentence(found)


def drift_sentence(found: Monitoring) -> str:
    """What drifted, since when, by how much, and what moved."""
    drift = found.drift
    if drift is None:
        return f"none in {len(found.windows)} windows"
    parts = [
        f"{_what(each.kind, each.of, found.series)} {_against_the_model(each.after)}"
        for each in drift.changes
        if each.kind != "demand"
    ]
    parts += [
        f"{_what(each.kind, each.of, found.series)} is {_rounded(each.factor)} times what it was"
        for each in drift.moved or [each for each in drift.changes if each.kind == "demand"]
    ]
    parts.append(
        "nothing else that is measured moved surely" if drift.moved else "something that is not measured moved"
    )
    began, seen = (_time(found.windows[number].written) for number in (drift.start, drift.seen))
    return f"from {began} on, seen at {seen}: {'; '.join(parts)}"


def monitoring_json(found: Monitoring) -> dict[str, Any]:
    """The same as plain data: figures in base units, windows counted from 0, JSON's null for what is not there."""
    return {
        "model": found.model,
        "source": found.source,
        "drift": None if found.drift is None else _drift_json(found, found.drift),
        "windows_per_false_alarm": to_json(found.windows_per_false_alarm),
        "before": [{"kind": kind, "of": of, "ratio": to_json(estimate)} for kind, of, estimate in found.offsets],
        "windows": [_window_json(found, number) for number in range(len(found.windows))],
    }


def _drift_json(found: Monitoring, drift: Drift) -> dict[str, Any]:
    return {
        "start": drift.start,
        "start_time": found.windows[drift.start].written,
        "seen": drift.seen,
        "seen_time": found.windows[drift.seen].written,
        "says": drift_sentence(found),
        "changes": to_json(drift.changes),
        "moved": to_json(drift.moved),
    }


def _window_json(found: Monitoring, number: int) -> dict[str, Any]:
    window = found.windows[number]
    series = [
        {
            "kind": each.kind,
            "of": each.of,
            "measured": to_json(float(each.measured[number])),
            "predicted": to_json(float(each.predicted[number])),
        }
        for each in found.series
    ]
    drifts = found.drift is not None and number >= found.drift.start
    return {"line": window.line, "time": window.written, "drift": drifts, "series": series}


def _name(series: Series, every: Sequence[Series]) -> str:
    return _what(series.kind, series.of, every).removeprefix("the ")


def _what(kind: str, of: str, every: Sequence[Series]) -> str:
    """`the demand on hosts.db.disk`, or `latency of clients`, just `latency` where one workload is measured."""
    if kind == "demand":
        return f"the demand on {of}"
    alone = len({each.of for each in every if each.kind != "demand"} | {of}) == 1
    kind = f"the {kind}" if kind == "load" else kind
    return kind if alone else f"{kind} of {of}"


def _against_the_model(ratio: Estimate) -> str:
    """`is 18 % [15, 21] below what the model says`."""
    if math.isnan(ratio.value):
        return "was not measured, or has no prediction"
    if ratio.value <= LEAST_RATIO * (1.0 + 1e-9):
        return f"is at most {LEAST_RATIO:g} times what the model says"
    if not 1.0 / FAR <= ratio.value <= FAR:
        return f"is {_rounded(ratio)} times what the model says"
    if ratio.value >= 1.0:
        above = Estimate(ratio.value - 1.0, ratio.low - 1.0, ratio.high - 1.0, ratio.n)
        return f"is {above.show('fraction')} above what the model says"
    below = Estimate(1.0 - ratio.value, 1.0 - ratio.high, 1.0 - ratio.low, ratio.n)
    return f"is {below.show('fraction')} below what the model says"


def _rounded(ratio: Estimate) -> str:
    return ratio.show("count")
