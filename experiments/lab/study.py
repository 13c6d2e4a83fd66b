"""Predict every row of the laboratory measurements with the models beside them, and say which are off by how much.

Prints one line a row: its load as a share of the model's capacity, and the measured and predicted figures with their
errors. A row that is judged and off is marked with `*`, and `in 20 s` is the range of 95 % of simulated windows as long
as the measured one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import simulator as sim
from simulator.calibration.validate import Comparison, read_table
from simulator.engines import simulate

MODELS = Path(__file__).resolve().parents[2] / "models" / "lab"
LOADED = 0.85
ALLOWED = {"throughput": 0.03, "mean": 0.10, "p95": 0.15}
WINDOW, WINDOWS, BEFORE = 20.0, 300, 10.0


@dataclass(frozen=True)
class Verdict:
    """A comparison with its row's load (a share of capacity), and whether what was promised covers it."""

    model: str
    comparison: Comparison
    load: float
    saturated: bool

    @property
    def judged(self) -> bool:
        """Throughput is where users keep the system busy, latency where it has less than 85 % of its load."""
        if self.comparison.metric == "throughput":
            return self.saturated
        return self.load < LOADED

    @property
    def off(self) -> bool:
        """Whether it is judged and further off than allowed."""
        return self.judged and abs(self.comparison.error) > ALLOWED[self.comparison.metric]

    @property
    def key(self) -> tuple[str, str, str]:
        """Model, row and metric."""
        return self.model, " ".join(self.comparison.row.values()), self.comparison.metric


def system_of(path: Path, line: int) -> sim.System:
    """The model of the measured row at a line of its table."""
    measurements = sim.load(path).measurements
    rows = {row.line: row.cells for row in read_table(path.with_suffix(".csv"), measurements)}
    return sim.load(path, [f"{place}={rows[line][column]}" for column, place in measurements.set.items()])


def verdicts(settings: sim.Settings | None = None) -> Iterator[Verdict]:
    """Every figure of every table."""
    for path in sorted(MODELS.glob("*.yaml")):
        for each in sim.validate(path, settings=settings).comparisons:
            [facts] = sim.facts(sim.lower(system_of(path, each.line))).workloads
            saturated = facts.users is not None and facts.users > facts.saturation_users
            rate = facts.expected_throughput if facts.users is None else measured_throughput(path, each.line)
            yield Verdict(path.stem, each, rate / facts.saturation_throughput, saturated)


def measured_throughput(path: Path, line: int) -> float:
    """Requests a second that a closed row's users got."""
    rows = read_table(path.with_suffix(".csv"), sim.load(path).measurements)
    return next(float(row.cells["tps"]) for row in rows if row.line == line)


def windows(verdict: Verdict) -> tuple[float, float]:
    """2.5 % and 97.5 % quantile of a latency over windows as long as the measured one."""
    path = MODELS / f"{verdict.model}.yaml"
    program = sim.lower(system_of(path, verdict.comparison.line))
    found = []
    for replication in range(WINDOWS):
        [table] = simulate(program, BEFORE + WINDOW, 1, replication).requests
        latency = (table.end - table.arrival)[(table.end > 0) & (table.arrival >= BEFORE)]
        found.append(latency.mean() if verdict.comparison.metric == "mean" else np.quantile(latency, 0.95))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def line_of(verdict: Verdict) -> str:
    """A line of the printed table."""
    each = verdict.comparison
    unit, factor = ("/s", 1.0) if each.metric == "throughput" else ("ms", 1e3)
    model, row, metric = verdict.key
    line = (
        f"{model:23} {row:22} {verdict.load:5.0%}  {metric:10} {each.measured * factor:8.2f}"
        f" {each.predicted.value * factor:8.2f} {unit} {each.error:+7.1%} {'' if verdict.judged else 'not judged'}"
    )
    if verdict.off and each.metric != "throughput":
        low, high = windows(verdict)
        line += f"* in 20 s: {low * factor:.2f} to {high * factor:.2f} ms"
    return line.rstrip()


if __name__ == "__main__":
    print(f"{'model':23} {'row':22} {'load':>5}  {'figure':10} {'measured':>8} {'predicted':>8} {'error':>10}")
    for each in verdicts():
        print(line_of(each))
