"""Intervals cover the truth as often as they say, and warm-up ends where it was put.

Tolerances of coverage come from the binomial distribution of 400 repetitions, never from a magic percent.
"""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from simulator.results.batches import batch_means, choose_batches, lag_one_autocorrelation, von_neumann_ok
from simulator.results.estimate import (
    Estimate,
    mean_interval,
    paired_difference,
    paired_ratio,
    proportion_interval,
    scale_for,
    sectioned,
    student_t_quantile,
)
from simulator.results.trend import grows, growth
from simulator.results.warm_up import WarmUp, mser5

REPETITIONS = 400
REPLICATIONS = 10
CONFIDENCE = 0.95
ARRIVAL_RATE = 0.7
SERVICE_RATE = 1.0
RHO = ARRIVAL_RATE / SERVICE_RATE
MEAN_WAIT = RHO / (SERVICE_RATE - ARRIVAL_RATE)

finite = st.floats(-1e6, 1e6)


def coverage_bounds(repetitions=REPETITIONS, confidence=CONFIDENCE):
    """Counts of covering intervals that an honest interval misses once in a thousand repetitions."""
    low, high = stats.binom(repetitions, confidence).interval(0.999)
    return int(low), int(high)


def covers_honestly(estimates, truth):
    low, high = coverage_bounds(len(estimates))
    return low <= sum(estimate.contains(truth) for estimate in estimates) <= high


def lindley_waits(arrivals, services, first_wait):
    """Waits of a FIFO single server along the last axis, W' = max(0, W + S - A), without a loop."""
    walk = np.cumsum(services - arrivals, axis=-1)
    lowest = np.minimum.accumulate(walk, axis=-1)
    return walk + np.maximum(first_wait[..., None], -np.minimum(lowest, 0))


def stationary_wait(generator, shape):
    busy = generator.random(shape) < RHO
    return np.where(busy, generator.exponential(1 / (SERVICE_RATE - ARRIVAL_RATE), shape), 0.0)


@pytest.fixture(scope="module")
def mm1_waits():
    """Waits of stationary M/M/1 queues, shape (repetitions, replications, customers)."""
    generator = np.random.default_rng(20240601)
    shape = (REPETITIONS, REPLICATIONS, 2500)
    arrivals = generator.exponential(1 / ARRIVAL_RATE, shape)
    services = generator.exponential(1 / SERVICE_RATE, shape)
    return lindley_waits(arrivals, services, stationary_wait(generator, shape[:2]))


def test_lindley_without_a_loop_equals_the_recursion():
    generator = np.random.default_rng(1)
    arrivals, services = generator.exponential(1, 200), generator.exponential(0.8, 200)
    wait, waits = 2.0, []
    for arrival, service in zip(arrivals, services, strict=True):
        wait = max(0.0, wait + service - arrival)
        waits.append(wait)
    assert lindley_waits(arrivals, services, np.array(2.0)) == pytest.approx(waits)


# Coverage


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_mean_interval_covers_on_independent_normal_samples(confidence):
    samples = np.random.default_rng(2).normal(5, 2, (REPETITIONS, 8))
    covering = sum(mean_interval(row, confidence).contains(5) for row in samples)
    low, high = coverage_bounds(confidence=confidence)
    assert low <= covering <= high


def test_sectioned_mean_covers_on_independent_exponential_samples():
    samples = np.random.default_rng(3).exponential(3.0, (REPETITIONS, REPLICATIONS, 200))
    assert covers_honestly([sectioned(x.mean(), x.mean(axis=1)) for x in samples], 3.0)


def test_sectioned_mean_covers_on_mm1_waits(mm1_waits):
    assert covers_honestly([sectioned(x.mean(), x.mean(axis=1)) for x in mm1_waits], MEAN_WAIT)


def test_negative_control_waits_taken_as_independent_do_not_cover(mm1_waits):
    assert not covers_honestly([mean_interval(x.ravel()) for x in mm1_waits], MEAN_WAIT)


@pytest.mark.parametrize("probability", [0.5, 0.95, 0.99])
def test_sectioned_quantile_covers_on_independent_exponential_samples(probability):
    samples = np.random.default_rng(4).exponential(1.0, (REPETITIONS, 20, 500))
    pooled = np.quantile(samples.reshape(REPETITIONS, -1), probability, axis=1)
    sections = np.quantile(samples, probability, axis=2)
    estimates = [sectioned(*both) for both in zip(pooled, sections, strict=True)]
    assert covers_honestly(estimates, -math.log(1 - probability))


