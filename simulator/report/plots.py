"""Plots: results drawn on Matplotlib axes, which are returned, never shown and never saved.

Every function draws on the `axes` given, or on those of a new figure. Intervals are at the results' own confidence;
where there is none, none is drawn. Colours are those of Okabe and Ito, which colour-blind readers can tell apart;
lines of different colours have different markers too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from simulator import units
from simulator.calibration.validate import Comparison, Validation, mean_absolute_percentage_error
from simulator.errors import UsageError
from simulator.model.objective import Objective
from simulator.results.estimate import Estimate, scale_for
from simulator.results.results import ComponentTime, Results, WorkloadResult

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

BLACK, GREY = "#000000", "#999999"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", BLACK, GREY)
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
WAITING, SERVICE = "#E69F00", "#56B4E9"
BAND = 0.1
"""Half width, as a share of the measured value, of the band beside the diagonal."""
WIDE = 20.0
"""An axis is logarithmic where its largest value is at least this many times the smallest."""
MOST_INSIDE = 8
"""A longer legend stands beside the axes."""
LEAST_SHARE = 0.005
MOST_COMPONENTS = 12
PERCENTILES = {"mean": "mean", "p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99", "p999": "p99.9"}
UNIT_NAMES = {"/s": "requests/s", "k/s": "thousand requests/s", "M/s": "million requests/s"}
UNSTABLE = "no steady state: the backlog grows"

Item = TypeVar("Item")
Point = tuple[float, Estimate]


def plot_validation(validation: Validation, axes: Axes | None = None, *, compared: str | None = None) -> Axes:
    """Draw what was predicted over what was measured, with the diagonal and a band of 10 % beside it.

    Rows that parameters were fitted to are hollow, held-out ones filled. `compared` is the column to draw, needed
    where the table has several. Raises UsageError for a column that is not there, or without a prediction.
    """
    rows = [each for each in _compared(validation, compared) if math.isfinite(each.predicted.value)]
    if not rows:
        raise UsageError("no row has a prediction to draw")
    axes = _axes(axes, 5.0, 5.2)
    scale = _Scale.of([number for each in rows for number in (each.measured, each.predicted.value)], rows[0].dimension)
    low, high = 0.7 * scale.smallest, scale.largest / 0.7
    axes.fill_between([low, high], [low * (1 - BAND), high * (1 - BAND)], [low * (1 + BAND), high * (1 + BAND)],
                      color=GREY, alpha=0.3, linewidth=0, label=f"±{BAND:.0%}")  # fmt: skip
    axes.plot([low, high], [low, high], color=GREY, linewidth=1, zorder=1)
    for fitted, marker, colour in ((False, "o", COLOURS[0]), (True, "s", COLOURS[1])):
        group = [each for each in rows if each.fitted is fitted]
        if group:
            error = mean_absolute_percentage_error(group)
            label = f"{'fitted' if fitted else 'held out'} ({len(group)}): mean absolute error {error:.1%}"
            points = [(each.measured * scale.factor, each.predicted) for each in group]
            _markers(axes, points, scale, label, colour, marker, hollow=fitted)
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set(xlabel=scale.label(f"measured {rows[0].metric}"), ylabel=scale.label(f"predicted {rows[0].metric}"))
    _plain_ticks(axes.xaxis, axes.yaxis)
    _grid(axes)
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), frameon=False, fontsize="small")
    return axes


def plot_scaling(validation: Validation, column: str, axes: Axes | None = None, *, compared: str | None = None) -> Axes:
    """Draw measured (markers) and predicted numbers (lines) over a numeric column of the table.

    One colour for each combination of the other labels; those that are the same everywhere are not named. Markers
    of rows that parameters were fitted to are hollow. `compared` is as in `plot_validation`. Raises UsageError for
    a column that is not there or not numeric.
    """
    rows = _compared(validation, compared)
    positions = [number for each in rows if (number := _number(each.row.get(column))) is not None]
    if len(positions) < len(rows):
        known = ", ".join(rows[0].row)
        raise UsageError(f"{column!r} is not a numeric column of the rows, which are told apart by: {known}")
    axes = _axes(axes, 7.2, 4.4)
    numbers = [number for each in rows for number in (each.measured, each.predicted.value)]
    scale = _Scale.of(numbers, rows[0].dimension)
    others = _telling([each.row for each in rows], [name for name in rows[0].row if name != column])
    placed = list(zip(positions, rows, strict=True))
    groups = _grouped(placed, lambda item: tuple(item[1].row[name] for name in others))
    for number, (values, items) in enumerate(groups.items()):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        label = _named(others, values) or rows[0].metric
        items = sorted(items, key=lambda item: item[0])
        _line(axes, [(position, each.predicted) for position, each in items], scale, colour, label=None)
        for fitted in (True, False):
            group = [(position, _exactly(each.measured)) for position, each in items if each.fitted is fitted]
            first = not fitted or all(each.fitted for _, each in items)
            _markers(axes, group, scale, label if first else None, colour, marker, hollow=fitted)
    _choose_scales(axes, positions, scale)
    axes.set(xlabel=column, ylabel=scale.label(rows[0].metric))
    _grid(axes)
    _legend_of_scaling(axes, rows)
    return axes


def plot_breakdown(results: Results, workload: str | None = None, axes: Axes | None = None) -> Axes:
    """Draw where the time of a workload's mean request goes: waiting and service of each component, with intervals.

    The bars' lengths sum to the mean latency. Components of less than half a per cent of it are summed up in one
    bar without an interval. `workload` may be left out where there is one. Raises UsageError for one that is not
    there.
    """
    name, result = _workload(results, workload)
    axes = _axes(axes, 6.4, 3.6)
    axes.set_title(f"{name}: where the time goes", loc="left")
    if result.latency_s is None:
        return _say(axes, UNSTABLE)
    bars = list(reversed(_components(result.breakdown, result.latency_s["mean"].value)))
    scale = _Scale.of([time.wait_s.value + time.service_s.value for _, time in bars], "duration")
    places = list(range(len(bars)))
    waits = [time.wait_s.value * scale.factor for _, time in bars]
    services = [time.service_s.value * scale.factor for _, time in bars]
    axes.barh(places, waits, color=WAITING, label="waiting")
    axes.barh(places, services, left=waits, color=SERVICE, label="service")
    for place, wait, (_, time) in zip(places, waits, bars, strict=True):
        _whisker(axes, place + 0.2, time.wait_s, scale, start=0.0)
        _whisker(axes, place - 0.2, time.service_s, scale, start=wait)
    axes.set_yticks(places, [component for component, _ in bars])
    axes.set_xlabel(scale.label("mean time of a request"))
    axes.set_xlim(left=0.0)
    axes.margins(x=0.08)
    axes.grid(axis="x", color=GREY, alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend(loc="lower right")
    return axes


def plot_sweep(
    table: pd.DataFrame, x: str, metric: str, axes: Axes | None = None, *, of: str | Sequence[str] | None = None
) -> Axes:
    """Draw a metric of a sweep's tidy table over the column `x`: a line with the band of its intervals.

    One line for each workload or resource (only those that `of` names) and combination of the other axes of the
    sweep. A cross at the top marks a value of `x` where the line's metric does not exist: a latency without a steady
    state. Raises UsageError for a column or a metric that is not there.
    """
    varied = list(table.columns)[: list(table.columns).index("stable")]
    if x not in varied:
        raise UsageError(f"no column {x!r} was varied; known: {', '.join(map(str, varied))}")
    wanted = [of] if isinstance(of, str) else of
    chosen = table[(table["metric"] == metric) & (table["of"].isin(wanted) if wanted is not None else True)]
    if chosen.empty:
        raise UsageError(f"no {metric!r} to draw; known: {', '.join(dict.fromkeys(table['metric']))}")
    axes = _axes(axes, 6.4, 4.0)
    scale = _Scale.of(list(chosen["value"]), _dimension_of(metric))
    across = _Positions.of(list(dict.fromkeys(table[x])))
    others = _telling(chosen.to_dict("records"), ["of", *(name for name in varied if name != x)])
    groups = _grouped(chosen.to_dict("records"), lambda row: tuple(str(row[name]) for name in others))
    missing: list[tuple[float, str]] = []
    for number, (values, rows) in enumerate(groups.items()):
        points = sorted(
            ((across.at[row[x]], Estimate(row["value"], row["low"], row["high"], 0)) for row in rows),
            key=lambda point: point[0],
        )
        label = _named(others, values) if others else str(rows[0]["of"])
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        _line(axes, points, scale, colour, label=label, marker=marker)
        missing += [(place, colour) for place in _missing(table, rows, x, varied, across)]
    for place, colour in missing:
        axes.plot(place, 0.97, "x", color=colour, markersize=8, markeredgewidth=2, transform=axes.get_xaxis_transform(),
                  label=None if colour != missing[0][1] or place != missing[0][0] else "no steady state")  # fmt: skip
    across.apply(axes, x)
    axes.set_ylabel(scale.label(_words(metric)))
    if scale.smallest > 0.0 and scale.largest / scale.smallest < WIDE:
        axes.set_ylim(bottom=0.0)
    _grid(axes)
    axes.legend()
    return axes


def plot_latency(results: Results, workload: str | None = None, axes: Axes | None = None) -> Axes:
    """Draw mean and percentiles of a workload's latency with their intervals.

    `workload` may be left out where there is one. Raises UsageError for one that is not there.
    """
    name, result = _workload(results, workload)
    axes = _axes(axes, 6.4, 3.2)
    axes.set_title(f"{name}: latency of completed requests", loc="left")
    if result.latency_s is None:
        return _say(axes, UNSTABLE)
    shown = [(label, result.latency_s[key]) for key, label in PERCENTILES.items() if key in result.latency_s]
    shown = [(label, estimate) for label, estimate in shown if math.isfinite(estimate.value)]
    if not shown:
        return _say(axes, "no request completed")
    scale = _Scale.of([estimate.value for _, estimate in shown], "duration")
    for place, (_, estimate) in enumerate(shown):
        _whisker(axes, place, estimate, scale, start=0.0, colour=COLOURS[0], width=2.0)
    axes.plot([each.value * scale.factor for _, each in shown], range(len(shown)), "o", color=COLOURS[0])
    for place, (_, estimate) in enumerate(shown):
        axes.annotate(estimate.show("duration"), (estimate.value * scale.factor, place), (0, 6),
                      textcoords="offset points", fontsize="small", horizontalalignment="center")  # fmt: skip
    axes.set_yticks(range(len(shown)), [label for label, _ in shown])
    axes.set_ylim(len(shown) - 0.5, -0.8)
    axes.set_xlabel(scale.label("latency"))
    if scale.smallest > 0.0:
        axes.set_xscale("log")
        axes.set_xlim(scale.smallest / 2.0, scale.largest * 2.5)
        _plain_ticks(axes.xaxis)
    axes.grid(axis="x", color=GREY, alpha=0.3)
    return axes


@dataclass(frozen=True, slots=True)
class _Scale:
    """One unit for all numbers of an axis; `smallest` and `largest` are in it."""

    factor: float
    unit: str
    smallest: float
    largest: float

    @classmethod
    def of(cls, values: Iterable[float], dimension: str) -> _Scale:
        finite = [value for value in values if math.isfinite(value)] or [0.0]
        factor, unit = scale_for(max(finite, key=abs), dimension)
        return cls(factor, UNIT_NAMES.get(unit, unit), min(finite) * factor, max(finite) * factor)

    def label(self, text: str) -> str:
        return f"{text} ({self.unit})" if self.unit else text


@dataclass(frozen=True, slots=True)
class _Positions:
    """Where the values of a sweep's axis stand: at their number where they have one, else one after the other."""

    at: Mapping[Any, float]
    unit: str
    texts: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: Sequence[Any]) -> _Positions:
        """Values are numbers, or texts such as `400/s`, which are read by the first dimension that knows them."""
        numbers = [_number(value) for value in values]
        if all(number is not None for number in numbers):
            return cls({value: float(number or 0.0) for value, number in zip(values, numbers, strict=True)}, "")
        for dimension in ("rate", "duration", "size", "price", "fraction"):
            try:
                parsed = [units.parse(value, dimension) for value in values]
            except units.UnitError:
                continue
            factor, unit = scale_for(min(filter(None, parsed), default=0.0), dimension)
            places = {value: number * factor for value, number in zip(values, parsed, strict=True)}
            return cls(places, UNIT_NAMES.get(unit, unit))
        return cls({value: float(place) for place, value in enumerate(values)}, "", tuple(map(str, values)))

    def apply(self, axes: Axes, name: str) -> None:
        """Label the axis."""
        axes.set_xlabel(f"{name} ({self.unit})" if self.unit else name)
        if self.texts:
            axes.set_xticks(range(len(self.texts)), list(self.texts))
        elif all(place.is_integer() for place in self.at.values()) and len(self.at) <= 12:
            axes.set_xticks(list(self.at.values()), [f"{place:g}" for place in self.at.values()])


