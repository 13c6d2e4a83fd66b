"""Demands against hand computation, and against what the reference engine measures."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from simulator.analytic.caches import che_hit_ratio, fifo_hit_ratio, lfu_hit_ratio, ttl_hit_ratio
from simulator.analytic.demands import Demand, Facts, WorkloadFacts, facts, flows
from simulator.distributions import Constant, Exponential, Zipf
from simulator.engines import compiled
from simulator.engines.simpy import simulate
from simulator.model.files import loads
from simulator.model.lowering import lower
from simulator.program.arrivals import Renewal
from simulator.program.instructions import End, Fork, Jump, Loop, Next, Place, Retry, Work
from simulator.program.program import Draw, Entry, Program, Workload
from simulator.program.stations import Servers
from simulator.records import COMPLETED, STATION_FIELDS, Records
from simulator.report.tables import check_tables

OPEN = "{rate: 10/s, operation: web.get}"


def program_of(
    steps: str, host: str = "{cpu: 4}", service: str = "", more: str = "", operations: str = "", workload: str = OPEN
) -> Program:
    """A Program of one service `web` on the host `app`, whose operation `get` does `steps`."""
    return lower(
        loads(f"""
hosts: {{app: {host}, other: {{cpu: 2}}}}
services:
  web: {{host: app, {service} operations: {{get: {steps}, {operations} nothing: []}}}}
workloads: {{shop: {workload}}}
{more}
""")
    )


def demand(found: Facts | WorkloadFacts, resource: str) -> Demand:
    workload = found.workloads[0] if isinstance(found, Facts) else found
    return next(each for each in workload.demands if each.resource == resource)


def cpu(found: Facts) -> float:
    return demand(found, "hosts.app.cpu").demand


def response(found: Facts) -> float:
    return found.workloads[0].zero_load_response


def test_one_station() -> None:
    found = facts(program_of("[{compute: {exponential: 5 ms}}]"))
    assert demand(found, "hosts.app.cpu") == Demand("hosts.app.cpu", 1.0, 0.005, 4.0, pytest.approx(800.0))
    assert response(found) == pytest.approx(0.005)
    assert found.saturated_resource == "hosts.app.cpu"
    assert found.saturation_factor == pytest.approx(80.0)
    assert found.saturation_throughput == pytest.approx(800.0)
    resource = next(each for each in found.resources if each.resource == "hosts.app.cpu")
    assert (resource.kind, resource.instances, resource.capacity) == ("sharing", 1, 4.0)
    assert (resource.demand_rate, resource.utilization) == pytest.approx((0.05, 0.0125))


def test_speed_shortens_the_time_and_the_table_of_rates_bounds_it() -> None:
    host = "{cpu: {cores: 4, speed: 2, threads_per_core: 2, smt_yield: 1.25}}"
    found = facts(program_of("[{compute: 8 ms}]", host))
    assert response(found) == pytest.approx(0.004)
    assert demand(found, "hosts.app.cpu").saturation == pytest.approx(4 * 2 * 1.25 / 0.008)


def test_choices_split_the_flow() -> None:
    inner = "{choose: [{probability: 0.5, steps: [{compute: 8 ms}]}, {probability: 0.5, steps: [{delay: 1 s}]}]}"
    steps = (
        f"[{{choose: [{{probability: 0.25, steps: [{inner}]}}, {{probability: 0.75, steps: []}}]}}, {{compute: 1 ms}}]"
    )
    found = facts(program_of(steps))
    assert cpu(found) == pytest.approx(0.125 * 0.008 + 0.001)
    assert demand(found, "hosts.app.cpu").visits == pytest.approx(1.125)
    assert response(found) == pytest.approx(0.125 * 0.008 + 0.125 * 1.0 + 0.001)


@pytest.mark.parametrize(
    ("times", "turns"), [("3", 3.0), ("2.5", 3.0), ("0", 0.0), ("{exponential: 2.6}", 2.6), ("{exponential: 0.3}", 0.3)]
)
def test_loops_multiply_their_body(times: str, turns: float) -> None:
    steps = (
        f"[{{repeat: {times}, steps: [{{compute: 2 ms}}, {{repeat: 2, steps: [{{delay: 3 ms}}]}}]}}, {{compute: 1 ms}}]"
    )
    found = facts(program_of(steps))
    assert cpu(found) == pytest.approx(turns * 0.002 + 0.001)
    assert response(found) == pytest.approx(turns * 0.008 + 0.001)


@pytest.mark.parametrize(("need", "time"), [("", 0.03), ("need: 2, ", 0.02), ("need: 1, unfinished: continue, ", 0.01)])
def test_forks_work_on_all_branches_and_wait_for_those_needed(need: str, time: float) -> None:
    branches = "[[{compute: 30 ms}], [{compute: 10 ms}], [{delay: 15 ms}, {compute: 5 ms}]]"
    found = facts(program_of(f"[{{{need}parallel: {branches}}}, {{compute: 1 ms}}]"))
    assert cpu(found) == pytest.approx(0.046)
    assert response(found) == pytest.approx(time + 0.001)


def test_calls_go_to_replicas_in_equal_shares() -> None:
    found = facts(
        lower(
            loads("""
