"""Tier 3: what must not change, or must change in a known way, when a model is changed in a known way."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from simulator.analytic.queues import mmck
from simulator.model.files import loads
from simulator.model.system import System
from simulator.records import COMPLETED, Records
from simulator.results.estimate import Estimate
from simulator.results.results import Results, to_json
from simulator.study.compare import compare
from simulator.study.run import Experiment, Settings, run, widest_interval

RICH = """
name: shop
hosts:
  app: {{cpu: 4, nic: {{bandwidth: 1 MB/s}}, count: 2}}
  db: {{cpu: 2, disk: {{iops: {iops}, queue_depth: 4, cv: 0.5}}}}
services:
  web:
    host: app
    workers: 16
    queue_limit: 40
    balancer: least_outstanding
    operations:
      browse:
        - compute: {{gamma: {{mean: {two}, cv: 1.5}}}}
        - lookup: products
          key: {{zipf: {{count: 1000, exponent: 0.9}}}}
          miss: [{{call: db.read, timeout: {thirty_two}, retries: {{most: 2, backoff: {four}, jitter: 1}}}}]
      checkout:
        - compute: {{exponential: {four}}}
        - parallel:
            - - call: db.write
            - - external: payments
        - publish: web.mail
      mail:
        - compute: {{erlang: {{mean: {two}, stages: 3}}}}
  db:
    host: db
    workers: 20
    operations:
      read:
        - compute: {{hyperexponential: {{mean: {one}, cv: 2}}}}
        - read: 8 KiB
      write:
        - lock: stock
          steps:
            - compute: {{weibull: {{mean: {one}, shape: 0.8}}}}
            - write: 8 KiB
caches:
  products: {{entries: 200}}
locks: [stock]
externals:
  payments: {{latency: {{lognormal: {{mean: {sixteen}, cv: 0.5}}}}, failures: 1%}}
workloads:
  shoppers:
    rate: {rate}/s
    mix: {{web.browse: 80%, web.checkout: 20%}}
    deadline: {thousand}
  staff:
    users: 8
    think: {{exponential: {thirty_two}}}
    operation: web.browse
