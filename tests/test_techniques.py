"""Every technique of models/techniques does what theory says, before and after, and the change has its direction.

The simulated mean has to agree with the closed form within 2.5 half widths of its 95 % interval: a false alarm in
about one of 7,000 comparisons of ten replications (Student's t with 9 degrees of freedom at 2.5 * 2.262).
"""

from pathlib import Path

import numpy as np
import pytest

import simulator as sim
from simulator.analytic.caches import che_hit_ratio
from simulator.analytic.inference import time_alone
from simulator.analytic.networks import mva
from simulator.analytic.queues import mg1_ps, mm1, mmc, mmc_ps
from simulator.model.words import short
from simulator.program.stations import Inference
from simulator.program.step_time import StepTime

TECHNIQUES = Path(__file__).parent.parent / "models" / "techniques"
ZIPF = 1.0 / np.arange(1, 10_001)
MISSES = 1.0 - che_hit_ratio(ZIPF / ZIPF.sum(), 1000)
PAGES_AND_REPORTS_WAIT = (60 * 2 * 0.005**2 + 1 * 2 * 0.2**2) / 2 / (1 - 60 * 0.005 - 1 * 0.2)  # Pollaczek, Khinchine
LOG_GROWTH = np.log(200_000) / np.log(20_000)

ENGINE = Inference(
    "", StepTime(overhead=1e-3, weights=7e-3, token=1e-4, chunk=1e-8, generated=6e-8), 256, 8192, 8192, 0
)


def conversation(reuses):
    """Seconds of five turns alone: 208 tokens of instructions, 96 of each question and 48 of each answer.

    Blocks of 16 tokens that are full are found again: those of the instructions from other conversations, and of each
    turn all but the last token of the answer, whose keys and values nobody has computed yet.
    """
    prompts = [208 + turn * (96 + 48) + 96 for turn in range(5)]
    found = [208, *((prompt + 48 - 1) // 16 * 16 for prompt in prompts[:-1])]
    return sum(time_alone(ENGINE, prompt, reuses * cached, 48) for prompt, cached in zip(prompts, found, strict=True))


def exactly(value):
    """Bounds of what nothing is random about."""
    return value * (1 - 1e-9), value * (1 + 1e-9)


EXPECTED = {
    "cpu-upgrade": ({"clients": mg1_ps(80, 0.010).response_time}, {"clients": mg1_ps(80, 0.010 / 1.5).response_time}),
    "memory": ({"clients": mmc(8, 1.0, 10).response_time}, {"clients": mmc(8, 1.0, 20).response_time}),
    "ssd": ({"clients": mm1(100, 1 / 120).response_time}, {"clients": mmc(100, 16 / 20_000, 16).response_time}),
    "network-bandwidth": (
        {"clients": mg1_ps(100, 0.008).response_time},
        {"clients": mg1_ps(100, 0.0008).response_time},
    ),
    "microservices": (
        {"visitors": PAGES_AND_REPORTS_WAIT + 0.005, "clerks": PAGES_AND_REPORTS_WAIT + 0.2},
        {"visitors": mm1(120, 0.005).response_time, "clerks": mm1(2, 0.2).response_time},
    ),
    "indexing": (
        {"clients": mmc_ps(60, 0.020, 2).response_time},
        {"clients": mmc_ps(60, 30e-6 * LOG_GROWTH, 2).response_time},
    ),
    "sharding": ({"clients": mm1(90, 0.010).response_time}, {"clients": mm1(22.5, 0.010).response_time}),
    "distributed-cache": (
        {"clients": 0.001 + mmc(350, 0.010, 4).response_time},
        {"clients": 0.001 + MISSES * (0.001 + mmc(350 * MISSES, 0.010, 4).response_time)},
    ),
    "algorithm": ({"clients": mg1_ps(80, 0.010).response_time}, {"clients": mg1_ps(80, 0.001).response_time}),
    "llm-gateway": ({"clients": 0.5 + 1.0}, {"clients": 0.0004 + MISSES * (0.5 + 1.0)}),
    "monitoring": tuple(
        {"clients": mmc_ps(80, 0.010, 4).response_time + mmc_ps(80, 0.005, 4).response_time + disk.response_time}
        for disk in (mm1(80, 0.005), mm1(80, 0.008))
    ),
    "batching": ({"clients": 20 * 0.0012}, {"clients": 0.005}),
    "load-testing": (
        {"clients": mm1(87.8, 0.010).response_time},
        {"clients": float(mva([0.010], 10, 0.080).response_time[-1])},
    ),
}
BOUNDS = {  # theory gives bounds only: (lowest, highest) before and after
    # Mitzenmacher (2001): sum over i of 0.9^(2^i - 2), reached from above as the servers become many
    "load-balancing": ((0.100, 0.100), (0.02614, 0.02614 * 1.05)),
    # between no waiting and that of exponential holding times; then the CPU alone
    "context-reuse": (exactly(conversation(reuses=False)), exactly(conversation(reuses=True))),
    "asynchronous": ((0.305, mmc(80, 0.305, 32).response_time), (0.005, mmc_ps(80, 0.005, 4).response_time)),
}

NO_HELP = {"monitoring"}  # after is what a monitor has to find: tests/test_drift.py


def means(technique, version):
    """Mean latency of every workload."""
    results = sim.run(sim.load(TECHNIQUES / technique / f"{version}.yaml"), sim.Settings(jobs=2))
    return {name: workload.latency_s["mean"] for name, workload in results.workloads.items()}


def half_width(estimate):
    return (estimate.high - estimate.low) / 2


def test_every_technique_is_tested():
    assert {path.name for path in TECHNIQUES.iterdir()} == {*EXPECTED, *BOUNDS}


@pytest.mark.parametrize("path", sorted(TECHNIQUES.glob("*/*.yaml")), ids=lambda path: "/".join(path.parts[-2:]))
def test_a_technique_says_what_it_shows(path):
    description = sim.load(path).description.strip()
    assert ": " in description
    assert "\n" not in description, short(description)


@pytest.mark.slow
@pytest.mark.parametrize("technique", EXPECTED)
def test_before_and_after_are_what_theory_says(technique):
    for version, expected in zip(("before", "after"), EXPECTED[technique], strict=True):
        for name, mean in means(technique, version).items():
            assert abs(mean.value - expected[name]) < 2.5 * half_width(mean), (version, name, mean, expected[name])


@pytest.mark.slow
@pytest.mark.parametrize("technique", BOUNDS)
def test_before_and_after_are_within_the_bounds_of_theory(technique):
    for version, (lowest, highest) in zip(("before", "after"), BOUNDS[technique], strict=True):
        mean = means(technique, version)["clients" if technique == "load-balancing" else "customers"]
        assert lowest - 2.5 * half_width(mean) < mean.value < highest + 2.5 * half_width(mean), (version, mean)


@pytest.mark.slow
@pytest.mark.parametrize("technique", sorted({*EXPECTED, *BOUNDS} - NO_HELP))
def test_the_change_helps_surely(technique):
    """In pairs under the same random numbers; for the load test, the latency that it shows is too low."""
    first, second = (sim.load(TECHNIQUES / technique / f"{version}.yaml") for version in ("before", "after"))
    comparison = sim.compare(first, second, sim.Settings(jobs=2))
    name = "visitors" if technique == "microservices" else next(iter(comparison.differences))
    mean = next(each for each in comparison.differences[name] if "mean" in each.metric)
    assert mean.difference.high < 0.0
