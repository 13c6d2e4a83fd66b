"""What a simulation takes from a trace: the times of its requests, and their token counts as draws."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from simulator.distributions import Distribution, Uniforms
from simulator.traces.trace import CHUNK, Trace, TraceError

Floats = NDArray[np.float64]
Tokens = Literal["input", "output"]


@dataclass(frozen=True, slots=True)
class TraceTimes:
    """The arrival times (s since the first) of a trace's first `rows` requests, read as they are asked for."""

    trace: Trace
    rows: int

    def __len__(self) -> int:
        return self.rows

    @overload
    def __getitem__(self, place: int) -> float: ...
    @overload
    def __getitem__(self, place: slice) -> Floats: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            first, last, _ = place.indices(self.rows)
            return self.trace.column("arrival", first, max(last - first, 0))
        if not -self.rows <= place < self.rows:
            raise IndexError(place)
        return float(self.trace.column("arrival", place % self.rows, 1)[0])


@dataclass(frozen=True, slots=True)
class TraceColumn(Distribution):
    """The tokens of row n of a trace, times `each`, for request number n; from the first row again after the last.

    Without a trace it is that of the workload which draws, and has to be bound to it before anything is drawn.
    """

    column: Tokens
    each: float = 1.0
    times: TraceTimes | None = None

    def bound(self, times: TraceTimes | None) -> TraceColumn:
        """This column of the trace that a workload replays; itself where it has a trace. Raises TraceError for none."""
        if self.times is not None:
            return self
        if times is None:
            raise TraceError(
                f"{{trace: {self.column}}} is of the trace that the workload replays, and it replays none: "
                "expected the trace's file"
            )
        return TraceColumn(self.column, self.each, times)

    @property
    def mean(self) -> float:
        """The mean over the rows; raises TraceError where it is not bound."""
        return self._moments()[0]

    @property
    def variance(self) -> float:
        """The mean squared deviation over the rows; raises TraceError where it is not bound."""
        return self._moments()[1]

    def _moments(self) -> tuple[float, float]:
        times = self._times()
        mean, variance = _moments_of(times.trace, self.column, times.rows)
        return mean * self.each, variance * self.each * self.each

    def _times(self) -> TraceTimes:
        times = self.bound(None).times
        assert times is not None
        return times

    def sample(self, uniform: Uniforms) -> Floats:
        """The tokens of any row, each equally likely."""
        times = self._times()
        tokens = times.trace.column(self.column, 0, times.rows)
        drawn: Floats = tokens[(uniform(0) * times.rows).astype(np.intp)] * self.each
        return drawn

    def block(self, first: int, count: int, uniform: Uniforms) -> Floats:
        """The tokens of rows first .. first + count - 1."""
        times = self._times()
        pieces, start, left = [np.empty(0)], first % times.rows, count
        while left > 0:
            pieces.append(times.trace.column(self.column, start, min(left, times.rows - start)) * self.each)
            start, left = 0, left - len(pieces[-1])
        return np.concatenate(pieces)

    def scaled(self, factor: float) -> TraceColumn:
        """`each` times the factor."""
        return TraceColumn(self.column, self.each * factor, self.times)


@lru_cache(maxsize=256)
def _moments_of(trace: Trace, column: Tokens, rows: int) -> tuple[float, float]:
    """Mean and variance of the first rows, in two passes."""
    blocks = [(first, min(CHUNK, rows - first)) for first in range(0, rows, CHUNK)]
    mean = math.fsum(float(trace.column(column, *block).sum()) for block in blocks) / rows
    squares = (float(np.square(trace.column(column, *block) - mean).sum()) for block in blocks)
    return mean, math.fsum(squares) / rows