run: {{seed: 3, replications: 4, duration: {duration}, warm_up: {warm_up}}}
"""


def rich(scale: float = 1.0, rate_scale: float | None = None, overrides: tuple[str, ...] = ()) -> System:
    """A model with something of everything, all of whose times are multiplied by `scale` and rates divided by it."""
    names = {"one": 1, "two": 2, "four": 4, "sixteen": 16, "thirty_two": 32, "thousand": 1000}
    times = {name: f"{factor * scale!r} ms" for name, factor in names.items()}
    rate = rate_scale or 1.0 / scale
    text = RICH.format(
        **times, rate=300 * rate, iops=2000 / scale, duration=f"{4 * scale!r} s", warm_up=f"{scale / 2!r} s"
    ).replace("1 MB/s", f"{1 / scale!r} MB/s")
    return loads(text, overrides)


def bare(results: Results) -> str:
    """The results as JSON text, without the time that they took."""
    return json.dumps(results.to_json() | {"wall_s": None})


def records_of(system: System, seed: int = 1) -> list[Records]:
    kept: list[Records] = []
    run(system, Settings(seed=seed, keep=kept.append))
    return kept


class TestSameBytes:
    def test_the_same_seed_gives_the_same_bytes(self):
        first, second = run(rich()), run(rich())
        assert bare(first) == bare(second)
        assert first.digest == second.digest

    def test_worker_processes_change_nothing(self):
        alone, together = run(rich(), Settings(jobs=1)), run(rich(), Settings(jobs=2))
        assert bare(alone) == bare(together)

    def test_another_seed_gives_other_bytes(self):
        assert run(rich()).digest != run(rich(), Settings(seed=4)).digest

    def test_replications_differ(self):
        assert len({records.digest() for records in records_of(rich())}) == 4

    def test_replications_added_later_are_those_run_at_once(self):
        grown = Experiment(rich(), Settings(replications=2))
        grown.extend(2)
        grown.extend(5)
        at_once = run(rich(), Settings(replications=5))
        assert bare(grown.results()) == bare(at_once)


ONE = """
hosts: {h: {cpu: 2, disk: {iops: 900}}}
services: {s: {host: h, workers: 3, operations: {o: [{compute: {exponential: 3 ms}}, {read: 4 kB}]}}}
workloads: {w: {rate: 400/s, operation: s.o}}
run: {replications: 3, duration: 10 s, warm_up: 1 s}
"""


class TestUnrelatedComponents:
    """Warm-up and duration are given: found ones depend on everything in the model."""

    ADDED = (
        ("hosts: {", "hosts: {a: {cpu: 1, disk: {iops: 50}}, "),
        ("services: {", "services: {a: {host: a, operations: {o: [{compute: {exponential: 9 ms}}, {read: 1 B}]}}, "),
        ("workloads: {", "workloads: {a: {rate: 30/s, operation: a.o}, "),
    )

    def test_an_unrelated_workload_leaves_latencies_exactly_as_they_were(self):
        text = ONE
        for old, new in self.ADDED:
            text = text.replace(old, new)
        alone, beside = run(loads(ONE)), run(loads(text))
        assert "a" in beside.workloads
        assert to_json(beside.workloads["w"]) == to_json(alone.workloads["w"])
        for name in ("hosts.h.cpu", "hosts.h.disk", "services.s.workers"):
            assert beside.resources[name] == alone.resources[name]

    def test_so_it_does_after_the_others(self):
        text = ONE.replace(
            "workloads: {w: {rate: 400/s, operation: s.o}}",
            "workloads:\n  w: {rate: 400/s, operation: s.o}\n"
            "  a: {users: 5, think: {exponential: 20 ms}, operation: a.o}",
        )
        for old, new in self.ADDED[:2]:
            text = text.replace(old, new)
        assert to_json(run(loads(text)).workloads["w"]) == to_json(run(loads(ONE)).workloads["w"])

    def test_an_unused_operation_changes_nothing(self):
        text = ONE.replace("operations: {", "operations: {unused: [compute: 1 s], ")
        assert run(loads(text)).digest == run(loads(ONE)).digest

    def test_a_related_workload_does_change_them(self):
        text = ONE.replace("workloads: {", "workloads: {a: {rate: 30/s, operation: s.o}, ")
        assert run(loads(text)).workloads["w"].latency_s != run(loads(ONE)).workloads["w"].latency_s


class TestScalingTime:
    @pytest.mark.parametrize("factor", [0.5, 4.0])
    def test_latencies_scale_exactly_with_time(self, factor: float):
        base, other = run(rich()), run(rich(factor))
        for name, workload in base.workloads.items():
            changed = other.workloads[name]
            assert workload.latency_s is not None
            assert changed.latency_s is not None
            for which, latency in workload.latency_s.items():
                assert scaled(latency, factor) == scaled(changed.latency_s[which], 1.0), (name, which)
            for component, time in workload.breakdown.items():
                assert scaled(time.wait_s, factor) == scaled(changed.breakdown[component].wait_s, 1.0)
                assert scaled(time.service_s, factor) == scaled(changed.breakdown[component].service_s, 1.0)
            assert scaled(workload.throughput_per_s, 1 / factor) == scaled(changed.throughput_per_s, 1.0)
            assert to_json(changed.errors) == to_json(workload.errors)
        for name, resource in base.resources.items():
            assert other.resources[name].utilization == resource.utilization
            assert other.resources[name].queue_mean == resource.queue_mean

    def test_a_rate_left_alone_breaks_it(self):
        base, other = run(rich()), run(rich(0.5, rate_scale=1.0))
        latency, changed = base.workloads["shoppers"].latency_s, other.workloads["shoppers"].latency_s
        assert latency is not None
        assert changed is not None
        assert changed["mean"].value != 0.5 * latency["mean"].value

    def test_a_client_far_away_sees_the_same_system_later(self):
        near, far = (records_of(loads(ONE, [f"workloads.w.latency={latency}"])) for latency in ("0 s", "10 ms"))
        for one, other in zip(near, far, strict=True):
            response, later = response_by_number(one), response_by_number(other)
            both = response.keys() & later.keys()
            assert len(both) > 3000
            assert max(abs(later[number] - response[number] - 0.02) for number in both) < 1e-9


def scaled(estimate: Estimate, factor: float) -> list[float | None]:
    """Value and bounds times a factor; NaN as None, which equals itself."""
    numbers = (estimate.value, estimate.low, estimate.high)
    return [None if math.isnan(number) else number * factor for number in numbers]


def response_by_number(records: Records) -> dict[int, float]:
    table = records.requests[0]
    done = table.outcome == COMPLETED
    return dict(zip(table.number[done].tolist(), (table.end - table.arrival)[done].tolist(), strict=True))


def one_stage(host: str, step: str, service: str = "") -> str:
    return f"""
