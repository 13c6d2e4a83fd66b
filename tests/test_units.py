"""Quantities are read exactly, refused with the reason, and shown so that they can be read back."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.units import DIMENSIONS, EXAMPLES, UNITS, UnitError, parse, show


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("5 ms", "duration", 0.005),
        ("250us", "duration", 0.00025),
        ("250 µs", "duration", 0.00025),
        ("250 \u03bcs", "duration", 0.00025),
        ("7 ns", "duration", 7e-9),
        ("1.5 min", "duration", 90.0),
        ("2 h", "duration", 7200.0),
        ("1d", "duration", 86400.0),
        (" .5 s ", "duration", 0.5),
        ("8 GiB", "size", 8 * 2**30),
        ("64kB", "size", 64_000.0),
        ("1.5 TB", "size", 1.5e12),
        ("10 Gbit/s", "bandwidth", 1.25e9),
        ("10 Gbps", "bandwidth", 1.25e9),
        ("10 Gb/s", "bandwidth", 1.25e9),
        ("8 kbit/s", "bandwidth", 1000.0),
        ("1.2 GB/s", "bandwidth", 1.2e9),
        ("1 GiB/s", "bandwidth", 2**30),
        ("3k req/s", "rate", 3000.0),
        ("3k/s", "rate", 3000.0),
        ("3 k/s", "rate", 3000.0),
        ("200 IOPS", "rate", 200.0),
        ("1e3/s", "rate", 1000.0),
        ("60 requests/min", "rate", 1.0),
        ("90k TPM", "rate", 1500.0),
        ("36k tokens/h", "rate", 10.0),
        ("2M msg/s", "rate", 2e6),
        ("70%", "fraction", 0.7),
        ("0.7", "fraction", 0.7),
        ("$2.50/h", "price", 2.5),
        ("$ 2.50/h", "price", 2.5),
        ("-$2/h", "price", -2.0),
        ("2.5 USD/h", "price", 2.5),
        ("2.5 $/h", "price", 2.5),
        ("$730/month", "price", 1.0),
        ("4 cores", "cores", 4.0),
        ("0.5", "cores", 0.5),
        ("10k", "count", 10_000.0),
        ("1M", "count", 1e6),
        ("-3", "count", -3.0),
        (4, "cores", 4.0),
        (0.25, "fraction", 0.25),
        (np.int64(7), "count", 7.0),
        (np.float64(0.5), "fraction", 0.5),
    ],
)
def test_reads(text, dimension, value):
    assert parse(text, dimension) == value


@pytest.mark.parametrize("dimension", DIMENSIONS)
@pytest.mark.parametrize("zero", [0, 0.0, "0"])
def test_zero_needs_no_unit(dimension, zero):
    assert parse(zero, dimension) == 0.0


@pytest.mark.parametrize(
    ("text", "dimension", "message"),
    [
        (5, "duration", "got 5, expected a duration with its unit, e.g. '5 ms'"),
        ("5", "size", "got '5', expected a size with its unit, e.g. '8 GiB'"),
        (3.5, "rate", "got 3.5, expected a rate with its unit, e.g. '200/s'"),
        (True, "count", "got True, expected a count, e.g. '10k'"),
        (None, "cores", "got None, expected a number of cores, e.g. '4 cores'"),
        ([1], "size", "got [1], expected a size with its unit, e.g. '8 GiB'"),
        ("many", "cores", "got 'many', expected a number of cores, e.g. '4 cores'"),
        ("", "duration", "got '', expected a duration with its unit, e.g. '5 ms'"),
        (math.nan, "count", "got nan, expected a finite count, e.g. '10k'"),
        (-math.inf, "fraction", "got -inf, expected a finite fraction, e.g. '70%'"),
        ("nan", "count", "got 'nan', expected a count, e.g. '10k'"),
        ("inf s", "duration", "got 'inf s', expected a duration with its unit, e.g. '5 ms'"),
        ("1e999 s", "duration", "got '1e999 s', expected a finite duration, e.g. '5 ms'"),
        (10**400, "count", "got a number too large, expected a count, e.g. '10k'"),
        ("1,000/s", "rate", "got '1,000/s', expected a number without separators, e.g. '1000' or '1k'"),
        ("1 000/s", "rate", "got '1 000/s', expected a number without separators, e.g. '1000' or '1k'"),
        ("8 Gb", "size", "'Gb' is gigabits; memory and sizes are in bytes: write GB or GiB"),
        ("8 kbit", "size", "'kbit' is kilobits; memory and sizes are in bytes: write kB or KiB"),
        ("8 KB", "size", "got '8 KB': 'KB' is no unit of a size; did you mean 'kB' or 'KiB'?"),
        ("8 gib", "size", "got '8 gib': 'gib' is no unit of a size; did you mean 'GiB'?"),
        ("5 MB", "duration", "'5 MB' is a size, expected a duration with its unit, e.g. '5 ms'"),
        ("5 ms", "cores", "'5 ms' is a duration, expected a number of cores, e.g. '4 cores'"),
        ("10 MB", "bandwidth", "'10 MB' is a size, expected a bandwidth with its unit, e.g. '10 Gbit/s'"),
        ("10 MBps", "bandwidth", "got '10 MBps': 'MBps' is no unit of a bandwidth; did you mean 'MB/s'?"),
        ("10K", "count", "got '10K': 'K' is no unit of a count; did you mean 'k'?"),
        ("5 minutes", "duration", "got '5 minutes': 'minutes' is no unit of a duration; did you mean 'min'?"),
        (
            "5 foo",
            "size",
            "got '5 foo': 'foo' is no unit of a size; expected a size with its unit, e.g. '8 GiB'",
        ),
        ("+-5 s", "duration", "got '+-5 s', expected a duration with its unit, e.g. '5 ms'"),
        ("-$-5/h", "price", "got '-$-5/h', expected a price with its unit, e.g. '$2.50/h'"),
    ],
)
def test_refuses(text, dimension, message):
    with pytest.raises(UnitError) as error:
        parse(text, dimension)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("value", "dimension", "text"),
    [
        (0.0124, "duration", "12.4 ms"),
        (0.00025, "duration", "250 µs"),
        (0.00099996, "duration", "1 ms"),
        (90.0, "duration", "1.5 min"),
        (0.0, "duration", "0 s"),
        (-0.5, "duration", "-500 ms"),
        (8 * 2**30, "size", "8 GiB"),
        (10e9, "size", "10 GB"),
        (1.5 * 2**20, "size", "1.5 MiB"),
        (1234.5, "size", "1.23 kB"),
        (0.0, "size", "0 B"),
        (1.5e8, "bandwidth", "1.2 Gbit/s"),
        (3200.0, "rate", "3.2k/s"),
        (999.9, "rate", "1k/s"),
        (0.25, "rate", "0.25/s"),
        (2.5, "price", "$2.50/h"),
        (0.0411, "price", "$0.0411/h"),
        (0.5, "price", "$0.50/h"),
        (-2.0, "price", "-$2.00/h"),
        (0.7, "fraction", "70 %"),
        (0.9996, "fraction", "100 %"),
        (4096.0, "count", "4096"),
        (12_345.0, "count", "12.3k"),
        (1.0, "cores", "1 core"),
        (0.5, "cores", "0.5 cores"),
        (1234.0, "cores", "1234 cores"),
        (math.nan, "duration", "–"),
        (math.inf, "duration", "∞"),
        (-math.inf, "rate", "-∞"),
    ],
)
def test_shows(value, dimension, text):
    assert show(value, dimension) == text


@pytest.mark.parametrize("dimension", DIMENSIONS)
@given(value=st.floats(min_value=1e-12, max_value=1e15), negative=st.booleans())
def test_what_is_shown_reads_back(dimension, value, negative):
    value = -value if negative else value
    assert parse(show(value, dimension), dimension) == pytest.approx(value, rel=0.01)


@pytest.mark.parametrize("dimension", DIMENSIONS)
@given(value=st.integers(min_value=0, max_value=2**50))
def test_whole_numbers_shown_read_back(dimension, value):
    assert parse(show(value, dimension), dimension) == pytest.approx(value, rel=0.01)


@given(st.text(max_size=12), st.sampled_from(sorted(DIMENSIONS)))
def test_any_text_is_read_or_refused(text, dimension):
    try:
        assert math.isfinite(parse(text, dimension))
    except UnitError as error:
        assert "\n" not in str(error)  # noqa: PT017


@given(st.floats(min_value=0.001, max_value=1000.0), st.sampled_from(sorted(UNITS)), st.data())
def test_every_unit_is_linear_and_free_of_spaces(number, dimension, data):
    unit = data.draw(st.sampled_from(sorted(UNITS[dimension])))
    one = parse(f"1 {unit}", dimension) if unit else 1.0
    assert parse(f"{number!r}{unit}", dimension) == pytest.approx(number * one, rel=1e-15 * 4)


def test_every_example_reads():
    assert all(parse(example, dimension) > 0.0 for dimension, example in EXAMPLES.items())


def test_imports_nothing_heavy():
    code = "import sys, simulator.units; print(sorted({'numpy', 'scipy', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
