"""How many observations at the start of a run belong to its warm-up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BATCH_SIZE = 5
FEWEST_BATCHES = 10


@dataclass(frozen=True, slots=True)
class WarmUp:
    """How much of a series to drop: `truncate` observations, found among `batches` batches of five.

    Where `found` is False the run is too short to tell: the warm-up may last longer than `truncate`.
    """

    truncate: int
    batches: int
    found: bool


def mser5(observations: npt.ArrayLike) -> WarmUp:
    """Find the warm-up whose removal leaves the mean with the smallest marginal standard error.

    `observations`, shape (n,), are in order of time. Over batch means Y of five observations, truncation
    point d minimises sum_{i >= d} (Y_i - mean)^2 / (k - d)^2, where k is the number of batches and
    d <= k // 2. A minimum at the end of that range, or fewer than ten batches, means `found=False`. The
    first of equal minima counts; observations left over after the last whole batch are not looked at.

    Raises ValueError unless observations are one-dimensional and finite.
    Source: White, Simulation 69(6), 1997; White, Cobb & Spratt, Proc. Winter Simulation Conference, 2000.
    """
    series = np.asarray(observations, dtype=np.float64)
    if series.ndim != 1:
        raise ValueError(f"got observations of shape {series.shape}, expected one dimension")
    batches = series.size // BATCH_SIZE
    if batches < FEWEST_BATCHES:
        return WarmUp(0, batches, False)
    means = series[: batches * BATCH_SIZE].reshape(batches, BATCH_SIZE).mean(axis=1)
    last = batches // 2
    # The median rather than the mean: a constant series is then exactly zero, and large offsets do no harm.
    centred = means - np.median(means[last:])
    if not np.isfinite(centred).all():
        raise ValueError("got observations that are not finite")
    point = int(np.argmin(_marginal_squared_errors(centred)[: last + 1]))
    return WarmUp(point * BATCH_SIZE, batches, point < last)


def _marginal_squared_errors(means: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the squared marginal standard error of the mean of means[d:], for every d."""
    left = np.arange(means.size, 0, -1, dtype=np.float64)
    sums = np.cumsum(means[::-1])[::-1]
    squares = np.cumsum((means * means)[::-1])[::-1]
    errors: npt.NDArray[np.float64] = (squares - sums * sums / left) / (left * left)
    return errors
