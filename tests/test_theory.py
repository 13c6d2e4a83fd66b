"""Tier 4: simulated systems against closed forms, from the model's text to the results' intervals.

Every quantity that a case lists is one check: its confidence interval must contain the theoretical value. A check
alone raises a false alarm with probability FAMILY_ERROR / MOST_CHECKS (the `confidence` of the models' run section
is one minus that), so by Bonferroni all checks of the quick tier together raise one with probability FAMILY_ERROR,
1 %, at most, as far as the means of 32 replications are normal; that tier has no more than MOST_CHECKS checks. The
seeds are fixed: what passes once passes always. So that no interval contains theory for being wide, each case also
bounds the relative half widths; and tier 5, at the end, shows that models with a small mistake in them fail the check.

Warm-ups are given, so that these tests judge engine, lowering and intervals; `test_coverage` judges the rest as well.
"""

from __future__ import annotations

import math
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field

import pytest

from simulator.analytic.networks import jackson, mva
from simulator.analytic.queues import fork_join_2_mm1, fork_join_bounds, mg1, mg1_ps, mmc, mmc_ps, mmck
from simulator.model.files import loads
from simulator.results.estimate import Estimate
from simulator.results.results import Results
from simulator.study.run import Experiment, Settings, run

FAMILY_ERROR, MOST_CHECKS = 0.01, 200
CONFIDENCE = 1.0 - FAMILY_ERROR / MOST_CHECKS
REPLICATIONS = 32
EXACT = 1e-12
"""Rounding, where simulation and theory are both exact: nobody waits, or the server is never idle."""
SLOW_FACTOR = 12

SERVICE_TIME = 0.001
DISK, CPU, WORKERS = "hosts.h.disk", "hosts.h.cpu", "services.s.workers"


@dataclass(frozen=True)
class Case:
    """A model, how many seconds to simulate in all, what theory says of it, and how wide intervals may be."""

    name: str
    model: str
    seconds: float
    theory: dict[str, float] = field(hash=False)
    width: float = 0.1

    def run(self, seed: int, factor: float, overrides: tuple[str, ...]) -> Results:
        """Simulate `factor` times the case's seconds."""
        duration = factor * self.seconds / REPLICATIONS
        run_section = (
            f"run: {{seed: {seed}, replications: {REPLICATIONS}, duration: {duration!r} s, "
            f"warm_up: {duration / 20!r} s, confidence: {CONFIDENCE!r}}}\n"
        )
        return run(loads(self.model + run_section, overrides))


def estimate(results: Results, quantity: str) -> Estimate:
    """`response`, `p95`, `throughput` and `loss` of the workload, `utilization R` and `waiting R` of a resource."""
    kind, _, where = quantity.partition(" ")
    workload = results.workloads["w"]
    if kind in ("utilization", "waiting"):
        resource = results.resources[where]
        found = resource.utilization if kind == "utilization" else resource.queue_mean
        assert found is not None
        return found
    if kind == "wait":
        return workload.breakdown[where].wait_s
    if kind in ("throughput", "loss"):
        return workload.throughput_per_s if kind == "throughput" else workload.error_rate
    assert workload.latency_s is not None
    return workload.latency_s["mean" if kind == "response" else kind]


def disagreements(results: Results, theory: dict[str, float]) -> list[str]:
    """The quantities whose interval does not contain theory."""
    found = []
    for quantity, expected in theory.items():
        simulated = estimate(results, quantity)
        if not simulated.low - EXACT <= expected <= simulated.high + EXACT:
            found.append(f"{quantity}: simulated {simulated}, expected {expected}")
    return found


def one_service(host: str, steps: str, workload: str, service: str = "") -> str:
    return (
        f"name: theory\nhosts: {{h: {{{host}}}}}\n"
        f"services: {{s: {{host: h, {service} operations: {{o: [{steps}]}}}}}}\n"
        f"workloads: {{w: {{{workload}, operation: s.o}}}}\n"
    )


def disk_queue(servers: int, load: float, cv: float = 1.0) -> str:
    rate = load * servers / SERVICE_TIME
    disk = f"{{iops: {servers / SERVICE_TIME!r}, queue_depth: {servers}, cv: {cv}}}"
    return one_service(f"cpu: 1, disk: {disk}", "read: 1 B", f"rate: {rate!r}/s")


