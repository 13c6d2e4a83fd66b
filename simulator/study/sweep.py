"""Sweep: a grid over fields of a model, every point simulated, one tidy table."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.errors import InputError, Problem
from simulator.model.files import build, read_document
from simulator.model.overrides import Override
from simulator.model.system import System
from simulator.results.estimate import Estimate
from simulator.results.results import Results
from simulator.study.executor import map_tasks
from simulator.study.run import Settings, prepare_engine, run

if TYPE_CHECKING:
    import pandas as pd

Point = dict[str, Any]


class SweepInterrupted(KeyboardInterrupt):
    """The interrupt of a sweep, with the points that were finished and the number of all."""

    def __init__(self, finished: list[tuple[Point, Results]], planned: int) -> None:
        super().__init__()
        self.finished = finished
        self.planned = planned


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
) -> list[tuple[Point, Results]]:
    """Simulate a model file at every point of the grid, points in parallel, all with the same seed.

    Every point is validated before the first is simulated; raises InputError with the problems of all of them, and
    SweepInterrupted where it is interrupted.
    """
    settings = settings or Settings()
    points = grid(axes)

    def place(number: int, problem: Problem) -> Problem:
        own = any(problem.source.startswith(f"--set {path}=") for path in points[number])
        return replace(problem, source=problem.source.replace("--set", "--vary", 1)) if own else problem

    systems = systems_at(Path(model), points, overrides, place)
    prepare_engine(systems[0], settings)
    one_job = replace(settings, jobs=1, progress=None)
    finished: list[tuple[Point, Results]] = []
    try:
        for point, result in zip(points, map_tasks(_Runner(one_job), systems, settings.jobs), strict=True):
            finished.append((point, result))
            if tell:
                tell(len(finished), len(systems))
    except KeyboardInterrupt:
        raise SweepInterrupted(finished, len(points)) from None
    return finished


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
    """One row per point, workload and metric: the point's fields, then value, low, high in base units."""
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
        for name, workload in results.workloads.items():
            for metric, estimate in workload_metrics(workload).items():
                rows.append({**shared, "of": name, "metric": metric, **_value(estimate)})
    return pd.DataFrame(rows)


def workload_metrics(workload: Any) -> dict[str, Estimate]:
    """The estimates of a workload by metric name; latencies are left out where there is no steady state."""
    metrics = {
        "offered_per_s": workload.offered_per_s,
        "throughput_per_s": workload.throughput_per_s,
        "error_rate": workload.error_rate,
    }
    return metrics | {f"latency_{name}_s": value for name, value in (workload.latency_s or {}).items()}


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
