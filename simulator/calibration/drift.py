"""Monitoring: where measurements of a running system drift away from what its model says, and what moved.

Every window is compared with the prediction under the load of that window, as the logarithm of measured over
predicted: throughput and latency of workloads, and by the utilization law (Denning and Buzen, The operational analysis
of queueing network models, ACM Computing Surveys 10, 1978) the demand of a request on every measured resource,
D = U capacity / X. A CUSUM chart of each such series says whether and when it moved; the demands before and after
say what did.

Windows have to be long against the time that the system takes to forget, 1 / (mu (1 - sqrt(rho))^2) for a queue: those
of neighbors then hardly depend on each other, and false alarms are as rare as the chart says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from simulator.calibration.cusum import Alarm, Chart, find_shift
from simulator.calibration.expected import RATE_STEP, Expectation, Need
from simulator.calibration.windows import Measured, Window, read_windows
from simulator.errors import InputError, Problem
from simulator.model.files import load
from simulator.results.estimate import Estimate, mean_interval, student_t_quantile
from simulator.study.run import Settings

Floats = npt.NDArray[np.float64]
WORKING = ("servers", "sharing", "bucket")
"""Kinds of resources whose demand does not depend on the load. Pools are held while requests wait for others."""
CONFIDENCE = 0.95
LEAST_RATIO = 1e-3
"""Measured over predicted counts for no less, so that an outage has a logarithm."""


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One thing that is measured window by window, beside the model's predictions, in base units, shape (windows,).

    `kind` is throughput, latency or demand (of a request, in the resource's work units), `of` the workload or resource.
    NaN where nothing was measured or there is no prediction. `alarm` counts windows from 0.
    """

    kind: str
    of: str
    measured: Floats
    predicted: Floats
    alarm: Alarm | None

    @property
    def residuals(self) -> Floats:
        """Logarithm of measured over predicted, shape (windows,); NaN where there is none."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(self.predicted > 0.0, self.measured / self.predicted, math.nan)
        return np.log(np.maximum(ratio, LEAST_RATIO))


@dataclass(frozen=True, slots=True)
class Change:
    """How a series moved, or a `load` (of a workload, in 1/s).

    `before` and `after` are measured over predicted, geometric means over the windows, and `factor` is after over
    before; all three with 95 % intervals over the windows, which say how measurements scatter and not how far off a
    simulation may be. Those of the factors of all that may have moved hold together (Bonferroni).
    """

    kind: str
    of: str
    before: Estimate
    after: Estimate
    factor: Estimate

    @property
    def sure(self) -> bool:
        """Whether the interval of the factor excludes 1."""
        return self.factor.low > 1.0 or self.factor.high < 1.0


@dataclass(frozen=True, slots=True)
class Drift:
    """From window `start` on measurements are not what they were, as was known at window `seen` (both from 0).

    `changes` are of the series that drifted, `moved` of the demands and loads that surely moved then. A load that was
    not offered, but served, counts only where no demand moved. Where `moved` is empty, nothing measured explains it.
    """

    start: int
    seen: int
    changes: tuple[Change, ...]
    moved: tuple[Change, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Monitoring:
    """What a monitor saw: the windows, every series, and the drift, None where nothing drifted.

    `offsets` are measured over predicted before the drift: where an interval excludes 1, the model was off from the
    start, which is no drift but a matter of validation. `windows_per_false_alarm` is the mean number of windows until
    one of the series raises a false alarm. `baseline` is the number of windows that were taken for normal.
    """

    model: str
    source: str
    windows: tuple[Window, ...]
    series: tuple[Series, ...]
    offsets: tuple[tuple[str, str, Estimate], ...]
    drift: Drift | None
    windows_per_false_alarm: float
    baseline: int


def monitor(
    model: str | Path,
    table: str | Path,
    overrides: Sequence[str] = (),
    settings: Settings | None = None,
    chart: Chart | None = None,
    step: float = RATE_STEP,
    tell: Callable[[int, int], None] | None = None,
) -> Monitoring:
    """Compare a model with a table of windows (see `read_windows`) and say whether, when and what drifted.

    The load of a window is what was offered, else the throughput; a workload of which neither is measured has the
    model's load. Throughput is compared with the prediction for the offered load, else for the model's own.
    `step` is that of `Expectation`. Raises InputError for a bad model or table.
    """
    chart = chart or Chart()
    system = load(Path(model), overrides)
    expectation = Expectation(system, settings or Settings(), step)
    asked = {
        each.resource for workload in expectation.facts.workloads for each in workload.demands if each.demand > 0.0
    }
    working = {
        each.resource: each.capacity
        for each in expectation.facts.resources
        if each.kind in WORKING and each.resource in asked
    }
    columns, windows = read_windows(Path(table), list(expectation.workloads), working)
    if len(windows) <= chart.baseline:
        message = f"{len(windows)} windows, expected more than the {chart.baseline} of the baseline"
        raise InputError([Problem(str(table), 0, 0, "", message)])
    reader = _Reader(expectation, columns, windows, working)
    expectation.prepare(reader.needs(), tell)
    series = tuple(_charted(each, chart) for each in reader.series())
    drift = _drift(series, reader.loads(), {column.of for column in columns if column.kind == "offered"})
    known = len(windows) if drift is None else drift.start
    offsets = tuple((each.kind, each.of, _mean_ratio(each.residuals[:known])) for each in series)
    per_false_alarm = chart.run_length / len(series) if series else math.inf
    return Monitoring(system.name, str(table), tuple(windows), series, offsets, drift, per_false_alarm, chart.baseline)


class _Reader:
    """The series of a table, beside their predictions."""

    def __init__(
        self,
        expectation: Expectation,
        columns: Sequence[Measured],
        windows: Sequence[Window],
        capacities: dict[str, float],
    ) -> None:
        self.expectation = expectation
        self.columns = {(column.kind, column.of): column for column in columns}
        self.windows = windows
        self.capacities = capacities

    def _measured(self, kind: str, of: str) -> Floats:
        """Shape (windows,), NaN where it was not measured."""
        column = self.columns.get((kind, of))
        return np.array(
            [math.nan if column is None else window.values.get(column, math.nan) for window in self.windows]
        )

    def _rates(self, *kinds: str) -> list[dict[str, float]]:
        """Of every window the rate (1/s) of each workload: the first of those kinds that is there, else the model's."""
        own = self.expectation.own
        rates = {name: np.full(len(self.windows), math.nan) for name in own}
        for name, found in rates.items():
            for kind in kinds:
                measured = self._measured(kind, name)
                found[:] = np.where(np.isnan(found), measured, found)
            found[:] = np.where(np.isnan(found), own[name], found)
        return [{name: float(found[number]) for name, found in rates.items()} for number in range(len(self.windows))]

    def needs(self) -> list[Need]:
        """What is to be predicted of every window."""
        latency = any(kind == "latency" for kind, _ in self.columns)
        needs = [Need(rates, True) for rates in self._rates("offered", "throughput") if latency]
        throughput = any(kind == "throughput" for kind, _ in self.columns)
        return [*needs, *(Need(rates, False) for rates in self._rates("offered") if throughput)]

    def series(self) -> list[Series]:
        """Every series, not yet tested."""
        offered, at_load, served = (
            self._rates(*kinds) for kinds in (("offered",), ("offered", "throughput"), ("throughput", "offered"))
        )
        expectation, found = self.expectation, []
        for kind, of in self.columns:
            measured = self._measured(kind, of)
            if kind == "throughput":
                predicted = [expectation.throughput(of, rates) for rates in offered]
            elif kind == "latency":
                predicted = [expectation.latency(of, rates) for rates in at_load]
            elif kind == "utilization":
                kind = "demand"
                totals = np.array([math.fsum(rates.values()) for rates in served])
                with np.errstate(divide="ignore", invalid="ignore"):
                    measured = np.where(totals > 0.0, measured * self.capacities[of] / totals, math.nan)
                predicted = [expectation.demand(of, rates) for rates in served]
            else:
                continue
            found.append(Series(kind, of, measured, np.array(predicted), None))
        return found

    def loads(self) -> list[Series]:
        """The load of every workload beside the model's own."""
        rates = self._rates("offered", "throughput")
        known = [name for name in self.expectation.own if {("offered", name), ("throughput", name)} & set(self.columns)]
        return [
            Series(
                "load",
                name,
                np.array([each[name] for each in rates]),
                np.full(len(rates), self.expectation.own[name]),
                None,
            )
            for name in known
            if self.expectation.sets_load(name)
        ]


