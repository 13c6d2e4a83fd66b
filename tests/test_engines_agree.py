"""Tier 6: the compiled engine returns the SimPy engine's Records, to the last bit of every column.

Random models over the whole language, and models made to be nasty; a model on which the engines differ is printed as
YAML, small enough (after shrinking) to be kept in `tests/regressions/`.
"""

import copy
import dataclasses
import io
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_strategy import models
from ruamel.yaml import YAML

from simulator.distributions import Constant, Exponential, LogNormal, StandardUniform, Uniform, Zipf
from simulator.engines import compiled, simpy, simulate
from simulator.engines.compiled.state import Sizes
from simulator.errors import UsageError
from simulator.model.files import load
from simulator.model.lowering import lower
from simulator.model.system import System
from simulator.program.arrivals import Renewal, Replay
from simulator.program.builder import Builder
from simulator.program.instructions import (
    Acquire,
    Clear,
    Delay,
    DrawInto,
    End,
    EndScope,
    Fail,
    Fork,
    Insert,
    Jump,
    Lookup,
    Place,
    Publish,
    Release,
    Retry,
    Scope,
    TakeTokens,
    Work,
)
from simulator.program.program import Entry, Users, Workload
from simulator.program.stations import Bucket, Discipline, Eviction, External, Pool, Servers, Sharing, Store

HERE = Path(__file__).parent
SHIPPED = sorted((HERE.parent / "models").glob("*.yaml"))
REGRESSIONS = sorted((HERE / "regressions").glob("*.yaml"))
DURATION = 12.0
RELAXED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
# Room for almost nothing, so that every request for more comes in every situation.
TIGHT = Sizes(tokens=1, scopes=1, holds=1, keys=1, entries=1, rows=1, block_bits=1, budget=3)


def differences(expected, found):
    """Names of the columns that are not equal, bit by bit."""
    for before, after in zip(expected.requests, found.requests, strict=True):
        columns = after.columns()
        for name, values in before.columns().items():
            if values.dtype != columns[name].dtype or not np.array_equal(values, columns[name], equal_nan=True):
                yield f"{before.workload}.{name}"
    for name in ("times", "stations", "workloads"):
        if not np.array_equal(getattr(expected, name), getattr(found, name)):
            yield name
    if expected.resources != found.resources:
        yield "resources"
    if expected.digest() != found.digest():
        yield "digest"


def check_program(program, duration=DURATION, seed=1, windows=7, sizes=None, told=""):
    expected = simpy.simulate(program, duration, seed, windows=windows)
    found = compiled.simulate(program, duration, seed, windows=windows, sizes=sizes)
    different = list(differences(expected, found))
    assert not different, f"the engines differ in {', '.join(different)} (seed {seed})\n{told}"
    return found


def as_yaml(model):
    stream = io.StringIO()
    YAML().dump(model, stream)
    return stream.getvalue()


def without_discipline(program, choice):
    """The program with other queues and limits than the model language knows, chosen at random."""

    def changed(station):
        match station:
            case Servers():
                return dataclasses.replace(
                    station, discipline=choice.choice(list(Discipline)), queue_limit=choice.choice([None, None, 0, 1, 3])
                )
            case Pool():
                return dataclasses.replace(station, queue_limit=choice.choice([station.queue_limit, None, 2]))
            case _:
                return station

    return dataclasses.replace(program, stations=tuple(changed(station) for station in program.stations))


def check_model(model, seed, tight, changed):
    program = lower(System.model_validate(copy.deepcopy(model)))
    if changed:
        program = without_discipline(program, random.Random(changed))
    told = f"# seed {seed}, tight {tight}, changed {changed}\n{as_yaml(model)}"
    check_program(program, seed=seed, sizes=TIGHT if tight else None, told=told)


generated = given(models(processes=False), st.integers(0, 3), st.booleans(), st.integers(0, 2))


@settings(max_examples=300, **RELAXED)
@generated
def test_generated_models_agree(model, seed, tight, changed):
    check_model(model, seed, tight, changed)


@pytest.mark.slow
@settings(max_examples=5000, **RELAXED)
@generated
def test_many_generated_models_agree(model, seed, tight, changed):
    check_model(model, seed, tight, changed)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_models_agree(path):
    program = lower(load(path))
    check_program(program, duration=0.05)
    check_program(program, duration=0.01, seed=2, sizes=TIGHT)


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.stem)
def test_regressions_agree(path):
    case = YAML(typ="safe").load(path.read_text())
    check_model(case["model"], case["seed"], case["tight"], case["changed"])