hosts: {app: {cpu: 4}, data: {cpu: 2, count: 2}}
services:
  web: {host: app, operations: {get: [{compute: 1 ms}, {call: db.query}, {call: db.query}]}}
  db: {host: data, replicas: 3, workers: 5, operations: {query: [{compute: 6 ms}]}}
workloads: {shop: {rate: 10/s, operation: web.get}}
network: {latency: 1 ms}
""")
        )
    )
    data, workers = demand(found, "hosts.data.cpu"), demand(found, "services.db.workers")
    assert (data.visits, data.demand, data.capacity) == pytest.approx((2.0, 0.012, 4.0))
    assert (workers.visits, workers.demand, workers.capacity) == pytest.approx((2.0, 0.012, 15.0))
    assert response(found) == pytest.approx(0.001 + 2 * (0.002 + 0.006))
    # Two of three replicas are on the first of two hosts.
    assert data.saturation == pytest.approx(2.0 / (2 / 3 * 0.012))
    resource = next(each for each in found.resources if each.resource == "hosts.data.cpu")
    assert resource.utilization == pytest.approx(0.12 / 4)
    assert resource.busiest_utilization == pytest.approx(0.08 / 2)


def test_a_replica_leaves_the_other_hosts_idle() -> None:
    found = facts(program_of("[{compute: 5 ms}]", "{cpu: 1, count: 4}", "replicas: 1,"))
    assert demand(found, "hosts.app.cpu").capacity == 4.0
    assert found.saturation_throughput == pytest.approx(200.0)


def test_locks_are_held_over_their_steps() -> None:
    fork = "{parallel: [[{compute: 4 ms}], [{delay: 6 ms}]]}"
    steps = f"[{{repeat: 2, steps: [{{lock: row, steps: [{{compute: 10 ms}}, {fork}]}}]}}, {{delay: 50 ms}}]"
    found = facts(program_of(steps, "{cpu: {cores: 4, speed: 2}}", more="locks: [row]"))
    assert demand(found, "locks.row") == Demand("locks.row", 2.0, pytest.approx(0.022), 1.0, pytest.approx(1 / 0.022))
    assert found.saturated_resource == "locks.row"
    assert response(found) == pytest.approx(0.072)


def test_threads_are_held_throughout_and_event_loops_while_they_compute() -> None:
    steps = "[{compute: 5 ms}, {delay: 20 ms}, {compute: 1 ms}]"
    threads = demand(facts(program_of(steps, service="workers: 8,")), "services.web.workers")
    assert (threads.visits, threads.demand, threads.saturation) == pytest.approx((1.0, 0.026, 8 / 0.026))
    loops = demand(facts(program_of(steps, service="workers: 8, worker_model: event_loop,")), "services.web.workers")
    assert (loops.visits, loops.demand, loops.saturation) == pytest.approx((2.0, 0.006, 8 / 0.006))


def test_counted_but_unlimited_workers_do_not_saturate() -> None:
    found = facts(program_of("[{delay: 5 ms}]", "{cpu: 1, count: 2}", "balancer: least_outstanding,"))
    workers = demand(found, "services.web.workers")
    assert (workers.demand, workers.capacity, workers.saturation) == pytest.approx((0.005, math.inf, math.inf))
    assert (found.saturated_resource, found.saturation_factor) == (None, math.inf)
    assert found.saturation_throughput == math.inf
    assert found.saturation_of("services.web.workers") is None


def test_memory_is_held_in_byte_seconds_one_hold_inside_another() -> None:
    steps = "[{hold: 100 MB, steps: [{delay: 10 ms}, {hold: {exponential: 1 MB}, steps: [{delay: 30 ms}]}]}]"
    found = facts(program_of(steps, "{cpu: 1, memory: 1 GB}"))
    memory = demand(found, "hosts.app.memory")
    assert (memory.visits, memory.demand) == pytest.approx((2.0, 100e6 * 0.04 + 1e6 * 0.03))
    assert memory.saturation == pytest.approx(1e9 / memory.demand)


def test_disks_and_networks() -> None:
    host = "{cpu: 1, disk: {iops: 1000, queue_depth: 4, bandwidth: 100 MB/s}, nic: {bandwidth: 8 Mbit/s, overhead: 2}}"
    steps = "[{read: 4 kB, times: 3}, {write: 8 kB}, {transfer: 1 kB}, {transfer: 2 kB, direction: in}]"
    found = facts(program_of(steps, host))
    disk, bandwidth = demand(found, "hosts.app.disk"), demand(found, "hosts.app.disk.bandwidth")
    assert (disk.visits, disk.demand, disk.saturation) == pytest.approx((4.0, 0.016, 250.0))
    assert (bandwidth.demand, bandwidth.saturation) == pytest.approx((20e3, 5000.0))
    assert demand(found, "hosts.app.nic.out").saturation == pytest.approx(500.0)
    assert demand(found, "hosts.app.nic.in").saturation == pytest.approx(250.0)
    assert response(found) == pytest.approx(0.016 + 20e3 / 100e6 + 3e3 / 0.5e6)


def test_a_rate_limit_saturates() -> None:
    found = facts(program_of("[{delay: 1 ms}]", service="rate_limit: 50/s,"))
    assert demand(found, "services.web.rate_limit") == Demand("services.web.rate_limit", 1.0, 1.0, 50.0, 50.0, "1")
    assert found.saturation_factor == pytest.approx(5.0)


def test_closed_workloads_are_told_from_the_open_load_and_count_beside_it() -> None:
    """Of 4 cores open requests use half a core, and users, 60 of them a request every 520 ms, 2.3 more."""
    system = loads("""
        hosts: {app: {cpu: 4}}
        services: {web: {host: app, operations: {get: [{compute: 5 ms}], edit: [{compute: 20 ms}]}}}
        workloads:
          visitors: {rate: 100/s, operation: web.get}
          staff: {users: 60, think: 500 ms, operation: web.edit}
    """)
    found = facts(lower(system))
    assert (found.saturated_resource, found.saturation_factor) == ("hosts.app.cpu", pytest.approx(8.0))
    assert (found.busy_resource, found.busy_factor) == ("hosts.app.cpu", pytest.approx(4.0 / (0.5 + 60 * 0.02 / 0.52)))
    console = Console(width=80)
    with console.capture() as capture:
        console.print(*check_tables("m", found, 0.0))
    assert "at 8 times the open load alone" in capture.get()
    assert "from 1.42 times all of this load on at the earliest" in capture.get()


def test_without_closed_workloads_all_of_the_load_is_open() -> None:
    found = facts(lower(loads("""
        hosts: {app: {cpu: 4}}
        services: {web: {host: app, operations: {get: [{compute: 5 ms}]}}}
        workloads: {visitors: {rate: 100/s, operation: web.get}}
    """)))  # fmt: skip
    assert (found.busy_resource, found.busy_factor) == (None, math.inf)


def test_demands_are_shown_in_the_unit_of_their_work() -> None:
    steps = "[{compute: 5 ms}, {hold: 50 MB, steps: [{delay: 10 ms}]}, {read: 4 kB}, {transfer: 20 kB}]"
    disk = "{iops: 10k/s, latency: 100 us, bandwidth: 100 MB/s}"
    host = f"{{cpu: 4, memory: 8 GB, disk: {disk}, nic: {{bandwidth: 8 Mbit/s}}}}"
    found = facts(program_of(steps, host))
    units = {each.resource.removeprefix("hosts.app."): each.unit for each in found.workloads[0].demands}
    assert units == {"cpu": "s", "memory": "B s", "disk.iops": "1", "disk.bandwidth": "B", "nic.out": "B"}
    console = Console(width=80)
    with console.capture() as capture:
        for table in check_tables("shop", found, 0.0):
            console.print(table)
    rows = {line.split()[0]: line.split("  ") for line in capture.get().splitlines() if "  " in line}
    shown = {name: [cell.strip() for cell in rows[f"hosts.app.{name}"] if cell.strip()][2:4] for name in units}
    assert shown == {
        "cpu": ["5 ms", "4"], "memory": ["500 kB × s", "8 GB"], "disk.iops": ["1", "10k/s"],
        "disk.bandwidth": ["4 kB", "100 MB/s"], "nic.out": ["20 kB", "1 MB/s"],
    }  # fmt: skip


LOOKUP = "{{lookup: page, key: {key}, hit: [{{delay: 1 ms}}], miss: [{{compute: 20 ms}}]}}"


@pytest.mark.parametrize(
    ("eviction", "formula"), [("lru", che_hit_ratio), ("fifo", fifo_hit_ratio), ("lfu", lfu_hit_ratio)]
)
def test_caches_hit_by_their_formulas(eviction: str, formula: Any) -> None:
    steps = f"[{LOOKUP.format(key='{zipf: {count: 500, exponent: 0.8}}')}]"
    found = facts(program_of(steps, more=f"caches: {{page: {{entries: 60, eviction: {eviction}}}}}"))
    hits = formula(Zipf(500, 0.8).probabilities(), 60)
    assert cpu(found) == pytest.approx((1 - hits) * 0.02)
    assert response(found) == pytest.approx((1 - hits) * 0.02 + hits * 0.001)
    page = demand(found, "caches.page")
    assert (page.visits, page.saturation) == (1.0, math.inf)


@pytest.mark.parametrize(
    ("first", "second", "tolerance"),
    [
        ("entries: 500", "entries: 1000", 0.03),
        ("entries: 500", "entries: 500", 0.06),
        ("entries: 500", "entries: 200", 0.01),
        ("entries: 50", "entries: 500", 0.03),
        ("entries: 100, eviction: fifo", "entries: 500, eviction: fifo", 0.05),
        ("entries: 100, eviction: lfu", "entries: 500", 0.03),
    ],
)
def test_a_cache_behind_another_is_asked_for_what_that_one_misses(first: str, second: str, tolerance: float) -> None:
    inner = "{lookup: second, key: page, miss: [{compute: 1 ms}]}"
    program = program_of(
        f"[{{lookup: first, key: page, miss: [{inner}]}}]",
        more=f"keys: {{page: {{zipf: {{count: 2000, exponent: 0.9}}}}}}\n"
        f"caches: {{first: {{{first}}}, second: {{{second}}}}}",
        workload="{rate: 1000/s, operation: web.get}",
    )
    records = compiled.simulate(program, 200.0, seed=1)
    late = records.stations[-1] - records.stations[len(records.stations) // 2]
    asked, missed = [], []
    for name in ("caches.first", "caches.second"):
        (number,) = program.resources()[name]
        asked.append(late[number, STATION_FIELDS.index("arrivals")])
        missed.append(asked[-1] - late[number, STATION_FIELDS.index("hits")])
    misses, missed_twice = (each / asked[0] for each in missed)
    found = facts(program)
    assert demand(found, "caches.second").visits == pytest.approx(misses, abs=0.02)
    assert cpu(found) / 1e-3 == pytest.approx(missed_twice, abs=tolerance * misses)


@pytest.mark.parametrize("eviction", ["lru", "fifo", "lfu"])
def test_caches_behind_one_with_room_for_all_are_asked_for_nothing(eviction: str) -> None:
    third = "{lookup: third, key: page, miss: [{compute: 1 ms}]}"
    second = f"{{lookup: second, key: page, miss: [{third}]}}"
    caches = (
        f"first: {{entries: 50, start: warm}}, second: {{entries: 10, eviction: {eviction}, start: warm}}, "
        "third: {entries: 10, time_to_live: 1 s, start: warm}"
    )
    found = facts(
        program_of(
            f"[{{lookup: first, key: page, miss: [{second}]}}]",
            more=f"keys: {{page: {{uniform: 50}}}}\ncaches: {{{caches}}}",
        )
    )
    assert [each.resource for each in found.workloads[0].demands] == ["caches.first"]


RETRIED = """
hosts: {{app: {{cpu: 4}}, other: {{cpu: 4}}}}
services:
  web: {{host: app, workers: 50, operations: {{get: [{{call: it.do, {guard}}}, compute: 1 ms]}}}}
  it:
    host: other
    operations:
      do: [compute: 10 ms, choose: [{{probability: 30%, steps: [fail: no]}}, {{probability: 70%, steps: []}}]]
