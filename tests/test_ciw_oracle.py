"""Tier 7: the same queueing networks on Ciw, an independent simulator, and on tpsim.

Both run ten replications. A quantity agrees where Welch's interval of the difference of the two means contains zero,
at a confidence that lets all checks of one tier together raise a false alarm with a probability of 1 % (Bonferroni).
Priority classes are left out: no station that a model can describe serves by priority yet.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from simulator.model.files import loads
from simulator.results.estimate import Estimate, mean_interval, student_t_quantile
from simulator.results.results import Results
from simulator.study.run import run

ciw = pytest.importorskip("ciw")

REPLICATIONS = 10
WARM_UP = 0.1
FAMILY_ERROR, MOST_CHECKS = 0.01, 20
CONFIDENCE = 1.0 - FAMILY_ERROR / MOST_CHECKS
SLOW_FACTOR = 6


@dataclass(frozen=True)
class Network:
    """One network in both languages; `resources` names the tpsim resource of each Ciw node."""

    model: str
    ciw: Callable[[], object]
    rate: float
    resources: tuple[str, ...]
    requests: int = 4000

    def seconds(self, factor: float) -> float:
        return factor * self.requests / self.rate


def m_m_3():
    return ciw.create_network(
        arrival_distributions=[ciw.dists.Exponential(2400)],
        service_distributions=[ciw.dists.Exponential(1000)],
        number_of_servers=[3],
    )


def g_g_2():
    spread = math.log1p(0.49)  # of the logarithm, for a coefficient of variation of 0.7
    return ciw.create_network(
        arrival_distributions=[ciw.dists.Gamma(1 / 1.5**2, 1.5**2 / 1400)],
        service_distributions=[ciw.dists.Lognormal(math.log(0.001) - spread / 2, math.sqrt(spread))],
        number_of_servers=[2],
    )


def tandem():
    return ciw.create_network(
        arrival_distributions=[ciw.dists.Exponential(700), None],
        service_distributions=[ciw.dists.Deterministic(0.001), ciw.dists.Exponential(500)],
        routing=[[0.0, 1.0], [0.0, 0.0]],
        number_of_servers=[1, 2],
    )


def finite_queue():
    return ciw.create_network(
        arrival_distributions=[ciw.dists.Exponential(2200)],
        service_distributions=[ciw.dists.Uniform(0.0002, 0.0018)],
        number_of_servers=[2],
        queue_capacities=[5],
    )


NETWORKS = {
    "M/M/3": Network(
        """
hosts: {h: {cpu: 1, disk: {iops: 3000, queue_depth: 3}}}
services: {s: {host: h, operations: {o: [read: 1 B]}}}
workloads: {w: {rate: 2400/s, operation: s.o}}
""",
        m_m_3,
        2400.0,
        ("hosts.h.disk",),
    ),
    "G/G/2": Network(
        """
hosts: {h: {cpu: 1}}
services: {s: {host: h, workers: 2, operations: {o: [delay: {lognormal: {mean: 1 ms, cv: 0.7}}]}}}
workloads: {w: {rate: 1400/s, arrivals: gamma, arrivals_cv: 1.5, operation: s.o}}
""",
        g_g_2,
        1400.0,
        ("services.s.workers",),
    ),
    "tandem": Network(
        """
hosts: {h: {cpu: 1, disk: {iops: 1000, cv: 0}}}
services:
  front: {host: h, operations: {o: [read: 1 B, call: back.o]}}
  back: {host: h, workers: 2, operations: {o: [delay: {exponential: 2 ms}]}}
workloads: {w: {rate: 700/s, operation: front.o}}
""".replace("[read: 1 B, call: back.o]", "[{read: 1 B}, {call: back.o}]"),
        tandem,
        700.0,
        ("hosts.h.disk", "services.back.workers"),
    ),
    "finite queue": Network(
        """