def _missing(
    table: pd.DataFrame, rows: Sequence[Mapping[Any, Any]], x: str, varied: Sequence[Any], across: _Positions
) -> list[float]:
    """Where the sweep has points that differ from a line's only in `x`, and the line has none."""
    alike = table
    for name in varied:
        if name != x:
            alike = alike[alike[name] == rows[0][name]]
    there = {row[x] for row in rows}
    return [across.at[value] for value in dict.fromkeys(alike[x]) if value not in there]


def _axes(axes: Axes | None, width: float, height: float) -> Axes:
    if axes is not None:
        return axes
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(width, height), layout="constrained")[1]


def _compared(validation: Validation, column: str | None) -> list[Comparison]:
    """The comparisons of one column of the table."""
    columns = list(dict.fromkeys(each.column for each in validation.comparisons))
    if column is None and len(columns) > 1:
        raise UsageError(f"several columns were compared, name one (compared=): {', '.join(columns)}")
    if column is not None and column not in columns:
        raise UsageError(f"the column {column!r} was not compared; known: {', '.join(columns)}")
    return [each for each in validation.comparisons if column in (None, each.column)]


def _workload(results: Results, name: str | None) -> tuple[str, WorkloadResult]:
    names = list(results.workloads)
    if name is None and len(names) == 1:
        name = names[0]
    if name not in results.workloads or name is None:
        raise UsageError(f"expected the name of a workload, got {name!r}; known: {', '.join(names)}")
    return name, results.workloads[name]


