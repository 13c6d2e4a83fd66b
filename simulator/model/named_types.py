"""Types of the catalogue in a model: where it names them, what they stand for, and what it has in place of that."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from simulator.model.catalogue import Typed, overlaid, types_of
from simulator.model.part import Part

LONG_NUMBER = re.compile(r"\d+\.(\d{4,}|0(?!\d))(e[+-]?\d+)?")


def named_types(part: Part, place: str = "") -> list[tuple[str, str]]:
    """Where a model, or a part of it, names types, and in a line what these stand for and where that is from.

    Values are the catalogue's; where the model has another one, that is beside it.
    """
    found = []
    if isinstance(part, Typed) and part.type is not None:
        found.append((place, _line(part, part.type)))
    for name in type(part).model_fields:
        value = getattr(part, name)
        inner = value if isinstance(value, dict) else {"": value}
        for key, each in inner.items():
            if isinstance(each, Part):
                found += named_types(each, ".".join(filter(None, (place, name, key))))
    return found


def _line(part: Typed, name: str) -> str:
    """What a type stands for, with what the part has in place of it."""
    known = types_of(part.section)[name]
    fields = overlaid(type(part), known.every, known.fields)
    plain = type(part).model_validate({"type": name})
    shown = ", ".join(f"{field} {_compared(part, plain, field, value)}" for field, value in fields.items())
    return f"{name}: {shown} ({known.group}, {known.date}, {known.source[0]})"


def _compared(part: Part, plain: Part, name: str, known: Any) -> str:
    """The catalogue's value of a field as it is written there, and where the part has another one, that before it."""
    own, typed = getattr(part, name), getattr(plain, name)
    if own == typed:
        return _shown(known)
    if isinstance(own, Typed) and own.type is not None:
        return f"{own.type} (overrides {_shown(known)})"
    if isinstance(own, Part) and type(own) is type(typed) and not own.exclusive:
        inner = dict(_fields_compared(own, typed, own.long_form(known)))
        if own.bare is not None and list(inner) == [own.bare] and not isinstance(known, dict):
            return inner[own.bare]
        return "(" + ", ".join(f"{field} {text}" for field, text in inner.items()) + ")"
    return f"{_written(part, name)} (overrides {_shown(known)})"


def _fields_compared(own: Part, typed: Part, known: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The fields of a part that the catalogue has, and those that only the model gives."""
    for name, value in known.items():
        yield name, _compared(own, typed, name, value)
    for name in type(own).model_fields:
        if name not in known and getattr(own, name) != getattr(typed, name):
            yield name, f"{_written(own, name)} (added)"


def _written(part: Part, name: str) -> str:
    """The value of a field as a model file would have it, without digits that only an exact copy needs."""
    brief = isinstance(getattr(part, name), Part)
    value = part.model_dump(mode="json", include={name}, exclude_none=True, exclude_defaults=brief).get(name)
    return LONG_NUMBER.sub(lambda number: f"{float(number[0]):.9g}", _shown(value))


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name} {_shown(each)}" for name, each in value.items()) + ")"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)
