"""A replication, reduced to what results need: sums and response times that can be cut at any sampling time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.program.program import Program, Workload
from simulator.records import COMPLETED, IN_FLIGHT, Floats, Records, RequestTable, sampling_times
from simulator.results.conservation import Tally, check_tallies
from simulator.results.latencies import Counts, ExactCollector, LatencySeries, SketchCollector
from simulator.results.warm_up import Transient


@dataclass(frozen=True, slots=True, eq=False)
class WorkloadSeries:
    """One workload, cumulated up to each of T sampling times (ticks).

    `samples` has shape (T, WORKLOAD_FIELDS), `failures` (T, reasons), `retries` (T,); `wait` and `service` (T,
    components) are sums over completed requests (s). `operations` are the response times of completed requests.
    """

    samples: Floats
    operations: tuple[LatencySeries, ...]
    failures: Floats
    retries: Floats
    wait: Floats
    service: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Replication:
    """One replication; `times` are its T sampling times (s), `stations` has shape (T, stations, STATION_FIELDS).

    `transient` is the length (s) of the initial transient that MSER-5 sees in this replication, and
    `transient_found` tells whether it is sure to be over.
    """

    seed: int
    number: int
    engine: str
    digest: str
    requests: int
    duration: float
    times: Floats
    stations: Floats
    workloads: tuple[WorkloadSeries, ...]
    transient: float
    transient_found: bool


class Reduction:
    """Takes the requests of one replication as they end, checks them, and sums them up.

    With `sketched`, response times are counted in bins, so that memory does not grow with the number of requests;
    otherwise they are kept. The laws hold for every workload; those that are in the background are not summed up.
    """

    def __init__(self, program: Program, duration: float, sketched: bool = False) -> None:
        self.program = program
        self.duration = duration
        times, reasons = sampling_times(duration), len(program.reasons)
        reported = len(program.senders) + len(program.streams)
        self.tallies = [Tally(spec.name) for spec in program.workloads]
        self.sums = [_Sums(spec, times, reasons, sketched) for spec in program.workloads[:reported]]

    def take(self, workload: int, requests: RequestTable) -> None:
        """Take the next requests of a workload; raises ConservationError."""
        self.tallies[workload].add(requests, self.duration)
        if workload < len(self.sums):
            self.sums[workload].add(requests)

    def replication(self, records: Records) -> Replication:
        """The replication, once all requests are taken; raises ConservationError where it breaks a law."""
        check_tallies(self.tallies, records, self.program)
        transients = [sums.transient.length() for sums in self.sums]
        return Replication(
            seed=records.seed,
            number=records.replication,
            engine=records.engine,
            digest=records.digest(),
            requests=sum(self.tallies[number].arrived for number in self.program.senders),
            duration=records.duration,
            times=records.times,
            stations=records.stations,
            workloads=tuple(sums.series(records.workloads[:, index]) for index, sums in enumerate(self.sums)),
            transient=max((length for length, _ in transients), default=0.0),
            transient_found=all(found for _, found in transients),
        )


def reduce(records: Records, program: Program) -> Replication:
    """Check and reduce the records of one replication that keep their requests; raises ConservationError."""
    reduction = Reduction(program, records.duration)
    for index, table in enumerate(records.requests):
        for chunk in table.chunks():
            reduction.take(index, chunk)
    return reduction.replication(records)


class _Sums:
    """One workload, summed up by tick: those of tick k ended between sampling times k - 1 and k.

    Every sum goes on request by request, so that it is the same to the last bit however requests are cut into chunks.
    """

    def __init__(self, spec: Workload, times: Floats, reasons: int, sketched: bool) -> None:
        ticks, collector = len(times), SketchCollector if sketched else ExactCollector
        self.times = times
        self.latencies: list[SketchCollector | ExactCollector] = [collector(ticks) for _ in spec.entries]
        self.totals = np.zeros((ticks, len(spec.entries)))
        self.failures = np.zeros((ticks, reasons))
        self.retries = np.zeros((ticks, 1))
        self.wait, self.service = (np.zeros((ticks, len(spec.components))) for _ in range(2))
        self.transient = Transient()

    def add(self, requests: RequestTable) -> None:
        """Add the next requests."""
        ended = slice(np.count_nonzero(requests.outcome != IN_FLIGHT))
        tick = self._ticks(requests.end[ended])
        _add(self.retries, tick, requests.retries[ended, None])
        done = requests.outcome[ended] == COMPLETED
        if done.all():
            self._add_completed(requests, ended, tick)
        else:
            np.add.at(self.failures, (tick[~done], requests.outcome[ended][~done] - 1), 1.0)
            self._add_completed(requests, np.flatnonzero(done), tick[done])

    def _ticks(self, ends: Floats) -> Counts:
        """The tick of every request, from their ends in order."""
        before = np.searchsorted(ends, self.times, side="left")
        return np.repeat(np.arange(len(self.times)), np.diff(before, prepend=0))

    def _add_completed(self, requests: RequestTable, chosen: slice | Counts, tick: Counts) -> None:
        ends = requests.end[chosen]
        times = ends - requests.arrival[chosen]
        _add(self.wait, tick, requests.wait[chosen])
        _add(self.service, tick, requests.service[chosen])
        self.transient.add(times, ends)
        if len(self.latencies) == 1:
            self._add_operation(0, tick, times)
            return
        operations = requests.operation[chosen]
        for operation in range(len(self.latencies)):
            own = operations == operation
            self._add_operation(operation, tick[own], times[own])

    def _add_operation(self, operation: int, tick: Counts, times: Floats) -> None:
        _add(self.totals[:, operation : operation + 1], tick, times[:, None])
        self.latencies[operation].add(tick, times)

    def series(self, samples: Floats) -> WorkloadSeries:
        """The sums, cumulated."""
        return WorkloadSeries(
            samples=samples,
            operations=tuple(
                collector.series(np.ascontiguousarray(totals))
                for collector, totals in zip(self.latencies, self.totals.T, strict=True)
            ),
            failures=np.cumsum(self.failures, axis=0),
            retries=np.cumsum(self.retries[:, 0]),
            wait=np.cumsum(self.wait, axis=0),
            service=np.cumsum(self.service, axis=0),
        )


def _add(sums: Floats, tick: Counts, values: NDArray[Any]) -> None:
    """Add rows of `values` to the rows of `sums` that their ticks say, one after the other."""
    if not len(tick):
        return
    first, last = int(tick[0]), int(tick[-1]) + 1
    places = np.concatenate([np.arange(last - first), tick - first])
    for column, added in zip(sums.T, values.T, strict=True):
        column[first:last] = np.bincount(places, weights=np.concatenate([column[first:last], added]))
