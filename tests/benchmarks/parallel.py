"""Replications in parallel: two worker processes, which tpsim uses, against two threads and against none.

    python tests/benchmarks/parallel.py [--rounds 7] [--requests 100000]

All ways take turns on the same ten replications, simulated, checked and reduced; a ratio is the median over the rounds
of the wall time of one way by that of another in the same round. The first call with processes, which also starts the
server that they are forked from, is told apart.
"""

import argparse
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from simulator.engines import prepare
from simulator.model.files import load, loads
from simulator.study.executor import map_tasks
from simulator.study.run import Experiment, Settings, Task, replicate

JOBS, REPLICATIONS = 2, 10
MODELS = Path(__file__).parent.parent.parent / "models"
M_M_4 = """
hosts: {h: {cpu: 1, disk: {iops: 4000, queue_depth: 4}}}
services: {s: {host: h, operations: {o: [read: 1 B]}}}
workloads: {w: {rate: 3000/s, operation: s.o}}
"""
RATES = {"web-shop": 600.0, "M/M/4": 3000.0}  # requests a second


def tasks_of(system, duration):
    """The replications of a system."""
    program = Experiment(system, Settings(duration=duration)).program
    return [Task(program, duration, 1, number, "compiled", False, None) for number in range(REPLICATIONS)]


def one_by_one(tasks):
    """No parallelism."""
    return [replicate(task)[0] for task in tasks]


def processes(tasks):
    """Worker processes."""
    return [reduced for reduced, _ in map_tasks(replicate, tasks, JOBS)]


def threads(tasks):
    """Threads: the kernel does not hold the interpreter's lock, all else does."""
    with ThreadPoolExecutor(JOBS) as pool:
        return [reduced for reduced, _ in pool.map(replicate, tasks)]


def wall(way, tasks):
    """Seconds that a way takes, and what came out."""
    start = time.perf_counter()
    digests = [reduced.digest for reduced in way(tasks)]
    return time.perf_counter() - start, digests


def ratio(times, way, other):
    """Median and range of the ratio of two ways' times."""
    ratios = [each[way] / each[other] for each in times]
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"


def compare(name, tasks, rounds):
    """Let all ways take turns, and print."""
    times = []
    for _ in range(rounds):
        found = {way: wall(way, tasks) for way in (one_by_one, processes, threads)}
        assert len({tuple(digests) for _, digests in found.values()}) == 1, "the ways differ"
        times.append({way: seconds for way, (seconds, _) in found.items()})
    medians = ", ".join(f"{way.__name__} {statistics.median(each[way] for each in times):.2f} s" for way in times[0])
    print(f"{name}: {medians}")
    print(f"    threads / processes     {ratio(times, threads, processes)}")
    print(f"    one by one / processes  {ratio(times, one_by_one, processes)}", flush=True)


def main():
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=100_000, help="of one replication")
    options = parser.parse_args()
    systems = {"web-shop": load(MODELS / "web-shop.yaml"), "M/M/4": loads(M_M_4)}
    first = True
    for name, system in systems.items():
        tasks = tasks_of(system, options.requests / RATES[name])
        prepare(tasks[0].program)
        if first:
            print(f"first call with processes: {wall(processes, tasks_of(system, 0.1))[0]:.2f} s")
            first = False
        compare(name, tasks, options.rounds)


if __name__ == "__main__":
    main()
