"""Open arrival processes: gaps between arrivals, made outside the engines so that both see the same ones.

Poisson processes whose rate varies (a profile, a Markov-modulated process) are a unit-rate Poisson process
seen through the inverse of the cumulative rate (Çinlar, Introduction to Stochastic Processes, 1975, section 4.7).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, pairwise

import numpy as np
from numpy.typing import NDArray

from simulator.distributions import Distribution, Exponential
from simulator.streams import Stream, Streams
from simulator.traces.column import TraceTimes

Floats = NDArray[np.float64]

BLOCK = 1024
ROUNDING = 1e-12
"""Share of a time by which an engine, which sums up gaps, may be off it."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """Independent gaps between arrivals: Poisson where they are exponential, clockwork where constant."""

    gap: Distribution

    @property
    def mean_rate(self) -> float:
        """Arrivals a second in the long run."""
        return 1.0 / self.gap.mean

    @property
    def stationary(self) -> bool:
        """Whether the process has a steady state to measure."""
        return True

    def gaps(self, streams: Streams, name: str) -> Iterator[Floats]:
        """Blocks of gaps in seconds; endless."""
        stream = Stream(streams, name, self.gap)
        for block in count():
            yield stream.block(block * BLOCK, BLOCK)


@dataclass(frozen=True, slots=True)
class Profile:
    """Poisson arrivals at a rate that is linear between points (s, /s); the last rate holds, or it all repeats."""

    times: tuple[float, ...]
    rates: tuple[float, ...]
    repeats: bool = False

    @property
    def mean_rate(self) -> float:
        """Mean of the rate over the profile's points."""
        span = self.times[-1] - self.times[0]
        if span <= 0:
            return self.rates[-1]
        return sum(_areas(self.times, self.rates)) / span

    @property
    def stationary(self) -> bool:
        """A profile is a story with a beginning and an end: no steady state."""
        return False

    def gaps(self, streams: Streams, name: str) -> Iterator[Floats]:
        """Blocks of gaps in seconds; ends where the rate has fallen to 0 for good."""
        yield from _modulated(self._segments(), streams, name)

    def _segments(self) -> Iterator[tuple[float, float, float]]:
        points = list(zip(self.times, self.rates, strict=True))
        while True:
            for (start, rate), (stop, next_rate) in pairwise(points):
                if stop > start:
                    yield stop - start, rate, next_rate
            if not self.repeats:
                break
        yield float("inf"), points[-1][1], points[-1][1]


@dataclass(frozen=True, slots=True)
class MarkovModulated:
    """Poisson arrivals at rates[s] while in state s; states follow in turn, each for an exponential time."""

    rates: tuple[float, ...]
    mean_durations: tuple[float, ...]

    @property
    def mean_rate(self) -> float:
        """Arrivals a second in the long run."""
        arrivals = sum(r * d for r, d in zip(self.rates, self.mean_durations, strict=True))
        return arrivals / sum(self.mean_durations)

    @property
    def stationary(self) -> bool:
        """Whether the process has a steady state to measure."""
        return True

    def gaps(self, streams: Streams, name: str) -> Iterator[Floats]:
        """Blocks of gaps in seconds; endless."""
        yield from _modulated(self._segments(streams, name), streams, name)

    def _segments(self, streams: Streams, name: str) -> Iterator[tuple[float, float, float]]:
        sojourns = [
            Stream(streams, f"{name}.state{state}", Exponential(mean)) for state, mean in enumerate(self.mean_durations)
        ]
        for turn in count():
            for state, rate in enumerate(self.rates):
                yield sojourns[state].at(turn), rate, rate