def worker_queue(servers: int, load: float, law: str = "{exponential: 1 ms}", limit: str = "") -> str:
    rate = load * servers / SERVICE_TIME
    return one_service("cpu: 1", f"delay: {law}", f"rate: {rate!r}/s", f"workers: {servers}, {limit}")


def sharing_queue(cores: int, load: float, law: str) -> str:
    return one_service(f"cpu: {cores}", f"compute: {law}", f"rate: {load * cores / SERVICE_TIME!r}/s")


def queue_theory(queue, resource: str, component: str | None = None) -> dict[str, float]:
    theory = {
        "response": queue.response_time,
        "throughput": queue.throughput,
        f"utilization {resource}": queue.utilization,
        f"waiting {resource}": queue.queue_length,
    }
    return theory | ({f"wait {component}": queue.wait} if component else {})


def m_m_c(servers: int, load: float) -> Iterator[Case]:
    """As a disk with a queue depth, and as a service with worker threads; the longer case goes to the quicker one."""
    rate = load * servers / SERVICE_TIME
    queue = mmc(rate, SERVICE_TIME, servers)
    requests, width = {0.5: (60_000, 0.07), 0.8: (150_000, 0.13), 0.9: (300_000, 0.2)}[load]
    p95 = {"p95": queue.response_time_quantile(0.95)}
    theory = queue_theory(queue, DISK, "s.disk") | p95
    yield Case(f"M/M/{servers} {load} disk", disk_queue(servers, load), requests / rate, theory, width)
    if load < 0.9:
        theory = queue_theory(queue, WORKERS, "s.workers")
        requests, width = {0.5: (25_000, 0.12), 0.8: (50_000, 0.2)}[load]
        yield Case(f"M/M/{servers} {load} workers", worker_queue(servers, load), requests / rate, theory, width)


def m_g_1() -> Iterator[Case]:
    load, rate = 0.7, 700.0
    theory = queue_theory(mg1(rate, SERVICE_TIME, 0.0), DISK, "s.disk")
    yield Case("M/D/1", disk_queue(1, load, cv=0.0), 60_000 / rate, theory)
    theory = queue_theory(mg1(rate, SERVICE_TIME, 4.0), DISK, "s.disk")
    yield Case("M/Gamma/1", disk_queue(1, load, cv=2.0), 150_000 / rate, theory, 0.15)
    theory = queue_theory(mg1(rate, SERVICE_TIME, 4.0), WORKERS, "s.workers")
    hyper = "{hyperexponential: {mean: 1 ms, cv: 2}}"
    yield Case("M/H2/1", worker_queue(1, load, hyper), 120_000 / rate, theory, 0.17)


LAWS = {
    "exponential": "{exponential: 1 ms}",
    "deterministic": "1 ms",
    "hyperexponential": "{hyperexponential: {mean: 1 ms, cv: 2}}",
}


def processor_sharing() -> Iterator[Case]:
    theory = queue_theory(mg1_ps(700.0, SERVICE_TIME), CPU, "s.cpu")
    for name, law in LAWS.items():
        yield Case(f"M/G/1-PS {name}", sharing_queue(1, 0.7, law), 80_000 / 700.0, theory, 0.16)
    theory = queue_theory(mmc_ps(2100.0, SERVICE_TIME, 3), CPU, "s.cpu")
    yield Case("M/G/3-PS", sharing_queue(3, 0.7, LAWS["hyperexponential"]), 50_000 / 2100.0, theory, 0.13)


def finite_queue() -> Case:
    rate = 1800.0
    queue = mmck(rate, SERVICE_TIME, 2, 10)
    theory = queue_theory(queue, WORKERS, "s.workers") | {"loss": queue.loss_probability}
    model = worker_queue(2, rate / 2 * SERVICE_TIME, limit="queue_limit: 8,")
    return Case("M/M/2/10", model, 100_000 / rate, theory)


