"""Keys, caches and row locks as models have them: by hand, and against the formulas of cache analysis."""

import math

import numpy as np
import pytest
from test_engine_exact import OK, at, compute, delay, run

import simulator as sim
from simulator.analytic.caches import che_hit_ratio, fifo_hit_ratio, lfu_hit_ratio, ttl_hit_ratio
from simulator.analytic.contents import settled_content
from simulator.distributions import Zipf
from simulator.errors import InputError
from simulator.program.stations import Eviction

ONE = {"uniform": 1}


def lookup(cache, key, *miss):
    return {"lookup": cache, "key": key, "miss": list(miss)}


def cached(cache, count=2000, exponent=0.8, steps=(), **workload):
    """A model whose requests, 100 a second, look a key of a cache up."""
    return {
        "hosts": {"h": {"cpu": 1}},
        "services": {"s": {"host": "h", "operations": {"op": [lookup("c", "k"), *steps]}}},
        "keys": {"k": {"zipf": {"count": count, "exponent": exponent}}},
        "caches": {"c": cache},
        "workloads": {"w": {"rate": "100/s", "operation": "s.op", **workload}},
    }


def hit_ratios(model, seconds, replications=12):
    """Hits as a share of the lookups of a cache, in each of some runs."""
    program = sim.lower(sim.System.model_validate(model))
    [number] = program.resources()["caches.c"]
    finals = [
        sim.simulate(program, seconds, seed=seed, engine="compiled").stations[-1, number]
        for seed in range(replications)
    ]
    return np.array([final[6] / final[2] for final in finals])


def error_of(values):
    return float(values.std(ddof=1) / math.sqrt(len(values)))


# Keys.


def test_a_request_has_one_key_for_all_steps_that_name_it():
    operations = {"op": [lookup("c", "k", delay(1)), lookup("c", "k", delay(1)), {"call": "s.inner"}]}
    operations["inner"] = [lookup("c", "k", delay(1))]
    sections = {"keys": {"k": {"uniform": 1000}}, "caches": {"c": {"entries": 1000, "start": "cold"}}}
    finished = run(operations, {"w": at(0, 10, 20)}, **sections)
    assert finished.log() == [(0, 0, 1, OK), (1, 10, 11, OK), (2, 20, 21, OK)]


def test_another_key_is_that_of_the_steps_after_it_in_its_list():
    again = lookup("c", "k", delay(1))
    operations = {"op": [again, {"repeat": 2, "steps": [{"pick": "k"}, lookup("c", "k", delay(2)), again]}, again]}
    sections = {"keys": {"k": {"uniform": 10**6}}, "caches": {"c": {"entries": 1000, "start": "cold"}}}
    finished = run(operations, {"w": at(0)}, **sections)
    assert finished.log() == [(0, 0, 1 + 2 * 2, OK)]


# Caches.


def test_without_single_flight_every_request_fetches():
    operations = {"op": [lookup("c", ONE, compute(1))]}
    finished = run(operations, {"w": at(0, 0, 0, 0)}, host={"cpu": 4}, caches={"c": {"entries": 1, "start": "cold"}})
    assert finished.station("hosts.h.cpu").completions == 4


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_single_flight_fetches_a_key_once_whenever_it_is_missing(engine):
    model = cached({"entries": 1, "start": "cold", "single_flight": True, "time_to_live": "1 s"}, count=1)
    model["services"]["s"]["operations"]["op"][0]["miss"] = [{"delay": "125 ms"}, {"compute": "0 s"}]
    model["workloads"]["w"]["arrivals"] = "constant"
    program = sim.lower(sim.System.model_validate(model))
    records = sim.simulate(program, 11.25, seed=1, engine=engine)
    fetches = records.stations[-1, program.resources()["hosts.h.cpu"][0], 2]
    # A fetch every 1 s after the one before was put in, at the next arrival, and 0.125 s that it takes.
    assert fetches == 10
    requests = records.requests[0]
    late = requests.end - requests.arrival > 0
    assert late.sum() > 10 * fetches
    assert (requests.end - requests.arrival)[late].max() <= 0.125 + 1e-9


