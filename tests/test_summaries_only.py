"""Runs that keep no requests: the figures and digest of runs that do, quantiles as near as is said, flat memory."""

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_engines_agree import tandem

from simulator.engines import compiled, simpy, simulate
from simulator.engines.compiled.state import Sizes
from simulator.errors import ConservationError
from simulator.model.files import load, loads
from simulator.model.lowering import lower
from simulator.program.stations import Servers
from simulator.records import STATION_FIELDS, RequestTable, sampling_times
from simulator.results.conservation import check
from simulator.results.estimate import Estimate
from simulator.results.latencies import RELATIVE_ERROR, ExactLatencies, SketchCollector, joined
from simulator.results.replication import Reduction
from simulator.results.warm_up import Transient, mser5
from simulator.study.compare import compare
from simulator.study.run import Settings, run

HERE = Path(__file__).parent
WEB_SHOP = HERE.parent / "models" / "web-shop.yaml"
ENGINES = ["simpy", "compiled"]
BUSY = """
name: busy
hosts: {app: {cpu: 2}, db: {cpu: 1}}
services:
  web:
    host: app
    workers: 4
    queue_limit: 3
    operations:
      get: [{compute: {exponential: 4 ms}}]
      put: [{compute: 2 ms}, {call: db.write, timeout: 8 ms, retries: 1}]
  db: {host: db, operations: {write: [{compute: {exponential: 3 ms}}]}}
workloads:
  users: {rate: 200/s, mix: {web.get: 70%, web.put: 30%}}
  staff: {users: 3, think: {exponential: 20 ms}, operation: web.get}
objectives: ["users: p95 < 1 s"]
"""
CONSTANT = """
name: constant
hosts: {app: {cpu: 100}}
services: {web: {host: app, operations: {get: [{delay: 10 ms}, {compute: 1 us}]}}}
workloads: {users: {rate: 100/s, operation: web.get}}
"""


