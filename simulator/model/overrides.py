"""Overrides: `services.web.replicas=4` changes one field of a model before it is validated."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from simulator.errors import InputError, Problem
from simulator.model.document import read
from simulator.model.shape import Keys, NoPlaceError, assign
from simulator.model.shared_guards import same_elsewhere
from simulator.model.system import System

EXPECTED_VALUE = "got nothing, expected a value (null says that there is none, '' is an empty text)"


@dataclass(frozen=True, slots=True)
class Override:
    """A path of the model and the value, as YAML, that it gets."""

    text: str
    path: tuple[str, ...]
    value: Any

    @classmethod
    def parse(cls, text: str) -> Override:
        """Read `path=value`; raises InputError."""
        path, equals, value = text.partition("=")
        if not equals or not path.strip():
            raise InputError([_problem(text, "expected path=value, such as services.web.replicas=4")])
        if not value.strip():
            raise InputError([_problem(text, EXPECTED_VALUE)])
        return cls(text, parse_path(path), _value(value.strip()))

    @classmethod
    def of(cls, path: str, value: Any) -> Override:
        """Set a path to a value that is already there."""
        return cls(f"{path}={value}", parse_path(path), value)


def parse_all(texts: Iterable[str]) -> tuple[list[Override], list[Problem]]:
    """The overrides of some texts, and what is wrong with those that are none."""
    overrides: list[Override] = []
    problems: list[Problem] = []
    for text in texts:
        try:
            overrides.append(Override.parse(text))
        except InputError as error:
            problems += error.problems
    return overrides, problems


def _value(text: str) -> Any:
    """The text as YAML; as it is where that cannot be."""
    try:
        value, problems = read(text, "")
    except InputError:
        return text
    return text if problems else value


def parse_path(text: str) -> tuple[str, ...]:
    """Parts of a dotted path; numbers index lists. `mix.web.browse` style keys with dots are found when applied."""
    return tuple(part.strip() for part in text.split("."))


def apply_overrides(document: Any, overrides: list[Override]) -> Any:
    """A copy of the document with every override applied; raises InputError for a path that leads nowhere."""
    return apply_and_locate(document, overrides)[0]


def apply_and_locate(document: Any, overrides: list[Override]) -> tuple[Any, dict[Keys, str]]:
    """The changed document, and the text of each override by its paths in the document's keys.

    What several steps share changes in all of them, but for those where an override before has said otherwise.
    """
    changed, problems = document, []
    said: dict[Keys, str] = {}
    places: dict[Keys, str] = {}
    for override in overrides:
        try:
            changed, keys = assign(System, changed, override.path, override.value)
        except NoPlaceError as error:
            problems.append(_problem(override.text, f"no such place in the model: {error}"))
            continue
        said[keys] = override.text
        elsewhere = [each for each in same_elsewhere(changed, keys) if each not in said]
        for place in elsewhere:
            changed, _ = assign(System, changed, tuple(map(str, place)), override.value)
        places |= dict.fromkeys([*elsewhere, keys], override.text)
    if problems:
        raise InputError(problems)
    return changed, places


def _problem(text: str, message: str) -> Problem:
    return Problem(f"--set {text}", 0, 0, "", message)
