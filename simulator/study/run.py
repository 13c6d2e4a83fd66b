"""One model simulated: replications, in parallel, as many as the asked precision needs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from simulator.analytic.demands import Facts, facts
from simulator.engines import prepare, simulate
from simulator.model.lowering import lower
from simulator.model.objective import Limits, Metric
from simulator.model.system import System
from simulator.program.program import Program
from simulator.records import Records
from simulator.results.ending import sampling_of_its_own, section_of_ending
from simulator.results.limits import transient_of_limits
from simulator.results.metrics import workloads_of
from simulator.results.replication import Reduction, Replication, reduce
from simulator.results.results import Results
from simulator.results.section import Section, sections_of
from simulator.results.summary import Summary
from simulator.study.executor import map_tasks
from simulator.study.length import automatic_duration

REPLICATIONS = 10
MOST_REPLICATIONS = 400
Progress = Callable[[int, int], None]
"""Told the number of replications done, and of those planned."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to simulate; None leaves it to the model's `run` section. `keep` receives each replication's Records.

    With `summaries_only` no request is kept, in the Records neither: memory does not grow with the number of requests,
    and quantiles have a small error that their intervals include (`Results.quantile_relative_error`).
    """

    seed: int | None = None
    duration: float | None = None
    replications: int | None = None
    precision: float | None = None
    engine: str = "auto"
    jobs: int = 1
    processes: Mapping[str, Callable[[Any], Any]] | None = None
    progress: Progress | None = None
    keep: Callable[[Records], None] | None = None
    summaries_only: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """One replication to be run, as it travels to a worker."""

    program: Program
    duration: float
    seed: int
    replication: int
    engine: str
    keep: bool
    processes: Mapping[str, Callable[[Any], Any]] | None = None
    summaries_only: bool = False
    limits: tuple[Limits, ...] = ()
    begin: float = 0.0
    ends_after: float | None = None


def replicate(task: Task) -> tuple[Replication, Records | None]:
    """Run one replication, check that it conserved everything, and reduce it.

    With `ends_after`, the warm-up (s) of a load that ends, it is run again where its sampling times do not tell what is
    measured of it: only afterwards is it known when that ends.
    """
    reduced, records = _simulated(task)
    stretch = None if task.ends_after is None else sampling_of_its_own(reduced, task.ends_after)
    if stretch is not None:
        begin, duration = stretch
        measured, _ = _simulated(replace(task, begin=begin, duration=duration, keep=False))
        reduced = replace(reduced, measured=measured)
    return reduced, records


def _simulated(task: Task) -> tuple[Replication, Records | None]:
    begin = task.begin
    reduction = Reduction(task.program, task.duration, True, task.limits, begin) if task.summaries_only else None
    records = simulate(
        task.program,
        task.duration,
        task.seed,
        task.replication,
        task.engine,
        processes=task.processes,
        consume=None if reduction is None else reduction.take,
        begin=begin,
    )
    if reduction is None:
        reduced = reduce(records, task.program, task.limits, False, begin)
    else:
        reduced = reduction.replication(records)
    return reduced, records if task.keep else None


class Experiment:
    """A system with its Program and its replications so far; more can be added.

    `metrics` are those, beside the objectives', that will be asked for. Raises UsageError where one is of a workload
    that is not there, or has no such thing.
    """

    def __init__(self, system: System, settings: Settings | None = None, metrics: Sequence[Metric] = ()) -> None:
        self.system = system
        self.settings = settings or Settings()
        self.program = lower(system)
        asked = [*(objective.metric for objective in system.objectives), *metrics]
        for metric in asked:
            workloads_of(metric, self.program)
        self.limits = tuple(dict.fromkeys(metric.limits for metric in asked if metric.limits))
        self.facts: Facts = facts(self.program)
        run = system.run
        self.seed = run.seed if self.settings.seed is None else self.settings.seed
        self.duration = self._duration()
        self.planned = self.settings.replications or (run.replications if run.replications != "auto" else REPLICATIONS)
        self.replications: list[Replication] = []

    def _duration(self) -> float:
        if self.settings.duration is not None:
            return self.settings.duration
        if self.system.run.duration != "auto":
            return self.system.run.duration
        return automatic_duration(self.system, self.facts)

    def _warm_up(self) -> float | None:
        """Seconds to leave out; None where it is to be found."""
        wanted = self.system.run.warm_up
        if wanted == "none" or (wanted == "auto" and not self.system.has_steady_state):
            return 0.0
        return None if wanted == "auto" else wanted

    def extend(self, count: int) -> None:
        """Run replications until there are `count`."""
        settings, keep = self.settings, self.settings.keep is not None
        tasks = [
            Task(
                self.program,
                self.duration,
                self.seed,
                number,
                settings.engine,
                keep,
                settings.processes,
                settings.summaries_only,
                self.limits,
                ends_after=self._warm_up() if self.system.load_ends else None,
            )
            for number in range(len(self.replications), count)
        ]
        jobs = 1 if settings.processes else settings.jobs
        prepare(self.program, settings.engine)
        for reduced, records in map_tasks(replicate, tasks, jobs):
            self.replications.append(reduced)
            if settings.keep is not None and records is not None:
                settings.keep(records)
            if settings.progress is not None:
                settings.progress(len(self.replications), count)

    @property
    def sections(self) -> list[Section]:
        """What is measured of each replication, after the warm-up."""
        warm_up = self._warm_up()
        if self.system.load_ends:
            return [section_of_ending(each, warm_up or 0.0) for each in self.replications]
        return sections_of(self.replications, warm_up, transient_of_limits(self.facts, self.duration))

    def results(self) -> Results:
        """What the replications so far say."""
        return Summary(self.system, self.program, self.facts, self.replications, self.sections, self.seed).results()


def prepare_engine(system: System, settings: Settings) -> None:
    """Make the engine ready here, once, before worker processes each do so."""
    prepare(lower(system), settings.engine)


def run(system: System, settings: Settings | None = None) -> Results:
    """Simulate a system and return its results, every figure with an interval.

    With a precision, replications are added until the mean latency and the throughput of every workload have a
    relative half width within it, or MOST_REPLICATIONS have run; `precision_reached` tells which.
    """
    experiment = Experiment(system, settings)
    return finish(experiment)


def finish(experiment: Experiment) -> Results:
    """Run an experiment to its asked number of replications or precision."""
    started = time.perf_counter()
    settings = experiment.settings
    experiment.extend(experiment.planned if settings.precision is None else max(experiment.planned, 2))
    results = experiment.results()
    if settings.precision is not None:
        while (widest := widest_interval(results)) > settings.precision and experiment.planned < MOST_REPLICATIONS:
            experiment.planned = _more(len(experiment.replications), widest, settings.precision)
            experiment.extend(experiment.planned)
            results = experiment.results()
        reached = widest_interval(results) <= settings.precision
        results = replace(results, precision=settings.precision, precision_reached=reached)
    return replace(results, wall_s=time.perf_counter() - started)


def _more(done: int, widest: float, precision: float) -> int:
    """Replications expected to reach the precision: the width falls with their square root; at most fourfold."""
    needed = math.ceil(done * (widest / precision) ** 2 * 1.1) if math.isfinite(widest) else 4 * done
    return min(max(needed, done + 2), 4 * done, MOST_REPLICATIONS)


def widest_interval(results: Results) -> float:
    """The largest relative half width of mean latency and throughput over the workloads; infinite without data."""
    widths: list[float] = []
    for workload in results.workloads.values():
        widths.append(workload.throughput_per_s.relative_half_width)
        if workload.latency_s is not None:
            widths.append(workload.latency_s["mean"].relative_half_width)
    return max((width if width == width else math.inf for width in widths), default=math.inf)
