"""Distributions of times, sizes and choices: plain values that know their moments and how to draw.

Quantities are in base units (seconds, bytes, ...) and never negative. A draw of element i takes element i of
the uniform arrays and nothing else, through the functions of ``simulator.elementary`` only, so it does not
depend on the size of the block it was drawn in, nor on the machine.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from simulator import elementary

FloatArray = npt.NDArray[np.float64]
Uniforms = Callable[[int], FloatArray]

ERLANG_STAGES_MULTIPLIED = 16


class Distribution(ABC):
    """A distribution of a quantity that is not negative; compared, hashed and pickled by its parameters.

    Construction raises ValueError, in one line, for a parameter out of its range.
    """

    __slots__ = ("_table",)
    _table: FloatArray

    draws_nothing: ClassVar[bool] = False
    """Whether every draw is the same number, so that no uniforms are needed."""

    if TYPE_CHECKING:  # At run time it would become the default of the subclasses' field ``mean``.

        @property
        def mean(self) -> float:
            """The mean, in the quantity's unit."""

    @property
    @abstractmethod
    def variance(self) -> float:
        """The variance, in the square of the quantity's unit."""

    @property
    def scv(self) -> float:
        """Squared coefficient of variation, variance / mean²; 0 where the mean is 0."""
        return self.variance / (self.mean * self.mean) if self.mean else 0.0

    @abstractmethod
    def sample(self, uniform: Uniforms) -> FloatArray:
        """One draw for each element of the arrays that ``uniform(k)``, k = 0, 1, 2, ..., gives.

        ``uniform(k)`` is the block's k-th array of uniforms in the open interval (0, 1): the same array at
        every call, independent of the others. The arrays are only read. Returns an array of their shape.
        Larger uniforms give larger draws wherever a draw is an inverse transform, so that two distributions
        compared on the same uniforms go up and down together.
        """

    def block(self, first: int, count: int, uniform: Uniforms) -> FloatArray:
        """The draws of requests first .. first + count - 1, for which ``uniform`` gives the uniforms; shape (count,).

        Those of ``sample``; what is recorded depends on the requests' numbers instead.
        """
        return self.sample(uniform)

    def scaled(self, factor: float) -> "Distribution":
        """The distribution of factor times this quantity.

        Raises TypeError for distributions of whole numbers, ValueError for a factor that the parameters do
        not allow.
        """
        raise TypeError(f"{type(self).__name__} gives whole numbers and cannot be scaled")


def _number(distribution: Distribution, name: str, expected: str, accepted: Callable[[float], bool]) -> None:
    """Store the parameter as a float, or raise ValueError."""
    given = getattr(distribution, name)
    object.__setattr__(distribution, name, _accept(distribution, name, given, expected, accepted))


def _accept(
    distribution: Distribution, name: str, given: object, expected: str, accepted: Callable[[float], bool]
) -> float:
    if isinstance(given, (int, float, np.integer, np.floating)) and not isinstance(given, bool):
        value = float(given)
        if math.isfinite(value) and accepted(value):
            return value
    raise ValueError(f"{type(distribution).__name__}: {name}: got {given!r}, expected {expected}")


def _positive(distribution: Distribution, *names: str) -> None:
    for name in names:
        _number(distribution, name, "a number > 0", lambda value: value > 0.0)


def _not_negative(distribution: Distribution, *names: str) -> None:
    for name in names:
        _number(distribution, name, "a number >= 0", lambda value: value >= 0.0)


def _whole(distribution: Distribution, name: str) -> None:
    _number(distribution, name, "a whole number >= 1", lambda value: value >= 1.0 and value.is_integer())
    object.__setattr__(distribution, name, int(getattr(distribution, name)))


def _numbers(distribution: Distribution, name: str) -> None:
    given = getattr(distribution, name)
    kind = type(distribution).__name__
    if isinstance(given, str) or not isinstance(given, (tuple, list, np.ndarray)) or len(given) == 0:
        raise ValueError(f"{kind}: {name}: got {given!r}, expected at least one number >= 0")
    values = tuple(
        _accept(distribution, f"{name}[{position}]", value, "a number >= 0", lambda value: value >= 0.0)
        for position, value in enumerate(given)
    )
    object.__setattr__(distribution, name, values)


