"""Sections: what a replication, or a batch of one run, measured after the warm-up; the unit behind every interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from simulator.model.objective import Limits
from simulator.records import INFERENCE_FIELDS, STATION_FIELDS, WORKLOAD_FIELDS, Floats
from simulator.results.latencies import Latencies
from simulator.results.replication import Replication, WorkloadSeries
from simulator.results.tokens import TokenSection
from simulator.results.trend import growth
from simulator.streams import Streams

ARRIVED, POPULATION = WORKLOAD_FIELDS.index("arrived"), WORKLOAD_FIELDS.index("population_area")
PRESENT, BUSY_AREA = STATION_FIELDS.index("present"), STATION_FIELDS.index("busy_area")
BATCHES = 20


@dataclass(frozen=True, slots=True, eq=False)
class WorkloadSection:
    """One workload in one section.

    `latencies` has, per operation, the response times (s) of requests that completed in the section; `failures`
    counts the failed ones by reason; `wait` and `service` are sums over the completed requests, by component.
    `growth` is the slope of the number in flight, per second, and `good` counts, for each of the section's limits, the
    completed requests that keep them.
    """

    arrived: int
    latencies: tuple[Latencies, ...]
    failures: tuple[int, ...]
    retries: int
    wait: Floats
    service: Floats
    population: float
    growth: float
    good: Floats
    tokens: TokenSection | None

    @property
    def completed(self) -> int:
        """Requests that completed in the section."""
        return sum(latencies.count for latencies in self.latencies)

    @property
    def failed(self) -> int:
        """Requests that failed in the section."""
        return sum(self.failures)


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """A stretch of simulated time: its start and length (s), its workloads, and what stations' fields grew by.

    `inference` has what the fields of inference stations grew by, `limits` those that goodput was counted for, and
    `growth` the slope of the number present at each station, per second. `times` are the sampling times from 0 to its
    end, of which that number `first` is its start, and `worked`, of shape (times, stations), what the busy area of each
    station had come to at these.
    """

    start: float
    length: float
    workloads: tuple[WorkloadSection, ...]
    stations: Floats
    inference: Floats
    limits: tuple[Limits, ...]
    growth: Floats
    first: int
    times: Floats
    worked: Floats


def sections_of(replications: Sequence[Replication], warm_up: float | None, known: float = 0.0) -> list[Section]:
    """What is measured of each replication; of a single one, in batches.

    `warm_up` is the time to leave out (s), 0 for a load without a steady state, None to find it. A replication is
    then cut by the median transient of the *others*: cut by its own, it would lose its genuine busy spells, which look
    like transients, and results would be too low. A single one has only its own. A transient (s) that is `known` is
    left out at least.

    Behind a warm-up, measuring starts a little later and ends a little earlier still, by times that differ between
    replications: a system that runs in step with itself would otherwise be cut at the same points of its cycle by
    all of them, and their intervals would be narrow and wrong.
    """
    sections: list[Section] = []
    for replication in replications:
        last = len(replication.times) - 1
        if warm_up == 0.0:
            first = 0
        else:
            found = _transient_of_the_others(replication, replications)
            wanted = max(found, known) if warm_up is None else warm_up
            most = last // 2 if warm_up is None else last - 1
            first = min(int(np.searchsorted(replication.times, wanted - 1e-12)), most)
            later, earlier = _random_steps(replication, last - first)
            first, last = first + later, last - earlier
        ticks = _ticks(first, last, batches=len(replications) == 1 and warm_up != 0.0)
        sections.extend(section(replication, start, stop) for start, stop in pairwise(ticks))
    return sections


def _transient_of_the_others(replication: Replication, replications: Sequence[Replication]) -> float:
    others = [other.transient for other in replications if other is not replication]
    return float(np.median(others)) if others else replication.transient


def _random_steps(replication: Replication, measured: int) -> tuple[int, int]:
    """Two numbers of sampling steps, each up to a tenth of those measured."""
    uniforms = Streams(replication.seed, replication.number).uniforms("ends of measuring", 0, 2)
    later, earlier = (uniforms * (measured // 10)).astype(int).tolist()
    return later, earlier


def _ticks(first: int, last: int, batches: bool) -> list[int]:
    count = min(BATCHES, last - first) if batches else 1
    return [int(tick) for tick in np.unique(np.linspace(first, last, count + 1).round())]


def section(replication: Replication, start: int, stop: int) -> Section:
    """What a replication measured between two of its sampling times."""
    times = replication.times
    present = replication.stations[start : stop + 1, :, PRESENT]
    return Section(
        start=float(times[start]),
        length=float(times[stop] - times[start]),
        workloads=tuple(_workload(series, times, start, stop) for series in replication.workloads),
        stations=replication.stations[stop] - replication.stations[start],
        inference=replication.inference[stop] - replication.inference[start],
        limits=replication.limits,
        growth=np.array([growth(times[start : stop + 1], level) for level in present.T]),
        first=start,
        times=times[: stop + 1],
        worked=replication.stations[: stop + 1, :, BUSY_AREA],
    )


def _workload(series: WorkloadSeries, times: Floats, start: int, stop: int) -> WorkloadSection:
    samples = series.samples[start : stop + 1]
    in_flight = samples[:, ARRIVED] - samples[:, ARRIVED + 1] - samples[:, ARRIVED + 2]
    grown = samples[-1] - samples[0]
    failures = series.failures[stop] - series.failures[start]
    return WorkloadSection(
        arrived=int(grown[ARRIVED]),
        latencies=tuple(operation.between(start, stop) for operation in series.operations),
        failures=tuple(int(count) for count in failures),
        retries=int(series.retries[stop] - series.retries[start]),
        wait=series.wait[stop] - series.wait[start],
        service=series.service[stop] - series.service[start],
        population=float(grown[POPULATION]),
        growth=growth(times[start : stop + 1], in_flight),
        good=series.good[stop] - series.good[start],
        tokens=None if series.tokens is None else series.tokens.between(start, stop),
    )


def station_field(section: Section, stations: tuple[int, ...], name: str) -> Floats:
    """What a field of some stations grew by in a section."""
    return section.stations[list(stations), STATION_FIELDS.index(name)]


def inference_field(section: Section, inference: tuple[int, ...], name: str) -> float:
    """What a field of some inference stations, by their number among those, grew by in a section, together."""
    return float(section.inference[list(inference), INFERENCE_FIELDS.index(name)].sum())