def _charted(series: Series, chart: Chart) -> Series:
    alarm = find_shift(series.residuals, chart)
    return Series(series.kind, series.of, series.measured, series.predicted, alarm)


def _drift(series: Sequence[Series], loads: Sequence[Series], offered: set[str]) -> Drift | None:
    """The first drift of all, and what moved with it; see Drift."""
    alarmed = [(each, each.alarm) for each in series if each.alarm is not None]
    if not alarmed:
        return None
    first = min((alarm for _, alarm in alarmed), key=lambda alarm: (alarm.seen, alarm.start))
    demands = [each for each in series if each.kind == "demand"]
    confidence = 1.0 - (1.0 - CONFIDENCE) / max(len(demands) + len(loads), 1)
    certain = [*demands, *(each for each in loads if each.of in offered)]
    moved = [change for each in certain if (change := _change(each, first.start, confidence)).sure]
    if not moved:
        others = [each for each in loads if each.of not in offered]
        moved = [change for each in others if (change := _change(each, first.start, confidence)).sure]
    changes = tuple(_change(each, first.start, CONFIDENCE) for each, _ in alarmed)
    return Drift(first.start, first.seen, changes, tuple(moved))


def _change(series: Series, start: int, confidence: float) -> Change:
    residuals = series.residuals
    before, after = residuals[:start], residuals[start:]
    return Change(
        series.kind, series.of, _mean_ratio(before), _mean_ratio(after), _ratio_of_means(before, after, confidence)
    )


