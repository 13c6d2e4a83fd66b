"""Model files: YAML read in safe mode, with every problem placed at its line and column."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from simulator.errors import InputError, Problem
from simulator.model.overrides import Override, apply_overrides
from simulator.model.system import System

MOST_BYTES = 2**20
MOST_NODES = 200_000
Location = tuple[str | int, ...]


def load(path: str | Path, overrides: Iterable[str] = ()) -> System:
    """Read a model file, with overrides such as `services.web.replicas=4` applied to it.

    Raises InputError with every problem found.
    """
    path = Path(path)
    return build(read_document(path), str(path), [Override.parse(text) for text in overrides], path.parent)


def loads(text: str, overrides: Iterable[str] = (), source: str = "model") -> System:
    """Read a model from a text."""
    return build(parse_document(text, source), source, [Override.parse(item) for item in overrides], Path())


def read_document(path: Path) -> Any:
    """The nested mappings and lists of a model file; raises InputError where it is no YAML mapping."""
    source = str(path)
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise _problem(
                source, 1, 1, f"{size / 2**20:.1f} MiB, expected a model of at most {MOST_BYTES // 2**20} MiB"
            )
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError([Problem(source, 0, 0, "", error.strerror or str(error))]) from None
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - (before.rfind(b"\n") + 1) + 1
        raise _problem(source, line, column, "not a text file in UTF-8, expected a YAML model") from None
    return parse_document(text, source)


def parse_document(text: str, source: str) -> Any:
    """The nested mappings and lists of a YAML text; raises InputError where it is no mapping."""
    yaml = YAML(typ="rt", pure=True)
    try:
        document = yaml.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = _yaml_message(error)
        raise _problem(source, mark.line + 1 if mark else 1, mark.column + 1 if mark else 1, message) from None
    except (YAMLError, ValueError, RecursionError) as error:
        line, column, message = _unmarked(text, error)
        raise _problem(source, line, column, message) from None
    if document is None:
        raise _problem(source, 1, 1, "empty, expected a model with hosts, services and workloads")
    if not isinstance(document, dict):
        raise _problem(source, 1, 1, f"got {_short(document)}, expected a model with hosts, services and workloads")
    _limit_nodes(document, source)
    return document


def _problem(source: str, line: int, column: int, message: str) -> InputError:
    return InputError([Problem(source, line, column, "", message)])


def _yaml_message(error: MarkedYAMLError) -> str:
    message = str(error.problem or error.context or "not valid YAML")
    duplicate = re.match(r"found duplicate key \"?(.*?)\"? with value", message)
    if duplicate:
        return f"the key {duplicate[1]!r} stands here a second time"
    return f"not valid YAML: {message}"


def _unmarked(text: str, error: Exception) -> tuple[int, int, str]:
    """Place of an error that carries no mark: a character that YAML does not allow, or nesting without end."""
    if isinstance(error, RecursionError):
        return 1, 1, "nested too deeply"
    position = getattr(error, "position", None)
    if isinstance(position, int) and position <= len(text):
        line = text.count("\n", 0, position) + 1
        column = position - (text.rfind("\n", 0, position) + 1) + 1
        return line, column, f"not valid YAML: {getattr(error, 'reason', 'a special character')}"
    return 1, 1, f"not valid YAML: {str(error).splitlines()[0] if str(error) else type(error).__name__}"


def _limit_nodes(document: Any, source: str) -> None:
    """Refuse aliases that expand to a size that no text of this length would have."""
    count, waiting = 0, [document]
    while waiting:
        node = waiting.pop()
        count += 1
        if count > MOST_NODES:
            raise _problem(source, 1, 1, f"expands to more than {MOST_NODES:,} values")
        if isinstance(node, dict):
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def build(document: Any, source: str, overrides: list[Override], directory: Path) -> System:
    """The system of a document; raises InputError with every problem, each at its place."""
    changed = apply_overrides(document, overrides)
    try:
        return System.model_validate(changed, context={"directory": str(directory)})
    except ValidationError as error:
        places = {override.path: override.text for override in overrides}
        problems = [_located(document, changed, source, places, found) for found in error.errors()]
        raise InputError(list(dict.fromkeys(problems))) from None


def _located(document: Any, changed: Any, source: str, overrides: dict[Location, str], found: Any) -> Problem:
    path = _document_path(changed, found["loc"])
    message = _message(found, path)
    shown = ".".join(str(part) for part in path)
    for override, text in overrides.items():
        if path[: len(override)] == override:
            return Problem(f"--set {text}", 0, 0, shown, message)
    line, column = _position(document, path)
    return Problem(source, line, column, shown, message)


def _document_path(document: Any, location: Location) -> Location:
    """The location without the tags that pydantic puts in: only keys of the document, and a last missing key."""
    path: list[str | int] = []
    node = document
    for position, part in enumerate(location):
        if (isinstance(node, dict) and part in node) or (
            isinstance(node, (list, tuple)) and isinstance(part, int) and part < len(node)
        ):
            node = node[part]
        elif position == len(location) - 1 and isinstance(node, dict) and isinstance(part, str):
            path.append(part)
            break
        else:
            continue
        path.append(part)
    return tuple(path)


def _position(document: Any, path: Location) -> tuple[int, int]:
    """Line and column of the value at a path, or of what holds it; counted from 1."""
    node, line, column = document, 0, 0
    for part in path:
        try:
            marks = node.lc.data[part]
            line, column = (marks[2], marks[3]) if isinstance(node, dict) else (marks[0], marks[1])
            if isinstance(node, dict) and marks[2] == marks[0] and node[part] is None:
                line, column = marks[0], marks[1]
            node = node[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return line + 1, column + 1


def _message(found: Any, path: Location) -> str:
    kind, message, value = found["type"], found["msg"], found["input"]
    if kind == "missing":
        return "missing, expected a value"
    if kind == "extra_forbidden":
        return f"unknown key {str(path[-1])!r}" if path else "unknown key"
    message = message.removeprefix("Value error, ")
    if message.startswith("got ") or kind in ("value_error", "reference"):
        return str(message)
    if kind == "step":
        return f"got {_short(value)}, {message}"
    lowered = message[:1].lower() + message[1:]
    return f"got {_short(value)}, expected: {lowered.removeprefix('input should be ')}"


def _short(value: Any) -> str:
    text = repr(dict(value)) if isinstance(value, dict) else repr(value)
    if isinstance(value, BaseModel):
        text = type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."


def suggestion(key: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest known key, or nothing."""
    close = get_close_matches(key, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
