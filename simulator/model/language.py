"""The language of model files section by section: the fields of each, read off the classes that read the files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import TypeAdapter, WithJsonSchema
from pydantic.fields import FieldInfo

from simulator.errors import UsageError
from simulator.model.attribute_docstrings import attribute_docstrings
from simulator.model.catalogue import parts_of_types
from simulator.model.part import Either, Part, Whole
from simulator.model.step import STEPS, StepPart
from simulator.model.system import System
from simulator.model.words import nearest

WHOLE, STEP_SECTION = "model", "steps"
PLAIN: dict[Any, str] = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}


@dataclass(frozen=True, slots=True)
class Field:
    """One field: what it takes, its default as written in a file (None: it has none), and what it says.

    `has_fields` tells whether there is a section of its own.
    """

    name: str
    takes: str
    default: str | None
    about: str
    has_fields: bool


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a model file, such as `hosts.cpu`; a bare value in its place stands for the field `bare`.

    It is `typed` where a type of the catalogue, its own or that of what it is part of, can say what it does not.
    """

    path: str
    about: str
    fields: tuple[Field, ...]
    bare: str | None = None
    typed: bool = False


def section(path: str) -> Section:
    """The section of that path, names of hosts and the like left out; `model` is the whole, `steps` has all steps.

    A path may begin at the whole, as in `model.hosts`. Raises UsageError where there is no such section.
    """
    if path == WHOLE:
        return _section(path, [System])
    path = path.removeprefix(f"{WHOLE}.")
    first, *names = path.split(".")
    if first == STEP_SECTION:
        known: list[type[Part]] = list(STEPS.values())
    else:
        known = _inner([System], first, WHOLE)
    walked = first
    for name in names:
        known = _inner(known, name, walked)
        walked = f"{walked}.{name}"
    return _section(path, known)


def _inner(kinds: list[type[Part]], name: str, path: str) -> list[type[Part]]:
    """The classes of a field; of steps, those of a verb. Raises UsageError."""
    if _are_steps(kinds) and len(kinds) > 1:
        if name not in STEPS:
            raise UsageError(f"no step {name!r}; {nearest(name, STEPS)}")
        return [STEPS[name]]
    fields = {field: spec for kind in kinds for field, spec in kind.model_fields.items()}
    known = [*fields, STEP_SECTION] if path == WHOLE else list(fields)
    if name not in fields:
        whole = "no section" if path == WHOLE else f"{path} has no field"
        raise UsageError(f"{whole} {name!r}; {nearest(name, known)}")
    found = _parts(fields[name].annotation)
    if not found:
        takes = _takes(fields[name].annotation, fields[name].metadata)
        raise UsageError(f"{path}.{name} has no fields, it takes {takes}{_told(fields[name].annotation)}")
    return found


def _told(annotation: Any) -> str:
    """What the class of something that is written as a text says of it."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return f". {_first_line(annotation)}" if issubclass(annotation, Part) else ""
    return next(filter(None, map(_told, get_args(annotation))), "")


def _are_steps(kinds: list[type[Part]]) -> bool:
    return all(issubclass(kind, StepPart) for kind in kinds)


def _section(path: str, kinds: list[type[Part]]) -> Section:
    if _are_steps(kinds) and len(kinds) > 1:
        steps = tuple(Field(verb, "a step", None, _first_line(kind), True) for verb, kind in STEPS.items())
        return Section(path, "What an operation does, step by step; each step has one of these keys.", steps)
    fields = {field.name: field for kind in kinds for field in _fields(kind)}
    bare = kinds[0].bare if len(kinds) == 1 else None
    typed = not parts_of_types().isdisjoint(kinds)
    return Section(path, " ".join(map(_first_line, kinds)), tuple(fields.values()), bare, typed)


def _first_line(kind: type[Part]) -> str:
    generic = kind.__pydantic_generic_metadata__["origin"] or kind
    return " ".join((generic.__doc__ or "").partition("\n\n")[0].split())


def _fields(kind: type[Part]) -> Iterator[Field]:
    """The fields of a class, a step's verb first."""
    texts, verb = attribute_docstrings(kind), getattr(kind, "verb", "")
    for name, spec in sorted(kind.model_fields.items(), key=lambda item: item[0] != verb):
        about = " ".join((texts.get(name) or spec.description or "").split())
        takes = _takes(spec.annotation, spec.metadata)
        yield Field(name, takes, _default(spec), about, bool(_parts(spec.annotation)))


def _default(spec: FieldInfo) -> str | None:
    """The default as a file would have it; empty where the field is just left out."""
    if spec.is_required():
        return None
    value = spec.get_default(call_default_factory=True)
    if value is None or value in ({}, [], (), ""):
        return ""
    annotation: Any = spec.annotation
    written = TypeAdapter(Annotated[annotation, *spec.metadata] if spec.metadata else annotation).dump_python(
        value, mode="json", exclude_defaults=True
    )
    match written:
        case bool():
            return str(written).lower()
        case float():
            return f"{written:g}"
        case dict():
            return ""
    return str(written)


def _parts(annotation: Any) -> list[type[Part]]:
    """The classes with fields that are in an annotation; what is written as a text has none."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return [annotation] if issubclass(annotation, Part) and annotation.expected is None else []
    found = [part for each in get_args(annotation) for part in _parts(each)]
    return list(dict.fromkeys(found))


def _takes(annotation: Any, metadata: Any = ()) -> str:
    """What a field takes, in words: those of what reads it, or of its type."""
    said = next(filter(None, map(_said, metadata)), None)
    if said is not None:
        return said
    arguments = get_args(annotation)
    match get_origin(annotation):
        case origin if origin is Annotated:
            return _takes(arguments[0], annotation.__metadata__)
        case origin if origin in (Union, UnionType):
            return _takes_one_of([each for each in arguments if each is not NoneType])
        case origin if origin is Literal:
            return _alternatives(map(str, arguments))
        case origin if origin is dict:
            return f"by name: {_takes(arguments[1])}"
        case origin if origin in (list, tuple) and _are_steps(_parts(annotation) or [Part]):
            return "a list of steps"
        case origin if origin in (list, tuple):
            return f"a list, each item {_takes(arguments[0])}"
    return _takes_plain(annotation)


def _said(reader: Any) -> str | None:
    """What a piece of an annotation's metadata says is expected."""
    if isinstance(reader, WithJsonSchema):
        return (reader.json_schema or {}).get("description")
    return reader.description if isinstance(reader, Whole | Either) else None


def _takes_one_of(alternatives: list[Any]) -> str:
    return " or ".join(dict.fromkeys(_takes(each) for each in alternatives))


def _takes_plain(kind: Any) -> str:
    """What a class takes: of those with fields, what their short form takes, too."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _alternatives(str(each.value) for each in kind)
    if not (isinstance(kind, type) and issubclass(kind, Part)):
        return PLAIN.get(kind, "a value")
    if kind.expected is not None:
        return kind.expected
    fields = "one of several fields" if kind.exclusive else "fields"
    if kind.bare is None:
        return fields
    short = kind.model_fields[kind.bare]
    return f"{_takes(short.annotation, short.metadata)}, or {fields}"


def _alternatives(words: Iterator[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last
