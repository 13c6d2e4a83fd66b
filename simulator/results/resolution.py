"""Resolution: times that are too short for the clock of a run, which goes in coarser steps the longer the run is."""

from __future__ import annotations

import math
from collections.abc import Iterable

from simulator import units
from simulator.analytic.demands import Demand, Facts

COARSE = 2e-3
"""Step of the clock, as a share of a time, from which that is not resolved: it is off by up to half a step."""
MATTERS = 1e-3
"""Share of a request's time from which a resource's times matter, also where it is busy for a tiny share of a run."""


def resolution_warnings(facts: Facts, duration: float) -> list[str]:
    """The shortest time, where that is not resolved; the clock is a float, as coarse as floats of its size."""
    step = math.ulp(duration)
    time, what = min(_times(facts), default=(math.inf, ""))
    if step <= COARSE * time:
        return []
    shown, steps, whole = (units.show(each, "duration") for each in (time, step, duration))
    return [
        f"times of {what} ({shown}) are not resolved at a duration of {whole}, where the clock goes in steps of "
        f"{steps}: they are wrong, run shorter (-d)"
    ]


def _times(facts: Facts) -> Iterable[tuple[float, str]]:
    """Times (s) that pass when nobody waits, and of what: workloads, messages, and visits to resources that matter."""
    every = [(each.zero_load_response, each.workload) for each in facts.workloads]
    every += [(each.zero_load_age, each.stream) for each in facts.messages]
    instances = {each.resource: each.instances for each in facts.resources}
    for workload in facts.workloads:
        for demand in workload.demands:
            time = _of_one_visit(demand, instances[demand.resource])
            if time * demand.visits >= MATTERS * workload.zero_load_response:
                every.append((time, demand.resource))
    return ((time, what) for time, what in every if time > 0.0)


def _of_one_visit(demand: Demand, instances: int) -> float:
    """Seconds in which one of a resource's instances does the work of a visit; 0 where what it does takes no time."""
    if demand.unit not in ("s", "B") or demand.visits <= 0.0 or not 0.0 < demand.capacity < math.inf:
        return 0.0
    return demand.demand / demand.visits * (1.0 if demand.unit == "s" else instances / demand.capacity)
