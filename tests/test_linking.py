"""Compiled functions are linked as wholes, and compile without that too."""

import os
import subprocess
import sys

import pytest

from simulator.engines.compiled.compiling import compiled_once
from simulator.engines.compiled.linking import Part, Whole
from simulator.engines.compiled.pointers import compiled, inlined


@inlined
def squared(x):
    return x * x


@compiled
def sum_of_squares(n):
    total = 0
    for i in range(n):
        total += squared(i)
    return total


def twice_the_sum(n):
    return 2 * sum_of_squares(n) + squared(n)


def the_sum_and_itself(n):
    return sum_of_squares(n) + n


def library(function):
    (result,) = function.overloads.values()
    return result.library


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    compiled_once.cache_clear()
    yield
    compiled_once.cache_clear()


def test_outermost_functions_share_helpers_that_have_no_machine_code(cache):
    twice, itself = (compiled_once(function, "int64(int64)") for function in (twice_the_sum, the_sum_and_itself))
    assert (twice(10), itself(10)) == (2 * 285 + 100, 285 + 10)
    assert isinstance(library(twice), Whole)
    for helper in (squared, sum_of_squares):
        part = library(helper)
        assert isinstance(part, Part)
        for function in part.get_defined_functions():
            assert not part.codegen._engine.is_symbol_defined(function.name)


def test_a_whole_is_read_again_from_disk(cache):
    first = compiled_once(twice_the_sum, "int64(int64)")
    compiled_once.cache_clear()
    again = compiled_once(twice_the_sum, "int64(int64)")
    assert again is not first
    assert not isinstance(library(again), Whole)  # Numba's own, around the code from disk
    assert again(10) == first(10) == 670


DRAWS = """
import sys
if len(sys.argv) > 1:
    sys.modules["simulator.engines.compiled.linking"] = None
from simulator.distributions import Gamma
from simulator.engines.compiled import pointers, sampling
from simulator.streams import Stream, Streams
values = sampling.Sampler(Stream(Streams(1, 0), "s", Gamma(2.0, 0.5))).block(0, 64)
print("pipeline_class" in pointers.HELPER, values.tobytes().hex())
"""


def draws(tmp_path, *arguments):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / str(len(arguments)))}
    return subprocess.run(
        [sys.executable, "-c", DRAWS, *arguments], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()


def test_functions_compile_to_the_same_where_numba_does_not_let_us_link_them(tmp_path):
    linked, values = draws(tmp_path)
    apart, same_values = draws(tmp_path, "apart")
    assert (linked, apart) == ("True", "False")
    assert values == same_values