def test_a_failed_fetch_is_tried_by_the_next_in_line():
    operations = {"op": [lookup("c", ONE, delay(1), {"fail": "gone"})]}
    caches = {"c": {"entries": 1, "start": "cold", "single_flight": True}}
    finished = run(operations, {"w": at(0, 0)}, caches=caches)
    assert finished.log() == [(0, 0, 1, "gone"), (1, 0, 2, "gone")]


def test_a_fetch_that_looks_up_in_turn_waits_for_no_other_fetch():
    """Two fetches, each of a key that the other is fetching, would otherwise wait for each other for ever."""
    inner = lookup("c", ONE, delay(1))
    operations = {"op": [lookup("c", ONE, delay(1), inner)]}
    caches = {"c": {"entries": 1, "start": "cold", "single_flight": True}}
    assert run(operations, {"w": at(0, 0)}, caches=caches).log() == [(0, 0, 2, OK), (1, 0, 2, OK)]


def test_an_invalidated_key_is_fetched_again_and_one_put_in_is_not():
    read = [lookup("c", ONE, delay(1))]
    operations = {"op": read, "drop": [{"invalidate": "c", "key": ONE}], "put": [{"put": "c", "key": ONE}]}
    workloads = {"w": at(0, 2, 4), "x": at(3, operation="s.drop")}
    caches = {"c": {"entries": 1, "start": "cold"}}
    assert [end for _, _, end, _ in run(operations, workloads, caches=caches).log()] == [1, 2, 5]
    workloads["y"] = at(3.5, operation="s.put")
    assert [end for _, _, end, _ in run(operations, workloads, caches=caches).log()] == [1, 2, 4]


POLICIES = {"lru": che_hit_ratio, "fifo": fifo_hit_ratio, "lfu": lfu_hit_ratio}


@pytest.mark.parametrize("eviction", POLICIES)
def test_a_cache_that_begins_warm_hits_as_in_the_long_run_from_the_start(eviction):
    popularity = Zipf(2000, 0.8).probabilities()
    expected = POLICIES[eviction](popularity, 300)
    warm = hit_ratios(cached({"entries": 300, "eviction": eviction}), 20.0)
    assert abs(warm.mean() - expected) < 4.0 * error_of(warm) + 0.005, (warm.mean(), expected)
    cold = hit_ratios(cached({"entries": 300, "eviction": eviction, "start": "cold"}), 20.0)
    assert cold.mean() < expected - 6.0 * error_of(cold)


@pytest.mark.slow
@pytest.mark.parametrize("eviction", ["lru", "fifo"])
@pytest.mark.parametrize("start", ["warm", "cold"])
def test_hit_ratios_in_the_long_run_are_those_of_the_formulas(eviction, start):
    expected = POLICIES[eviction](Zipf(2000, 0.8).probabilities(), 300)
    found = hit_ratios(cached({"entries": 300, "eviction": eviction, "start": start}), 4000.0)
    other = POLICIES["fifo" if eviction == "lru" else "lru"](Zipf(2000, 0.8).probabilities(), 300)
    # Che's approximation is good to a few thousandths, a cold start costs 300 of 400 000 lookups.
    assert abs(found.mean() - expected) < 4.0 * error_of(found) + 0.003
    assert abs(found.mean() - other) > 6.0 * error_of(found)


def test_entries_that_expire_hit_as_the_formula_says():
    expected = ttl_hit_ratio(Zipf(2000, 0.8).probabilities(), 100.0, 30.0)
    found = hit_ratios(cached({"entries": 2000, "time_to_live": "30 s"}), 60.0)
    assert abs(found.mean() - expected) < 4.0 * error_of(found) + 0.003


