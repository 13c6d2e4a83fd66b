"""`tpsim models`: what is shipped."""

from __future__ import annotations

from simulator.cli.options import (
    Json,
)
from simulator.cli.output import print_blocks, print_json


def models(as_json: Json = False) -> None:
    """List the shipped models and the hardware catalogue, with a line each."""
    from simulator.model.catalogue import SECTIONS, types_of
    from simulator.model.catalogue import groups as hardware_groups
    from simulator.model.shipped import shipped_models

    found = shipped_models()
    if as_json:
        from simulator.results.results import SCHEMA_VERSION, to_json

        listed = [{"name": name, "description": description} for name, description in found]
        hardware = {section: [to_json(each) for each in types_of(section).values()] for section in SECTIONS}
        print_json({"schema_version": SCHEMA_VERSION, "models": listed, "hardware": hardware})
        return
    from simulator.report.tables import models_tables

    hardware_lines = [
        (f"{section}: {group}", f"{_first_to_last([each.name for each in types])}: {types[0].about}")
        for section in SECTIONS
        for group, types in hardware_groups(section).items()
    ]
    print_blocks(models_tables(found, hardware_lines))


def _first_to_last(names: list[str]) -> str:
    return ", ".join(names) if len(names) < 5 else f"{names[0]} to {names[-1]}, {len(names)} types"
