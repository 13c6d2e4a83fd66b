"""Databases: by hand, and against Erlang's formula, Che's approximation, order statistics and lag theory."""

import math

import numpy as np
import pytest

import simulator as sim
from simulator.analytic.caches import che_hit_ratio
from simulator.analytic.queues import mmc
from simulator.distributions import Zipf
from simulator.hashing import buckets_of


def model(operations, workload, tables=None, *, database=None, db=None, host=None, **sections):
    """A service `db` on a host with a disk of 1 ms an operation, as many at a time as there are."""
    tables = tables or {"t": {"key": "k"}}
    return {
        "hosts": {"h": {"cpu": 64, "disk": {"iops": 1_000_000, "queue_depth": 1000, "cv": 0}, **(host or {})}},
        "services": {"db": {"host": "h", "operations": operations, **(db or {})}},
        "keys": {"k": {"zipf": {"count": 10_000, "exponent": 0.8}}},
        "databases": {"d": {"tables": tables, **(database or {})}},
        "workloads": {"w": {"operation": "db.op", **workload}},
        **sections,
    }


def program_of(document):
    return sim.lower(sim.System.model_validate(document))


def response(document):
    """Mean response time when nobody waits, in seconds."""
    return sim.facts(program_of(document)).workloads[0].zero_load_response


def runs(program, seconds, replications=10):
    return [sim.simulate(program, seconds, seed=seed, engine="compiled") for seed in range(replications)]


def error_of(values):
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))


RATE = {"rate": "1/s"}


def test_an_index_is_descended_and_a_table_without_one_is_read_whole():
    # 10 000 rows of 200 bytes: 81 on a page of 16 KiB, 124 pages; 409 entries of 40 bytes: two levels.
    query = {"op": [{"query": "d.t", "cpu": "1 ms"}]}
    costs = {"page_cpu": "10 us", "row_cpu": "1 us"}
    assert response(model(query, RATE, database=costs)) == pytest.approx(1e-3 + 2 * 10e-6)
    without = model(query, RATE, {"t": {"key": "k", "index": False}}, database=costs)
    assert response(without) == pytest.approx(1e-3 + 124 * 10e-6 + 10_000 * 1e-6)
    million = model(query, RATE, {"t": {"key": "k", "rows": "100M"}}, database=costs)
    assert response(million) == pytest.approx(1e-3 + 4 * 10e-6)


def test_a_shard_has_its_share_of_the_rows():
    query = {"op": [{"query": "d.t", "cpu": "0 s"}]}
    costs = {"page_cpu": "10 us", "row_cpu": "1 us", "shards": 4}
    document = model(query, RATE, {"t": {"key": "k", "index": False}}, database=costs)
    assert response(document) == pytest.approx((124 * 10e-6 + 10_000 * 1e-6) / 4)


def test_a_scan_reads_what_is_not_in_memory_in_runs_of_pages():
    query = {"op": [{"query": "d.t", "cpu": "0 s"}]}
    free = {"page_cpu": "0 s", "row_cpu": "0 s", "read_ahead": 10}
    document = model(query, RATE, {"t": {"key": "k", "index": False}}, database={**free, "hit_ratio": 0.5})
    assert response(document) == pytest.approx(math.ceil(62 / 10) * 1e-3)


def test_rows_of_a_query_are_each_fetched():
    # N + 1: a row whose page is missing costs a read each.
    query = {"op": [{"query": "d.t", "cpu": "0 s", "rows": 21}]}
    document = model(query, RATE, database={"hit_ratio": "75%", "page_cpu": "0 s"})
    assert response(document) == pytest.approx(21 * 0.25 * 1e-3)


def test_an_update_writes_its_log_and_a_page_of_every_index():
    update = {"op": [{"update": "d.t", "cpu": "1 ms"}]}
    database = {"hit_ratio": "0%", "page_cpu": "10 us"}
    for indexes in (0, 3):
        document = model(update, RATE, {"t": {"key": "k", "indexes": indexes}}, database=database)
        assert response(document) == pytest.approx(1e-3 + (1 + indexes) * (2 * 10e-6 + 1e-3) + 1e-3)
    unlogged = model(update, RATE, database={**database, "log_write": "0 B"})
    assert response(unlogged) == pytest.approx(1e-3 + 2 * 10e-6 + 1e-3)


