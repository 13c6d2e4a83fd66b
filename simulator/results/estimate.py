"""Estimates with confidence intervals, how they are computed, and how they print."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class EstimateJson(TypedDict):
    """What an estimate looks like in JSON, where None stands for a number that could not be had."""

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its confidence interval, in the base unit of its dimension.

    `n` counts the independent sections (replications, batches, pairs or trials) behind the interval.
    `low` and `high` are NaN where no interval can be had, as with fewer than two sections.
    """

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def without_interval(cls, value: float, n: int = 0) -> Estimate:
        """Return an estimate whose interval is not known."""
        return cls(float(value), math.nan, math.nan, n)

    @property
    def half_width(self) -> float:
        """Half of the interval's width; NaN without an interval."""
        return (self.high - self.low) / 2

    @property
    def relative_half_width(self) -> float:
        """Half width over the value's magnitude; NaN without an interval, infinite around a value of zero."""
        half_width = self.half_width
        if self.value == 0:
            return half_width if half_width == 0 or math.isnan(half_width) else math.inf
        return half_width / abs(self.value)

    def contains(self, x: float) -> bool:
        """Tell whether the interval holds x; False without an interval."""
        return self.low <= x <= self.high

    def to_json(self) -> EstimateJson:
        """Return plain data in which numbers that are not finite are None."""
        return {
            "value": _finite_or_none(self.value),
            "low": _finite_or_none(self.low),
            "high": _finite_or_none(self.high),
            "n": self.n,
        }

    def show(self, dimension: str = "count") -> str:
        """Print as `12.4 ms [11.9, 13.0]`: one unit for all three numbers, chosen from the value.

        The interval's width shows two significant digits, the value at most five. Dimensions and the
        ValueError for an unknown one are those of `scale_for`.
        """
        factor, unit = scale_for(self._magnitude(), dimension)
        if math.isnan(self.value):
            return "no data"
        value, low, high = self.value * factor, self.low * factor, self.high * factor
        decimals = _decimals(value, low, high)
        if dimension in ("price", "money"):
            decimals = max(decimals, CENTS)
        shown = _with_unit(value, decimals, unit)
        if math.isnan(low) or math.isnan(high):
            return f"{shown} [no interval]"
        return f"{shown} [{low:z.{decimals}f}, {high:z.{decimals}f}]"

    def _magnitude(self) -> float:
        if self.value != 0:
            return abs(self.value)
        return max((abs(x) for x in (self.low, self.high) if math.isfinite(x)), default=0.0)


CENTS = 2
DIGITS_OF_A_VALUE = 5
DIGITS_OF_AN_EXACT_VALUE = 4
DIGITS_WITHOUT_INTERVAL = 3
EXACT = 1e-9

# From large to small: (the smallest value shown in the unit, factor from the base unit, unit).
SCALES: dict[str, tuple[tuple[float, float, str], ...]] = {
    "duration": (
        (3600.0, 1 / 3600, "h"),
        (60.0, 1 / 60, "min"),
        (1.0, 1.0, "s"),
        (1e-3, 1e3, "ms"),
        (1e-6, 1e6, "µs"),
        (0.0, 1e9, "ns"),
    ),
    "rate": ((1e6, 1e-6, "M/s"), (1e3, 1e-3, "k/s"), (0.0, 1.0, "/s")),
    "fraction": ((0.0, 100.0, "%"),),
    "size": (
        (2.0**40, 2.0**-40, "TiB"),
        (2.0**30, 2.0**-30, "GiB"),
        (2.0**20, 2.0**-20, "MiB"),
        (2.0**10, 2.0**-10, "KiB"),
        (0.0, 1.0, "B"),
    ),
    "price": ((0.0, 1.0, "$/h"),),
    "money": ((0.0, 1.0, "$"),),
    "count": ((0.0, 1.0, ""),),
}


