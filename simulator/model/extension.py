"""Models that extend another: `extends: phase-0.yaml` takes all of that file, and the rest of this one changes it.

Its name, description and measurements are not taken: they are of that model alone. Mappings are merged key by key, a
key that is empty (null) is taken out, and everything else (lists of steps, bare values, distributions) takes the place
of what was there. Problems are placed in the file that they come from.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_origin

from simulator.errors import InputError, Problem
from simulator.model.document import Mapping, Place, Sequence
from simulator.model.part import Part
from simulator.model.shape import field_annotation, is_part, meaning
from simulator.model.words import short

KEY = "extends"
MOST_FILES = 20
NOT_TAKEN = ("name", "description", "measurements")
Read = Callable[[Path], Any]


class PlaceInFile(tuple[int, int]):
    """Line and column in a file other than the one that was asked for."""

    source: str

    @classmethod
    def of(cls, place: Place, source: str) -> PlaceInFile:
        """A place, with its file."""
        located = cls(place)
        located.source = source
        return located


def extended(root: type[Part], document: Any, source: str, directory: Path, read: Read) -> Any:
    """The document with what it extends in place; `read` gives the mapping of a file.

    Raises InputError where there is no such file in the directory, and where files extend each other in a circle.
    """
    chain, sources = [document], [source]
    while KEY in chain[-1]:
        path = _base(chain[-1], sources[-1], directory)
        if str(path) in sources or len(sources) > MOST_FILES:
            circle = " -> ".join([*sources, str(path)])
            raise _problem(chain[-1], sources[-1], f"files extend each other in a circle: {circle}")
        chain.append(_located(read(path), str(path)))
        sources.append(str(path))
    result = chain.pop()
    while chain:
        result = _merged(root, _without(result, NOT_TAKEN), chain.pop())
    return result


def _without(document: Any, keys: tuple[str, ...]) -> Any:
    result = document.copy()
    for key in keys:
        result.pop(key, None)
    return result


def _base(document: Any, source: str, directory: Path) -> Path:
    name = document[KEY]
    if not isinstance(name, str) or Path(name).name != name:
        raise _problem(document, source, f"got {short(name)}, expected the name of a model file in the same directory")
    path = directory / name
    if not path.is_file():
        raise _problem(document, source, f"no such file: {path}")
    return path


def _problem(document: Any, source: str, message: str) -> InputError:
    places = getattr(document, "places", {})
    line, column = places[KEY][1] if KEY in places else (1, 1)
    return InputError([Problem(source, line, column, KEY, message)])


def _located(node: Any, source: str) -> Any:
    """The document with every place saying which file it is in."""
    if isinstance(node, Mapping):
        changed = Mapping(PlaceInFile.of(node.start, source))
        for key, value in node.items():
            changed[key] = _located(value, source)
            at_key, at_value = node.places[key]
            changed.places[key] = (PlaceInFile.of(at_key, source), PlaceInFile.of(at_value, source))
        return changed
    if isinstance(node, Sequence):
        listed = Sequence(PlaceInFile.of(node.start, source))
        listed.extend(_located(item, source) for item in node)
        listed.places = [PlaceInFile.of(place, source) for place in node.places]
        return listed
    return node


def _merged(annotation: Any, base: Any, change: Any) -> Any:
    shape = meaning(annotation, change)
    replaces = is_part(shape) and shape.exclusive
    if not isinstance(base, Mapping) or not isinstance(change, Mapping) or replaces:
        return change
    result = base.copy()
    for key, value in change.items():
        if key == KEY:
            continue
        if value is None:
            result.pop(key, None)
            result.places.pop(key, None)
            continue
        result[key] = _merged(_below(shape, key), base[key], value) if key in base else value
        result.places[key] = change.places[key]
    return result


def _below(shape: Any, key: str) -> Any:
    if is_part(shape):
        return field_annotation(shape, key)
    return get_args(shape)[1] if get_origin(shape) is dict else None
