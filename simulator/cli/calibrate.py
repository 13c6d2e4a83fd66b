"""`tpsim calibrate`: numbers of a model estimated from measurements."""

from __future__ import annotations

from collections.abc import Sequence
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
from simulator.errors import UsageError


def calibrate(
    model: Model,
    fit: Annotated[
        list[str], typer.Option("--fit", metavar="PATH", help="A number to estimate; give one --fit for each.")
    ],
    measured: Annotated[
        Path | None, typer.Argument(help="A CSV; the model's own if left out.", metavar="[CSV]")
    ] = None,
    sets: Sets = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where", metavar="COLUMN=VALUE", help="Fit to rows with this value only, and hold the others out."
        ),
    ] = None,
    seed: Seed = None,
    duration: Duration = None,
    replications: Replications = None,
    engine: EngineName = "auto",
    jobs: Jobs = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="New model file with the estimates in place.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Estimate numbers of a model from measurements, with intervals, and the error on rows held out."""
    path = model_path(model)
    if output is not None:
        _check_output(path, output, fit, sets or ())
    from simulator.calibration.calibrate import calibrate as calibrate_model

    settings = settings_of(seed, duration, replications, None, engine, jobs)
    with Bar("simulations") as bar:
        found = calibrate_model(path, fit, measured, sets or (), settings, bar, choices_of(where))
    from simulator.report.calibration_tables import calibration_json, calibration_tables

    if as_json:
        from simulator.results.results import SCHEMA_VERSION

        print_json({"schema_version": SCHEMA_VERSION, **calibration_json(found)})
    else:
        print_blocks(calibration_tables(found))
    if output is not None:
        from simulator.model.rewriting import rewritten
        from simulator.study.whole_files import write_whole

        text = rewritten(path, found.values, output.parent)
        _check_is_new(output)  # again: fitting takes a while
        write_whole(output, lambda scratch: scratch.write_text(text, encoding="utf-8", newline=""))


def _check_is_new(output: Path) -> None:
    if output.exists():
        raise UsageError(f"-o: {output} is there already, expected the name of a new file")


def _check_output(model: Path, output: Path, fit: Sequence[str], sets: Sequence[str]) -> None:
    """Find what would keep the file from being written before anything is simulated.

    Raises UsageError, and InputError for fields that are not written in the model's file.
    """
    _check_is_new(output)
    if not output.parent.is_dir():
        raise UsageError(f"-o: no such folder: {output.parent}")
    others = [text for text in sets if text.partition("=")[0].strip() not in fit]
    if others:
        raise UsageError(f"-o: the file keeps all but what is fitted, so it would not have --set {others[0]}")
    from simulator.calibration.parameter import parameters_of
    from simulator.model.files import load
    from simulator.model.rewriting import rewritten

    system = load(model, sets)
    rewritten(model, {each.path: each.text(each.start) for each in parameters_of(model, fit, sets)}, output.parent)
    table = system.measurements.file if system.measurements else None
    if table and (model.parent / table).is_file() and not (output.parent / table).is_file():
        raise UsageError(f"-o: the model refers to {table}, expected a file in the same folder as the model")