hosts: {{h: {{{host}}}}}
services: {{s: {{host: h, {service} operations: {{o: [{step}]}}}}}}
workloads: {{w: {{rate: 700/s, operation: s.o}}}}
run: {{replications: 3, duration: 6 s}}
"""


GROWING = {
    "cores": (one_stage("cpu: 1", "compute: {gamma: {mean: 1.3 ms, cv: 1.5}}"), "hosts.h.cpu.cores", (1, 2, 8)),
    "speed": (
        one_stage("cpu: {cores: 1, speed: 1}", "compute: {exponential: 1.3 ms}"),
        "hosts.h.cpu.speed",
        (1, 1.1, 2),
    ),
    "workers": (
        one_stage("cpu: 1", "delay: {lognormal: {mean: 1.3 ms, cv: 2}}", "workers: 1,"),
        "services.s.workers",
        (1, 2, 8),
    ),
    "iops": (one_stage("cpu: 1, disk: {iops: 800}", "read: 1 B"), "hosts.h.disk.iops", (800, 900, 4000)),
    "bandwidth": (
        one_stage("cpu: 1, nic: 8 Mbit/s", "transfer: {exponential: 1300 B}"),
        "hosts.h.nic.bandwidth",
        ("8 Mbit/s", "9 Mbit/s", "1 Gbit/s"),
    ),
}


class TestMoreCapacity:
    """Under common random numbers no single request of one queue is slower for more capacity."""

    @pytest.mark.parametrize("kind", GROWING)
    def test_no_request_of_a_single_queue_is_slower(self, kind: str):
        text, path, steps = GROWING[kind]
        before: list[dict[int, float]] | None = None
        for capacity in steps:
            now = [response_by_number(records) for records in records_of(loads(text, [f"{path}={capacity}"]))]
            for slower, quicker in zip(before or [], now, strict=bool(before)):
                assert slower.keys() <= quicker.keys()
                assert all(quicker[number] <= slower[number] + 1e-9 for number in slower)
            before = now

    @pytest.mark.parametrize(
        "change",
        [
            "hosts.db.cpu.cores=4",
            "hosts.db.disk.iops=4000",
            "hosts.app.nic.bandwidth=10 MB/s",
            "hosts.app.cpu.cores=8",
            "services.web.workers=64",
            "caches.products.entries=1000",
        ],
    )
    def test_the_mean_latency_of_a_network_is_no_higher(self, change: str):
        found = compare(rich(), rich(overrides=(change,)), Settings(replications=4), ["mean"])
        for workload, (mean,) in found.differences.items():
            assert mean.difference.low <= 0.0, (workload, mean)
            assert mean.difference.value <= 0.005 * mean.first.value, (workload, mean)

    def test_less_capacity_is_seen(self):
        found = compare(rich(), rich(overrides=("hosts.db.cpu.speed=0.5",)), Settings(replications=4), ["mean"])
        means = [mean for name, (mean,) in found.differences.items() if not name.startswith("messages.")]
        assert all(mean.significant and mean.difference.value > 0 for mean in means)


OVERLOADED = {
    "disk": (one_stage("cpu: 1, disk: {iops: 350}", "read: 1 B"), "hosts.h.disk"),
    "cores": (one_stage("cpu: 2", "compute: {exponential: 5.714286 ms}"), "hosts.h.cpu"),
    "workers": (one_stage("cpu: 1", "delay: {exponential: 5.714286 ms}", "workers: 2,"), "services.s.workers"),
    "lock": (
        one_stage("cpu: 4", "{lock: l, steps: [compute: {exponential: 2.857143 ms}]}") + "locks: [l]\n",
        "locks.l",
    ),
}


class TestOverload:
    """Twice as much is offered as can be done, which is 350 requests a second."""

    @pytest.mark.parametrize("kind", OVERLOADED)
    def test_it_is_said_plainly(self, kind: str):
        text, resource = OVERLOADED[kind]
        results = run(loads(text + 'objectives: ["p99 < 1 h"]\n'))
        workload = results.workloads["w"]
        assert not results.stable
        assert not workload.stable
        assert results.verdict.startswith("unstable")
        assert workload.latency_s is None
        assert workload.breakdown == {}
        assert all(operation.latency_s is None for operation in workload.operations.values())
        assert workload.throughput_per_s.value == pytest.approx(350.0, rel=0.05)
        assert workload.backlog_growth_per_s.value == pytest.approx(350.0, rel=0.1)
        assert results.bottleneck is not None
        assert results.bottleneck.resource == resource
        assert results.bottleneck.saturation_factor == pytest.approx(0.5, rel=1e-3)
        assert not results.objectives[0].met
        assert to_json(results)["workloads"]["w"]["latency_s"] is None

    def test_a_finite_queue_loses_the_rest(self):
        text, resource = OVERLOADED["workers"]
        results = run(loads(text, ["services.s.queue_limit=20"]))
        workload = results.workloads["w"]
        assert not results.stable
        assert "the rest fails" in results.verdict
        assert workload.throughput_per_s.value == pytest.approx(350.0, rel=0.05)
        assert workload.error_rate.value == pytest.approx(0.5, abs=0.03)
        assert set(workload.errors) == {"queue full"}
        assert workload.latency_s is not None  # of the half that is served: at most 22 in the system
        assert workload.latency_s["mean"].value == pytest.approx(21.0 / 350.0, rel=0.1)
        assert results.resources[resource].utilization is not None
        assert results.resources[resource].utilization.value == pytest.approx(1.0, abs=0.01)

    @pytest.mark.parametrize("seed", range(2))
    def test_a_busy_system_is_not_called_unstable(self, seed: int):
        text = one_stage("cpu: 1, disk: {iops: 800}", "read: 1 B").replace("run: {replications: 3, duration: 6 s}", "")
        results = run(loads(text), Settings(seed=seed))
        assert results.stable
        assert results.workloads["w"].latency_s is not None

    def test_a_closed_load_is_never_unstable(self):
        results = run(loads(OVERLOADED["disk"][0].replace("rate: 700/s", "users: 100")))
        assert results.stable
        assert results.workloads["w"].throughput_per_s.value == pytest.approx(350.0, rel=0.05)


AT_CAPACITY = """
hosts: {a: {cpu: 1}, b: {cpu: 8}}
services:
  s: {host: a, operations: {o: [{compute: TIME}]}}
  e: {host: b, operations: {o: [{compute: {exponential: 10 ms}}]}}
