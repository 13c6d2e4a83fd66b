"""Limits in the results: which of them turns requests away, how much of what comes to it, and from when on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from simulator.analytic.demands import Facts
from simulator.analytic.limits import LimitFacts
from simulator.program.program import DOES_NOT_FIT, RATE_LIMITED, Program
from simulator.results.section import Section, station_field
from simulator.results.statistics import Statistic, ratio, share_of_tokens

LEAST_SHARE, LARGE_SHARE = 0.01, 0.05
"""Rejected shares of what comes to a limit from which it counts: where more is expected than it lets through, and where
it is not, as when requests come in bursts."""
ABSORBED = 0.1
"""Where fewer requests fail than this share of those rejected, somebody else served them."""


def rejecting(facts: Facts) -> dict[str, LimitFacts]:
    """The limits that turn requests away, by resource."""
    return {limit.resource: limit for limit in facts.limits if limit.rejects}


def binding_limit(facts: Facts, program: Program, sections: Sequence[Section]) -> tuple[LimitFacts, Statistic] | None:
    """The limit that makes most requests fail, and the rejected share of those that come to it; None without one."""
    failed = sum(
        sum(each.failures[reason] for reason in (RATE_LIMITED, DOES_NOT_FIT))
        for section in sections
        for each in section.workloads
    )
    found, most = None, 0.0
    for resource, limit in rejecting(facts).items():
        rejections, came = (_total(sections, program, resource, field) for field in ("rejections", "arrivals"))
        share, least = ratio(rejections, came), LEAST_SHARE if limit.saturation_factor <= 1.0 else LARGE_SHARE
        if share.pooled >= least and failed >= ABSORBED * sum(rejections) > ABSORBED * most:
            found, most = (limit, replace(share, most=1.0)), sum(rejections)
    return found


def use_of_limit(limit: LimitFacts, program: Program, sections: Sequence[Section]) -> Statistic:
    """What is taken of all that a limit lets through, that of all who have one of their own together.

    A limit lets through what comes at its rate, and a burst; of that, what was used up counts: see `share_of_tokens`.
    """
    return share_of_tokens(sections, program, program.resources()[limit.resource])


def transient_of_limits(facts: Facts, duration: float) -> float:
    """Seconds in which what limits let through at once is used up, and before which they reject too little.

    Those that last for more than half of a run are left to `limit_warnings`.
    """
    return max((each.filling for each in rejecting(facts).values() if each.filling <= duration / 2.0), default=0.0)


def limit_warnings(facts: Facts, duration: float) -> list[str]:
    """Limits that are exceeded, of which a run is too short to see it."""
    return [
        f"the {limit.name} is exceeded after {limit.filling:.3g} s only, for it lets a burst through before: "
        f"run longer (-d {4.0 * limit.filling:.0f}s)"
        for limit in rejecting(facts).values()
        if duration / 2.0 < limit.filling < float("inf")
    ]


def _total(sections: Sequence[Section], program: Program, resource: str, field: str) -> list[float]:
    stations = program.resources()[resource]
    return [float(station_field(section, stations, field).sum()) for section in sections]
