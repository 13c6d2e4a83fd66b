"""Latencies: the response times of some requests, as they were or sketched in bins; and series that can be cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from simulator.records import Floats

Counts = NDArray[np.int64]

SIGNIFICANT_BITS = 7
SHIFT = 52 - SIGNIFICANT_BITS
RELATIVE_ERROR = 1.0 / (1 << (SIGNIFICANT_BITS + 1))
"""Of a sketched quantile, against that of the same response times kept one by one."""


class Latencies(Protocol):
    """Response times (s) of `count` requests that sum up to `total`."""

    @property
    def count(self) -> int:
        """How many there are."""

    @property
    def total(self) -> float:
        """Their sum (s)."""

    @property
    def relative_error(self) -> float:
        """By how much, as a share, a quantile may be off."""

    def quantile(self, share: float) -> float:
        """The quantile, interpolated linearly between neighbours as by numpy.quantile; NaN of nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class ExactLatencies:
    """Response times as they were, shape (count,)."""

    values: Floats
    total: float
    relative_error: float = 0.0

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.values)

    def quantile(self, share: float) -> float:
        """The quantile; NaN of nothing."""
        return float(np.quantile(self.values, share)) if len(self.values) else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class SketchedLatencies:
    """How many response times are in each bin of a floating-point number's first bits.

    `counts` has those of the bins from `first` on. A bin holds the numbers that agree in sign, exponent and the first
    SIGNIFICANT_BITS bits of the mantissa, so it is at most 2^-7 of its lower edge wide, and its middle is within
    RELATIVE_ERROR of each of them; 0 is exact (below 2.3e-308 s the error is not relative). A quantile is interpolated
    between two such middles, and so as near. Source: Masson, Rim & Lee, DDSketch, PVLDB 12(12), 2019, with their
    logarithm interpolated linearly between powers of two, which gives HdrHistogram's bins (Tene): that is exact, and
    the same on every machine.
    """

    first: int
    counts: Counts
    total: float
    relative_error: float = RELATIVE_ERROR

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.counts.sum())

    def quantile(self, share: float) -> float:
        """The quantile; NaN of nothing."""
        below = np.cumsum(self.counts)
        if not len(below) or below[-1] == 0:
            return float("nan")
        place = (int(below[-1]) - 1) * share
        neighbours = np.minimum([int(place), int(place) + 1], below[-1] - 1)
        lower, upper = middles(self.first + np.searchsorted(below, neighbours, side="right")).tolist()
        return float(lower + (upper - lower) * (place - int(place)))


def bins(values: Floats) -> Counts:
    """The bins, shape (n,), of numbers that are not negative."""
    found: Counts = (np.ascontiguousarray(values, dtype=np.float64) + 0.0).view(np.int64) >> SHIFT
    return found


def middles(numbers: Counts) -> Floats:
    """The number in the middle of each bin, 0 for the lowest."""
    found: Floats = ((numbers << SHIFT) + (1 << (SHIFT - 1))).view(np.float64)
    return np.where(numbers == 0, 0.0, found)


def joined(parts: Sequence[Latencies]) -> Latencies:
    """All of some latencies of one kind together; at least one."""
    if len(parts) == 1:
        return parts[0]
    total = float(sum(part.total for part in parts))
    exact = [part.values for part in parts if isinstance(part, ExactLatencies)]
    if exact:
        return ExactLatencies(np.concatenate(exact), total)
    sketches = [part for part in parts if isinstance(part, SketchedLatencies)]
    numbers = np.concatenate([np.arange(len(each.counts)) + each.first for each in sketches])
    return _sketch(numbers, np.concatenate([each.counts for each in sketches]), total)


def _sketch(numbers: Counts, counts: Counts, total: float) -> SketchedLatencies:
    """From counts by bin, in which bins may appear more than once."""
    if not len(numbers):
        return SketchedLatencies(0, np.zeros(0, np.int64), total)
    first = int(numbers.min())
    return SketchedLatencies(first, np.bincount(numbers - first, weights=counts).astype(np.int64), total)