def scale_for(value: float, dimension: str) -> tuple[float, str]:
    """Return (factor, unit) so that `value * factor` reads well in `unit`.

    `value` is in the dimension's base unit: duration s, rate 1/s, fraction 1, size bytes, price USD/h,
    money USD, count 1. Zero and values that are not finite keep the base unit, or per cent for a fraction.
    Raises ValueError for another dimension.
    """
    if dimension not in SCALES:
        raise ValueError(f"got dimension {dimension!r}, expected one of {', '.join(SCALES)}")
    scales = SCALES[dimension]
    magnitude = abs(value) if math.isfinite(value) else 0.0
    if magnitude == 0:
        return next(((factor, unit) for _, factor, unit in scales if factor == 1.0), scales[-1][1:])
    # 999.97 µs prints as 1.000 ms: what is rounded decides.
    rounded = float(f"{magnitude:.{DIGITS_OF_AN_EXACT_VALUE}g}")
    return next((factor, unit) for least, factor, unit in scales if rounded >= least)


def student_t_quantile(probability: float, degrees_of_freedom: float) -> float:
    """Return the quantile of Student's t distribution, as by scipy.stats but quick to import."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees_of_freedom, probability))


def sectioned(pooled: float, sections: npt.ArrayLike, confidence: float = 0.95) -> Estimate:
    """Return the sectioning interval around an estimate computed from all data pooled.

    `sections`, shape (R,), holds the same statistic computed from each replication or batch alone; its
    bias within a section widens the interval but does not shift it, which is what quantiles and ratios
    need. Half width: t_{R-1} sqrt(sum((section - pooled)^2) / (R (R - 1))).

    Sections that are not finite are dropped; there is no interval with fewer than two left, nor with
    fewer than half of them. Raises ValueError unless sections are one-dimensional and 0 < confidence < 1.
    Source: Asmussen & Glynn, Stochastic Simulation (2007), section III.5; for quantiles Nakayama,
    ACM TOMACS 24(4), 2014.
    """
    quantile_at = _two_sided(confidence)
    every = _one_dimensional(sections)
    kept = every[np.isfinite(every)]
    count = kept.size
    if count < 2 or 2 * count < every.size or not math.isfinite(pooled):
        return Estimate.without_interval(pooled, count)
    standard_error = math.sqrt(float(np.sum((kept - pooled) ** 2)) / (count * (count - 1)))
    half_width = student_t_quantile(quantile_at, count - 1) * standard_error
    return Estimate(float(pooled), float(pooled) - half_width, float(pooled) + half_width, count)


def mean_interval(samples: npt.ArrayLike, confidence: float = 0.95) -> Estimate:
    """Return the mean of independent samples, shape (R,), with the classic t interval.

    Samples that are not finite are dropped, by the rule of `sectioned`; without any, the value is NaN.
    """
    every = _one_dimensional(samples)
    kept = every[np.isfinite(every)]
    return sectioned(float(kept.mean()) if kept.size else math.nan, every, confidence)


def paired_difference(
    a: npt.ArrayLike, b: npt.ArrayLike, confidence: float = 0.95, pooled: tuple[float, float] | None = None
) -> Estimate:
    """Return B - A for `pooled` (A, B) with its sectioning interval; without it, of both means.

    `a` and `b`, shape (R,), hold one statistic of replication i in both systems under common random
    numbers, `pooled` the same statistic of all their data. A pair with a number that is not finite is
    dropped from the interval. Raises ValueError for unequal shapes.
    Source: Law, Simulation Modeling and Analysis (2015), section 10.2.1; for pooled estimates Asmussen &
    Glynn (2007), section III.5, with the pairs' differences as sections.
    """
    first, second = _pairs(a, b)
    of_a, of_b = pooled or _means(first, second)
    return sectioned(of_b - of_a, second - first, confidence)


def paired_ratio(
    a: npt.ArrayLike, b: npt.ArrayLike, confidence: float = 0.95, pooled: tuple[float, float] | None = None
) -> Estimate:
    """Return B / A for `pooled` (A, B) over pairs under common random numbers; without it, of both means.

    The delta method on the logarithm of the ratio: with z_i = b_i / B - a_i / A, sectioned around 0, the
    bounds are ratio * exp(-+ half width). So they stay positive, and exchanging a and b inverts them.
    A and B must be positive for an interval; where A is zero, the value is NaN.
    Pairs with a number that is not finite are dropped. Raises ValueError for unequal shapes.
    Source: Asmussen & Glynn (2007), sections III.3, with f(a, b) = log b - log a, and III.5.
    """
    first, second = _pairs(a, b)
    of_a, of_b = pooled or _means(first, second)
    ratio = of_b / of_a if of_a != 0 else math.nan
    if not (of_a > 0 and of_b > 0):
        return Estimate.without_interval(ratio, int(np.isfinite(first).sum()))
    logarithm = sectioned(0.0, second / of_b - first / of_a, confidence)
    factor = _exp(logarithm.half_width)
    return Estimate(ratio, ratio / factor, ratio * factor, logarithm.n)


def proportion_interval(successes: int, trials: int, confidence: float = 0.95) -> Estimate:
    """Return successes / trials with the exact interval, which is of use even at zero successes.

    Trials have to be independent: requests of one run are not where failures come in bursts, and then
    this interval is too narrow. Without trials, value and interval are NaN. Raises ValueError unless
    0 <= successes <= trials. Source: Clopper & Pearson, Biometrika 26(4), 1934.
    """
    from scipy.special import betaincinv

    if not 0 <= successes <= trials:
        raise ValueError(f"got {successes} successes of {trials} trials, expected 0 <= successes <= trials")
    upper = _two_sided(confidence)
    if trials == 0:
        return Estimate.without_interval(math.nan)
    failures = trials - successes
    low = float(betaincinv(successes, failures + 1, 1 - upper)) if successes else 0.0
    high = float(betaincinv(successes + 1, failures, upper)) if failures else 1.0
    return Estimate(successes / trials, low, high, trials)


def _two_sided(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"got confidence {confidence}, expected a number between 0 and 1")
    return (1 + confidence) / 2


def _one_dimensional(data: npt.ArrayLike) -> Floats:
    array = np.asarray(data, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"got an array of shape {array.shape}, expected one dimension")
    return array


def _pairs(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return both sides of the pairs, NaN on both where either is not finite."""
    first, second = _one_dimensional(a), _one_dimensional(b)
    if first.shape != second.shape:
        raise ValueError(f"got {first.size} and {second.size} sections, expected pairs")
    whole = np.isfinite(first) & np.isfinite(second)
    return np.where(whole, first, np.nan), np.where(whole, second, np.nan)


