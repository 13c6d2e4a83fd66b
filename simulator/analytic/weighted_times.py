"""Weighted times: a distribution of times as values with weights, close together where it is likely and in its tails.

A value is the mean of a cell, so that means are kept. Cells have a probability of at most 1 / BULK each, and towards
either end a depth, which is the probability beyond, that falls by a factor of exp(-TAIL) from cell to cell down to
DEEPEST: minima and maxima of thousands of draws and paths as rare as that are seen. What this rounds is of the second
order in a cell's width, which makes means of minima and maxima good to about 1 in 1000.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DEEPEST = 1e-9

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Resolution:
    """How fine cells are: `bulk` of them for all probability in the middle, and so much of log(depth) for each cell."""

    bulk: int
    tail: float

    @property
    def turn(self) -> float:
        """The depth at which cells of either kind are as wide."""
        return 1.0 / (self.bulk * self.tail)

    def level(self, depth: Floats) -> Floats:
        """The number of cells from the turning point to a depth, below 0 in the tail."""
        tail = np.log(np.clip(depth, DEEPEST, self.turn) / self.turn) / self.tail
        return np.where(depth < self.turn, tail, self.bulk * (depth - self.turn))

    def depth(self, level: Floats) -> Floats:
        """The depth that is so many cells from the turning point: the inverse of `level`."""
        tail = self.turn * np.exp(np.minimum(level, 0.0) * self.tail)
        return np.where(level < 0.0, tail, self.turn + level / self.bulk)


FINE = Resolution(1024, 0.1)
MEDIUM = Resolution(256, 0.1)
COARSE = Resolution(64, 0.25)

BITS_DROPPED = 44
"""Of the 52 bits of a float's fraction: sums less than 1/256 apart, relative to the least, become one value."""

LEAST_LATER = 2.0**-60
"""Relative to the latest: sums that are less later than the least become one value too."""


@dataclass(frozen=True, slots=True, eq=False)
class WeightedTimes:
    """Ascending times (s) and the probability of each, which together may be less than 1; both of shape (times,)."""

    times: Floats
    weights: Floats

    @property
    def total(self) -> float:
        """The probability of all of them together."""
        return float(self.weights.sum())

    def until(self, times: Floats) -> Floats:
        """The probability of a time that is at most each of these."""
        upto = np.append(0.0, np.cumsum(self.weights))
        return upto[np.searchsorted(self.times, times, side="right")]

    def scaled(self, factor: float, constant: float) -> WeightedTimes:
        """Each time times a factor >= 0, and a constant (s) more."""
        return WeightedTimes(self.times * factor + constant, self.weights)


NEVER = WeightedTimes(np.empty(0), np.empty(0))


def always(time: float) -> WeightedTimes:
    """One time (s)."""
    return WeightedTimes(np.array([time]), np.ones(1))


def weighted(times: Floats, weights: Floats) -> WeightedTimes:
    """Times in any order with their weights >= 0, in fine cells."""
    kept = weights > 0.0
    times, weights = times[kept], weights[kept]
    order = np.argsort(times, kind="stable")
    return _in_cells(WeightedTimes(times[order], weights[order]), FINE)


def mixture(parts: Sequence[tuple[float, WeightedTimes]]) -> WeightedTimes:
    """One of several with these probabilities."""
    some = [(weight, part) for weight, part in parts if weight > 0.0 and part.times.size]
    if len(some) == 1 and some[0][0] == 1.0:
        return some[0][1]
    if not some:
        return NEVER
    return weighted(
        np.concatenate([part.times for _, part in some]),
        np.concatenate([weight * part.weights for weight, part in some]),
    )


def plus(first: WeightedTimes, second: WeightedTimes) -> WeightedTimes:
    """The sum of independent times; the probabilities of both having any are multiplied."""
    narrow, wide = sorted((first, second), key=lambda each: float(np.ptp(each.times)) if each.times.size else -1.0)
    if narrow.times.size <= 1:
        total = narrow.total
        return WeightedTimes(wide.times + narrow.times, wide.weights * total) if total > 0.0 else NEVER
    narrow, wide = _in_cells(narrow, COARSE), _in_cells(wide, MEDIUM)
    least = float(narrow.times[0] + wide.times[0])
    later = np.add.outer(narrow.times - narrow.times[0], wide.times - wide.times[0])
    return gathered(least, later.ravel(), np.multiply.outer(narrow.weights, wide.weights).ravel())


def gathered(least: float, later: Floats, weights: Floats) -> WeightedTimes:
    """Very many times (s), given by how much later than the least they are, with their weights > 0."""
    bins = np.maximum(later, later.max() * LEAST_LATER).view(np.int64) >> BITS_DROPPED
    bins -= bins.min()
    sums: Floats = np.bincount(bins, weights).astype(np.float64)
    kept = sums > 0.0
    means = np.bincount(bins, weights * later)[kept] / sums[kept]
    return _in_cells(WeightedTimes(least + means, sums[kept]), FINE)


def _in_cells(given: WeightedTimes, resolution: Resolution) -> WeightedTimes:
    """The means of the cells, and the probability in each."""
    if given.times.size <= 1:
        return given
    starts = np.flatnonzero(np.diff(_cells(given.weights, resolution), prepend=-np.inf))
    weights = np.add.reduceat(given.weights, starts)
    first = given.times[starts]
    beyond = given.times - np.repeat(first, np.diff(starts, append=given.times.size))
    return WeightedTimes(first + np.add.reduceat(beyond * given.weights, starts) / weights, weights)


def _cells(weights: Floats, resolution: Resolution) -> Floats:
    """The number of the cell that the middle of each weight is in, ascending."""
    below = np.cumsum(weights) - 0.5 * weights
    above = np.cumsum(weights[::-1])[::-1] - 0.5 * weights
    total = below[-1] + 0.5 * weights[-1]
    level = np.floor(resolution.level(np.minimum(below, above) / total))
    return np.where(below <= above, level, 4.0 * resolution.bulk - level)