@dataclass(frozen=True, slots=True)
class Replay:
    """Arrivals at recorded times (s, ascending), `speed` times as fast; none after the last, or all again."""

    times: tuple[float, ...] | TraceTimes
    speed: float = 1.0
    repeats: bool = False

    @property
    def end(self) -> float:
        """Time of the last arrival (s), the first time round."""
        return self.times[-1] / self.speed

    @property
    def period(self) -> float:
        """Time after which a repeated recording begins again (s): a mean gap after its last arrival."""
        first, last, count = self.times[0], self.times[-1], len(self.times)
        return (last + (last - first) / max(count - 1, 1)) / self.speed

    @property
    def mean_rate(self) -> float:
        """Arrivals a second from the first to the last, NaN of those that all come at once, which have no rate.

        Of a recording that repeats it is that over its period, infinite where that is 0.
        """
        if self.repeats:
            return len(self.times) / self.period if self.period > 0.0 else math.inf
        gaps, length = self.gaps_within(-math.inf, math.inf)
        return gaps / length if gaps else math.nan

    def gaps_within(self, start: float, stop: float) -> tuple[int, float]:
        """How many gaps are between the arrivals from `start` to `stop` (s), the first time round, and their sum (s).

        None where these arrivals all come at once.
        """
        first = bisect_left(self.times, start * self.speed * (1.0 - ROUNDING))
        last = bisect_right(self.times, stop * self.speed * (1.0 + ROUNDING)) - 1
        length = (self.times[last] - self.times[first]) / self.speed if last > first else 0.0
        return (last - first, length) if length > 0.0 else (0, 0.0)

    @property
    def stationary(self) -> bool:
        """A recording is a story: no steady state."""
        return False

    def gaps(self, streams: Streams, name: str) -> Iterator[Floats]:
        """Blocks of gaps in seconds; endless where it repeats."""
        last = 0.0
        for turn in count() if self.repeats else range(1):
            for first in range(0, len(self.times), BLOCK):
                times = np.asarray(self.times[first : first + BLOCK]) / self.speed + turn * self.period
                yield np.diff(times, prepend=last)
                last = float(times[-1])


Arrivals = Renewal | Profile | MarkovModulated | Replay


def _areas(times: tuple[float, ...], rates: tuple[float, ...]) -> list[float]:
    return [(times[i + 1] - times[i]) * (rates[i] + rates[i + 1]) / 2 for i in range(len(times) - 1)]


def _modulated(segments: Iterator[tuple[float, float, float]], streams: Streams, name: str) -> Iterator[Floats]:
    """Gaps of a Poisson process whose rate goes linearly over each segment (length s, first rate, last rate)."""
    unit = Stream(streams, name, Exponential(1.0))
    cumulated = last = 0.0  # of the unit-rate process, and the time of the last arrival
    start, expected = 0.0, 0.0  # where the current segment begins, in time and in expected arrivals
    length, rate, next_rate = next(segments)
    for block in count():
        targets = cumulated + np.cumsum(unit.block(block * BLOCK, BLOCK))
        cumulated = float(targets[-1])
        pieces: list[Floats] = []
        done = 0
        while done < len(targets):
            area = np.inf if length == np.inf and rate > 0 else length * (rate + next_rate) / 2
            if length == np.inf and rate == 0:
                area = 0.0
            inside = int(np.searchsorted(targets, expected + area, side="left"))
            if inside > done:
                slope = 0.0 if length == np.inf else (next_rate - rate) / length
                pieces.append(start + _inverse(targets[done:inside] - expected, rate, slope))
                done = inside
            if done < len(targets):
                if length == np.inf:
                    break
                start, expected = start + length, expected + area
                length, rate, next_rate = next(segments)
        times = np.concatenate(pieces) if pieces else np.empty(0)
        if len(times):
            yield np.maximum(np.diff(times, prepend=last), 0.0)
            last = float(times[-1])
        if done < len(targets):
            return


def _inverse(area: Floats, rate: float, slope: float) -> Floats:
    """Time at which rate·t + slope·t²/2 reaches each area."""
    if slope == 0.0:
        return area / rate
    return 2.0 * area / (rate + np.sqrt(np.maximum(rate * rate + 2.0 * slope * area, 0.0)))