class LatencySeries(Protocol):
    """Response times in order of ending, which can be cut at ticks; those of tick k ended between times k - 1 and k."""

    def between(self, start: int, stop: int) -> Latencies:
        """Those that ended between two sampling times."""


@dataclass(frozen=True, slots=True, eq=False)
class ExactSeries:
    """Response times (s) one by one; `before` counts them, and `totals` has their sum, by tick, shape (T,)."""

    values: Floats
    before: Counts
    totals: Floats

    def between(self, start: int, stop: int) -> ExactLatencies:
        """Those that ended between two sampling times."""
        values = self.values[self.before[start] : self.before[stop]]
        return ExactLatencies(values, _sum(self.totals, start, stop))


@dataclass(frozen=True, slots=True, eq=False)
class SketchedSeries:
    """Bins and how many response times (s) are in them, tick after tick.

    Those before tick k are the first `before[k]`; `totals` has the response times' sum by tick. Shapes (bins in use in
    all ticks,) and (T,).
    """

    bins: NDArray[np.int32]
    counts: Counts
    before: Counts
    totals: Floats

    def between(self, start: int, stop: int) -> SketchedLatencies:
        """Those that ended between two sampling times."""
        cut = slice(self.before[start], self.before[stop])
        return _sketch(self.bins[cut].astype(np.int64), self.counts[cut], _sum(self.totals, start, stop))


def _sum(totals: Floats, start: int, stop: int) -> float:
    return float(totals[start + 1 : stop + 1].sum())


class ExactCollector:
    """Keeps response times as they come."""

    def __init__(self, ticks: int) -> None:
        self.parts: list[Floats] = [np.zeros(0)]
        self.counts = np.zeros(ticks, np.int64)

    def add(self, ticks: Counts, values: Floats) -> None:
        """Take in the next response times, shape (n,), and the tick of each."""
        self.parts.append(values)
        self.counts += np.bincount(ticks, minlength=len(self.counts))

    def series(self, totals: Floats) -> ExactSeries:
        """All of them, with their sums by tick."""
        return ExactSeries(np.concatenate(self.parts), np.cumsum(self.counts), totals)


class SketchCollector:
    """Counts response times by tick and bin."""

    def __init__(self, ticks: int) -> None:
        self.ticks: list[tuple[Counts, Counts]] = [(np.zeros(0, np.int64), np.zeros(0, np.int64))] * ticks

    def add(self, ticks: Counts, values: Floats) -> None:
        """Take in the next response times, shape (n,), and the tick of each, in order."""
        if not len(values):
            return
        numbers = bins(values)
        edges = [0, *(np.flatnonzero(np.diff(ticks)) + 1).tolist(), len(ticks)]
        for start, stop in pairwise(edges):
            self._add(int(ticks[start]), numbers[start:stop])

    def _add(self, tick: int, numbers: Counts) -> None:
        known, counts = self.ticks[tick]
        first = min(int(numbers.min()), int(known[0]) if len(known) else int(numbers[0]))
        counted = np.bincount(numbers - first)
        if len(known):
            if len(counted) <= known[-1] - first:
                counted = np.concatenate([counted, np.zeros(known[-1] - first + 1 - len(counted), np.int64)])
            counted[known - first] += counts
        used = np.flatnonzero(counted)
        self.ticks[tick] = used + first, counted[used]

    def series(self, totals: Floats) -> SketchedSeries:
        """All of them, with their sums by tick."""
        numbers = np.concatenate([numbers for numbers, _ in self.ticks]).astype(np.int32)
        counts = np.concatenate([counts for _, counts in self.ticks])
        before = np.cumsum([len(numbers) for numbers, _ in self.ticks])
        return SketchedSeries(numbers, counts, before, totals)
