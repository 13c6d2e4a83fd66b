"""Statistics over sections: each yields the pooled estimate and the same statistic of every section alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from simulator.program.program import Program
from simulator.program.stations import Bucket, Inference, capacity_of
from simulator.records import Floats
from simulator.results.engine_load import engine_load
from simulator.results.estimate import Estimate, proportion_interval, sectioned
from simulator.results.latencies import Latencies, joined
from simulator.results.section import Section, station_field

LEAST_BEYOND_QUANTILE = 10


@dataclass(frozen=True, slots=True, eq=False)
class Statistic:
    """A statistic of all sections pooled and of each alone, shape (sections,).

    No statistic here is below 0; `most` is its upper bound. A share of `trials` of which none has happened still has
    an interval. What every number may be off by, as a share (`relative_error`), is within the interval.
    """

    pooled: float
    sections: Floats
    most: float = float("inf")
    trials: int = 0
    relative_error: float = 0.0

    def estimate(self, confidence: float) -> Estimate:
        """With its sectioning interval, kept within what is possible; Clopper and Pearson's where all shares are 0."""
        if self.trials and self.pooled == 0.0:
            return proportion_interval(0, self.trials, confidence)
        found = sectioned(self.pooled, self.sections, confidence)
        if math.isnan(found.low):
            return found
        low, high = found.low / (1.0 + self.relative_error), found.high / (1.0 - self.relative_error)
        return replace(found, low=max(low, 0.0), high=max(min(high, self.most), found.value))


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Statistic:
    """A sum over a sum; NaN where there is nothing to divide by."""
    over, under = np.asarray(numerators, dtype=float), np.asarray(denominators, dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        return Statistic(float(np.float64(over.sum()) / under.sum()), over / under)


def per_second(sections: Sequence[Section], count: Callable[[Section], float]) -> Statistic:
    """A count divided by the time."""
    return ratio([count(section) for section in sections], [section.length for section in sections])


def mean_of(samples: Sequence[Latencies]) -> Statistic:
    """The mean of all response times."""
    return ratio([each.total for each in samples], [float(each.count) for each in samples])


def quantile_of(samples: Sequence[Latencies], share: float) -> Statistic:
    """The quantile of all response times; NaN where fewer than ten lie beyond it, which would make it a guess."""
    if sum(each.count for each in samples) * min(share, 1.0 - share) < LEAST_BEYOND_QUANTILE:
        return Statistic(float("nan"), np.full(len(samples), np.nan))
    pooled, sections = joined(samples).quantile(share), [each.quantile(share) for each in samples]
    return Statistic(pooled, np.array(sections), relative_error=max(each.relative_error for each in samples))


def latencies(sections: Sequence[Section], workload: int, operation: int | None = None) -> list[Latencies]:
    """Response times (s) of a workload's completed requests in each section, of one operation or of all."""
    chosen = []
    for section in sections:
        by_operation = section.workloads[workload].latencies
        chosen.append(joined(by_operation) if operation is None else by_operation[operation])
    return chosen


def throughput(sections: Sequence[Section], workloads: Sequence[int]) -> Statistic:
    """Completed requests a second of some workloads together."""
    return per_second(sections, lambda section: sum(section.workloads[w].completed for w in workloads))


def error_rate(sections: Sequence[Section], workloads: Sequence[int]) -> Statistic:
    """Failed requests as a share of those that ended."""
    failed = [float(sum(section.workloads[w].failed for w in workloads)) for section in sections]
    completed = [float(sum(section.workloads[w].completed for w in workloads)) for section in sections]
    ended = [a + b for a, b in zip(failed, completed, strict=True)]
    return replace(ratio(failed, ended), most=1.0, trials=int(sum(ended)))


def utilization(sections: Sequence[Section], program: Program, stations: tuple[int, ...]) -> Statistic:
    """Busy share of some stations' joint capacity; of an LLM's engines, of the sequences that they could end.

    Of token buckets it is `share_of_tokens`; of keyed locks, that of the key which is asked for most.
    """
    if isinstance(program.stations[stations[0]], Bucket):
        return share_of_tokens(sections, program, stations)
    if isinstance(program.stations[stations[0]], Inference):
        lengths = [len(stations) * section.length for section in sections]
        return replace(ratio(engine_load(sections, program, stations), lengths), most=1.0)
    capacity = sum(capacity_of(program.stations[number]) for number in stations)
    busy = [float(station_field(section, stations, "busy_area").sum()) for section in sections]
    return replace(ratio(busy, [capacity * section.length for section in sections]), most=1.0)


def share_of_tokens(sections: Sequence[Section], program: Program, stations: tuple[int, ...]) -> Statistic:
    """Tokens taken from buckets as a share of those that there were: what dripped in, and what was used up of a burst.

    It is 1 where nothing that dripped in was lost because a bucket was full, however much of its burst went beside
    that. Buckets of many keys are taken together, as if one could use what another leaves.
    """
    buckets = {number: each for number in stations if isinstance(each := program.stations[number], Bucket)}
    rates = {number: bucket.rate * bucket.keys for number, bucket in buckets.items()}
    taken = [float(station_field(section, stations, "busy_area").sum()) for section in sections]
    there = [sum(rates.values()) * section.length for section in sections]
    drained = [sum(_drained(section, number, rate) for number, rate in rates.items()) for section in sections]
    if sum(drained) > 0.0:
        there = [came + more for came, more in zip(there, drained, strict=True)]
    return replace(ratio(taken, there), most=1.0)


def _drained(section: Section, bucket: int, rate: float) -> float:
    """Tokens by which a bucket is emptier at a section's end than at its start; below 0 where it is fuller.

    What is missing from it is known from samples: it grows by what is taken, falls at the rate, and never below 0.
    """
    beyond = section.worked[:, bucket] - rate * section.times
    missing = beyond - np.minimum.accumulate(beyond)
    return float(missing[-1] - missing[section.first])


def hit_ratio(sections: Sequence[Section], stations: tuple[int, ...]) -> Statistic:
    """Hits as a share of lookups."""
    hits, lookups = (
        [float(station_field(section, stations, name).sum()) for section in sections] for name in ("hits", "arrivals")
    )
    return replace(ratio(hits, lookups), most=1.0, trials=int(sum(lookups)))


def busiest_instance(sections: Sequence[Section], program: Program, stations: tuple[int, ...]) -> Statistic:
    """Busy share of the busiest of some stations."""
    each = [utilization(sections, program, (number,)) for number in stations]
    return max(each, key=lambda statistic: statistic.pooled)


def mean_waiting(sections: Sequence[Section], stations: tuple[int, ...]) -> Statistic:
    """Mean number waiting, all stations together."""
    return per_second(sections, lambda section: float(station_field(section, stations, "waiting_area").sum()))
