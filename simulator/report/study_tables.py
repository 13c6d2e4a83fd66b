"""Tables of comparisons and of searches for capacity."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.table import Table

from simulator.model.system import System
from simulator.model.workload import Workload
from simulator.report.layout import counted, heading, interval, lines_of, table_of, value
from simulator.report.tables import cost_lines, findings, what_was_run
from simulator.results.estimate import Estimate
from simulator.study.capacity import Capacity
from simulator.study.compare import Comparison, Difference
from simulator.study.size import Size

if TYPE_CHECKING:
    from rich.console import RenderableType

SIGNIFICANT = 4


def compare_tables(comparison: Comparison) -> Iterable[RenderableType]:
    """Everything that `tpsim compare` shows."""
    for workload, differences in comparison.differences.items():
        yield heading(workload)
        yield _differences(differences)
    first, second = comparison.first, comparison.second
    if first.llms or second.llms or first.cost.usage_per_hour.value + second.cost.usage_per_hour.value > 0.0:
        yield heading("cost")
        yield _differences(comparison.cost)
    yield heading("busiest resource")
    yield _differences(_by_resource(comparison), "utilization")
    lines = [("first", first.verdict), ("second", second.verdict)]
    if first.cost.usage_per_hour.value + second.cost.usage_per_hour.value == 0.0:
        lines.append(("cost", f"${first.cost.per_hour:,.2f} and ${second.cost.per_hour:,.2f} an hour"))
    lines.append(("pairs", f"{counted(first.replications, 'replication')} under the same random numbers"))
    yield lines_of(lines)


def _by_resource(comparison: Comparison) -> Iterable[Difference]:
    """The busiest resource's utilization under its name; in lines of their own where the settings' are not the same."""
    found, (first, second) = comparison.utilization, comparison.busiest
    none = Estimate.without_interval(math.nan)
    if first == second:
        yield replace(found, metric=first or "none")
        return
    yield replace(found, metric=first or "none", second=none)
    yield replace(found, metric=second or "none", first=none)


def _differences(differences: Iterable[Difference], label: str = "metric") -> Table:
    table = table_of(label, "first", "second", "difference", "interval", "ratio", "differs")
    for each in differences:
        steady = not (math.isnan(each.first.value) or math.isnan(each.second.value))
        table.add_row(
            each.metric,
            _side(each.first, each.dimension),
            _side(each.second, each.dimension),
            value(each.difference, each.dimension) if steady else "–",
            interval(each.difference, each.dimension),
            f"{each.ratio.value:.3g}" if math.isfinite(each.ratio.value) else "–",
            _mark(each),
        )
    return table


def _side(estimate: Estimate, dimension: str) -> str:
    return "–" if math.isnan(estimate.value) else value(estimate, dimension)


def _mark(difference: Difference) -> str:
    """Whether the interval shows a difference: not where it holds zero."""
    if difference.significant:
        return "yes"
    found = difference.difference
    if math.isnan(found.low):
        return "–"
    return "no" if found.low == found.high == 0.0 else "unsure"


def capacity_tables(answer: Capacity, system: System) -> Iterable[RenderableType]:
    """Everything that `tpsim capacity` shows."""
    factor = answer.factor
    yield heading(system.name)
    table = table_of("largest load that meets every objective", "value", "surely between")
    decimals = _decimals(factor.value)
    table.add_row("times the model's load", f"{factor.value:.{decimals}f}", _between(factor.low, factor.high, decimals))
    for name, workload in system.workloads.items():
        table.add_row(name, *_load(workload, factor))
    yield table
    yield lines_of([("above it", answer.limit), ("tried", counted(len(answer.trials), "load"))])
    yield heading("at that load")
    yield lines_of(what_was_run(answer.at_limit))
    yield from findings(answer.at_limit)


def _load(workload: Workload, factor: Estimate) -> tuple[str, str]:
    """A workload's load at the limit, and its interval."""
    if workload.users is not None:
        users = workload.users
        value, low, high = (users * each for each in (factor.value, factor.low, factor.high))
        return f"{max(round(value), 1):,} users", _between(low, high, 0)
    arrivals = workload.open_arrivals()
    assert arrivals is not None
    value, low, high = (arrivals.mean_rate * each for each in (factor.value, factor.low, factor.high))
    decimals = _decimals(value)
    return f"{value:,.{decimals}f}/s", _between(low, high, decimals)


def _decimals(value: float) -> int:
    """Decimals with which a load shows four significant digits; its bounds get as many, so that they hold it."""
    return max(0, SIGNIFICANT - 1 - math.floor(math.log10(value)))


def _between(low: float, high: float, decimals: int) -> str:
    if math.isinf(low):
        return "–"
    top = f"{high:,.{decimals}f}" if math.isfinite(high) else "?"
    return f"[{low:,.{decimals}f}, {top}]"


def size_tables(answer: Size) -> Iterable[RenderableType]:
    """Everything that `tpsim capacity --vary` shows."""
    number, cost = answer.number, answer.results.cost
    yield heading(answer.results.model)
    table = table_of("smallest number that meets every objective", "value", "surely between")
    found = f"{number.value:.0f}" if answer.reachable else "none"
    table.add_row(answer.field, found, _between(number.low, number.high, 0))
    yield table
    lines = []
    if answer.below is not None:
        lines += [(f"with {answer.below}" if not n else "", each) for n, each in enumerate(answer.broken.split("; "))]
    lines.append(("tried", ", ".join(_tried(*trial) for trial in sorted(answer.trials))))
    yield lines_of([*lines, *(cost_lines(cost) if answer.reachable else ())])
    largest = max(number for number, _, _ in answer.trials)
    yield heading("with that number" if answer.reachable else f"with {largest}, the largest tried")
    yield lines_of(what_was_run(answer.results))
    yield from findings(answer.results)


def _tried(number: int, met: bool, decided: bool) -> str:
    return f"{number} {'yes' if met else 'no'}{'' if decided else ', not surely'}"
