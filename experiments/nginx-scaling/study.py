"""Predict every row of the NGINX measurements with the shipped model, beside a straight line from 4 CPUs.

Prints the error of every row that nothing was fitted to, mean absolute errors by protocol and number of CPUs, what
the assumption about the second socket does to them, and the comment that the model's file carries. Writes
errors.csv and scaling.png beside this file, or into the folder given with --output.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

import simulator as sim
from simulator.calibration.validate import Validation
from simulator.study.executor import available_cores

HERE = Path(__file__).resolve().parent
SET = {
    "cpus": "services.nginx.workers",
    "operation": "workloads.clients.operation",
    "remote_efficiency": "hosts.server.cpu.remote_efficiency",
}
LINE_FROM_CPUS = 4
ONE_SOCKET = 18
LEFT_OUT = {"protocol": "http", "body_kb": "100", "cpus": "4"}
"""Within 5 % of the NIC's limit: fit.py leaves the row out, so it is held out although it has 4 CPUs."""
REMOTE_EFFICIENCIES = (1.0, 0.9, 0.8, 0.7)


def corrected(validation: Validation) -> Validation:
    """The validation with the row that the fit left out counted as held out."""
    rows = tuple(
        replace(each, fitted=each.fitted and {name: each.row[name] for name in LEFT_OUT} != LEFT_OUT)
        for each in validation.comparisons
    )
    return replace(validation, comparisons=rows)


def predictions(validation: Validation) -> pd.DataFrame:
    """One row per measured row: the prediction with its interval, and its error (0.1: 10 % too high)."""
    rows = [
        {
            "protocol": each.row["protocol"],
            "body_kb": int(each.row["body_kb"]),
            "cpus": int(each.row["cpus"]),
            "fitted": each.fitted,
            "measured": each.measured,
            "predicted": each.predicted.value,
            "low": each.predicted.low,
            "high": each.predicted.high,
            "error": each.error,
        }
        for each in validation.comparisons
    ]
    return pd.DataFrame(rows)


def ceilings(model: Path, **fields: object) -> tuple[float, float]:
    """Requests a second that the CPU allows with so many workers, and the NIC; read off the model, not simulated."""
    system = sim.load(model, [f"{SET[name]}={value}" for name, value in fields.items()])
    host, service = system.hosts["server"], system.services["nginx"]
    compute, transfer = service.operations[str(fields["operation"]).partition(".")[2]]
    seconds, payload = compute.compute.distribution().mean, transfer.transfer.distribution().mean
    cores = host.cpu.capacity()[service.workers - 1]
    return cores / seconds, host.nic.bandwidth / host.nic.overhead / payload


def straight_line(table: pd.DataFrame, model: Path) -> pd.Series:
    """What was measured with 4 CPUs times the number of CPUs over 4, but no more than the NIC carries."""
    base = table[table.cpus == LINE_FROM_CPUS].set_index(["protocol", "body_kb"]).measured
    found = []
    for row in table.itertuples():
        _, nic = ceilings(model, operation=f"nginx.{row.protocol}_{row.body_kb}kB")
        found.append(min(base[row.protocol, row.body_kb] * row.cpus / LINE_FROM_CPUS, nic))
    return pd.Series(found, index=table.index)


def mean_error(errors: pd.Series) -> float:
    """Mean absolute error, as a share."""
    return float(errors.abs().mean())


def summary(held_out: pd.DataFrame) -> list[tuple[str, int, float, float]]:
    """(which rows with more CPUs than the line starts from, how many, mean error of the model, that of the line)."""
    held_out = held_out[held_out.cpus > LINE_FROM_CPUS]
    groups = [("all", held_out)]
    groups += [(f"{protocol}", rows) for protocol, rows in held_out.groupby("protocol")]
    groups += [(f"{cpus} CPUs", rows) for cpus, rows in held_out.groupby("cpus")]
    return [(name, len(rows), mean_error(rows.error), mean_error(rows.line_error)) for name, rows in groups]