class Copies:
    """Keeps copies of what it is lent."""

    def __init__(self):
        self.chunks = []

    def __call__(self, workload, requests):
        copied = {name: column.copy() for name, column in requests.columns().items()}
        self.chunks.append((workload, dataclasses.replace(requests, **copied)))


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of seven requests on both engines, so that short runs have many of them."""
    monkeypatch.setattr("simulator.engines.simpy.recorder.CHUNK", 7)
    monkeypatch.setattr("simulator.engines.compiled.state.CHUNK", 7)


def columns_of(tables):
    return {name: np.concatenate([table.columns()[name] for table in tables]) for name in tables[0].columns()}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("system", [loads(BUSY), load(WEB_SHOP)], ids=["busy", "web-shop"])
def test_requests_are_handed_on_just_as_they_would_be_kept(system, engine, small_chunks):
    program = lower(system)
    kept, copies = simulate(program, 1.5, engine=engine), Copies()
    handed_on = simulate(program, 1.5, engine=engine, consume=copies)
    assert handed_on.requests == ()
    for number, table in enumerate(kept.requests):
        chunks = [chunk for workload, chunk in copies.chunks if workload == number]
        assert len(chunks) > len(table) // 10
        for name, column in columns_of(chunks).items():
            assert np.array_equal(column, table.columns()[name], equal_nan=True), name
    for name in ("times", "stations", "workloads"):
        assert np.array_equal(getattr(kept, name), getattr(handed_on, name))
    assert kept.digest() == handed_on.digest()


@pytest.mark.parametrize("engine", ENGINES)
def test_the_digest_is_the_same_at_the_real_size_of_chunks(engine):
    program = tandem([Servers("s", 4)], 1.0, 3.0)
    digests = {simulate(program, 7_000.0, engine=engine, consume=consume).digest() for consume in (None, Copies())}
    assert len(digests) == 1
    other = simulate(program, 7_000.0, seed=2, engine="compiled", consume=Copies())
    assert other.digest() not in digests


def test_almost_no_room_makes_no_difference():
    program, copies = lower(loads(BUSY)), Copies()
    tight = Sizes(tokens=1, scopes=1, holds=1, keys=1, entries=1, rows=1, block_bits=1, budget=3)
    compiled.simulate(program, 3.0, 1, sizes=tight, consume=copies)
    for number, table in enumerate(simpy.simulate(program, 3.0, 1).requests):
        found = columns_of([chunk for workload, chunk in copies.chunks if workload == number])
        for name, column in table.columns().items():
            assert np.array_equal(column, found[name], equal_nan=True), name


@pytest.mark.parametrize("windows", [1, 2, 3, 7, 200])
@pytest.mark.parametrize("engine", ENGINES)
def test_when_engines_sample_is_known_before(engine, windows):
    records = simulate(tandem([Servers("s", 1)]), 97.3, engine=engine, windows=windows)
    assert np.array_equal(records.times, sampling_times(97.3, windows))


# Figures


def estimates(results, path=()):
    """Every estimate of nested results, by path."""
    if isinstance(results, Estimate):
        yield path, results
    elif dataclasses.is_dataclass(results):
        for field in dataclasses.fields(results):
            yield from estimates(getattr(results, field.name), (*path, field.name))
    elif isinstance(results, dict):
        for name, value in results.items():
            yield from estimates(value, (*path, name))


def without_quantiles(results):
    data = {**results.to_json(), "wall_s": 0, "quantile_relative_error": 0, "objectives": []}
    for workload in data["workloads"].values():
        for each in (workload, *workload["operations"].values()):
            each["latency_s"] = each["latency_s"] and each["latency_s"]["mean"]
    return data


@pytest.mark.parametrize("replications", [1, 4])
@pytest.mark.parametrize("engine", ENGINES)
def test_all_but_quantiles_is_equal_to_the_last_bit(engine, replications, small_chunks):
    system, chosen = loads(BUSY), Settings(duration=4.0, replications=replications, engine=engine)
    full, summary = run(system, chosen), run(system, dataclasses.replace(chosen, summaries_only=True))
    assert full.warm_up_s > 0.0
    assert without_quantiles(full) == without_quantiles(summary)
    assert (full.quantile_relative_error, summary.quantile_relative_error) == (0.0, RELATIVE_ERROR)
    found, quantiles = dict(estimates(summary)), 0
    for path, exact in estimates(full):
        if path[-2] == "latency_s" and path[-1] != "mean" and not math.isnan(exact.value):
            assert found[path].value == pytest.approx(exact.value, rel=RELATIVE_ERROR)
            assert found[path].low <= exact.value <= found[path].high or math.isnan(exact.low)
            quantiles += 1
    assert quantiles >= 10
    for exact, sketched in zip(full.objectives, summary.objectives, strict=True):
        assert (exact.name, exact.met) == (sketched.name, sketched.met)


def test_errors_and_retries_are_among_what_was_compared():
    users = run(loads(BUSY), Settings(duration=4.0, replications=2, summaries_only=True)).workloads["users"]
    assert set(users.errors) == {"queue full", "timeout"}
    assert users.retries_per_request.value > 0.0


def series_of(replication):
    """Every number that a replication sums up, flat."""
    for workload in replication.workloads:
        for name in ("samples", "failures", "retries", "wait", "service"):
            yield getattr(workload, name)
        for operation in workload.operations:
            yield from (getattr(operation, name) for name in operation.__slots__)


@pytest.mark.parametrize("sketched", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 1000, 10**9])
def test_however_requests_are_cut_the_sums_are_the_same_to_the_last_bit(rows, sketched):
    program = lower(loads(BUSY))
    records = simulate(program, 6.0)
    whole, cut = (Reduction(program, 6.0, sketched) for _ in range(2))
    for index, table in enumerate(records.requests):
        whole.take(index, table)
        for chunk in table.chunks(rows):
            cut.take(index, chunk)
    one, other = whole.replication(records), cut.replication(records)
    assert (one.transient, one.transient_found) == (other.transient, other.transient_found)
    for before, after in zip(series_of(one), series_of(other), strict=True):
        assert np.array_equal(before, after)


# Sketches


def sketch_of(values):
    collector = SketchCollector(2)
    collector.add(np.ones(len(values), np.int64), np.asarray(values, dtype=float))
    return collector.series(np.array([0.0, float(np.sum(values))])).between(0, 1)


TIMES = st.one_of(
    st.just(0.0),
    st.floats(2.3e-308, 1.7e308),
    st.floats(1e-9, 1e4),
    st.integers(1, 40).map(lambda n: n * 0.001),
)


@given(st.lists(TIMES, min_size=1, max_size=60), st.floats(0.0, 1.0))
def test_a_quantile_is_within_the_stated_error(values, share):
    with np.errstate(over="ignore"):
        sketch, exact = sketch_of(values), float(np.quantile(values, share))
    assert sketch.count == len(values)
    if math.isfinite(exact):  # numpy overflows between numbers that are far apart
        assert abs(sketch.quantile(share) - exact) <= RELATIVE_ERROR * exact * (1 + 1e-12)


def test_the_error_is_no_smaller_than_is_stated():
    """The bound is that of a bin's lower edge, and reached there."""
    assert sketch_of([1.0]).quantile(0.5) == 1.0 + RELATIVE_ERROR
    assert RELATIVE_ERROR <= 0.005


