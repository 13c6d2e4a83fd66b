"""Overload: which resource limits a system first, and whether more is asked of one, or of a limit, than it serves."""

from __future__ import annotations

import math
from collections.abc import Sequence

from simulator.analytic.demands import Facts, WorkloadFacts
from simulator.model.system import System
from simulator.program.program import DEADLINE, QUEUE_FULL, TIMEOUT, WAITED_TOO_LONG, Program, Users
from simulator.results.limits import binding_limit, rejecting, use_of_limit
from simulator.results.metrics import SATURATED, busiest
from simulator.results.results import Bottleneck
from simulator.results.section import Section
from simulator.results.statistics import Statistic

FULL = 0.99
"""Busy share of a resource that is busy all the time."""
FAILING = 0.01
"""Share of requests that fail of waiting from which a resource that is busy all the time is overloaded."""
OF_WAITING = (TIMEOUT, QUEUE_FULL, DEADLINE, WAITED_TOO_LONG)
CLEARLY_MORE, CLEARLY_LESS = 1.02, 0.8
"""How much more than analysis says a resource is seen to be asked, surely, for the simulation to be believed, and how
much less where analysis takes it for overloaded."""
HALF = 0.5
"""Busy share from which a resource that analysis takes for overloaded is, where requests fail of waiting: one without a
queue is never busy all the time."""


class Overload:
    """What analysis and simulation together say of a system's limits."""

    def __init__(self, system: System, program: Program, facts: Facts, sections: Sequence[Section]) -> None:
        self.system = system
        self.program = program
        self.facts = facts
        self.sections = sections
        self.limits = rejecting(facts)
        self.binding = binding_limit(facts, program, sections) if system.has_steady_state else None

    def saturation(self) -> tuple[float, str | None]:
        """The multiple of the load at which the first resource saturates that lets requests wait, and which it is."""
        others = [each for each in self.facts.resources if each.resource not in self.limits]
        first = min(others, key=lambda each: each.saturation_factor, default=None)
        return (math.inf, None) if first is None else (first.saturation_factor, first.resource)

    def reason(self) -> str:
        """How it shows that more is offered than a resource can serve; nothing where it does not.

        Analysis says so, and the simulation saw a resource saturated; or the simulation alone, which knows what
        analysis does not (retries, what caches keep): one is busy all the time, and waiting makes requests fail. What a
        limit rejects waits for nothing.
        """
        resource, busy = busiest(self.sections, self.program, without=self.limits)
        factor, saturated = self.saturation()
        fails = saturated is not None and busy.pooled >= HALF and self._failing_of_waiting(saturated) >= FAILING
        if factor <= 1.0 and (busy.pooled >= SATURATED or fails):
            load = "load" if self.facts.busy_resource is None else "open load"
            return f"the {load} is {1.0 / factor:.2f} times the capacity of {saturated}"
        if resource is not None and busy.pooled >= FULL and self._failing_of_waiting(resource) >= FAILING:
            return f"{resource} is busy all the time"
        return ""

    def _failing_of_waiting(self, resource: str) -> float:
        """Share of the requests of open workloads that fail because they wait, of those that use a resource."""
        using = {each.workload for each in self.facts.workloads if _uses(each, resource)}
        using |= {each.stream for each in self.facts.messages if any(each.per_request.get(name) for name in using)}
        workloads = enumerate(self.program.workloads)
        chosen = [n for n, each in workloads if each.name in using and not isinstance(each.source, Users)]
        each = [section.workloads[number] for section in self.sections for number in chosen]
        failed = sum(one.failures[reason] for one in each for reason in OF_WAITING)
        return failed / max(sum(one.completed + one.failed for one in each), 1)

    def limited(self) -> str:
        """That requests fail by a limit which somebody set; nothing where they do not, or too few to matter."""
        if self.binding is None:
            return ""
        limit, share = self.binding
        text = f"the {limit.name} rejects {share.pooled:.0%} of what comes to it"
        if limit.saturation_factor <= 1.0:
            text += f"; the load is {1.0 / limit.saturation_factor:.2f} times this limit"
        return text

    def bottleneck(self, confidence: float) -> Bottleneck | None:
        """The limit that makes requests fail, else the busiest resource; None where nothing is limited."""
        if self.binding is not None:
            limit, share = self.binding
            used = use_of_limit(limit, self.program, self.sections).estimate(confidence)
            reached = limit.saturation_factor if math.isfinite(limit.saturation_factor) else None
            return Bottleneck(limit.resource, used, reached, limit.name, share.estimate(confidence))
        resource, busy = busiest(self.sections, self.program)
        if resource is None:
            return None
        names = {limit.resource: limit.name for limit in self.facts.limits}
        return Bottleneck(
            resource, busy.estimate(confidence), self._factor(resource, busy, confidence), names.get(resource)
        )

    def _factor(self, resource: str, busy: Statistic, confidence: float) -> float | None:
        """The load multiplier that saturates a resource: by analysis, unless the simulation saw clearly another.

        One that is busy all the time does not show by how much too much is asked of it.
        """
        factor = self.facts.saturation_of(resource)
        if factor is None or busy.pooled * factor < 1.0 - SATURATED:
            return None  # analysis overstates what is asked of it
        asked_more = busy.estimate(confidence).low * factor > CLEARLY_MORE and self.system.has_steady_state
        is_free = busy.pooled < SATURATED and busy.pooled * factor < CLEARLY_LESS
        asked_less = factor < 1.0 and is_free and not self.reason()
        if asked_more and busy.pooled >= FULL:
            return None
        return 1.0 / busy.pooled if asked_more or asked_less else factor


def _uses(workload: WorkloadFacts, resource: str) -> bool:
    return any(each.resource == resource and each.visits > 0.0 for each in workload.demands)
