"""`tpsim models`: what is shipped."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from simulator.cli.options import (
    Json,
)
from simulator.cli.output import print_blocks, print_json


def models(
    section: Annotated[
        str | None, typer.Argument(help="Of the catalogue: machines, disks, nics, gpus or llms.", metavar="SECTION")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the shipped models and what the catalogue has, or the types of a SECTION of it with figures and prices."""
    from simulator.model.catalogue import SECTIONS, types_of

    if section is not None:
        _check(section)
    sections = SECTIONS if section is None else (section,)
    if as_json:
        from simulator.results.results import SCHEMA_VERSION, to_json

        hardware = {each: [to_json(kind) for kind in types_of(each).values()] for each in sections}
        print_json({"schema_version": SCHEMA_VERSION, **_models(section), "hardware": hardware})
    elif section is None:
        _list_all()
    else:
        _list(section)


def _check(section: str) -> None:
    """Raises UsageError for a section that the catalogue does not have."""
    from simulator.errors import UsageError
    from simulator.model.catalogue import SECTIONS
    from simulator.model.words import nearest

    if section not in SECTIONS:
        raise UsageError(f"the catalogue has no section {section!r}; {nearest(section, SECTIONS)}")


def _models(section: str | None) -> dict[str, Any]:
    """The shipped models, where no section of the catalogue was asked for."""
    from simulator.model.shipped import shipped_models

    if section is not None:
        return {}
    return {"models": [{"name": name, "description": description} for name, description in shipped_models()]}


def _list(section: str) -> None:
    from simulator.model.catalogue import groups
    from simulator.report.catalogue_tables import catalogue_tables

    print_blocks(catalogue_tables(section, groups(section)))


def _list_all() -> None:
    from simulator.model.catalogue import SECTIONS, groups
    from simulator.model.shipped import shipped_models
    from simulator.report.tables import models_tables

    hardware = [
        (f"{section}: {group}", f"{_first_to_last([each.name for each in types])}: {types[0].about}")
        for section in SECTIONS
        for group, types in groups(section).items()
    ]
    print_blocks(models_tables(shipped_models(), hardware))


def _first_to_last(names: list[str]) -> str:
    return ", ".join(names) if len(names) < 5 else f"{names[0]} to {names[-1]}, {len(names)} types"