def test_write_back_costs_writes_that_nobody_waits_for():
    update = {"op": [{"update": "d.t", "cpu": "0 s"}]}
    pool = {"buffer_pool": "1 GiB", "page_cpu": "0 s", "log_write": "0 B"}
    tables = {"t": {"key": "k", "indexes": 1}}
    for share, writes in (("0%", 0.0), ("50%", 1.0), ("100%", 2.0)):
        document = model(update, RATE, tables, database={**pool, "write_back": share})
        facts = sim.facts(program_of(document))
        assert facts.workloads[0].zero_load_response == pytest.approx(0.0, abs=1e-9)
        visits = {each.resource: each.visits for each in facts.workloads[0].demands}
        assert visits.get("hosts.h.disk", 0.0) == pytest.approx(writes)


@pytest.mark.slow
def test_connections_are_a_queue_of_erlangs():
    rate, mean, connections = 350.0, 0.010, 4
    query = {"op": [{"query": "d.t", "cpu": {"exponential": "10 ms"}}]}
    document = model(query, {"rate": f"{rate}/s"}, database={"page_cpu": "0 s"}, db={"workers": connections})
    waits = [float(each.requests[0].wait.sum() / len(each.requests[0])) for each in runs(program_of(document), 600.0)]
    assert abs(np.mean(waits) - mmc(rate, mean, connections).wait) < 4.0 * error_of(waits)


@pytest.mark.parametrize("layout", ["scattered", "clustered"])
def test_the_buffer_pool_hits_as_ches_approximation_says(layout):
    query = {"op": [{"query": "d.t"}]}
    pool = {"buffer_pool": "512 KiB", "page": "4 KiB"}
    tables = {"t": {"key": "k", "row": "1 KiB", "layout": layout}}
    program = program_of(model(query, {"rate": "1000/s"}, tables, database=pool))
    [number] = program.resources()["databases.d.db.buffer_pool"]
    finals = [each.stations[-1, number] for each in runs(program, 20.0)]
    hits = np.array([final[6] / final[2] for final in finals])
    rows = Zipf(10_000, 0.8).probabilities()
    page = buckets_of(10_000, 2500, 1000) if layout == "scattered" else np.arange(10_000) // 4
    expected = che_hit_ratio(np.bincount(page, rows), 128)
    assert abs(hits.mean() - expected) < 4.0 * error_of(hits) + 0.005
    computed = model(query, RATE, tables, database={**pool, "hit_ratio": "computed", "page_cpu": "0 s"})
    computed["services"]["db"]["operations"]["op"][0]["cpu"] = "0 s"
    assert response(computed) == pytest.approx((1.0 - expected) * 1e-3)


@pytest.mark.slow
def test_the_share_of_stale_reads_is_that_of_rows_with_an_update_on_its_way():
    """An M/G/infinity system of updates for every row: some is on its way with probability 1 - exp(-rate * lag)."""
    operations = {"op": [{"update": "d.t", "cpu": "0 s"}]}
    document = model(
        operations,
        {"rate": "200/s"},
        database={
            "replicas": {"service": "reads", "lag": {"exponential": "50 ms"}},
            "page_cpu": "0 s",
            "log_write": "0 B",
        },
    )
    document["services"]["reads"] = {
        "host": "h",
        "replicas": 2,
        "operations": {"get": [{"query": "d.t", "cpu": "0 s"}]},
    }
    document["workloads"]["readers"] = {"rate": "1000/s", "operation": "reads.get"}
    program = program_of(document)
    numbers = list(program.resources()["databases.d.stale_reads"])
    found = []
    for each in runs(program, 60.0):
        total = each.stations[-1, numbers].sum(axis=0)
        found.append(total[6] / total[2])
    popularity = Zipf(10_000, 0.8).probabilities()
    expected = float(popularity @ -np.expm1(-200.0 * 0.05 * popularity))
    assert abs(np.mean(found) - expected) < 4.0 * error_of(found)
    assert error_of(found) < 0.02 * expected