def test_a_computed_or_given_hit_ratio_is_the_share_of_lookups_that_hit():
    for cache, expected in (
        ({"entries": 300, "hit_ratio": "computed"}, che_hit_ratio(Zipf(2000, 0.8).probabilities(), 300)),
        (
            {"size": "300 kB", "entry_size": "1 kB", "hit_ratio": "computed"},
            che_hit_ratio(Zipf(2000, 0.8).probabilities(), 300),
        ),
        ({"hit_ratio": "90%"}, 0.9),
    ):
        model = cached(cache)
        model["services"]["s"]["operations"]["op"][0]["miss"] = [{"delay": "1 s"}]
        program = sim.lower(sim.System.model_validate(model))
        found = sim.facts(program).workloads[0].zero_load_response
        assert 1.0 - found == pytest.approx(expected, abs=1e-9)


def test_what_a_cache_settles_on_is_of_the_right_size_and_popular():
    popularity = Zipf(5000, 0.9).probabilities()
    for eviction in Eviction:
        content = settled_content(popularity, 500, eviction)
        assert len(content) == len(set(content)) == 500
        share = popularity[list(content)].sum()
        assert share == pytest.approx(POLICIES[eviction.value](popularity, 500), abs=0.01)
    places = {key: place for place, key in enumerate(settled_content(popularity, 6000, Eviction.LRU))}
    assert np.mean([places[key] for key in range(50)]) > np.mean(list(places.values())) + 1500
    assert len(settled_content(popularity, 6000, Eviction.FIFO)) == 5000


# Locks of keys.


def test_a_lock_with_a_key_excludes_requests_for_the_same_key_only():
    operations = {"a": [{"lock": "l", "key": ONE, "steps": [delay(2)]}], "b": [{"lock": "l", "steps": [delay(2)]}]}
    workloads = {"w": at(0, 0, operation="s.a"), "v": at(0, operation="s.b")}
    finished = run(operations, workloads, locks=["l"])
    assert finished.log("w") == [(0, 0, 2, OK), (1, 0, 4, OK)]
    assert finished.log("v") == [(0, 0, 2, OK)]
    assert finished.times("w")[1] == {"s.lock l": (2, 0), "s.delay": (0, 2)}


def observed(keys):
    return f"""
hosts: {{h: {{cpu: 1}}}}
caches: {{c: {{entries: 20}}}}
services: {{s: {{host: h, operations: {{o: [{{lookup: c, key: {keys}, miss: [{{delay: 1 ms}}]}}]}}}}}}
workloads: {{w: {{rate: 1k/s, operation: s.o}}}}
"""


def test_keys_as_popular_as_in_a_log_hit_as_often_as_the_law_that_they_follow(tmp_path):
    """A file with the weights of Zipf's law, in any order, does what the law does, on both engines alike."""
    weights = [1000.0 / rank for rank in range(1, 101)]
    (tmp_path / "log.csv").write_text("requests\n" + "\n".join(f"{each!r}" for each in reversed(weights)))
    (tmp_path / "model.yaml").write_text(observed("{observed: log.csv}"))
    measured, law = sim.load(tmp_path / "model.yaml"), sim.loads(observed("{zipf: {count: 100, exponent: 1}}"))
    hits = [
        sim.run(each, sim.Settings(duration=20.0, jobs=1)).resources["caches.c"].hit_ratio for each in (measured, law)
    ]
    assert hits[0].value == pytest.approx(hits[1].value, abs=2e-3)
    program = sim.lower(measured)
    digests = {sim.simulate(program, 2.0, seed=1, engine=engine).digest() for engine in ("simpy", "compiled")}
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("counts", "message"), [("[0, 0]", "every count is 0"), ("[3, -1]", "at least 0"), ("[]", "list")]
)
def test_counts_of_keys_that_say_nothing_are_refused(counts, message):
    with pytest.raises(InputError, match=message):
        sim.loads(observed(f"{{observed: {{counts: {counts}}}}}"))