JACKSON = """
name: theory
hosts:
  gateway: {cpu: 1, disk: {iops: 4000, queue_depth: 2}}
  app: {cpu: 1}
  db: {cpu: 1, disk: {iops: 1000}}
  archive: {cpu: 1}
  log: {cpu: 1, disk: {iops: 3000, queue_depth: 3}}
services:
  gateway:
    host: gateway
    operations:
      enter:
        - read: 1 B
        - choose:
            - {probability: 0.7, steps: [call: app.work, choose: [{probability: 0.5, steps: [call: db.ask]},
                                                                  {probability: 0.5, steps: []}]]}
            - {probability: 0.3, steps: [call: db.ask]}
        - call: log.append
  app: {host: app, operations: {work: [compute: {exponential: 0.8 ms}]}}
  db:
    host: db
    operations:
      ask:
        - read: 1 B
        - choose: [{probability: 0.25, steps: [call: archive.fetch]}, {probability: 0.75, steps: []}]
  archive: {host: archive, workers: 1, operations: {fetch: [delay: {exponential: 3 ms}]}}
  log: {host: log, operations: {append: [write: 1 B]}}
workloads: {w: {rate: 1000/s, operation: gateway.enter}}
"""


def jackson_network() -> Case:
    """Five stations, of which app shares its processor (the same means) and archive is a pool of one worker."""
    routing = [
        [0, 0.7, 0.3, 0, 0],
        [0, 0, 0.5, 0, 0.5],
        [0, 0, 0, 0.25, 0.75],
        [0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0],
    ]
    times = [0.5e-3, 0.8e-3, 1e-3, 3e-3, 1e-3]
    network = jackson([1000.0, 0, 0, 0, 0], routing, times, [2, 1, 1, 1, 3])
    resources = ["hosts.gateway.disk", "hosts.app.cpu", "hosts.db.disk", "services.archive.workers", "hosts.log.disk"]
    theory = {"response": network.response_time, "throughput": network.throughput}
    for resource, station in zip(resources, network.stations, strict=True):
        theory |= {f"utilization {resource}": station.utilization, f"waiting {resource}": station.queue_length}
    return Case("Jackson network", JACKSON, 60_000 / 1000.0, theory, 0.14)


CLOSED = one_service(
    "cpu: 1, disk: {iops: 125}",
    "{compute: {erlang: {mean: 5 ms, stages: 4}}}, {read: 1 B}",
    "users: 10, think: {lognormal: {mean: 50 ms, cv: 1}}",
)


def closed_theory(users: int) -> dict[str, float]:
    """MVA holds for any distribution at the sharing station and of the think time (BCMP)."""
    network = mva([0.005, 0.008], users, think_time=0.05)
    numbers, busy = network.numbers_at_stations[-1], network.utilizations[-1]
    return {
        "response": float(network.response_time[-1]),
        "throughput": float(network.throughput[-1]),
        f"utilization {CPU}": float(busy[0]),
        f"utilization {DISK}": float(busy[1]),
        f"waiting {CPU}": float(numbers[0] - busy[0]),
        f"waiting {DISK}": float(numbers[1] - busy[1]),
    }


def closed_network(users: int) -> Case:
    theory = closed_theory(users)
    model = CLOSED.replace("users: 10", f"users: {users}")
    seconds = 40_000 / theory["throughput"]
    # With 50 users the disk is idle for a billionth of the time, which no run shows: it must be busy throughout.
    theory = {quantity: 1.0 if abs(value - 1.0) < 1e-6 else value for quantity, value in theory.items()}
    return Case(f"closed, {users} users", model, seconds, theory)


def fork_join_model(branches: int) -> str:
    names = [f"branch{number}" for number in range(branches)]
    hosts = "".join(f"  {name}: {{cpu: 1, disk: {{iops: 1000}}}}\n" for name in names)
    services = "".join(f"  {name}: {{host: {name}, operations: {{o: [read: 1 B]}}}}\n" for name in names)
    calls = ", ".join(f"[call: {name}.o]" for name in names)
    return (
        f"name: theory\nhosts:\n  h: {{cpu: 1}}\n{hosts}"
        f"services:\n  s: {{host: h, operations: {{o: [parallel: [{calls}]]}}}}\n{services}"
        f"workloads: {{w: {{rate: 700/s, operation: s.o}}}}\n"
    )