network: {{latency: 0 s}}
workloads: {{w: {{rate: 100/s, operation: web.get}}}}
"""


@pytest.mark.parametrize("guard", ["retries: {most: 2, backoff: 20 ms, jitter: 50%}", "retries: 2, timeout: 10 s"])
def test_what_is_known_to_fail_is_tried_again(guard: str) -> None:
    program = lower(loads(RETRIED.format(guard=guard)))
    found = facts(program)
    tries, reached = 1 + 0.3 + 0.09, 1 - 0.3**3
    waited = 0.75 * (0.3 * 0.02 + 0.09 * 0.04) if "backoff" in guard else 0.0
    assert demand(found, "hosts.other.cpu").demand == pytest.approx(tries * 0.01)
    assert demand(found, "hosts.app.cpu").demand == pytest.approx(reached * 0.001)
    assert response(found) == pytest.approx(tries * 0.01 + waited + reached * 0.001)
    assert demand(found, "services.web.workers").demand == pytest.approx(response(found))
    records = compiled.simulate(program, 200.0, seed=1)
    (number,) = program.resources()["hosts.other.cpu"]
    visits = records.stations[-1, number, STATION_FIELDS.index("arrivals")] / 200.0 / 100.0
    assert visits == pytest.approx(tries, rel=0.03)


def test_another_key_is_not_known_to_be_missed() -> None:
    inner = "{lookup: second, key: other, miss: [{compute: 1 ms}]}"
    found = facts(
        program_of(
            f"[{{lookup: first, key: page, miss: [{inner}]}}]",
            more="keys: {page: {zipf: {count: 2000, exponent: 0.9}}, other: {zipf: {count: 500, exponent: 0.8}}}\n"
            "caches: {first: {entries: 100}, second: {entries: 60}}",
        )
    )
    misses = 1.0 - che_hit_ratio(Zipf(2000, 0.9).probabilities(), 100)
    assert cpu(found) == pytest.approx(misses * 1e-3 * (1.0 - che_hit_ratio(Zipf(500, 0.8).probabilities(), 60)))


def test_entries_expire_where_the_rate_of_lookups_is_known() -> None:
    more = "caches: {page: {entries: 60, time_to_live: 2 s}}"
    steps = f"[{{repeat: 3, steps: [{LOOKUP.format(key='{uniform: 100}')}]}}]"
    hits = ttl_hit_ratio(np.ones(100), 30.0, 2.0)
    assert hits < 0.6
    assert cpu(facts(program_of(steps, more=more))) == pytest.approx(3 * (1 - hits) * 0.02)
    closed = facts(program_of(steps, more=more, workload="{users: 5, think: 1 s, operation: web.get}"))
    assert cpu(closed) == pytest.approx(3 * 0.4 * 0.02)


def test_lookups_share_a_store_by_how_often_they_come() -> None:
    few, many = LOOKUP.format(key="{uniform: 10}"), LOOKUP.format(key="{uniform: 100}")
    choice = f"{{choose: [{{probability: 0.5, steps: [{few}]}}, {{probability: 0.5, steps: []}}]}}"
    found = facts(program_of(f"[{choice}, {many}]", more="caches: {page: {entries: 20, eviction: lfu}}"))
    # Of three lookups one is for 10 keys and two are for 100, these 10 among them: 20 % + 10/3 % + 1/3.
    kept = 1 / 3 + 2 / 3 * 20 / 100
    assert cpu(found) == pytest.approx(1.5 * (1 - kept) * 0.02)


def test_a_closed_workload_weighs_in_a_store_at_zero_load() -> None:
    few = "{lookup: page, key: {uniform: 10}, hit: [{delay: 1 s}], miss: [{delay: 1 s}]}"
    many = LOOKUP.format(key="{uniform: 100}")
    mixed = lower(
        loads(f"""
