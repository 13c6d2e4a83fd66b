"""The catalogue: machines, disks, network interfaces and GPUs that can be had, and language models, by name.

It stands in `models/hardware` (language models beside it), one file a section, each a list of groups:

    machines:
      - group: AWS c5
        about: compute optimized
        date: 2025-01                       of the figures
        source: [https://...]
        every: {cpu: {threads_per_core: 2}} holds for all of the group
        types:
          c5.large: {cpu: 1, memory: 4 GiB, nic: 0.75 Gbit/s, price: 0.085 USD/h}

A part that says `type: c5.large` has those fields, except where it says otherwise itself, down to single fields of
its parts. What no source was found for is left out of the catalogue, not guessed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import NoneType
from typing import Any, ClassVar, get_args

from pydantic import field_validator, model_validator

from simulator.model.document import read
from simulator.model.part import Part
from simulator.model.shipped import models_directory
from simulator.model.words import nearest, short

SECTIONS = {
    "machines": "machine",
    "disks": "disk",
    "nics": "network interface",
    "gpus": "GPU",
    "llms": "language model",
}
"""The sections, and what one of their types is called."""
BESIDE_HARDWARE = ("llms",)
"""Sections whose file is beside the directory with those of hardware."""


@dataclass(frozen=True, slots=True)
class Type:
    """A type of hardware: its fields as a model would write them, and where they are from."""

    name: str
    section: str
    group: str
    about: str
    date: str
    source: tuple[str, ...]
    every: dict[str, Any]
    fields: dict[str, Any]


@lru_cache
def types_of(section: str) -> dict[str, Type]:
    """The types of a section by name."""
    return {each.name: each for each in _read(section)}


def _read(section: str) -> Iterator[Type]:
    folder = models_directory() if section in BESIDE_HARDWARE else models_directory() / "hardware"
    path = folder / f"{section}.yaml"
    document, problems = read(path.read_text(encoding="utf-8"), str(path))
    assert not problems, problems
    for group in document[section]:
        for name, fields in group["types"].items():
            yield Type(
                name, section, group["group"], group["about"], str(group["date"]), tuple(group["source"]),
                group.get("every", {}), fields,
            )  # fmt: skip


def groups(section: str) -> dict[str, list[Type]]:
    """The types of a section by group."""
    found: dict[str, list[Type]] = {}
    for each in types_of(section).values():
        found.setdefault(each.group, []).append(each)
    return found


class Typed(Part):
    """A part that may be of a type of the catalogue."""

    section: ClassVar[str]
    """Where in the catalogue its types are."""
    least: ClassVar[dict[str, Any]]
    """Fields with which it is valid: those of an unknown type, so that nothing but that is reported."""

    type: str | None = None
    """Type of the hardware catalogue; fields given beside it override the catalogue's (`tpsim models` lists them)."""

    @field_validator("type", mode="before")
    @classmethod
    def _is_known(cls, name: Any) -> Any:
        if name is not None and not isinstance(name, str):
            raise ValueError(f"got {short(name)}, expected the name of a type of hardware (tpsim models lists them)")
        if not cls.knows(name):
            raise ValueError(
                f"no {SECTIONS[cls.section]} of type {name!r}; {nearest(name, types_of(cls.section), 'known:')}"
            )
        return name

    @classmethod
    def knows(cls, name: Any) -> bool:
        """Whether there is such a type, or none is named."""
        return name is None or (isinstance(name, str) and name in types_of(cls.section))

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, value: Any) -> Any:
        return cls.completed(value)

    @classmethod
    def completed(cls, value: Any) -> Any:
        """The mapping that a part as written stands for, with the catalogue's fields where it gives none."""
        value = cls.long_form(value)
        name = value.get("type") if isinstance(value, dict) else None
        if name is None:
            return value
        if not cls.knows(name):
            return {**cls.least, **value}
        known = types_of(cls.section)[name]
        return overlaid(cls, overlaid(cls, known.every, known.fields), value)


def overlaid(kind: type[Part], under: Any, over: Any) -> Any:
    """The fields of a part given by `over`, and by `under` where it gives none; so on for the parts that it has.

    A part that names a type of its own has nothing of what it takes the place of.
    """
    under, over = kind.long_form(under), kind.long_form(over)
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    merged = {**under, **over}
    for name in under.keys() & over.keys():
        part = _part(kind, name)
        if part is not None and over[name] is not None and not _names_a_type(part, over[name]):
            merged[name] = overlaid(part, under[name], over[name])
    return merged


def _names_a_type(kind: type[Part], value: Any) -> bool:
    value = kind.long_form(value)
    return issubclass(kind, Typed) and isinstance(value, dict) and value.get("type") is not None


def _part(kind: type[Part], name: str) -> type[Part] | None:
    """The class of a field that is a part of several fields."""
    field = kind.model_fields.get(name)
    members = [] if field is None else [field.annotation, *get_args(field.annotation)]
    found = (each for each in members if isinstance(each, type) and each is not NoneType and issubclass(each, Part))
    return next((each for each in found if not each.exclusive), None)


def parts_of_types() -> set[type[Part]]:
    """The classes that may have a type, and of all parts that they have: with one, none of their fields is required."""
    found: set[type[Part]] = set()
    waiting: list[type[Part]] = list(Typed.__subclasses__())
    while waiting:
        kind = waiting.pop()
        if kind not in found:
            found.add(kind)
            waiting += [part for name in kind.model_fields if (part := _part(kind, name)) is not None]
    return found