def test_sectioned_quantile_covers_on_mm1_waits(mm1_waits):
    pooled = np.quantile(mm1_waits.reshape(REPETITIONS, -1), 0.9, axis=1)
    sections = np.quantile(mm1_waits, 0.9, axis=2)
    estimates = [sectioned(*both) for both in zip(pooled, sections, strict=True)]
    assert covers_honestly(estimates, math.log(RHO / 0.1) / (SERVICE_RATE - ARRIVAL_RATE))


def test_batch_means_of_one_run_cover_on_mm1_waits():
    generator = np.random.default_rng(5)
    shape = (REPETITIONS, 20_000)
    arrivals = generator.exponential(1 / ARRIVAL_RATE, shape)
    services = generator.exponential(1 / SERVICE_RATE, shape)
    waits = lindley_waits(arrivals, services, stationary_wait(generator, REPETITIONS))
    assert covers_honestly([mean_interval(batch_means(row)) for row in waits], MEAN_WAIT)


def test_proportion_interval_covers_at_least_as_often_as_it_says():
    counts = np.random.default_rng(6).binomial(500, 0.01, 2000)
    covering = sum(proportion_interval(int(k), 500).contains(0.01) for k in counts)
    assert covering >= stats.binom(2000, CONFIDENCE).ppf(0.001)


# Estimates


def test_student_t_quantile_equals_the_table():
    assert student_t_quantile(0.975, 9) == pytest.approx(2.262157, abs=1e-6)
    assert student_t_quantile(0.975, 1) == pytest.approx(12.7062, abs=1e-4)


def test_importing_the_statistics_does_not_import_scipy():
    code = "import sys, simulator.results.estimate, simulator.results.trend; assert 'scipy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sectioned_is_centred_on_the_pooled_estimate():
    estimate = sectioned(10.0, [9.0, 10.0, 12.0])
    half_width = student_t_quantile(0.975, 2) * math.sqrt(5 / 6)
    assert estimate.value == 10
    assert (estimate.low, estimate.high) == pytest.approx((10 - half_width, 10 + half_width))
    assert estimate.n == 3
    assert estimate.half_width == pytest.approx(half_width)
    assert estimate.relative_half_width == pytest.approx(half_width / 10)


@pytest.mark.parametrize(
    ("sections", "n"), [([], 0), ([3.0], 1), ([3.0, math.nan], 1), ([1.0, 2.0, *[math.nan] * 3], 2)]
)
def test_too_few_sections_give_the_value_without_an_interval(sections, n):
    estimate = sectioned(3.0, sections)
    assert (estimate.value, estimate.n) == (3.0, n)
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)
    assert math.isnan(estimate.relative_half_width)
    assert not estimate.contains(3.0)


def test_sections_that_are_not_finite_are_dropped():
    assert sectioned(2.0, [1.0, math.nan, 3.0, math.inf]) == sectioned(2.0, [1.0, 3.0])


def test_mean_interval_equals_scipy():
    samples = np.random.default_rng(7).gamma(2, size=12)
    expected = stats.ttest_1samp(samples, 0).confidence_interval(0.9)
    estimate = mean_interval(samples, 0.9)
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))


def test_mean_of_nothing_is_nan():
    assert math.isnan(mean_interval([]).value)


@pytest.mark.parametrize("confidence", [0, 1, 1.5, math.nan])
def test_confidence_outside_0_and_1_is_refused(confidence):
    with pytest.raises(ValueError, match="confidence"):
        sectioned(1.0, [1.0, 2.0], confidence)


def test_sections_in_two_dimensions_are_refused():
    with pytest.raises(ValueError, match="one dimension"):
        mean_interval([[1.0, 2.0]])


def test_relative_half_width_around_zero():
    assert Estimate(0.0, -1.0, 1.0, 5).relative_half_width == math.inf
    assert Estimate(0.0, 0.0, 0.0, 5).relative_half_width == 0
    assert math.isnan(Estimate.without_interval(0.0).relative_half_width)


# Pairs


def pairs_under_common_random_numbers(first, second):
    """Mean waits of a server and of one 10 % faster, in 20 replications with these generators."""
    means = []
    for generator, speed in ((first, 1.0), (second, 1.1)):
        arrivals = generator.exponential(1 / ARRIVAL_RATE, (20, 2000))
        services = generator.exponential(1 / SERVICE_RATE, (20, 2000)) / speed
        means.append(lindley_waits(arrivals, services, np.zeros(20)).mean(axis=1))
    return means