hosts: {{app: {{cpu: 4}}}}
services: {{web: {{host: app, operations: {{few: [{few}], many: [{many}]}}}}}}
caches: {{page: {{entries: 20, eviction: lfu}}}}
workloads:
  staff: {{users: 40, think: 3 s, operation: web.few}}
  shop: {{rate: 20/s, operation: web.many}}
""")
    )
    # The users come 40 / (3 + 1) = 10 times a second.
    kept = 1 / 3 + 2 / 3 * 20 / 100
    assert demand(facts(mixed).workloads[1], "hosts.app.cpu").demand == pytest.approx((1 - kept) * 0.02)


def test_handlers_have_no_flow() -> None:
    steps = "[{call: web.slow, timeout: 1 s, on_timeout: abandon, retries: 3}, {compute: 1 ms}]"
    workload = "{rate: 10/s, operation: web.get, timeout: 5 s, deadline: 9 s, retries: {most: 2, backoff: 1 s}}"
    program = program_of(steps, operations="slow: [{compute: 7 ms}],", workload=workload)
    flow = flows(program, 0)
    retries = [pc for pc, instruction in enumerate(program.instructions) if isinstance(instruction, Retry)]
    assert len(retries) == 2
    assert not flow[retries].any()
    found = facts(program)
    assert (cpu(found), response(found)) == pytest.approx((0.008, 0.008))


def test_what_fails_on_the_way_ends_there() -> None:
    more = "externals: {bank: {latency: 100 ms, failures: 20%, concurrency: 2}}"
    steps = "[{compute: 1 ms}, {repeat: 3, steps: [{external: bank}]}, {compute: 10 ms}]"
    found = facts(program_of(steps, more=more))
    assert demand(found, "externals.bank").demand == pytest.approx((1 + 0.8 + 0.64) * 0.1)
    assert cpu(found) == pytest.approx(0.001 + 0.8**3 * 0.010)
    assert response(found) == pytest.approx(0.001 + 2.44 * 0.1 + 0.512 * 0.010)


def test_a_fork_goes_on_where_enough_branches_succeed() -> None:
    more = "externals: {bank: {latency: 100 ms, failures: 20%}}"
    steps = "[{need: 2, parallel: [[{external: bank}], [{external: bank}], [{delay: 1 ms}]]}, {compute: 10 ms}]"
    assert cpu(facts(program_of(steps, more=more))) == pytest.approx((1 - 0.2**2) * 0.010)


def test_a_fail_step_ends_the_request() -> None:
    gone = facts(program_of("[{compute: 2 ms}, {fail: gone}, {compute: 1 ms}]"))
    assert (cpu(gone), response(gone)) == pytest.approx((0.002, 0.002))


def test_messages_work_but_nobody_waits_for_them() -> None:
    steps = "[{lock: row, steps: [{repeat: 2, steps: [{publish: web.log}]}, {compute: 1 ms}]}]"
    found = facts(program_of(steps, operations="log: [{compute: 9 ms}],", more="locks: [row]"))
    assert cpu(found) == pytest.approx(0.019)
    assert (response(found), demand(found, "locks.row").demand) == pytest.approx((0.001, 0.001))


def test_closed_users() -> None:
    def staff(users: int) -> WorkloadFacts:
        steps = "[{compute: 40 ms}, {delay: 60 ms}]"
        found = facts(
            program_of(steps, workload=f"{{users: {users}, think: {{exponential: 1.9 s}}, operation: web.get}}")
        )
        assert (found.saturated_resource, found.saturation_factor) == (None, math.inf)
        return found.workloads[0]

    few, many = staff(10), staff(1000)
    assert (few.offered_per_s, few.users, few.think) == (None, 10, 1.9)
    assert few.throughput_bound == few.expected_throughput == pytest.approx(10 / 2.0)
    assert many.throughput_bound == many.saturation_throughput == pytest.approx(4 / 0.040)
    assert (few.saturation_users, few.saturated_resource) == (pytest.approx(200.0), "hosts.app.cpu")


def test_operations_mix_by_their_shares() -> None:
    workload = "{rate: 10/s, mix: {web.get: 0.8, web.put: 0.2}, latency: 3 ms}"
    found = facts(program_of("[{compute: 5 ms}]", operations="put: [{compute: 20 ms}],", workload=workload))
    assert cpu(found) == pytest.approx(0.008)
    assert response(found) == pytest.approx(0.014)
    first, second = found.workloads[0].operations
    assert (first.operation, first.share, first.zero_load_response) == ("web.get", 0.8, pytest.approx(0.011))
    assert (second.operation, second.demands[0].demand) == ("web.put", pytest.approx(0.020))


def test_open_workloads_saturate_together() -> None:
    found = facts(
        lower(
            loads("""
