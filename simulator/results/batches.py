"""Batch means: one long series cut into sections that are nearly independent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Batches:
    """The means of consecutive batches of `size` observations, the last of which ends the series.

    Where `independent` is False the series is too short: an interval from these means is too narrow.
    """

    means: Floats
    size: int
    independent: bool


def batch_means(series: npt.ArrayLike, count: int = 20) -> Floats:
    """Return the means, shape (count,), of consecutive batches of equal size.

    `series`, shape (n,), is in order of time. The n mod count observations that do not fill a batch are
    left out at the start, nearest to the warm-up. Raises ValueError unless 1 <= count <= n.
    """
    observations = np.asarray(series, dtype=np.float64)
    if observations.ndim != 1 or not 1 <= count <= observations.size:
        raise ValueError(f"got {count} batches of a series of shape {observations.shape}")
    size = observations.size // count
    means: Floats = observations[observations.size - size * count :].reshape(count, size).mean(axis=1)
    return means


def lag_one_autocorrelation(series: npt.ArrayLike) -> float:
    """Return the correlation of neighbours in a series of shape (n,); 0 for a constant series.

    NaN for fewer than two observations.
    """
    observations = np.asarray(series, dtype=np.float64)
    if observations.size < 2:
        return math.nan
    deviations = observations - observations.mean()
    squares = float(np.sum(deviations**2))
    return float(np.sum(deviations[1:] * deviations[:-1])) / squares if squares > 0 else 0.0


def von_neumann_ok(batches: npt.ArrayLike, significance: float = 0.1) -> bool:
    """Tell whether batch means, shape (k,), pass von Neumann's test of independence.

    The statistic C = 1 - sum (Y_{i+1} - Y_i)^2 / (2 sum (Y_i - mean)^2) is nearly normal with variance
    (k - 2) / (k^2 - 1) from k = 8 on. The test has one side, because only positive correlation makes
    intervals too narrow. A constant series passes; fewer than three batches do not.
    Source: von Neumann, Annals of Mathematical Statistics 12, 1941; Fishman & Yarberry, INFORMS Journal
    on Computing 9(3), 1997.
    """
    means = np.asarray(batches, dtype=np.float64)
    count = means.size
    if count < 3:
        return False
    if np.ptp(means) == 0:
        return True
    deviations = means - means.mean()
    statistic = 1 - float(np.sum(np.diff(means) ** 2)) / (2 * float(np.sum(deviations**2)))
    deviation = math.sqrt((count - 2) / (count * count - 1))
    return statistic <= NormalDist().inv_cdf(1 - significance) * deviation


def choose_batches(series: npt.ArrayLike, most: int = 32, least: int = 8) -> Batches:
    """Cut a series, shape (n,), into as many batches as are independent by `von_neumann_ok`.

    The number is halved from `most` down to `least`; should even `least` batches fail the test, they are
    returned with `independent=False`. So is a series of fewer than `least` observations, one a batch.
    Raises ValueError unless series is one-dimensional and 1 <= least <= most.
    """
    observations = np.asarray(series, dtype=np.float64)
    if observations.ndim != 1:
        raise ValueError(f"got a series of shape {observations.shape}, expected one dimension")
    if not 1 <= least <= most:
        raise ValueError(f"got least={least} and most={most}, expected 1 <= least <= most")
    if observations.size < least:
        return Batches(observations.copy(), 1, False)
    count = min(most, observations.size)
    while True:
        means = batch_means(observations, count)
        independent = von_neumann_ok(means)
        if independent or count == least:
            return Batches(means, observations.size // count, independent)
        count = max(count // 2, least)