@dataclass(frozen=True, slots=True)
class Constant(Distribution):
    """Always the same value >= 0."""

    value: float
    draws_nothing: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _not_negative(self, "value")

    @property
    def mean(self) -> float:
        """The value."""
        return self.value

    @property
    def variance(self) -> float:
        """Zero."""
        return 0.0

    def sample(self, uniform: Uniforms) -> FloatArray:
        """The value, as often as there are uniforms."""
        return np.full_like(uniform(0), self.value)

    def scaled(self, factor: float) -> "Constant":
        """The constant factor * value."""
        return Constant(self.value * factor)


@dataclass(frozen=True, slots=True)
class Exponential(Distribution):
    """Memoryless, with a mean > 0."""

    mean: float

    def __post_init__(self) -> None:
        _positive(self, "mean")

    @property
    def variance(self) -> float:
        """mean²."""
        return self.mean * self.mean

    def sample(self, uniform: Uniforms) -> FloatArray:
        """Inverse transform: -mean log(1 - u)."""
        return elementary.log(1.0 - uniform(0)) * -self.mean

    def scaled(self, factor: float) -> "Exponential":
        """The mean times the factor."""
        return Exponential(self.mean * factor)


@dataclass(frozen=True, slots=True)
class Erlang(Distribution):
    """The sum of ``stages`` equal exponential stages with a mean > 0 in all; scv = 1 / stages."""

    mean: float
    stages: int

    def __post_init__(self) -> None:
        _positive(self, "mean")
        _whole(self, "stages")

    @property
    def variance(self) -> float:
        """mean² / stages."""
        return self.mean * self.mean / self.stages

    def sample(self, uniform: Uniforms) -> FloatArray:
        """-mean / stages * log of the product of the stages' 1 - u; many stages as a gamma.

        16 factors of at least 2^-53 never underflow.
        """
        scale = self.mean / self.stages
        if self.stages > ERLANG_STAGES_MULTIPLIED:
            return _standard_gamma(float(self.stages), uniform) * scale
        product = 1.0 - uniform(0)
        for stage in range(1, self.stages):
            product *= 1.0 - uniform(stage)
        return elementary.log(product) * -scale

    def scaled(self, factor: float) -> "Erlang":
        """The mean times the factor, the stages as they are."""
        return Erlang(self.mean * factor, self.stages)


@dataclass(frozen=True, slots=True)
class Gamma(Distribution):
    """Gamma with a mean > 0 and a coefficient of variation ``cv`` > 0: shape 1 / cv²."""

    mean: float
    cv: float

    def __post_init__(self) -> None:
        _positive(self, "mean")
        # Beyond these the shape 1 / cv² loses its digits, or the draws underflow to zero.
        _number(self, "cv", "a number from 1e-6 to 30", lambda value: 1e-6 <= value <= 30.0)

    @property
    def variance(self) -> float:
        """(mean * cv)²."""
        return (self.mean * self.cv) * (self.mean * self.cv)

    def sample(self, uniform: Uniforms) -> FloatArray:
        """Marsaglia and Tsang's rejection, element by element."""
        shape = 1.0 / (self.cv * self.cv)
        return _standard_gamma(shape, uniform) * (self.mean / shape)

    def scaled(self, factor: float) -> "Gamma":
        """The mean times the factor, the shape as it is."""
        return Gamma(self.mean * factor, self.cv)


def _standard_gamma(shape: float, uniform: Uniforms) -> FloatArray:
    """Gamma draws of scale 1.

    Source: G. Marsaglia and W. W. Tsang, "A simple method for generating gamma variables", ACM TOMS 26 (2000)
    363-372.
    Below shape 1: Gamma(shape) = Gamma(shape + 1) * U^(1 / shape).
    """
    if shape >= 1.0:
        return _gamma_of_attempts(shape, uniform, 0)
    boost = elementary.power(uniform(0), 1.0 / shape)
    boost *= _gamma_of_attempts(shape + 1.0, uniform, 1)
    return boost


def _gamma_of_attempts(shape: float, uniform: Uniforms, first_k: int) -> FloatArray:
    """Attempts for all elements, then for those not yet accepted; over 95 % succeed, whatever the shape."""
    d = shape - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    result = np.empty_like(uniform(first_k))
    pending = np.arange(result.size)
    k = first_k
    while pending.size:
        normal = elementary.normal_quantile(uniform(k)[pending])
        root = 1.0 + c * normal
        v = np.where(root > 0.0, root * root * root, 1.0)
        bound = 0.5 * (normal * normal) + d * (1.0 - v + elementary.log(v))
        accepted = (root > 0.0) & (elementary.log(uniform(k + 1)[pending]) < bound)
        result[pending[accepted]] = d * v[accepted]
        pending = pending[~accepted]
        k += 2
    return result


