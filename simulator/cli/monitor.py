"""`tpsim monitor`: measurements that drift away from a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from simulator.cli.exit_codes import UNMET
from simulator.cli.options import (
    Duration,
    EngineName,
    Jobs,
    Json,
    Model,
    Replications,
    Seed,
    Sets,
    model_path,
    settings_of,
)
from simulator.cli.output import print_blocks, print_json
from simulator.cli.progress import Bar
from simulator.errors import UsageError


def monitor(
    model: Model,
    measured: Annotated[Path, typer.Argument(help="A CSV, one row for each window.", metavar="CSV")],
    sets: Sets = None,
    baseline: Annotated[
        int | None, typer.Option("--baseline", min=3, help="Windows that are normal, 20 if left out; few hide a shift.")
    ] = None,
    allowance: Annotated[
        float | None, typer.Option("--allowance", help="Half the shift to find, in deviations; 0.5 if left out.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Sum of deviations that is drift; 8 if left out.")
    ] = None,
    seed: Seed = None,
    duration: Duration = None,
    replications: Replications = None,
    engine: EngineName = "auto",
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Show where measurements drift away from a model, window by window, and what moved."""
    from simulator.calibration.cusum import Chart
    from simulator.calibration.drift import monitor as monitor_model
    from simulator.results.results import SCHEMA_VERSION

    settings = settings_of(seed, duration, replications, None, engine, jobs)
    given: dict[str, Any] = {"baseline": baseline, "allowance": allowance, "threshold": threshold}
    try:
        chart = Chart(**{name: value for name, value in given.items() if value is not None})
    except ValueError as error:
        raise UsageError(str(error)) from None
    with Bar("loads") as bar:
        found = monitor_model(model_path(model), measured, sets or (), settings, chart, tell=bar)
    from simulator.report.drift_tables import monitoring_json, monitoring_tables

    if as_json:
        print_json({"schema_version": SCHEMA_VERSION, **monitoring_json(found)})
    else:
        print_blocks(monitoring_tables(found))
    if found.drift is not None:
        raise typer.Exit(UNMET)