def _means(first: Floats, second: Floats) -> tuple[float, float]:
    """Return the means of both sides of the pairs that are whole; NaN without one."""
    whole = np.isfinite(first)
    return (float(first[whole].mean()), float(second[whole].mean())) if whole.any() else (math.nan, math.nan)


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def _finite_or_none(x: float) -> float | None:
    return x if math.isfinite(x) else None


def _decimals(value: float, low: float, high: float) -> int:
    width = high - low
    if not math.isfinite(width):
        return _fewest_decimals(value, DIGITS_WITHOUT_INTERVAL)
    if width <= EXACT * abs(value):
        return _fewest_decimals(value, DIGITS_OF_AN_EXACT_VALUE)
    largest = abs(value) or max(abs(low), abs(high))
    wanted = 1 - math.floor(math.log10(width))
    return max(0, min(wanted, DIGITS_OF_A_VALUE - 1 - math.floor(math.log10(largest))))


def _fewest_decimals(value: float, digits: int) -> int:
    """Count the decimals that show `digits` significant digits, trailing zeros left out."""
    if value == 0 or not math.isfinite(value):
        return 0
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    significant = len(mantissa.lstrip("-").replace(".", "").rstrip("0"))
    return max(0, significant - 1 - int(exponent))


def _with_unit(value: float, decimals: int, unit: str) -> str:
    number = f"{value:z.{decimals}f}"
    if unit.startswith("$"):
        sign = "-" if number.startswith("-") else ""
        return f"{sign}${number.removeprefix('-')}{unit.removeprefix('$')}"
    return f"{number} {unit}".rstrip()
