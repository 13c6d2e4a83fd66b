"""The shop's four phases: what each can serve, what it costs, and what a flash sale does to it.

Prints the table of the README, and writes results.csv and flash-sale.png beside this file, or into the folder given
with --output. Every figure has a 95 % interval over independent replications; capacities have the bracket of the
search, whose ends were each decided at 95 %.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

import simulator as sim
from simulator.model.objective import Objective
from simulator.records import COMPLETED, RequestTable
from simulator.results.estimate import mean_interval, proportion_interval

HERE = Path(__file__).resolve().parent
PHASES = ("phase-0", "phase-1", "phase-2", "phase-3")
LIMITS = {"visitors": ("p95 < 1 s", "error rate < 1%"), "buyers": ("p95 < 2 s", "error rate < 1%")}
PEAK = (40.0, 70.0)
"""Seconds of the sale at twelve times the load, the first five left out."""
STEP = 2.0


@dataclass(frozen=True)
class Sale:
    """A flash sale, over replications: rates by time, and what is served at its peak."""

    times: NDArray[np.float64]
    offered: NDArray[np.float64]
    served: NDArray[np.float64]
    peak_offered: sim.Estimate
    peak_served: sim.Estimate
    peak_orders: sim.Estimate
    order_p95: sim.Estimate
    failed: sim.Estimate


def load(name: str) -> sim.System:
    """A model of the case study."""
    return sim.load(sim.find_model(f"ecommerce/{name}"))


def capacity_of(system: sim.System, workload: str, replications: int = 4) -> sim.Estimate:
    """Requests a second of one workload alone that the system can serve within its limits."""
    alone = system.model_copy(update={"workloads": {workload: system.workloads[workload]}, "objectives": []})
    objectives = tuple(Objective.model_validate(text) for text in LIMITS[workload])
    found = sim.capacity(alone, objectives, sim.Settings(replications=replications))
    assert found is not None
    arrivals = system.workloads[workload].open_arrivals()
    assert arrivals is not None
    rate, factor = arrivals.mean_rate, found.factor
    return sim.Estimate(rate * factor.value, rate * factor.low, rate * factor.high, factor.n)


def flash_sale(system: sim.System, replications: int = 6) -> Sale:
    """Run a sale several times."""
    program = sim.lower(system)
    end = max(point.at for point in system.workloads["visitors"].profile.points)  # type: ignore[union-attr]
    edges = np.arange(0.0, end + STEP / 2, STEP)
    runs = [sim.simulate(program, end, seed=system.run.seed, replication=number) for number in range(replications)]
    rows = [[table for table in each.requests if table.workload in system.workloads] for each in runs]
    offered = np.array([_rates([table.arrival for table in tables], edges) for tables in rows])
    served = np.array([_rates([_ends(table) for table in tables], edges) for tables in rows])
    orders = [table for tables in rows for table in tables if table.workload == "buyers"]
    return Sale(
        times=edges[:-1] + STEP / 2,
        offered=offered.mean(axis=0),
        served=served.mean(axis=0),
        peak_offered=_mean(_at_peak(offered, edges)),
        peak_served=_mean(_at_peak(served, edges)),
        peak_orders=_mean(_at_peak(np.array([_rates([_ends(table)], edges) for table in orders]), edges)),
        order_p95=_mean([_p95(table) for table in orders]),
        failed=_share_failed(rows),
    )


def _mean(samples: NDArray[np.float64] | list[float]) -> sim.Estimate:
    """The mean of what cannot be negative; infinite where a replication is."""
    if not np.isfinite(samples).all():
        return sim.Estimate(np.inf, np.inf, np.inf, len(samples))
    found = mean_interval(samples)
    return replace(found, low=max(found.low, 0.0))


def _ends(table: RequestTable) -> NDArray[np.float64]:
    return table.end[table.outcome == COMPLETED]


def _rates(times: list[NDArray[np.float64]], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Events a second in each step."""
    return np.histogram(np.concatenate(times), edges)[0] / STEP


