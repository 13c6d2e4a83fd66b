"""Overload: which resource limits a system first, and whether more is asked of one, or of a limit, than it serves."""

from __future__ import annotations

import math
from collections.abc import Sequence

from simulator.analytic.demands import Facts, WorkloadFacts
from simulator.model.system import System
from simulator.program.instructions import Fork, Publish
from simulator.program.program import DEADLINE, QUEUE_FULL, TIMEOUT, WAITED_TOO_LONG, Program, Users
from simulator.program.stations import Batch, Inference, KeyedLocks, Pool, Servers, Store
from simulator.results.estimate import Estimate
from simulator.results.limits import binding_limit, rejecting, use_of_limit
from simulator.results.metrics import SATURATED, busiest
from simulator.results.results import Bottleneck
from simulator.results.section import Section, station_field
from simulator.results.statistics import Statistic, busiest_instance

FULL = 0.99
"""Busy share of a resource that is busy all the time."""
FAILING = 0.01
"""Share of requests that fail of waiting from which a resource that is busy all the time is overloaded."""
OF_WAITING = (TIMEOUT, QUEUE_FULL, DEADLINE, WAITED_TOO_LONG)
CLEARLY_MORE, CLEARLY_LESS = 1.02, 0.8
"""How much more than analysis says a resource is seen to be asked, surely, for the simulation to be believed, and how
much less where analysis takes it for overloaded, or surely less for its multiplier to be called the earliest."""
AS_MUCH = 1.005
"""Multiple of a capacity up to which a load is said to be as much, not more: it shows as 1.00 times the capacity."""
ROUNDING = 1e-9
SURELY = 0.999
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
        if _is_too_much(factor) and (busy.pooled >= SATURATED or fails):
            load = "load" if self.facts.busy_resource is None else "open load"
            return f"the {load} is {_multiple(factor)} times the capacity of {saturated}"
        if resource is not None and busy.pooled >= FULL and self._failing_of_waiting(resource) >= FAILING:
            return f"{resource} is busy all the time"
        return ""

    def offered(self) -> str:
        """How much is offered where there is a `reason`, in words."""
        factor, _ = self.saturation()
        return "as much is offered as" if _is_too_much(factor) and factor * AS_MUCH >= 1.0 else "more is offered than"

    def facts_of(self, workload: int) -> WorkloadFacts:
        """What analysis says of a workload that is sent from outside."""
        return self.facts.workloads[self.program.senders.index(workload)]

    def waits_without_end(self, workload: int) -> bool:
        """Whether an open workload that is sent from outside waits for what surely has no steady state.

        At its capacity already a backlog grows without end, though so slowly that it takes a while to be seen in it.
        """
        if workload not in self.program.senders or self._sheds_load():
            return False
        facts, section_of = self.facts_of(workload), [section.workloads[workload] for section in self.sections]
        completed = sum(each.completed for each in section_of)
        waited = sum(float(each.wait.sum()) for each in section_of)
        return any(
            demand.visits > 0.0
            and waited * demand.saturation > completed  # as long as an instance takes for such a request, at least
            and self._is_last_of_those_who_use(demand.resource, workload)
            and self._is_saturated(demand.resource)
            for demand in facts.demands
        )

    def _sheds_load(self) -> bool:
        """Whether some of the load may go away instead of waiting, or waits where no request waits for it."""
        aside = any(
            isinstance(each, Publish) or (isinstance(each, Fork) and each.detach) for each in self.program.instructions
        )
        return aside or any(self._may_lose(number) for number in range(len(self.program.stations)))

    def _may_lose(self, number: int) -> bool:
        """Whether a station has a finite queue, or was seen to reject somebody, or somebody left it unserved."""
        station = self.program.stations[number]
        if isinstance(station, Store):
            return False
        finite = isinstance(station, Servers | Pool | KeyedLocks) and station.queue_limit is not None
        unserved = ("rejections", "withdrawals")
        return finite or any(station_field(each, (number,), name).any() for each in self.sections for name in unserved)

    def _is_saturated(self, resource: str) -> bool:
        """Whether exact analysis says that a resource is asked for all that it has, and it was not surely less busy."""
        stations = self.program.resources()[resource]
        factor = self.facts.saturation_of(resource)
        estimated = isinstance(self.program.stations[stations[0]], Batch | Inference)
        if factor is None or not _is_too_much(factor) or estimated or resource in self.limits:
            return False
        busy = busiest_instance(self.sections, self.program, stations)
        return busy.pooled >= SATURATED and not busy.estimate(SURELY).high < FULL

    def _is_last_of_those_who_use(self, resource: str, workload: int) -> bool:
        """Whether no workload gives way to this one where they use a resource."""
        senders = zip(self.program.foreground, self.facts.workloads, strict=True)
        last = max(sender.priority for sender, facts in senders if _uses(facts, resource))
        return self.program.workloads[workload].priority == last

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
            text += f"; the load is {_multiple(limit.saturation_factor)} times this limit"
        return text

    def bottleneck(self, confidence: float) -> Bottleneck | None:
        """The limit that makes requests fail, else the busiest resource; None where nothing that is limited is used."""
        if self.binding is not None:
            limit, share = self.binding
            used = use_of_limit(limit, self.program, self.sections).estimate(confidence)
            reached = limit.saturation_factor if math.isfinite(limit.saturation_factor) else None
            return Bottleneck(limit.resource, used, reached, limit.name, share.estimate(confidence))
        resource, busy = busiest(self.sections, self.program)
        if resource is None or not busy.pooled > 0.0:
            return None
        names = {limit.resource: limit.name for limit in self.facts.limits}
        used, factor = busy.estimate(confidence), self._factor(resource, busy, confidence)
        return Bottleneck(resource, used, factor, names.get(resource), asked_less=self._is_asked_less(used, factor))

    def _is_asked_less(self, used: Estimate, factor: float | None) -> bool:
        """Whether less is surely asked of a resource than the load multiplier that saturates it says."""
        if factor is None or not self.system.has_steady_state or self.reason():
            return False
        return used.high * factor < CLEARLY_LESS

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


def _is_too_much(factor: float) -> bool:
    """Whether a load reaches the capacity that a multiple of it reaches."""
    return factor <= 1.0 + ROUNDING


def _multiple(factor: float) -> str:
    """How many times a capacity the load is of which a multiple reaches it."""
    times = 1.0 / factor if factor > 0.0 else math.inf
    return f"{times:.2f}" if times < 1000.0 else f"{times:.3g}"
