"""What a model says of a window: throughput, latency and demands under the load of that window."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from simulator.analytic.demands import Facts, WorkloadFacts, facts
from simulator.model.lowering import lower
from simulator.model.system import System
from simulator.results.results import Results
from simulator.study.executor import map_tasks
from simulator.study.run import Settings, prepare_engine, run

Rates = Mapping[str, float]
"""Requests a second by workload."""
RATE_STEP = 0.02
"""Loads within this of each other are simulated once: of an M/M/1 queue at 80 % that is 4 % of the latency at most."""
NEAR_SATURATION = 0.9
"""Utilization of the busiest resource from which throughput is simulated; below, what is offered is served."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a window asks a simulation for: its load, and whether a latency is to be predicted, or only throughput."""

    rates: Rates
    latency: bool


class Expectation:
    """A model's predictions under the loads of windows.

    Demands, and throughput where nothing is near saturation, follow from the model without simulating; the rest is
    simulated, once for each load. Loads are rounded to steps of `step` (a share above 0) for that, and arrivals are
    taken for Poisson where the model has them follow a profile: within a window the load is steady. A replay and
    closed workloads are what they are in the model. Demands are those at the model's own load.
    """

    def __init__(self, system: System, settings: Settings, step: float = RATE_STEP) -> None:
        if not 0.0 < step < 1.0:
            raise ValueError(f"got a step of {step:g}, expected a share between 0 and 1")
        self.system = system
        self.settings = settings
        self.step = step
        self.facts: Facts = facts(lower(system))
        self.workloads: dict[str, WorkloadFacts] = {each.workload: each for each in self.facts.workloads}
        self.own: dict[str, float] = {name: each.expected_throughput for name, each in self.workloads.items()}
        self.simulated: dict[tuple[tuple[str, int], ...], Results] = {}

    def sets_load(self, workload: str) -> bool:
        """Whether a workload is simulated at the rate of a window: neither closed nor a replay."""
        return self.system.workloads[workload].users is None and self.system.workloads[workload].replay is None

    def prepare(self, needs: Sequence[Need], tell: Callable[[int, int], None] | None = None) -> None:
        """Simulate the loads of all windows that need it."""
        keys = dict.fromkeys(
            self._key(need.rates) for need in needs if need.latency or self.utilization(need.rates) > NEAR_SATURATION
        )
        wanted = [key for key in keys if key not in self.simulated]
        if not wanted:
            return
        systems = [self._system_at(key) for key in wanted]
        prepare_engine(systems[0], self.settings)
        runner = _Runner(replace(self.settings, jobs=1, progress=None))
        for number, (key, results) in enumerate(
            zip(wanted, map_tasks(runner, systems, self.settings.jobs), strict=True)
        ):
            self.simulated[key] = results
            if tell:
                tell(number + 1, len(wanted))

    def utilization(self, rates: Rates) -> float:
        """Highest utilization of a resource under these rates, by the utilization law; above 1 under overload."""
        loads: dict[str, float] = {}
        for name, workload in self.workloads.items():
            for demand in workload.demands:
                loads[demand.resource] = loads.get(demand.resource, 0.0) + rates[name] / demand.saturation
        return max(loads.values(), default=0.0)

    def throughput(self, workload: str, rates: Rates) -> float:
        """Requests a second that complete. Raises KeyError where the load was not prepared for and is needed."""
        if self.utilization(rates) <= NEAR_SATURATION:
            return rates[workload]
        found = self.simulated[self._key(rates)].workloads[workload]
        return rates[workload] * found.throughput_per_s.value / found.offered_per_s.value

    def latency(self, workload: str, rates: Rates) -> float:
        """Mean latency (s); NaN where the backlog grows. Raises KeyError where the load was not prepared for."""
        found = self.simulated[self._key(rates)].workloads[workload].latency_s
        return math.nan if found is None else found["mean"].value

    def demand(self, resource: str, rates: Rates) -> float:
        """Work units that a request asks of a resource, the mean over all workloads at these rates; NaN at none."""
        total = math.fsum(rates.values())
        asked = math.fsum(
            rates[name] * demand.demand
            for name, workload in self.workloads.items()
            for demand in workload.demands
            if demand.resource == resource
        )
        return asked / total if total > 0.0 else math.nan

    def _key(self, rates: Rates) -> tuple[tuple[str, int], ...]:
        """The load in whole steps from the model's own, for each workload whose load can be set."""
        width = math.log1p(self.step)
        least = self.step * 1e-3  # no arrivals at all cannot be simulated: a very low rate is
        return tuple(
            (name, round(math.log(max(rates[name] / self.own[name], least)) / width))
            for name in self.workloads
            if self.sets_load(name)
        )

    def _system_at(self, key: tuple[tuple[str, int], ...]) -> System:
        workloads = dict(self.system.workloads)
        for name, steps in key:
            factor = math.exp(steps * math.log1p(self.step))
            workload = workloads[name]
            changes: dict[str, Any] = workload.scaled(factor)
            if workload.profile is not None:
                changes = {"profile": None, "rate": self.own[name] * factor}
            workloads[name] = workload.model_copy(update=changes)
        return self.system.model_copy(update={"workloads": workloads})


@dataclass(frozen=True, slots=True)
class _Runner:
    settings: Settings

    def __call__(self, system: System) -> Results:
        return run(system, self.settings)
