"""Capacity: the largest load that meets the objectives, by bisection on the load's multiplier."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from simulator.errors import UsageError
from simulator.model.objective import Objective
from simulator.model.system import System
from simulator.results.estimate import Estimate
from simulator.results.results import Results
from simulator.study.run import Experiment, Settings
from simulator.study.trial import Trial, try_system, with_objectives

SMALLEST_FACTOR = 1e-3
LARGEST_FACTOR = 1e4
TOLERANCE = 0.02
Tell = Callable[[float, bool], None]


@dataclass(frozen=True, slots=True)
class Capacity:
    """The largest load multiplier that meets every objective.

    `factor.value` is the largest multiplier tried that met them. Its interval is that of the trials whose outcome
    was beyond doubt: `low` the largest that surely met every objective (0 where none did), `high` the smallest that
    surely did not (infinite where none failed). `limit` says what breaks above; `at_limit` are the results there.
    """

    factor: Estimate
    limit: str
    at_limit: Results
    trials: tuple[tuple[float, bool, bool], ...]
    """(multiplier, whether it was met, whether that is beyond doubt), in the order of trying."""


def capacity(
    system: System,
    objectives: tuple[Objective, ...] = (),
    settings: Settings | None = None,
    tolerance: float = TOLERANCE,
    tell: Tell | None = None,
) -> Capacity | None:
    """Bisect the load until the bracket is within `tolerance`; None where no load meets the objectives.

    A load is met where every objective is met and the backlog does not grow. Where the interval of an objective
    straddles its target, replications are doubled up to fourfold before the estimate decides. Raises UsageError
    without objectives, or where the load cannot be multiplied.
    """
    search = _Search(with_objectives(system, objectives), settings or Settings(), tell)
    good, bad = search.bracket()
    if good is None:
        return None
    while bad is not None and search.can_split(good.value, bad.value, tolerance):
        middle = search.try_factor((good.value * bad.value) ** 0.5)
        good, bad = (middle, bad) if middle.met else (good, middle)
    return _answer(good, bad, search)


class _Search:
    def __init__(self, system: System, settings: Settings, tell: Tell | None) -> None:
        self.system = system
        self.settings = settings
        self.tell = tell
        self.trials: list[Trial] = []

    def try_factor(self, factor: float) -> Trial:
        try:
            scaled = self.system.scaled(factor)
        except ValueError as error:
            raise UsageError(str(error)) from None
        trial = try_system(scaled, self.settings, factor)
        self.trials.append(trial)
        if self.tell:
            self.tell(factor, trial.met)
        return trial

    def bracket(self) -> tuple[Trial | None, Trial | None]:
        """A load that is met and one that is not; None where there is no such load."""
        guess = Experiment(self.system, self.settings).facts.saturation_factor
        trial = self.try_factor(guess * 0.9 if guess and guess < LARGEST_FACTOR else 1.0)
        step = 1.3 if trial.met else 1.0 / 1.5
        while SMALLEST_FACTOR < trial.value < LARGEST_FACTOR:
            following = self.try_factor(trial.value * step)
            if following.met != trial.met:
                return (trial, following) if trial.met else (following, trial)
            if self.same_load(trial.value, following.value):
                break
            trial = following
            step *= step if abs(step - 1.0) < 4.0 else 1.0
        return (trial, None) if trial.met else (None, trial)

    def can_split(self, low: float, high: float, tolerance: float) -> bool:
        return high / low > 1.0 + tolerance and not self._same_in_between(low, high)

    def _same_in_between(self, low: float, high: float) -> bool:
        middle = (low * high) ** 0.5
        return self.same_load(low, middle) or self.same_load(middle, high)

    def same_load(self, one: float, other: float) -> bool:
        """Whether rounding to whole users leaves no difference."""
        return self.system.scaled(one).workloads == self.system.scaled(other).workloads


def _answer(good: Trial, bad: Trial | None, search: _Search) -> Capacity:
    sure = [trial for trial in search.trials if trial.decided]
    low = max((trial.value for trial in sure if trial.met and trial.value <= good.value), default=0.0)
    high = min((trial.value for trial in sure if not trial.met and trial.value > good.value), default=math.inf)
    return Capacity(
        factor=Estimate(good.value, low, high, len(search.trials)),
        limit=bad.broken if bad else "nothing was found to limit it",
        at_limit=good.results,
        trials=tuple((trial.value, trial.met, trial.decided) for trial in search.trials),
    )
