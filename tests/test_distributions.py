"""Samples have the stated moments and shape, and every element is a pure function of its own uniforms."""

import math
import pickle

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from simulator.distributions import (
    BoundedPareto,
    Constant,
    Discrete,
    Empirical,
    Erlang,
    Exponential,
    Gamma,
    HyperExponential,
    LogNormal,
    StandardUniform,
    Uniform,
    Weibull,
    Zipf,
)
from simulator.streams import Stream, Streams

COUNT = 200_000


def gamma_law(mean, cv):
    return scipy.stats.gamma(1.0 / cv**2, scale=mean * cv**2)


def lognormal_law(mean, cv):
    sigma = math.sqrt(math.log1p(cv**2))
    return scipy.stats.lognorm(sigma, scale=mean * math.exp(-(sigma**2) / 2))


def weibull_law(mean, shape):
    return scipy.stats.weibull_min(shape, scale=mean / math.gamma(1.0 + 1.0 / shape))


CONTINUOUS = [
    (Exponential(0.005), scipy.stats.expon(scale=0.005)),
    (Erlang(3.0, 1), scipy.stats.expon(scale=3.0)),
    (Erlang(3.0, 4), scipy.stats.gamma(4, scale=0.75)),
    (Erlang(3.0, 16), scipy.stats.gamma(16, scale=3.0 / 16)),
    (Erlang(3.0, 40), scipy.stats.gamma(40, scale=3.0 / 40)),
    (Gamma(2.0, 0.01), gamma_law(2.0, 0.01)),
    (Gamma(2.0, 0.5), gamma_law(2.0, 0.5)),
    (Gamma(2.0, 1.0), gamma_law(2.0, 1.0)),
    (Gamma(2.0, 2.5), gamma_law(2.0, 2.5)),
    (LogNormal(1e-3, 0.1), lognormal_law(1e-3, 0.1)),
    (LogNormal(1e-3, 1.5), lognormal_law(1e-3, 1.5)),
    (Uniform(2.0, 5.0), scipy.stats.uniform(2.0, 3.0)),
    (StandardUniform(), scipy.stats.uniform()),
    (Weibull(2.0, 0.7), weibull_law(2.0, 0.7)),
    (Weibull(2.0, 3.0), weibull_law(2.0, 3.0)),
    (BoundedPareto(1.0, 1000.0, 3.5), scipy.stats.truncpareto(3.5, 1000.0)),
    (BoundedPareto(2.0, 20.0, 1.0), scipy.stats.truncpareto(1.0, 10.0, scale=2.0)),
    (BoundedPareto(1.0, 30.0, 2.0), scipy.stats.truncpareto(2.0, 30.0)),
    (BoundedPareto(1.0, 30.0, 0.4), scipy.stats.truncpareto(0.4, 30.0)),
]
OTHERS = [
    Constant(4.0),
    HyperExponential(0.5, 1.5),
    HyperExponential(0.5, 4.0),
    Empirical((3.0, 1.0, 1.0, 10.0)),
    Zipf(1000, 0.99),
    Zipf(5, 0.0),
    Zipf(1, 2.0),
    Discrete((1.0, 0.0, 3.0)),
]
ALL = [distribution for distribution, _ in CONTINUOUS] + OTHERS


def sample(distribution, count=COUNT, seed=20):
    return Stream(Streams(seed), "tested", distribution).block(0, count)


def moments_hold(x, mean, variance):
    """Both within 4.5 standard errors, these taken from the sample itself."""
    centred = (x - mean) ** 2
    mean_error = math.sqrt(x.var() / x.size)
    variance_error = math.sqrt(centred.var() / x.size)
    tiny = 1e-12 * abs(mean)
    return abs(x.mean() - mean) <= 4.5 * mean_error + tiny and abs(
        centred.mean() - variance
    ) <= 4.5 * variance_error + tiny * abs(mean)


@pytest.mark.parametrize("distribution", ALL, ids=repr)
def test_moments_of_samples(distribution):
    assert moments_hold(sample(distribution), distribution.mean, distribution.variance)


@pytest.mark.parametrize("distribution", [Exponential(2.0), Gamma(2.0, 2.5), HyperExponential(0.5, 4.0)], ids=repr)
def test_wrong_moments_are_noticed(distribution):
    """Negative control: 3 % off in the mean, or 10 % in the variance, does not pass."""
    x = sample(distribution)
    assert not moments_hold(x, distribution.mean * 1.03, distribution.variance)
    assert not moments_hold(x, distribution.mean, distribution.variance * 1.1)


