"""The JSON schema of model files, for editors that check and complete while somebody types."""

from __future__ import annotations

import json
import re
from typing import Any

from simulator.model.catalogue import parts_of_types
from simulator.model.extension import KEY
from simulator.model.resource import RESOURCES
from simulator.model.step import STEPS
from simulator.model.system import System

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The JSON schema (2020-12) of a model file.

    It is as wide as the language: what it refuses is wrong, but references, sums of probabilities and the like
    are only checked when a model is loaded.
    """
    schema = _renamed(System.model_json_schema(mode="validation"))
    definitions = schema.pop("$defs")
    for definition in definitions.values():
        definition["title"] = _spaced(definition["title"])
    for verb, kind in STEPS.items():
        definitions[kind.__name__]["title"] = f"{verb} step"
    for part in parts_of_types():
        _require_nothing(definitions.get(part.__name__, {}))
    for section, resource in RESOURCES.items():
        if resource.names_alone:
            _take_names(schema["properties"], section, resource.noun)
    return {
        "$schema": DIALECT, "$id": "https://tpsim.invalid/model.schema.json", "title": "tpsim model",
        "if": {"type": "object", "required": [KEY]}, "then": _extension(schema), "else": {"$ref": "#/$defs/model"},
        "$defs": {**definitions, "model": schema | {"title": "model"}},
    }  # fmt: skip


def _require_nothing(definition: dict[str, Any]) -> None:
    """Let all keys of a mapping, or of the long form of a bare value, be left out."""
    for mapping in (definition, *definition.get("anyOf", ())):
        mapping.pop("required", None)


def _extension(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a model that extends another: pieces of a model, of which only the first keys are checked."""
    name = {"type": "string", "description": "Name of the model file in the same directory that this one changes."}
    pieces = dict.fromkeys(schema["properties"], True)
    return {"type": "object", "properties": {KEY: name, **pieces}, "additionalProperties": False}


def _take_names(properties: dict[str, Any], section: str, noun: str) -> None:
    """Let a list of names stand for a section."""
    named = properties[section]
    names = {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "title": f"Names of {noun}s"}
    description = named.pop("description")
    properties[section] = {"anyOf": [named, names], "description": description}


def _renamed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with the definitions named after their titles, which for generic classes are shorter."""
    text = json.dumps(schema)
    for name, definition in schema["$defs"].items():
        text = text.replace(json.dumps(name) + ":", json.dumps(definition["title"]) + ":")
        text = text.replace(f'#/$defs/{name}"', f'#/$defs/{definition["title"]}"')
    renamed: dict[str, Any] = json.loads(text)
    return renamed


def _spaced(name: str) -> str:
    """`RetriesSpecOfDuration` as `retries of duration`; titles of more than one word stay as they are."""
    if " " in name:
        return name
    words = re.findall(r"[A-Z][a-z]*|[a-z]+", name.replace("Spec", ""))
    return " ".join(words).lower()