workloads:
  w: {rate: 100/s, operation: s.o}
  v: {rate: 100/s, operation: e.o}
"""


def at_capacity(time: str = "{exponential: 10 ms}", *sets: str):
    """What is seen of a single core that is asked for all that it has, in a run whose backlog happens not to grow."""
    system = loads(AT_CAPACITY.replace("TIME", time), sets)
    return run(system, Settings(seed=8, replications=5, duration=40.0, jobs=1))


def test_at_its_capacity_a_system_has_no_steady_state_though_no_backlog_is_seen_to_grow():
    found = at_capacity()
    assert found.verdict.startswith("unstable: as much is offered as can be served; the longer this lasts")
    assert "the load is 1.00 times the capacity of hosts.a.cpu" in found.verdict
    assert not found.stable
    assert not found.workloads["w"].stable
    assert found.workloads["w"].latency_s is None
    assert found.workloads["v"].latency_s is not None  # it uses something else
    assert at_capacity("{exponential: 10 ms}", "workloads.w.rate=97/s").workloads["w"].latency_s is not None


@pytest.mark.parametrize(
    ("time", "settings"),
    [
        ("{exponential: 10 ms}", ["workloads.w.timeout=2 s"]),
        ("{exponential: 10 ms}", ["services.s.workers=4", "services.s.queue_limit=50"]),
        ("10 ms", ["workloads.w.arrivals=constant"]),
    ],
)
def test_at_its_capacity_a_system_has_a_steady_state_where_requests_fail_or_never_wait(time, settings):
    found = at_capacity(time, *settings)
    assert found.verdict.startswith("unstable: as much is offered as can be served")
    assert found.workloads["w"].stable
    assert found.workloads["w"].latency_s is not None


def test_at_its_capacity_who_comes_first_has_a_steady_state():
    first = """
  s: {host: a, workers: 1, queue: priority, operations: {o: [{delay: {exponential: 10 ms}}]}}
  e: {host: b, operations: {o: [{compute: 10 ms}]}}