def fork_join() -> Case:
    theory = {"response": fork_join_2_mm1(700.0, SERVICE_TIME), "throughput": 700.0}
    for number in range(2):
        theory[f"utilization hosts.branch{number}.disk"] = 0.7
        theory[f"waiting hosts.branch{number}.disk"] = mmc(700.0, SERVICE_TIME, 1).queue_length
    return Case("fork-join of 2", fork_join_model(2), 60_000 / 700.0, theory, 0.13)


CASES = [
    *(case for load in (0.9, 0.8, 0.5) for servers in (1, 4, 8) for case in m_m_c(servers, load)),
    *m_g_1(),
    *processor_sharing(),
    finite_queue(),
    jackson_network(),
    *(closed_network(users) for users in (50, 20, 10, 5, 2, 1)),
    fork_join(),
]
BY_NAME = {case.name: case for case in CASES}
SEEDS = {case.name: 100 + number for number, case in enumerate(CASES)}
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


class Farm:
    """Simulates models in worker processes, each case once."""

    def __init__(self, executor: ProcessPoolExecutor) -> None:
        self.executor = executor
        self.started: dict[tuple[str, float], Future[Results]] = {}

    def start(self, case: Case, factor: float = 1.0, *overrides: str) -> Future[Results]:
        return self.executor.submit(case.run, SEEDS.get(case.name, 1), factor, overrides)

    def of(self, case: Case, factor: float = 1.0) -> Results:
        key = (case.name, factor)
        if key not in self.started:
            self.started[key] = self.start(case, factor)
        return self.started[key].result()


@pytest.fixture(scope="module")
def farm(request: pytest.FixtureRequest) -> Iterator[Farm]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    executor = ProcessPoolExecutor(cores, multiprocessing.get_context("spawn"))
    farm = Farm(executor)
    for item in request.session.items:  # what the session selected starts now, to be ready when its test comes
        case = getattr(getattr(item, "callspec", None), "params", {}).get("case")
        if isinstance(case, Case) and item.module is request.module:
            factor = SLOW_FACTOR if item.get_closest_marker("slow") else 1.0
            farm.started[case.name, factor] = farm.start(case, factor)
    try:
        yield farm
    finally:
        executor.shutdown(cancel_futures=True)


def test_the_stated_false_alarm_rate_covers_every_check():
    assert sum(len(case.theory) for case in CASES) <= MOST_CHECKS


def agree(results: Results, case: Case, width: float) -> None:
    assert results.stable
    assert disagreements(results, case.theory) == []
    for quantity in case.theory:
        relative = estimate(results, quantity).relative_half_width
        if quantity in ("response", "p95"):
            assert relative <= (1.5 * width if quantity == "p95" else width), quantity
        if quantity == "throughput" or quantity.startswith("utilization"):
            assert relative <= width / 2, quantity


@every_case
def test_intervals_contain_theory(case: Case, farm: Farm):
    agree(farm.of(case), case, case.width)


@pytest.mark.slow
@every_case
def test_narrow_intervals_contain_theory(case: Case, farm: Farm):
    agree(farm.of(case, SLOW_FACTOR), case, case.width / 3)


def test_fork_join_of_four_is_within_its_bounds(farm: Farm):
    bounds = fork_join_bounds(4, 700.0, SERVICE_TIME)
    case = Case("fork-join of 4", fork_join_model(4), 30_000 / 700.0, {})
    response = estimate(farm.of(case), "response")
    assert bounds.lower < response.low
    assert response.high < bounds.upper
    assert response.contains(bounds.approximation)


