"""Tables for the terminal, at most 80 columns wide; functions return renderables and print nothing."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from rich.table import Table

from simulator import units
from simulator.analytic.demands import Facts, MessageFacts, WorkloadFacts
from simulator.analytic.limits import LimitFacts, rate_text
from simulator.calibration.validate import Comparison as Measured
from simulator.calibration.validate import Validation, mean_absolute_percentage_error
from simulator.report.gateway_tables import gateway_tables
from simulator.report.layout import (
    NO_STEADY_STATE,
    counted,
    estimate_row,
    heading,
    interval,
    lines_of,
    number_text,
    table_of,
    value,
)
from simulator.report.token_tables import llm_table, token_table
from simulator.results.estimate import Estimate
from simulator.results.results import ComponentTime, Cost, ObjectiveResult, Results, WorkloadResult

if TYPE_CHECKING:
    from rich.console import RenderableType

LEAST_SHARE = 0.0005
ROUNDING = 1e-9
MOST_ROWS = 20
HELD = ("pool", "keyedlocks")
"""Kinds of stations that requests hold while they wait for others, so for longer the higher the load."""


def run_tables(results: Results) -> Iterable[RenderableType]:
    """Everything that `tpsim run` shows."""
    yield heading(results.model)
    yield lines_of(what_was_run(results))
    yield from findings(results)


def findings(results: Results) -> Iterable[RenderableType]:
    """Everything that a simulation found."""
    for name, workload in results.workloads.items():
        yield from _about(name, workload, results.confidence, "latency")
    for name, stream in results.messages.items():
        yield from _about(f"messages {name}", stream, results.confidence, "age")
    for name, llm in results.llms.items():
        yield llm_table(name, llm, results.confidence)
    for name, gateway in results.gateways.items():
        yield from gateway_tables(name, gateway, results.confidence)
    yield _resources(results)
    if results.replicas:
        yield _replicas(results)
    if results.faults:
        yield _faults(results)
    if results.objectives:
        yield _objectives(results.objectives)
    yield lines_of(_closing(results))


def what_was_run(results: Results) -> Iterable[tuple[str, str]]:
    """Lines about the simulation itself."""
    each = units.show(results.simulated_s / results.replications, "duration")
    yield "requests", f"{results.requests:,}"
    yield "simulated", f"{counted(results.replications, 'replication')} of {each}"
    if results.replayed_s is not None:
        yield (
            "measured",
            f"{units.show(results.replayed_s, 'duration')} of each, {_from(results)} to {_until(results)}",
        )
    if results.replayed_s is None or results.warm_up_s > 0.0:
        yield "warm-up", f"{units.show(results.warm_up_s, 'duration')} of each left out"
    yield "seed", f"{results.seed}, engine {results.engine}"
    if results.quantile_relative_error > 0.0:
        yield "quantiles", f"within {results.quantile_relative_error:.2%} of the requests', of which none is kept"


def _from(results: Results) -> str:
    return "after the warm-up" if results.warm_up_s > 0.0 else "from the first arrival"


def _until(results: Results) -> str:
    return "the end of the run" if results.replay_cut_off else "the last completion"


def _about(name: str, workload: WorkloadResult, confidence: float, latency: str) -> Iterable[RenderableType]:
    """A workload, or a stream of messages, and where its time goes."""
    yield _workload(name, workload, confidence, latency)
    if workload.breakdown and workload.latency_s is not None:
        yield _breakdown(workload.breakdown, workload.latency_s["mean"].value)
    if workload.tokens is not None:
        yield token_table(name, workload.tokens, workload.stable, confidence)


def _workload(name: str, workload: WorkloadResult, confidence: float, latency: str) -> Table:
    table = table_of(name, "value", f"{confidence:.0%} interval")

    row = partial(estimate_row, table)
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
    table = table_of("where the time goes", "waiting", "service", "share")
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
    table = table_of("resource", "utilization", "interval", "waiting")
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
                number_text(resource.queue_mean.value),
            )
    if len(rows) > MOST_ROWS:
        table.add_row(f"{len(rows) - MOST_ROWS} more", "", "", "")
    return table


def _replicas(results: Results) -> Table:
    table = table_of("scaled service", "mean replicas", "interval")
    for name, replicas in results.replicas.items():
        table.add_row(name, value(replicas, "count"), interval(replicas, "count"))
    return table


def _faults(results: Results) -> Table:
    """The share of time that what a fault hits was up, and after scheduled ones the time until the system was, too."""
    table = table_of("fault", "up", "interval", "recovery", "interval")
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
    table = table_of("objective", "value", "interval", "met")
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
    yield from cost_lines(results.cost)
    if results.precision is not None:
        reached = "reached" if results.precision_reached else "NOT reached"
        replications = counted(results.replications, "replication")
        yield "precision", f"{100.0 * results.precision:g} % {reached} with {replications}"
    for warning in results.warnings:
        yield "warning", warning


def cost_lines(cost: Cost) -> Iterable[tuple[str, str]]:
    """What an hour costs, and what requests do."""
    label = "cost"
    if cost.per_hour > 0.0:
        yield label, f"${cost.per_hour:,.2f} an hour"
        label = ""
    if cost.usage_per_hour.value > 0.0:
        yield label, f"{cost.usage_per_hour.show('money')} an hour for tokens"
        label = ""
    if label == "cost":
        return
    if math.isfinite(cost.per_million_requests.value):
        yield "", f"${cost.per_million_requests.show('count')} per million requests"
    if cost.per_thousand_conversations is not None and math.isfinite(cost.per_thousand_conversations.value):
        yield "", f"{cost.per_thousand_conversations.show('money')} per thousand conversations"


def _bottleneck(results: Results) -> Iterable[tuple[str, str]]:
    if results.bottleneck is None:
        yield "bottleneck", "none"
        return
    found, factor = results.bottleneck, results.bottleneck.saturation_factor
    yield "bottleneck", found.limit or found.resource
    if found.rejected is not None:
        yield "", f"rejects {found.rejected.show('fraction')} of what comes to it"
    elif found.limit is not None:
        yield "", f"{found.utilization.show('fraction')} of what it lets through is taken"
    else:
        instances = results.resources[found.resource].instances
        which = f", the busiest of {instances}" if instances > 1 else ""
        yield "", f"busy {found.utilization.show('fraction')}{which}"
    if factor is not None and math.isfinite(factor):
        kind = results.resources[found.resource].kind
        bound = _bound(_at_the_latest(kind), " at the earliest" if found.asked_less else "")
        yield "", f"{'reached' if found.limit else 'saturates'} at {factor:.3g} times this load{bound}"


def _bound(latest: str, earliest: str) -> str:
    """What to add to a multiple of the load that is a bound; nothing where it would be both, and so is none."""
    return "" if latest and earliest else latest or earliest


def _at_the_latest(kind: str) -> str:
    """What to add to where a resource saturates that requests hold while they wait for others."""
    return " at the latest" if kind in HELD else ""


def check_tables(
    model: str, facts: Facts, cost_per_hour: float, types: Iterable[tuple[str, str]] = ()
) -> Iterable[RenderableType]:
    """Everything that `tpsim check` shows; `types` says where the model names types of hardware, and what they are."""
    yield heading(model)
    closing = [("model", "valid")]
    for workload in facts.workloads:
        yield _workload_facts(workload)
        demands = _demands(workload, [limit.resource for limit in facts.limits])
        if demands.row_count:
            yield demands
    for stream in facts.messages:
        yield _message_facts(stream)
    if facts.limits:
        yield _limits(facts.limits)
    names = {limit.resource: limit.name for limit in facts.limits}
    if facts.saturated_resource is not None and math.isfinite(facts.saturation_factor):
        load = "this load" if facts.busy_resource is None else "the open load alone"
        kind = next(each.kind for each in facts.resources if each.resource == facts.saturated_resource)
        closing += [
            ("saturates first", names.get(facts.saturated_resource, facts.saturated_resource)),
            ("", f"at {facts.saturation_factor:.3g} times {load}{_at_the_latest(kind)}"),
            ("", f"with {units.show(facts.saturation_throughput, 'rate')} in all"),
        ]
    if facts.busy_resource is not None and math.isfinite(facts.busy_factor):
        closing += [
            ("with the users", f"{names.get(facts.busy_resource, facts.busy_resource)} is busy all the time"),
            ("", f"from {facts.busy_factor:.3g} times all of this load on at the earliest"),
        ]
    if cost_per_hour:
        closing.append(("cost", f"${cost_per_hour:,.2f} an hour"))
    yield lines_of(closing)
    named = list(types)
    if named:
        yield lines_of(named)


def _workload_facts(workload: WorkloadFacts) -> Table:
    table = table_of(workload.workload, "without waiting")
    table.add_row("response time", units.show(workload.zero_load_response, "duration"))
    if workload.offered_per_s is not None:
        table.add_row("offered", units.show(workload.offered_per_s, "rate"))
    else:
        table.add_row("users", f"{workload.users:,}")
        table.add_row("think time", units.show(workload.think, "duration"))
    if workload.throughput_bound is not None:
        table.add_row("throughput at most", units.show(workload.throughput_bound, "rate"))
    if workload.saturation_users is not None:
        table.add_row("users from which some wait", number_text(workload.saturation_users))
    return table


def _message_facts(stream: MessageFacts) -> Table:
    table = table_of(stream.stream.replace(".", " ", 1), "without waiting")
    table.add_row("age", units.show(stream.zero_load_age, "duration"))
    if stream.published_per_s is not None:
        table.add_row("published", units.show(stream.published_per_s, "rate"))
    for workload, number in stream.per_request.items():
        table.add_row(f"per request of {workload}", f"{number:.3g}")
    return table


def _limits(limits: Sequence[LimitFacts]) -> Table:
    """What limits let through, and how much of it is expected to be asked for."""
    table = table_of("limit of", "allows", "expected", "reached at")
    for limit in limits:
        expected, reached = "–", "–"
        if limit.expected_per_s > 0.0:
            expected, _, _ = rate_text(limit.expected_per_s, limit.unit).partition(" ")
            reached = f"{limit.saturation_factor:.3g} times this load"
        table.add_row(limit.whose, rate_text(limit.per_s, limit.unit), expected, reached)
    return table


def _demands(workload: WorkloadFacts, limits: Collection[str]) -> Table:
    """What a request asks of each resource but limits, and the rate of such requests alone that would saturate it."""
    table = table_of("resource", "visits", "demand", "capacity", "saturates at")
    for demand in sorted(workload.demands, key=lambda each: each.saturation):
        if demand.visits > 0.0 and math.isfinite(demand.capacity) and demand.resource not in limits:
            table.add_row(
                demand.resource,
                f"{demand.visits:.3g}",
                _work(demand.demand, demand.unit),
                _capacity(demand.capacity, demand.unit),
                units.show(demand.saturation, "rate"),
            )
    return table


def _work(amount: float, unit: str) -> str:
    """Work of a station in a unit of `Demand`."""
    if unit == "B s":
        return f"{units.show(amount, 'size')} × s"
    return units.show(amount, {"s": "duration", "B": "size"}.get(unit, "count"))


def _capacity(per_s: float, unit: str) -> str:
    """What a station does a second, or has: seconds of work a second are servers, and byte-seconds bytes."""
    match unit:
        case "s":
            return units.show(per_s, "count")
        case "B s":
            return units.show(per_s, "size")
        case "B":
            return f"{units.show(per_s, 'size')}/s"
        case _:
            return units.show(per_s, "rate")


def validation_tables(validation: Validation) -> Iterable[RenderableType]:
    """Everything that `tpsim validate` shows: what was predicted and by how much it was off, group by group."""
    for metric in dict.fromkeys(each.metric for each in validation.comparisons):
        yield heading(metric)
        yield _comparisons([each for each in validation.comparisons if each.metric == metric])
    yield lines_of([*_mean_errors(validation), ("interval", "of the simulation alone; the error is the model's")])


def _comparisons(comparisons: Sequence[Measured]) -> Table:
    columns = list(comparisons[0].row)
    table = table_of(*columns, "measured", "predicted", "interval", "error", "fitted")
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
            number = counted(len(predicted), "number")
            yield label, f"mean absolute error {error:.1%} over {number}, worst {worst.error:+.1%}"
        if len(predicted) < len(group):
            yield label, f"{counted(len(group) - len(predicted), 'number')} without a prediction"


def models_tables(models: Iterable[tuple[str, str]], hardware: Iterable[tuple[str, str]]) -> Iterable[RenderableType]:
    """Names and descriptions of models, and what the hardware catalogue has."""
    yield lines_of(models)
    yield lines_of(hardware)
    yield lines_of([("figures and prices", "tpsim models machines (or disks, nics, gpus, llms)")])
