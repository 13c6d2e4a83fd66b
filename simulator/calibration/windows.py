"""Windows: what was measured of a running system, one row of a CSV file for each stretch of time."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from simulator.calibration.measured_number import expected, measured_number
from simulator.calibration.validate import problem_of_the_file
from simulator.errors import InputError, Problem
from simulator.model.columns import read_rows
from simulator.model.words import nearest, short

TIME = "time"
DIMENSIONS = {"offered": "rate", "throughput": "rate", "latency": "duration", "utilization": "fraction"}
"""What can be measured in a window. A latency is the mean of the requests that completed in it."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A column: what was measured (a key of DIMENSIONS), of which workload or resource, and where it is."""

    kind: str
    of: str
    index: int


@dataclass(frozen=True, slots=True)
class Window:
    """A row: its line, the time (s) and how that was written, and what was measured, in base units.

    What was not measured, an empty cell, is missing in `values`.
    """

    line: int
    time: float
    written: str
    values: Mapping[Measured, float]


def read_windows(
    source: Path, workloads: Sequence[str], resources: Collection[str]
) -> tuple[list[Measured], list[Window]]:
    """The columns and windows of a CSV file, in order of time.

    The header has `time`, in seconds or as ISO 8601 timestamps, and any of `NAME: offered`, `NAME: throughput`,
    `NAME: latency` of a workload, whose name may be left out where it is the only one, and `NAME: utilization` of a
    resource. Numbers without a unit are in 1/s, seconds and shares. Raises InputError with every problem, each
    with its line and column.
    """
    try:
        header, rows = read_rows(source)
    except ValueError as error:
        raise InputError([problem_of_the_file(source, str(error))]) from None
    columns, problems = _columns(source, header, workloads, resources)
    if problems:
        raise InputError(problems)
    place = header.index(TIME)
    windows: list[Window] = []
    for line, cells in rows:
        if len(cells) != len(header):
            problems.append(Problem(str(source), line, 1, "", f"{len(cells)} cells, expected {len(header)}"))
            continue
        values = _values(source, line, cells, columns, problems)
        try:
            time = _time(cells[place].strip())
        except ValueError as error:
            problems.append(Problem(str(source), line, place + 1, TIME, str(error)))
            continue
        if windows and not time > windows[-1].time:
            message = f"got {cells[place].strip()!r}, expected a time after that of the row above"
            problems.append(Problem(str(source), line, place + 1, TIME, message))
        windows.append(Window(line, time, cells[place].strip(), values))
    if not rows:
        problems.append(Problem(str(source), 2, 1, "", "no rows, expected one for each window"))
    if problems:
        raise InputError(problems)
    return columns, windows


def _columns(
    source: Path, header: list[str], workloads: Sequence[str], resources: Collection[str]
) -> tuple[list[Measured], list[Problem]]:
    columns: list[Measured] = []
    problems: list[Problem] = []
    if TIME not in header:
        problems.append(Problem(str(source), 1, 1, "", f"no column {TIME!r}, it has: {', '.join(header) or 'none'}"))
    for index, name in enumerate(header):
        if name == TIME:
            if header.index(TIME) < index:
                problems.append(Problem(str(source), 1, index + 1, name, "this column is there twice"))
            continue
        try:
            kind, of = _measured(name, workloads, resources)
        except ValueError as error:
            problems.append(Problem(str(source), 1, index + 1, name, str(error)))
            continue
        if any((kind, of) == (each.kind, each.of) for each in columns):
            problems.append(Problem(str(source), 1, index + 1, name, "this is measured in a column before"))
        columns.append(Measured(kind, of, index))
    if not columns and not problems:
        problems.append(Problem(str(source), 1, 1, "", f"expected a column with one of {', '.join(DIMENSIONS)}"))
    return columns, problems


def _measured(name: str, workloads: Sequence[str], resources: Collection[str]) -> tuple[str, str]:
    """Kind and name of what a column measures; raises ValueError for a header that says neither."""
    of, _, kind = (part.strip() for part in name.rpartition(":"))
    if kind not in DIMENSIONS:
        raise ValueError(f"got {short(name)}, expected 'NAME: KIND' with KIND one of {', '.join(DIMENSIONS)}")
    known: Collection[str] = resources if kind == "utilization" else workloads
    what = "resource that works" if kind == "utilization" else "workload"
    if not of and kind != "utilization" and len(workloads) == 1:
        return kind, workloads[0]
    if of not in known:
        raise ValueError(f"got {short(of)}, expected a {what}; {nearest(of, known, 'it has')}")
    return kind, of


def _values(
    source: Path, line: int, cells: list[str], columns: list[Measured], problems: list[Problem]
) -> dict[Measured, float]:
    values: dict[Measured, float] = {}
    for column in columns:
        text = cells[column.index].strip()
        if not text:
            continue
        dimension = DIMENSIONS[column.kind]
        number = measured_number(text, dimension)
        most = 1.0 if column.kind == "utilization" else math.inf
        if number is None or not 0.0 <= number <= most or math.isinf(number):
            range_of = "from 0 to 1" if column.kind == "utilization" else ">= 0"
            message = f"got {short(text)}, expected {expected(dimension, range_of)}"
            problems.append(Problem(str(source), line, column.index + 1, f"{column.of}: {column.kind}", message))
        else:
            values[column] = number
    return values


def _time(text: str) -> float:
    """Seconds, since 1970 in UTC where it is a timestamp; raises ValueError."""
    seconds = measured_number(text, "duration")
    if seconds is not None and math.isfinite(seconds):
        return seconds
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        message = f"got {short(text)}, expected seconds or a timestamp such as 2026-01-31T12:00:00Z"
        raise ValueError(message) from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