workloads:
  u: {rate: 30/s, operation: s.o, priority: 0}
  w: {rate: 70/s, operation: s.o, priority: 1}
"""
    text = AT_CAPACITY[: AT_CAPACITY.index("  s:")] + first.lstrip("\n")
    found = run(loads(text), Settings(seed=2, replications=5, duration=40.0, jobs=1))
    assert found.workloads["w"].latency_s is None
    assert found.workloads["u"].latency_s is not None


SLOW = """
hosts: {a: {cpu: 4}}
services: {s: {host: a, operations: {o: [{delay: 10 min}]}}}
workloads: {w: {rate: 10/s, operation: s.o}}
"""
DEADLOCK = """
hosts: {a: {cpu: 4}}
services:
  s: {host: a, workers: 1, operations: {o: [{delay: 10 ms}, {call: t.o}], p: [{delay: 10 ms}]}}
  t: {host: a, operations: {o: [{call: s.p}]}}
workloads: {w: {rate: 20/s, operation: s.o}}
"""


@pytest.mark.parametrize(("minutes", "needed"), [(5, "3.33h"), (9, "3.33h"), (35, "13.3h")])
def test_nobody_is_stuck_who_had_no_time_to_complete(minutes, needed):
    settings = Settings(replications=3, duration=60.0 * minutes, jobs=1)
    found = run(loads(SLOW if minutes < 10 else SLOW.replace("10 min", "40 min")), settings)
    assert found.verdict.startswith(f"too short: no request of w completes in {minutes} min, for one takes ")
    assert found.verdict.endswith(f"run longer (-d {needed})")
    assert not found.stable
    assert found.workloads["w"].stable  # nothing is known of it


def test_a_run_that_is_long_enough_for_slow_requests_is_stable():
    assert run(loads(SLOW), Settings(replications=3, duration=12_000.0, jobs=1)).verdict == "stable"


@pytest.mark.parametrize(
    "text",
    [
        DEADLOCK.replace("rate: 20/s", "users: 3"),
        SLOW.replace("rate: 10/s", "rate: 10/s, timeout: 1 s"),  # all fail
    ],
)
def test_who_had_the_time_to_complete_and_did_not_is_stuck(text):
    found = run(loads(text), Settings(replications=3, duration=60.0, jobs=1))
    assert found.verdict.startswith("stuck: no request of w completes")


class TestPrecision:
    TEXT = one_stage("cpu: 1, disk: {iops: 1200}", "read: 1 B").replace("duration: 6 s", "duration: 2 s")

    def test_it_is_reached_by_more_replications(self):
        results = run(loads(self.TEXT), Settings(precision=0.06))
        assert results.precision == 0.06
        assert results.precision_reached
        assert widest_interval(results) <= 0.06
        assert results.replications > 3

    def test_what_has_it_already_runs_no_longer(self):
        assert run(loads(self.TEXT), Settings(precision=5.0)).replications == 3

    def test_a_finer_one_takes_more(self):
        coarse, fine = (run(loads(self.TEXT), Settings(precision=precision)) for precision in (0.12, 0.06))
        assert fine.replications > coarse.replications

    def test_it_says_where_it_could_not(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("simulator.study.run.MOST_REPLICATIONS", 12)
        results = run(loads(self.TEXT), Settings(precision=1e-6))
        assert not results.precision_reached
        assert results.replications == 12
        assert results.workloads["w"].latency_s is not None
        assert np.isfinite(results.workloads["w"].latency_s["mean"].half_width)


WORKERS_AROUND_A_CPU = """
hosts: {{h: {{cpu: 8}}, d: {{cpu: 2}}}}
services:
  web: {{host: h, workers: {workers}, operations: {{go: [{{call: db.q}}, {{delay: 90 ms}}]}}}}
  db: {{host: d, operations: {{q: [{{compute: {{exponential: 16 ms}}}}]}}}}
