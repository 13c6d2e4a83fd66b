"""LLM serving: CPU seconds of 1,000 requests with Azure's lengths, 3 a second, on one 8B model, on both engines.

    python tests/benchmarks/llm_speed.py [--rounds 5]

Prints medians over rounds in which the engines take turns, with the simulated seconds per second of CPU; the compiled
engine's machine code is loaded before. Both engines are held to the same records.
"""

import argparse
import statistics
import time
from pathlib import Path

from simulator.engines import simulate
from simulator.model.files import load
from simulator.model.lowering import lower

MODEL = Path(__file__).parent.parent.parent / "models" / "llm-serving.yaml"
RATE, REQUESTS = 3.0, 1000
ENGINES = ("simpy", "compiled")


def seconds_of(program, engine):
    """CPU time of one run, and its digest."""
    start = time.process_time()
    records = simulate(program, REQUESTS / RATE, seed=1, engine=engine)
    return time.process_time() - start, records.digest()


def main():
    """Take turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    program = lower(load(MODEL, [f"workloads.users.rate={RATE}/s"]))
    seconds_of(program, "compiled")
    times, digests = {engine: [] for engine in ENGINES}, set()
    for _ in range(rounds):
        for engine in ENGINES:
            seconds, digest = seconds_of(program, engine)
            times[engine].append(seconds)
            digests.add(digest)
    assert len(digests) == 1, "the engines' records differ"
    print(f"{'engine':10} {'CPU s':>8} {'simulated s per s':>18}")
    for engine in ENGINES:
        median = statistics.median(times[engine])
        print(f"{engine:10} {median:8.4f} {REQUESTS / RATE / median:18,.0f}")
    ratio = statistics.median(slow / quick for slow, quick in zip(times["simpy"], times["compiled"], strict=True))
    print(f"compiled / SimPy: {ratio:.0f}")


if __name__ == "__main__":
    main()
