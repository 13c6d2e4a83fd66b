"""Model files: YAML read in safe mode, with every problem placed at its line and column."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from simulator.errors import InputError, Problem
from simulator.model.checks import walk_steps
from simulator.model.document import MOST_BYTES, dotted, read, scalar, too_large
from simulator.model.extension import PlaceInFile, extended
from simulator.model.overrides import Override, apply_and_locate, parse_all
from simulator.model.shape import Keys, expectation, follow, is_part, known_keys, meaning
from simulator.model.step import EXPECTED_STEP, STEPS, verb_of
from simulator.model.system import System
from simulator.model.words import nearest, short

EXPECTED = "expected a model: a mapping with hosts, services and workloads"
LONGEST_MESSAGE = 500
WHOLE_BELOW = 1e15
WRONG_KIND = {
    *("model_type", "model_attributes_type", "dict_type", "list_type", "tuple_type", "string_type"),
    *("bool_type", "bool_parsing", "int_type", "int_parsing", "float_type", "float_parsing"),
    *("literal_error", "enum", "too_short", "string_unicode"),
}


def load(path: str | Path, overrides: Iterable[str] = ()) -> System:
    """Read a model file, with overrides such as `services.web.replicas=4` applied to it.

    Raises InputError with every problem found.
    """
    path = Path(path)
    return _load(text_of(path), str(path), overrides, path.parent, path.stem)


def loads(text: str, overrides: Iterable[str] = (), source: str = "model") -> System:
    """Read a model from a text; otherwise as `load`."""
    return _load(text, source, overrides, Path())


def _load(text: str, source: str, overrides: Iterable[str], directory: Path, name: str | None = None) -> System:
    """Read, change and validate; problems of the text and of what it says are raised together."""
    changes, unreadable = parse_all(overrides)
    document, problems = _document(text, source, directory)
    problems += unreadable
    if name is not None:
        document.setdefault("name", name)
    try:
        system = build(document, source, changes, directory)
    except InputError as error:
        raise InputError(_in_order([*problems, *error.problems])) from None
    if problems:
        raise InputError(_in_order(problems))
    return system


def read_document(path: Path) -> Any:
    """The nested mappings and lists of a model file, with what it extends; raises InputError where it is none."""
    document = parse_document(text_of(path), str(path), path.parent)
    document.setdefault("name", path.stem)
    return document


def parse_document(text: str, source: str, directory: Path = Path()) -> Any:
    """The nested mappings and lists of a YAML text; otherwise as `read_document`."""
    document, problems = _document(text, source, directory)
    if problems:
        raise InputError(problems)
    return document


def _document(text: str, source: str, directory: Path) -> tuple[Any, list[Problem]]:
    """The mapping of a YAML text, with what it extends, and what is wrong with it as YAML.

    Raises InputError where it is no mapping, or extends what is not there.
    """
    document, problems = _mapping(text, source)

    def base(path: Path) -> Any:
        found, more = _mapping(text_of(path), str(path))
        problems.extend(more)
        return found

    return extended(System, document, source, directory, base), problems


def _mapping(text: str, source: str) -> tuple[Any, list[Problem]]:
    document, problems = read(text, source)
    if isinstance(document, dict):
        return document, problems
    got = "an empty text" if document is None else "a list" if isinstance(document, list) else short(document)
    message = f"got {got}, {EXPECTED}"
    raise InputError([*problems, Problem(source, 1, 1, "", message)])


def text_of(path: Path) -> str:
    """The text of a file; raises InputError where it cannot be one."""
    source = str(path)
    try:
        data = _beginning(path) if path.is_file() else _beginning_of_stream(path)
        if len(data) > MOST_BYTES:
            raise _problem(source, 1, 1, too_large(max(path.stat().st_size, len(data))))
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        start = before.rfind(b"\n") + 1
        column = len(before[start:].decode("utf-8-sig", "replace")) + 1
        message = f"got the byte 0x{error.object[error.start]:02x}, expected a text in UTF-8: a YAML model"
        raise _problem(source, before.count(b"\n") + 1, column, message) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError([Problem(source, 0, 0, "", f"{reason}, expected a model file")]) from None


def _beginning(path: Path) -> bytes:
    """What a file contains, or more than it may of one that is too large."""
    with path.open("rb") as stream:
        return stream.read(MOST_BYTES + 1)


@lru_cache
def _beginning_of_stream(path: Path) -> bytes:
    """The same of a pipe or a terminal, which can be read only once: some verbs come back to the model."""
    return _beginning(path)


def _problem(source: str, line: int, column: int, message: str) -> InputError:
    return InputError([Problem(source, line, column, "", message)])


class _Found(NamedTuple):
    """A path of the document, what is wrong there, and whether it is its key that is wrong."""

    path: Keys
    message: str
    at_key: bool


def build(document: Any, source: str, overrides: list[Override], directory: Path) -> System:
    """The system of a document; raises InputError with every problem, each at its place."""
    try:
        changed, places = apply_and_locate(document, overrides)
    except InputError as error:
        before = [_placed(document, source, found) for found in _problems_of(document, directory)]
        raise InputError(_in_order([*error.problems, *before])) from None
    try:
        return _validated(changed, directory)
    except ValidationError as error:
        found = _problems(error, changed)
    if not overrides:
        raise InputError(_in_order([_placed(document, source, problem) for problem in found]))
    raise InputError(_in_order(_blamed(document, source, places, found, _problems_of(document, directory))))


def _in_order(problems: list[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: (problem.line, problem.column))


def _validated(document: Any, directory: Path) -> System:
    return System.model_validate(document, context={"directory": str(directory)})


def _problems_of(document: Any, directory: Path) -> set[_Found]:
    """What is wrong with a document that no override has changed."""
    try:
        _validated(document, directory)
    except ValidationError as error:
        return set(_problems(error, document))
    return set()


def _problems(error: ValidationError, document: Any) -> list[_Found]:
    """What pydantic found, by paths of the document, without repetitions."""
    found = [_explained(document, item) for item in error.errors(include_url=False, include_context=False)]
    return list(dict.fromkeys(found))


def _explained(document: Any, found: Any) -> _Found:
    kind, location, value = found["type"], found["loc"], found["input"]
    if kind == "reference":
        return _Found(location, found["msg"], bool(location) and value == location[-1])
    path, holder, annotation = follow(System, document, location)
    if kind == "extra_forbidden":
        return _Found(path, _unknown_key(str(location[-1]), holder), True)
    return _Found(path, _message(kind, found["msg"], value, annotation) + _enough(path, value, annotation), False)


def _message(kind: str, message: str, value: Any, annotation: Any) -> str:
    if kind == "missing":
        return f"missing, expected {expectation(annotation)}"
    if kind == "step":
        return _no_step(value)
    if kind in WRONG_KIND:
        least = "at least one: " if kind == "too_short" else ""
        return f"got {short(value)}, expected {least}{expectation(annotation)}"
    if kind == "value_error":
        text = message.removeprefix("Value error, ")
        return text if len(text) <= LONGEST_MESSAGE else text[:LONGEST_MESSAGE] + "..."
    return f"got {short(value)}, expected {expectation(annotation)} ({message})"


def _enough(path: Keys, value: Any, annotation: Any) -> str:
    """What will do where a name has nothing after it, and needs nothing but the mapping."""
    shape = meaning(annotation, value)
    if value is not None or not is_part(shape) or not path:
        return ""
    try:
        shape.model_validate({})
    except ValidationError:
        return ""
    return f"; '{path[-1]}: {{}}' will do"


def _unknown_key(key: str, holder: Any) -> str:
    verb = next((verb for verb, kind in STEPS.items() if kind is holder), None)
    if verb is not None and key in STEPS:
        return f"a second verb beside {verb!r}, expected one verb a step: begin a new step with '- {key}: ...'"
    known = known_keys(holder)
    where = f" of a {verb} step" if verb else ""
    return f"unknown key {short(key)}{where}; {nearest(key, known)}"


def _no_step(value: Any) -> str:
    """What is wrong with something that has no known verb."""
    words = value if isinstance(value, dict) else str(value).split()[:1] if isinstance(value, str) else ()
    for word in words:
        near = nearest(word, STEPS, "")
        if near.startswith("did"):
            colon = "" if isinstance(value, dict) else " (and a colon after it)"
            return f"got {short(value)}, {EXPECTED_STEP}; {near}{colon}"
    return f"got {short(value)}, {EXPECTED_STEP}"


def _placed(document: Any, source: str, found: _Found, suffix: str = "") -> Problem:
    path, message, at_key = found
    place = position(document, path, at_key)
    file = place.source if isinstance(place, PlaceInFile) else source
    return Problem(file, *place, dotted(path), message + suffix)


def _blamed(
    document: Any, source: str, places: dict[Keys, str], found: list[_Found], before: set[_Found]
) -> list[Problem]:
    """Problems placed at the override that brought them about, or in the file where they were there before."""
    problems = []
    for item in found:
        override = _override_of(item.path, places, within=item in before)
        if override is not None:
            problems.append(Problem(f"--set {override}", 0, 0, dotted(item.path), item.message))
        elif item in before:
            problems.append(_placed(document, source, item))
        else:
            problems.append(_placed(document, source, item, f" (with --set {' --set '.join(places.values())})"))
    return problems


def _override_of(path: Keys, places: dict[Keys, str], within: bool) -> str | None:
    """The override that a problem comes from: it set the place, or (not `within`) something in it or beside it."""
    latest = list(reversed(places.items()))
    tests: list[Callable[[Keys], bool]] = [lambda place: path[: len(place)] == place]
    if not within:
        tests.append(lambda place: place[: len(path)] == path)
        tests.append(lambda place: len(path) <= len(place) and place[: len(path) - 1] == path[:-1])
    return next((text for test in tests for place, text in latest if test(place)), None)


def position(document: Any, path: Keys, at_key: bool = False) -> tuple[int, int]:
    """Line and column of a value, or of its key where it begins further down; of what holds it where it is missing.

    Counted from 1; (0, 0) for a document that was not read from a text.
    """
    node, place = document, getattr(document, "start", (0, 0))
    for index, part in enumerate(path):
        places = getattr(node, "places", None)
        try:
            known = places[part] if places is not None else None
        except (KeyError, IndexError, TypeError):
            break
        if known is None:
            break
        if isinstance(node, dict):
            key, value = known
            last = index == len(path) - 1
            place = key if value[0] > key[0] or (at_key and last) else value
        else:
            place = known
        node = node[part]
    return place


def dump(system: System) -> str:
    """The model as YAML: every value that is not its default, files read in; `loads` gives an equal system."""
    document = system.model_dump(mode="json", exclude_defaults=True)
    for service in document["services"].values():
        for steps in (service.get("authentication"), *service["operations"].values()):
            for _, step in walk_steps(steps, ()):
                _verb_first(step)
    stream = io.StringIO()
    yaml = YAML()
    yaml.width = 2**20
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.dump(_quoted(document), stream)
    return stream.getvalue()


def _verb_first(step: dict[str, Any]) -> None:
    fields = dict(step)
    verb = verb_of(step)
    step.clear()
    if verb is not None:
        step[verb] = fields.pop(verb)
    step.update(fields)


def _quoted(value: Any) -> Any:
    """The value with quotes around texts that would be read as something else, and whole numbers without `.0`."""
    if isinstance(value, dict):
        return {_quoted(key): _quoted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_quoted(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < WHOLE_BELOW:
        return int(value)
    if isinstance(value, str) and (not value.isprintable() or scalar(value) != value):
        return DoubleQuotedScalarString(value)
    return value
