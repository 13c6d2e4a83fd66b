"""Numbers of a model file replaced in its text, in which everything else stays as it is, comments included."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simulator.errors import InputError, Problem
from simulator.model.document import Place, Scalar, read, scalars
from simulator.model.files import build, parse_document, read_document, text_of
from simulator.model.overrides import Override, parse_path
from simulator.model.shape import Keys, NoPlaceError, find
from simulator.model.system import System


def rewritten(path: Path, values: Mapping[str, str], directory: Path) -> str:
    """The text of a valid model file with new numbers, as texts with their units, at some dotted paths.

    Read in `directory`, the text gives the system that the file gives with these values as overrides. Raises
    InputError where it cannot: for a field that is not written in this file, or that is written once for several.
    """
    text, source = text_of(path), str(path)
    document, _ = read(text, source)
    places = scalars(text)
    problems: list[Problem] = []
    changes: list[tuple[Scalar, str]] = []
    for name, value in values.items():
        try:
            keys, _ = find(System, document, parse_path(name))
        except NoPlaceError as error:
            problems.append(Problem(source, 0, 0, name, f"cannot be replaced in this file: {error}"))
            continue
        scalar = places.get(_place_of(document, keys))
        if scalar is None:
            problems.append(Problem(source, 0, 0, name, "stands behind an alias or anchor, expected the number itself"))
        else:
            changes.append((scalar, value))
    if problems:
        raise InputError(problems)
    for scalar, value in sorted(changes, key=lambda change: change[0].start, reverse=True):
        text = text[: scalar.start] + scalar.quote + value + scalar.quote + text[scalar.end :]
    _check(path, text, values, directory)
    return text


def _place_of(document: Any, keys: Keys) -> Place:
    """Line and column of the value itself."""
    node, place = document, (0, 0)
    for key in keys:
        found = node.places[key]
        place = found[1] if isinstance(node, dict) else found
        node = node[key]
    return place


def _check(path: Path, text: str, values: Mapping[str, str], directory: Path) -> None:
    """Raise InputError unless the text gives the system that is wanted."""
    source = str(path)
    overrides = [Override.parse(f"{name}={value}") for name, value in values.items()]
    wanted = build(read_document(path), source, overrides, path.parent)
    document = parse_document(text, source, directory)
    document["name"] = wanted.name
    if build(document, source, [], directory) != wanted:
        message = "a number stands for several fields, expected each to be written out"
        raise InputError([Problem(source, 0, 0, ", ".join(values), message)])