def test_zero_and_nothing():
    assert sketch_of([0.0, 0.0, 0.0]).quantile(0.99) == 0.0
    assert math.isnan(sketch_of([]).quantile(0.5))
    assert sketch_of([]).count == 0
    assert 0.0 <= sketch_of([5e-324]).quantile(0.5) < 1e-308


@given(st.lists(st.lists(TIMES, max_size=9), min_size=1, max_size=6), st.floats(0.0, 1.0))
def test_sketches_of_parts_join_to_that_of_the_whole(parts, share):
    with np.errstate(over="ignore"):
        both = joined([sketch_of(part) for part in parts])
        whole = sketch_of([value for part in parts for value in part])
    assert both.count == whole.count
    assert both.quantile(share) == pytest.approx(whole.quantile(share), nan_ok=True, rel=1e-15)


@given(st.lists(st.tuples(st.integers(1, 4), TIMES), max_size=50).map(sorted), st.integers(1, 7))
def test_a_tick_may_be_spread_over_chunks(drawn, size):
    ticks, values = np.array([tick for tick, _ in drawn], np.int64), np.array([value for _, value in drawn])
    whole, cut = SketchCollector(5), SketchCollector(5)
    whole.add(ticks, values)
    for first in range(0, len(drawn), size):
        cut.add(ticks[first : first + size], values[first : first + size])
    for name in ("bins", "counts", "before"):
        assert np.array_equal(getattr(whole.series(np.zeros(5)), name), getattr(cut.series(np.zeros(5)), name))
    between = cut.series(np.zeros(5)).between(1, 3)
    assert between.count == np.count_nonzero((ticks == 2) | (ticks == 3))


def test_exact_latencies_join_in_order():
    parts = [ExactLatencies(np.array([1.0, 2.0]), 3.0), ExactLatencies(np.array([3.0]), 3.0)]
    assert joined(parts).quantile(0.5) == 2.0
    assert (joined(parts).count, joined(parts).total) == (3, 6.0)


# What the error means for a user


def test_the_interval_of_a_constant_latency_holds_it():
    latency = run(loads(CONSTANT), Settings(duration=20.0, summaries_only=True)).workloads["users"].latency_s
    assert latency["p50"].low < 0.010001 < latency["p50"].high
    assert latency["p50"].half_width < 0.005 * 0.01
    assert latency["mean"].value == pytest.approx(0.010001, rel=1e-9)


def test_a_difference_below_the_error_is_not_called_none():
    first, second = loads(CONSTANT), loads(CONSTANT.replace("10 ms", "10.001 ms"))
    chosen = Settings(duration=20.0)
    exact = {each.metric: each for each in compare(first, second, chosen).differences["users"]}
    sketched = {
        each.metric: each
        for each in compare(first, second, dataclasses.replace(chosen, summaries_only=True)).differences["users"]
    }
    assert exact["p50"].significant
    assert not sketched["p50"].significant
    assert sketched["p50"].difference.contains(exact["p50"].difference.value)
    assert sketched["p50"].ratio.contains(exact["p50"].ratio.value)
    assert sketched["mean"] == exact["mean"]


def test_a_difference_above_the_error_is_seen():
    first, second = loads(CONSTANT), loads(CONSTANT.replace("10 ms", "10.2 ms"))
    found = compare(first, second, Settings(duration=20.0, summaries_only=True)).differences["users"]
    assert {each.metric for each in found if each.significant} >= {"mean", "p50", "p95"}


# The initial transient


def response_times(requests, seed, load=0.8):
    """Response times and ends of about that many requests to an M/M/1 queue that starts empty, service rate 1."""
    program = tandem([Servers("s", 1)], 1.0, load)
    table = simulate(program, requests / load, seed, engine="compiled").requests[0]
    done = table.outcome == 0
    return (table.end - table.arrival)[done], table.end[done]


@pytest.mark.parametrize("seed", range(8))
def test_in_a_short_run_the_transient_is_that_of_mser5(seed):
    times, ends = response_times(20_000, seed)
    transient, cut = Transient(), mser5(times)
    transient.add(times, ends)
    assert transient.length() == (ends[cut.truncate] if cut.truncate else 0.0, cut.found)


