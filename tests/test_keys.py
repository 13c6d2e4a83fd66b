"""Keys on both engines: locks of keys, hashing and grouping, and what stores begin with; by hand and against theory."""

import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats
from test_engine_exact import OK, Run
from test_engines_agree import POISSON, TIGHT, Hand, check_program

from simulator.analytic.demands import facts
from simulator.distributions import Constant, Discrete, Exponential, Uniform, Zipf
from simulator.engines import compiled
from simulator.hashing import bucket_of, buckets_of
from simulator.program.arrivals import Renewal, Replay
from simulator.program.instructions import (
    AcquireKey,
    Delay,
    DrawInto,
    EndScope,
    Fail,
    GroupInto,
    HashInto,
    Insert,
    Jump,
    Lookup,
    Place,
    Release,
    Remove,
    Scope,
)
from simulator.program.program import TIMEOUT
from simulator.program.stations import Eviction, KeyedLocks, Store

both_sizes = pytest.mark.parametrize("sizes", [None, TIGHT], ids=["roomy", "tight"])


def holding(locks, key, seconds, timeout=None):
    """Code that holds a key for a time, and gives up after another."""

    def emit(builder):
        register = builder.register()
        handler, done = builder.label(), builder.label()
        builder.emit(DrawInto(register, key))
        if timeout is not None:
            builder.emit(Scope(handler, timeout, TIMEOUT))
        builder.emit(AcquireKey(locks, builder.component("lock"), register))
        builder.emit(Delay(builder.component("held"), seconds))
        builder.emit(Release())
        if timeout is not None:
            builder.emit(EndScope())
            builder.emit(Jump(done))
            builder.mark(handler)
            builder.emit(Fail())
        builder.mark(done)

    return emit


def lock_run(requests, capacity=1, queue_limit=None):
    """A run of requests (arrival, key, seconds held, time-out or None), each a workload of its own."""
    hand = Hand()
    locks = hand.at(KeyedLocks("rows", capacity, queue_limit))
    for number, (arrival, key, seconds, *timeout) in enumerate(requests):
        constants = [hand.draw(Constant(float(value))) for value in (key, seconds, *timeout)]
        hand.workload(f"w{number}", Replay((float(arrival),)), holding(locks, *constants))
    finished = Run(hand.build(), 100.0)
    return [finished.log(f"w{number}")[0][2:] for number in range(len(requests))], finished.station("rows")


def test_each_key_is_served_alone_and_in_order():
    ends, rows = lock_run([(0, 7, 2), (0, 8, 1), (0.5, 7, 1), (1, 7, 1), (1, 8, 3)])
    assert ends == [(2, OK), (1, OK), (3, OK), (4, OK), (4, OK)]
    assert (rows.arrivals, rows.completions, rows.present) == (5, 5, 0)
    assert (rows.busy_area, rows.waiting_area) == (8, 1.5 + 2)


def test_a_key_has_as_many_units_as_are_given():
    ends, _ = lock_run([(0, 7, 2), (0, 7, 3), (0, 7, 1), (0, 8, 1)], capacity=2)
    assert ends == [(2, OK), (3, OK), (3, OK), (1, OK)]


def test_the_queue_limit_is_that_of_one_key():
    ends, rows = lock_run([(0, 7, 2), (0, 7, 2), (0, 7, 2), (0, 8, 2), (0, 8, 2)], queue_limit=1)
    assert ends == [(2, OK), (4, OK), (0, "queue full"), (2, OK), (4, OK)]
    assert rows.rejections == 1


def test_one_that_gives_up_leaves_the_queue_or_frees_the_key():
    ends, rows = lock_run([(0, 7, 9, 3), (1, 7, 1, 1), (1, 7, 2), (4, 7, 1)])
    assert ends == [(3, "timeout"), (2, "timeout"), (5, OK), (6, OK)]
    assert (rows.arrivals, rows.completions, rows.withdrawals, rows.present) == (4, 3, 1, 0)


