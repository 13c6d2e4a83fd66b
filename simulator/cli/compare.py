"""`tpsim compare`: two settings under the same random numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    SummariesOnly,
    checked_sets,
    model_path,
    settings_of,
)
from simulator.cli.output import print_blocks, print_json
from simulator.cli.progress import Bar
from simulator.errors import UsageError


def compare(
    model: Model,
    second: Annotated[
        Path | None, typer.Argument(help="Another model file; else the same one.", metavar="[MODEL]")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "-S", "--set", metavar="PATH=VALUE", callback=checked_sets, help="Change a field of both settings."
        ),
    ] = None,
    to: Annotated[
        list[str] | None,
        typer.Option("--to", metavar="PATH=VALUE", callback=checked_sets, help="Change a field of the second setting."),
    ] = None,
    seed: Seed = None,
    duration: Duration = None,
    replications: Replications = None,
    precision: Precision = None,
    engine: EngineName = "auto",
    jobs: Jobs = None,
    summaries_only: SummariesOnly = False,
    metrics: Annotated[
        list[str] | None, typer.Option("--metric", help="Compare this, too, e.g. 'goodput(ttft 1 s, tpot 50 ms)'.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two settings, replication by replication under the same random numbers."""
    from dataclasses import replace

    from simulator.model.files import load
    from simulator.results.results import SCHEMA_VERSION, to_json
    from simulator.study.compare import compare as compare_systems

    if second is None and not to:
        raise UsageError("nothing to compare: give a second model, or a change with --to PATH=VALUE")
    settings = settings_of(seed, duration, replications, precision, engine, jobs, summaries_only)
    first_system = load(model_path(model), sets or ())
    second_system = load(model_path(second or model), [*(sets or ()), *(to or ())])
    with Bar("replications") as bar:
        comparison = compare_systems(first_system, second_system, replace(settings, progress=bar), more=metrics or ())
    if as_json:
        print_json({"schema_version": SCHEMA_VERSION, **to_json(comparison)})
    else:
        from simulator.report.study_tables import compare_tables

        print_blocks(compare_tables(comparison))
    if not (comparison.first.precision_reached and comparison.second.precision_reached):
        raise typer.Exit(IMPRECISE)
