"""Tables for the terminal, at most 80 columns wide; functions return renderables and print nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from simulator import units
from simulator.analytic.demands import Facts, WorkloadFacts
from simulator.calibration.validate import Validation, mean_absolute_percentage_error
from simulator.results.estimate import Estimate
from simulator.results.results import ComponentTime, Results, WorkloadResult
from simulator.study.capacity import Capacity
from simulator.study.compare import Comparison

if TYPE_CHECKING:
    from rich.console import RenderableType

LEAST_SHARE = 0.0005
MOST_ROWS = 20


def _table(*headers: str, title: str | None = None) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for number, header in enumerate(headers):
        table.add_column(header, justify="left" if number == 0 else "right", overflow="fold")
    return table


def interval(estimate: Estimate, dimension: str) -> str:
    """The interval alone, in the unit of the value."""
    shown = estimate.show(dimension)
    return shown[shown.index("[") :] if "[" in shown else "–"


def value(estimate: Estimate, dimension: str) -> str:
    """The value alone, with its unit."""
    shown = estimate.show(dimension)
    return shown[: shown.index("[")].rstrip() if "[" in shown else shown


def run_tables(results: Results) -> Iterable[RenderableType]:
    """Everything that `tpsim run` shows."""
    yield _heading(results)
    for name, workload in results.workloads.items():
        yield _workload(name, workload, results.confidence)
        if workload.breakdown and workload.latency_s is not None:
            yield _breakdown(workload.breakdown, workload.latency_s["mean"].value)
    yield _resources(results)
    if results.objectives:
        yield _objectives(results)
    yield _closing(results)


def _heading(results: Results) -> Text:
    per_replication = units.show(results.simulated_s / results.replications, "duration")
    warm_up = units.show(results.warm_up_s, "duration")
    text = Text(results.model, style="bold")
    text.append(
        f"\n{results.requests:,} requests in {results.replications} replication(s) of {per_replication}, "
        f"of which {warm_up} warm-up left out; seed {results.seed}, engine {results.engine}",
        style="not bold",
    )
    return text


def _workload(name: str, workload: WorkloadResult, confidence: float) -> Table:
    table = _table(name, "value", f"{confidence:.0%} interval")

    def row(label: str, estimate: Estimate, dimension: str) -> None:
        table.add_row(label, value(estimate, dimension), interval(estimate, dimension))

    row("offered", workload.offered_per_s, "rate")
    row("throughput", workload.throughput_per_s, "rate")
    row("error rate", workload.error_rate, "fraction")
    for reason, share in workload.errors.items():
        row(f"  {reason}", share, "fraction")
    if workload.retries_per_request.value > 0.0:
        row("retries per request", workload.retries_per_request, "count")
    if workload.latency_s is None:
        table.add_row("latency", "none", "no steady state")
        row("backlog growth", workload.backlog_growth_per_s, "rate")
    else:
        for metric, estimate in workload.latency_s.items():
            row(f"latency {'p99.9' if metric == 'p999' else metric}", estimate, "duration")
    if len(workload.operations) > 1 and workload.latency_s is not None:
        for operation, result in workload.operations.items():
            row(f"{operation} throughput", result.throughput_per_s, "rate")
            if result.latency_s is not None:
                row(f"{operation} p99", result.latency_s["p99"], "duration")
    return table


def _breakdown(breakdown: Mapping[str, ComponentTime], mean: float) -> Table:
    """The components by share of the mean latency; the smallest are summed up in one row."""
    table = _table("where the time goes", "waiting", "service", "share")
    parts = sorted(breakdown.items(), key=lambda item: -(item[1].wait_s.value + item[1].service_s.value))
    shown = [part for part in parts if _spent(part[1]) >= LEAST_SHARE * mean][:MOST_ROWS]
    for component, time in shown:
        table.add_row(
            component,
            units.show(time.wait_s.value, "duration"),
            units.show(time.service_s.value, "duration"),
            f"{_spent(time) / mean:.1%}" if mean else "–",
        )
    return table


def _spent(time: ComponentTime) -> float:
    return time.wait_s.value + time.service_s.value


def _resources(results: Results) -> Table:
    table = _table("resource", "utilization", "interval", "waiting")
    rows = [
        (name, resource)
        for name, resource in results.resources.items()
        if resource.utilization is not None or resource.hit_ratio is not None
    ]
    rows.sort(key=lambda item: -(item[1].utilization.value if item[1].utilization else 0.0))
    for name, resource in rows[:MOST_ROWS]:
        label = name if resource.instances == 1 else f"{name} x{resource.instances}"
        if resource.hit_ratio is not None:
            shown = value(resource.hit_ratio, "fraction") + " hits"
            table.add_row(label, shown, interval(resource.hit_ratio, "fraction"), "–")
        elif resource.utilization is not None:
            table.add_row(
                label,
                value(resource.utilization, "fraction"),
                interval(resource.utilization, "fraction"),
                f"{resource.queue_mean.value:.3g}",
            )
    if len(rows) > MOST_ROWS:
        table.add_row(f"... and {len(rows) - MOST_ROWS} more", "", "", "")
    return table


def _objectives(results: Results) -> Table:
    table = _table("objective", "value", "interval", "met")
    for objective in results.objectives:
        answer = "yes" if objective.met else "no"
        if not objective.decided:
            answer += ", not surely"
        table.add_row(
            objective.name,
            value(objective.value, objective.dimension),
            interval(objective.value, objective.dimension),
            answer,
        )
    return table


def _closing(results: Results) -> Text:
    lines = [f"verdict     {results.verdict}"]
    if results.bottleneck is not None:
        line = f"bottleneck  {results.bottleneck.resource}, {results.bottleneck.utilization.show('fraction')} busy"
        factor = results.bottleneck.saturation_factor
        if factor is not None and math.isfinite(factor):
            line += f", saturates at {factor:.3g} times this load"
        lines.append(line)
    if results.cost.per_hour > 0.0:
        per_million = results.cost.per_million_requests.show("count")
        lines.append(f"cost        ${results.cost.per_hour:,.2f}/h; per million requests, in $: {per_million}")
    if results.precision is not None:
        reached = "reached" if results.precision_reached else "NOT reached"
        lines.append(f"precision   {results.precision:.2%} {reached} with {results.replications} replications")
    lines += [f"warning     {warning}" for warning in results.warnings]
    return Text("\n".join(lines))


def check_tables(facts: Facts, cost_per_hour: float) -> Iterable[RenderableType]:
    """Everything that `tpsim check` shows."""
    for workload in facts.workloads:
        table = _table(f"workload {workload.workload}", "per request")
        table.add_row("zero-load response time", units.show(workload.zero_load_response, "duration"))
        if workload.offered_per_s is not None:
            table.add_row("offered", units.show(workload.offered_per_s, "rate"))
        else:
            table.add_row("users", f"{workload.users:,}")
            table.add_row("think time", units.show(workload.think, "duration"))
        if workload.throughput_bound is not None:
            table.add_row("throughput at most", units.show(workload.throughput_bound, "rate"))
        if workload.saturation_users is not None:
            table.add_row("users that saturate it", f"{workload.saturation_users:,.1f}")
        if workload.saturated_resource is not None:
            table.add_row("saturates first", workload.saturated_resource)
        yield table
        yield _demands(workload)
    lines = []
    if facts.saturated_resource is not None and math.isfinite(facts.saturation_factor):
        lines.append(
            f"saturates first: {facts.saturated_resource}, at {facts.saturation_factor:.3g} times this load "
            f"({units.show(facts.saturation_throughput, 'rate')})"
        )
    if cost_per_hour:
        lines.append(f"cost: ${cost_per_hour:,.2f}/h")
    if lines:
        yield Text("\n".join(lines))


def _demands(workload: WorkloadFacts) -> Table:
    """What a request asks of each resource, and the rate of such requests alone that would saturate it."""
    table = _table("resource", "visits", "demand", "capacity", "saturates at")
    for demand in sorted(workload.demands, key=lambda each: each.saturation):
        if demand.visits > 0.0 and math.isfinite(demand.capacity):
            table.add_row(
                demand.resource,
                f"{demand.visits:.3g}",
                f"{demand.demand:.4g}",
                f"{demand.capacity:.4g}/s",
                units.show(demand.saturation, "rate"),
            )
    return table


def compare_tables(comparison: Comparison) -> Iterable[RenderableType]:
    """Everything that `tpsim compare` shows."""
    for workload, differences in comparison.differences.items():
        table = _table(workload, "first", "second", "difference", "ratio")
        for each in differences:
            mark = "" if each.significant else " (not sure)"
            table.add_row(
                each.metric,
                value(each.first, each.dimension),
                value(each.second, each.dimension),
                each.difference.show(each.dimension) + mark,
                f"{each.ratio.value:.3g}" if each.ratio.value == each.ratio.value else "–",
            )
        yield table
    yield Text(
        f"cost: ${comparison.first.cost.per_hour:,.2f}/h and ${comparison.second.cost.per_hour:,.2f}/h; "
        f"verdicts: {comparison.first.verdict}; {comparison.second.verdict}"
    )


def validation_tables(validation: Validation) -> Iterable[RenderableType]:
    """Everything that `tpsim validate` shows: a row for each measurement, then the mean error of each group."""
    columns = list(validation.comparisons[0].row)
    table = _table(*columns, "", "measured", "predicted", "interval", "error")
    for each in validation.comparisons:
        table.add_row(
            *(each.row[column] for column in columns),
            "fitted" if each.fitted else "held out",
            value(Estimate(each.measured, each.measured, each.measured, 1), each.dimension),
            value(each.predicted, each.dimension),
            interval(each.predicted, each.dimension),
            f"{each.error:+.1%}",
        )
    yield table
    lines = []
    for label, group in (("held out", validation.held_out), ("fitted", validation.fitted)):
        if group:
            worst = max(group, key=lambda each: abs(each.error))
            error = mean_absolute_percentage_error(group)
            lines.append(f"{label}: mean absolute error {error:.1%} over {len(group)} rows, worst {worst.error:+.1%}")
    yield Text("\n".join(lines))


def capacity_tables(answer: Capacity, base_rates: Mapping[str, float | int]) -> Iterable[RenderableType]:
    """Everything that `tpsim capacity` shows, except the run at the limit."""
    table = _table("largest load that meets every objective", "value", "between")
    factor = answer.factor
    table.add_row("times the model's load", f"{factor.value:.3g}", _between(factor.low, factor.high, ""))
    for name, base in base_rates.items():
        whole = isinstance(base, int)
        unit = " users" if whole else "/s"
        shown = f"{base * factor.value:.4g}{unit}"
        table.add_row(name, shown, _between(base * factor.low, base * factor.high, unit))
    yield table
    yield Text(f"above it breaks: {answer.limit}")


def _between(low: float, high: float, unit: str) -> str:
    top = f"{high:.4g}" if math.isfinite(high) else "?"
    return f"[{low:.4g}, {top}]{unit}"
