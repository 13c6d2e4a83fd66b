"""`tpsim check`: what follows from a model without simulating."""

from __future__ import annotations

from simulator.cli.options import (
    Json,
    Model,
    Sets,
    model_path,
)
from simulator.cli.output import print_blocks, print_json


def check(model: Model, sets: Sets = None, as_json: Json = False) -> None:
    """Validate a model and show what follows from it without simulating: visits, demands, saturation."""
    from simulator.analytic.demands import facts
    from simulator.model.files import load
    from simulator.model.lowering import lower
    from simulator.model.named_types import named_types
    from simulator.results.results import SCHEMA_VERSION, to_json

    system = load(model_path(model), sets or ())
    found = facts(lower(system))
    types = named_types(system)
    if as_json:
        header = {"schema_version": SCHEMA_VERSION, "model": system.name, "valid": True, "types": dict(types)}
        print_json({**header, **to_json(found)})
        return
    from simulator.report.tables import check_tables

    print_blocks(check_tables(system.name, found, system.cost_per_hour, types))