@pytest.mark.parametrize(("requests", "doublings"), [(400_000, 1), (1_500_000, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_in_a_long_run_larger_batches_find_it_within_a_sampling_step(seed, requests, doublings):
    times, ends = response_times(requests, seed)
    transient, cut = Transient(), mser5(times)
    for first in range(0, len(times), 10_000):
        transient.add(times[first : first + 10_000], ends[first : first + 10_000])
    assert transient.doublings == doublings
    length, found = transient.length()
    assert found == cut.found
    assert abs(length - (ends[cut.truncate] if cut.truncate else 0.0)) <= requests / 0.8 / 200


@pytest.mark.parametrize("seed", range(4))
def test_a_clear_transient_is_found_after_many_doublings(seed):
    times = np.random.default_rng(seed).exponential(1.0, 100_000)
    times[:12_345] += 2.0
    ends = np.arange(100_000.0)
    transient, cut = Transient(most=1 << 10), mser5(times)
    transient.add(times, ends)
    assert transient.doublings == 5
    assert cut.truncate == pytest.approx(12_345, abs=20)
    length, found = transient.length()
    assert found
    assert abs(length - cut.truncate) <= 1000  # a hundredth of the series, six of the large batches


@given(st.integers(0, 700), st.lists(st.integers(1, 60), min_size=1, max_size=8))
def test_however_a_series_is_cut_its_batches_are_the_same(count, sizes):
    generator = np.random.default_rng(count)
    times, ends = generator.random(count), np.arange(float(count))
    whole, cut = Transient(most=16), Transient(most=16)
    whole.add(times, ends)
    first = 0
    while first < count:
        size = sizes[first % len(sizes)]
        cut.add(times[first : first + size], ends[first : first + size])
        first += size
    assert (whole.count, whole.doublings) == (cut.count, cut.doublings)
    assert np.array_equal(whole.means[: whole.count], cut.means[: cut.count])
    size = 5 << whole.doublings
    assert np.array_equal(whole.ends[: whole.count], ends[::size][: whole.count])
    means = times[: whole.count * size].reshape(whole.count, size).mean(axis=1)
    assert whole.means[: whole.count] == pytest.approx(means, rel=1e-12)
    assert whole.count == count // size


# Laws


def tampered(requests: RequestTable, **changes) -> RequestTable:
    return dataclasses.replace(requests, **{name: change(getattr(requests, name)) for name, change in changes.items()})


@pytest.mark.parametrize(
    ("changes", "law"),
    [
        ({"arrival": lambda times: times - 1e-3, "wait": lambda times: times + 5e-4}, "Little's law"),
        ({"outcome": lambda outcomes: np.where(outcomes == 0, 1, outcomes)}, "completed"),
        ({"service": lambda times: 2 * times}, "components of a request"),
    ],
)
def test_laws_are_checked_without_records(changes, law):
    program = tandem([Servers("a", 1), Servers("b", 1)])
    copies = Copies()
    records = simulate(program, 500.0, consume=copies)
    fine, broken = Reduction(program, 500.0, sketched=True), Reduction(program, 500.0, sketched=True)
    for workload, chunk in copies.chunks:
        fine.take(workload, chunk)
    fine.replication(records)

    def check():
        for workload, chunk in copies.chunks:
            broken.take(workload, tampered(chunk, **changes))
        broken.replication(records)

    with pytest.raises(ConservationError, match=law):
        check()


SLOW = """
hosts: {{app: {{cpu: 1}}}}
services: {{web: {{host: app, operations: {{get: [{{compute: {work}}}]}}}}}}
workloads: {{users: {{rate: {rate}, operation: web.get}}}}
"""


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("rate", "work", "resolved"),
    [
        ("1/h", "100 us", True),
        ("1/min", "1 us", True),
        ("1e-6/s", "1 ms", True),
        ("1e-7/s", "1 ms", False),
        ("1e-300/s", "1 ms", False),
    ],
)
def test_laws_and_warnings_know_that_the_clock_of_a_long_run_goes_in_steps(rate, work, resolved):
    results = run(loads(SLOW.format(rate=rate, work=work)), Settings(replications=2))
    assert results.verdict == "stable"
    said = [each for each in results.warnings if "are not resolved at a duration of" in each]
    assert bool(said) is not resolved
    latency = results.workloads["users"].latency_s
    assert latency is not None
    exact = {"100 us": 1e-4, "1 us": 1e-6, "1 ms": 1e-3}[work]
    assert (latency["mean"].value == pytest.approx(exact, rel=1e-3)) or not resolved


@pytest.mark.parametrize("work", ["1e20 s", "1e308 s"])
def test_laws_know_that_work_is_rounded_that_no_run_is_long_enough_for(work):
    results = run(loads(SLOW.format(rate="1/s", work=work)), Settings(replications=2, duration=2000.0))
    assert results.workloads["users"].throughput_per_s.value == 0.0
    assert not results.stable


@pytest.mark.parametrize(("rate", "work"), [("50/s", "10 ms"), ("1/s", "1 s"), ("1/min", "1 s")])
def test_the_utilisation_law_is_held_to_a_millionth_where_the_clock_resolves_that(rate, work):
    program = lower(loads(SLOW.format(rate=rate, work=work)))
    records = simulate(program, 10_000.0)
    check(records, program)
    number = next(n for n, station in enumerate(program.stations) if station.resource == "hosts.app.cpu")
    broken = records.stations.copy()
    broken[-1, number, STATION_FIELDS.index("busy_area")] *= 1.0 + 2e-6
    with pytest.raises(ConservationError, match="utilisation law"):
        check(dataclasses.replace(records, stations=broken), program)


# The command line


@pytest.fixture
def tpsim(tpsim, tmp_path, monkeypatch):
    """Run the command to its success, in a folder with the busy model."""
    (tmp_path / "busy.yaml").write_text(BUSY)
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        outcome = tpsim(*arguments)
        assert outcome.code == 0
        return outcome

    return run


QUICK = ("-d", "1s", "-r", "2", "-j", "1")
RUN = ("run", "busy.yaml", "-d", "1s", "-r", "2")


def test_the_table_and_json_state_the_error(tpsim):
    quick = (*RUN, "-j", "1")
    assert "quantiles  within 0.39% of the requests', of which none is kept" in tpsim(*quick, "--summaries-only").out
    assert "quantiles" not in tpsim(*quick).out
    assert json.loads(tpsim(*quick, "--summaries-only", "--json").out)["quantile_relative_error"] == RELATIVE_ERROR
    assert json.loads(tpsim(*quick, "--json").out)["quantile_relative_error"] == 0.0


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "busy.yaml", "--to", "hosts.app.cpu=3"),
        ("sweep", "busy.yaml", "--vary", "hosts.app.cpu=2,3"),
        ("capacity", "busy.yaml", "--tolerance", "40%", "--objective", "users: p95 < 20 ms"),
    ],
)
def test_other_verbs_take_it_too(tpsim, arguments):
    found = tpsim(*arguments, *QUICK, "--summaries-only").out
    assert found
    assert found != tpsim(*arguments, *QUICK).out


