"""`tpsim schema`: the JSON schema of model files, or the fields of a section of them."""

from __future__ import annotations

from typing import Annotated

import typer

from simulator.cli.output import print_blocks, print_json


def schema(
    section: Annotated[
        str | None,
        typer.Argument(help="Such as hosts.cpu, llms or steps.call; model has the sections.", metavar="SECTION"),
    ] = None,
) -> None:
    """Print the JSON schema of model files, or list the fields of a SECTION with defaults and what they say."""
    if section is None:
        from simulator.model.schema import json_schema

        print_json(json_schema())
        return
    from simulator.model.language import section as section_of
    from simulator.report.language_tables import section_tables

    print_blocks(section_tables(section_of(section)))
