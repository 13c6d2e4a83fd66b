"""Metrics by name over sections: what objectives, comparisons, sweeps and validations ask for."""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np

from simulator.errors import UsageError
from simulator.model.objective import TOKEN_TIMES, Metric
from simulator.program.program import Program, Workload
from simulator.program.stations import KeyedLocks, Pool, capacity_of
from simulator.results.latencies import Latencies, joined
from simulator.results.results import Results
from simulator.results.section import Section
from simulator.results.statistics import (
    Statistic,
    busiest_instance,
    error_rate,
    latencies,
    mean_of,
    mean_waiting,
    quantile_of,
    throughput,
)
from simulator.results.token_statistics import (
    cached_tokens,
    goodput,
    goodput_share,
    input_tokens,
    inter_token_latency,
    output_tokens,
    token_times,
)
from simulator.results.tokens import TokenMeters

SATURATED = 0.95
"""Busy share from which a resource is taken to be saturated."""
MESSAGES = "messages."
"""What the names of streams of messages begin with."""


def statistic(metric: Metric, sections: Sequence[Section], program: Program) -> Statistic:
    """The metric's statistic; raises UsageError for a workload that is not there, or has no such thing."""
    workloads = workloads_of(metric, program)
    match metric.name:
        case "throughput":
            return throughput(sections, workloads)
        case "error rate":
            return error_rate(sections, workloads)
        case "utilization":
            return busiest(sections, program)[1]
        case "goodput":
            return goodput(sections, workloads, metric.limits)
        case "goodput share":
            return goodput_share(sections, workloads, metric.limits)
        case "input tokens":
            return input_tokens(sections, program, workloads)
        case "output tokens":
            return output_tokens(sections, program, workloads)
        case "cached tokens":
            return cached_tokens(sections, program, workloads)
        case "itl mean":
            return inter_token_latency(sections, workloads)
    samples = _times(metric, sections, workloads)
    return mean_of(samples) if metric.quantile is None else quantile_of(samples, metric.quantile)


def _times(metric: Metric, sections: Sequence[Section], workloads: Sequence[int]) -> list[Latencies]:
    """The times (s) of all requests in each section that a metric is of."""
    if metric.time in TOKEN_TIMES:
        return token_times(sections, workloads, metric.time)
    return [joined(parts) for parts in zip(*(latencies(sections, w) for w in workloads), strict=True)]


def workloads_of(metric: Metric, program: Program) -> list[int]:
    """Numbers of the workloads, or of the streams of messages, that a metric is of; without a name, all workloads.

    `messages.orders` are all streams whose names begin with `messages.orders.`. Of tokens, it is of those that have
    some, and without a name of streams, too. Raises UsageError where none is there.
    """
    numbers = _named(metric, program)
    if not metric.counts_tokens:
        return numbers
    if found := [number for number in numbers if _has(metric, program.workloads[number])]:
        return found
    raise UsageError(_without_tokens(metric, program))


def applies(metric: Metric, program: Program) -> bool:
    """Whether workloads that are there have what the metric is of, say tokens."""
    return not metric.counts_tokens or any(_has(metric, program.workloads[each]) for each in _named(metric, program))


def _named(metric: Metric, program: Program) -> list[int]:
    if metric.workload is None:
        return [*program.senders, *(program.streams if metric.counts_tokens else ())]
    names = [workload.name for workload in program.workloads]
    exact = [index for index, name in enumerate(names) if name == metric.workload]
    if found := exact or [index for index in program.streams if names[index].startswith(f"{metric.workload}.")]:
        return found
    raise UsageError(f"{metric}: no workload named {metric.workload!r}; known: {', '.join(names)}")


def _has(metric: Metric, workload: Workload) -> bool:
    """Whether a workload's requests have the tokens that a metric is of."""
    meters = TokenMeters.of(workload.meters)
    return meters.first is not None if metric.streams_tokens else bool(meters.usage)


def _without_tokens(metric: Metric, program: Program) -> str:
    """What is wrong with a metric of tokens that are not there."""
    reported = [program.workloads[number] for number in (*program.senders, *program.streams)]
    known = [workload.name for workload in reported if _has(metric, workload)]
    what = "streams tokens of an LLM" if metric.streams_tokens else "calls an LLM"
    if metric.workload is None or not known:
        return f"{metric}: expected a workload that {what}, this model has none"
    return f"{metric}: {metric.workload} never {what}; those that do: {', '.join(known)}"


def steady(metric: Metric, program: Program, results: Results) -> bool:
    """Whether nothing that a metric is of has a backlog that grows without end."""
    named = {**results.workloads, **{f"{MESSAGES}{name}": each for name, each in results.messages.items()}}
    return all(named[program.workloads[number].name].stable for number in workloads_of(metric, program))


def busiest(
    sections: Sequence[Section], program: Program, without: Container[str] = ()
) -> tuple[str | None, Statistic]:
    """The resource with the busiest instance, some left out.

    Of a held pool and what is worked on while it is held the latter, unless that has capacity left and it is the pool
    that is waited for.
    """
    found: dict[str, Statistic] = {}
    for resource, stations in program.resources().items():
        if resource not in without and np.isfinite(sum(capacity_of(program.stations[number]) for number in stations)):
            found[resource] = busiest_instance(sections, program, stations)
    if not found:
        return None, Statistic(float("nan"), np.full(len(sections), np.nan))
    top = max(found, key=lambda name: found[name].pooled)
    active = [name for name in found if not _is_pool(program, name)]
    if _is_pool(program, top) and active:
        best = max(active, key=lambda name: found[name].pooled)
        queues = {name: mean_waiting(sections, program.resources()[name]).pooled for name in (top, best)}
        pool_is_free = queues[top] <= max(queues[best], 1.0)
        if found[best].pooled >= 0.9 * found[top].pooled and (pool_is_free or found[best].pooled >= SATURATED):
            top = best
    return top, found[top]


def _is_pool(program: Program, resource: str) -> bool:
    return isinstance(program.stations[program.resources()[resource][0]], Pool | KeyedLocks)