def _at_peak(rates: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = (edges[:-1] >= PEAK[0]) & (edges[1:] <= PEAK[1])
    return rates[:, inside].mean(axis=1)  # type: ignore[no-any-return]


def _p95(table: RequestTable) -> float:
    """Of the orders that came at the peak; infinite where one in twenty or more was never served."""
    came = (table.arrival >= PEAK[0]) & (table.arrival < PEAK[1])
    times = np.where(table.outcome == COMPLETED, table.end - table.arrival, np.inf)[came]
    return float(np.quantile(times, 0.95, method="higher"))


def _share_failed(rows: list[list[RequestTable]]) -> sim.Estimate:
    """Share of the requests that came at the peak and were not served; Clopper and Pearson's interval where none is."""
    counts = [_lost(tables) for tables in rows]
    if not any(lost for lost, _ in counts):
        return proportion_interval(0, sum(came for _, came in counts))
    found = _mean([lost / came for lost, came in counts])
    return replace(found, high=min(found.high, 1.0))


def _lost(tables: list[RequestTable]) -> tuple[int, int]:
    """Requests that came at the peak and were not served, and all that came then."""
    inside = [(table.arrival >= PEAK[0]) & (table.arrival < PEAK[1]) for table in tables]
    lost = sum(int((table.outcome[came] != COMPLETED).sum()) for table, came in zip(tables, inside, strict=True))
    return lost, sum(int(came.sum()) for came in inside)


def study(replications: int) -> tuple[pd.DataFrame, dict[str, Sale]]:
    """One row a phase, and every phase's sale."""
    rows, sales = [], {}
    for phase in PHASES:
        system = load(phase)
        sale = sales[phase] = flash_sale(load(f"{phase}-flash-sale"), replications)
        figures = {
            "pages_per_s": capacity_of(system, "visitors"),
            "orders_per_s": capacity_of(system, "buyers"),
            "sale_offered_per_s": sale.peak_offered,
            "sale_served_per_s": sale.peak_served,
            "sale_orders_per_s": sale.peak_orders,
            "sale_order_p95_s": sale.order_p95,
            "sale_failed": sale.failed,
        }
        row: dict[str, object] = {"phase": phase, "cost_per_hour": system.cost_per_hour}
        for name, estimate in figures.items():
            row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        rows.append(row)
    return pd.DataFrame(rows), sales


def table(found: pd.DataFrame) -> str:
    """The table of the README."""
    lines = [
        "| phase | pages/s | orders/s | in the sale: served | of it orders | p95 of an order | not served | cost |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found.to_dict("records"):
        cells = [
            _cell(row, "pages_per_s", "{:,.0f}"),
            _cell(row, "orders_per_s", "{:,.0f}"),
            _cell(row, "sale_served_per_s", "{:,.0f}", "/s"),
            _cell(row, "sale_orders_per_s", "{:,.0f}", "/s"),
            _seconds(row),
            _cell(row, "sale_failed", "{:.2%}"),
            f"${row['cost_per_hour']:.2f}/h",
        ]
        lines.append(f"| {row['phase'].removeprefix('phase-')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(row: dict[str, float], name: str, form: str, unit: str = "") -> str:
    value, low, high = (form.format(row[key]) for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value}{unit} [{low}, {high}]"


def _seconds(row: dict[str, float]) -> str:
    if not np.isfinite(row["sale_order_p95_s"]):
        return "never"
    value, low, high = (1000.0 * row[f"sale_order_p95_s{end}"] for end in ("", "_low", "_high"))
    return f"{value:,.0f} ms [{low:,.0f}, {high:,.0f}]"


def plot(sales: dict[str, Sale]) -> Figure:
    """Requests a second offered and served over the sale, one panel a phase."""
    figure = Figure(figsize=(9.0, 5.2), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    for axes, (phase, sale) in zip(panels.flat, sales.items(), strict=True):
        axes.fill_between(sale.times, sale.offered, color="0.85", label="offered")
        axes.plot(sale.times, sale.served, color="C0", label="served in time")
        axes.set_title(phase.replace("-", " "), loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0)
    panels[0, 0].legend(frameon=False, fontsize=9)
    figure.supxlabel("seconds; the sale begins at 30 s", fontsize=9)
    figure.supylabel("requests a second", fontsize=9)
    return figure


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=HERE, help="folder for results.csv and flash-sale.png")
    parser.add_argument("--replications", type=int, default=6)
    arguments = parser.parse_args()
    found, sales = study(arguments.replications)
    arguments.output.mkdir(parents=True, exist_ok=True)
    found.to_csv(arguments.output / "results.csv", index=False, float_format="%.6g")
    plot(sales).savefig(arguments.output / "flash-sale.png", dpi=150)
    print(table(found))


if __name__ == "__main__":
    main()
