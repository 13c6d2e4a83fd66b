"""A replication, reduced to what results need: sums and response times that can be cut at any sampling time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from simulator.model.objective import Limits
from simulator.program.instructions import Fork, Publish
from simulator.program.program import Program, Workload
from simulator.program.stations import Bucket, Gauge
from simulator.records import COMPLETED, IN_FLIGHT, Floats, Records, RequestTable, sampling_times
from simulator.results.conservation import Tally, check_tallies
from simulator.results.latencies import Counts, LatencySeries
from simulator.results.sums import TimeSums, add_by_tick
from simulator.results.tokens import TokenMeters, TokenSeries, TokenSums, within
from simulator.results.warm_up import Transient


@dataclass(frozen=True, slots=True, eq=False)
class WorkloadSeries:
    """One workload, cumulated up to each of T sampling times (ticks).

    `samples` has shape (T, WORKLOAD_FIELDS), `failures` (T, reasons), `retries` (T,); `wait` and `service` (T,
    components) are sums over completed requests (s). `operations` are the response times of completed requests, and
    `good` (T, limits) counts those that keep limits. `tokens` is None where no request calls an LLM.
    """

    samples: Floats
    operations: tuple[LatencySeries, ...]
    failures: Floats
    retries: Floats
    wait: Floats
    service: Floats
    good: Floats
    tokens: TokenSeries | None


@dataclass(frozen=True, slots=True, eq=False)
class Replication:
    """One replication; `times` are its T sampling times (s), `stations` has shape (T, stations, STATION_FIELDS).

    `inference` has shape (T, inference stations, INFERENCE_FIELDS); `limits` are those that goodput was counted for.
    `transient` is the length (s) of the initial transient that MSER-5 sees in this replication, and
    `transient_found` tells whether it is sure to be over. `first_arrival` and `last_end` (s) are those of all requests
    and messages: 0 and the duration where there are none, the duration where one has not ended. `works_aside`
    tells whether there is other work: faults, health checks, autoscaling, buckets that fill, and what requests leave
    behind. `measured` is the same replication sampled over what is measured of it, where that is not all of it and its
    own sampling times do not tell.
    """

    seed: int
    number: int
    engine: str
    digest: str
    requests: int
    duration: float
    times: Floats
    stations: Floats
    inference: Floats
    limits: tuple[Limits, ...]
    workloads: tuple[WorkloadSeries, ...]
    transient: float
    transient_found: bool
    first_arrival: float
    last_end: float
    works_aside: bool
    measured: Replication | None = None


class Reduction:
    """Takes the requests of one replication as they end, checks them, and sums them up.

    With `sketched`, response times are counted in bins, so that memory does not grow with the number of requests;
    otherwise they are kept. The laws hold for every workload; those that are in the background are not summed up.
    Requests that keep each of some `limits` are counted. `begin` (s) is that of the sampling times.
    """

    def __init__(
        self,
        program: Program,
        duration: float,
        sketched: bool = False,
        limits: tuple[Limits, ...] = (),
        begin: float = 0.0,
    ) -> None:
        self.program = program
        self.duration = duration
        self.limits = limits
        times, reasons = sampling_times(duration, begin=begin), len(program.reasons)
        reported = len(program.senders) + len(program.streams)
        self.tallies = [Tally(spec.name) for spec in program.workloads]
        self.sums = [_Sums(spec, times, reasons, sketched, limits) for spec in program.workloads[:reported]]

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
            inference=records.inference,
            limits=self.limits,
            workloads=tuple(sums.series(records.workloads[:, index]) for index, sums in enumerate(self.sums)),
            transient=max((length for length, _ in transients), default=0.0),
            transient_found=all(found for _, found in transients),
            first_arrival=min((sums.first_arrival for sums in self.sums if sums.seen), default=0.0),
            last_end=max((sums.last_end for sums in self.sums if sums.seen), default=records.duration),
            works_aside=_works_aside(self.program),
        )


def _works_aside(program: Program) -> bool:
    """Whether anything but requests and messages does work or passes time: the background, and what is detached."""
    detached = any(
        (isinstance(each, Fork) and each.detach) or (isinstance(each, Publish) and each.stream is None)
        for each in program.instructions
    )
    passing = any(isinstance(each, Bucket | Gauge) for each in program.stations)
    return detached or passing or any(each.background for each in program.workloads)


def reduce(
    records: Records,
    program: Program,
    limits: tuple[Limits, ...] = (),
    sketched: bool = False,
    begin: float = 0.0,
) -> Replication:
    """Check and reduce the records of one replication that keep their requests; raises ConservationError."""
    reduction = Reduction(program, records.duration, sketched, limits, begin)
    for index, table in enumerate(records.requests):
        for chunk in table.chunks():
            reduction.take(index, chunk)
    return reduction.replication(records)


class _Sums:
    """One workload, summed up by tick: those of tick k ended between sampling times k - 1 and k.

    Every sum goes on request by request, so that it is the same to the last bit however requests are cut into chunks.
    """

    def __init__(self, spec: Workload, times: Floats, reasons: int, sketched: bool, limits: tuple[Limits, ...]) -> None:
        ticks = len(times)
        self.times = times
        self.latencies = [TimeSums(ticks, sketched) for _ in spec.entries]
        self.limits = limits
        self.good = np.zeros((ticks, len(limits)))
        meters = TokenMeters.of(spec.meters)
        self.tokens = TokenSums(meters, len(spec.meters), ticks, sketched) if meters else None
        self.failures = np.zeros((ticks, reasons))
        self.retries = np.zeros((ticks, 1))
        self.wait, self.service = (np.zeros((ticks, len(spec.components))) for _ in range(2))
        self.transient = Transient()
        self.seen = False
        self.first_arrival, self.last_end = math.inf, 0.0

    def add(self, requests: RequestTable) -> None:
        """Add the next requests."""
        self._extend(requests)
        ended = slice(np.count_nonzero(requests.outcome != IN_FLIGHT))
        tick = self._ticks(requests.end[ended])
        add_by_tick(self.retries, tick, requests.retries[ended, None])
        if self.tokens is not None:
            self.tokens.add_ended(tick, requests.meter[ended])
        done = requests.outcome[ended] == COMPLETED
        if done.all():
            self._add_completed(requests, ended, tick)
        else:
            np.add.at(self.failures, (tick[~done], requests.outcome[ended][~done] - 1), 1.0)
            self._add_completed(requests, np.flatnonzero(done), tick[done])

    def _extend(self, requests: RequestTable) -> None:
        """Note when the first request came and the last one ended."""
        if requests.arrival.size:
            self.seen = True
            self.first_arrival = min(self.first_arrival, float(requests.arrival.min()))
            last = self.times[-1] if (requests.outcome == IN_FLIGHT).any() else requests.end.max()
            self.last_end = max(self.last_end, float(last))

    def _ticks(self, ends: Floats) -> Counts:
        """The tick of every request, from their ends in order."""
        before = np.searchsorted(ends, self.times, side="left")
        return np.repeat(np.arange(len(self.times)), np.diff(before, prepend=0))

    def _add_completed(self, requests: RequestTable, chosen: slice | Counts, tick: Counts) -> None:
        ends = requests.end[chosen]
        times = ends - requests.arrival[chosen]
        add_by_tick(self.wait, tick, requests.wait[chosen])
        add_by_tick(self.service, tick, requests.service[chosen])
        self.transient.add(times, ends)
        tokens = {}
        if self.tokens is not None:
            tokens = self.tokens.add_completed(tick, requests.arrival[chosen], requests.meter[chosen])
        if self.limits:
            kept = [within(limits, times, tokens) for limits in self.limits]
            add_by_tick(self.good, tick, np.stack(kept, axis=1))
        if len(self.latencies) == 1:
            self.latencies[0].add(tick, times)
            return
        operations = requests.operation[chosen]
        for operation in range(len(self.latencies)):
            own = operations == operation
            self.latencies[operation].add(tick[own], times[own])

    def series(self, samples: Floats) -> WorkloadSeries:
        """The sums, cumulated."""
        return WorkloadSeries(
            samples=samples,
            operations=tuple(latencies.series() for latencies in self.latencies),
            failures=np.cumsum(self.failures, axis=0),
            retries=np.cumsum(self.retries[:, 0]),
            wait=np.cumsum(self.wait, axis=0),
            service=np.cumsum(self.service, axis=0),
            good=np.cumsum(self.good, axis=0),
            tokens=None if self.tokens is None else self.tokens.series(),
        )
