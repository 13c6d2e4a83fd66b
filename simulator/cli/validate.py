"""`tpsim validate`: a model beside measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simulator.cli.options import (
    Duration,
    EngineName,
    Jobs,
    Json,
    Model,
    Replications,
    Seed,
    Sets,
    choices_of,
    model_path,
    settings_of,
)
from simulator.cli.output import print_blocks, print_json
from simulator.cli.progress import Bar


def validate(
    model: Model,
    measured: Annotated[
        Path | None, typer.Argument(help="A CSV; the model's own if left out.", metavar="[CSV]")
    ] = None,
    sets: Sets = None,
    where: Annotated[
        list[str] | None, typer.Option("--where", metavar="COLUMN=VALUE", help="Only rows with this value.")
    ] = None,
    held_out: Annotated[bool, typer.Option("--held-out", help="Only rows that the model was not fitted to.")] = False,
    seed: Seed = None,
    duration: Duration = None,
    replications: Replications = None,
    engine: EngineName = "auto",
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Show a model's prediction beside measurements, the error of every row, and the mean error."""
    from simulator.calibration.validate import mean_absolute_percentage_error
    from simulator.calibration.validate import validate as validate_model
    from simulator.results.results import SCHEMA_VERSION, to_json

    settings = settings_of(seed, duration, replications, None, engine, jobs)
    with Bar("rows") as bar:
        found = validate_model(model_path(model), measured, sets or (), choices_of(where), settings, bar, held_out)
    if as_json:
        rows = [{**to_json(each), "error": to_json(each.error)} for each in found.comparisons]
        errors = {
            name: to_json(mean_absolute_percentage_error(group))
            for name, group in (("held_out", found.held_out), ("fitted", found.fitted))
        }
        header = {"schema_version": SCHEMA_VERSION, "model": found.model, "source": found.source}
        print_json({**header, "mape": errors, "rows": rows})
        return
    from simulator.report.tables import validation_tables

    print_blocks(validation_tables(found))
