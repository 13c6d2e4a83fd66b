"""Tables of a calibration."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from simulator.calibration.calibrate import Calibration
from simulator.calibration.parameter import Parameter
from simulator.calibration.validate import Comparison, mean_absolute_percentage_error, values_text
from simulator.report.layout import counted, heading, interval, lines_of, table_of, value
from simulator.results.estimate import Estimate
from simulator.results.results import to_json

if TYPE_CHECKING:
    from rich.console import RenderableType


def calibration_tables(found: Calibration) -> Iterable[RenderableType]:
    """Everything that `tpsim calibrate` shows."""
    yield heading(found.after.model)
    yield _estimates(found)
    yield _errors(found)
    lines = [("fitted to", _rows(found)), *_without_prediction(found), *(("warning", text) for text in found.warnings)]
    yield lines_of([*lines, ("interval", "95 %, if errors are independent and nothing but these numbers is wrong")])
    yield heading("to apply it")
    yield Text("\n".join(f"--set {shlex.quote(setting)}" for setting in found.settings), overflow="fold")


def _estimates(found: Calibration) -> Table:
    table = table_of("parameter", "start", "estimate", "interval")
    for parameter, estimate in zip(found.parameters, found.estimates, strict=True):
        table.add_row(
            parameter.path,
            parameter.text(parameter.start),
            f"{parameter.before}{value(estimate, 'count')}{parameter.after}",
            interval(estimate, "count"),
        )
    return table


def _errors(found: Calibration) -> Table:
    table = table_of("mean absolute error", "before", "after")
    for label, before, after in _groups(found):
        table.add_row(f"{label}, {counted(len(after), 'number')}", _error(before), _error(after))
    return table


def _rows(found: Calibration) -> str:
    """Which rows of the table were fitted to."""
    if len(found.lines) == found.rows:
        return f"all {counted(found.rows, 'row')}"
    return f"{len(found.lines)} of {counted(found.rows, 'row')}: {values_text(found.chosen_by)}"


def _groups(found: Calibration) -> Iterator[tuple[str, Sequence[Comparison], Sequence[Comparison]]]:
    """Rows that were fitted to and that were not, where there are such: before and after."""
    for label, choose in (("fitted", found.fitted), ("held out", found.held_out)):
        if choose(found.after):
            yield label, choose(found.before), choose(found.after)


def _without_prediction(found: Calibration) -> Iterator[tuple[str, str]]:
    """How many figures the errors leave out."""
    for label, *groups in _groups(found):
        before, after = (sum(math.isnan(each.error) for each in group) for group in groups)
        if before or after:
            yield label, f"without a prediction, and in no error: {before} before, {after} after"


def _error(comparisons: Sequence[Comparison]) -> str:
    error = mean_absolute_percentage_error(comparisons)
    return "–" if math.isnan(error) else f"{error:.1%}"


def calibration_json(found: Calibration) -> dict[str, Any]:
    """What `tpsim calibrate --json` prints, without the version."""
    return {
        "model": found.after.model,
        "source": found.after.source,
        "parameters": [
            _parameter_json(*each) for each in zip(found.parameters, found.estimates, found.settings, strict=True)
        ],
        "correlations": to_json(found.correlations),
        "mape": {
            when: {
                name: to_json(mean_absolute_percentage_error(choose(validation)))
                for name, choose in (("held_out", found.held_out), ("fitted", found.fitted))
            }
            for when, validation in (("before", found.before), ("after", found.after))
        },
        "fitted_lines": sorted(found.lines),
        "fitted_where": {column: list(values) for column, values in found.chosen_by.items()},
        "warnings": list(found.warnings),
    }


def _parameter_json(parameter: Parameter, estimate: Estimate, setting: str) -> dict[str, Any]:
    return {
        "path": parameter.path,
        "unit": parameter.unit,
        "start": parameter.start,
        "estimate": estimate.to_json(),
        "set": setting,
    }
