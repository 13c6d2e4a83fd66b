"""The recorder: request rows and station samples, collected as flat arrays while the simulation runs."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from simulator.engines.simpy.tokens import Token
from simulator.program.program import Workload
from simulator.records import (
    CHUNK,
    COMPLETED,
    IN_FLIGHT,
    INFERENCE_FIELDS,
    STATION_FIELDS,
    WORKLOAD_FIELDS,
    Consume,
    Records,
    RequestTable,
)

if TYPE_CHECKING:
    from simulator.engines.simpy.engine import Engine


class WorkloadRecorder:
    """Rows and counts of one workload; `live` holds the root tokens of requests in flight.

    Where there is something to `consume` rows, it gets them by the chunk.
    """

    def __init__(self, spec: Workload, consume: Callable[[RequestTable], None] | None) -> None:
        self.spec = spec
        self.consume = consume
        self.chunk = CHUNK * (6 + 2 * len(spec.components) + len(spec.meters))
        self.rows = array("d")
        self.live: dict[Token, None] = {}
        self.arrived = self.completed = self.failed = 0
        self.population_area = 0.0
        self.last = 0.0

    def account(self, now: float) -> None:
        """Bring the integral of the number of requests in flight up to now."""
        self.population_area += (now - self.last) * len(self.live)
        self.last = now

    def arrive(self, token: Token, now: float) -> None:
        """A request has come."""
        self.account(now)
        self.arrived += 1
        self.live[token] = None

    def end(self, token: Token, now: float, outcome: int) -> None:
        """A request has completed (outcome COMPLETED) or failed."""
        self.account(now)
        del self.live[token]
        if outcome == COMPLETED:
            self.completed += 1
        else:
            self.failed += 1
        self._write(token, now, outcome)
        if self.consume is not None and len(self.rows) >= self.chunk:
            self.consume(self.table())
            self.rows = array("d")

    def _write(self, token: Token, end: float, outcome: int) -> None:
        request = token.request
        self.rows.extend((request.number, request.operation, request.arrival, end, outcome, request.retries))
        self.rows.extend(token.times)
        self.rows.extend(request.meters)

    def write_in_flight(self) -> None:
        """Write the requests that the end of the run cuts off."""
        for token in self.live:
            self._write(token, float("nan"), IN_FLIGHT)

    def table(self) -> RequestTable:
        """The rows so far."""
        spec = self.spec
        operations = tuple(entry.operation for entry in spec.entries)
        return RequestTable.from_rows(spec.name, operations, spec.components, spec.meters, np.frombuffer(self.rows))

    def sample(self, now: float) -> tuple[float, ...]:
        """The workload's fields, see `simulator.records.WORKLOAD_FIELDS`."""
        self.account(now)
        return self.population_area, self.arrived, self.completed, self.failed


class Recorder:
    """All that a run leaves behind."""

    def __init__(self, engine: Engine, consume: Consume | None = None) -> None:
        self.engine = engine
        self.consume = consume
        self.workloads = [
            WorkloadRecorder(spec, None if consume is None else partial(consume, number))
            for number, spec in enumerate(engine.program.workloads)
        ]
        self.times: list[float] = []
        self.station_samples: list[list[tuple[float, ...]]] = []
        self.inference_samples: list[list[tuple[float, ...]]] = []
        self.workload_samples: list[list[tuple[float, ...]]] = []

    def sample(self, now: float) -> None:
        """Sample every station and workload."""
        self.times.append(now)
        self.station_samples.append([station.sample() for station in self.engine.stations])
        self.inference_samples.append([each.tokens_sample() for each in self.engine.inference])
        self.workload_samples.append([workload.sample(now) for workload in self.workloads])

    def records(self, seed: int, replication: int, duration: float) -> Records:
        """The run's records."""
        program = self.engine.program
        return Records(
            seed=seed,
            replication=replication,
            duration=duration,
            engine="simpy",
            requests=self._requests(),
            resources=tuple(station.resource for station in program.stations),
            times=np.array(self.times),
            stations=np.array(self.station_samples, dtype=np.float64).reshape(len(self.times), -1, len(STATION_FIELDS)),
            inference=np.array(self.inference_samples, dtype=np.float64).reshape(
                len(self.times), -1, len(INFERENCE_FIELDS)
            ),
            workloads=np.array(self.workload_samples, dtype=np.float64).reshape(
                len(self.times), -1, len(WORKLOAD_FIELDS)
            ),
        )

    def _requests(self) -> tuple[RequestTable, ...]:
        """The requests, where nothing else consumes them."""
        for workload in self.workloads:
            workload.write_in_flight()
        if self.consume is None:
            return tuple(workload.table() for workload in self.workloads)
        for number, workload in enumerate(self.workloads):
            self.consume(number, workload.table())
        return ()