hosts: {app: {cpu: 4}, other: {cpu: 1}}
services:
  web: {host: app, operations: {get: [{compute: 5 ms}]}}
  log: {host: other, operations: {add: [{compute: 3 ms}, {call: web.get}]}}
workloads:
  shop: {rate: 100/s, operation: web.get}
  audit: {bursty: [{rate: 10/s, duration: 1 s}, {rate: 40/s, duration: 2 s}], operation: log.add}
  staff: {users: 3, operation: web.get}
""")
        )
    )
    audit = (10 * 1 + 40 * 2) / 3
    assert found.workloads[1].offered_per_s == pytest.approx(audit)
    assert found.saturated_resource == "hosts.app.cpu"
    assert found.saturation_factor == pytest.approx(4 / (0.005 * (100 + audit)))
    assert found.saturation_throughput == pytest.approx(4 / 0.005)
    assert found.workloads[1].saturated_resource == "hosts.other.cpu"
    assert found.saturation_of("hosts.other.cpu") == pytest.approx(1 / (0.003 * audit))


def test_arrivals_all_at_once_have_no_rate_to_saturate_at() -> None:
    found = facts(program_of("[{compute: 5 ms}]", workload="{replay: {times: [0 s, 0 s]}, operation: web.get}"))
    assert (found.saturated_resource, found.saturation_factor) == (None, math.inf)
    assert math.isnan(found.workloads[0].offered_per_s or 0.0)


def handmade(*instructions: Any) -> Program:
    draws = (Draw("constant", Constant(2.0)), Draw("service", Exponential(0.1)), Draw("constant", Constant(0.0)))
    entries = (Entry("get", 0, 1.0),)
    workload = Workload("shop", Renewal(Exponential(1.0)), entries, 2, ("cpu",), 2)
    return Program("handmade", (Servers("disk", 1),), draws, instructions, (), (workload,))


def test_flows_of_every_instruction() -> None:
    visit = Work(Place((0,)), 0, 1)
    program = handmade(Loop(1, 0, 3), visit, Next(1, 1), Fork((5, 5), 2), Jump(7), visit, End(), End())
    assert flows(program, 0).tolist() == [1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0, 1.0]
    assert response(facts(program)) == pytest.approx(2 * 0.1 + 1.5 * 0.1, rel=1e-3)  # max of two exponential times


def test_code_that_jumps_back_is_refused() -> None:
    with pytest.raises(ValueError, match="instruction 1 jumps back to 0"):
        facts(handmade(Work(Place((0,)), 0, 1), Jump(0), End()))


leaves = st.floats(0.1, 50.0).map(lambda time: [("compute", time)])


def _join(steps: list[list[Any]]) -> list[Any]:
    return [step for part in steps for step in part]


steps_strategy = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(_join),
        st.tuples(st.integers(1, 9), inner, inner).map(lambda parts: [("choose", *parts)]),
        st.tuples(st.integers(0, 4), inner).map(lambda parts: [("repeat", *parts)]),
        st.tuples(inner, inner).map(lambda parts: [("parallel", *parts)]),
        inner.map(lambda steps: [("lock", steps)]),
    ),
    max_leaves=8,
)


def _text(steps: list[Any], factor: float) -> str:
    return f"[{', '.join(_step_text(step, factor) for step in steps)}]"


def _step_text(step: Any, factor: float) -> str:
    match step:
        case ("compute", time):
            return f"{{compute: {{exponential: {time * factor} ms}}}}"
        case ("choose", tenths, one, other):
            parts = ((tenths / 10, one), (1 - tenths / 10, other))
            options = ", ".join(f"{{probability: {share}, steps: {_text(steps, factor)}}}" for share, steps in parts)
            return f"{{choose: [{options}]}}"
        case ("repeat", times, steps):
            return f"{{repeat: {times}, steps: {_text(steps, factor)}}}"
        case ("parallel", one, other):
            return f"{{parallel: [{_text(one, factor)}, {_text(other, factor)}]}}"
        case _:
            return f"{{lock: row, steps: {_text(step[1], factor)}}}"


@settings(max_examples=40)
@given(steps_strategy)
def test_halving_all_compute_times_doubles_the_saturation_factor(steps: list[Any]) -> None:
    whole, half = (
        facts(program_of(_text(steps, factor), service="workers: 3,", more="locks: [row]")) for factor in (1.0, 0.5)
    )
    assert half.saturation_factor == pytest.approx(2 * whole.saturation_factor)
    assert half.saturated_resource == whole.saturated_resource
    assert response(half) == pytest.approx(response(whole) / 2)


ONE_USER = """
hosts:
  app: {cpu: {cores: 4, speed: 1.5}, count: 2, memory: 1 GB, nic: 100 Mbit/s}
  data: {cpu: 2, disk: {iops: 500, queue_depth: 2, bandwidth: 50 MB/s}}
