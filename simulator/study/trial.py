"""Trials: a system simulated until it is beyond doubt, as far as that goes, whether it meets its objectives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from simulator.errors import UsageError
from simulator.model.objective import Objective
from simulator.model.system import System
from simulator.results.results import Results
from simulator.study.run import Experiment, Settings, finish

MOST_EXTENSION = 4
"""By how much replications are multiplied at most where an objective is in doubt."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A multiplier of the load, or a number of something, that was tried; `broken` says what it does not meet."""

    value: float
    results: Results
    met: bool
    decided: bool
    broken: str
    saturation: tuple[float, str | None]
    """By analysis: the multiple of the load at which the first resource saturates, and which that is."""


def try_system(system: System, settings: Settings, value: float) -> Trial:
    """Simulate a system; it meets what it has to where every objective is met and no backlog grows.

    Where the interval of an objective straddles its target, replications are doubled, up to MOST_EXTENSION times as
    many, before the estimate decides.
    """
    experiment = Experiment(system, settings)
    results = finish(experiment)
    most = MOST_EXTENSION * len(experiment.replications)
    while not _decided(results) and 2 * len(experiment.replications) <= most:
        experiment.extend(2 * len(experiment.replications))
        results = replace(experiment.results(), wall_s=results.wall_s)
    broken = "; ".join(_broken(results))
    saturation = experiment.facts.saturation_factor, experiment.facts.saturated_resource
    return Trial(value, results, not broken, _decided(results), broken, saturation)


def with_objectives(system: System, objectives: Sequence[Objective]) -> System:
    """The system with these objectives, or its own where there are none; raises UsageError where it has none either."""
    wanted = list(objectives or system.objectives)
    if not wanted:
        raise UsageError("no objectives: add them to the model, or give --objective 'p99 < 200 ms'")
    return system.model_copy(update={"objectives": wanted})


def _broken(results: Results) -> list[str]:
    broken = [f"{objective.name} is not met" for objective in results.objectives if not objective.met]
    return broken if results.stable else [*broken, results.verdict]


def _decided(results: Results) -> bool:
    return not results.stable or all(objective.decided for objective in results.objectives)
