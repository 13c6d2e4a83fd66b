"""Overrides: `services.web.replicas=4` changes one field of a model before it is validated."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from simulator.errors import InputError, Problem

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Override:
    """A path of the model and the value, as YAML, that it gets."""

    text: str
    path: Path
    value: Any

    @classmethod
    def parse(cls, text: str) -> Override:
        """Read `path=value`; raises InputError."""
        path, equals, value = text.partition("=")
        if not equals or not path.strip():
            raise InputError(
                [Problem(f"--set {text}", 0, 0, "", "expected path=value, such as services.web.replicas=4")]
            )
        try:
            plain = YAML(typ="safe", pure=True).load(value) if value.strip() else None
        except YAMLError:
            plain = value
        return cls(text, parse_path(path), plain)

    @classmethod
    def of(cls, path: str, value: Any) -> Override:
        """Set a path to a value that is already there."""
        return cls(f"{path}={value}", parse_path(path), value)


def parse_path(text: str) -> Path:
    """Parts of a dotted path; numbers index lists. `mix.web.browse` style keys with dots are found when applied."""
    return tuple(int(part) if part.isdigit() else part for part in text.strip().split("."))


def apply_overrides(document: Any, overrides: list[Override]) -> Any:
    """A copy of the document with every override applied; raises InputError for a path that leads nowhere."""
    if not overrides:
        return document
    changed = copy.deepcopy(document)
    problems = []
    for override in overrides:
        try:
            _apply(changed, override)
        except (KeyError, IndexError, TypeError) as error:
            message = f"no such place in the model: {error.args[0] if error.args else error}"
            problems.append(Problem(f"--set {override.text}", 0, 0, "", message))
    if problems:
        raise InputError(problems)
    return changed


def _apply(document: Any, override: Override) -> None:
    node, path = document, override.path
    while len(path) > 1:
        key, rest = _step(node, path)
        if not rest:
            break
        if isinstance(node, dict) and (key not in node or node[key] is None):
            node[key] = {}
        child = node[key]
        if not isinstance(child, (dict, list)):
            child = node[key] = _expanded(str(key), child)
        node, path = child, rest
    key, _ = _step(node, path)
    node[key] = override.value


def _step(node: Any, path: Path) -> tuple[Any, Path]:
    """The key of a node that a path begins with (keys may have dots), and what is left of the path."""
    if isinstance(node, list):
        if not isinstance(path[0], int) or path[0] >= len(node):
            raise IndexError(f"{path[0]!r} in a list of {len(node)}")
        return path[0], path[1:]
    for length in range(len(path), 1, -1):
        joined = ".".join(str(part) for part in path[:length])
        if joined in node:
            return joined, path[length:]
    return path[0], path[1:]


SHORTHANDS = {
    "cpu": "cores", "memory": "size", "nic": "bandwidth", "rate_limit": "rate", "retries": "most",
}  # fmt: skip


def _expanded(key: str, value: Any) -> dict[str, Any]:
    """The long form of a shorthand, so that one of its other fields can be set."""
    if key not in SHORTHANDS:
        raise KeyError(f"{key!r} holds {value!r}, not a mapping")
    return {SHORTHANDS[key]: value}