def second_socket(held_out: pd.DataFrame, model: Path) -> list[tuple[float, dict[int, float]]]:
    """Mean absolute errors with 32 and 36 CPUs by the assumed efficiency of the second socket, from ceilings."""
    beyond = held_out[held_out.cpus > ONE_SOCKET]
    found = []
    for efficiency in REMOTE_EFFICIENCIES:
        predicted = [
            min(ceilings(model, operation=f"nginx.{row.protocol}_{row.body_kb}kB", cpus=row.cpus,
                         remote_efficiency=efficiency))
            for row in beyond.itertuples()
        ]  # fmt: skip
        errors = pd.Series(predicted, index=beyond.index) / beyond.measured - 1.0
        found.append((efficiency, {int(cpus): mean_error(each) for cpus, each in errors.groupby(beyond.cpus)}))
    return found


def stated(held_out: pd.DataFrame) -> str:
    """The comment of the model's file: thousand requests a second predicted, and the error, of each held-out row."""
    cpus = sorted(held_out[held_out.cpus > LINE_FROM_CPUS].cpus.unique())
    lines = ["  #         CPUs" + "".join(f"{count:>17}" for count in cpus)]
    for (protocol, body), rows in held_out.groupby(["protocol", "body_kb"]):
        cells = {row.cpus: f"{row.predicted / 1e3:8.1f} ({row.error:+6.1%})" for row in rows.itertuples()}
        lines.append(f"  #   {protocol:5} {body:3} kB" + "".join(f"{cells.pop(count):>17}" for count in cpus))
        lines += [f"  #   {protocol:5} {body:3} kB{cell:>17} with {count} CPUs" for count, cell in cells.items()]
    return "\n".join(lines)


def draw(validation: Validation) -> Figure:
    """Requests a second by CPUs, a panel for each protocol."""
    figure = Figure(figsize=(9.0, 4.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, protocol in zip(panels, ("http", "https"), strict=True):
        rows = tuple(each for each in validation.comparisons if each.row["protocol"] == protocol)
        sim.plots.plot_scaling(replace(validation, comparisons=rows), "cpus", axes)
        axes.set_title(protocol.upper(), loc="left")
        axes.set_xlabel("CPUs (NGINX workers)")
    panels[1].set_ylabel("")
    panels[1].get_legend().remove()
    return figure


def report(held_out: pd.DataFrame, model: Path) -> None:
    """Print all tables."""
    print("protocol  body  CPUs     measured    predicted  error   95% interval         line  error")
    for row in held_out.sort_values(["protocol", "body_kb", "cpus"]).itertuples():
        interval = f"[{row.low / row.measured - 1:+.1%}, {row.high / row.measured - 1:+.1%}]"
        print(
            f"{row.protocol:8} {row.body_kb:3} kB {row.cpus:4} {row.measured:10,.0f}/s {row.predicted:10,.0f}/s"
            f" {row.error:+6.1%}  {interval:17} {row.line:10,.0f}/s {row.line_error:+6.1%}"
        )
    print("\nmean absolute error   rows   model   straight line")
    for name, count, model_error, line_error in summary(held_out):
        print(f"{name:20} {count:5} {model_error:7.1%} {line_error:15.1%}")
    print("\nmean absolute error by remote_efficiency   32 CPUs   36 CPUs")
    for efficiency, errors in second_socket(held_out, model):
        print(f"{efficiency:<40g} {errors[32]:9.1%} {errors[36]:9.1%}")
    print(f"\nfor the model's file:\n{stated(held_out)}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=HERE, help="folder for errors.csv and scaling.png")
    parser.add_argument("--replications", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=available_cores())
    options = parser.parse_args(arguments)
    model = sim.find_model(Path("nginx-web"))
    settings = sim.Settings(replications=options.replications, jobs=options.jobs)
    validation = corrected(sim.validate(model, settings=settings))
    table = predictions(validation)
    table["line"] = straight_line(table, model)
    table["line_error"] = table.line / table.measured - 1.0
    report(table[~table.fitted], model)
    options.output.mkdir(parents=True, exist_ok=True)
    whole = dict.fromkeys(("measured", "predicted", "low", "high", "line"), "int64")
    table.round({"error": 4, "line_error": 4} | dict.fromkeys(whole, 0)).astype(whole).to_csv(
        options.output / "errors.csv", index=False
    )
    draw(validation).savefig(options.output / "scaling.png", dpi=110)


if __name__ == "__main__":
    main()