services:
  web:
    host: app
    workers: 4
    operations:
      get:
        - compute: {exponential: 6 ms}
        - hold: {exponential: 10 MB}
          steps:
            - choose:
                - {probability: 0.3, steps: [{call: db.query, request: 2 kB, response: 100 kB, timeout: 100 s}]}
                - {probability: 0.7, steps: [{delay: {gamma: {mean: 8 ms, cv: 2}}}]}
            - repeat: {uniform: {low: 0.5, high: 4.5}}
              steps: [{compute: {exponential: 2 ms}}, {external: bank}]
        - parallel: [[{compute: 3 ms}], [{delay: 9 ms}], [{lock: row, steps: [{compute: 6 ms}]}]]
      put: [{lock: row, steps: [{call: db.query, retries: 2}]}]
  db:
    host: data
    worker_model: event_loop
    workers: 1
    operations:
      query:
        - lookup: page
          key: {zipf: {count: 300, exponent: 0.9}}
          miss: [{read: {exponential: 16 kB}, times: 2}]
        - compute: {exponential: 4 ms}
caches: {page: {entries: 50}}
locks: [row]
externals: {bank: {latency: {exponential: 5 ms}, concurrency: 1}}
network: {latency: 0.5 ms}
workloads:
  staff: {users: 1, think: {exponential: 20 ms}, mix: {web.get: 0.7, web.put: 0.3}, latency: 1 ms}
