"""`tpsim sweep`: a grid of settings."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simulator.cli.exit_codes import IMPRECISE
from simulator.cli.options import (
    Duration,
    EngineName,
    Jobs,
    Json,
    Model,
    Precision,
    Replications,
    Seed,
    Sets,
    SummariesOnly,
    axes_of,
    model_path,
    objective_of,
    settings_of,
)
from simulator.cli.output import print_json
from simulator.cli.progress import Bar
from simulator.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from simulator.results.results import Results
    from simulator.study.sweep import Point


def sweep(
    model: Model,
    vary: Annotated[
        list[str], typer.Option("--vary", metavar="PATH=A,B,C", help="A field and its values; repeat for a grid.")
    ],
    objective: Annotated[
        list[str] | None, typer.Option("--objective", help="e.g. 'p99 < 200 ms'; the model's own if left out.")
    ] = None,
    sets: Sets = None,
    seed: Seed = None,
    duration: Duration = None,
    replications: Replications = None,
    precision: Precision = None,
    engine: EngineName = "auto",
    jobs: Jobs = None,
    summaries_only: SummariesOnly = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A .csv or .parquet file.")] = None,
    as_json: Json = False,
) -> None:
    """Simulate every point of a grid over fields of a model; one tidy table, CSV on stdout or a file."""
    from simulator.study.sweep import sweep as sweep_model
    from simulator.study.sweep import tidy

    if output is not None and output.suffix not in (".csv", ".parquet"):
        raise UsageError(f"-o: got {str(output)!r}, expected a file that ends in .csv or .parquet")
    axes = axes_of(vary)
    objectives = [objective_of(text) for text in objective or ()]
    settings = settings_of(seed, duration, replications, precision, engine, jobs, summaries_only)
    finished: dict[int, tuple[Point, Results]] = {}
    try:
        with Bar("points") as bar:
            points = sweep_model(model_path(model), axes, sets or (), settings, bar, objectives, finished)
    except BaseException:
        if output is not None and finished:
            part = output.with_suffix(f".partial{output.suffix}")
            _write_or_print(part, tidy([finished[number] for number in sorted(finished)]))
            planned = math.prod(len(axis.values) for axis in axes)
            print(f"tpsim: {len(finished)} of {planned} points were finished: {part}", file=sys.stderr)
        raise
    table = tidy(points)
    if output is not None:
        _write_or_print(output, table)
        print(f"{len(points)} points: {output}")
    elif as_json:
        from simulator.results.results import SCHEMA_VERSION, to_json

        print_json({"schema_version": SCHEMA_VERSION, "rows": to_json(table.to_dict("records"))})
    else:
        table.to_csv(sys.stdout, index=False)
    if not all(results.precision_reached for _, results in points):
        raise typer.Exit(IMPRECISE)


def _write_or_print(path: Path, table: pd.DataFrame) -> None:
    """Write a table to a file; where that fails, print it, lest it be lost, and raise the OSError."""
    from simulator.study import store

    try:
        store.write_table(path, table)
    except OSError:
        table.to_csv(sys.stdout, index=False)
        raise