@dataclass(frozen=True, slots=True)
class LogNormal(Distribution):
    """Log-normal with a mean > 0 and a coefficient of variation ``cv`` > 0."""

    mean: float
    cv: float

    def __post_init__(self) -> None:
        _positive(self, "mean")
        _number(self, "cv", "a number > 0, at most 1e6", lambda value: 0.0 < value <= 1e6)

    @property
    def variance(self) -> float:
        """(mean * cv)²."""
        return (self.mean * self.cv) * (self.mean * self.cv)

    def sample(self, uniform: Uniforms) -> FloatArray:
        """mean * exp(sigma z - sigma² / 2), z standard normal, sigma² = log(1 + cv²)."""
        square = log_of_one_plus(self.cv * self.cv)
        exponent = elementary.normal_quantile(uniform(0))
        exponent *= math.sqrt(square)
        exponent -= 0.5 * square
        return elementary.exp(exponent) * self.mean

    def scaled(self, factor: float) -> "LogNormal":
        """The mean times the factor."""
        return LogNormal(self.mean * factor, self.cv)

    @classmethod
    def of_percentiles(cls, median: float, value: float, probability: float) -> "LogNormal":
        """The log-normal with this median, of which a draw is below `value` with a probability above one half.

        median = exp(mu), value = exp(mu + sigma z): mean = exp(mu + sigma² / 2), cv² = exp(sigma²) - 1.
        Raises ValueError unless 0 < median < value.
        """
        if not 0.0 < median < value < math.inf:
            raise ValueError(
                f"LogNormal: got a median of {median!r} and a percentile of {value!r}, expected more than it"
            )
        quantile = float(elementary.normal_quantile(np.array([probability]))[0])
        sigma = float(elementary.log(value / median)) / quantile
        if sigma > 5.0:
            raise ValueError(f"LogNormal: a percentile that is {value / median!r} times the median, expected less")
        grown = float(elementary.exp(0.5 * (sigma * sigma)))
        return cls(median * grown, math.sqrt((grown - 1.0) * (grown + 1.0)))


@lru_cache(maxsize=1024)
def log_of_one_plus(x: float) -> float:
    """log(1 + x), x >= 0, exact for small x too. Source: W. Kahan's correction of the rounding of 1 + x."""
    rounded = 1.0 + x
    return float(elementary.log(rounded)) * (x / (rounded - 1.0)) if rounded > 1.0 else x


@dataclass(frozen=True, slots=True)
class HyperExponential(Distribution):
    """One of two exponential phases, with balanced means, for a coefficient of variation ``cv`` > 1.

    Balanced means (each phase carries half of the mean) fix the third parameter that mean and cv leave open.
    Source: A. O. Allen, Probability, Statistics, and Queueing Theory (1990), section 3.2.9;
    p = (1 + √((cv² - 1) / (cv² + 1))) / 2, phase means mean / 2p and mean / 2(1 - p).
    """

    mean: float
    cv: float

    def __post_init__(self) -> None:
        _positive(self, "mean")
        # Above, the long phase is rarer than the uniforms resolve.
        _number(self, "cv", "a number > 1, at most 1e6", lambda value: 1.0 < value <= 1e6)

    @property
    def variance(self) -> float:
        """(mean * cv)²."""
        return (self.mean * self.cv) * (self.mean * self.cv)

    @property
    def rare_probability(self) -> float:
        """Probability of the long phase, 1 - p, without cancellation."""
        scv = self.cv * self.cv
        return 1.0 / ((scv + 1.0) * (1.0 + math.sqrt((scv - 1.0) / (scv + 1.0))))

    def sample(self, uniform: Uniforms) -> FloatArray:
        """The phase by u(0), an exponential of its mean by u(1)."""
        rare = self.rare_probability
        is_rare = 1.0 - uniform(0) < rare
        result = np.where(is_rare, -self.mean / (2.0 * rare), -self.mean / (2.0 * (1.0 - rare)))
        result *= elementary.log(1.0 - uniform(1))
        return result

    def scaled(self, factor: float) -> "HyperExponential":
        """The mean times the factor."""
        return HyperExponential(self.mean * factor, self.cv)


