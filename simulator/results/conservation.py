"""Conservation: laws that every run obeys whatever the model, checked on every run."""

from __future__ import annotations

import numpy as np

from simulator.errors import ConservationError
from simulator.program.program import Program
from simulator.program.stations import Batch, External, Servers, Sharing, Store
from simulator.records import COMPLETED, IN_FLIGHT, STATION_FIELDS, WORKLOAD_FIELDS, Records, RequestTable

TOLERANCE = 1e-6
FIELD = {name: index for index, name in enumerate(STATION_FIELDS)}
BUSY_AREA, DELIVERED = FIELD["busy_area"], FIELD["delivered"]
COUNT = {name: index for index, name in enumerate(WORKLOAD_FIELDS)}


def check(records: Records, program: Program) -> None:
    """Raise ConservationError where the records break flow balance, Little's law or the utilisation law."""
    for index, table in enumerate(records.requests):
        _check_workload(table, records.workloads[-1, index], records.duration)
    for station, fields in zip(program.stations, records.stations[-1], strict=True):
        inside = 0.0 if isinstance(station, Store) else fields[FIELD["present"]]
        _check_flow(station.resource, fields, inside)
        if isinstance(station, Servers | Sharing | Batch | External):
            _agree(f"{station.resource}: utilisation law", float(fields[BUSY_AREA]), float(fields[DELIVERED]))


def _check_workload(table: RequestTable, counts: np.ndarray[tuple[int], np.dtype[np.float64]], duration: float) -> None:
    completed = int(np.count_nonzero(table.outcome == COMPLETED))
    in_flight = int(np.count_nonzero(table.outcome == IN_FLIGHT))
    failed = len(table) - completed - in_flight
    counted = tuple(int(counts[COUNT[name]]) for name in ("arrived", "completed", "failed"))
    if counted != (len(table), completed, failed):
        raise ConservationError(
            f"{table.workload}: {counted[0]} arrived, {counted[1]} completed, {counted[2]} failed, "
            f"but the records hold {len(table)}, {completed}, {failed}"
        )
    end = np.where(table.outcome == IN_FLIGHT, duration, table.end)
    sojourn = float(np.sum(end - table.arrival))
    _agree(f"{table.workload}: Little's law", float(counts[COUNT["population_area"]]), sojourn)
    ended = table.outcome != IN_FLIGHT
    parts = table.wait[ended].sum(axis=1) + table.service[ended].sum(axis=1)
    whole = (table.end - table.arrival)[ended]
    wrong = np.abs(parts - whole) > TOLERANCE * (1e-3 + whole)
    if table.components and wrong.any():
        row = int(np.argmax(wrong))
        raise ConservationError(
            f"{table.workload}: components of a request add up to {parts[row]!r} s, its time is {whole[row]!r} s"
        )


def _check_flow(resource: str, fields: np.ndarray[tuple[int], np.dtype[np.float64]], inside: float) -> None:
    gone = sum(fields[FIELD[name]] for name in ("completions", "rejections", "withdrawals"))
    if fields[FIELD["arrivals"]] != gone + inside:
        raise ConservationError(
            f"{resource}: {fields[FIELD['arrivals']]:.0f} came, {gone + inside:.0f} left or are there"
        )


def _agree(law: str, one: float, other: float) -> None:
    if abs(one - other) > TOLERANCE * max(abs(one), abs(other), 1e-9):
        raise ConservationError(f"{law}: {one!r} is not {other!r}")