def _mean_ratio(residuals: Floats) -> Estimate:
    """Geometric mean of ratios from their logarithms, shape (n,), with Student's interval; NaN are left out."""
    known = residuals[np.isfinite(residuals)]
    return _exponential(mean_interval(known, CONFIDENCE) if known.size else Estimate.without_interval(math.nan))


def _ratio_of_means(before: Floats, after: Floats, confidence: float) -> Estimate:
    """Geometric mean of `after` over that of `before`, from logarithms, with Welch's interval.

    Welch, The generalization of Student's problem, Biometrika 34 (1947). No interval where either has fewer than two
    windows.
    """
    first, second = before[np.isfinite(before)], after[np.isfinite(after)]
    if not (first.size and second.size):
        return Estimate.without_interval(math.nan)
    difference = float(second.mean() - first.mean())
    if min(first.size, second.size) < 2:
        return _exponential(Estimate.without_interval(difference))
    parts = [float(each.var(ddof=1)) / each.size for each in (first, second)]
    variance = math.fsum(parts)
    freedom = (
        variance**2 / math.fsum(part**2 / (each.size - 1) for part, each in zip(parts, (first, second), strict=True))
        if variance > 0.0
        else float(first.size + second.size - 2)
    )
    half_width = student_t_quantile((1.0 + confidence) / 2.0, freedom) * math.sqrt(variance)
    return _exponential(
        Estimate(difference, difference - half_width, difference + half_width, first.size + second.size)
    )


def _exponential(logarithm: Estimate) -> Estimate:
    value, low, high = (float(np.exp(each)) for each in (logarithm.value, logarithm.low, logarithm.high))
    return Estimate(value, low, high, logarithm.n)
