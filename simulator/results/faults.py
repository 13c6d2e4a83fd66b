"""Faults in the results: how much of the time what they hit was up, and how soon the system recovered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from simulator.model.kinds.fault import Fault
from simulator.model.system import System
from simulator.program.program import Program
from simulator.records import STATION_FIELDS, WORKLOAD_FIELDS, Floats
from simulator.results.estimate import Estimate, mean_interval
from simulator.results.replication import Replication
from simulator.results.results import FaultResult
from simulator.results.section import Section, station_field
from simulator.results.statistics import Statistic, ratio

ARRIVED = WORKLOAD_FIELDS.index("arrived")
BUSY_AREA = STATION_FIELDS.index("busy_area")
SETTLED = 0.1
FEWEST_STEPS = 10
FEW = 20.0  # faults


def fault_results(
    system: System,
    program: Program,
    replications: Sequence[Replication],
    sections: Sequence[Section],
    confidence: float,
) -> dict[str, FaultResult]:
    """What there is to say of every fault, by its name."""
    found = {}
    for name, fault in system.resources("faults").items():
        assert isinstance(fault, Fault)
        [gauge] = program.resources()[f"faults.{name}"][:1]
        parts = _parts(system, fault)
        recoveries = (
            [] if fault.at is None else [_recovery(each, fault.at, gauge, parts, program) for each in replications]
        )
        times = [time for time in recoveries if time is not None]
        recovery = mean_interval(times, confidence) if times else Estimate.without_interval(float("nan"))
        recovery = replace(recovery, low=max(recovery.low, 0.0) if recovery.low == recovery.low else recovery.low)
        found[name] = FaultResult(
            availability=_availability(sections, gauge, parts).estimate(confidence),
            recovery_s=None if fault.at is None else recovery,
            recovered=len(times),
            replications=len(recoveries),
        )
    return found


def fault_warnings(system: System, replications: Sequence[Replication]) -> list[str]:
    """Faults that were not simulated, or hardly."""
    warnings = []
    simulated = sum(each.duration for each in replications)
    for name, fault in system.resources("faults").items():
        assert isinstance(fault, Fault)
        if fault.at is not None and fault.at >= replications[0].duration:
            warnings.append(f"the fault {name} is to happen at {fault.at:g} s, which is not simulated: run longer (-d)")
        expected = _parts(system, fault) * simulated / fault.cycle if fault.cycle else FEW
        if expected < FEW:
            warnings.append(f"the fault {name} happens {expected:.2g} times on average in this run: run longer (-d)")
    return warnings


def _parts(system: System, fault: Fault) -> int:
    """How many things a fault hits: instances of hosts, or one."""
    counts = {name: system.most_instances(name) for name in system.hosts}
    return len(fault.instances(counts, system.hosts)) or 1


def _availability(sections: Sequence[Section], gauge: int, parts: int) -> Statistic:
    """Share of the time that what a fault hits is not hit."""
    hit = ratio(
        [float(station_field(section, (gauge,), "busy_area").sum()) for section in sections],
        [parts * section.length for section in sections],
    )
    return Statistic(1.0 - hit.pooled, 1.0 - hit.sections, most=1.0)


def _recovery(replication: Replication, begin: float, gauge: int, parts: int, program: Program) -> float | None:
    """Time (s) from the end of a fault until the number of requests in flight is back, and stays, where it was before.

    That is in the range that it had from a tenth of the time before the fault on, for a tenth as long as that; None
    where this does not happen before the run ends. It is known to the next sampling time.
    """
    times, in_flight = replication.times, _in_flight(replication, program)
    end = begin + float(replication.stations[-1, gauge, BUSY_AREA]) / parts
    before = in_flight[(times >= SETTLED * begin) & (times <= begin)]
    if len(before) < FEWEST_STEPS or end >= replication.duration:
        return None
    inside = (in_flight >= before.min()) & (in_flight <= before.max())
    steps = round(SETTLED * len(before))
    for first in range(int(np.searchsorted(times, end)), len(times) - steps + 1):
        if inside[first : first + steps].all():
            return float(times[first] - end)
    return None


def _in_flight(replication: Replication, program: Program) -> Floats:
    """Requests in flight at every sampling time."""
    total = np.zeros(len(replication.times))
    for workload, _ in zip(replication.workloads, program.foreground, strict=False):
        samples = workload.samples
        total += samples[:, ARRIVED] - samples[:, ARRIVED + 1] - samples[:, ARRIVED + 2]
    return total