def test_common_random_numbers_narrow_the_difference():
    common = pairs_under_common_random_numbers(np.random.default_rng(8), np.random.default_rng(8))
    apart = pairs_under_common_random_numbers(np.random.default_rng(8), np.random.default_rng(9))
    paired, unpaired = paired_difference(*common), paired_difference(*apart)
    assert paired.half_width < unpaired.half_width / 2
    assert paired.high < 0
    assert paired_ratio(*common).high < 1
    assert paired_ratio(*common).half_width < paired_ratio(*apart).half_width / 2


def test_paired_difference_and_ratio_cover():
    generator = np.random.default_rng(10)
    common = generator.gamma(20, size=(REPETITIONS, REPLICATIONS))
    a = common + generator.gamma(5, size=common.shape)
    b = 2 * common + generator.gamma(5, size=common.shape)
    rows = list(zip(a, b, strict=True))
    assert covers_honestly([paired_difference(*row) for row in rows], 20.0)
    assert covers_honestly([paired_ratio(*row) for row in rows], 45 / 25)


def test_paired_difference_and_ratio_of_pooled_quantiles_cover():
    """Of an exponential's 95th percentile under common numbers, the second system 1.2 times as slow in the mean."""
    generator = np.random.default_rng(12)
    common = generator.exponential(size=(REPETITIONS, REPLICATIONS, 400))
    first, second = 0.8 * common, 0.8 * common + generator.exponential(0.2, size=common.shape)
    differences, ratios = [], []
    for a, b in zip(first, second, strict=True):
        pairs = np.quantile(a, 0.95, axis=1), np.quantile(b, 0.95, axis=1)
        pooled = float(np.quantile(a, 0.95)), float(np.quantile(b, 0.95))
        differences.append(paired_difference(*pairs, 0.95, pooled))
        ratios.append(paired_ratio(*pairs, 0.95, pooled))
        assert differences[-1].value == pooled[1] - pooled[0]
        assert ratios[-1].value == pooled[1] / pooled[0]
    # P(second > x) of a sum of exponentials with means 0.8 and 0.2, and where it is 0.05
    true_first, true_second = -0.8 * math.log(0.05), _quantile_of_a_sum(0.8, 0.2, 0.05)
    assert covers_honestly(differences, true_second - true_first)
    assert covers_honestly(ratios, true_second / true_first)


def _quantile_of_a_sum(one, other, beyond):
    """What a sum of two exponentials with these means exceeds with that probability, by bisection."""
    low, high = 0.0, 100.0
    while high - low > 1e-12:
        x = (low + high) / 2
        exceeds = (one * math.exp(-x / one) - other * math.exp(-x / other)) / (one - other) > beyond
        low, high = (x, high) if exceeds else (low, x)
    return low


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=2, max_size=20))
def test_exchanging_the_pair_inverts_the_ratio_and_negates_the_difference(pairs):
    a, b = np.array(pairs).T
    there, back = paired_ratio(a, b), paired_ratio(b, a)
    assert 0 < there.low <= there.value <= there.high
    assert (1 / back.value, 1 / back.high, 1 / back.low) == pytest.approx((there.value, there.low, there.high))
    assert paired_difference(b, a).low == pytest.approx(-paired_difference(a, b).high)


def test_pairs_with_a_gap_are_dropped():
    a, b = [1.0, math.nan, 3.0, math.inf, 2.0, 2.5], [2.0, 9.0, 5.0, math.inf, 4.5, 4.0]
    whole = [0, 2, 4, 5]
    assert paired_difference(a, b) == paired_difference(np.take(a, whole), np.take(b, whole))
    assert paired_ratio(a, b) == paired_ratio(np.take(a, whole), np.take(b, whole))


def test_ratio_that_cannot_be_had():
    assert math.isnan(paired_ratio([0.0, 0.0], [1.0, 2.0]).value)
    nothing_left = paired_ratio([1.0, 2.0], [0.0, 0.0])
    assert (nothing_left.value, nothing_left.n) == (0.0, 2)
    assert math.isnan(nothing_left.low)
    assert paired_ratio([1.0, 2.0], [2.0, 1.0], confidence=0.99999).high == math.inf


def test_sections_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="pairs"):
        paired_difference([1.0, 2.0], [1.0])


