"""Metrics by name over sections: what objectives, comparisons, sweeps and validations ask for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simulator.errors import UsageError
from simulator.model.objective import Metric
from simulator.program.program import Program
from simulator.program.stations import capacity_of
from simulator.results.latencies import joined
from simulator.results.results import Results
from simulator.results.section import Section
from simulator.results.statistics import (
    Statistic,
    busiest_instance,
    error_rate,
    latencies,
    mean_of,
    quantile_of,
    throughput,
)

MESSAGES = "messages."
"""What the names of streams of messages begin with."""


def statistic(metric: Metric, sections: Sequence[Section], program: Program) -> Statistic:
    """The metric's statistic; raises UsageError for a workload that is not there."""
    workloads = workloads_of(metric, program)
    if metric.name == "throughput":
        return throughput(sections, workloads)
    if metric.name == "error rate":
        return error_rate(sections, workloads)
    if metric.name == "utilization":
        return busiest(sections, program)[1]
    samples = [joined(parts) for parts in zip(*(latencies(sections, w) for w in workloads), strict=True)]
    return mean_of(samples) if metric.quantile is None else quantile_of(samples, metric.quantile)


def workloads_of(metric: Metric, program: Program) -> list[int]:
    """Numbers of the workloads, or of the streams of messages, that a metric is of; without a name, all workloads.

    `messages.orders` are all streams whose names begin with `messages.orders.`. Raises UsageError where none is there.
    """
    if metric.workload is None:
        return list(program.senders)
    names = [workload.name for workload in program.workloads]
    exact = [index for index, name in enumerate(names) if name == metric.workload]
    if found := exact or [index for index in program.streams if names[index].startswith(f"{metric.workload}.")]:
        return found
    raise UsageError(f"{metric}: no workload named {metric.workload!r}; known: {', '.join(names)}")


def steady(metric: Metric, program: Program, results: Results) -> bool:
    """Whether nothing that a metric is of has a backlog that grows without end."""
    named = {**results.workloads, **{f"{MESSAGES}{name}": each for name, each in results.messages.items()}}
    return all(named[program.workloads[number].name].stable for number in workloads_of(metric, program))


def busiest(sections: Sequence[Section], program: Program) -> tuple[str | None, Statistic]:
    """The resource with the busiest instance; of a held pool and what is worked on while it is held, the latter."""
    found: dict[str, Statistic] = {}
    for resource, stations in program.resources().items():
        if np.isfinite(sum(capacity_of(program.stations[number]) for number in stations)):
            found[resource] = busiest_instance(sections, program, stations)
    if not found:
        return None, Statistic(float("nan"), np.full(len(sections), np.nan))
    top = max(found, key=lambda name: found[name].pooled)
    active = [name for name in found if not _is_pool(program, name)]
    if _is_pool(program, top) and active:
        best = max(active, key=lambda name: found[name].pooled)
        if found[best].pooled >= 0.9 * found[top].pooled:
            top = best
    return top, found[top]


def _is_pool(program: Program, resource: str) -> bool:
    return type(program.stations[program.resources()[resource][0]]).__name__ == "Pool"
