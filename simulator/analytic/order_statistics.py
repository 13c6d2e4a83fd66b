"""Order statistics: the probability that so many of independent events have happened."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

MOST_ONE_BY_ONE = 64
MOST_OPERATIONS = 1e8
"""Of counting events one by one, which take about 0.3 s."""


def at_least(need: int, probabilities: Sequence[Floats]) -> Floats:
    """The probability that at least `need` >= 1 of independent events happen, given arrays of those of each.

    Events whose probabilities are one and the same array are equal. Exact, but for very many different events, whose
    number is then taken for normal, corrected for its skewness.
    """
    count, first = len(probabilities), probabilities[0]
    alike = all(each is first for each in probabilities)
    if alike and need == count:
        return _floats(first**count)
    if alike and need == 1:
        return _floats(-np.expm1(count * np.log1p(-np.minimum(first, 1.0 - 1e-16))))
    if alike and count > MOST_ONE_BY_ONE:
        from scipy.special import betainc  # takes 0.1 s to import

        return _floats(betainc(need, count - need + 1, np.clip(first, 0.0, 1.0)))
    if min(need, count - need + 1) * count * first.size > MOST_OPERATIONS:
        return _nearly_normal(need, probabilities)
    if 2 * need > count + 1:
        return 1.0 - _one_by_one(count - need + 1, [1.0 - each for each in probabilities])
    return _one_by_one(need, probabilities)


def _one_by_one(need: int, probabilities: Sequence[Floats]) -> Floats:
    """The probability of 0, 1, ..., need - 1 events, one event after the other."""
    so_many = np.zeros((need, *probabilities[0].shape))
    so_many[0] = 1.0
    for probability in probabilities:
        one_more = so_many[:-1] * probability
        so_many *= 1.0 - probability
        so_many[1:] += one_more
    return _floats(np.clip(1.0 - so_many.sum(axis=0), 0.0, 1.0))


def _nearly_normal(need: int, probabilities: Sequence[Floats]) -> Floats:
    """The refined normal approximation.

    Source: Y. Hong, On computing the distribution function for the Poisson binomial distribution, Computational
    Statistics & Data Analysis 59 (2013), section 2.3: off by at most 0.002 for hundreds of events or more.
    """
    from scipy.special import ndtr  # takes 0.1 s to import

    mean, variance, third = (np.zeros_like(probabilities[0]) for _ in range(3))
    for probability in probabilities:
        spread = probability * (1.0 - probability)
        mean += probability
        variance += spread
        third += spread * (1.0 - 2.0 * probability)
    deviation = np.sqrt(np.maximum(variance, 1e-12))
    x = (need - 0.5 - mean) / deviation
    density = np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
    below = ndtr(x) + third / deviation**3 * (1.0 - x * x) * density / 6.0
    return _floats(np.clip(1.0 - below, 0.0, 1.0))


def _floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)