# Proportions


def test_no_errors_in_a_thousand_requests_still_have_an_upper_bound():
    estimate = proportion_interval(0, 1000)
    assert (estimate.value, estimate.low, estimate.n) == (0, 0, 1000)
    assert estimate.high == pytest.approx(1 - 0.025 ** (1 / 1000))
    assert proportion_interval(1000, 1000).low == pytest.approx(0.025 ** (1 / 1000))
    assert proportion_interval(1000, 1000).high == 1


@pytest.mark.parametrize(("successes", "trials"), [(1, 10), (5, 10), (40, 700)])
def test_proportion_interval_equals_scipy(successes, trials):
    expected = stats.binomtest(successes, trials).proportion_ci(method="exact")
    estimate = proportion_interval(successes, trials)
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))


def test_proportion_of_nothing_is_nan_and_nonsense_is_refused():
    assert math.isnan(proportion_interval(0, 0).value)
    with pytest.raises(ValueError, match="successes"):
        proportion_interval(3, 2)


# Printing


@pytest.mark.parametrize(
    ("numbers", "dimension", "shown"),
    [
        ((0.0124, 0.0119, 0.0130), "duration", "12.4 ms [11.9, 13.0]"),
        ((3.2e-7, 3.1e-7, 3.3e-7), "duration", "320 ns [310, 330]"),
        ((4.56e-5, 4.41e-5, 4.71e-5), "duration", "45.6 µs [44.1, 47.1]"),
        ((1.5, 0.9, 2.1), "duration", "1.5 s [0.9, 2.1]"),
        ((90.0, 84.0, 96.0), "duration", "1.50 min [1.40, 1.60]"),
        ((7200.0, 5400.0, 9000.0), "duration", "2.0 h [1.5, 2.5]"),
        ((0.99997e-3, 0.9e-3, 1.1e-3), "duration", "1.00 ms [0.90, 1.10]"),
        ((0.0124, math.nan, math.nan), "duration", "12.4 ms [no interval]"),
        ((0.01, math.nan, math.nan), "duration", "10 ms [no interval]"),
        ((0.01, 0.01, 0.01), "duration", "10 ms [10, 10]"),
        ((0.1, 0.1, 0.1 + 1e-17), "duration", "100 ms [100, 100]"),
        ((-0.0021, -0.0034, -0.0008), "duration", "-2.1 ms [-3.4, -0.8]"),
        ((0.4123456, 0.4123455, 0.4123457), "duration", "412.35 ms [412.35, 412.35]"),
        ((0.0, 0.0, 0.0), "duration", "0 s [0, 0]"),
        ((math.nan, math.nan, math.nan), "duration", "no data"),
        ((math.inf, math.nan, math.nan), "duration", "inf s [no interval]"),
        ((1834.0, 1790.0, 1878.0), "rate", "1.834 k/s [1.790, 1.878]"),
        ((230.0, 221.0, 239.0), "rate", "230 /s [221, 239]"),
        ((2.5e6, 2.4e6, 2.6e6), "rate", "2.50 M/s [2.40, 2.60]"),
        ((0.312, 0.301, 0.323), "fraction", "31.2 % [30.1, 32.3]"),
        ((0.0, 0.0, 0.00368), "fraction", "0.00 % [0.00, 0.37]"),
        ((0.00002, -0.00004, 0.00008), "fraction", "0.002 % [-0.004, 0.008]"),
        ((3 * 2**30, 2 * 2**30, 4 * 2**30), "size", "3.0 GiB [2.0, 4.0]"),
        ((512, math.nan, math.nan), "size", "512 B [no interval]"),
        ((1.36, 1.30, 1.42), "price", "$1.36/h [1.30, 1.42]"),
        ((1.36, math.nan, math.nan), "price", "$1.36/h [no interval]"),
        ((120.0, 100.0, 140.0), "price", "$120.00/h [100.00, 140.00]"),
        ((-0.5, -0.7, -0.3), "price", "-$0.50/h [-0.70, -0.30]"),
        ((3.27, 3.11, 3.43), "count", "3.27 [3.11, 3.43]"),
        ((12345.0, 11000.0, 13690.0), "count", "12345 [11000, 13690]"),
    ],
)
def test_printing(numbers, dimension, shown):
    assert Estimate(*numbers, n=10).show(dimension) == shown


