"""Compiled functions are linked as wholes, and compile without that too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulator.engines.compiled.building import library_of
from simulator.engines.compiled.compiling import compiled_once
from simulator.engines.compiled.linking import Part, Whole
from simulator.engines.compiled.pointers import compiled, inlined

ROOT = Path(__file__).parent.parent
SIGNATURE = "int64(int64)"


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


def library(helper):
    (result,) = helper.overloads.values()
    return result.library


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    compiled_once.cache_clear()
    yield tmp_path
    compiled_once.cache_clear()


def test_outermost_functions_share_helpers_that_have_no_machine_code():
    for name in ("twice_the_sum", "the_sum_and_itself"):
        assert isinstance(library_of(__name__, name, SIGNATURE)[1], Whole)
    for helper in (squared, sum_of_squares):
        part = library(helper)
        assert isinstance(part, Part)
        for function in part.get_defined_functions():
            assert not part.codegen._engine.is_symbol_defined(function.name)


def test_compiled_functions_do_what_they_say(cache):
    twice, itself = (compiled_once(__name__, name, SIGNATURE) for name in ("twice_the_sum", "the_sum_and_itself"))
    assert (twice(10), itself(10)) == (2 * 285 + 100, 285 + 10)


def test_a_whole_is_read_again_from_disk_without_being_compiled(cache, monkeypatch):
    first = compiled_once(__name__, "twice_the_sum", SIGNATURE)
    compiled_once.cache_clear()
    monkeypatch.setattr("simulator.engines.compiled.building.machine_code", None)
    again = compiled_once(__name__, "twice_the_sum", SIGNATURE)
    assert again is not first
    assert again(10) == first(10) == 670


def test_code_that_is_cut_short_on_disk_is_compiled_again(cache):
    expected = compiled_once(__name__, "twice_the_sum", SIGNATURE)(10)
    (file,) = cache.glob("*.bin")
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    compiled_once.cache_clear()
    assert compiled_once(__name__, "twice_the_sum", SIGNATURE)(10) == expected
    assert len(file.read_bytes()) == len(whole)


RUN = """
import sys
from simulator.cli import main
try:
    main()
finally:
    print([name for name in ("numba", "simpy") if name in sys.modules], file=sys.stderr)
"""


def test_a_run_whose_engine_is_on_disk_imports_no_compiler():
    command = [sys.executable, "-c", RUN, "run", "models/web-shop.yaml", "-d", "5s", "-r", "2", "--engine", "compiled"]
    assert subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stderr.splitlines()[-1] == "[]"


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
