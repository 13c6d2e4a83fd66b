"""Limits: the token buckets that turn requests away, in the words of who set them, and the load from which they do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from simulator.analytic.popular_keys import PopularKey
from simulator.program.program import Program
from simulator.program.stations import Bucket

MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class LimitFacts:
    """A limit of requests or tokens under the open workloads' offered load.

    Its `name` is `limit of key search (60 requests/min)`, with `whose` it is and its `unit`. `per_s` is what it lets
    through, and `expected_per_s` what is asked of it; where it is one of each of many clients, of the busiest of them.
    `saturation_factor` is what the load must be multiplied by to reach it. `filling` is the time (s) that this load
    takes to use up what it lets through at once, inf where it never does. It `rejects` what is over it, or that waits.
    """

    resource: str
    name: str
    whose: str
    unit: str
    per_s: float
    expected_per_s: float
    saturation_factor: float
    filling: float
    rejects: bool


def limits(program: Program, loads: Mapping[str, float], popular: Mapping[int, PopularKey]) -> tuple[LimitFacts, ...]:
    """The limits of a Program, under loads (requests or tokens a second) by resource.

    `popular` is the most popular key, by the stations that have a bucket for every key.
    """
    return tuple(
        _facts(station, *whose, loads[station.resource] * (popular[number].share if number in popular else 1.0))
        for number, station in enumerate(program.stations)
        if isinstance(station, Bucket) and (whose := _whose(station)) is not None
    )


def _facts(bucket: Bucket, whose: str, unit: str, expected: float) -> LimitFacts:
    over = expected - bucket.rate
    return LimitFacts(
        resource=bucket.resource,
        name=f"limit of {whose} ({rate_text(bucket.rate, unit)})",
        whose=whose,
        unit=unit,
        per_s=bucket.rate,
        expected_per_s=expected,
        saturation_factor=bucket.rate / expected if expected > 0.0 else math.inf,
        filling=bucket.burst / over if over > 0.0 else math.inf,
        rejects=not bucket.waits,
    )


def _whose(bucket: Bucket) -> tuple[str, str] | None:
    """Whose limit a bucket is, and in what unit; None for one that nobody has set on requests."""
    match bucket.resource.split("."):
        case ["llms", gateway, "customers", what]:
            return f"each customer of {gateway}", f"{what.removesuffix('_limit')}/min"
        case ["llms", _, "keys", key, what]:
            return f"key {key}", f"{what.removesuffix('_limit')}/min"
        case ["llms", _, "keys", key, backend, what]:
            return f"key {key} for {backend}", f"{what.removesuffix('_limit')}/min"
        case ["llms", llm, what]:
            return llm, f"{what.removesuffix('_limit')}/min"
        case ["services", service, "client_limits", _]:
            return f"each client of {service}", "requests/s"
        case ["services", service, "rate_limit"]:
            return service, "requests/s"
    return None


def rate_text(per_s: float, unit: str) -> str:
    """A rate (1/s) in the unit of a limit, as in `60 requests/min`."""
    number = per_s * (MINUTE if unit.endswith("/min") else 1.0)
    return f"{number:,.0f} {unit}" if number >= 100.0 else f"{number:.3g} {unit}"
