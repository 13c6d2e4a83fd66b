"""Sweep: a grid over fields of a model, every point simulated, one tidy table."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.errors import InputError, Problem
from simulator.model.files import build, read_document
from simulator.model.objective import Objective
from simulator.model.overrides import Override
from simulator.model.system import System
from simulator.results.estimate import Estimate
from simulator.results.metrics import MESSAGES
from simulator.results.results import Cost, LlmResult, Results, TokensResult, WorkloadResult
from simulator.study.executor import map_tasks
from simulator.study.run import Settings, prepare_engine, run

if TYPE_CHECKING:
    import pandas as pd

Point = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Axis:
    """A field of the model, by path, and the values that it takes."""

    path: str
    values: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Axis:
        """Read `path=value,value,...` or `path=low..high` (whole numbers, optionally `..high..step`).

        Raises InputError.
        """
        path, equals, values = text.partition("=")
        parts = values.split("..")
        try:
            if len(parts) in (2, 3):
                low, high, *step = (int(part) for part in parts)
                listed = tuple(str(value) for value in range(low, high + 1, *(step or [1])))
            else:
                listed = tuple(value.strip() for value in values.split(",") if value.strip())
        except ValueError:
            listed = ()
        if not equals or not path.strip() or not listed:
            raise InputError(
                [Problem(f"--vary {text}", 0, 0, "", "expected path=value,value,... or path=low..high, e.g. "
                         "services.web.replicas=1,2,4")]
            )  # fmt: skip
        return cls(path.strip(), listed)


def grid(axes: Sequence[Axis]) -> list[Point]:
    """Every combination of the axes' values, the last axis changing fastest."""
    return [
        dict(zip((axis.path for axis in axes), values, strict=True))
        for values in itertools.product(*(axis.values for axis in axes))
    ]


def sweep(
    model: str | Path,
    axes: Sequence[Axis],
    overrides: Sequence[str] = (),
    settings: Settings | None = None,
    tell: Callable[[int, int], None] | None = None,
    objectives: Sequence[Objective] = (),
    finished: dict[int, tuple[Point, Results]] | None = None,
) -> list[tuple[Point, Results]]:
    """Simulate a model file at every point of the grid, points in parallel, all with the same seed.

    Where `objectives` are given, they take the place of the model's own.

    Every point is validated before the first is simulated; raises InputError with the problems of all of them. Points
    get into `finished`, by their number, as soon as they are: they are there whatever ends the sweep early.
    """
    settings = settings or Settings()
    points = grid(axes)

    def place(number: int, problem: Problem) -> Problem:
        own = any(problem.source.startswith(f"--set {path}=") for path in points[number])
        return replace(problem, source=problem.source.replace("--set", "--vary", 1)) if own else problem

    systems = systems_at(Path(model), points, overrides, place)
    if objectives:
        systems = [system.model_copy(update={"objectives": list(objectives)}) for system in systems]
    prepare_engine(systems[0], settings)
    one_job = replace(settings, jobs=1, progress=None)
    found = {} if finished is None else finished

    def keep(number: int, results: Results) -> None:
        found[number] = points[number], results
        if tell:
            tell(len(found), len(systems))

    results = map_tasks(_Runner(one_job), systems, settings.jobs, keep)
    return list(zip(points, results, strict=True))


@dataclass(frozen=True, slots=True)
class _Runner:
    settings: Settings

    def __call__(self, system: System) -> Results:
        return run(system, self.settings)


def systems_at(
    path: Path,
    points: Sequence[Mapping[str, Any]],
    overrides: Sequence[str] = (),
    place: Callable[[int, Problem], Problem] = lambda number, problem: problem,
) -> list[System]:
    """The model with each point's fields set; raises InputError with the problems of all points.

    `place` may say better where a problem of the point of that number comes from.
    """
    document = read_document(path)
    common = [Override.parse(text) for text in overrides]
    systems: list[System] = []
    problems: list[Problem] = []
    for number, point in enumerate(points):
        changes = [*common, *(Override.parse(f"{name}={value}") for name, value in point.items())]
        try:
            systems.append(build(document, str(path), changes, path.parent))
        except InputError as error:
            problems.extend(place(number, problem) for problem in error.problems)
    if problems:
        raise InputError(list(dict.fromkeys(problems)))
    return systems


def tidy(points: Sequence[tuple[Point, Results]]) -> pd.DataFrame:
    """One row per point, workload and metric: the point's fields, then value, low, high in base units.

    Also of resources, streams of messages, LLMs, and objectives. Costs are in USD.
    """
    import pandas as pd

    rows = []
    for point, results in points:
        shared = {
            **{path: _number(text) for path, text in point.items()},
            "stable": results.stable,
            "cost_per_hour": results.cost.per_hour,
        }
        for name, resource in results.resources.items():
            if resource.utilization is not None:
                rows.append({**shared, "of": name, "metric": "utilization", **_value(resource.utilization)})
        for name, llm in results.llms.items():
            for metric, estimate in llm_metrics(llm).items():
                rows.append({**shared, "of": name, "metric": metric, **_value(estimate)})
        streams = {f"{MESSAGES}{name}": stream for name, stream in results.messages.items()}
        for name, workload in {**results.workloads, **streams}.items():
            for metric, estimate in workload_metrics(workload).items():
                rows.append({**shared, "of": name, "metric": metric, **_value(estimate)})
        for metric, estimate in cost_metrics(results.cost).items():
            rows.append({**shared, "of": "cost", "metric": metric, **_value(estimate)})
        rows += [
            {**shared, "of": "objectives", "metric": objective.name, **_value(objective.value)}
            for objective in results.objectives
        ]
    return pd.DataFrame(rows)


def workload_metrics(workload: WorkloadResult) -> dict[str, Estimate]:
    """The estimates of a workload by metric name; latencies are left out where there is no steady state."""
    metrics = {
        "offered_per_s": workload.offered_per_s,
        "throughput_per_s": workload.throughput_per_s,
        "error_rate": workload.error_rate,
    }
    metrics |= {f"latency_{name}_s": value for name, value in (workload.latency_s or {}).items()}
    return metrics | (token_metrics(workload.tokens) if workload.tokens is not None else {})


def token_metrics(tokens: TokensResult) -> dict[str, Estimate]:
    """The estimates of a workload's tokens by metric name."""
    times = {"ttft": tokens.ttft_s, "tpot": tokens.tpot_s, "itl": tokens.itl_s, "longest_gap": tokens.longest_gap_s}
    metrics = {f"{of}_{name}_s": value for of, found in times.items() for name, value in (found or {}).items()}
    return metrics | {
        "input_tokens_per_s": tokens.input_per_s,
        "output_tokens_per_s": tokens.output_per_s,
        "cached_tokens": tokens.cached,
    }


def llm_metrics(llm: LlmResult) -> dict[str, Estimate]:
    """The estimates of an LLM by metric name."""
    return {field.name: value for field in fields(llm) if isinstance(value := getattr(llm, field.name), Estimate)}


def cost_metrics(cost: Cost) -> dict[str, Estimate]:
    """The estimates of costs (USD) by metric name: requests' where something costs anything."""
    metrics = {"usage_per_hour": cost.usage_per_hour} if cost.usage_per_hour.value > 0.0 else {}
    if cost.per_million_requests.value > 0.0:
        metrics["per_million_requests"] = cost.per_million_requests
    if cost.per_thousand_conversations is not None:
        metrics["per_thousand_conversations"] = cost.per_thousand_conversations
    return metrics


def _number(text: str) -> str | int | float:
    """A value of an axis as the number that it is, or as it was written."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _value(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}
