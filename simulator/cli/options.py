"""The options that verbs share, and what their texts mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simulator.errors import UsageError

if TYPE_CHECKING:
    from simulator.model.objective import Objective
    from simulator.study.run import Settings
    from simulator.study.sweep import Axis


def checked_sets(sets: list[str] | None) -> list[str] | None:
    """The changes of fields that were asked for; raises UsageError for those that are none."""
    if sets:
        from simulator.model.overrides import parse_all

        _, problems = parse_all(sets)
        if problems:
            raise UsageError("\n".join(map(str, problems)))
    return sets


Model = Annotated[Path, typer.Argument(help="A model file, or the name of a shipped model.", metavar="MODEL")]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "-S",
        "--set",
        metavar="PATH=VALUE",
        callback=checked_sets,
        help="Change a field, e.g. -S services.web.replicas=4.",
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of all random numbers.")]
Duration = Annotated[str | None, typer.Option("-d", "--duration", help="Simulated time of a replication, e.g. 60s.")]
Replications = Annotated[str | None, typer.Option("-r", "--replications", help="A number, or auto.")]
Precision = Annotated[
    str | None, typer.Option("--precision", help="Add replications until intervals are this narrow, e.g. 2%.")
]
EngineName = Annotated[str, typer.Option("--engine", help="auto, simpy or compiled.")]
Jobs = Annotated[int | None, typer.Option("-j", "--jobs", min=1, help="Processes; as many as cores if left out.")]
SummariesOnly = Annotated[
    bool, typer.Option("--summaries-only", help="Keep no requests: flat memory, quantiles within 0.4 %.")
]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Folder for results as files.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


def settings_of(
    seed: int | None,
    duration: str | None,
    replications: str | None,
    precision: str | None,
    engine: str,
    jobs: int | None,
    summaries_only: bool = False,
) -> Settings:
    """What the options say of a run; starts worker processes early, where there will be any.

    Raises UsageError.
    """
    from simulator.study.executor import available_cores, start_early

    jobs = jobs or available_cores()
    if jobs > 1:
        start_early()
    from simulator.study.run import Settings

    return Settings(
        seed=seed,
        duration=None if duration in (None, "auto") else above_zero(duration, "duration", "-d"),
        replications=None if replications in (None, "auto") else _whole(replications, "-r"),
        precision=None if precision is None else _precision(precision),
        engine=engine,
        jobs=jobs,
        summaries_only=summaries_only,
    )


def above_zero(text: str | None, dimension: str, option: str) -> float:
    """A quantity in the dimension's base unit; raises UsageError where it is not above 0."""
    from simulator import units

    try:
        number = units.parse(text, dimension)
    except units.UnitError as error:
        raise UsageError(f"{option}: {error}") from None
    if number <= 0.0:
        raise UsageError(f"{option}: got {text!r}, expected more than 0")
    return number


def _precision(text: str) -> float:
    share = above_zero(text, "fraction", "--precision")
    if share >= 1.0:
        raise UsageError(f"--precision: got {text!r}, expected a share below 1, e.g. 2%")
    return share


def _whole(text: str | None, option: str) -> int:
    if text is None or not text.isdigit() or int(text) < 1:
        raise UsageError(f"{option}: got {text!r}, expected a whole number >= 1, or auto")
    return int(text)


def model_path(model: Path) -> Path:
    """Where a model file, or the shipped model of a name, is; raises InputError."""
    from simulator.model.shipped import find_model

    return find_model(model)


def objective_of(text: str) -> Objective:
    """An objective such as `p99 < 200 ms`; raises UsageError."""
    from pydantic import ValidationError

    from simulator.model.objective import Objective

    try:
        return Objective.model_validate(text)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UsageError(f"--objective: {message}") from None


def choices_of(where: list[str] | None) -> dict[str, list[str]]:
    """The values by column that `--where` asks for; raises UsageError for other texts."""
    chosen: dict[str, list[str]] = {}
    for text in where or ():
        column, equals, values = text.partition("=")
        if not equals or not values:
            raise UsageError(f"--where: got {text!r}, expected COLUMN=VALUE or COLUMN=VALUE,VALUE")
        chosen.setdefault(column.strip(), []).extend(value.strip() for value in values.split(","))
    return chosen


def axes_of(vary: list[str]) -> list[Axis]:
    """The fields that `--vary` asks for, with their values; raises UsageError for an empty value or a second axis."""
    from simulator.model.overrides import EXPECTED_VALUE, parse_path
    from simulator.study.sweep import Axis

    axes: list[Axis] = []
    for text in vary:
        _, equals, values = text.partition("=")
        if equals and not all(value.strip() for value in values.split(",")):
            raise UsageError(f"--vary {text}: {EXPECTED_VALUE}")
        axis = Axis.parse(text)
        if parse_path(axis.path) in (parse_path(each.path) for each in axes):
            raise UsageError(f"--vary {text}: {axis.path} is given twice, expected all of its values in one --vary")
        axes.append(axis)
    return axes
