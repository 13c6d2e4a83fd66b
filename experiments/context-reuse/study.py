"""How much of the prompts a prefix cache spares, by its size: walks request traces through pools of blocks.

    python experiments/context-reuse/study.py synthetic_trace.jsonl conversation_trace.jsonl

prints the hit rate of each trace by capacity and eviction policy, and beside it what the simulated serving engine finds
that answers one prompt at a time; writes results.csv and simulated.csv, and draws hit-rates.png.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import simulator as sim
from simulator.analytic.prefix_caches import PrefixHits, prefix_hits
from simulator.records import INFERENCE_FIELDS
from simulator.traces.trace import Trace, open_trace

sys.path.append(str(Path(__file__).resolve().parents[1]))
from measured_data import measured_data

HERE = Path(__file__).parent
TRACE = measured_data("github.com/kvcache-ai/Mooncake, FAST25-release/traces")
POLICIES = ("lru", "lfu", "fifo")
CAPACITIES = [
    10**4, 10**5, 3 * 10**5, 10**6, 2 * 10**6, 3 * 10**6, 4 * 10**6, 5 * 10**6, 8 * 10**6, 10**7, 2 * 10**7,
    5 * 10**7, 10**8, 5 * 10**8, 10**9,
]  # fmt: skip

SIMULATED = [10**6, 3 * 10**6, 5 * 10**6, 10**7, 5 * 10**7]
SIMULATED_POLICIES = ("lru", "lfu")
ONE_AT_A_TIME = (
    "llms.assistant.gpus=1", "llms.assistant.max_sequences=1",
    "llms.assistant.step_time={overhead: 1 us, weights: 0 s, token: 0 s}",
)  # fmt: skip
DURATION = 7200.0


def published() -> dict[int, float]:
    """The published hit rate of the synthetic trace under LRU, by capacity in tokens."""
    lines = (HERE / "published.csv").read_text(encoding="utf-8").splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    return {int(row["capacity_tokens"]): float(row["hit_rate"]) for row in rows}


def curves(trace: Trace) -> dict[str, list[PrefixHits]]:
    """Hits by policy, at every capacity."""
    return {policy: prefix_hits(trace, CAPACITIES, policy) for policy in POLICIES}


def show(name: str, found: dict[str, list[PrefixHits]]) -> None:
    """Print a trace's table."""
    known = published() if name.startswith("synthetic") else {}
    print(f"\n{name}\n{'tokens':>15}  " + "  ".join(f"{policy:>6}" for policy in POLICIES) + "  published")
    for index, capacity in enumerate(CAPACITIES):
        rates = "  ".join(f"{found[policy][index].rate:6.4f}" for policy in POLICIES)
        print(f"{capacity:15,}  {rates}  {known.get(capacity, '')}".rstrip())


def simulated(trace: Trace, capacity: int, policy: str) -> float:
    """Share of the prompts' tokens that an engine with blocks of 16 tokens finds, where no prompt overlaps another."""
    changes = f"llms.assistant.kv_tokens={capacity}", f"llms.assistant.eviction={policy}"
    replay = f"workloads.users.replay={trace.source}"
    system = sim.load(HERE / "serving.yaml", [*ONE_AT_A_TIME, *changes, replay])
    (last,) = sim.simulate(sim.lower(system), DURATION, 1).inference[-1]
    tokens = dict(zip(INFERENCE_FIELDS, last.tolist(), strict=True))
    return float(tokens["cached_tokens"] / tokens["prompt_tokens"])


def simulate(traces: dict[str, Trace], results: dict[str, dict[str, list[PrefixHits]]]) -> None:
    """Print simulated hit rates beside walked ones, and write them into simulated.csv."""
    with (HERE / "simulated.csv").open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(["trace", "policy", "capacity_tokens", "walked_of_prompts", "simulated_of_prompts"])
        print(f"\n{'of all tokens':>24}  policy  walked  simulated")
        for name, trace in traces.items():
            for policy in SIMULATED_POLICIES:
                walked = {each.capacity: each.rate_of_prompts for each in results[name][policy]}
                for capacity in SIMULATED:
                    rates = f"{walked[capacity]:.4f}", f"{simulated(trace, capacity, policy):.4f}"
                    print(f"{name:>12} {capacity:11,}  {policy:>6}  {rates[0]}     {rates[1]}", flush=True)
                    rows.writerow([name, policy, capacity, *rates])


def write(results: dict[str, dict[str, list[PrefixHits]]]) -> None:
    """Write every rate into results.csv."""
    with (HERE / "results.csv").open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(["trace", "policy", "capacity_tokens", "hit_rate", "hit_rate_of_prompts"])
        for name, found in results.items():
            for policy, hits in found.items():
                for each in hits:
                    rates = f"{each.rate:.4f}", f"{each.rate_of_prompts:.4f}"
                    rows.writerow([name, policy, each.capacity, *rates])


def draw(results: dict[str, dict[str, list[PrefixHits]]]) -> None:
    """Draw the curves, one panel a trace, into hit-rates.png."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(results), figsize=(5.0 * len(results), 4.0), sharey=True, squeeze=False, layout="constrained"
    )
    for panel, (name, found) in zip(panels[0], results.items(), strict=True):
        for policy, hits in found.items():
            panel.plot([each.capacity for each in hits], [100.0 * each.rate for each in hits], label=policy.upper())
        if name.startswith("synthetic"):
            known = published()
            panel.plot(
                list(known), [100.0 * rate for rate in known.values()], "ko", fillstyle="none", label="published, LRU"
            )
        panel.set(xscale="log", xlabel="capacity (tokens)", title=name)
        panel.grid(alpha=0.3)
        panel.legend()
    panels[0][0].set(ylabel="tokens in whole blocks that hit (%)", ylim=(0.0, None))
    figure.savefig(HERE / "hit-rates.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", type=TRACE, nargs="+")
    paths = parser.parse_args().traces
    traces = {path.name.partition(".")[0].removesuffix("_trace"): open_trace(path, "mooncake") for path in paths}
    results = {name: curves(trace) for name, trace in traces.items()}
    for name, found in results.items():
        show(name, found)
    write(results)
    simulate(traces, results)
    draw(results)


if __name__ == "__main__":
    main()