"""


@pytest.fixture(scope="module")
def one_user() -> tuple[Program, Records]:
    program = lower(loads(ONE_USER))
    return program, simulate(program, 1000.0, seed=5)


def test_zero_load_response_is_what_a_single_user_sees(one_user: tuple[Program, Records]) -> None:
    program, records = one_user
    found, table = facts(program).workloads[0], records.requests[0]
    ended = table.outcome == COMPLETED
    times = table.end[ended] - table.arrival[ended]
    assert abs(times.mean() - found.zero_load_response) < 4 * times.std() / math.sqrt(len(times))
    for number, operation in enumerate(found.operations):
        one = times[table.operation[ended] == number]
        assert abs(one.mean() - operation.zero_load_response) < 4 * one.std() / math.sqrt(len(one))


def test_demands_are_what_a_single_user_asks(one_user: tuple[Program, Records]) -> None:
    program, records = one_user
    found = facts(program).workloads[0]
    completed = np.diff(records.workloads[:, 0, 2])
    busy = np.diff(records.stations[:, :, STATION_FIELDS.index("busy_area")], axis=0)
    visits = np.diff(records.stations[:, :, STATION_FIELDS.index("arrivals")], axis=0)
    resources = program.resources()
    assert len(found.demands) == 12
    for one in found.demands:
        stations = list(resources[one.resource])
        compared = (
            [(visits, one.visits)] if one.resource.startswith("caches") else [(busy, one.demand), (visits, one.visits)]
        )
        for measured, expected in compared:
            gaps = measured[:, stations].sum(axis=1) - expected * completed
            assert abs(gaps.sum()) < 4 * gaps.std() * math.sqrt(len(gaps)) + expected, one.resource


def test_overloaded_three_times_a_system_does_what_saturates_it() -> None:
    system = loads("""