@both_sizes
@pytest.mark.parametrize("capacity", [1, 3])
@pytest.mark.parametrize("limit", [None, 0, 2])
@pytest.mark.parametrize("seconds", [Constant(0.5), Exponential(0.5)], ids=str)
def test_engines_agree_on_keyed_locks(capacity, limit, seconds, sizes):
    hand = Hand()
    locks = hand.at(KeyedLocks("a", capacity, limit), KeyedLocks("b", capacity, limit))
    other = Place(locks.stations[1:])
    key, held, timer = hand.draw(Zipf(5, 0.9)), hand.draw(seconds), hand.draw(Uniform(0.0, 2.0), "timer")
    hand.workload("w", Renewal(Constant(0.125)), holding(Place(locks.stations[:1]), key, held, timer))
    hand.workload("v", POISSON, holding(other, key, held))
    hand.workload("u", (5, Constant(0.25), Constant(0.0)), holding(other, key, held, timer))
    check_program(hand.build(), 50.0, sizes=sizes)


def hot_row(rate, mean, share):
    """Requests that hold the one hot row, or one of many others that hardly anybody waits for."""
    hand = Hand()
    key = hand.draw(Discrete((share, *[(1.0 - share) / 999] * 999)), "row")
    locks = hand.at(KeyedLocks("rows"))
    hand.workload("w", Renewal(Exponential(1.0 / rate)), holding(locks, key, hand.draw(Exponential(mean), "held")))
    return hand.build()


def test_check_knows_the_hot_row():
    found = facts(hot_row(10.0, 0.05, 0.5))
    assert found.saturated_resource == "rows"
    assert found.saturation_factor == pytest.approx(1.0 / (10.0 * 0.5 * 0.05))


@pytest.mark.slow
def test_a_hot_row_waits_as_an_m_m_1_queue():
    rate, mean, share = 24.0, 0.05, 0.5
    load = rate * share * mean
    found = [compiled.simulate(hot_row(rate, mean, share), 5_000.0, seed) for seed in range(10)]
    waits = np.array([float(records.requests[0].wait.sum() / len(records.requests[0])) for records in found])
    expected = share * load * mean / (1.0 - load)
    rest = (1.0 - share) ** 2 * rate * mean * mean / 999  # what the other rows add, to first order
    error = waits.std(ddof=1) / math.sqrt(len(waits))
    assert abs(waits.mean() - expected - rest) < 4.0 * error


# Hashing and grouping.


def test_hashing_all_keys_at_once_gives_each_ones_bucket():
    for count, salt in [(1, 0), (2, 0), (7, 3), (1000, 1), (3, 12345)]:
        assert buckets_of(300, count, salt).tolist() == [bucket_of(key, count, salt) for key in range(300)]


def test_hashing_moves_only_the_keys_that_a_new_bucket_gets():
    for count in (1, 2, 9, 50):
        before, after = buckets_of(20_000, count), buckets_of(20_000, count + 1)
        moved = before != after
        assert (after[moved] == count).all()
        assert stats.binomtest(int(moved.sum()), 20_000, 1.0 / (count + 1)).pvalue > 1e-3


def test_hashing_spreads_keys_evenly_and_salts_are_independent():
    first, second = buckets_of(60_000, 6), buckets_of(60_000, 6, salt=1)
    together = Counter(zip(first.tolist(), second.tolist(), strict=True))
    assert stats.chisquare([together[pair] for pair in np.ndindex(6, 6)]).pvalue > 1e-3
    neighbours = Counter(zip(first[:-1].tolist(), first[1:].tolist(), strict=True))
    assert stats.chisquare([neighbours[pair] for pair in np.ndindex(6, 6)]).pvalue > 1e-3


@both_sizes
def test_engines_agree_on_hashing_and_grouping(sizes):
    hand = Hand()
    stores = hand.at(*[Store(f"s{number}", 3) for number in range(4)])
    key = hand.draw(Zipf(1000, 0.5))

    def emit(builder):
        raw, shard, page = builder.register(), builder.register(), builder.register()
        miss, done = builder.label(), builder.label()
        builder.emit(DrawInto(raw, key))
        builder.emit(HashInto(shard, raw, 4, salt=3))
        builder.emit(HashInto(page, raw, 20, salt=-5, first=100))
        builder.emit(GroupInto(page, page, 2, first=7))
        builder.emit(Lookup(Place(stores.stations, shard), page, miss))
        builder.emit(Jump(done))
        builder.mark(miss)
        builder.emit(Insert(Place(stores.stations, shard), page))
        builder.mark(done)

    hand.workload("w", Renewal(Constant(0.03125)), emit)
    program = hand.build()
    records = check_program(program, 60.0, sizes=sizes)
    arrivals = records.stations[-1, :, 2]
    assert (arrivals > 0).all()
    resources = facts(program).resources
    expected = np.bincount(buckets_of(1000, 4, 3), Zipf(1000, 0.5).probabilities())
    assert [resource.demand_rate / 32.0 for resource in resources] == pytest.approx(expected.tolist())