@given(finite, finite, finite, st.sampled_from(["duration", "rate", "fraction", "size", "price", "count"]))
def test_every_estimate_prints(value, one, other, dimension):
    shown = Estimate(value, min(one, other), max(one, other), 3).show(dimension)
    assert "nan" not in shown
    assert shown.endswith("]")


def test_scale_for_multiplies_into_its_unit():
    assert scale_for(0.0124, "duration") == (1e3, "ms")
    assert scale_for(0.0, "fraction") == (100.0, "%")
    assert scale_for(math.inf, "size") == (1.0, "B")


def test_unknown_dimension_is_refused():
    with pytest.raises(ValueError, match="'latency', expected one of duration, rate"):
        Estimate(1, 0, 2, 3).show("latency")


def test_numbers_that_are_not_finite_are_null_in_json():
    assert json.dumps(Estimate.without_interval(1.5, 1).to_json(), allow_nan=False) == (
        '{"value": 1.5, "low": null, "high": null, "n": 1}'
    )
    assert Estimate(math.inf, 0.5, math.inf, 2).to_json() == {
        "value": None,
        "low": 0.5,
        "high": None,
        "n": 2,
    }


# Warm-up


def autoregressive(generator, length, correlation, start=0.0):
    """A series x' = correlation x + noise, by convolution with its impulse response."""
    response = correlation ** np.arange(min(length, int(math.log(1e-9) / math.log(correlation))))
    stationary = np.convolve(generator.normal(size=length + response.size), response, "valid")[:length]
    return stationary + start * correlation ** np.arange(length)


@pytest.mark.parametrize("seed", range(8))
def test_mser5_ends_the_warm_up_at_a_step(seed):
    series = autoregressive(np.random.default_rng(seed), 20_000, 0.5)
    series[:3000] += 8
    found = mser5(series)
    assert found.found
    assert found.batches == 4000
    assert 3000 <= found.truncate <= 3050


def test_mser5_removes_a_decaying_start_and_with_it_the_bias():
    length, correlation, start = 20_000, 0.99, 300.0
    standard_error_of_the_mean = 1 / (1 - correlation) / math.sqrt(length)

    def bias(truncate):
        return start * correlation**truncate / (1 - correlation) / (length - truncate)

    assert bias(0) > 2 * standard_error_of_the_mean
    for seed in range(20):
        found = mser5(autoregressive(np.random.default_rng(seed), length, correlation, start))
        assert found.found
        assert bias(found.truncate) < standard_error_of_the_mean / 4


def test_mser5_takes_hardly_anything_without_a_warm_up():
    generator = np.random.default_rng(11)
    fractions = [mser5(autoregressive(generator, 20_000, 0.8)).truncate / 20_000 for _ in range(40)]
    assert np.quantile(fractions, 0.9) < 0.02
    assert mser5(np.full(1000, 0.1)) == WarmUp(0, 200, True)


def test_mser5_says_when_the_run_is_too_short():
    assert not mser5(np.linspace(1, 0, 5000)).found
    assert mser5(np.arange(49.0)) == WarmUp(0, 9, False)
    assert mser5([]) == WarmUp(0, 0, False)


def test_mser5_bears_a_large_offset():
    series = autoregressive(np.random.default_rng(12), 5000, 0.9, start=40.0)
    assert mser5(series + 2.0**27) == mser5(series)


