"""How far off a model's predictions are, as a function of its parameters, and the derivatives of that."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.calibration.parameter import Parameter
from simulator.calibration.validate import Row, simulated
from simulator.errors import InputError
from simulator.model.measurement import Measurements
from simulator.model.system import System
from simulator.results.estimate import Estimate
from simulator.study.executor import map_tasks
from simulator.study.run import Experiment, Settings, prepare_engine
from simulator.study.sweep import systems_at

if TYPE_CHECKING:
    import numpy as np

CHANGE = 0.05
"""Change of a parameter's logarithm for its derivatives: random numbers are the same, but a request that overtakes
another makes predictions jump by what is small beside this, and the curvature within it hardly counts."""
PENALTY = math.log(10.0)
"""Added to the logarithm of a latency without a steady state, which depends on how long is simulated."""
PRECISE = 17
"""Digits that say a number exactly."""


@dataclass(frozen=True, slots=True)
class _Task:
    """A row's model, how long to simulate it, and the seed, which the row has to itself: errors add up otherwise."""

    system: System
    duration: float
    seed: int


@dataclass(frozen=True, slots=True)
class _Simulate:
    measurements: Measurements
    settings: Settings

    def __call__(self, task: _Task) -> dict[str, tuple[Estimate, bool]]:
        return simulated(task.system, self.measurements, replace(self.settings, duration=task.duration, seed=task.seed))


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
        self.durations: list[float] = []
        self.seeds: list[int] = []
        self._known: dict[bytes, _Errors | None] = {}

    def take_durations(self, logarithms: np.ndarray) -> float:
        """Simulate each row for as long as it should be with these parameters; returns the largest ratio to before.

        Between, durations stay: another number of requests would make predictions jump.
        """
        systems = self._systems(logarithms)
        assert systems is not None
        experiments = [Experiment(each, self.settings) for each in systems]
        self.seeds = [each.seed + row.line for each, row in zip(experiments, self.rows, strict=True)]
        before, self.durations = self.durations, [each.duration for each in experiments]
        if not before:
            prepare_engine(systems[0], self.settings)
        ratio = max((max(a / b, b / a) for a, b in zip(before, self.durations, strict=False)), default=math.inf)
        if ratio > 1.0:
            self._known.clear()
        return ratio

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
        tasks = [
            _Task(*each)
            for built in systems.values()
            if built
            for each in zip(built, self.durations, self.seeds, strict=True)
        ]
        results = []
        simulate = _Simulate(self.measurements, replace(self.settings, jobs=1, progress=None))
        for found in map_tasks(simulate, tasks, self.settings.jobs):
            results.append(found)
            self.heard()
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
            _error(*figures[column], float(row.cells[column]))
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
