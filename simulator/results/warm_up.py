"""How many observations at the start of a run belong to its warm-up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BATCH_SIZE = 5
FEWEST_BATCHES = 10
MOST_BATCHES = 1 << 16


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
    point, found = mser(series[: batches * BATCH_SIZE].reshape(batches, BATCH_SIZE).mean(axis=1))
    return WarmUp(point * BATCH_SIZE, batches, found)


def mser(means: npt.NDArray[np.float64]) -> tuple[int, bool]:
    """Return how many batch means, of shape (k,), to drop, and whether that surely ends the warm-up; see `mser5`."""
    if len(means) < FEWEST_BATCHES:
        return 0, False
    last = len(means) // 2
    # The median rather than the mean: a constant series is then exactly zero, and large offsets do no harm.
    centred = means - np.median(means[last:])
    if not np.isfinite(centred).all():
        raise ValueError("got observations that are not finite")
    point = int(np.argmin(_marginal_squared_errors(centred)[: last + 1]))
    return point, point < last


class Transient:
    """Finds the initial transient of response times that come one chunk after the other, in fixed memory.

    Batches are of five, as in MSER-5; whenever there are `most` of them (even), neighbours are merged, so that batches
    of 5 * 2^k are looked at in a long run. How the series is cut into chunks makes no difference.
    """

    def __init__(self, most: int = MOST_BATCHES) -> None:
        self.means, self.ends = np.empty(most), np.empty(most)
        self.count, self.doublings, self.seen = 0, 0, 0
        self.waiting = np.empty((2, 0))
        self.waiting_fives = np.empty((2, 0))

    def add(self, response_times: npt.NDArray[np.float64], ends: npt.NDArray[np.float64]) -> None:
        """Take in the next response times and when they ended (s), both of shape (n,), in order of ending."""
        self.seen += len(ends)
        waiting = np.concatenate([self.waiting, [response_times, ends]], axis=1)
        whole = waiting.shape[1] // BATCH_SIZE * BATCH_SIZE
        self.waiting = waiting[:, whole:].copy()
        fives = waiting[:, :whole].reshape(2, -1, BATCH_SIZE)
        self._add(np.stack([fives[0].mean(axis=1), fives[1, :, 0]]))

    def _add(self, fives: npt.NDArray[np.float64]) -> None:
        """Take in means of five, and the end of the first of each, shape (2, n)."""
        fives = np.concatenate([self.waiting_fives, fives], axis=1)
        while batches := min(fives.shape[1] >> self.doublings, len(self.means) - self.count):
            used = batches << self.doublings
            shaped = fives[:, :used].reshape(2, batches, -1)
            place = slice(self.count, self.count + batches)
            self.means[place], self.ends[place] = shaped[0].mean(axis=1), shaped[1, :, 0]
            self.count += batches
            fives = fives[:, used:]
            if self.count == len(self.means):
                self._double()
        self.waiting_fives = fives.copy()

    def _double(self) -> None:
        half = self.count // 2
        self.means[:half] = self.means.reshape(-1, 2).mean(axis=1)
        self.ends[:half] = self.ends[::2].copy()
        self.count, self.doublings = half, self.doublings + 1

    def length(self) -> tuple[float, bool]:
        """The transient's length (s), and whether it is surely over; none of no requests."""
        if not self.seen:
            return 0.0, True
        point, found = mser(self.means[: self.count])
        return float(self.ends[point]) if point else 0.0, found


def _marginal_squared_errors(means: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the squared marginal standard error of the mean of means[d:], for every d."""
    left = np.arange(means.size, 0, -1, dtype=np.float64)
    sums = np.cumsum(means[::-1])[::-1]
    squares = np.cumsum((means * means)[::-1])[::-1]
    errors: npt.NDArray[np.float64] = (squares - sums * sums / left) / (left * left)
    return errors
