"""Tables of a calibration."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from simulator.calibration.calibrate import Calibration
from simulator.calibration.parameter import Parameter
from simulator.calibration.validate import Comparison, mean_absolute_percentage_error
from simulator.report.layout import counted, heading, lines_of, table_of
from simulator.results.estimate import Estimate
from simulator.results.results import to_json

if TYPE_CHECKING:
    from rich.console import RenderableType

DIGITS = 3
"""Of the ends of intervals."""


def calibration_tables(found: Calibration) -> Iterable[RenderableType]:
    """Everything that `tpsim calibrate` shows."""
    yield heading(found.after.model)
    yield _estimates(found)
    yield _errors(found)
    if found.warnings:
        yield lines_of([("warning", text) for text in found.warnings])
    yield lines_of([("interval", "95 %, takes the errors of the figures for independent and the model for right")])
    yield heading("to apply it")
    yield Text("\n".join(f"--set {shlex.quote(setting)}" for setting in found.settings), overflow="fold")


def _estimates(found: Calibration) -> Table:
    table = table_of("parameter", "start", "estimate", "interval")
    for parameter, estimate in zip(found.parameters, found.estimates, strict=True):
        table.add_row(
            parameter.path, parameter.text(parameter.start), parameter.text(estimate.value), _interval(estimate)
        )
    return table


def _interval(estimate: Estimate) -> str:
    """In the unit of the estimate, with as many decimals as tell the ends apart from it."""
    if math.isnan(estimate.low):
        return "–"
    width = estimate.high - estimate.low
    digits = DIGITS if width == 0.0 else max(DIGITS, 2 + math.ceil(math.log10(estimate.value / width)))
    return f"[{estimate.low:#.{digits}g}, {estimate.high:#.{digits}g}]"


def _errors(found: Calibration) -> Table:
    table = table_of("mean absolute error", "before", "after", "without a prediction")
    for label, choose in (("fitted", found.fitted), ("held out", found.held_out)):
        before, after = choose(found.before), choose(found.after)
        if after:
            label = f"{label}, {counted(len(after), 'number')}"
            table.add_row(label, _error(before), _error(after), f"{_unpredicted(before)}, then {_unpredicted(after)}")
    return table


def _error(comparisons: Sequence[Comparison]) -> str:
    error = mean_absolute_percentage_error(comparisons)
    return "–" if math.isnan(error) else f"{error:.1%}"


def _unpredicted(comparisons: Sequence[Comparison]) -> int:
    return sum(math.isnan(each.error) for each in comparisons)


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
