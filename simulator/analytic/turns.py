"""Turns: how long a random number of turns takes, one after the other while they succeed."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from simulator.analytic.weighted_times import NEVER, WeightedTimes, always, gathered, plus

MOST_STARTS = 1024
LEAST_PROBABILITY = 1e-12

Floats = NDArray[np.float64]


class Turns:
    """Sums of independent turns, of which one takes the times (s) of `succeeded` or `failed`.

    Sums of 1 to 7 turns times powers of two are made by doubling. Those of other numbers, up to 1.25 times as many,
    are the next lower sum with its mean and variance set right.
    """

    def __init__(self, succeeded: WeightedTimes, failed: WeightedTimes) -> None:
        self._success = min(succeeded.total, 1.0)
        self._failed = failed
        self._sums = {0: always(0.0)}
        if self._success > 0.0:
            self._sums[1] = WeightedTimes(succeeded.times, succeeded.weights / succeeded.total)

    def succeeded(self, counts: WeightedTimes) -> WeightedTimes:
        """The time (s) until all turns have succeeded, given the weights of their number."""
        return self._summed(counts.times, counts.weights)

    def failed(self, counts: WeightedTimes) -> WeightedTimes:
        """The time (s) until one of the turns fails, after those before it have succeeded."""
        failing = counts.total - float(counts.weights @ self._success**counts.times)
        if not self._failed.times.size or failing <= 0.0:
            return NEVER
        starts, lengths = self._before_failing(float(counts.times[-1]))
        more = counts.total - counts.until(starts)
        time = plus(self._summed(starts, more * lengths), self._failed)
        return WeightedTimes(time.times, time.weights * (failing / time.total))

    def _before_failing(self, most: float) -> tuple[Floats, Floats]:
        """Numbers of turns that may succeed before one fails, each for so many from it on."""
        if self._success < 1.0:
            likely = math.log(LEAST_PROBABILITY) / math.log(max(self._success, LEAST_PROBABILITY))
            most = min(most, math.ceil(likely))
        edges = np.unique(np.floor(np.geomspace(1.0, most + 1.0, MOST_STARTS))) - 1.0
        return edges[:-1], np.diff(edges)

    def _summed(self, counts: Floats, weights: Floats) -> WeightedTimes:
        """The time of so many turns if all succeed, mixed with these weights."""
        weights = weights * self._success**counts
        some = [(self._sum(int(counts[n])), weights[n]) for n in np.flatnonzero(weights > 0.0)]
        if not some:
            return NEVER
        if len(some) == 1:
            return WeightedTimes(some[0][0].times, some[0][0].weights * some[0][1])
        times = np.concatenate([each.times for each, _ in some])
        least = float(times.min())
        return gathered(least, times - least, np.concatenate([each.weights * weight for each, weight in some]))

    def _sum(self, count: int) -> WeightedTimes:
        """The time of so many turns that succeed, with weights that sum to 1."""
        unit = 1 << max(0, count.bit_length() - 3)
        summed = count // unit * unit
        sums = self._doubled(summed)
        if summed == count:
            return sums
        one = self._sums[1]
        mean = float(one.times @ one.weights)
        return sums.scaled(math.sqrt(count / summed), mean * (count - math.sqrt(count * summed)))

    def _doubled(self, count: int) -> WeightedTimes:
        if count not in self._sums:
            half = self._doubled(count // 2)
            double = plus(half, half)
            self._sums[count] = plus(double, self._sums[1]) if count % 2 else double
        return self._sums[count]
