"""Validation: a model's prediction beside every row of a measured table, and how far off it was."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from simulator.calibration.measured_number import expected, measured_number
from simulator.errors import InputError, Problem
from simulator.model.columns import read_rows
from simulator.model.files import load
from simulator.model.measurement import Measurements
from simulator.model.objective import parse_metric
from simulator.model.overrides import EXPECTED_VALUE
from simulator.model.system import System
from simulator.results.estimate import Estimate
from simulator.results.metrics import statistic, steady
from simulator.study.executor import map_tasks
from simulator.study.run import Experiment, Settings, finish, prepare_engine
from simulator.study.sweep import systems_at


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measured number: its row (as text), the prediction, and the relative error (0.1: 10 % too high).

    The prediction is NaN where there is none: a latency without a steady state, a percentile of few requests.
    """

    line: int
    row: Mapping[str, str]
    column: str
    metric: str
    dimension: str
    measured: float
    predicted: Estimate
    fitted: bool

    @property
    def error(self) -> float:
        """(predicted - measured) / measured."""
        return self.predicted.value / self.measured - 1.0 if self.measured else math.nan


@dataclass(frozen=True, slots=True)
class Validation:
    """All comparisons of a model with a table."""

    model: str
    source: str
    comparisons: tuple[Comparison, ...]

    @property
    def held_out(self) -> tuple[Comparison, ...]:
        """Those that the model's parameters were not fitted to."""
        return tuple(each for each in self.comparisons if not each.fitted)

    @property
    def fitted(self) -> tuple[Comparison, ...]:
        """Those that the model's parameters were fitted to."""
        return tuple(each for each in self.comparisons if each.fitted)