@dataclass(frozen=True, slots=True)
class Uniform(Distribution):
    """Every value between ``low`` >= 0 and ``high`` > low equally likely."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _not_negative(self, "low")
        _number(self, "high", f"a number > low ({self.low!r})", lambda value: value > self.low)

    @property
    def mean(self) -> float:
        """(low + high) / 2."""
        return 0.5 * (self.low + self.high)

    @property
    def variance(self) -> float:
        """(high - low)² / 12."""
        return (self.high - self.low) * (self.high - self.low) / 12.0

    def sample(self, uniform: Uniforms) -> FloatArray:
        """low + (high - low) u."""
        return uniform(0) * (self.high - self.low) + self.low

    def scaled(self, factor: float) -> "Uniform":
        """Both ends times the factor."""
        return Uniform(self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class StandardUniform(Distribution):
    """Every value between 0 and 1 equally likely."""

    @property
    def mean(self) -> float:
        """One half."""
        return 0.5

    @property
    def variance(self) -> float:
        """One twelfth."""
        return 1.0 / 12.0

    def sample(self, uniform: Uniforms) -> FloatArray:
        """The uniforms themselves."""
        return uniform(0).copy()

    def scaled(self, factor: float) -> Uniform:
        """Uniform from 0 to the factor."""
        return Uniform(0.0, factor)


@dataclass(frozen=True, slots=True)
class Weibull(Distribution):
    """Weibull with a mean > 0 and a shape from 0.05: below 1 heavier than exponential, above 1 lighter."""

    mean: float
    shape: float

    def __post_init__(self) -> None:
        _positive(self, "mean")
        # Below, the variance is over 10^17 squared means, which no sample shows.
        _number(self, "shape", "a number >= 0.05", lambda value: value >= 0.05)

    @property
    def scale(self) -> float:
        """mean / Γ(1 + 1 / shape)."""
        return self.mean / _gamma_function(1.0 + 1.0 / self.shape)

    @property
    def variance(self) -> float:
        """scale² Γ(1 + 2 / shape) - mean²."""
        second_moment = _gamma_function(1.0 + 2.0 / self.shape) * self.scale * self.scale
        return max(0.0, second_moment - self.mean * self.mean)

    def sample(self, uniform: Uniforms) -> FloatArray:
        """Inverse transform: scale * (-log(1 - u))^(1 / shape)."""
        return elementary.power(-elementary.log(1.0 - uniform(0)), 1.0 / self.shape) * self.scale

    def scaled(self, factor: float) -> "Weibull":
        """The mean times the factor, the shape as it is."""
        return Weibull(self.mean * factor, self.shape)


@lru_cache(maxsize=1024)
def _gamma_function(x: float) -> float:
    return elementary.gamma_function(x)


@dataclass(frozen=True, slots=True)
class BoundedPareto(Distribution):
    """Density proportional to x^(-shape - 1) between ``low`` > 0 and ``high`` > low: the heavy tail of sizes.

    Source: M. Harchol-Balter, Performance Modeling and Design of Computer Systems (2013), section 20.3.
    """

    low: float
    high: float
    shape: float

    def __post_init__(self) -> None:
        _positive(self, "low", "shape")
        _number(self, "high", f"a number > low ({self.low!r})", lambda value: value > self.low)

    @property
    def mean(self) -> float:
        """The first moment."""
        return self.low * self._relative_moment(1)

    @property
    def variance(self) -> float:
        """Second moment less mean²."""
        first = self._relative_moment(1)
        return max(0.0, self._relative_moment(2) - first * first) * self.low * self.low

    def _relative_moment(self, order: int) -> float:
        """E[(x / low)^order] = ∫ t^(shape - order - 1) dt / ∫ t^(shape - 1) dt over t = low / x."""
        ratio = self.low / self.high
        return _integral_of_power(self.shape - order, ratio) / _integral_of_power(self.shape, ratio)

    def sample(self, uniform: Uniforms) -> FloatArray:
        """Inverse transform: low * (1 - u (1 - (low / high)^shape))^(-1 / shape)."""
        whole = self.shape * _integral_of_power(self.shape, self.low / self.high)
        result = elementary.power(1.0 - uniform(0) * whole, -1.0 / self.shape)
        result *= self.low
        return np.minimum(result, self.high, out=result)

    def scaled(self, factor: float) -> "BoundedPareto":
        """Both ends times the factor, the shape as it is."""
        return BoundedPareto(self.low * factor, self.high * factor, self.shape)


@lru_cache(maxsize=1024)
def _integral_of_power(exponent: float, start: float) -> float:
    """∫ t^(exponent - 1) dt from ``start`` to 1: (1 - start^exponent) / exponent, or at 0 -log(start)."""
    log_start = float(elementary.log(start))
    x = exponent * log_start
    raised = float(elementary.exp(x))
    if raised == 1.0:
        return -log_start
    # Near exponent 0 both parts vanish: W. Kahan's correction divides by the exponent that was rounded to.
    return (1.0 - raised) / (exponent if abs(x) > 1.0 else float(elementary.log(raised)) / log_start)


@dataclass(frozen=True, slots=True)
class Empirical(Distribution):
    """Measured values >= 0, each equally likely; kept in ascending order, whatever the order given."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        _numbers(self, "values")
        object.__setattr__(self, "values", tuple(sorted(self.values)))

    @property
    def mean(self) -> float:
        """The values' mean."""
        return math.fsum(self.values) / len(self.values)

    @property
    def variance(self) -> float:
        """The values' mean squared deviation (they are the population)."""
        mean = self.mean
        return math.fsum((value - mean) * (value - mean) for value in self.values) / len(self.values)

    def sample(self, uniform: Uniforms) -> FloatArray:
        """The value of rank floor(u n), which is below n for every u < 1, rounding included."""
        table = self._sorted_values()
        return table[(uniform(0) * table.size).astype(np.intp)]

    def _sorted_values(self) -> FloatArray:
        # Not an lru_cache: hashing thousands of values would cost more than drawing a block.
        try:
            return self._table
        except AttributeError:
            object.__setattr__(self, "_table", np.array(self.values))
            return self._table

    def scaled(self, factor: float) -> "Empirical":
        """Every value times the factor."""
        return Empirical(tuple(value * factor for value in self.values))