workloads: {{w: {{rate: {rate}/s, operation: web.go}}}}
"""


@pytest.mark.parametrize(
    ("workers", "rate", "limit"),
    [
        (10, 88, "services.web.workers"),  # waited for, while the CPU behind them has a third to spare
        (40, 140, "hosts.d.cpu"),  # held by requests that share a CPU which has nothing to spare
    ],
)
def test_workers_are_the_bottleneck_only_where_they_are_waited_for_and_what_they_wait_for_is_not_full(
    workers, rate, limit
):
    system = loads(WORKERS_AROUND_A_CPU.format(workers=workers, rate=rate))
    results = run(system, Settings(replications=2, duration=60.0, jobs=1))
    assert results.bottleneck is not None
    assert results.bottleneck.resource == limit


LATE_HALF_OF_THE_TIME = """
hosts: {app: {cpu: 1}, edge: {cpu: 8}}
services:
  web:
    host: app
    workers: 1
    queue_limit: 15
    operations: {get: [compute: 10 ms]}
  late:
    host: edge
    operations:
      get:
        - choose: [{probability: 0.5, steps: [delay: 1 s]}, {probability: 0.5, steps: []}]
        - call: web.get
  front: {host: edge, operations: {get: [{call: late.get, timeout: 200 ms, on_timeout: abandon, retries: 4}]}}
workloads: {users: {rate: RATE, operation: front.get}}
"""


def test_retries_that_analysis_does_not_know_of_overload_a_server_that_it_takes_to_be_large_enough():
    settings = Settings(replications=3, duration=60.0, jobs=1)
    overloaded = run(loads(LATE_HALF_OF_THE_TIME.replace("RATE", "80/s")), settings)
    assert not overloaded.stable
    assert "hosts.app.cpu is busy all the time" in overloaded.verdict
    assert overloaded.bottleneck is not None
    assert overloaded.bottleneck.saturation_factor is None  # 1.25 by analysis; one that is full does not show it
    light = run(loads(LATE_HALF_OF_THE_TIME.replace("RATE", "20/s")), settings)
    assert light.stable
    assert light.bottleneck is not None
    # 1 + 1/2 + 1/4 + ... tries of 10 ms for each of 20 requests a second
    assert light.bottleneck.saturation_factor == pytest.approx(1.0 / (20 * 0.01 * (2 - 2**-4)), rel=0.1)


BESIDE_A_FULL_ONE = """
hosts: {a: {cpu: 1}, b: {cpu: 8}}
services:
  s: {host: a, operations: {o: [{compute: 10 ms}]}}
  e: {host: b, operations: {o: [{delay: {exponential: 100 ms}}]}}