def _components(breakdown: Mapping[str, ComponentTime], mean: float) -> list[tuple[str, ComponentTime]]:
    """The components by their time, the longest first, the small ones summed up."""

    def spent(item: tuple[str, ComponentTime]) -> float:
        return item[1].wait_s.value + item[1].service_s.value

    parts = sorted(breakdown.items(), key=spent, reverse=True)
    shown = [part for part in parts if spent(part) >= LEAST_SHARE * mean][:MOST_COMPONENTS]
    rest = [time for part, time in parts[len(shown) :] if spent((part, time)) > 0.0]
    if len(rest) == 1:
        return parts[: len(shown) + 1]
    if rest:
        waiting = math.fsum(time.wait_s.value for time in rest)
        service = math.fsum(time.service_s.value for time in rest)
        summed = ComponentTime(Estimate.without_interval(waiting), Estimate.without_interval(service))
        return [*shown, (f"{len(rest)} more", summed)]
    return shown


def _line(
    axes: Axes, points: Sequence[Point], scale: _Scale, colour: str, label: str | None, marker: str | None = None
) -> None:
    """A line through estimates, and a band of their intervals."""
    places = [place for place, _ in points]
    values = [estimate.value * scale.factor for _, estimate in points]
    low = [estimate.low * scale.factor for _, estimate in points]
    high = [estimate.high * scale.factor for _, estimate in points]
    axes.plot(places, values, color=colour, marker=marker, markersize=5, linewidth=1.5, label=label)
    axes.fill_between(places, low, high, color=colour, alpha=0.25, linewidth=0)