hosts: {h: {cpu: 1}}
services: {s: {host: h, workers: 2, queue_limit: 5, operations: {o: [delay: {uniform: {low: 0.2 ms, high: 1.8 ms}}]}}}
workloads: {w: {rate: 2200/s, operation: s.o}}
""",
        finite_queue,
        2200.0,
        ("services.s.workers",),
    ),
}


def of_tpsim(network: Network, factor: float, overrides: tuple[str, ...] = ()) -> dict[str, Estimate]:
    seconds = network.seconds(factor)
    section = (
        f"run: {{seed: 7, replications: {REPLICATIONS}, duration: {seconds!r} s, "
        f"warm_up: {WARM_UP * seconds!r} s, confidence: {CONFIDENCE!r}}}\n"
    )
    results: Results = run(loads(network.model + section, overrides))
    workload = results.workloads["w"]
    assert workload.latency_s is not None
    found = {
        "response": workload.latency_s["mean"],
        "throughput": workload.throughput_per_s,
        "loss": workload.error_rate,
    }
    for resource in network.resources:
        utilization = results.resources[resource].utilization
        assert utilization is not None
        found[f"utilization {resource}"] = utilization
        found[f"waiting {resource}"] = results.resources[resource].queue_mean
    return found


@cache
def of_ciw(network: Network, factor: float) -> dict[str, Estimate]:
    seconds = network.seconds(factor)
    each = [_replication(network, seconds, seed) for seed in range(REPLICATIONS)]
    return {name: mean_interval([one[name] for one in each], CONFIDENCE) for name in each[0]}


def _replication(network: Network, seconds: float, seed: int) -> dict[str, float]:
    """The quantities of one run after its warm-up; customers still inside at the end are left out."""
    start, length = WARM_UP * seconds, (1.0 - WARM_UP) * seconds
    ciw.seed(seed)
    simulation = ciw.Simulation(network.ciw())
    simulation.simulate_until_max_time(seconds)
    records = simulation.get_all_records()
    arrivals = {one.id_number: one.arrival_date for one in records if one.node == 1}
    exits = [one for one in records if one.record_type == "service" and one.destination == -1]
    response = [one.exit_date - arrivals[one.id_number] for one in exits if start <= one.exit_date < seconds]
    lost = sum(one.record_type == "rejection" and one.arrival_date >= start for one in records)
    found = {
        "response": float(np.mean(response)),
        "throughput": len(response) / length,
        "loss": lost / (lost + len(response)),
    }
    for node, resource in enumerate(network.resources, start=1):
        here = [one for one in records if one.node == node and one.record_type == "service"]
        servers = simulation.nodes[node].c
        busy = _overlap([(one.service_start_date, one.service_end_date) for one in here], start, seconds)
        found[f"utilization {resource}"] = busy / (servers * length)
        found[f"waiting {resource}"] = (
            _overlap([(one.arrival_date, one.service_start_date) for one in here], start, seconds) / length
        )
    return found


def _overlap(spans: list[tuple[float, float]], start: float, stop: float) -> float:
    """Seconds of all spans together that lie between start and stop."""
    array = np.clip(np.array(spans), start, stop)
    return float(np.sum(array[:, 1] - array[:, 0]))


def disagreements(one: dict[str, Estimate], other: dict[str, Estimate]) -> list[str]:
    """The quantities whose means differ by more than Welch's interval allows."""
    return [f"{name}: {one[name]} and {other[name]}" for name in one if not _agree(one[name], other[name])]


def _agree(one: Estimate, other: Estimate) -> bool:
    variances = [
        (estimate.half_width / student_t_quantile((1 + CONFIDENCE) / 2, estimate.n - 1)) ** 2
        for estimate in (one, other)
    ]
    if sum(variances) == 0.0:
        return one.value == other.value
    freedom = sum(variances) ** 2 / sum(
        variance**2 / (estimate.n - 1) for variance, estimate in zip(variances, (one, other), strict=True)
    )
    allowed = student_t_quantile((1 + CONFIDENCE) / 2, freedom) * math.sqrt(sum(variances))
    return abs(one.value - other.value) <= allowed


@pytest.mark.parametrize("name", NETWORKS)
def test_means_agree_with_ciw(name: str):
    expected, found = of_ciw(NETWORKS[name], 1.0), of_tpsim(NETWORKS[name], 1.0)
    assert disagreements(expected, found) == []
    assert all(estimate.relative_half_width < 0.25 for estimate in (found["response"], expected["response"]))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_narrow_means_agree_with_ciw(name: str):
    expected, found = of_ciw(NETWORKS[name], SLOW_FACTOR), of_tpsim(NETWORKS[name], SLOW_FACTOR)
    assert disagreements(expected, found) == []
    assert all(estimate.relative_half_width < 0.12 for estimate in (found["response"], expected["response"]))


def test_the_stated_false_alarm_rate_covers_every_check():
    assert sum(3 + 2 * len(network.resources) for network in NETWORKS.values()) <= MOST_CHECKS + 3  # three lose nothing


@pytest.mark.parametrize(
    ("name", "mistake", "quantity"),
    [
        ("M/M/3", "hosts.h.disk.iops=2700", "utilization hosts.h.disk"),
        ("tandem", "hosts.h.disk.cv=1", "response"),
        ("finite queue", "services.s.queue_limit=3", "loss"),
    ],
)
def test_a_wrong_model_does_not_agree(name: str, mistake: str, quantity: str):
    found = disagreements(of_ciw(NETWORKS[name], 1.0), of_tpsim(NETWORKS[name], 1.0, (mistake,)))
    assert any(text.startswith(f"{quantity}:") for text in found), found
