"""The elementary functions are accurate, elementwise, quiet, and made of exactly rounded operations only."""

import hashlib
import math

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from simulator import elementary

ULPS = 4.0


def ulps(value, reference):
    return np.max(np.abs(value - reference) / np.spacing(np.abs(reference)))


def test_log_is_accurate_over_the_whole_range():
    generator = np.random.default_rng(1)
    x = np.concatenate(
        [
            np.ldexp(generator.uniform(0.5, 1.0, 40_000), generator.integers(-1020, 1024, 40_000)),
            generator.uniform(0.5, 2.0, 40_000),
            1.0 + np.ldexp(generator.uniform(-1.0, 1.0, 2_000), generator.integers(-52, -1, 2_000)),
        ]
    )
    reference = np.array([math.log(value) for value in x])
    exact = reference == 0.0
    assert np.array_equal(elementary.log(x)[exact], reference[exact])
    assert ulps(elementary.log(x)[~exact], reference[~exact]) <= 2.0


def test_exp_is_accurate_over_the_whole_range():
    generator = np.random.default_rng(2)
    x = np.concatenate(
        [
            generator.uniform(-708.0, 709.0, 40_000),
            generator.uniform(-1.0, 1.0, 40_000),
            np.ldexp(generator.uniform(-1.0, 1.0, 2_000), generator.integers(-60, 0, 2_000)),
        ]
    )
    assert ulps(elementary.exp(x), np.array([math.exp(value) for value in x])) <= 2.0


@given(st.floats(min_value=1e-300, max_value=1e300))
def test_log_of_any_number(x):
    assert abs(float(elementary.log(x)) - math.log(x)) <= ULPS * math.ulp(math.log(x))


@given(st.floats(min_value=-700.0, max_value=700.0))
def test_exp_of_any_number(x):
    assert abs(float(elementary.exp(x)) - math.exp(x)) <= ULPS * math.ulp(math.exp(x))


def test_normal_quantile_agrees_with_scipy():
    generator = np.random.default_rng(3)
    p = np.concatenate(
        [
            generator.uniform(0.0, 1.0, 100_000),
            10.0 ** generator.uniform(-300.0, 0.0, 20_000),
            1.0 - 10.0 ** generator.uniform(-15.9, 0.0, 20_000),
            0.5 + np.ldexp(generator.uniform(-1.0, 1.0, 1_000), generator.integers(-50, -1, 1_000)),
            np.array([0.075, 0.925, 1e-300, 1.0 - 2.0**-53, math.exp(-25.0)]),
        ]
    )
    p = p[(p > 0.0) & (p < 1.0) & (p != 0.5)]
    reference = scipy.special.ndtri(p)
    assert np.max(np.abs(elementary.normal_quantile(p) / reference - 1.0)) < 1e-14
    assert float(elementary.normal_quantile(0.5)) == 0.0


def test_normal_quantile_is_odd():
    p = np.ldexp(np.arange(1.0, 2.0**12), -13)
    assert np.array_equal(elementary.normal_quantile(p), -elementary.normal_quantile(1.0 - p))


def test_power():
    generator = np.random.default_rng(4)
    base, exponent = generator.uniform(0.01, 100.0, 10_000), generator.uniform(-5.0, 5.0, 10_000)
    assert np.max(np.abs(elementary.power(base, exponent) / base**exponent - 1.0)) < 2e-14
    assert elementary.power(0.0, 2.0) == 0.0
    assert elementary.power(0.0, -2.0) == np.inf


def test_gamma_function():
    x = np.concatenate([np.linspace(0.05, 30.0, 500), np.array([1.0, 2.0, 16.0, 170.0])])
    ours = np.array([elementary.gamma_function(float(value)) for value in x])
    reference = np.array([math.gamma(value) for value in x])
    assert np.max(np.abs(ours / reference - 1.0)[x <= 30.0]) < 1e-13
    assert ours[-1] == pytest.approx(reference[-1], rel=1e-12)
    assert elementary.gamma_function(200.0) == math.inf


@pytest.mark.parametrize(
    ("function", "argument", "expected"),
    [
        (elementary.log, [0.0, -1.0, np.inf, np.nan, 1.0], [-np.inf, np.nan, np.inf, np.nan, 0.0]),
        (elementary.log, [5e-324, 2.0**-1022], [-744.4400719213812, -708.3964185322641]),
        (
            elementary.exp,
            [-np.inf, np.inf, np.nan, 0.0, -800.0, 800.0],
            [0.0, np.inf, np.nan, 1.0, 0.0, np.inf],
        ),
        (elementary.exp, [-745.0, 709.78, 709.79], [5e-324, math.exp(709.78), np.inf]),
        (
            elementary.normal_quantile,
            [0.0, 1.0, -0.1, 1.1, np.nan],
            [-np.inf, np.inf, np.nan, np.nan, np.nan],
        ),
    ],
)
def test_ends_of_the_domain_are_quiet(function, argument, expected):
    np.testing.assert_allclose(function(argument), expected, rtol=1e-15)


@pytest.mark.parametrize("function", [elementary.log, elementary.exp, elementary.normal_quantile])
def test_elementwise_shape_kept_and_argument_untouched(function):
    x = np.random.default_rng(5).uniform(0.0, 1.0, (7, 11, 3))
    before = x.copy()
    whole = function(x)
    assert np.array_equal(x, before)
    assert whole.shape == x.shape
    assert function(0.25).shape == ()
    assert function([]).shape == (0,)
    assert all(float(function(float(a))) == b for a, b in zip(x.ravel(), whole.ravel(), strict=True))
    assert np.array_equal(function(x[:, ::2]), whole[:, ::2])


RECORDED = {
    "log": "71a0942215c45c95a879b3efc29f7c52be7e1c78a518444cfd543d576ee42814",
    "exp": "be0b8a22342a18b2e7de02dc057288a24bd17ce801c54f7cc7e0d9274635f12a",
    "normal_quantile": "b0859ff552da5dd3e87170688776250aeedf71bc0889f2baa45c8bda4d8897ef",
}


def digest(values):
    return hashlib.sha256(values.astype("<f8").tobytes()).hexdigest()


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_bits_are_the_recorded_ones(name):
    """The bits of one machine, written down, so that another machine or NumPy that differs fails here."""
    p = np.ldexp(np.arange(1.0, 4096.0), -12)
    assert digest(getattr(elementary, name)(p)) == RECORDED[name]