def test_replicas_apply_one_update_after_the_other():
    # 40 updates a second of 50 ms of CPU, applied in half of it: the one that applies is busy all the time.
    replicas = {"service": "reads", "apply": "50%", "lag": "10 ms"}
    document = model({"op": [{"update": "d.t", "cpu": "50 ms"}]}, {"rate": "40/s"}, database={"replicas": replicas})
    document["services"]["reads"] = {"host": "h", "operations": {"get": [{"query": "d.t"}]}}
    document["workloads"]["readers"] = {"rate": "1/s", "operation": "reads.get"}
    assert sim.facts(program_of(document)).saturation_of("databases.d.apply") == pytest.approx(1.0)


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_an_update_is_applied_in_the_memory_of_each_replica(engine):
    """Also where the replicas' memory is first used by what applies updates, before any query is met."""
    database = {"replicas": {"service": "reads", "lag": "1 ms"}, "buffer_pool": "1 MiB", "write_back": 0}
    document = model({"op": [{"update": "d.t", "cpu": "0 s"}]}, {"rate": "100/s"}, database=database)
    document["services"]["reads"] = {
        "host": "h", "replicas": 2, "balancer": "round_robin", "operations": {"get": [{"query": "d.t", "cpu": "0 s"}]},
    }  # fmt: skip
    document["workloads"] = {
        "w": {"operation": "db.op", "rate": "100/s", "arrivals": "constant"},
        "x": {"operation": "reads.get", "rate": "50/s", "arrivals": "constant"},
    }
    program = program_of(document)
    records = sim.simulate(program, 10.005, seed=1, engine=engine)
    pools = list(program.resources()["databases.d.reads.buffer_pool"])
    # 1,000 updates at both, and half of 500 queries at each.
    assert records.stations[-1, pools, 2].tolist() == pytest.approx([1250.0, 1250.0], abs=1.5)


def test_a_hot_row_limits_updates_where_rows_are_locked():
    update = {"op": [{"update": "d.t", "cpu": "10 ms"}]}
    free = {"page_cpu": "0 s", "log_write": "0 B"}
    document = model(update, {"rate": "100/s"}, database=free)
    document["keys"]["k"] = {"zipf": {"count": 2, "exponent": 1.0}}
    share = 2 / 3
    facts = sim.facts(program_of(document))
    assert facts.saturation_of("databases.d.t.locks") == pytest.approx(1.0 / (100 * 0.010 * share))
    document["services"]["db"]["operations"]["op"][0]["lock"] = False
    assert sim.facts(program_of(document)).saturation_of("databases.d.t.locks") is None


@pytest.mark.slow
@pytest.mark.parametrize("need", [1, 2, 3])
def test_a_quorum_takes_as_long_as_its_slowest_needed_answer(need):
    document = model({"op": [{"scatter": "store.get", "need": need}]}, {"rate": "20/s"})
    document["services"]["store"] = {
        "host": "h",
        "replicas": 3,
        "operations": {"get": [{"delay": {"exponential": "10 ms"}}]},
    }
    found = []
    for each in runs(program_of(document), 200.0):
        table = each.requests[0]
        done = table.outcome == 0
        found.append(float((table.end - table.arrival)[done].mean()))
    expected = 0.010 * sum(1.0 / (3 - number) for number in range(need))
    assert abs(np.mean(found) - expected) < 4.0 * error_of(found)


BAD = {
    "query: d.t\n": ("query: d.tt\n", "no database named 'd.tt'; did you mean 'd.t'"),
    "key: k": ("key: kk", "databases.d.tables.t.key: no key named 'kk'; did you mean 'k'"),
    "service: db,": ("service: dbb,", "no service named 'dbb'; did you mean 'db'"),
    "page: 8 KiB": ("page: 0 B", "expected a size above 0"),
    "buffer_pool: 1 MiB": ("buffer_pool: 1 KiB", "expected a buffer_pool of one page at least"),
    "hit_ratio: simulated": ("hit_ratio: 50%", "expected a buffer_pool or a given hit_ratio, got both"),
    "rows: 100": ("rows: 1.5", "expected a whole number >= 1"),
}
GOOD = """
hosts: {h: {cpu: 1, disk: 100 IOPS}}
services:
  db:
    host: h
    operations:
      op:
        - query: d.t
keys: {k: {uniform: 10}}
databases:
  d:
    page: 8 KiB
    buffer_pool: 1 MiB
    hit_ratio: simulated
    tables: {t: {key: k, rows: 100}}
    replicas: {service: db, lag: 1 ms}
workloads: {w: {rate: 1/s, operation: db.op}}
""".replace("disk: 100 IOPS", "disk: {iops: 100}")


@pytest.mark.parametrize("good", BAD)
def test_bad_databases_are_reported(good):
    bad, message = BAD[good]
    assert good in GOOD
    sim.loads(GOOD)
    with pytest.raises(sim.InputError) as error:
        sim.loads(GOOD.replace(good, bad))
    assert message in str(error.value)