# Stores: what they begin with, and removal.


def caching(store, key, seconds, counted=True, removes=False):
    """Code that looks a key up and fetches it where it is missing, or removes it."""

    def emit(builder):
        register, miss, done = builder.register(), builder.label(), builder.label()
        builder.emit(DrawInto(register, key))
        if removes:
            builder.emit(Remove(store, register))
            return
        builder.emit(Lookup(store, register, miss, counted))
        builder.emit(Jump(done))
        builder.mark(miss)
        builder.emit(Delay(builder.component("fetch"), seconds))
        builder.emit(Insert(store, register))
        builder.mark(done)

    return emit


def store_run(spec, requests):
    """How requests (arrival, key) for a store go: True where they hit; a key of None less removes it."""
    hand = Hand()
    store = hand.at(spec)
    seconds = hand.draw(Constant(0.25))
    for number, (arrival, key) in enumerate(requests):
        draw = hand.draw(Constant(float(abs(key))))
        hand.workload(f"w{number}", Replay((float(arrival),)), caching(store, draw, seconds, removes=key < 0))
    finished = Run(hand.build(), 100.0)
    return [finished.log(f"w{number}")[0][2] == arrival for number, (arrival, _) in enumerate(requests)]


def test_a_store_begins_with_its_content_the_first_to_be_evicted_first():
    for eviction in Eviction:
        spec = Store("s", 3, eviction, content=(5, 6, 7))
        assert store_run(spec, [(0, 5), (0, 6), (0, 7)]) == [True, True, True]
        assert store_run(spec, [(0, 9), (1, 5), (2, 7)]) == [False, False, True]


def test_the_ages_of_what_a_store_begins_with_are_spread():
    spec = Store("s", 100, time_to_live=100.0, content=range(100))
    ages = np.sort([-spec.inserted(position) for position in range(100)])
    assert stats.kstest(ages / 100.0, "uniform").statistic < 0.02


def test_a_removed_key_is_not_there():
    requests = [(0, 5), (1, 5), (2, -5), (3, 5), (4, 5), (5, -9)]
    assert store_run(Store("s", 3), requests) == [False, True, True, False, True, True]


def test_a_multiset_loses_a_key_with_its_last_copy():
    # The second fetch of a key that is there again is a second copy of it.
    hits = [(0, 5), (0, 5), (1, -5), (2, 5), (3, -5), (4, 5)]
    assert store_run(Store("s", 3, multiset=True), hits) == [False, False, True, True, True, False]
    assert store_run(Store("s", 3), hits) == [False, False, True, False, True, False]


@both_sizes
@pytest.mark.parametrize("eviction", list(Eviction))
@pytest.mark.parametrize("time_to_live", [None, 3.0])
@pytest.mark.parametrize("multiset", [False, True])
def test_engines_agree_on_stores_with_content_and_removal(eviction, time_to_live, multiset, sizes):
    hand = Hand()
    stores = [
        hand.at(Store(f"s{number}", 7 + number, eviction, time_to_live, content, multiset))
        for number, content in enumerate([(), range(6, -1, -1), (30, 2, 9)])
    ]
    key, pause = hand.draw(Zipf(60, 0.8)), hand.draw(Constant(0.125))
    for number, store in enumerate(stores):
        source = Renewal(Constant(0.0625))
        hand.workload(f"reads{number}", source, caching(store, key, pause, counted=number != 1))
        hand.workload(f"writes{number}", POISSON, caching(store, key, pause, removes=True))
    check_program(hand.build(), 30.0, sizes=sizes)


def test_content_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="3 keys do not fit in 2 entries"):
        Store("s", 2, content=range(3))
    with pytest.raises(ValueError, match="more than once"):
        Store("s", 2, content=(1, 1))