hosts: {app: {cpu: 2, count: 2}, data: {cpu: 4, disk: {iops: 400, queue_depth: 2}}}
services:
  web:
    host: app
    workers: 16
    operations: {get: [{compute: {exponential: 10 ms}}, {call: db.query}], about: [{compute: {exponential: 4 ms}}]}
  db: {host: data, workers: 8, operations: {query: [{choose: [
    {probability: 0.5, steps: [{read: 4 kB}, {compute: 1 ms}]}, {probability: 0.5, steps: []}]}]}}
workloads:
  shop: {rate: 10/s, operation: web.get}
  bots: {rate: 5/s, operation: web.about}
""")
    found = facts(lower(system))
    assert found.saturated_resource == "hosts.app.cpu"
    assert found.saturation_throughput == pytest.approx(15 * 4 / (10 * 0.010 + 5 * 0.004))
    program = lower(system.scaled(3 * found.saturation_factor))
    records = simulate(program, 60.0, seed=3)
    middle = len(records.times) // 2
    completed = (records.workloads[-1] - records.workloads[middle])[:, 2].sum()
    # Memoryless services at a busy station: completions vary as a Poisson process does, here 0.8 %.
    expected = found.saturation_throughput * records.duration / 2
    assert abs(completed - expected) < 3 * math.sqrt(expected)
    assert facts(program).saturation_factor == pytest.approx(1 / 3)
