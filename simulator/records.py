"""Records: the flat columns that leave an engine, and all that leaves it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

FORMAT = 1
COMPLETED, IN_FLIGHT = 0, -1

STATION_FIELDS = (
    "busy_area",  # integral of work in service: servers busy, work done by sharing, units held, tokens taken
    "waiting_area",  # integral of the number waiting
    "arrivals",
    "completions",
    "rejections",
    "withdrawals",
    "hits",
    "delivered",  # work credited to jobs, summed job by job; the utilisation law says it equals busy_area
    "present",  # number present now
)
WORKLOAD_FIELDS = ("population_area", "arrived", "completed", "failed")


@dataclass(frozen=True, slots=True, eq=False)
class RequestTable:
    """One row per request of a workload, in order of ending; those in flight last, in order of arrival.

    `outcome` is COMPLETED, IN_FLIGHT, or 1 + the index of the failure reason; `end` is NaN while in flight.
    `wait` and `service` have shape (requests, components), in seconds.
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

    @classmethod
    def from_rows(
        cls, workload: str, operations: tuple[str, ...], components: tuple[str, ...], rows: Floats
    ) -> RequestTable:
        """From rows of (number, operation, arrival, end, outcome, retries, wait 0, service 0, wait 1, ...)."""
        rows = rows.reshape(-1, 6 + 2 * len(components))
        return cls(
            workload, operations, components,
            number=rows[:, 0].astype(np.int64),
            operation=rows[:, 1].astype(np.int64),
            arrival=rows[:, 2].copy(),
            end=rows[:, 3].copy(),
            outcome=rows[:, 4].astype(np.int64),
            retries=rows[:, 5].astype(np.int64),
            wait=rows[:, 6::2].copy(),
            service=rows[:, 7::2].copy(),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.number)

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """Every column by name."""
        return {
            "number": self.number, "operation": self.operation, "arrival": self.arrival, "end": self.end,
            "outcome": self.outcome, "retries": self.retries, "wait": self.wait, "service": self.service,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """What one run (one replication) left behind.

    `resources` names the resource of each station. `times` has shape (T,), `stations` (T, stations,
    STATION_FIELDS) and `workloads` (T, workloads, WORKLOAD_FIELDS): cumulated from time 0, sampled at `times`,
    the first row at 0 and the last at `duration`.
    """

    seed: int
    replication: int
    duration: float
    engine: str
    requests: tuple[RequestTable, ...]
    resources: tuple[str, ...]
    times: Floats
    stations: Floats
    workloads: Floats

    def digest(self) -> str:
        """SHA-256 of every column; the engine's name is left out, for engines must agree."""
        digest = hashlib.sha256(f"tpsim {FORMAT} {self.seed} {self.replication} {self.duration!r}".encode())
        for table in self.requests:
            digest.update("\0".join((table.workload, *table.operations, *table.components)).encode())
            for column in table.columns().values():
                digest.update(np.ascontiguousarray(column).tobytes())
        for samples in (self.times, self.stations, self.workloads):
            digest.update(np.ascontiguousarray(samples).tobytes())
        return digest.hexdigest()
