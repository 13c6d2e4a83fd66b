"""How surely parameters are known from residuals: intervals, correlations, and what is not identified."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.results.estimate import Estimate, student_t_quantile

if TYPE_CHECKING:
    import numpy as np

SINGULAR = 1e-8
"""Ratio of singular values, of derivatives scaled to length 1, below which these are linearly dependent."""
WIDEST = 100.0
"""Factor between an estimate and an end of its interval above which nothing is known."""


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """Relative standard errors of p parameters, their correlations, and the degrees of freedom of the residuals.

    Standard errors are very large where the residuals do not determine a parameter.
    """

    standard_errors: tuple[float, ...]
    correlations: tuple[tuple[float, ...], ...]
    freedom: int

    def estimate(self, number: int, value: float, confidence: float = 0.95) -> Estimate:
        """The parameter of that number with its interval, value * exp(-+ t_{n-p} standard error).

        None where n = p, nor where it is wider than `WIDEST`.
        """
        if self.freedom < 1:
            return Estimate.without_interval(value)
        half_width = student_t_quantile((1.0 + confidence) / 2.0, self.freedom) * self.standard_errors[number]
        if half_width > math.log(WIDEST):
            return Estimate.without_interval(value, self.freedom)
        factor = math.exp(half_width)
        return Estimate(value, value / factor, value * factor, self.freedom)


def uncertainty(jacobian: np.ndarray, residuals: np.ndarray) -> Uncertainty:
    """By the linear approximation at the least sum of squares.

    `jacobian`, shape (n, p), has the derivatives of the n residuals, logarithms of predicted over measured, by the
    logarithms of the parameters. The covariance is s^2 (J'J)^-1 with s^2 = r'r / (n - p), which takes the residuals for
    independent, of equal variance, and the model for right: errors that rows of a test have in common make the
    intervals too narrow. Source: Seber & Wild, Nonlinear Regression (1989), section 5.1.
    """
    import numpy as np

    count, parameters = jacobian.shape
    freedom = count - parameters
    lengths = np.linalg.norm(jacobian, axis=0)
    lengths[lengths == 0.0] = 1.0
    _, singular, directions = np.linalg.svd(jacobian / lengths, full_matrices=False)
    floor = SINGULAR * max(float(singular.max(initial=0.0)), 1e-300)
    # A direction in which nothing changes has a very large variance, not none as by the pseudo-inverse.
    inverse = (directions.T / np.maximum(singular, floor) ** 2) @ directions
    deviations = np.sqrt(np.diag(inverse))
    correlations = inverse / np.outer(deviations, deviations)
    noise = math.sqrt(float(residuals @ residuals) / freedom) if freedom > 0 else math.nan
    return Uncertainty(
        tuple(float(each) for each in noise * deviations / lengths),
        tuple(tuple(float(each) for each in row) for row in correlations),
        freedom,
    )
