"""Calibration: numbers of a model estimated from a measured table, by least squares over simulations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.calibration.misfit import CHANGE, PENALTY, Misfit
from simulator.calibration.parameter import Parameter, parameters_of, problem_of
from simulator.calibration.uncertainty import WIDEST, Uncertainty, uncertainty
from simulator.calibration.validate import (
    Comparison,
    Row,
    Validation,
    check_values,
    measurements_of,
    read_table,
    rows_with,
    table_path,
    validate,
    values_text,
)
from simulator.errors import InputError, Problem
from simulator.model.files import load
from simulator.model.measurement import Measurements
from simulator.results.estimate import Estimate
from simulator.study.run import Settings

if TYPE_CHECKING:
    import numpy as np

FEWER_SQUARES = 1e-4
"""Relative decrease of the sum of squares at which the search ends."""
SMALL_STEP = 1e-3
"""Length of a step, in logarithms and relative to the way from the start, at which it ends."""
MOST_STEPS = 30
OTHER_DURATION = 1.5
"""Ratio of automatic durations at the estimates and at the start from which the search goes on with the new ones."""
MOST_ROUNDS = 3
WIDE = 10.0
"""Ratio of an interval's ends above which a parameter is not identified."""
ALIKE = 0.99
"""Correlation of two estimates, without sign, above which they are not told apart."""
MOST_SAID = 3
EXPECTED_STEPS = 6
"""For progress."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Estimates of parameters, in the units that they are written in, and the model's errors before and after.

    `correlations` are those of the estimates' logarithms; `lines` those of the rows that were fitted to, of so
    many `rows`: those that have one of the values in every column of `chosen_by`.
    """

    parameters: tuple[Parameter, ...]
    estimates: tuple[Estimate, ...]
    correlations: tuple[tuple[float, ...], ...]
    before: Validation
    after: Validation
    lines: frozenset[int]
    rows: int
    chosen_by: Mapping[str, Sequence[str]]
    warnings: tuple[str, ...]

    @property
    def settings(self) -> tuple[str, ...]:
        """What `--set` takes to apply the estimates."""
        return tuple(
            parameter.setting(estimate.value)
            for parameter, estimate in zip(self.parameters, self.estimates, strict=True)
        )

    @property
    def values(self) -> dict[str, str]:
        """The estimates as they are written in a model, by path."""
        return {
            parameter.path: parameter.text(estimate.value)
            for parameter, estimate in zip(self.parameters, self.estimates, strict=True)
        }

    def fitted(self, validation: Validation) -> tuple[Comparison, ...]:
        """Of the validation before or after, the comparisons of rows that were fitted to."""
        return tuple(each for each in validation.comparisons if each.line in self.lines)

    def held_out(self, validation: Validation) -> tuple[Comparison, ...]:
        """Of the validation before or after, the comparisons of rows that were not used."""
        return tuple(each for each in validation.comparisons if each.line not in self.lines)


def calibrate(
    model: str | Path,
    parameters: Sequence[str],
    table: str | Path | None = None,
    overrides: Sequence[str] = (),
    settings: Settings | None = None,
    tell: Callable[[int, int], None] | None = None,
    where: Mapping[str, Sequence[str]] | None = None,
) -> Calibration:
    """Estimate the numbers at some dotted paths of a model from the rows of a table (its own where none is given).

    Over the rows that pass `where`, or that the model's `measurements` mark as fitted, or all where none are, the sum
    of squares of log(predicted / measured) of every compared column is made least, with the parameters in logarithms,
    beginning at their values in the model. A row is always simulated with the same random numbers, so that differences
    are not drowned in chance, and every row with others, so that errors are independent. Intervals are those of
    `uncertainty`. `tell` hears the simulations done, and those expected.

    Raises InputError where the model or the table is invalid, a path leads to no number above 0 that can be changed a
    little, a parameter changes no prediction, or there are more parameters than measured numbers.
    """
    settings, path = settings or Settings(), Path(model)
    measurements = measurements_of(load(path, overrides), path)
    source = table_path(path, measurements, table)
    chosen = parameters_of(path, parameters, overrides)
    _check_free(chosen, measurements)
    every = read_table(source, measurements)
    check_values(every, source, where or {})
    chosen_by = where or measurements.fitted
    rows = _rows_to_fit(every, source, chosen_by)
    numbers = len(rows) * len(measurements.compare)
    if len(chosen) > numbers:
        message = f"{len(chosen)} parameters for {numbers} measured numbers, expected no more parameters than numbers"
        raise InputError([Problem(str(source), 0, 0, "", message)])
    counter = _Counter(tell, 2 * len(every) + EXPECTED_STEPS * len(rows) * (1 + 2 * len(chosen)))
    before = validate(path, table, overrides, None, settings, counter.part())
    misfit = Misfit(path, overrides, chosen, rows, measurements, settings, counter.one)
    found = _search(misfit)
    estimates = tuple(
        found.uncertainty.estimate(number, each.start * math.exp(found.logarithms[number]))
        for number, each in enumerate(chosen)
    )
    applied = [each.setting(estimate.value) for each, estimate in zip(chosen, estimates, strict=True)]
    after = validate(path, table, [*overrides, *applied], None, settings, counter.part())
    warnings = [*_about_rows(rows, every, measurements, chosen_by), *_about_figures(misfit, found)]
    warnings += _about_estimates(chosen, estimates, found.uncertainty)
    lines = frozenset(row.line for row in rows)
    return Calibration(
        chosen, estimates, found.uncertainty.correlations, before, after, lines, len(every), chosen_by, tuple(warnings)
    )


