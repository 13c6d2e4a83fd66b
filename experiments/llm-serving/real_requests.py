"""Replay 300 real requests to the simulated engine, and compare with what was measured of each of them.

    python experiments/llm-serving/real_requests.py

prints the errors for both GPUs and how they change with the assumed CPU time of a step, writes real-requests.csv, and
draws real-requests.png.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import simulator as sim
from simulator.model.system import System
from simulator.records import Records

HERE = Path(__file__).resolve().parent
MODELS = HERE.parents[1] / "models" / "llm"
NAMES = ("rtx-4090", "rtx-pro-6000")
SHOWN = ("ttft mean", "tpot mean", "e2e mean", "e2e p90")
CPU_MS = (0.0, 0.5, 0.7, 1.0, 2.0)
"""Milliseconds of the CPU between steps; the shipped models have 0.7 in the overhead, chosen with these runs."""
SHIPPED_CPU_MS = 0.7
LONG_ENOUGH = 3600.0
"""Seconds after which all requests have ended."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Requests:
    """Of every request: when it came (s since the first), seconds to its first and its last token, and its tokens."""

    arrival: Floats
    ttft: Floats
    e2e: Floats
    output: Floats

    def figures(self) -> dict[str, float]:
        """Means and quantiles in s, output tokens a second from the first arrival to the last token."""
        several = self.output > 1
        gaps = (self.e2e - self.ttft)[several] / (self.output[several] - 1)
        return {
            "ttft mean": float(self.ttft.mean()),
            "ttft p50": float(np.quantile(self.ttft, 0.5)),
            "ttft p90": float(np.quantile(self.ttft, 0.9)),
            "tpot mean": float(gaps.mean()),
            "e2e mean": float(self.e2e.mean()),
            "e2e p50": float(np.quantile(self.e2e, 0.5)),
            "e2e p90": float(np.quantile(self.e2e, 0.9)),
            "tokens/s": float(self.output.sum() / (self.arrival + self.e2e).max()),
        }


def measured(name: str) -> Requests:
    """What the trace says that vLLM took."""
    lines = (MODELS / f"{name}.csv").read_text(encoding="utf-8").splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    stamps = np.array([row["TIMESTAMP"] for row in rows], dtype="datetime64[us]")
    arrival = (stamps - stamps[0]) / np.timedelta64(1, "s")
    ttft, e2e, output = (np.array([float(row[key]) for row in rows]) for key in ("ttft_s", "e2e_s", "GeneratedTokens"))
    return Requests(arrival, ttft, e2e, output)


def records(name: str, engine: str = "auto", cpu_ms: float = SHIPPED_CPU_MS) -> Records:
    """A simulation of the shipped model with so much CPU time a step."""
    system = sim.load(MODELS / f"{name}.yaml", overrides(name, cpu_ms))
    return sim.simulate(sim.lower(system), LONG_ENOUGH, seed=1, engine=engine)


def overrides(name: str, cpu_ms: float) -> list[str]:
    """What sets the CPU time of a step."""
    if cpu_ms == SHIPPED_CPU_MS:
        return []
    shipped = coefficients(sim.load(MODELS / f"{name}.yaml"))["overhead"]
    return [f"llms.llama.step_time.overhead={1e3 * shipped - SHIPPED_CPU_MS + cpu_ms!r} ms"]


def coefficients(system: System) -> dict[str, float]:
    """Those of a step's time in a model."""
    step = system.resources("llms")["llama"].engine().step
    return {field.name: getattr(step, field.name) for field in fields(step)}


def simulated(found: Records) -> Requests:
    """The requests of a simulation, which are all completed."""
    table = found.requests[0]
    order = np.argsort(table.number)
    meter = {name: table.meter[order, index] for index, name in enumerate(table.meters)}
    arrival, end = table.arrival[order], table.end[order]
    return Requests(arrival, meter["first token"] - arrival, end - arrival, meter["llms.llama.output"])


def errors(real: Requests, found: Requests) -> dict[str, float]:
    """(simulated - measured) / measured of each figure."""
    figures = real.figures()
    return {name: value / figures[name] - 1.0 for name, value in found.figures().items()}


def show(name: str, real: Requests, found: Requests) -> list[list[str]]:
    """Print a GPU's table, and return its rows."""
    print(f"\n{name:<14}{'measured':>12}{'simulated':>12}{'error':>10}")
    of, rows = found.figures(), []
    for figure, error in errors(real, found).items():
        value = real.figures()[figure]
        print(f"{figure:<14}{value:>12.4g}{of[figure]:>12.4g}{error:>+10.1%}")
        rows.append([name, figure, f"{value:.5g}", f"{of[figure]:.5g}", f"{error:.4f}"])
    return rows


def show_cpu_times(name: str, real: Requests) -> None:
    """Print the errors by what the CPU is assumed to take a step."""
    print(f"\n{name}, by CPU time a step")
    for cpu_ms in CPU_MS:
        found = errors(real, simulated(records(name, cpu_ms=cpu_ms)))
        shown = "  ".join(
            f"{figure} {found[figure]:+.1%}" for figure in ("ttft mean", "tpot mean", "e2e mean", "e2e p90")
        )
        print(f"  {cpu_ms:3.1f} ms  {shown}")


def draw(pairs: dict[str, tuple[Requests, Requests]], path: Path) -> None:
    """Every request's times, simulated against measured."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 7.6), layout="constrained")
    panels = figure.subplots(2, len(pairs))
    for column, (name, (real, found)) in enumerate(pairs.items()):
        for row, (kind, title) in enumerate((("ttft", "time to first token"), ("e2e", "time to last token"))):
            panel, of, to = panels[row][column], getattr(real, kind), getattr(found, kind)
            panel.plot(of, to, ".", markersize=4)
            most = float(max(of.max(), to.max()))
            panel.plot([0.0, most], [0.0, most], "k-", linewidth=0.8)
            panel.set(xlabel="measured (s)", ylabel="simulated (s)", title=f"{name}: {title}")
            panel.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="auto", help="simpy, compiled, or auto")
    parser.add_argument("--output", type=Path, default=HERE, help="folder for the table and the plot")
    options = parser.parse_args()
    rows, pairs = [], {}
    for name in NAMES:
        found = records(name, options.engine)
        pairs[name] = measured(name), simulated(found)
        rows += show(name, *pairs[name])
        print(f"preemptions   {found.inference[-1, 0, -1]:24.0f}")
    for name in NAMES:
        show_cpu_times(name, pairs[name][0])
    with (options.output / "real-requests.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerows([["gpu", "figure", "measured", "simulated", "error"], *rows])
    draw(pairs, options.output / "real-requests.png")


if __name__ == "__main__":
    main()