@given(st.integers(0, 2**32 - 1), st.integers(50, 400))
def test_mser5_equals_its_definition(seed, length):
    series = autoregressive(np.random.default_rng(seed), length, 0.7, start=10.0)
    means = [float(np.mean(series[i : i + 5])) for i in range(0, length - 4, 5)]
    errors = [np.var(means[d:]) / (len(means) - d) for d in range(len(means) // 2 + 1)]
    assert mser5(series).truncate == 5 * int(np.argmin(errors))


def test_mser5_refuses_gaps():
    with pytest.raises(ValueError, match="finite"):
        mser5([math.nan, *range(99)])


# Batches


def test_batch_means_leave_the_remainder_out_at_the_start():
    assert batch_means([100.0, 1, 2, 3, 4, 5, 6], 3).tolist() == [1.5, 3.5, 5.5]
    with pytest.raises(ValueError, match="3 batches"):
        batch_means([1.0, 2.0], 3)


def test_lag_one_autocorrelation():
    series = autoregressive(np.random.default_rng(13), 100_000, 0.6)
    # Bartlett: the standard deviation of the estimate is sqrt((1 - 0.6^2) / n).
    assert lag_one_autocorrelation(series) == pytest.approx(0.6, abs=4 * math.sqrt(0.64 / 100_000))
    assert lag_one_autocorrelation([2.0, 2.0, 2.0]) == 0
    assert math.isnan(lag_one_autocorrelation([1.0]))


def test_von_neumann_passes_independent_batches_as_often_as_it_says():
    rows = np.random.default_rng(14).normal(size=(2000, 20))
    low, high = coverage_bounds(2000, 0.9)
    assert low <= sum(von_neumann_ok(row) for row in rows) <= high


def test_von_neumann_fails_correlated_batches():
    generator = np.random.default_rng(15)
    passes = sum(von_neumann_ok(autoregressive(generator, 32, 0.7)) for _ in range(200))
    assert passes < 20
    assert von_neumann_ok(np.ones(10))
    assert not von_neumann_ok([1.0, 2.0])
    assert not von_neumann_ok(np.arange(10.0))


def test_choose_batches_takes_many_from_a_long_series():
    chosen = [choose_batches(np.random.default_rng(seed).normal(size=6400)) for seed in range(40)]
    assert all(batches.independent for batches in chosen)
    assert np.median([batches.means.size for batches in chosen]) == 32
    assert chosen[0].size == 200


def test_choose_batches_takes_fewer_under_correlation_and_says_when_none_will_do():
    generator = np.random.default_rng(16)
    counts = [choose_batches(autoregressive(generator, 8000, 0.995)).means.size for _ in range(40)]
    assert np.mean(counts) < 26
    assert set(counts) <= {8, 16, 32}
    trend = choose_batches(np.arange(1000.0))
    assert not trend.independent
    assert trend.means.size == 8


def test_choose_batches_of_a_short_series():
    assert not choose_batches([1.0, 5.0, 2.0]).independent
    assert choose_batches([]).means.size == 0
    assert choose_batches(np.random.default_rng(17).normal(size=9)).means.size in {8, 9}
    with pytest.raises(ValueError, match="least"):
        choose_batches([1.0], most=4, least=5)


# Trend


@given(finite, st.floats(-100, 100), st.floats(0, 1e5))
def test_growth_of_a_straight_line_is_its_slope(start, slope, offset):
    times = offset + np.array([0.0, 1.0, 2.5, 7.0, 11.0])
    assert growth(times, start + slope * times) == pytest.approx(slope, abs=1e-6)


def test_growth_needs_two_times():
    assert math.isnan(growth([1.0], [2.0]))
    assert math.isnan(growth([1.0, 1.0], [2.0, 3.0]))
    with pytest.raises(ValueError, match="shape"):
        growth([1.0, 2.0], [1.0])


def waiting_slopes(utilization, repetitions=100, replications=5, customers=2000):
    """The growth of the wait per second of arrivals at rate 1, shape (repetitions, replications)."""
    generator = np.random.default_rng(18)
    shape = (repetitions, replications, customers)
    arrivals, services = generator.exponential(1, shape), generator.exponential(utilization, shape)
    moments = np.cumsum(arrivals, axis=-1)
    waits = lindley_waits(arrivals, services, np.zeros(shape[:2]))
    last = customers // 2
    return [
        [growth(times[last:], levels[last:]) for times, levels in zip(*runs, strict=True)]
        for runs in zip(moments, waits, strict=True)
    ]


def test_an_overloaded_queue_grows_and_a_stable_one_does_not():
    assert sum(grows(slopes, scale=1.0) for slopes in waiting_slopes(1.15)) > 90
    false_alarms = sum(grows(slopes, scale=1.0) for slopes in waiting_slopes(0.8))
    assert false_alarms <= stats.binom(100, 0.05).ppf(0.999)


def test_growth_has_to_be_sure_and_to_matter():
    assert grows([0.9, 1.0, 1.1], scale=100.0)
    assert not grows([0.09, 0.10, 0.11], scale=100.0)
    assert not grows([-9.0, 1.0, 12.0], scale=100.0)
    assert not grows([-1.0, -1.1], scale=100.0)
    assert grows([0.9, math.nan, 1.0, 1.1], scale=100.0)
    assert grows([0.6], scale=100.0)
    assert not grows([0.4], scale=100.0)
    assert not grows([], scale=100.0)
    with pytest.raises(ValueError, match="scale"):
        grows([1.0], scale=-1.0)
