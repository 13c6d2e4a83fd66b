"""Completion: whether requests that do not complete had the time to, or the run is too short to see it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from simulator import units
from simulator.analytic.demands import WorkloadFacts
from simulator.results.section import WorkloadSection

LONG_ENOUGH = 4.0
"""Multiple of the time that requests take when nobody waits in which some of those that can complete surely do."""
TO_MEASURE = 20.0
"""Multiple of that time in which enough of them do to be measured, as where nobody says how long to run."""


def is_too_short(facts: WorkloadFacts, sections: Sequence[WorkloadSection], duration: float) -> bool:
    """Whether no request has ended yet of those that are there, none of which had the time for it."""
    there = any(each.population > 0.0 for each in sections)
    ended = any(each.completed or each.failed for each in sections)
    return there and not ended and duration < LONG_ENOUGH * facts.zero_load_response


def too_short(unseen: Sequence[WorkloadFacts], duration: float) -> str:
    """That a run is too short to see requests of some workloads complete, and how long it should be."""
    names = ", ".join(each.workload for each in unseen)
    longest = max(each.zero_load_response for each in unseen)
    taken, whole, needed = (units.show(each, "duration") for each in (longest, duration, TO_MEASURE * longest))
    advice = f": run longer (-d {needed.replace(' ', '')})" if math.isfinite(TO_MEASURE * longest) else ""
    return f"too short: no request of {names} completes in {whole}, for one takes {taken} without any waiting{advice}"
