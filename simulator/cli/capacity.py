"""`tpsim capacity`: the largest load, or the least of something."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    SummariesOnly,
    above_zero,
    model_path,
    objective_of,
    settings_of,
)
from simulator.cli.output import print_blocks, print_json
from simulator.cli.progress import Bar, Trials
from simulator.errors import UsageError

if TYPE_CHECKING:
    from simulator.model.objective import Objective
    from simulator.study.run import Settings


def capacity(
    model: Model,
    objective: Annotated[
        list[str] | None, typer.Option("--objective", help="e.g. 'p99 < 200 ms'; the model's own if left out.")
    ] = None,
    sets: Sets = None,
    tolerance: Annotated[
        str | None, typer.Option("--tolerance", help="How close to bisect the load; 2% if left out.")
    ] = None,
    vary: Annotated[
        str | None,
        typer.Option(
            "--vary", metavar="PATH", help="Find the smallest number of this instead, e.g. services.web.replicas, gpus."
        ),
    ] = None,
    step: Annotated[int | None, typer.Option("--step", min=1, help="Only multiples of this number (--vary).")] = None,
    most: Annotated[
        int | None, typer.Option("--most", min=1, help="The largest number to try (--vary); 1024 if left out.")
    ] = None,
    seed: Seed = None,
    duration: Duration = None,
    replications: Replications = None,
    engine: EngineName = "auto",
    jobs: Jobs = None,
    summaries_only: SummariesOnly = False,
    as_json: Json = False,
) -> None:
    """Find the largest load that meets the objectives, or with --vary the least of something that the load needs."""
    objectives = tuple(objective_of(text) for text in objective or ())
    settings = settings_of(seed, duration, replications, None, engine, jobs, summaries_only)
    if vary is None:
        if step is not None or most is not None:
            raise UsageError("--step and --most are about the numbers of --vary PATH, which is missing")
        reachable = _largest_load(model, objectives, sets or (), settings, tolerance or "2%", as_json)
    elif tolerance is not None:
        raise UsageError("--tolerance is about the load, expected none beside --vary")
    else:
        reachable = _smallest_number(model, vary, objectives, sets or (), settings, step, most, as_json)
    if not reachable:
        raise typer.Exit(UNMET)


def _largest_load(
    model: Path,
    objectives: tuple[Objective, ...],
    sets: Sequence[str],
    settings: Settings,
    tolerance: str,
    as_json: bool,
) -> bool:
    from simulator.model.files import load
    from simulator.results.results import SCHEMA_VERSION, to_json
    from simulator.study.capacity import capacity as find_capacity

    width = above_zero(tolerance, "fraction", "--tolerance")
    system = load(model_path(model), sets)
    with Bar("trials") as bar:
        answer = find_capacity(system, objectives, settings, width, Trials(bar))
    if as_json:
        found = {"reachable": answer is not None, **(to_json(answer) if answer else {})}
        print_json({"schema_version": SCHEMA_VERSION, "model": system.name, **found})
    elif answer is None:
        print("no load meets the objectives")
    else:
        from simulator.report.study_tables import capacity_tables

        print_blocks(capacity_tables(answer, system))
    return answer is not None


def _smallest_number(
    model: Path,
    field: str,
    objectives: tuple[Objective, ...],
    sets: Sequence[str],
    settings: Settings,
    step: int | None,
    most: int | None,
    as_json: bool,
) -> bool:
    from simulator.results.results import SCHEMA_VERSION, to_json
    from simulator.study.size import MOST, size

    with Bar("trials") as bar:
        answer = size(model_path(model), field, objectives, sets, settings, step or 1, most or MOST, Trials(bar))
    if as_json:
        header = {"schema_version": SCHEMA_VERSION, "model": answer.results.model, "reachable": answer.reachable}
        print_json({**header, **to_json(answer)})
    else:
        from simulator.report.study_tables import size_tables

        print_blocks(size_tables(answer))
    return answer.reachable