def _check_free(parameters: Sequence[Parameter], measurements: Measurements) -> None:
    """Raise InputError where a row's own cell sets a parameter."""
    columns = {field: column for column, field in measurements.set.items()}
    problems = [
        problem_of(each.path, f"every row sets it, in the column {columns[each.path]!r}, so it cannot be fitted")
        for each in parameters
        if each.path in columns
    ]
    if problems:
        raise InputError(problems)


def _rows_to_fit(rows: Sequence[Row], source: Path, chosen_by: Mapping[str, Sequence[str]]) -> list[Row]:
    """Those with the values that choose them; raises InputError where there are none."""
    chosen = rows_with(rows, source, chosen_by)
    if not chosen:
        message = f"no row has {values_text(chosen_by)}" if rows else "no rows, expected some to fit to"
        raise InputError([Problem(str(source), 0, 0, "", message)])
    return chosen


class _Counter:
    """Adds up simulations that are told of part by part."""

    def __init__(self, tell: Callable[[int, int], None] | None, planned: int) -> None:
        self.tell, self.planned, self.done = tell, planned, 0

    def one(self) -> None:
        """One more."""
        self.done += 1
        if self.tell:
            self.tell(self.done, max(self.planned, self.done + 1))

    def part(self) -> Callable[[int, int], None]:
        """What a part tells of its own, that each call is one more."""
        return lambda done, planned: self.one()


@dataclass(frozen=True, slots=True)
class _Found:
    """Where the search ended: logarithms of the parameters over their start, and how surely."""

    logarithms: np.ndarray
    uncertainty: Uncertainty
    settled: bool


def _search(misfit: Misfit) -> _Found:
    import numpy as np
    from scipy.optimize import least_squares

    logarithms = np.zeros(len(misfit.parameters))
    misfit.take_lengths(logarithms)
    _check_influence(misfit, logarithms)
    for _ in range(MOST_ROUNDS):
        best = least_squares(
            misfit.residuals, logarithms, misfit.jacobian, method="trf", ftol=FEWER_SQUARES, xtol=SMALL_STEP,
            gtol=1e-10, max_nfev=MOST_STEPS,
        )  # fmt: skip
        start, logarithms = logarithms, best.x
        predicted = misfit.predicted(logarithms)
        # A warm-up that was found where there is no steady state leaves out too much.
        if misfit.other_length(logarithms) <= OTHER_DURATION and (misfit.predicted(start) == predicted).all():
            break
        misfit.take_lengths(logarithms)
    predicted = misfit.predicted(logarithms)
    residuals, jacobian = misfit.residuals(logarithms), misfit.jacobian(logarithms)
    known = uncertainty(jacobian[predicted], residuals[predicted])
    return _Found(logarithms, known, best.status > 0)


def _check_influence(misfit: Misfit, logarithms: np.ndarray) -> None:
    """Raise InputError where no prediction depends on a parameter at its start."""
    jacobian = misfit.jacobian(logarithms)
    problems = [
        problem_of(
            each.path,
            f"no prediction depends on it: with {CHANGE:.0%} more or less than {each.text(each.start)}, every figure "
            "of the fitted rows stays the same",
        )
        for each, derivatives in zip(misfit.parameters, jacobian.T, strict=True)
        if not derivatives.any()
    ]
    if problems:
        raise InputError(problems)


def _about_rows(
    rows: Sequence[Row], every: Sequence[Row], measurements: Measurements, chosen_by: Mapping[str, Sequence[str]]
) -> list[str]:
    if not chosen_by:
        return ["measurements.fitted marks no rows: all were fitted to, so nothing is held out"]
    said = ["every row was fitted to: nothing is held out"] if len(rows) == len(every) else []
    if any(measurements.was_fitted(dict(row.cells)) != (row in rows) for row in every):
        values = ", ".join(f"{column}: [{', '.join(texts)}]" for column, texts in chosen_by.items())
        said.append(f"measurements.fitted marks other rows: with these estimates it should be {{{values}}}")
    return said


def _about_figures(misfit: Misfit, found: _Found) -> list[str]:
    """What is to be said of figures without a prediction, and of the search."""
    predicted = misfit.predicted(found.logarithms)
    missing = [name for name, there in zip(misfit.names, predicted, strict=True) if not there]
    said = [
        f"{name} has no prediction at the estimates, for want of a steady state or of requests: its error has a factor "
        f"of {math.exp(PENALTY):.0f} added to it in the fit, and is left out of the intervals"
        for name in missing[:MOST_SAID]
    ]
    if len(missing) > MOST_SAID:
        said.append(f"{len(missing) - MOST_SAID} more figures have none, and are treated alike")
    if not found.settled:
        said.append(f"the search was stopped after {MOST_STEPS} steps, before the errors stopped falling")
    return said


def _about_estimates(parameters: Sequence[Parameter], estimates: Sequence[Estimate], known: Uncertainty) -> list[str]:
    """What the rows do not say of the parameters."""
    if known.freedom < 1:
        return ["as many parameters as measured numbers, or more: nothing is left to know intervals from"]
    said = [
        f"{parameter.path} is not identified by these rows: its interval spans a factor of {_span(estimate)}"
        for parameter, estimate in zip(parameters, estimates, strict=True)
        if not estimate.high / estimate.low <= WIDE
    ]
    for first, parameter in enumerate(parameters):
        for second in range(first):
            correlation = known.correlations[first][second]
            if abs(correlation) > ALIKE:
                said.append(
                    f"{parameters[second].path} and {parameter.path} are not told apart by these rows: the correlation "
                    f"of their estimates is {correlation:.3f}"
                )
    return said


def _span(estimate: Estimate) -> str:
    """Ratio of the ends of an interval."""
    ratio = estimate.high / estimate.low
    return f"{ratio:,.0f}" if math.isfinite(ratio) else f"more than {WIDEST**2:,.0f}"
