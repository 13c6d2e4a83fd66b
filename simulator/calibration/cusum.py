"""The self-starting two-sided CUSUM chart: when the mean of a series moved, without knowing its mean and deviation.

Page, Continuous inspection schemes, Biometrika 41 (1954), with the self-starting standardization of Hawkins,
Self-starting CUSUM charts for location and scale, The Statistician 36 (1987): every value is compared with all before
it, so that nothing is lost, and no false alarm gained, by estimating from a few first windows what is normal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Chart:
    """How sensitive the chart is; raises ValueError for what makes no sense.

    `allowance` k and `threshold` h are in standard deviations of the series. Half the shift that has to be found is
    the best allowance (Montgomery, Introduction to Statistical Quality Control, section 9.1.3): the default 0.5 is for
    a shift by one, of a range above 0. The default threshold 8 gives one false alarm in 9,500 values; textbooks'
    5 gives one in 460, too many for a series of hundreds of windows of several measurements. `baseline` values, at
    least 3, are taken for normal and not tested; 20 give a deviation within 16 % (one in sqrt(2 * 19)).
    """

    allowance: float = 0.5
    threshold: float = 8.0
    baseline: int = 20

    def __post_init__(self) -> None:
        if not (0.0 < self.allowance < math.inf and 0.0 < self.threshold < math.inf):
            raise ValueError(f"got allowance {self.allowance:g} and threshold {self.threshold:g}, expected above 0")
        if self.baseline < 3:
            raise ValueError(f"got a baseline of {self.baseline}, expected at least 3 windows")

    @property
    def run_length(self) -> float:
        """Mean number of values until a false alarm, where they are independent and normal.

        Siegmund, Sequential Analysis (1985), section II.6: (exp(2 k b) - 2 k b - 1) / (2 k^2) with b = h + 1.166 for
        one side, half of it for both.
        """
        exponent = 2.0 * self.allowance * (self.threshold + 1.166)
        return (math.exp(exponent) - exponent - 1.0) / (4.0 * self.allowance**2)


@dataclass(frozen=True, slots=True)
class Alarm:
    """The mean moved at value number `start`, up (1) or down (-1), as was known at value number `seen`."""

    start: int
    seen: int
    direction: int


def find_shift(values: npt.ArrayLike, chart: Chart) -> Alarm | None:
    """The first shift of the mean of a series, shape (n,); None where there is none. Values that are NaN are skipped.

    No value alone raises an alarm, however far off: each counts for at most h / 2 + k (winsorizing, Hawkins and Olwell,
    Cumulative Sum Charts, 1998, section 3.5), so that one bad measurement is none. A drift that ends is reported as
    it began; for another one after it, begin the series later.
    """
    every = np.asarray(values, dtype=np.float64)
    places = np.flatnonzero(np.isfinite(every))
    known = every[places]
    most = chart.threshold / 2.0 + chart.allowance
    sums = {1: 0.0, -1: 0.0}
    for number, score in enumerate(np.clip(scores_of(known), -most, most)):
        if number < chart.baseline:
            continue
        for direction in sums:
            sums[direction] = max(0.0, sums[direction] + direction * float(score) - chart.allowance)
            if sums[direction] >= chart.threshold:
                return Alarm(int(places[_split(known[: number + 1])]), int(places[number]), direction)
    return None


def scores_of(values: Floats) -> Floats:
    """Every value's standard normal score against all before it, shape (n,); 0 for the first two.

    With mean m and deviation s of the n values before, (x - m) / s / sqrt(1 + 1 / n) has Student's t distribution with
    n - 1 degrees of freedom, independently of the scores before (Hawkins 1987); it is mapped to the normal one.
    """
    from scipy.special import ndtri, stdtr

    count = np.arange(len(values), dtype=np.float64)
    centered = values - values[:1].sum()  # nothing cancels where values are far from 0
    mean = (np.cumsum(centered) - centered) / np.maximum(count, 1.0)
    squares = np.cumsum(centered**2) - centered**2
    variance = np.maximum(squares - count * mean**2, 0.0) / np.maximum(count - 1.0, 1.0)
    distance = np.abs(centered - mean)
    scale = np.sqrt(variance * (1.0 + 1.0 / np.maximum(count, 1.0)))
    rounding = 1e-12 * np.maximum.accumulate(np.abs(values))
    differs = (count >= 2) & (distance > rounding)
    ratio = np.divide(distance, np.maximum(scale, rounding), where=differs, out=np.zeros_like(distance))
    tail = stdtr(np.maximum(count - 1.0, 1.0), -ratio)
    scores: Floats = -ndtri(np.maximum(tail, np.finfo(float).tiny)) * np.sign(centered - mean)
    return scores


def _split(values: Floats) -> int:
    """Where the values after differ most from those before: the most likely place of a shift of a normal mean.

    Hinkley, Inference about the change-point in a sequence of random variables, Biometrika 57 (1970). At least two
    values are on either side.
    """
    sizes = np.arange(2, len(values) - 1)
    sums = np.cumsum(values)
    before = sums[sizes - 1] / sizes
    after = (sums[-1] - sums[sizes - 1]) / (len(values) - sizes)
    between = sizes * (len(values) - sizes) * (after - before) ** 2
    return int(sizes[np.argmax(between)])
