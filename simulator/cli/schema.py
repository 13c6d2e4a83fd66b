"""`tpsim schema`: the JSON schema of model files."""

from __future__ import annotations

from simulator.cli.output import print_json


def schema() -> None:
    """Print the JSON schema of model files."""
    from simulator.model.schema import json_schema

    print_json(json_schema())
