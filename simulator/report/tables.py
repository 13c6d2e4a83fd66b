"""Tables for the terminal, at most 80 columns wide; functions return renderables and print nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from simulator import units
from simulator.analytic.demands import Facts, MessageFacts, WorkloadFacts
from simulator.calibration.validate import Comparison as Measured
from simulator.calibration.validate import Validation, mean_absolute_percentage_error
from simulator.model.system import System
from simulator.model.workload import Workload
from simulator.results.estimate import Estimate
from simulator.results.results import ComponentTime, ObjectiveResult, Results, WorkloadResult
from simulator.study.capacity import Capacity
from simulator.study.compare import Comparison, Difference

if TYPE_CHECKING:
    from rich.console import RenderableType

LEAST_SHARE = 0.0005
ROUNDING = 1e-9
MOST_ROWS = 20
NO_STEADY_STATE = "no steady state"


def _table(*headers: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for number, header in enumerate(headers):
        table.add_column(header, justify="left" if number == 0 else "right", overflow="fold")
    return table


def _lines(rows: Iterable[tuple[str, str]]) -> Table:
    """Labels and what there is to say about them, without a heading."""
    table = Table.grid(padding=(0, 2))
    for label, text in rows:
        table.add_row(label, Text(text, overflow="fold"))
    return table


def _heading(name: str) -> Text:
    return Text(name, style="bold", overflow="fold")


def interval(estimate: Estimate, dimension: str) -> str:
    """The interval alone, in the unit of the value."""
    shown = estimate.show(dimension)
    return shown[shown.index("[") :] if "[" in shown and "no interval" not in shown else "–"


def value(estimate: Estimate, dimension: str) -> str:
    """The value alone, with its unit."""
    if math.isinf(estimate.value):
        return NO_STEADY_STATE
    shown = estimate.show(dimension)
    return shown[: shown.index("[")].rstrip() if "[" in shown else shown


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def run_tables(results: Results) -> Iterable[RenderableType]:
    """Everything that `tpsim run` shows."""
    yield _heading(results.model)
    yield _lines(_what_was_run(results))
    yield from _findings(results)


def _findings(results: Results) -> Iterable[RenderableType]:
    for name, workload in results.workloads.items():
        yield _workload(name, workload, results.confidence)
        if workload.breakdown and workload.latency_s is not None:
            yield _breakdown(workload.breakdown, workload.latency_s["mean"].value)
    for name, stream in results.messages.items():
        yield _workload(f"messages {name}", stream, results.confidence, latency="age")
        if stream.breakdown and stream.latency_s is not None:
            yield _breakdown(stream.breakdown, stream.latency_s["mean"].value)
    yield _resources(results)
    if results.replicas:
        yield _replicas(results)
    if results.faults:
        yield _faults(results)
    if results.objectives:
        yield _objectives(results.objectives)
    yield _lines(_closing(results))


def _what_was_run(results: Results) -> Iterable[tuple[str, str]]:
    each = units.show(results.simulated_s / results.replications, "duration")
    yield "requests", f"{results.requests:,}"
    yield "simulated", f"{_counted(results.replications, 'replication')} of {each}"
    yield "warm-up", f"{units.show(results.warm_up_s, 'duration')} of each left out"
    yield "seed", f"{results.seed}, engine {results.engine}"
    if results.quantile_relative_error > 0.0:
        yield "quantiles", f"within {results.quantile_relative_error:.2%} of the requests', of which none is kept"


def _workload(name: str, workload: WorkloadResult, confidence: float, latency: str = "latency") -> Table:
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
        table.add_row(latency, NO_STEADY_STATE, "–")
        row("backlog growth", workload.backlog_growth_per_s, "rate")
    else:
        for metric, estimate in workload.latency_s.items():
            row(f"{latency} {'p99.9' if metric == 'p999' else metric}", estimate, "duration")
    if len(workload.operations) > 1 and workload.latency_s is not None:
        for operation, result in workload.operations.items():
            row(f"{operation} throughput", result.throughput_per_s, "rate")
            if result.latency_s is not None:
                row(f"{operation} p99", result.latency_s["p99"], "duration")
    return table


def _breakdown(breakdown: Mapping[str, ComponentTime], mean: float) -> Table:
    """The components by share of the mean latency; the smallest are summed up in one row."""
    table = _table("where the time goes", "waiting", "service", "share")
    parts = sorted(breakdown.items(), key=lambda item: -_spent(item[1]))
    shown = [part for part in parts if _spent(part[1]) >= LEAST_SHARE * mean][:MOST_ROWS]
    for component, time in shown:
        _time_row(table, component, time.wait_s.value, time.service_s.value, mean)
    rest = [time for _, time in parts[len(shown) :] if _spent(time) > 0.0]
    if rest:
        waiting = math.fsum(time.wait_s.value for time in rest)
        service = math.fsum(time.service_s.value for time in rest)
        _time_row(table, f"{len(rest)} more", waiting, service, mean)
    return table


def _time_row(table: Table, label: str, waiting: float, service: float, mean: float) -> None:
    share = f"{(waiting + service) / mean:.1%}" if mean else "–"
    shown = (units.show(time if time > ROUNDING * mean else 0.0, "duration") for time in (waiting, service))
    table.add_row(label, *shown, share)


def _spent(time: ComponentTime) -> float:
    return time.wait_s.value + time.service_s.value


def _resources(results: Results) -> Table:
    table = _table("resource", "utilization", "interval", "waiting")
    rows = [
        (name, resource)
        for name, resource in results.resources.items()
        if resource.arrivals_per_s.value > 0.0 and (resource.utilization or resource.hit_ratio)
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
                _number(resource.queue_mean.value),
            )
    if len(rows) > MOST_ROWS:
        table.add_row(f"{len(rows) - MOST_ROWS} more", "", "", "")
    return table


def _number(number: float) -> str:
    """Three significant digits without an exponent, as far as that goes; nothing below a thousandth."""
    if number < 0.0005:
        return "0"
    return f"{number:,.0f}" if 999.5 <= number < 1e9 else f"{number:.3g}"


def _replicas(results: Results) -> Table:
    table = _table("scaled service", "mean replicas", "interval")
    for name, replicas in results.replicas.items():
        table.add_row(name, value(replicas, "count"), interval(replicas, "count"))
    return table


def _faults(results: Results) -> Table:
    """The share of time that what a fault hits was up, and after scheduled ones the time until the system was, too."""
    table = _table("fault", "up", "interval", "recovery", "interval")
    for name, fault in results.faults.items():
        up = value(fault.availability, "fraction"), interval(fault.availability, "fraction")
        if fault.recovery_s is None:
            recovery = "–", "–"
        elif fault.recovered < fault.replications:
            recovery = f"not in {fault.replications - fault.recovered} of {fault.replications}", "–"
        else:
            recovery = value(fault.recovery_s, "duration"), interval(fault.recovery_s, "duration")
        table.add_row(name, *up, *recovery)
    return table


def _objectives(objectives: Sequence[ObjectiveResult]) -> Table:
    table = _table("objective", "value", "interval", "met")
    for objective in objectives:
        answer = "yes" if objective.met else "no"
        table.add_row(
            objective.name,
            value(objective.value, objective.dimension),
            "–" if math.isinf(objective.value.value) else interval(objective.value, objective.dimension),
            answer if objective.decided or math.isinf(objective.value.value) else f"{answer}, not surely",
        )
    return table


def _closing(results: Results) -> Iterable[tuple[str, str]]:
    for number, part in enumerate(results.verdict.split("; ")):
        yield "" if number else "verdict", part
    yield from _bottleneck(results)
    if results.cost.per_hour > 0.0:
        yield "cost", f"${results.cost.per_hour:,.2f} an hour"
        if math.isfinite(results.cost.per_million_requests.value):
            yield "", f"${results.cost.per_million_requests.show('count')} per million requests"
    if results.precision is not None:
        reached = "reached" if results.precision_reached else "NOT reached"
        replications = _counted(results.replications, "replication")
        yield "precision", f"{100.0 * results.precision:g} % {reached} with {replications}"
    for warning in results.warnings:
        yield "warning", warning


def _bottleneck(results: Results) -> Iterable[tuple[str, str]]:
    if results.bottleneck is None:
        return
    yield "bottleneck", results.bottleneck.resource
    yield "", f"busy {results.bottleneck.utilization.show('fraction')}"
    factor = results.bottleneck.saturation_factor
    if factor is not None and math.isfinite(factor):
        yield "", f"saturates at {factor:.3g} times this load"


def check_tables(
    model: str, facts: Facts, cost_per_hour: float, types: Iterable[tuple[str, str]] = ()
) -> Iterable[RenderableType]:
    """Everything that `tpsim check` shows; `types` says where the model names types of hardware, and what they are."""
    yield _heading(model)
    closing = [("model", "valid")]
    for workload in facts.workloads:
        yield _workload_facts(workload)
        demands = _demands(workload)
        if demands.row_count:
            yield demands
    for stream in facts.messages:
        yield _message_facts(stream)
    if facts.saturated_resource is not None and math.isfinite(facts.saturation_factor):
        closing += [
            ("saturates first", facts.saturated_resource),
            ("", f"at {facts.saturation_factor:.3g} times this load"),
            ("", f"with {units.show(facts.saturation_throughput, 'rate')} in all"),
        ]
    if cost_per_hour:
        closing.append(("cost", f"${cost_per_hour:,.2f} an hour"))
    yield _lines(closing)
    named = list(types)
    if named:
        yield _lines(named)


def _workload_facts(workload: WorkloadFacts) -> Table:
    table = _table(workload.workload, "without waiting")
    table.add_row("response time", units.show(workload.zero_load_response, "duration"))
    if workload.offered_per_s is not None:
        table.add_row("offered", units.show(workload.offered_per_s, "rate"))
    else:
        table.add_row("users", f"{workload.users:,}")
        table.add_row("think time", units.show(workload.think, "duration"))
    if workload.throughput_bound is not None:
        table.add_row("throughput at most", units.show(workload.throughput_bound, "rate"))
    if workload.saturation_users is not None:
        table.add_row("users from which some wait", _number(workload.saturation_users))
    return table


def _message_facts(stream: MessageFacts) -> Table:
    table = _table(stream.stream.replace(".", " ", 1), "without waiting")
    table.add_row("age", units.show(stream.zero_load_age, "duration"))
    if stream.published_per_s is not None:
        table.add_row("published", units.show(stream.published_per_s, "rate"))
    for workload, number in stream.per_request.items():
        table.add_row(f"per request of {workload}", f"{number:.3g}")
    return table


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
        yield _heading(workload)
        yield _differences(differences)
    first, second = comparison.first, comparison.second
    yield _heading("busiest resource")
    yield _differences([comparison.utilization])
    busiest = [each.bottleneck.resource for each in (first, second) if each.bottleneck is not None]
    lines = [("" if number else "resource", name) for number, name in enumerate(dict.fromkeys(busiest))]
    lines += [("first", first.verdict), ("second", second.verdict)]
    lines.append(("cost", f"${first.cost.per_hour:,.2f} and ${second.cost.per_hour:,.2f} an hour"))
    lines.append(("pairs", f"{_counted(first.replications, 'replication')} under the same random numbers"))
    yield _lines(lines)


def _differences(differences: Iterable[Difference]) -> Table:
    table = _table("metric", "first", "second", "difference", "interval", "ratio", "differs")
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


def validation_tables(validation: Validation) -> Iterable[RenderableType]:
    """Everything that `tpsim validate` shows: what was predicted and by how much it was off, group by group."""
    for metric in dict.fromkeys(each.metric for each in validation.comparisons):
        yield _heading(metric)
        yield _comparisons([each for each in validation.comparisons if each.metric == metric])
    yield _lines([*_mean_errors(validation), ("interval", "of the simulation alone; the error is the model's")])


def _comparisons(comparisons: Sequence[Measured]) -> Table:
    columns = list(comparisons[0].row)
    table = _table(*columns, "measured", "predicted", "interval", "error", "fitted")
    for each in comparisons:
        measured = Estimate(each.measured, each.measured, each.measured, 1)
        table.add_row(
            *(each.row[column] for column in columns),
            value(measured, each.dimension),
            value(each.predicted, each.dimension),
            interval(each.predicted, each.dimension),
            "–" if math.isnan(each.error) else f"{each.error:+.1%}",
            "yes" if each.fitted else "no",
        )
    return table


def _mean_errors(validation: Validation) -> Iterable[tuple[str, str]]:
    for label, group in (("held out", validation.held_out), ("fitted", validation.fitted)):
        predicted = [each for each in group if not math.isnan(each.error)]
        if predicted:
            worst = max(predicted, key=lambda each: abs(each.error))
            error = mean_absolute_percentage_error(predicted)
            number = _counted(len(predicted), "number")
            yield label, f"mean absolute error {error:.1%} over {number}, worst {worst.error:+.1%}"
        if len(predicted) < len(group):
            yield label, f"{_counted(len(group) - len(predicted), 'number')} without a prediction"


def capacity_tables(answer: Capacity, system: System) -> Iterable[RenderableType]:
    """Everything that `tpsim capacity` shows."""
    factor = answer.factor
    yield _heading(system.name)
    table = _table("largest load that meets every objective", "value", "surely between")
    table.add_row("times the model's load", f"{factor.value:.3g}", _between(factor.low, factor.high))
    for name, workload in system.workloads.items():
        table.add_row(name, *_load(workload, factor))
    yield table
    yield _lines([("above it", answer.limit), ("tried", _counted(len(answer.trials), "load"))])
    yield _heading("at that load")
    yield _lines(_what_was_run(answer.at_limit))
    yield from _findings(answer.at_limit)


def _load(workload: Workload, factor: Estimate) -> tuple[str, str]:
    """A workload's load at the limit, and its interval."""
    if workload.users is not None:
        users = workload.users
        value, low, high = (users * each for each in (factor.value, factor.low, factor.high))
        return f"{max(round(value), 1):,} users", _between(round(low), round(high) if math.isfinite(high) else high)
    arrivals = workload.open_arrivals()
    assert arrivals is not None
    value, low, high = (arrivals.mean_rate * each for each in (factor.value, factor.low, factor.high))
    return f"{value:.4g}/s", _between(low, high)


def _between(low: float, high: float) -> str:
    top = f"{high:.4g}" if math.isfinite(high) else "?"
    return f"[{low:.4g}, {top}]"


def models_tables(models: Iterable[tuple[str, str]], hardware: Iterable[tuple[str, str]]) -> Iterable[RenderableType]:
    """Names and descriptions of models, and what the hardware catalogue has."""
    yield _lines(models)
    yield _lines(hardware)
