"""Draw times: the values of a draw with weights, by its quantiles or its own values."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from simulator import distributions
from simulator.analytic.weighted_times import DEEPEST, FINE, WeightedTimes, always, mixture, weighted
from simulator.distributions import Distribution

Floats = NDArray[np.float64]

ROWS = 4096
"""So many values, equally likely, are taken of a distribution of which no more is known than how to draw from it."""

INVERSE_TRANSFORMS = (
    distributions.Exponential,
    distributions.LogNormal,
    distributions.Uniform,
    distributions.StandardUniform,
    distributions.Weibull,
    distributions.BoundedPareto,
)


@lru_cache(maxsize=512)
def values_of(distribution: Distribution) -> WeightedTimes:
    """The values of a distribution, in its own unit."""
    match distribution:
        case distributions.Constant(value=value):
            return always(value)
        case distributions.HyperExponential():
            return _phases(distribution)
        case distributions.Erlang() | distributions.Gamma():
            return _gamma(distribution)
        case distributions.Empirical(values=values):
            return weighted(np.array(values), np.full(len(values), 1.0 / len(values)))
        case distributions.Zipf() | distributions.Discrete():
            probabilities = distribution.probabilities()
            return weighted(np.arange(probabilities.size, dtype=float), probabilities)
        case _ if isinstance(distribution, INVERSE_TRANSFORMS):
            depths, weights = _strata()
            quantiles = [distribution.sample(_always(at)) for at in (depths, 1.0 - depths)]
            return weighted(np.concatenate(quantiles), np.tile(weights, 2))
    return weighted(distribution.sample(_shuffled), np.full(ROWS, 1.0 / ROWS))


def _phases(distribution: distributions.HyperExponential) -> WeightedTimes:
    rare = distribution.rare_probability
    each = [(share, distributions.Exponential(distribution.mean / (2.0 * share))) for share in (rare, 1.0 - rare)]
    return mixture([(share, values_of(phase)) for share, phase in each])


def _gamma(distribution: distributions.Erlang | distributions.Gamma) -> WeightedTimes:
    """By the inverse of the incomplete gamma function."""
    from scipy.special import gammainccinv, gammaincinv  # takes 0.1 s to import

    shape = 1.0 / distribution.scv
    depths, weights = _strata()
    quantiles = np.concatenate([gammaincinv(shape, depths), gammainccinv(shape, depths)])
    return weighted(quantiles * (distribution.mean / shape), np.tile(weights, 2))


@lru_cache(maxsize=1)
def _strata() -> tuple[Floats, Floats]:
    """Depths (probabilities up to one half) in the middle of strata, and the strata's probabilities.

    There are two for each fine cell, and one beyond the deepest.
    """
    deepest, middle = FINE.level(np.array([DEEPEST, 0.5])).tolist()
    edges = np.append(0.0, FINE.depth(np.linspace(deepest, middle, 2 * round(middle - deepest) + 1)))
    return 0.5 * (edges[1:] + edges[:-1]), np.diff(edges)


def _always(uniforms: Floats) -> Callable[[int], Floats]:
    """What gives these for every uniform that is asked for."""

    def given(_: int) -> Floats:
        return uniforms

    return given


def _shuffled(k: int) -> Floats:
    return (np.random.default_rng(k).permutation(ROWS) + 0.5) / ROWS
