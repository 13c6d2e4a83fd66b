"""Conservation: laws that every run obeys whatever the model, checked on every run.

Both sides of a law are equal up to rounding, of which there are two kinds. Sums round by a share of themselves, for
which there is a relative tolerance. And the clock is a float: at time t it goes in steps of the floats around t, some
1e-16 of t, to which the moment of every event is rounded. A job that is given its work in full (`delivered`) has then
held a server for up to a step more or less than that takes (`busy_area`), however short it is itself; in an hour at one
request of 1 ns that is not a small share. So the utilisation law allows for some steps for every job that came, at
the most work that a station does in a second. At ordinary times, say 1e4 jobs in 100 s, that is 1e-9 s in all.
Likewise, the work that sharing has given to a job under way is the difference of numbers as large as all its work, so
some steps of floats of that size are allowed for, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from simulator.errors import ConservationError
from simulator.program.instructions import Work
from simulator.program.program import Program
from simulator.program.stations import (
    Batch,
    External,
    Inference,
    Servers,
    Sharing,
    Station,
    Store,
    capacity_of,
)
from simulator.records import COMPLETED, IN_FLIGHT, STATION_FIELDS, WORKLOAD_FIELDS, Records, RequestTable

TOLERANCE = 1e-6
STEPS = 4
"""Steps of the clock that a job's work may be off by: it begins, ends, and may be moved in between."""
FIELD = {name: index for index, name in enumerate(STATION_FIELDS)}
BUSY_AREA, DELIVERED = FIELD["busy_area"], FIELD["delivered"]
COUNT = {name: index for index, name in enumerate(WORKLOAD_FIELDS)}


class Tally:
    """What the laws need to know of a workload's requests, summed up chunk by chunk."""

    def __init__(self, workload: str) -> None:
        self.workload = workload
        self.arrived = self.completed = self.failed = 0
        self.sojourn = 0.0

    def add(self, requests: RequestTable, duration: float) -> None:
        """Take in the next requests; raises ConservationError where the components of one do not add up."""
        completed = int(np.count_nonzero(requests.outcome == COMPLETED))
        in_flight = int(np.count_nonzero(requests.outcome == IN_FLIGHT))
        self.arrived += len(requests)
        self.completed += completed
        self.failed += len(requests) - completed - in_flight
        end = np.where(requests.outcome == IN_FLIGHT, duration, requests.end)
        self.sojourn += float(np.sum(end - requests.arrival))
        _check_components(requests)


def _check_components(table: RequestTable) -> None:
    ended = slice(np.count_nonzero(table.outcome != IN_FLIGHT))
    parts = table.wait[ended].sum(axis=1) + table.service[ended].sum(axis=1)
    whole = (table.end - table.arrival)[ended]
    wrong = np.abs(parts - whole) > TOLERANCE * (1e-3 + whole)
    if table.components and wrong.any():
        row = int(np.argmax(wrong))
        raise ConservationError(
            f"{table.workload}: components of a request add up to {parts[row]!r} s, its time is {whole[row]!r} s"
        )


def check(records: Records, program: Program) -> None:
    """Raise ConservationError where records that keep their requests break a law."""
    tallies = [Tally(spec.name) for spec in program.workloads]
    for tally, table in zip(tallies, records.requests, strict=True):
        tally.add(table, records.duration)
    check_tallies(tallies, records, program)


def check_tallies(tallies: Sequence[Tally], records: Records, program: Program) -> None:
    """Raise ConservationError where a run breaks flow balance, Little's law or the utilisation law."""
    for tally, counts in zip(tallies, records.workloads[-1], strict=True):
        _check_workload(tally, counts)
    steps = math.ulp(records.duration), math.ulp(_largest_work(program))
    for station, fields in zip(program.stations, records.stations[-1], strict=True):
        inside = 0.0 if isinstance(station, Store) else fields[FIELD["present"]]
        _check_flow(station.resource, fields, inside)
        if isinstance(station, Servers | Sharing | Batch | Inference | External):
            allowance = float(fields[FIELD["arrivals"]]) * _step_of_work(station, *steps)
            law = f"{station.resource}: utilisation law"
            _agree(law, float(fields[BUSY_AREA]), float(fields[DELIVERED]), allowance)


def _step_of_work(station: Station, of_clock: float, of_work: float) -> float:
    """What a station's account of one job's work may be off by, from the steps of the clock (s) and of the work."""
    most = capacity_of(station)
    a_second = most if math.isfinite(most) else 1.0
    return STEPS * (a_second * of_clock + (of_work if isinstance(station, Sharing) else 0.0))


def _largest_work(program: Program) -> float:
    """The largest mean amount that is asked of any station."""
    amounts = {each.amount for each in program.instructions if isinstance(each, Work)}
    draws = (program.draws[amount] for amount in amounts)
    return max((draw.distribution.mean * draw.mean_factor for draw in draws), default=0.0)


def _check_workload(tally: Tally, counts: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    counted = tuple(int(counts[COUNT[name]]) for name in ("arrived", "completed", "failed"))
    recorded = tally.arrived, tally.completed, tally.failed
    if counted != recorded:
        raise ConservationError(
            f"{tally.workload}: {counted[0]} arrived, {counted[1]} completed, {counted[2]} failed, "
            f"but the records hold {recorded[0]}, {recorded[1]}, {recorded[2]}"
        )
    _agree(f"{tally.workload}: Little's law", float(counts[COUNT["population_area"]]), tally.sojourn)


def _check_flow(resource: str, fields: np.ndarray[tuple[int], np.dtype[np.float64]], inside: float) -> None:
    gone = sum(fields[FIELD[name]] for name in ("completions", "rejections", "withdrawals"))
    if fields[FIELD["arrivals"]] != gone + inside:
        raise ConservationError(
            f"{resource}: {fields[FIELD['arrivals']]:.0f} came, {gone + inside:.0f} left or are there"
        )


def _agree(law: str, one: float, other: float, allowance: float = 0.0) -> None:
    if abs(one - other) > TOLERANCE * max(abs(one), abs(other), 1e-9) + allowance:
        raise ConservationError(f"{law}: {one!r} is not {other!r}")