workloads:
  w: {users: 50, think: 10 ms, operation: s.o}
  v: {rate: 10/s, operation: e.o, timeout: 200 ms}
"""
WITHOUT_A_QUEUE = """
hosts: {a: {cpu: 4}}
services: {s: {host: a, workers: 2, queue_limit: 0, operations: {o: [{delay: 100 ms}]}}}
workloads: {w: {rate: RATE, operation: s.o}}
"""


def test_who_does_not_use_what_is_full_does_not_fail_of_it():
    results = run(loads(BESIDE_A_FULL_ONE), Settings(replications=2, duration=60.0, jobs=1))
    assert results.workloads["v"].error_rate.value > 0.1
    assert results.stable, results.verdict


@pytest.mark.parametrize(("rate", "stable"), [(10, True), (30, False), (200, False)])
def test_a_server_without_a_queue_that_is_offered_more_than_it_serves_is_overloaded(rate, stable):
    settings = Settings(replications=2, duration=60.0, jobs=1)
    results = run(loads(WITHOUT_A_QUEUE.replace("RATE", f"{rate}/s")), settings)
    assert results.workloads["w"].error_rate.value > 0.02  # Erlang's loss formula: 20 % at 10/s
    assert results.stable is stable, results.verdict


LOCKED = """
hosts: {app: {cpu: 4}}
keys: {sku: {zipf: {count: 100, exponent: 1.2}}}
locks: {stock: {}}
services: {shop: {host: app, operations: {buy: [{lock: stock, key: sku, steps: [delay: 10 ms, compute: 1 us]}]}}}
workloads: {w: {rate: 250/s, operation: shop.buy, timeout: 1 s}}
"""


def test_the_lock_of_the_key_asked_for_most_is_a_bottleneck_like_any_other() -> None:
    share = 1.0 / sum(rank**-1.2 for rank in range(1, 101))
    found = run(loads(LOCKED), Settings(duration=40.0, replications=5))
    lock = found.resources["locks.stock.keys"]
    assert lock.utilization is not None
    held = share * 0.010001 * found.workloads["w"].throughput_per_s.value
    assert lock.utilization.low <= held <= lock.utilization.high
    assert found.bottleneck is not None
    assert (found.bottleneck.resource, found.bottleneck.utilization) == ("locks.stock.keys", lock.utilization)
    assert found.bottleneck.saturation_factor == pytest.approx(1.0 / (250 * share * 0.010001))
    assert found.verdict == "stable"
    over = run(loads(LOCKED, ["workloads.w.rate=420/s"]), Settings(duration=20.0, replications=3))
    assert over.bottleneck is not None
    assert over.bottleneck.resource == "locks.stock.keys"
    assert over.bottleneck.utilization.value > 0.999
    assert "times the capacity of locks.stock.keys" in over.verdict


REFUSING = """
hosts: {db: {cpu: 512}}
keys: {item: {zipf: {count: 1000, exponent: 1.1}}}
locks: {row: {queue_limit: 3}}
services: {db: {host: db, operations: {order: [{lock: row, key: item, steps: [{compute: {exponential: 8 ms}}]}]}}}
workloads: {people: {rate: 800/s, operation: db.order}}
"""


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_the_lock_of_the_key_asked_for_most_is_as_busy_as_it_is_held(engine: str) -> None:
    """The requests of each key have an M/M/1/4 queue of their own: one is held, and three wait."""
    arrivals = 800 / sum(rank**-1.1 for rank in range(1, 1001))
    settings = Settings(duration=60.0, replications=4 if engine == "compiled" else 2, engine=engine)
    found = run(loads(REFUSING), settings).resources["locks.row.keys"].utilization
    assert found is not None
    assert found.value == pytest.approx(mmck(arrivals, 0.008, 1, 4).utilization, rel=0.01)