@pytest.mark.parametrize(("distribution", "law"), CONTINUOUS, ids=lambda value: repr(value)[:40])
def test_law_and_moments_are_scipys(distribution, law):
    assert distribution.mean == pytest.approx(law.mean(), rel=1e-9)
    assert distribution.variance == pytest.approx(law.var(), rel=1e-7)
    assert scipy.stats.kstest(sample(distribution), law.cdf).pvalue > 1e-4


@pytest.mark.parametrize("cv", [1.5, 4.0])
def test_hyperexponential_has_balanced_means(cv):
    distribution = HyperExponential(2.0, cv)
    rare = distribution.rare_probability
    assert rare == pytest.approx(0.5 * (1 - math.sqrt((cv**2 - 1) / (cv**2 + 1))))

    def cdf(x):
        return 1.0 - rare * np.exp(-rare * x) - (1.0 - rare) * np.exp(-(1.0 - rare) * x)

    assert distribution.scv == pytest.approx(cv**2)
    assert scipy.stats.kstest(sample(distribution), cdf).pvalue > 1e-4


@pytest.mark.parametrize("distribution", [Zipf(1000, 0.99), Zipf(5, 0.0), Discrete((1.0, 0.0, 3.0, 2.5))], ids=repr)
def test_frequencies_are_the_probabilities(distribution):
    x = sample(distribution)
    probabilities = distribution.probabilities()
    observed = np.bincount(x.astype(int), minlength=probabilities.size)
    possible = probabilities > 0.0
    assert observed[~possible].sum() == 0
    assert probabilities.sum() == pytest.approx(1.0)
    assert scipy.stats.chisquare(observed[possible], COUNT * probabilities[possible]).pvalue > 1e-4


def test_zipf_probabilities_follow_the_power_law():
    probabilities = Zipf(100, 1.5).probabilities()
    weights = np.arange(1, 101) ** -1.5
    np.testing.assert_allclose(probabilities, weights / weights.sum(), rtol=1e-11)


def test_empirical_gives_every_value_equally_often():
    values = (5.0, 1.0, 2.0, 2.0)
    assert Empirical(values) == Empirical(sorted(values))
    quantiles = np.array([0.001, 0.25, 0.5, 0.75, np.nextafter(1.0, 0.0)])
    assert Empirical(values).sample(lambda k: quantiles).tolist() == [1.0, 2.0, 2.0, 5.0, 5.0]
    seven = Empirical(range_of(7))
    assert seven.sample(lambda k: np.full(3, np.nextafter(1.0, 0.0))).tolist() == [6.0] * 3


def range_of(count):
    return tuple(float(value) for value in range(count))


@pytest.mark.parametrize("distribution", ALL, ids=repr)
def test_a_draw_depends_on_its_own_uniforms_only(distribution):
    streams = Streams(9)
    given = {}

    def uniform(k):
        return given.setdefault(k, streams.uniforms("pure", 0, 2000, 0, k))

    whole = distribution.sample(uniform)
    untouched = {k: streams.uniforms("pure", 0, 2000, 0, k) for k in given}
    assert all(np.array_equal(given[k], untouched[k]) for k in given)
    order = np.random.default_rng(1).permutation(2000)[:500]
    assert np.array_equal(distribution.sample(lambda k: uniform(k)[order]), whole[order])
    for index in range(0, 2000, 97):
        assert distribution.sample(lambda k, index=index: uniform(k)[index : index + 1])[0] == whole[index]
    assert whole.dtype == np.float64
    assert np.all(whole >= 0.0)


@pytest.mark.parametrize("distribution", ALL, ids=repr)
def test_extreme_uniforms_give_finite_draws(distribution):
    ends = np.array([2.0**-53, 1.0 - 2.0**-53, 0.5])
    drawn = distribution.sample(lambda k: ends if k < 2 else np.full(3, 0.5))
    assert np.all(np.isfinite(drawn) & (drawn >= 0.0))


@pytest.mark.parametrize("distribution", ALL, ids=repr)
def test_is_a_value(distribution):
    distribution.sample(lambda k: np.full(3, 0.3))
    copy = pickle.loads(pickle.dumps(distribution))
    assert copy == distribution
    assert hash(copy) == hash(distribution)
    assert eval(repr(distribution)) == distribution
    assert np.array_equal(sample(copy, 10), sample(distribution, 10))
    assert distribution.draws_nothing == isinstance(distribution, Constant)
    with pytest.raises((AttributeError, TypeError)):
        distribution.mean = 3.0
    assert not hasattr(distribution, "__dict__")


