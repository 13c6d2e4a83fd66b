"""`tpsim run`: simulating a model."""

from __future__ import annotations

import sys
from typing import Any

import typer

from simulator.cli.exit_codes import IMPRECISE, UNMET
from simulator.cli.options import (
    Duration,
    EngineName,
    Jobs,
    Json,
    Model,
    Output,
    Precision,
    Replications,
    Seed,
    Sets,
    SummariesOnly,
    model_path,
    settings_of,
)
from simulator.cli.output import print_blocks, print_json
from simulator.cli.progress import Bar


def run(
    model: Model,
    sets: Sets = None,
    seed: Seed = None,
    duration: Duration = None,
    replications: Replications = None,
    precision: Precision = None,
    engine: EngineName = "auto",
    jobs: Jobs = None,
    summaries_only: SummariesOnly = False,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Simulate a model: throughput, latency, errors, utilization, bottleneck, cost, each with its interval."""
    from dataclasses import replace

    from simulator.model.files import load
    from simulator.study import store
    from simulator.study.run import run as simulate

    settings = settings_of(seed, duration, replications, precision, engine, jobs, summaries_only)
    system = load(model_path(model), sets or ())
    kept: list[Any] = []
    if output:
        store.probe(output)
    with Bar("replications") as bar:
        results = simulate(system, replace(settings, progress=bar, keep=kept.append if output else None))
    if output:
        store.write(output, system, results, kept)
        if summaries_only:
            print("tpsim: no requests.parquet: --summaries-only keeps no requests", file=sys.stderr)
    if as_json:
        print_json(results.to_json())
    else:
        from simulator.report.tables import run_tables

        print_blocks(run_tables(results))
    if not results.precision_reached:
        raise typer.Exit(IMPRECISE)
    if not all(objective.met for objective in results.objectives):
        raise typer.Exit(UNMET)
