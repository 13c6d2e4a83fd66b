"""Tiers 2 and 3: what must hold on every run of every model, on random models over the whole language."""

import copy
import math
from collections import Counter
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_strategy import ROBOT, models, slowed, without_minutes

from simulator.engines.simpy.engine import Engine, simulate
from simulator.engines.simpy.stations import PoolStation
from simulator.model.lowering import lower
from simulator.model.system import System
from simulator.program.stations import Batch, Breaker, Bucket, Gauge, KeyedLocks, Pool, Servers, Sharing, Store
from simulator.records import COMPLETED, IN_FLIGHT, STATION_FIELDS, WORKLOAD_FIELDS
from simulator.streams import Streams

DURATION = 12.0
LONG_AFTER = 1e6
QUICK = settings(max_examples=50)
FEWER = settings(max_examples=25)
THOROUGH = settings(max_examples=500)
seeds = st.integers(0, 3)


def robot(environment):
    def serve(job):
        yield environment.timeout(job.amount)

    return serve


def program_of(model):
    return lower(System.model_validate(copy.deepcopy(model)))


def records_of(model, seed, duration=DURATION, windows=7):
    return simulate(program_of(model), duration, seed, windows=windows, processes={ROBOT: robot})


def by_name(fields, values):
    return dict(zip(fields, values.tolist(), strict=True))


def close(a, b, relative, absolute=0.0):
    return math.isclose(a, b, rel_tol=relative, abs_tol=absolute)


# What must hold on one run.


def check_requests_are_conserved(table, counts):
    outcomes = Counter(np.clip(table.outcome, IN_FLIGHT, 1).tolist())
    assert counts["completed"] == outcomes[COMPLETED]
    assert counts["failed"] == outcomes[1]
    assert counts["arrived"] == len(table) == outcomes[COMPLETED] + outcomes[1] + outcomes[IN_FLIGHT]
    if not table.workload.startswith("messages."):  # these have the numbers of the requests that sent them
        assert len(set(table.number.tolist())) == len(table)


def check_rows_are_in_order(table):
    ended = table.outcome != IN_FLIGHT
    assert ended.tolist() == sorted(ended.tolist(), reverse=True)
    assert (np.isnan(table.end) == ~ended).all()
    assert (np.diff(table.end[ended]) >= 0).all()
    assert (np.diff(table.arrival[~ended]) >= 0).all()
    assert (table.end[ended] >= table.arrival[ended]).all()
    assert (table.end[ended] < DURATION).all()
    assert (table.arrival < DURATION).all()


def check_littles_law(table, counts, duration):
    sojourns = np.where(np.isnan(table.end), duration, table.end) - table.arrival
    assert close(counts["population_area"], math.fsum(sojourns), 1e-9, 1e-12)


def check_components_add_up(table):
    ended = table.outcome != IN_FLIGHT
    assert (table.wait >= -1e-12).all()
    assert (table.service >= -1e-12).all()
    accounted = (table.wait + table.service).sum(axis=1)
    sojourns = np.where(ended, table.end, DURATION) - table.arrival
    np.testing.assert_allclose(accounted[ended], sojourns[ended], rtol=1e-9, atol=1e-9)
    assert (accounted <= sojourns + 1e-9).all()


def check_station(spec, fields):
    assert all(value >= 0 for value in fields.values())
    gone = fields["completions"] + fields["rejections"] + fields["withdrawals"]
    match spec:
        case Store():
            assert fields["arrivals"] == fields["completions"] >= fields["hits"]
            assert fields["present"] <= spec.capacity
        case Breaker():
            assert fields["arrivals"] == gone + fields["present"]
            assert fields["busy_area"] <= DURATION
        case Pool():
            assert fields["arrivals"] == gone + fields["present"]
            assert fields["busy_area"] <= spec.capacity * DURATION * (1 + 1e-9)
        case Gauge():
            assert fields["arrivals"] == fields["present"] == 0
        case KeyedLocks():
            assert fields["arrivals"] == gone + fields["present"]
        case _:
            assert fields["arrivals"] == gone + fields["present"]
            assert close(fields["busy_area"], fields["delivered"], 1e-6, 1e-9)
    most = {Servers: lambda: spec.servers, Sharing: lambda: max(spec.capacity), Batch: lambda: 1.0}.get(type(spec))
    if isinstance(spec, Sharing) and spec.quota is not None:
        periods = math.floor(DURATION / spec.quota.period) + 1
        best = max(rate / min(jobs, spec.quota.processors) for jobs, rate in enumerate(spec.capacity, start=1))
        assert fields["busy_area"] <= periods * spec.quota.seconds * best * (1 + 1e-6)
    if most:
        assert fields["busy_area"] <= most() * DURATION * (1 + 1e-9)
    if isinstance(spec, Bucket):
        assert fields["delivered"] <= spec.keys * (spec.burst + spec.rate * DURATION) * (1 + 1e-9)


def check_samples_only_grow(records):
    assert records.times[0] == 0.0
    assert records.times[-1] == DURATION
    assert (np.diff(records.times) > 0).all()
    cumulated = [n for n, field in enumerate(STATION_FIELDS) if field != "present"]
    assert (np.diff(records.stations[:, :, cumulated], axis=0) >= -1e-9).all()
    assert (np.diff(records.workloads, axis=0) >= 0).all()


