"""Speed of the SimPy engine as a ratio to a bare SimPy program of the same system.

Both are timed in this process, in turns, on one processor, by the processor time that they use. Run it with

    python tests/benchmarks/engine_speed.py [--requests 40000] [--repetitions 5] [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median

import numpy as np
import simpy

from simulator.engines import simulate
from simulator.model.files import loads
from simulator.model.lowering import lower
from simulator.program.program import Program

LOAD = 0.8
STATIONS = 5
Run = Callable[[int], int]
"""Simulates with a seed and returns how many requests came."""


def m_m_4() -> tuple[Program, int, int, float]:
    """The Program, and what the bare program needs: stations, servers, rate; each service takes 1 ms on average."""
    rate = LOAD * 4000.0
    text = f"""
hosts: {{h: {{cpu: 1, disk: {{iops: 4000, queue_depth: 4}}}}}}
services: {{s: {{host: h, operations: {{o: [read: 1 B]}}}}}}
workloads: {{w: {{rate: {rate}/s, operation: s.o}}}}
"""
    return lower(loads(text)), 1, 4, rate


def tandem() -> tuple[Program, int, int, float]:
    """Five queues in a row, one server each."""
    rate, names = LOAD * 1000.0, [f"s{number}" for number in range(STATIONS)]
    hosts = "".join(f"  {name}: {{cpu: 1, disk: {{iops: 1000}}}}\n" for name in names)
    services = "".join(f"  {name}: {{host: {name}, operations: {{o: [read: 1 B]}}}}\n" for name in names)
    steps = ", ".join(f"call: {name}.o" for name in names).replace("call", "{call").replace(".o", ".o}")
    text = (
        f"hosts:\n  front: {{cpu: 1}}\n{hosts}"
        f"services:\n  front: {{host: front, operations: {{o: [{steps}]}}}}\n{services}"
        f"workloads: {{w: {{rate: {rate}/s, operation: front.o}}}}\n"
    )
    return lower(loads(text)), STATIONS, 1, rate


def of_tpsim(program: Program, duration: float) -> Run:
    """The engine, records and all."""
    return lambda seed: sum(len(table) for table in simulate(program, duration, seed, engine="simpy").requests)


def of_bare_simpy(stations: int, servers: int, rate: float, duration: float) -> Run:
    """What a modeller would write: a process for each customer, a resource for each station, a list of times."""

    def run(seed: int) -> int:
        generator = np.random.default_rng(seed)
        most = int(rate * duration * 1.1) + 1000
        gaps = generator.exponential(1.0 / rate, most).tolist()
        services = generator.exponential(0.001, (most, stations)).tolist()
        environment = simpy.Environment()
        resources = [simpy.Resource(environment, servers) for _ in range(stations)]
        responses: list[float] = []
        arrived = 0

        def customer(times: list[float]) -> Iterator[simpy.Event]:
            arrival = environment.now
            for resource, service in zip(resources, times, strict=True):
                with resource.request() as request:
                    yield request
                    yield environment.timeout(service)
            responses.append(environment.now - arrival)

        def source() -> Iterator[simpy.Event]:
            nonlocal arrived
            for gap, times in zip(gaps, services, strict=True):
                yield environment.timeout(gap)
                arrived += 1
                environment.process(customer(times))

        environment.process(source())
        environment.run(until=duration)
        return arrived

    return run


def requests_per_second(run: Run, seed: int) -> float:
    """Requests simulated in a second of processor time."""
    start = time.process_time()
    requests = run(seed)
    return requests / (time.process_time() - start)


def compare(ours: Run, bare: Run, repetitions: int) -> tuple[float, float, float]:
    """Medians of both speeds, and of their ratio turn by turn."""
    ours(0), bare(0)
    turns = [(requests_per_second(ours, seed), requests_per_second(bare, seed)) for seed in range(1, repetitions + 1)]
    return median(a for a, _ in turns), median(b for _, b in turns), median(a / b for a, b in turns)


def profile(run: Run) -> None:
    """Print where the engine spends its time."""
    profiler = cProfile.Profile()
    profiler.runcall(run, 1)
    pstats.Stats(profiler, stream=sys.stdout).strip_dirs().sort_stats("tottime").print_stats(8)


def main() -> None:
    """Print a table of speeds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=40_000, help="requests of one run")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="show where the engine spends its time")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(f"{'system':24}{'tpsim /s':>12}{'bare /s':>12}{'ratio':>8}")
    for name, (program, stations, servers, rate) in {"M/M/4": m_m_4(), "tandem of five": tandem()}.items():
        duration = arguments.requests / rate
        ours, bare = of_tpsim(program, duration), of_bare_simpy(stations, servers, rate, duration)
        speeds = compare(ours, bare, arguments.repetitions)
        print(f"{name:24}{speeds[0]:12,.0f}{speeds[1]:12,.0f}{speeds[2]:8.2f}")
        if arguments.profile:
            profile(ours)


if __name__ == "__main__":
    main()
