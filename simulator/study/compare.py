"""Comparison of two settings of a model, replication by replication under common random numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from simulator.errors import UsageError
from simulator.model.objective import Metric, parse_metric
from simulator.model.system import System
from simulator.results.estimate import Estimate, paired_difference, paired_ratio
from simulator.results.metrics import statistic
from simulator.results.results import Results
from simulator.study.run import Experiment, Settings, finish

METRICS = ("throughput", "error rate", "mean", "p50", "p95", "p99")
ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Difference:
    """A metric under both settings, and what lies between: `difference` is second minus first.

    A latency has no value where a setting has no steady state.
    """

    metric: str
    dimension: str
    first: Estimate
    second: Estimate
    difference: Estimate
    ratio: Estimate

    @property
    def significant(self) -> bool:
        """Whether the difference's interval leaves zero out."""
        return self.difference.low > 0.0 or self.difference.high < 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Results of both settings, the paired differences by workload, and that of the busiest resource's utilization."""

    first: Results
    second: Results
    differences: dict[str, tuple[Difference, ...]]
    utilization: Difference
    cost_difference_per_hour: float


def compare(
    first: System, second: System, settings: Settings | None = None, metrics: Sequence[str] = METRICS
) -> Comparison:
    """Simulate two systems with the same seed and pair their replications.

    Workloads are paired by name; raises UsageError where the systems share none, or where there is one replication.
    """
    settings = settings or Settings()
    one, other = Experiment(first, settings), Experiment(second, settings)
    other.seed = one.seed
    one.planned = other.planned = max(one.planned, other.planned)
    if one.planned < 2:
        raise UsageError("a comparison pairs replications: it needs at least two (-r)")
    one.duration = other.duration = max(one.duration, other.duration)
    results = finish(one), finish(other)
    while len(one.replications) != len(other.replications):
        shorter = min(one, other, key=lambda each: len(each.replications))
        shorter.extend(max(len(one.replications), len(other.replications)))
        results = replace(one.results(), wall_s=results[0].wall_s), replace(other.results(), wall_s=results[1].wall_s)
    shared = [name for name in first.workloads if name in second.workloads]
    if not shared:
        raise UsageError("the two settings have no workload in common")
    differences = {
        name: tuple(_of_workload(one, other, results, parse_metric(text).name, name) for text in metrics)
        for name in shared
    }
    utilization = _difference(one, other, Metric(name="utilization"))
    cost = second.cost_per_hour - first.cost_per_hour
    return Comparison(results[0], results[1], differences, utilization, cost)


def _of_workload(
    one: Experiment, other: Experiment, results: tuple[Results, Results], name: str, workload: str
) -> Difference:
    """The difference of a workload's metric, without a latency that it does not have."""
    found = _difference(one, other, Metric(name=name, workload=workload))
    stable = [each.workloads[workload].stable for each in results]
    if found.dimension != "duration" or all(stable):
        return found
    none = Estimate.without_interval(math.nan)
    first, second = (
        value if steady else none for value, steady in zip((found.first, found.second), stable, strict=True)
    )
    return replace(found, first=first, second=second, difference=none, ratio=none)


def _difference(one: Experiment, other: Experiment, metric: Metric) -> Difference:
    """The paired difference, its intervals widened by what sketched quantiles may be off by."""
    confidence = one.system.run.confidence
    first = statistic(metric, one.sections, one.program)
    second = statistic(metric, other.sections, other.program)
    difference = _without_rounding(paired_difference(first.sections, second.sections, confidence), first.pooled)
    ratio = paired_ratio(first.sections, second.sections, confidence)
    error = max(first.relative_error, second.relative_error)
    off, factor = error * (first.pooled + second.pooled), (1.0 + error) / (1.0 - error)
    return Difference(
        metric=metric.name,
        dimension=metric.dimension,
        first=first.estimate(confidence),
        second=second.estimate(confidence),
        difference=replace(difference, low=difference.low - off, high=difference.high + off) if error else difference,
        ratio=replace(ratio, low=ratio.low / factor, high=ratio.high * factor),
    )


def _without_rounding(difference: Estimate, scale: float) -> Estimate:
    """Exactly nothing in place of what rounding left."""
    if max(abs(difference.value), abs(difference.low), abs(difference.high)) <= ROUNDING * abs(scale):
        return Estimate(0.0, 0.0, 0.0, difference.n)
    return difference
