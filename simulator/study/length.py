"""How long to simulate, where nobody says: enough requests for the tails, and long enough for slow parts."""

from __future__ import annotations

import math

from simulator.analytic.demands import Facts, WorkloadFacts
from simulator.errors import UsageError
from simulator.model.system import System
from simulator.program.arrivals import Arrivals, MarkovModulated, Profile, Replay

REQUESTS_PER_REPLICATION = 10_000
MOST_REQUESTS_PER_REPLICATION = 200_000
SLOWEST_CYCLES = 20
FILLINGS = 4
LONGEST_FILLING = 1200.0  # s; a load of 1.05 times a limit that lets through at once what it does in a minute


def automatic_duration(system: System, facts: Facts) -> float:
    """Seconds of one replication; raises UsageError where only the user can know."""
    if not system.has_steady_state:
        return _length_of_the_story(system, facts)
    rate = sum(each.expected_throughput for each in facts.workloads)
    if rate <= 0.0 or rate == float("inf"):
        raise UsageError("nothing takes time in this model: give a duration (-d)")
    wanted = max(REQUESTS_PER_REPLICATION / rate, needed_duration(system, facts), FILLINGS * _filling(facts))
    return min(wanted, MOST_REQUESTS_PER_REPLICATION / rate)


def needed_duration(system: System, facts: Facts) -> float:
    """Seconds in which the slowest parts of a system go through enough cycles to be measured."""
    return SLOWEST_CYCLES * max(
        *(_cycle(each) for each in facts.workloads),
        *(each.zero_load_age for each in facts.messages),
        *(_burst_cycle(each.open_arrivals()) for each in system.workloads.values()),
        *(_relaxation(each, facts) for each in facts.workloads),
        system.longest_cycle,
        0.0,
    )


def _filling(facts: Facts) -> float:
    """Time in which the load uses up what a limit that it exceeds lets through at once, the slowest of them.

    A load that is hardly above a limit takes too long for that; then a warning says so.
    """
    times = (limit.filling for limit in facts.limits if limit.rejects)
    return max((time for time in times if time <= LONGEST_FILLING), default=0.0)


def _burst_cycle(arrivals: Arrivals | None) -> float:
    """Mean time in which a bursty load goes through its states."""
    return sum(arrivals.mean_durations) if isinstance(arrivals, MarkovModulated) else 0.0


def _relaxation(workload: WorkloadFacts, facts: Facts) -> float:
    """Time in which queues forget their past: service time / (1 - sqrt(utilization))^2 at the slowest resource.

    Exact for M/M/1 (Cohen, The Single Server Queue, 1982, section III.7.3), the right order for others.
    """
    resources = {each.resource: each for each in facts.resources}
    times = [0.0]
    for demand in workload.demands:
        resource = resources[demand.resource]
        if demand.visits > 0.0 and math.isfinite(demand.capacity) and resource.busiest_utilization < 1.0:
            service_time = demand.demand / demand.visits * resource.instances / demand.capacity
            times.append(service_time / (1.0 - math.sqrt(resource.busiest_utilization)) ** 2)
    return max(times)


def _cycle(workload: WorkloadFacts) -> float:
    """Time of the slowest operation and of thinking before it; with many users, of everybody's request in turn."""
    alone = max(each.zero_load_response for each in workload.operations) + workload.think
    return max(alone, (workload.users or 0) / workload.expected_throughput)


def _length_of_the_story(system: System, facts: Facts) -> float:
    """Until the last arrival, and as long again as the slowest requests take, so that they are not cut off."""
    ends = []
    for name, workload in system.workloads.items():
        arrivals = workload.open_arrivals()
        if isinstance(arrivals, Profile):
            if arrivals.repeats or arrivals.times[-1] == 0.0:
                raise UsageError(f"workloads.{name}.profile has no end: give a duration (-d)")
            ends.append(arrivals.times[-1])
        elif isinstance(arrivals, Replay):
            if arrivals.repeats:
                raise UsageError(f"workloads.{name}.replay has no end: give a duration (-d)")
            ends.append(arrivals.end)
    if system.has_scheduled_events:
        raise UsageError("a fault is scheduled, which has no steady state: give a duration (-d, or run.duration)")
    return max(ends) + SLOWEST_CYCLES * max(_cycle(each) for each in facts.workloads)
