"""How long to simulate, where nobody says: enough requests for the tails, and long enough for slow parts."""

from __future__ import annotations

from simulator.analytic.demands import Facts, WorkloadFacts
from simulator.errors import UsageError
from simulator.model.system import System
from simulator.program.arrivals import Profile, Replay

REQUESTS_PER_REPLICATION = 10_000
SLOWEST_CYCLES = 20


def automatic_duration(system: System, facts: Facts) -> float:
    """Seconds of one replication; raises UsageError where only the user can know."""
    if not system.has_steady_state:
        return _length_of_the_story(system)
    rate = sum(each.expected_throughput for each in facts.workloads)
    slowest = max(_cycle(each) for each in facts.workloads)
    if rate <= 0.0 or rate == float("inf"):
        raise UsageError("nothing takes time in this model: give a duration (-d)")
    return max(REQUESTS_PER_REPLICATION / rate, SLOWEST_CYCLES * slowest)


def _cycle(workload: WorkloadFacts) -> float:
    """Time of a request, and of the think time before it; with many users, of everybody's request in turn."""
    alone = workload.zero_load_response + workload.think
    return max(alone, (workload.users or 0) / workload.expected_throughput)


def _length_of_the_story(system: System) -> float:
    ends = []
    for name, workload in system.workloads.items():
        arrivals = workload.open_arrivals()
        if isinstance(arrivals, Profile):
            if arrivals.repeats or arrivals.times[-1] == 0.0:
                raise UsageError(f"workloads.{name}.profile has no end: give a duration (-d)")
            ends.append(arrivals.times[-1])
        elif isinstance(arrivals, Replay):
            ends.append(arrivals.times[-1])
    return max(ends)
