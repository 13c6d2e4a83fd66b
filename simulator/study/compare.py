"""Comparison of two settings of a model, replication by replication under common random numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from simulator.errors import UsageError
from simulator.model.objective import Metric, parse_metric
from simulator.model.system import System
from simulator.results.cost import cost_per_hour, cost_per_request, has_conversations
from simulator.results.estimate import Estimate, paired_difference, paired_ratio
from simulator.results.metrics import applies, busiest, statistic, steady
from simulator.results.results import Results
from simulator.results.statistics import Statistic
from simulator.study.run import Experiment, Settings, finish

METRICS = (
    *("throughput", "error rate", "mean", "p50", "p95", "p99"),
    *("ttft mean", "ttft p50", "ttft p95", "ttft p99", "tpot mean", "tpot p99", "gap p99"),
    *("output tokens", "cached tokens"),
)
"""What is compared of every workload and stream of messages, those of tokens where it has some."""
ROUNDING = 1e-12
NOTHING = Estimate.without_interval(math.nan)


@dataclass(frozen=True, slots=True)
class Difference:
    """A metric under both settings, and what lies between: `difference` is second minus first, `ratio` second by first.

    Values are those of all replications pooled, the intervals of what lies between are over the pairs of replications.
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
    """Results of both settings, the paired differences by workload, and that of the busiest resource's utilization.

    `busiest` names that resource in both settings; where it is not the same, its utilizations have no difference.
    `differences` has streams of messages under names that begin with `messages.`. `cost` is that per hour, per million
    requests and, where all are conversations in both settings, per thousand of these; `cost_difference_per_hour` is
    the difference of what is rented alone.
    """

    first: Results
    second: Results
    differences: dict[str, tuple[Difference, ...]]
    busiest: tuple[str | None, str | None]
    utilization: Difference
    cost: tuple[Difference, ...]
    cost_difference_per_hour: float


def compare(
    first: System,
    second: System,
    settings: Settings | None = None,
    metrics: Sequence[str] = METRICS,
    more: Sequence[str] = (),
) -> Comparison:
    """Simulate two systems with the same seed and pair their replications.

    Workloads are paired by name, and `metrics` left out where they have no tokens. `more` are metrics that some of them
    must have. Raises UsageError where the systems share no workload, or where there is one replication.
    """
    settings = settings or Settings()
    asked, every = [_metric(text) for text in more], [_metric(text) for text in (*metrics, *more)]
    one, other = Experiment(first, settings, asked), Experiment(second, settings, asked)
    other.seed = one.seed
    one.planned = other.planned = max(one.planned, other.planned)
    if one.planned < 2:
        raise UsageError("a comparison pairs replications: it needs at least two (-r)")
    one.duration = other.duration = max(one.duration, other.duration)
    shared = _shared_workloads(one, other)
    results = finish(one), finish(other)
    while len(one.replications) != len(other.replications):
        shorter = min(one, other, key=lambda each: len(each.replications))
        shorter.extend(max(len(one.replications), len(other.replications)))
        results = replace(one.results(), wall_s=results[0].wall_s), replace(other.results(), wall_s=results[1].wall_s)
    pair = _Pair(one, other, results)
    return Comparison(
        first=results[0],
        second=results[1],
        differences={name: tuple(pair.of_workload(name, every)) for name in shared},
        busiest=pair.busiest(),
        utilization=pair.of_utilization(),
        cost=tuple(pair.of_cost()),
        cost_difference_per_hour=second.cost_per_hour - first.cost_per_hour,
    )


def _metric(text: str) -> Metric:
    try:
        return parse_metric(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _shared_workloads(one: Experiment, other: Experiment) -> list[str]:
    """Names of the workloads and streams of messages that both have; raises UsageError where no workload is."""
    if not set(one.system.workloads) & set(other.system.workloads):
        raise UsageError("the two settings have no workload in common")
    known = {other.program.workloads[number].name for number in (*other.program.senders, *other.program.streams)}
    names = [one.program.workloads[number].name for number in (*one.program.senders, *one.program.streams)]
    return [name for name in names if name in known]


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two experiments with the same replications, and their results."""

    one: Experiment
    other: Experiment
    results: tuple[Results, Results]

    def of_workload(self, workload: str, metrics: Sequence[Metric]) -> Iterator[Difference]:
        """The differences of a workload's metrics, without a latency that it does not have."""
        for metric in metrics:
            own = metric.model_copy(update={"workload": workload})
            if applies(own, self.one.program) and applies(own, self.other.program):
                yield self._where_steady(own)

    def _where_steady(self, metric: Metric) -> Difference:
        found = self.of_metric(metric)
        sides = zip((self.one, self.other), self.results, strict=True)
        stable = [steady(metric, side.program, results) for side, results in sides]
        if found.dimension != "duration" or all(stable):
            return found
        first, second = (
            value if each else NOTHING for value, each in zip((found.first, found.second), stable, strict=True)
        )
        return replace(found, first=first, second=second, difference=NOTHING, ratio=NOTHING)

    def of_metric(self, metric: Metric) -> Difference:
        """The difference of a metric."""
        first = statistic(metric, self.one.sections, self.one.program)
        second = statistic(metric, self.other.sections, self.other.program)
        return self._difference(str(metric.model_copy(update={"workload": None})), metric.dimension, first, second)

    def busiest(self) -> tuple[str | None, str | None]:
        """The busiest resource of both settings."""
        return busiest(self.one.sections, self.one.program)[0], busiest(self.other.sections, self.other.program)[0]

    def of_utilization(self) -> Difference:
        """The difference of the busiest resource's utilization; none where that is not the same one."""
        found = self.of_metric(Metric(name="utilization"))
        first, second = self.busiest()
        return found if first == second else replace(found, difference=NOTHING, ratio=NOTHING)

    def of_cost(self) -> Iterator[Difference]:
        """The differences of what an hour and what requests cost."""
        sides = [(each.system, each.program, each.sections) for each in (self.one, self.other)]
        yield self._difference("per hour", "price", *(cost_per_hour(*side) for side in sides))
        yield self._difference("per million requests", "money", *(cost_per_request(*side, 1e6) for side in sides))
        if all(has_conversations(program) for _, program, _ in sides):
            thousand = (cost_per_request(*side, 1e3) for side in sides)
            yield self._difference("per thousand conversations", "money", *thousand)

    def _difference(self, name: str, dimension: str, first: Statistic, second: Statistic) -> Difference:
        """The paired difference, its intervals widened by what sketched quantiles may be off by."""
        confidence = self.one.system.run.confidence
        pairs, pooled = (first.sections, second.sections), (first.pooled, second.pooled)
        difference = _without_rounding(paired_difference(*pairs, confidence, pooled), first.pooled)
        ratio = paired_ratio(*pairs, confidence, pooled)
        error = max(first.relative_error, second.relative_error)
        off, factor = error * (first.pooled + second.pooled), (1.0 + error) / (1.0 - error)
        if error:
            difference = replace(difference, low=difference.low - off, high=difference.high + off)
        return Difference(
            metric=name,
            dimension=dimension,
            first=first.estimate(confidence),
            second=second.estimate(confidence),
            difference=difference,
            ratio=replace(ratio, low=ratio.low / factor, high=ratio.high * factor),
        )


def _without_rounding(difference: Estimate, scale: float) -> Estimate:
    """Exactly nothing in place of what rounding left."""
    if max(abs(difference.value), abs(difference.low), abs(difference.high)) <= ROUNDING * abs(scale):
        return Estimate(0.0, 0.0, 0.0, difference.n)
    return difference