@dataclass(frozen=True, slots=True)
class Zipf(Distribution):
    """Ranks 0 .. count - 1 with probability proportional to (rank + 1)^-exponent: the popularity of keys."""

    count: int
    exponent: float

    def __post_init__(self) -> None:
        _whole(self, "count")
        _not_negative(self, "exponent")

    @property
    def mean(self) -> float:
        """The mean rank."""
        return _moments(self.probabilities())[0]

    @property
    def variance(self) -> float:
        """The variance of the rank."""
        return _moments(self.probabilities())[1]

    def probabilities(self) -> FloatArray:
        """Probability of each rank; shape (count,)."""
        return np.diff(zipf_table(self.count, self.exponent), prepend=0.0)

    def sample(self, uniform: Uniforms) -> FloatArray:
        """The rank whose step of the cumulative probabilities holds u."""
        return _step(zipf_table(self.count, self.exponent), uniform(0))


@dataclass(frozen=True, slots=True)
class Discrete(Distribution):
    """Index 0 .. n - 1 with probability proportional to its weight >= 0: a choice among n."""

    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        _numbers(self, "weights")
        total = math.fsum(self.weights)
        if not 0.0 < total < math.inf:
            raise ValueError(f"Discrete: weights: got a sum of {total!r}, expected a finite sum > 0")

    @property
    def mean(self) -> float:
        """The mean index."""
        return _moments(self.probabilities())[0]

    @property
    def variance(self) -> float:
        """The variance of the index."""
        return _moments(self.probabilities())[1]

    @property
    def count(self) -> int:
        """How many there are to choose among."""
        return len(self.weights)

    def probabilities(self) -> FloatArray:
        """Probability of each index; shape (n,)."""
        return np.diff(weights_table(self.weights), prepend=0.0)

    def sample(self, uniform: Uniforms) -> FloatArray:
        """The index whose step of the cumulative probabilities holds u; never one of weight 0."""
        return _step(weights_table(self.weights), uniform(0))


@lru_cache(maxsize=16)
def zipf_table(count: int, exponent: float) -> FloatArray:
    """Cumulative probabilities of ``Zipf(count, exponent)``; shape (count,), the last of them 1."""
    return _cumulative(elementary.power(np.arange(1.0, count + 1.0), -exponent))


@lru_cache(maxsize=1024)
def weights_table(weights: tuple[float, ...]) -> FloatArray:
    """Cumulative probabilities of ``Discrete(weights)``; shape (len(weights),), the last of them 1."""
    return _cumulative(np.array(weights))


def _cumulative(weights: FloatArray) -> FloatArray:
    """Cumulative probabilities, the last of them 1, added one by one: the order within ``sum`` may vary."""
    table = np.cumsum(weights)
    table /= table[-1]
    table.flags.writeable = False
    return table


def _step(table: FloatArray, uniforms: FloatArray) -> FloatArray:
    return np.searchsorted(table, uniforms, side="right").astype(np.float64)


def _moments(probabilities: FloatArray) -> tuple[float, float]:
    """Mean and variance of the index."""
    index = np.arange(probabilities.size)
    mean = math.fsum(index * probabilities)
    deviation = index - mean
    return mean, math.fsum(deviation * deviation * probabilities)
