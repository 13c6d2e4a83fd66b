"""Sections: what a replication, or a batch of one run, measured; the unit behind every interval."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from simulator.program.program import Program
from simulator.records import COMPLETED, STATION_FIELDS, WORKLOAD_FIELDS, Floats, Records, RequestTable
from simulator.results.trend import growth
from simulator.results.warm_up import mser5
from simulator.streams import Streams

ARRIVED, POPULATION = WORKLOAD_FIELDS.index("arrived"), WORKLOAD_FIELDS.index("population_area")
BATCHES = 20


@dataclass(frozen=True, slots=True, eq=False)
class WorkloadSection:
    """One workload in one section.

    `latencies` holds, per operation, the sorted response times (s) of requests that completed in the section;
    `failures` counts the failed ones by reason; `wait` and `service` are sums over the completed requests, by
    component. `growth` is the slope of the number in flight, per second.
    """

    arrived: int
    latencies: tuple[Floats, ...]
    failures: tuple[int, ...]
    retries: int
    wait: Floats
    service: Floats
    population: float
    growth: float

    @property
    def completed(self) -> int:
        """Requests that completed in the section."""
        return sum(len(latencies) for latencies in self.latencies)

    @property
    def failed(self) -> int:
        """Requests that failed in the section."""
        return sum(self.failures)


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """A stretch of simulated time: its length (s), its workloads, and what each station's fields grew by."""

    length: float
    workloads: tuple[WorkloadSection, ...]
    stations: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Replication:
    """One replication, reduced to what the results need; `warm_up` is the time left out (s)."""

    number: int
    engine: str
    digest: str
    requests: int
    duration: float
    warm_up: float
    warm_up_found: bool
    sections: tuple[Section, ...]


def reduce(records: Records, program: Program, warm_up: float | None, batches: bool) -> Replication:
    """Cut the warm-up off (None: find it, 0: there is none) and measure the rest, as one section or as batches.

    Behind a warm-up, measuring starts a little later and ends a little earlier still, by times that differ between
    replications: a system that runs in step with itself would otherwise be cut at the same points of its cycle by
    all of them, and their intervals would be narrow and wrong.
    """
    first, found = _first_tick(records, warm_up)
    last = len(records.times) - 1
    if warm_up != 0.0:
        later, earlier = _random_steps(records, last - first)
        first, last = first + later, last - earlier
    ticks = np.array([first, last])
    if batches:
        count = min(BATCHES, last - first)
        ticks = np.unique(np.linspace(first, last, count + 1).round().astype(int))
    return Replication(
        number=records.replication,
        engine=records.engine,
        digest=records.digest(),
        requests=sum(len(table) for table in records.requests),
        duration=records.duration,
        warm_up=float(records.times[first]),
        warm_up_found=found,
        sections=tuple(_section(records, program, start, stop) for start, stop in pairwise(ticks.tolist())),
    )


def _first_tick(records: Records, warm_up: float | None) -> tuple[int, bool]:
    """The sample at which measuring starts, and whether a warm-up was found (always, where it is given)."""
    if warm_up is not None:
        tick = int(np.searchsorted(records.times, warm_up - 1e-12))
        return min(tick, len(records.times) - 2), True
    cuts, found = [0.0], True
    for table in records.requests:
        response = _response_times(table)
        if len(response):
            cut = mser5(response)
            found &= cut.found
            cuts.append(float(_ends(table)[cut.truncate]) if cut.truncate else 0.0)
    tick = int(np.searchsorted(records.times, max(cuts)))
    return min(tick, len(records.times) // 2), found


def _random_steps(records: Records, measured: int) -> tuple[int, int]:
    """Two numbers of sampling steps, each up to a tenth of those measured."""
    uniforms = Streams(records.seed, records.replication).uniforms("ends of measuring", 0, 2)
    later, earlier = (uniforms * (measured // 10)).astype(int).tolist()
    return later, earlier


def _ends(table: RequestTable) -> Floats:
    ends: Floats = table.end[table.outcome == COMPLETED]
    return ends


def _response_times(table: RequestTable) -> Floats:
    """Of completed requests, in order of ending."""
    done = table.outcome == COMPLETED
    response: Floats = table.end[done] - table.arrival[done]
    return response


def _section(records: Records, program: Program, start: int, stop: int) -> Section:
    begin, end = float(records.times[start]), float(records.times[stop])
    return Section(
        length=end - begin,
        workloads=tuple(
            _workload(records, program, index, table, start, stop) for index, table in enumerate(records.requests)
        ),
        stations=records.stations[stop] - records.stations[start],
    )


def _workload(
    records: Records, program: Program, index: int, table: RequestTable, start: int, stop: int
) -> WorkloadSection:
    begin, end = records.times[start], records.times[stop]
    inside = (table.end >= begin) & (table.end < end)
    done = inside & (table.outcome == COMPLETED)
    reasons = np.bincount(table.outcome[inside & ~done] - 1, minlength=len(program.reasons))
    samples = records.workloads[start : stop + 1, index]
    in_flight = samples[:, ARRIVED] - samples[:, ARRIVED + 1] - samples[:, ARRIVED + 2]
    grown = samples[-1] - samples[0]
    return WorkloadSection(
        arrived=int(grown[ARRIVED]),
        latencies=tuple(_by_operation(table, done)),
        failures=tuple(int(count) for count in reasons),
        retries=int(table.retries[inside].sum()),
        wait=table.wait[done].sum(axis=0),
        service=table.service[done].sum(axis=0),
        population=float(grown[POPULATION]),
        growth=growth(records.times[start : stop + 1], in_flight),
    )


def _by_operation(table: RequestTable, done: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Iterator[Floats]:
    response = table.end[done] - table.arrival[done]
    for operation in range(len(table.operations)):
        yield np.sort(response[table.operation[done] == operation])


def station_field(section: Section, stations: tuple[int, ...], name: str) -> Floats:
    """What a field of some stations grew by in a section."""
    return section.stations[list(stations), STATION_FIELDS.index(name)]
