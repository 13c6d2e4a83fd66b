"""How far off a model's predictions are, as a function of its parameters, and the derivatives of that."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from simulator.calibration.parameter import Parameter
from simulator.calibration.validate import Row, simulated
from simulator.errors import InputError
from simulator.model.measurement import Measurements
from simulator.model.system import System
from simulator.results.estimate import Estimate
from simulator.study.executor import map_tasks
from simulator.study.run import Experiment, Settings, prepare_engine, run
from simulator.study.sweep import systems_at

if TYPE_CHECKING:
    import numpy as np

Outcome = TypeVar("Outcome")
CHANGE = 0.05
"""Change of a parameter's logarithm for its derivatives: random numbers are the same, but a request that overtakes
another makes predictions jump by what is small beside this, and the curvature within it hardly counts."""
PENALTY = math.log(10.0)
"""Added to the logarithm of a latency without a steady state, which depends on how long is simulated."""
PRECISE = 17
"""Digits that say a number exactly."""


@dataclass(frozen=True, slots=True)
class _Length:
    """How a row is simulated: for how long, what of it is left out (s), and the seed, which the row has to itself.

    Were it the same in all rows, all would be too high or too low by chance together, and intervals too narrow.
    """

    duration: float
    seed: int
    warm_up: float | None = None


@dataclass(frozen=True, slots=True)
class _Task:
    """A row's model, and how to simulate it."""

    system: System
    length: _Length

    def settings(self, settings: Settings) -> Settings:
        """Those of this task."""
        return replace(settings, duration=self.length.duration, seed=self.length.seed, jobs=1, progress=None)


@dataclass(frozen=True, slots=True)
class _WarmUp:
    """Finds how much of a row's simulation is to be left out."""

    settings: Settings

    def __call__(self, task: _Task) -> float:
        return run(task.system, task.settings(self.settings)).warm_up_s


@dataclass(frozen=True, slots=True)
class _Simulate:
    """Predicts the figures of a row."""

    measurements: Measurements
    settings: Settings

    def __call__(self, task: _Task) -> dict[str, tuple[Estimate, bool]]:
        section = task.system.run.model_copy(update={"warm_up": task.length.warm_up or "none"})
        system = task.system.model_copy(update={"run": section})
        return simulated(system, self.measurements, task.settings(self.settings))


@dataclass(frozen=True, slots=True)
class _Errors:
    """Logarithms of predicted over measured, shape (n,), and which are predictions."""

    values: np.ndarray
    predicted: np.ndarray