def mean_absolute_percentage_error(comparisons: Sequence[Comparison]) -> float:
    """MAPE as a share (0.1: 10 %) of the comparisons that have a prediction; NaN without any."""
    errors = [abs(each.error) for each in comparisons if not math.isnan(each.error)]
    return math.fsum(errors) / len(errors) if errors else math.nan


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the measured table: its line, its cells by column, and the numbers that are compared, in base units."""

    line: int
    cells: Mapping[str, str]
    measured: Mapping[str, float]


def validate(
    model: str | Path,
    table: str | Path | None = None,
    overrides: Sequence[str] = (),
    where: Mapping[str, Sequence[str]] | None = None,
    settings: Settings | None = None,
    tell: Callable[[int, int], None] | None = None,
    held_out: bool = False,
) -> Validation:
    """Predict every row of a table (the model's own where none is given) that passes `where`.

    With `held_out`, only rows that the model's parameters were not fitted to.

    Raises InputError where the model has no `measurements` section, or the table lacks a column, has a bad row, or
    has no row left.
    """
    settings = settings or Settings()
    path = Path(model)
    system = load(path, overrides)
    measurements = measurements_of(system, path)
    source = table_path(path, measurements, table)
    every, problems = _rows(source, measurements)
    check_values(every, source, where or {})
    rows = rows_with(every, source, where or {})
    rows = [row for row in rows if not (held_out and measurements.was_fitted(dict(row.cells)))]
    if not rows and not problems:
        raise InputError([Problem(str(source), 0, 0, "", "no row is left to predict by what was asked for")])
    systems = _systems(path, overrides, source, rows, measurements, problems)
    prepare_engine(systems[0], settings)
    runner = _Predictor(measurements, replace(settings, jobs=1, progress=None))
    comparisons: list[Comparison] = []
    for number, (row, predicted) in enumerate(zip(rows, map_tasks(runner, systems, settings.jobs), strict=True)):
        comparisons.extend(_comparisons(row, predicted, measurements))
        if tell:
            tell(number + 1, len(rows))
    return Validation(system.name, str(source), tuple(comparisons))


def _systems(
    path: Path,
    overrides: Sequence[str],
    source: Path,
    rows: Sequence[Row],
    measurements: Measurements,
    problems: Sequence[Problem],
) -> list[System]:
    """The model of every row; raises InputError with the problems of the rows so far and of their models."""
    points = [{place: row.cells[column] for column, place in measurements.set.items()} for row in rows]

    def place(number: int, problem: Problem) -> Problem:
        return _in_table(problem, source, rows[number], measurements)

    found = list(problems)
    try:
        systems = systems_at(path, points, overrides, place)
    except InputError as error:
        found += error.problems
    if found:
        raise InputError(sorted(found, key=lambda problem: (problem.line, problem.column)))
    return systems


def _in_table(problem: Problem, source: Path, row: Row, measurements: Measurements) -> Problem:
    """A problem of a row's model, placed at the cell that sets the field where it is that field's."""
    columns = list(row.cells)
    for column, field in measurements.set.items():
        if problem.source.startswith(f"--set {field}="):
            path = column if field == problem.path else f"{column}: {problem.path}" if problem.path else column
            return Problem(str(source), row.line, columns.index(column) + 1, path, problem.message)
    return Problem(str(source), row.line, 1, problem.path, problem.message)


def measurements_of(system: System, path: Path) -> Measurements:
    """The model's measurements section; raises InputError without one."""
    if system.measurements is None:
        message = (
            "no measurements section: it says which column of a CSV sets which field and which is predicted, e.g. "
            "measurements: {file: measured.csv, set: {cpus: hosts.app.cpu}, compare: {rps: throughput}}"
        )
        raise InputError([Problem(str(path), 0, 0, "measurements", message)])
    return system.measurements


def table_path(model: Path, measurements: Measurements, table: str | Path | None) -> Path:
    """The table that is asked for, or the model's own; raises InputError where there is neither."""
    if table is not None:
        return Path(table)
    if measurements.file is None:
        raise InputError(
            [Problem(str(model), 0, 0, "measurements.file", "missing: name a table here or on the command line")]
        )
    return model.parent / measurements.file


def read_table(source: Path, measurements: Measurements) -> list[Row]:
    """The rows of a measured table; raises InputError with every problem."""
    rows, problems = _rows(source, measurements)
    if problems:
        raise InputError(problems)
    return rows


def _rows(source: Path, measurements: Measurements) -> tuple[list[Row], list[Problem]]:
    """The rows that have every cell, and what is wrong with cells; raises InputError where columns are missing."""
    try:
        header, lines = read_rows(source)
    except ValueError as error:
        raise InputError([problem_of_the_file(source, str(error))]) from None
    wanted = [*measurements.set, *measurements.compare, *measurements.fitted, *measurements.label]
    problems = [
        Problem(str(source), 1, 1, "", f"no column {name!r}, it has: {', '.join(header) or 'none'}")
        for name in wanted
        if name not in header
    ]
    if problems:
        raise InputError(list(dict.fromkeys(problems)))
    rows = []
    for line, cells in lines:
        if len(cells) != len(header):
            problems.append(Problem(str(source), line, 1, "", f"{len(cells)} cells, expected {len(header)}"))
            continue
        row = dict(zip(header, (cell.strip() for cell in cells), strict=True))
        empty = [
            Problem(str(source), line, place, column, EXPECTED_VALUE)
            for place, (column, text) in enumerate(row.items(), start=1)
            if column in measurements.set and not text
        ]
        problems += empty
        measured = _measured(source, line, row, measurements, problems)
        if not empty:
            rows.append(Row(line, row, measured))
    return rows, problems


def problem_of_the_file(source: Path, message: str) -> Problem:
    """A message that begins with a place, `file:line:column: ` or `file: `, as a problem."""
    place = re.match(r":(\d+):(\d+): |: ", message.removeprefix(str(source)))
    if not message.startswith(str(source)) or place is None:
        return Problem(str(source), 0, 0, "", message)
    line, column = (int(number) for number in place.groups("0"))
    return Problem(str(source), line, column, "", message[len(str(source)) + place.end() :])


def _measured(
    source: Path, line: int, row: Mapping[str, str], measurements: Measurements, problems: list[Problem]
) -> dict[str, float]:
    """The numbers that are compared; adds what is wrong with cells to the problems."""
    numbers = {}
    for place, (column, text) in enumerate(row.items(), start=1):
        if column not in measurements.compare:
            continue
        dimension = parse_metric(measurements.compare[column]).dimension
        number = measured_number(text, dimension)
        if number is None or not 0.0 < number < math.inf:
            message = f"got {text!r}, expected {expected(dimension, 'above 0')}"
            problems.append(Problem(str(source), line, place, column, message))
        else:
            numbers[column] = number
    return numbers


def rows_with(rows: Sequence[Row], source: Path, where: Mapping[str, Sequence[str]]) -> list[Row]:
    """The rows that have one of the values in every column; raises InputError for a column that is not there."""
    return [row for row in rows if _passes(row, source, where)]


def check_values(rows: Sequence[Row], source: Path, where: Mapping[str, Sequence[str]]) -> None:
    """Raise InputError for values that no row has in their column, where that is there."""
    problems = []
    for column, values in where.items():
        known = {row.cells.get(column) for row in rows}
        missing = [] if None in known or not rows else [value for value in values if value not in known]
        if missing:
            problems.append(Problem(str(source), 0, 0, "", f"no row has {values_text({column: missing})}"))
    if problems:
        raise InputError(problems)


def values_text(chosen_by: Mapping[str, Sequence[str]]) -> str:
    """Such as `cpus 1, 2 or 4 and protocol http`."""
    return " and ".join(f"{column} {_one_of(values)}" for column, values in chosen_by.items())


def _one_of(values: Sequence[str]) -> str:
    *others, last = values
    return f"{', '.join(others)} or {last}" if others else last


def _passes(row: Row, source: Path, where: Mapping[str, Sequence[str]]) -> bool:
    for column, values in where.items():
        if column not in row.cells:
            known = ", ".join(row.cells)
            raise InputError([Problem(str(source), 1, 1, "", f"no column {column!r} to choose by, it has: {known}")])
        if row.cells[column] not in values:
            return False
    return True


@dataclass(frozen=True, slots=True)
class _Predictor:
    measurements: Measurements
    settings: Settings

    def __call__(self, system: System) -> dict[str, Estimate]:
        found = simulated(system, self.measurements, self.settings)
        return {
            column: figure if is_steady else Estimate.without_interval(math.nan)
            for column, (figure, is_steady) in found.items()
        }


def simulated(system: System, measurements: Measurements, settings: Settings) -> dict[str, tuple[Estimate, bool]]:
    """What a simulation says of each compared column, and whether that is no latency without a steady state.

    Such a latency depends on how long is simulated, so it is no prediction.
    """
    metrics = {column: parse_metric(text) for column, text in measurements.compare.items()}
    experiment = Experiment(system, settings, list(metrics.values()))
    results = finish(experiment)
    return {
        column: (
            statistic(metric, experiment.sections, experiment.program).estimate(results.confidence),
            metric.dimension != "duration" or steady(metric, experiment.program, results),
        )
        for column, metric in metrics.items()
    }


def _comparisons(row: Row, predicted: Mapping[str, Estimate], measurements: Measurements) -> list[Comparison]:
    found = []
    for column, text in measurements.compare.items():
        metric = parse_metric(text)
        labels = measurements.label or [name for name in row.cells if name not in measurements.compare]
        shown = {name: row.cells[name] for name in labels}
        measured = row.measured[column]
        fitted = measurements.was_fitted(dict(row.cells))
        found.append(
            Comparison(row.line, shown, column, str(metric), metric.dimension, measured, predicted[column], fitted)
        )
    return found