WRONG = {
    "service 5 % slower": ("M/M/4 0.8 disk", ["hosts.h.disk.iops=3800"], "utilization hosts.h.disk"),
    "service 9 % quicker": ("M/M/1 0.5 disk", ["hosts.h.disk.iops=1100"], "utilization hosts.h.disk"),
    "service 10 % slower": ("M/M/1 0.8 disk", ["hosts.h.disk.iops=900"], "response"),
    "load 5 % higher": ("M/D/1", ["workloads.w.rate=735/s"], "throughput"),
    "one worker more": ("M/M/4 0.8 workers", ["services.s.workers=5"], "response"),
    "cv 1.5 for 1": ("M/M/1 0.8 disk", ["hosts.h.disk.cv=1.5"], "waiting hosts.h.disk"),
    "queue one shorter": ("M/M/2/10", ["services.s.queue_limit=7"], "response"),
    "demand 5 % higher": (
        "closed, 10 users",
        ["services.s.operations.o.0.compute.erlang.mean=5.25 ms"],
        "utilization hosts.h.cpu",
    ),
    "two users fewer": ("closed, 20 users", ["workloads.w.users=18"], "response"),
    "a user more": ("closed, 5 users", ["workloads.w.users=6"], "throughput"),
    "constant gaps": ("M/M/1 0.5 disk", ["workloads.w.arrivals=constant"], "response"),
    "one route 10 % likelier": (
        "Jackson network",
        [
            "services.gateway.operations.enter.1.choose.0.probability=0.77",
            "services.gateway.operations.enter.1.choose.1.probability=0.23",
        ],
        "utilization hosts.app.cpu",
    ),
    "one slower branch": ("fork-join of 2", ["hosts.branch1.disk.iops=900"], "response"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_model_fails_the_same_check(mistake: str, farm: Farm):
    name, overrides, quantity = WRONG[mistake]
    wrong = farm.start(BY_NAME[name], 0.5, *overrides).result()
    found = disagreements(wrong, BY_NAME[name].theory)
    assert any(text.startswith(f"{quantity}:") for text in found), found


@pytest.mark.parametrize(
    ("simulated", "theory"),
    [
        ("M/G/1-PS hyperexponential", mg1(700.0, SERVICE_TIME, 4.0)),  # first come, first served
        ("M/G/1-PS deterministic", mg1(700.0, SERVICE_TIME, 0.0)),
        ("M/H2/1", mg1_ps(700.0, SERVICE_TIME)),
        ("M/D/1", mg1_ps(700.0, SERVICE_TIME)),
        ("M/Gamma/1", mg1(700.0, SERVICE_TIME, 1.0)),
        ("fork-join of 2", mmc(700.0, SERVICE_TIME, 1)),
    ],
)
def test_another_discipline_fails_the_same_check(simulated: str, theory, farm: Farm):
    assert disagreements(farm.of(BY_NAME[simulated]), {"response": theory.response_time})


def m_m_1_by_default(seed: int) -> dict[str, list[str]]:
    """Which 95 % intervals of M/M/1 at load 0.8 miss theory, where the warm-up is found (by default) or given."""
    queue = mmc(800.0, SERVICE_TIME, 1)
    theory = {
        "response": queue.response_time,
        "p95": queue.response_time_quantile(0.95),
        f"utilization {DISK}": queue.utilization,
    }
    found = Experiment(loads(disk_queue(1, 0.8)), Settings(seed=seed))
    found.extend(found.planned)
    given = Experiment(loads(disk_queue(1, 0.8), ["run.warm_up=1 s"]), Settings(seed=seed))
    given.replications = found.replications
    missed = {"found": disagreements(found.results(), theory), "given": disagreements(given.results(), theory)}
    return {warm_up: [text.partition(":")[0] for text in texts] for warm_up, texts in missed.items()}


@pytest.fixture(scope="module")
def misses(farm: Farm) -> list[dict[str, list[str]]]:
    """Of 200 seeds, each with the default ten replications of 10 000 requests."""
    return list(farm.executor.map(m_m_1_by_default, range(1000, 1200)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "warm_up",
    ["given", "found"],
)
def test_coverage(warm_up: str, misses: list[dict[str, list[str]]]):
    """Accepted is what is at most 3.3 binomial standard errors below 95 %.

    The t interval of ten skewed means covers a little less than it says, 93 to 94 % here, which is within that.
    """
    missed = Counter(name for one in misses for name in one[warm_up])
    covered = {name: 1.0 - missed[name] / len(misses) for name in ("response", "p95", f"utilization {DISK}")}
    print(f"coverage of 95 % intervals, warm-up {warm_up}: {covered}")
    least = 0.95 - 3.3 * math.sqrt(0.95 * 0.05 / len(misses))
    assert all(share >= least for share in covered.values()), covered
