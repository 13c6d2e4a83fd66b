"""What it does to recorded prompts at their own pace how they are spread over four replicas.

    python experiments/context-reuse/routing.py conversation_trace.jsonl

prints the share of the prompts' tokens that is found and the time to the first token, and writes routing.csv.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import simulator as sim

sys.path.append(str(Path(__file__).resolve().parents[1]))
from measured_data import measured_data

HERE = Path(__file__).parent
TRACE = measured_data("github.com/kvcache-ai/Mooncake, FAST25-release/traces")
ROUTING = {
    "in turn": (),
    "fewest requests": ("balancer=least_outstanding",),
    "by the first 512 tokens": ("affinity=true", "affinity_tokens=512"),
    "by the first 1,024 tokens": ("affinity=true", "affinity_tokens=1024"),
    "by the first 2,048 tokens": ("affinity=true", "affinity_tokens=2048"),
}
ROOM = {"the GPU's": (), "5,000,000": ("kv_tokens=5M",)}
COLUMNS = ("found", "first_token_p50_s", "first_token_p95_s")


def served(trace: Path, changes: tuple[str, ...]) -> tuple[float, float, float]:
    """The share that is found, and the median and 95th percentile of the time to the first token (s)."""
    settings = [f"workloads.users.replay={trace}", *(f"llms.assistant.{change}" for change in changes)]
    users = sim.run(sim.load(HERE / "serving.yaml", settings)).to_json()["workloads"]["users"]
    tokens = users["tokens"]
    first = tokens["ttft_s"]
    return tokens["cached"]["value"], first["p50"]["value"], first["p95"]["value"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=TRACE)
    trace = parser.parse_args().trace
    with (HERE / "routing.csv").open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(["room_tokens", "routing", *COLUMNS])
        print(f"{'room':>10}  {'routing':26} found  first token p50        p95")
        for room, size in ROOM.items():
            for routing, changes in ROUTING.items():
                found, median, high = served(trace, (*size, *changes))
                print(f"{room:>10}  {routing:26} {found:5.1%}  {median:13.2f} s {high:8.2f} s", flush=True)
                rows.writerow([room, routing, f"{found:.4f}", f"{median:.3f}", f"{high:.3f}"])


if __name__ == "__main__":
    main()