def test_files_have_no_requests_and_that_is_said(tpsim, tmp_path):
    tpsim(*RUN, "-o", "out", "-j", "1")
    assert (tmp_path / "out" / "requests.parquet").exists()
    written = tpsim(*RUN, "-o", "out", "--summaries-only", "-j", "1")
    assert written.err == "tpsim: no requests.parquet: --summaries-only keeps no requests\n"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "levels.parquet", "model.yaml", "run.json", "summary.json",
    ]  # fmt: skip


def test_any_number_of_jobs_writes_the_same_bytes(tpsim, tmp_path):
    for jobs in ("1", "2"):
        tpsim(*RUN, "-o", f"out{jobs}", "--summaries-only", "-j", jobs)
    for path in (tmp_path / "out1").iterdir():
        one, other = path.read_bytes(), (tmp_path / "out2" / path.name).read_bytes()
        if path.name == "run.json":
            one, other = ({**json.loads(text), "wall_s": 0} for text in (one, other))
        assert one == other, path.name


# Memory

PEAK = """
import resource, sys
from test_engines_agree import Servers, tandem
from simulator.study.run import Task, replicate
program = tandem([Servers(f"s{n}", 1) for n in range(3)])
reduced, _ = replicate(Task(program, float(sys.argv[1]), 1, 0, sys.argv[2], False, summaries_only=True))
print(reduced.requests, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak_memory(requests, engine):
    """Requests simulated at a rate of 1/s in a new process, and its peak memory (MiB)."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(requests), engine], cwd=HERE, capture_output=True, text=True, check=True
    )
    return tuple(map(int, done.stdout.split()))


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "few", "many"), [("compiled", 500_000, 4_000_000), ("simpy", 50_000, 300_000)])
def test_memory_does_not_grow_with_the_number_of_requests(engine, few, many):
    (small, before), (large, after) = peak_memory(few, engine), peak_memory(many, engine)
    assert (small, large) == (pytest.approx(few, rel=0.01), pytest.approx(many, rel=0.01))
    assert after - before < 8