def never_above_capacity():
    """Watch every grant of every pool."""
    grant = PoolStation._grant

    def watched(pool, token):
        grant(pool, token)
        assert pool.used <= pool.capacity * (1 + 1e-12)
        assert pool.busy > 0

    return mock.patch.object(PoolStation, "_grant", watched)


def check_run(model, seed):
    program = program_of(model)
    with never_above_capacity():
        records = simulate(program, DURATION, seed, windows=7, processes={ROBOT: robot})
    for table, counts in zip(records.requests, records.workloads[-1], strict=True):
        counts = by_name(WORKLOAD_FIELDS, counts)
        check_requests_are_conserved(table, counts)
        check_rows_are_in_order(table)
        check_littles_law(table, counts, DURATION)
        check_components_add_up(table)
    for spec, fields in zip(program.stations, records.stations[-1], strict=True):
        check_station(spec, by_name(STATION_FIELDS, fields))
    check_samples_only_grow(records)
    assert records_of(model, seed).digest() == records.digest()


@QUICK
@given(models(controls=True), seeds)
def test_every_run_keeps_the_laws(model, seed):
    check_run(model, seed)


@pytest.mark.slow
@THOROUGH
@given(models(controls=True), seeds)
def test_every_run_keeps_the_laws_at_length(model, seed):
    check_run(model, seed)


# When the load ends, the system drains.


def check_drains(model, seed):
    engine = Engine(program_of(model), Streams(seed), {ROBOT: robot})
    engine.simulate(LONG_AFTER, 1)
    for workload in engine.recorder.workloads:
        assert workload.arrived == workload.completed + workload.failed
        assert not workload.live
    for station in engine.stations:
        if isinstance(station, PoolStation):
            assert station.used == 0.0
        if not isinstance(getattr(station, "spec", None), Store):
            assert (station.busy, station.waiting) == (0, 0)
    assert not engine.ready
    assert [entry for entry in engine.environment._queue if entry[-1].callbacks] == []


@FEWER
@given(models(sources=("replay",)), seeds)
def test_system_drains_when_the_load_ends(model, seed):
    check_drains(model, seed)


@pytest.mark.slow
@THOROUGH
@given(models(sources=("replay",)), seeds)
def test_system_drains_when_the_load_ends_at_length(model, seed):
    check_drains(model, seed)


# Metamorphic: what a change of the model may not change.


def with_a_stranger(model, first):
    """The model beside a service, with a host and workload of its own, that it has nothing to do with."""
    step = {"compute": {"exponential": "0.1 s"}}
    strangers = {
        "hosts": {"strange": {"cpu": 2}},
        "services": {"strange": {"host": "strange", "workers": 2, "operations": {"op": [step, step]}}},
        "workloads": {"strange": {"rate": "5.0 /s", "operation": "strange.op", "timeout": "0.5 s", "retries": 1}},
    }
    merged = {
        section: {**strange, **model[section]} if first else {**model[section], **strange}
        for section, strange in strangers.items()
    }
    return {**model, **merged}


def check_strangers_do_not_matter(model, seed, first):
    """Neither does it matter how often the stations are sampled."""
    alone = {table.workload: table for table in records_of(model, seed, windows=61).requests}
    beside = {table.workload: table for table in records_of(with_a_stranger(model, first), seed).requests}
    assert len(beside["strange"]) > 10
    for name, table in alone.items():
        assert table.components == beside[name].components
        for column, values in table.columns().items():
            assert np.array_equal(values, beside[name].columns()[column], equal_nan=True), (name, column)


@FEWER
@given(models(), seeds, st.booleans())
def test_unrelated_part_changes_nobody_elses_requests(model, seed, first):
    check_strangers_do_not_matter(model, seed, first)


@pytest.mark.slow
@THOROUGH
@given(models(), seeds, st.booleans())
def test_unrelated_part_changes_nobody_elses_requests_at_length(model, seed, first):
    check_strangers_do_not_matter(model, seed, first)


TIMES = {"arrival", "end", "wait", "service"}
TIME_METERS = {"first token", "decode time", "longest gap"}


def check_scaling(model, seed):
    model = without_minutes(model)
    for table, slow in zip(
        records_of(model, seed).requests, records_of(slowed(model), seed, 2 * DURATION).requests, strict=True
    ):
        for name, values in table.columns().items():
            expected = 2 * values if name in TIMES else values
            if name == "meter":
                expected = values * [2.0 if meter in TIME_METERS else 1.0 for meter in table.meters]
            assert np.array_equal(slow.columns()[name], expected, equal_nan=True), (table.workload, name)


@FEWER
@given(models(), seeds)
def test_twice_the_time_takes_exactly_twice_as_long(model, seed):
    check_scaling(model, seed)


@pytest.mark.slow
@THOROUGH
@given(models(), seeds)
def test_twice_the_time_takes_exactly_twice_as_long_at_length(model, seed):
    check_scaling(model, seed)


def test_seeds_differ():
    model = {
        "hosts": {"h": {"cpu": 1}},
        "services": {"s": {"host": "h", "operations": {"op": [{"compute": {"exponential": "0.1 s"}}]}}},
        "workloads": {"w": {"rate": "2.0 /s", "operation": "s.op"}},
    }
    digests = {records_of(model, seed).digest() for seed in range(5)}
    assert len(digests) == 5
