"""Whether a backlog grows: the sign of a system offered more than it can do."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from simulator.results.estimate import student_t_quantile

NEGLIGIBLE_GROWTH = 0.005


def growth(times: npt.ArrayLike, level: npt.ArrayLike) -> float:
    """Return the least-squares slope, per second, of a level sampled at `times` in seconds.

    Both have shape (n,); times need not be evenly spaced. NaN for fewer than two distinct times.
    Raises ValueError for unequal shapes.
    """
    moments = np.asarray(times, dtype=np.float64)
    levels = np.asarray(level, dtype=np.float64)
    if moments.ndim != 1 or moments.shape != levels.shape:
        raise ValueError(f"got times of shape {moments.shape} and levels of shape {levels.shape}")
    if moments.size < 2 or np.ptp(moments) == 0:
        return math.nan
    centred = moments - moments.mean()
    with np.errstate(over="ignore"):  # over 1e154 s, levels hardly grow at all in a second
        spread = float(np.sum(centred**2))
    return float(np.sum(centred * (levels - levels.mean()))) / spread


def filling(rate: float, elapsed: float, time: float) -> float:
    """How fast the number present still grows in a system that started empty `elapsed` seconds ago, per second.

    `rate` come a second and stay for `time` seconds on average, taken for exponential: those who came `elapsed` ago
    and are still there, rate * exp(-elapsed / time), are not yet replaced by as many who leave (M/G/infinity).
    """
    return rate * math.exp(-elapsed / time) if time > 0.0 else 0.0


def grows(
    slopes: npt.ArrayLike,
    scale: float,
    confidence: float = 0.95,
    negligible: float = NEGLIGIBLE_GROWTH,
) -> bool:
    """Tell whether a level grows, both surely and by an amount that matters.

    `slopes`, shape (R,), has the growth of the level in each replication, per second; `scale` is the rate
    that feeds the level, as a rule the offered rate. Surely: the one-sided lower confidence bound of the
    mean slope, by Student's t, is above zero. Matters: the mean slope is above `negligible * scale`, by
    default 0.5 % of what is offered, so that a stable queue that happens to end high in a long study of
    many replications is not called unstable.

    Take slopes after the warm-up: a stable queue that starts empty grows at first. Slopes that are not
    finite are dropped. A single slope has no bound, and its size alone decides: in a short run near
    saturation that can mistake a busy spell for growth. A backlog capped by a finite queue does not grow;
    look at its losses. Raises ValueError unless scale >= 0 and 0 < confidence < 1.
    """
    if not scale >= 0 or not 0 < confidence < 1:
        raise ValueError(f"got scale={scale} and confidence={confidence}")
    every = np.asarray(slopes, dtype=np.float64)
    kept = every[np.isfinite(every)]
    count = kept.size
    if count == 0:
        return False
    mean = float(kept.mean())
    if not mean > negligible * scale:
        return False
    if count == 1:
        return True
    standard_error = float(kept.std(ddof=1)) / math.sqrt(count)
    return mean - student_t_quantile(confidence, count - 1) * standard_error > 0