class Misfit:
    """Residuals of rows as a function of p parameters, given as logarithms of multiples of their start, shape (p,).

    Residuals, shape (n,), are log(predicted / measured), row by row and column by column (`names`). Where there is no
    steady state, `PENALTY` is added to those of latencies; where nothing can be said it is all there is. `heard` is
    called after every simulation.
    """

    def __init__(
        self,
        path: Path,
        overrides: Sequence[str],
        parameters: Sequence[Parameter],
        rows: Sequence[Row],
        measurements: Measurements,
        settings: Settings,
        heard: Callable[[], None] = lambda: None,
    ) -> None:
        self.path, self.overrides, self.parameters = path, overrides, parameters
        self.rows, self.measurements, self.settings, self.heard = rows, measurements, settings, heard
        self.names = [f"line {row.line}: {column}" for row in rows for column in measurements.compare]
        self._lengths: list[_Length] = []
        self._known: dict[bytes, _Errors | None] = {}

    def take_lengths(self, logarithms: np.ndarray) -> None:
        """Simulate each row for as long as these parameters need, and leave out what they need to be left out.

        In between both stay: predictions would jump with the number of requests that are measured.
        """
        systems = self._systems(logarithms)
        assert systems is not None
        if not self._lengths:
            prepare_engine(systems[0], self.settings)
        experiments = [Experiment(each, self.settings) for each in systems]
        lengths = [
            _Length(each.duration, each.seed + row.line) for each, row in zip(experiments, self.rows, strict=True)
        ]
        tasks = [_Task(*each) for each in zip(systems, lengths, strict=True)]
        warm_ups = self._mapped(_WarmUp(self.settings), tasks)
        self._lengths = [replace(length, warm_up=warm_up) for length, warm_up in zip(lengths, warm_ups, strict=True)]
        self._known.clear()

    def other_length(self, logarithms: np.ndarray) -> float:
        """Largest ratio, of at least 1, between a duration that these parameters need and that which is simulated."""
        systems = self._systems(logarithms)
        assert systems is not None
        needed = [Experiment(each, self.settings).duration for each in systems]
        return max(max(new / old.duration, old.duration / new) for new, old in zip(needed, self._lengths, strict=True))

    def _mapped(self, function: Callable[[_Task], Outcome], tasks: Sequence[_Task]) -> list[Outcome]:
        found = []
        for each in map_tasks(function, tasks, self.settings.jobs):
            found.append(each)
            self.heard()
        return found

    def residuals(self, logarithms: np.ndarray) -> np.ndarray:
        """Shape (n,); NaN where the model does not take such parameters."""
        import numpy as np

        (found,) = self._at([logarithms])
        return np.full(len(self.names), np.nan) if found is None else found.values

    def predicted(self, logarithms: np.ndarray) -> np.ndarray:
        """Which figures have a prediction, shape (n,); parameters are those that the model takes."""
        (found,) = self._at([logarithms])
        assert found is not None
        return found.predicted

    def jacobian(self, logarithms: np.ndarray) -> np.ndarray:
        """Derivatives of the residuals, shape (n, p), by central differences; one-sided where one side has none.

        A figure that has a prediction only on one side, or only beside the point, jumps there by the penalty, which is
        no derivative.
        """
        import numpy as np

        steps = CHANGE * np.eye(len(self.parameters))
        points = [logarithms, *(logarithms + step for step in steps), *(logarithms - step for step in steps)]
        base, *sides = self._at(points)
        assert base is not None
        above, below = sides[: len(steps)], sides[len(steps) :]
        return np.column_stack([_slopes(base, *pair) for pair in zip(above, below, strict=True)])

    def _at(self, points: Sequence[np.ndarray]) -> list[_Errors | None]:
        """The errors at some points, None where the model does not take them; known ones are not simulated again."""
        new = {point.tobytes(): point for point in points if point.tobytes() not in self._known}
        systems = {key: self._systems(point) for key, point in new.items()}
        tasks = [_Task(*each) for built in systems.values() if built for each in zip(built, self._lengths, strict=True)]
        results = self._mapped(_Simulate(self.measurements, self.settings), tasks)
        remaining = iter(results)
        for key, built in systems.items():
            self._known[key] = self._errors([next(remaining) for _ in self.rows]) if built else None
        return [self._known[point.tobytes()] for point in points]

    def _systems(self, logarithms: np.ndarray) -> list[System] | None:
        """The model of every row; None where it does not take such parameters."""
        numbers = {
            each.path: each.text(each.start * math.exp(logarithm), PRECISE)
            for each, logarithm in zip(self.parameters, logarithms, strict=True)
        }
        points = [
            numbers | {place: row.cells[column] for column, place in self.measurements.set.items()} for row in self.rows
        ]
        try:
            return systems_at(self.path, points, self.overrides)
        except InputError:
            return None

    def _errors(self, found: Sequence[dict[str, tuple[Estimate, bool]]]) -> _Errors:
        import numpy as np

        pairs = [
            _error(*figures[column], row.measured[column])
            for row, figures in zip(self.rows, found, strict=True)
            for column in self.measurements.compare
        ]
        return _Errors(np.array([value for value, _ in pairs]), np.array([there for _, there in pairs]))


def _error(figure: Estimate, steady: bool, measured: float) -> tuple[float, bool]:
    """Logarithm of predicted over measured, and whether there is a prediction."""
    if figure.value == 0.0:
        return -PENALTY, False
    if not math.isfinite(figure.value):
        return PENALTY, False
    return math.log(figure.value / measured) + (0.0 if steady else PENALTY), steady


def _slopes(base: _Errors, above: _Errors | None, below: _Errors | None) -> np.ndarray:
    """Derivatives by one parameter, shape (n,), between those of three points that are of the base's kind."""
    import numpy as np

    up, down = (base if side is None else side for side in (above, below))
    has_up, has_down = up.predicted == base.predicted, down.predicted == base.predicted
    difference = np.where(has_up, up.values, base.values) - np.where(has_down, down.values, base.values)
    width = CHANGE * ((has_up & (above is not None)).astype(float) + (has_down & (below is not None)).astype(float))
    slopes: np.ndarray = np.divide(difference, width, out=np.zeros_like(difference), where=width > 0.0)
    return slopes
