"""What may stand where in a model, read off the classes: the keys at a place, and what is expected there."""

from __future__ import annotations

from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import Discriminator, WithJsonSchema

from simulator.model.part import Either, Part, Whole
from simulator.model.step import STEPS, verb_of
from simulator.model.words import nearest

Keys = tuple[str | int, ...]


class NoPlaceError(LookupError):
    """A path leads to no place of the model; the message says where it goes astray."""


def meaning(annotation: Any, value: Any) -> Any:
    """What an annotation stands for where `value` is: a Part, a `dict[...]`, a `list[...]`; None for a leaf."""
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            if is_step(annotation):
                return STEPS.get(verb_of(value) or "")
            annotation = get_args(annotation)[0]
        elif origin in (Union, UnionType):
            annotation = next(member for member in get_args(annotation) if member is not NoneType)
        elif origin in (dict, list, tuple) or (isinstance(annotation, type) and issubclass(annotation, Part)):
            return annotation
        else:
            return None


def is_step(annotation: Any) -> bool:
    """Whether an annotation is the union of all steps."""
    metadata = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return any(isinstance(item, Discriminator) for item in metadata)


def is_part(shape: Any) -> bool:
    """Whether what `meaning` gave is a class of the model."""
    return isinstance(shape, type) and issubclass(shape, Part)