def _markers(
    axes: Axes, points: Sequence[Point], scale: _Scale, label: str | None, colour: str, marker: str, hollow: bool
) -> None:
    """Markers at estimates, with their intervals as bars."""
    if not points:
        return
    values = [estimate.value * scale.factor for _, estimate in points]
    bars = [
        [_or_zero((estimate.value - estimate.low) * scale.factor) for _, estimate in points],
        [_or_zero((estimate.high - estimate.value) * scale.factor) for _, estimate in points],
    ]
    axes.errorbar([place for place, _ in points], values, yerr=bars, fmt=marker, color=colour, markersize=5.5,
                  markerfacecolor="white" if hollow else colour, linewidth=1.2, label=label, zorder=3)  # fmt: skip


def _whisker(
    axes: Axes, place: float, estimate: Estimate, scale: _Scale, start: float, colour: str = BLACK, width: float = 1.2
) -> None:
    """The interval of something that begins at `start`, as a horizontal line."""
    if math.isfinite(estimate.low) and math.isfinite(estimate.high) and estimate.value != 0.0:
        ends = [start + estimate.low * scale.factor, start + estimate.high * scale.factor]
        axes.plot(ends, [place, place], color=colour, linewidth=width, solid_capstyle="butt")


def _legend_of_scaling(axes: Axes, rows: Sequence[Comparison]) -> None:
    """Say what marker, line and filling mean, below the names of the colours."""
    from matplotlib.lines import Line2D

    handles, _ = axes.get_legend_handles_labels()
    handles.append(Line2D([], [], color=BLACK, label="predicted"))
    for fitted, text in ((False, "measured, held out"), (True, "measured, fitted")):
        if any(each.fitted is fitted for each in rows):
            face = "white" if fitted else BLACK
            handles.append(Line2D([], [], color=BLACK, marker="o", markerfacecolor=face, linestyle="", label=text))
    if len(handles) > MOST_INSIDE:
        axes.legend(handles=handles, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    else:
        axes.legend(handles=handles, fontsize="small")


def _choose_scales(axes: Axes, positions: Sequence[float], scale: _Scale) -> None:
    """Logarithmic axes where numbers are far apart; the horizontal one counts in doublings."""
    from matplotlib.ticker import LogLocator, NullLocator

    if min(positions) > 0.0 and max(positions) / min(positions) >= WIDE:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(LogLocator(base=2))
        axes.xaxis.set_minor_locator(NullLocator())
        _plain_ticks(axes.xaxis)
    if scale.smallest > 0.0 and scale.largest / scale.smallest >= WIDE:
        axes.set_yscale("log")
        _plain_ticks(axes.yaxis)
    else:
        axes.set_ylim(bottom=0.0)


def _plain_ticks(*sides: Any) -> None:
    """Numbers at the ticks in place of powers of ten."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    for side in sides:
        side.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}"))
        side.set_minor_formatter(NullFormatter())


def _grid(axes: Axes) -> None:
    axes.grid(color=GREY, alpha=0.3)
    axes.set_axisbelow(True)


def _say(axes: Axes, text: str) -> Axes:
    """Say in the axes why nothing is drawn."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, horizontalalignment="center", verticalalignment="center")
    axes.set(xticks=[], yticks=[])
    return axes


def _telling(rows: Sequence[Mapping[Any, Any]], names: Sequence[str]) -> list[str]:
    """The names whose values differ between rows."""
    return [name for name in names if len({str(row[name]) for row in rows}) > 1]


def _named(names: Sequence[str], values: Sequence[str]) -> str:
    """Such as `http, body_kb 10`: words speak for themselves, numbers need a name."""
    return ", ".join(
        value if name == "of" or _number(value) is None else f"{name} {value}"
        for name, value in zip(names, values, strict=True)
    )


def _grouped(items: Iterable[Item], key: Callable[[Item], tuple[str, ...]]) -> dict[tuple[str, ...], list[Item]]:
    groups: dict[tuple[str, ...], list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _dimension_of(metric: str) -> str:
    """What a metric of a tidy table is measured in; an objective is a metric with its bound."""
    if "<" in metric or ">" in metric:
        return Objective.model_validate(metric).metric.dimension
    if metric.startswith("per_") or metric.endswith("_per_hour"):
        return "money"
    if metric.endswith("_mean"):
        return "count"
    if metric.endswith("_per_s"):
        return "rate"
    return "duration" if metric.endswith("_s") else "fraction"


def _words(metric: str) -> str:
    """The name of a tidy table's metric as words: `latency_p99_s` is `latency p99`."""
    words = metric.removesuffix("_per_s").removesuffix("_s").split("_")
    return " ".join(PERCENTILES.get(word, word) for word in words)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _or_zero(number: float) -> float:
    """A bar of no length where there is no interval."""
    return number if math.isfinite(number) else 0.0


def _exactly(value: float) -> Estimate:
    return Estimate.without_interval(value)