@pytest.mark.parametrize("distribution", [d for d in ALL if not isinstance(d, (Zipf, Discrete))], ids=repr)
def test_scaled(distribution):
    twice = distribution.scaled(2.0)
    assert twice.mean == pytest.approx(2.0 * distribution.mean)
    assert twice.scv == pytest.approx(distribution.scv)
    np.testing.assert_allclose(sample(twice, 1000), 2.0 * sample(distribution, 1000), rtol=1e-13)


@pytest.mark.parametrize("distribution", [Zipf(5, 1.0), Discrete((1.0, 2.0))])
def test_whole_numbers_are_not_scaled(distribution):
    with pytest.raises(TypeError, match="cannot be scaled"):
        distribution.scaled(2.0)


def test_scv_of_zero_mean_is_zero():
    assert Constant(0.0).scv == 0.0
    assert Zipf(1, 1.0).scv == 0.0


@given(st.floats(-1e-6, 1e-6))
def test_bounded_pareto_mean_is_smooth_in_its_shape(offset):
    """The formula for shape 1 is a limit of the others, without cancellation beside it."""
    at_one = BoundedPareto(1.0, 100.0, 1.0).mean
    assert at_one == pytest.approx(math.log(100.0) / 0.99, rel=1e-14)
    assert BoundedPareto(1.0, 100.0, 1.0 + offset).mean == pytest.approx(at_one - 4.99 * offset, rel=1e-5)


@given(st.floats(1e-9, 1e9), st.floats(0.001, 20.0))
def test_moments_come_from_the_parameters(mean, cv):
    for kind in (Gamma, LogNormal):
        distribution = kind(mean, cv)
        assert distribution.mean == mean
        assert distribution.scv == pytest.approx(cv**2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(-1.0), "Constant: value: got -1.0, expected a number >= 0"),
        (lambda: Constant(math.nan), "Constant: value: got nan, expected a number >= 0"),
        (lambda: Exponential(0.0), "Exponential: mean: got 0.0, expected a number > 0"),
        (lambda: Exponential("5 ms"), "Exponential: mean: got '5 ms', expected a number > 0"),
        (lambda: Exponential(True), "Exponential: mean: got True, expected a number > 0"),
        (lambda: Exponential(math.inf), "Exponential: mean: got inf, expected a number > 0"),
        (lambda: Erlang(1.0, 2.5), "Erlang: stages: got 2.5, expected a whole number >= 1"),
        (lambda: Erlang(1.0, 0), "Erlang: stages: got 0, expected a whole number >= 1"),
        (lambda: Gamma(1.0, 0.0), "Gamma: cv: got 0.0, expected a number from 1e-6 to 30"),
        (lambda: LogNormal(1.0, -1.0), "LogNormal: cv: got -1.0, expected a number > 0, at most 1e6"),
        (
            lambda: HyperExponential(1.0, 1.0),
            "HyperExponential: cv: got 1.0, expected a number > 1, at most 1e6",
        ),
        (lambda: Uniform(2.0, 2.0), "Uniform: high: got 2.0, expected a number > low (2.0)"),
        (lambda: Weibull(1.0, 0.01), "Weibull: shape: got 0.01, expected a number >= 0.05"),
        (lambda: BoundedPareto(2.0, 1.0, 1.0), "BoundedPareto: high: got 1.0, expected a number > low (2.0)"),
        (lambda: Empirical(()), "Empirical: values: got (), expected at least one number >= 0"),
        (lambda: Empirical((1.0, -2.0)), "Empirical: values[1]: got -2.0, expected a number >= 0"),
        (lambda: Zipf(0, 1.0), "Zipf: count: got 0, expected a whole number >= 1"),
        (lambda: Zipf(10, -1.0), "Zipf: exponent: got -1.0, expected a number >= 0"),
        (lambda: Discrete((0.0, 0.0)), "Discrete: weights: got a sum of 0.0, expected a finite sum > 0"),
        (lambda: Exponential(1.0).scaled(-2.0), "Exponential: mean: got -2.0, expected a number > 0"),
    ],
)
def test_invalid_parameters_are_named(make, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        make()
    assert str(error.value) == message