def field_annotation(part: type[Part], name: str) -> Any:
    """Annotation of a field, its metadata included; None where there is no such field."""
    field = part.model_fields.get(name)
    if field is None:
        return None
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def expectation(annotation: Any) -> str:
    """What is expected at a place, in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _described(arguments[1:]) or ("a step" if is_step(annotation) else expectation(arguments[0]))
    if origin in (Union, UnionType):
        return expectation(next(member for member in arguments if member is not NoneType))
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin in (list, tuple):
        return f"a list (one '- ' a line), each item {expectation(arguments[0])}"
    if origin is dict:
        return "a mapping of names, one 'name: ...' a line"
    if not isinstance(annotation, type):
        return "a value"
    return _expected_class(annotation)


def _described(metadata: tuple[Any, ...]) -> str:
    for item in metadata:
        if isinstance(item, (Whole, Either)):
            return item.description
        if isinstance(item, WithJsonSchema) and item.json_schema is not None:
            example = item.json_schema.get("examples", [None])[0]
            return str(item.json_schema["description"]) + (f", e.g. {example!r}" if example else "")
    return ""


def _expected_class(kind: type[Any]) -> str:
    if issubclass(kind, Part) and kind.expected is not None:
        return kind.expected
    if issubclass(kind, Part):
        mapping = f"a mapping with {'one of ' if kind.exclusive else ''}{', '.join(kind.model_fields)}"
        return f"{expectation(field_annotation(kind, kind.bare))}, or {mapping}" if kind.bare else mapping
    if issubclass(kind, Enum):
        return " or ".join(repr(member.value) for member in kind)
    names = {str: "a text (numbers and the like in quotes)", bool: "true or false"}
    return names.get(kind, f"a {kind.__name__}")


def known_keys(shape: Any) -> list[str]:
    """The keys that a class of the model has."""
    return list(shape.model_fields) if is_part(shape) else []


def follow(root: type[Part], document: Any, location: Keys) -> tuple[Keys, Any, Any]:
    """The document's path of a location that pydantic reports, the shape that holds it, and its own annotation.

    Pydantic's locations hold the tags of unions and the fields that a bare value is short for; a path has only
    keys of the document, and perhaps a missing one at its end.
    """
    path: list[str | int] = []
    node, holder, annotation = document, None, root
    for part in location:
        if is_step(annotation) and part in STEPS:
            annotation = STEPS[str(part)]
            continue
        shape = meaning(annotation, node)
        if shape is None:
            break
        below = _below(shape, part)
        if _holds(node, part):
            node = node[part]
            path.append(part)
        elif isinstance(node, dict):
            return (*path, part), shape, below
        holder, annotation = shape, below
    return tuple(path), holder, annotation


def _below(shape: Any, key: Any) -> Any:
    """Annotation of what is under a key."""
    if is_part(shape):
        return field_annotation(shape, str(key))
    arguments = get_args(shape)
    return arguments[1] if get_origin(shape) is dict else arguments[0]


def _holds(node: Any, key: Any) -> bool:
    if isinstance(node, dict):
        return key in node
    return isinstance(node, list) and isinstance(key, int) and 0 <= key < len(node)


def assign(root: type[Part], document: Any, path: tuple[str, ...], value: Any) -> tuple[Any, Keys]:
    """The document with a value put at a dotted path, and the path in the document's own keys.

    What is on the path is copied, all else is shared. Short forms on the way are written out. Raises
    NoPlaceError for a path that leads to no place of a model.
    """
    return _assign(root, document, path, value, ())


def _assign(annotation: Any, node: Any, rest: tuple[str, ...], value: Any, seen: Keys) -> tuple[Any, Keys]:
    if not rest:
        return value, seen
    shape = meaning(annotation, node)
    if shape is None:
        where = _where(seen)
        if is_step(annotation):
            raise NoPlaceError(f"{where} is no step with a known verb, so it has no {rest[0]!r}")
        raise NoPlaceError(f"{where} is a single value, it has no {'.'.join(rest)!r}")
    node = _long_form(shape, node)
    key, rest = _next_key(shape, node, rest, seen)
    child = node[key] if _holds(node, key) else None
    replaced, keys = _assign(_below(shape, key), child, rest, value, (*seen, key))
    if is_part(shape) and shape.exclusive and key not in node:
        return {key: replaced}, keys
    changed = node.copy()
    changed[key] = replaced
    return changed, keys


def find(root: type[Part], document: Any, path: tuple[str, ...]) -> tuple[Keys, Any]:
    """The value at a dotted path, after the keys at which it is written.

    Where a short form is written in place of the mapping that holds the value, the keys are those of the short form.
    Raises NoPlaceError for a path that leads to no place of a model, or to one that the document leaves out.
    """
    annotation, node, rest = root, document, path
    written: Keys = ()
    seen: Keys = ()
    while rest:
        shape = meaning(annotation, node)
        if shape is None:
            raise NoPlaceError(f"{_where(seen)} is a single value, it has no {'.'.join(rest)!r}")
        whole = _long_form(shape, node)
        key, rest = _next_key(shape, whole, rest, seen)
        if not _holds(whole, key):
            raise NoPlaceError(f"{_where((*seen, key))} is left out, expected it to be given")
        if _holds(node, key):
            written = (*written, key)
        seen = (*seen, key)
        annotation, node = _below(shape, key), whole[key]
    return written, node


def _long_form(shape: Any, node: Any) -> Any:
    """The mapping or list that stands at a place, short forms written out, empty ones made."""
    if is_part(shape):
        node = shape.long_form(node)
    elif get_origin(shape) is dict and isinstance(node, list):
        node = {str(name): {} for name in node}
    if get_origin(shape) in (list, tuple):
        return node if isinstance(node, list) else []
    return node if isinstance(node, dict) else {}


def _next_key(shape: Any, node: Any, rest: tuple[str, ...], seen: Keys) -> tuple[str | int, tuple[str, ...]]:
    """The key of a node that a path begins with, and what is left of the path."""
    if isinstance(node, list):
        return _index(node, rest[0], seen), rest[1:]
    if is_part(shape):
        if rest[0] not in shape.model_fields:
            raise NoPlaceError(f"{_where(seen)} has no {rest[0]!r}; {nearest(rest[0], shape.model_fields)}")
        return rest[0], rest[1:]
    for length in range(len(rest), 0, -1):  # names may have dots
        name = ".".join(rest[:length])
        if name in node:
            return name, rest[length:]
    if len(rest) == 1 or meaning(_below(shape, rest[0]), None) is None:
        return ".".join(rest), ()
    raise NoPlaceError(f"{_where(seen)} has no {rest[0]!r}; {nearest(rest[0], node, 'it has')}")


def _index(node: list[Any], key: str, seen: Keys) -> int:
    if key.isascii() and key.isdigit() and len(key) < 9 and int(key) < len(node):
        return int(key)
    there = f"0 to {len(node) - 1}" if node else "none"
    raise NoPlaceError(f"{_where(seen)} has no item {key!r}; its items are numbered: {there}")


def _where(path: Keys) -> str:
    return ".".join(map(str, path)) or "the model"
