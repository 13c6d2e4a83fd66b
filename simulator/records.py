"""Records: the flat columns that leave an engine, and all that leaves it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

FORMAT = 3
WINDOWS = 200
"""Equal steps of a run at whose ends stations and workloads are sampled."""
CHUNK = 1 << 14
"""Requests that are handed on at once where a run keeps no records of them."""
COMPLETED, IN_FLIGHT = 0, -1

STATION_FIELDS = (
    "busy_area",  # integral of work in service: servers busy, work done by sharing, units held, tokens, full batches
    "waiting_area",  # integral of the number waiting
    "arrivals",
    "completions",
    "rejections",
    "withdrawals",
    "hits",
    "delivered",  # work credited to jobs, summed job by job; the utilisation law says it equals busy_area
    "present",  # number present now
)
INFERENCE_FIELDS = (
    "steps",
    "stepping",  # time spent in steps
    "prompt_tokens",  # of admitted sequences
    "cached_tokens",  # of these, those that were there already
    "computed_tokens",  # of prompts, again after a preemption
    "generated_tokens",
    "preemptions",
)
WORKLOAD_FIELDS = ("population_area", "arrived", "completed", "failed")


@dataclass(frozen=True, slots=True, eq=False)
class RequestTable:
    """One row per request of a workload, in order of ending; those in flight last, in order of arrival.

    `outcome` is COMPLETED, IN_FLIGHT, or 1 + the index of the failure reason; `end` is NaN while in flight.
    `wait` and `service` have shape (requests, components), in seconds, and `meter` (requests, meters).
    """

    workload: str
    operations: tuple[str, ...]
    components: tuple[str, ...]
    number: Integers
    operation: Integers
    arrival: Floats
    end: Floats
    outcome: Integers
    retries: Integers
    wait: Floats
    service: Floats
    meters: tuple[str, ...]
    meter: Floats

    @classmethod
    def from_rows(
        cls,
        workload: str,
        operations: tuple[str, ...],
        components: tuple[str, ...],
        meters: tuple[str, ...],
        rows: Floats,
    ) -> RequestTable:
        """From rows of (number, operation, arrival, end, outcome, retries, wait 0, service 0, ..., meter 0, ...)."""
        first = 6 + 2 * len(components)
        rows = rows.reshape(-1, first + len(meters))
        return cls(
            workload, operations, components,
            number=rows[:, 0].astype(np.int64),
            operation=rows[:, 1].astype(np.int64),
            arrival=rows[:, 2].copy(),
            end=rows[:, 3].copy(),
            outcome=rows[:, 4].astype(np.int64),
            retries=rows[:, 5].astype(np.int64),
            wait=rows[:, 6:first:2].copy(),
            service=rows[:, 7:first:2].copy(),
            meters=meters,
            meter=rows[:, first:].copy(),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.number)

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """Every column by name."""
        return {
            "number": self.number, "operation": self.operation, "arrival": self.arrival, "end": self.end,
            "outcome": self.outcome, "retries": self.retries, "wait": self.wait, "service": self.service,
            "meter": self.meter,
        }  # fmt: skip

    def chunks(self, rows: int = CHUNK) -> Iterator[RequestTable]:
        """The table in consecutive parts of at most that many requests, one at least, without copying them."""
        for first in range(0, max(len(self), 1), rows):
            cut = slice(first, first + rows)
            yield RequestTable(
                self.workload, self.operations, self.components, self.number[cut], self.operation[cut],
                self.arrival[cut], self.end[cut], self.outcome[cut], self.retries[cut], self.wait[cut],
                self.service[cut], self.meters, self.meter[cut],
            )  # fmt: skip


Consume = Callable[[int, RequestTable], None]
"""Takes the next requests of the workload of that number, in the order of a RequestTable, those in flight with the
last; the columns are only lent."""


class RequestDigest:
    """The digest of a workload's requests, the same however they are cut into chunks."""

    def __init__(self) -> None:
        self.names = b""
        self.columns: dict[str, hashlib._Hash] = {}

    def update(self, table: RequestTable) -> None:
        """Take in the next requests."""
        self.names = "\0".join((table.workload, *table.operations, *table.components, *table.meters)).encode()
        for name, column in table.columns().items():
            self.columns.setdefault(name, hashlib.sha256()).update(np.ascontiguousarray(column).tobytes())

    def digest(self) -> bytes:
        """SHA-256 of the names and of every column's own."""
        return hashlib.sha256(self.names + b"".join(column.digest() for column in self.columns.values())).digest()


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """What one run (one replication) left behind.

    `requests` is empty where they were handed on instead of kept; `request_digests` then has what the digest needs to
    know of them. `resources` names the resource of each station. `times` has shape (T,), `stations` (T, stations,
    STATION_FIELDS), `inference` (T, inference stations, INFERENCE_FIELDS) and `workloads` (T, workloads,
    WORKLOAD_FIELDS): cumulated from time 0, sampled at `times`, the first row at 0 and the last at `duration`.
    """

    seed: int
    replication: int
    duration: float
    engine: str
    requests: tuple[RequestTable, ...]
    resources: tuple[str, ...]
    times: Floats
    stations: Floats
    inference: Floats
    workloads: Floats
    request_digests: tuple[bytes, ...] = ()

    def digest(self) -> str:
        """SHA-256 of every column; the engine's name is left out, for engines must agree."""
        digest = hashlib.sha256(f"tpsim {FORMAT} {self.seed} {self.replication} {self.duration!r}".encode())
        for requests in self.request_digests or map(_digest_of, self.requests):
            digest.update(requests)
        for samples in (self.times, self.stations, self.inference, self.workloads):
            digest.update(np.ascontiguousarray(samples).tobytes())
        return digest.hexdigest()


def _digest_of(table: RequestTable) -> bytes:
    digest = RequestDigest()
    for chunk in table.chunks():
        digest.update(chunk)
    return digest.digest()


def sampling_steps(duration: float, windows: int = WINDOWS, begin: float = 0.0) -> tuple[float, float]:
    """The time of the first sample after that at 0, and the step from each to the next (s).

    Steps are equal from 0 on or, where `begin` is later, from there: then that is the first sample's time.
    """
    if begin > 0.0:
        return begin, (duration - begin) / (windows - 1)
    return duration / windows, duration / windows


def sampling_times(duration: float, windows: int = WINDOWS, begin: float = 0.0) -> Floats:
    """When every engine samples, shape (windows + 1,), in seconds: step added to step, and at last the end."""
    first, step = sampling_steps(duration, windows, begin)
    steps = np.full(windows, step)
    steps[:2] = (0.0, first)[:windows]
    times: Floats = np.append(np.cumsum(steps), duration)
    return times
