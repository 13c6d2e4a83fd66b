"""A replication, reduced to what results need: sums and response times that can be cut at any sampling time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.program.program import Program
from simulator.records import COMPLETED, IN_FLIGHT, Floats, Records, RequestTable
from simulator.results.warm_up import mser5

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class OperationSeries:
    """Response times (s) of one operation's completed requests in order of ending; `before` counts them by tick."""

    response_times: Floats
    before: Counts


@dataclass(frozen=True, slots=True, eq=False)
class WorkloadSeries:
    """One workload, cumulated up to each of T sampling times (ticks).

    `samples` has shape (T, WORKLOAD_FIELDS), `failures` (T, reasons), `retries` (T,); `wait` and `service` (T,
    components) are sums over completed requests (s).
    """

    samples: Floats
    operations: tuple[OperationSeries, ...]
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


def reduce(records: Records, program: Program) -> Replication:
    """Reduce the records of one replication."""
    reported = records.requests[: len(program.senders) + len(program.streams)]
    transient, found = _transient(reported)
    return Replication(
        seed=records.seed,
        number=records.replication,
        engine=records.engine,
        digest=records.digest(),
        requests=sum(len(records.requests[number]) for number in program.senders),
        duration=records.duration,
        times=records.times,
        stations=records.stations,
        workloads=tuple(_series(records, table, index, len(program.reasons)) for index, table in enumerate(reported)),
        transient=transient,
        transient_found=found,
    )


def _transient(tables: tuple[RequestTable, ...]) -> tuple[float, bool]:
    """The longest transient over the workloads, of response times in order of ending."""
    lengths, found = [0.0], True
    for table in tables:
        done = table.outcome == COMPLETED
        if done.any():
            cut = mser5(table.end[done] - table.arrival[done])
            found &= cut.found
            lengths.append(float(table.end[done][cut.truncate]) if cut.truncate else 0.0)
    return max(lengths), found


def _series(records: Records, table: RequestTable, index: int, reasons: int) -> WorkloadSeries:
    ended = table.outcome != IN_FLIGHT
    tick = np.searchsorted(records.times, table.end[ended], side="right")
    done = table.outcome[ended] == COMPLETED
    ticks = len(records.times)
    failed = np.zeros((ticks + 1, reasons))
    np.add.at(failed, (tick[~done], table.outcome[ended][~done] - 1), 1.0)
    return WorkloadSeries(
        samples=records.workloads[:, index],
        operations=tuple(_operations(table, records.times)),
        failures=np.cumsum(failed, axis=0)[:ticks],
        retries=_cumulated(tick, table.retries[ended][:, None].astype(float), ticks)[:, 0],
        wait=_cumulated(tick[done], table.wait[ended][done], ticks),
        service=_cumulated(tick[done], table.service[ended][done], ticks),
    )


def _cumulated(tick: Counts, values: Floats, ticks: int) -> Floats:
    """Sums of rows of `values` that fall before each tick, shape (ticks, columns)."""
    columns = [np.bincount(tick, weights=column, minlength=ticks + 1) for column in values.T]
    stacked: Floats = np.stack(columns, axis=1) if columns else np.zeros((ticks + 1, 0))
    cumulated: Floats = np.cumsum(stacked, axis=0)
    return cumulated[:ticks]


def _operations(table: RequestTable, times: Floats) -> Iterator[OperationSeries]:
    done = table.outcome == COMPLETED
    end, response = table.end[done], table.end[done] - table.arrival[done]
    for operation in range(len(table.operations)):
        own = table.operation[done] == operation
        yield OperationSeries(response[own], np.searchsorted(end[own], times, side="left"))
