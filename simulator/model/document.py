"""YAML read into plain mappings, lists, texts and numbers, each of which knows its line and column.

The scalars are those of the YAML 1.2 core schema: what is no number, no boolean and no null is a text, dates and
`yes` included. Keys are texts as written. Tags are refused, so nothing in a document is ever evaluated; aliases
and merge keys (`<<`) are allowed as long as they do not expand beyond measure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from simulator.errors import InputError, Problem

MOST_BYTES = 4 * 2**20
MOST_NODES = 100_000
MOST_PROBLEMS = 300
MOST_LEVELS = 100
MOST_DIGITS = 300

Place = tuple[int, int]
"""Line and column, counted from 1."""

LINE_BREAK = re.compile(r"\r\n|\n|\r")
INTEGER = re.compile(r"[-+]?[0-9]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
SPECIAL_FLOAT = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class Mapping(dict[str, Any]):
    """A mapping of a document, with the places of its keys and values."""

    def __init__(self, start: Place = (1, 1)) -> None:
        super().__init__()
        self.start = start
        self.places: dict[str, tuple[Place, Place]] = {}

    def copy(self) -> Mapping:
        """A copy that shares the values."""
        other = Mapping(self.start)
        other.update(self)
        other.places = dict(self.places)
        return other


class Sequence(list[Any]):
    """A list of a document, with the places of its items."""

    def __init__(self, start: Place = (1, 1)) -> None:
        super().__init__()
        self.start = start
        self.places: list[Place] = []

    def copy(self) -> Sequence:
        """A copy that shares the items."""
        other = Sequence(self.start)
        other.extend(self)
        other.places = list(self.places)
        return other


def scalar(text: str) -> Any:
    """The value of an unquoted text: None, a boolean, a number or the text."""
    if text in WORDS:
        return WORDS[text]
    if text[0] not in "+-.0123456789" or len(text) > MOST_DIGITS:
        return text
    if INTEGER.fullmatch(text):
        return int(text)
    if FLOAT.fullmatch(text):
        return float(text)
    if OTHER_BASE.fullmatch(text):
        return int(text[2:], 8 if text[1] == "o" else 16)
    special = SPECIAL_FLOAT.fullmatch(text)
    if special:
        return float(special[1] + "inf") if special[2] else float("nan")
    return text


def read(text: str, source: str) -> tuple[Any, list[Problem]]:
    """The document of a YAML text, None where it is empty, and what is wrong with it.

    Raises InputError where nothing can be read.
    """
    if len(text) > MOST_BYTES:
        raise InputError([Problem(source, 1, 1, "", too_large(len(text)))])
    return _Reader(text, source).read()


@dataclass(frozen=True, slots=True)
class Scalar:
    """A scalar in the text of a document: where its first character is, and that behind its last; its quotes."""

    start: int
    end: int
    quote: str


def scalars(text: str) -> dict[Place, Scalar]:
    """Every scalar of a YAML text that `read` can read, keys included, by its place; none that has an anchor."""
    return {
        _place(event): Scalar(event.start_mark.index, event.end_mark.index, event.style or "")
        for event in YAML(typ="safe", pure=True).parse(text)
        if type(event).__name__ == "ScalarEvent" and not event.anchor
    }


def dotted(path: Iterable[str | int]) -> str:
    """A path of a document in one line: `services.web.workers`."""
    return ".".join(text if (text := str(part)).isprintable() else repr(text) for part in path)


def too_large(size: int) -> str:
    """The message about a text of too many bytes."""
    return f"{size / 2**20:.1f} MiB, expected a model of at most {MOST_BYTES // 2**20} MiB"


@dataclass(slots=True)
class _Frame:
    """A mapping or list that is being read."""

    node: Mapping | Sequence
    anchor: str | None
    flow: bool
    nodes_before: int
    key: str | None = None
    key_place: Place = (1, 1)
    awaits_key: bool = True
    skips_value: bool = False
    merges: list[tuple[Mapping, Place]] = field(default_factory=list)
    height: int = 1


@dataclass(frozen=True, slots=True)
class _Anchored:
    """What an anchor stands for: the node, how many nodes it is made of, and how deep it is nested."""

    node: Any
    nodes: int
    height: int


class _Reader:
    """Builds a document from the events of a YAML parser, without recursion."""

    def __init__(self, text: str, source: str) -> None:
        self.text, self.source = text, source
        self.problems: list[Problem] = []
        self.frames: list[_Frame] = []
        self.anchors: dict[str, _Anchored | None] = {}
        self.nodes = 0
        self.documents = 0
        self.root: Any = None

    def read(self) -> tuple[Any, list[Problem]]:
        """Go through all events; see the function of that name."""
        handlers: dict[str, Callable[[Any], None]] = {
            "DocumentStartEvent": self._document,
            "ScalarEvent": self._scalar,
            "AliasEvent": self._alias,
            "MappingStartEvent": lambda event: self._open(event, Mapping(_place(event))),
            "SequenceStartEvent": lambda event: self._open(event, Sequence(_place(event))),
            "MappingEndEvent": self._close,
            "SequenceEndEvent": self._close,
        }
        try:
            for event in YAML(typ="safe", pure=True).parse(self.text):
                handler = handlers.get(type(event).__name__)
                if handler is not None:
                    handler(event)
                if self.documents > 1:
                    break
        except (YAMLError, ValueError, RecursionError, IndexError) as error:
            place, message = self._syntax_error(error)
            raise self._fatal(place, message) from None
        return self.root, self.problems

    def _document(self, event: Any) -> None:
        self.documents += 1
        if self.documents > 1:
            self._problem(_place(event), "a second document begins here, expected only one")

    def _scalar(self, event: Any) -> None:
        place = _place(event)
        plain = event.style is None or event.style == ""
        self._count(1, 1, place)
        if event.style == '"' and any("\ud800" <= character <= "\udfff" for character in event.value):
            raise self._fatal(place, "half of a surrogate pair, expected a text in Unicode")
        if self._awaits_key():
            self._refuse_tag(event)
            self._key(event.value, place, plain)
            return
        value = scalar(event.value) if plain else event.value
        if self._refuse_tag(event):
            value = None
        self._remember(event.anchor, _Anchored(value, 1, 1))
        self._attach(value, place)

    def _alias(self, event: Any) -> None:
        place, name = _place(event), event.anchor
        anchored = self.anchors.get(name)
        if anchored is None:
            inside = "stands for what holds it" if name in self.anchors else "stands for nothing before it"
            self._problem(place, f"the alias *{name} {inside}")
            anchored = _Anchored(None, 1, 1)
        self._count(anchored.nodes, anchored.height, place)
        if not self._awaits_key():
            self._attach(anchored.node, place)
        elif isinstance(anchored.node, str):
            self._key(anchored.node, place, plain=False)
        else:
            self._bad_key(place, anchored.node)

    def _open(self, event: Any, node: Mapping | Sequence) -> None:
        self._count(1, 1, node.start)
        self._refuse_tag(event)
        if event.anchor:
            self.anchors[event.anchor] = None
        flow = self.text[event.start_mark.index : event.start_mark.index + 1] in ("[", "{") or bool(event.flow_style)
        self.frames.append(_Frame(node, event.anchor, flow, self.nodes - 1))

    def _close(self, event: Any) -> None:
        frame = self.frames.pop()
        if isinstance(frame.node, Mapping):
            for mapping, _ in frame.merges:
                _merge(frame.node, mapping)
        self._remember(frame.anchor, _Anchored(frame.node, self.nodes - frame.nodes_before, frame.height))
        if self.frames:
            self.frames[-1].height = max(self.frames[-1].height, frame.height + 1)
        if self._awaits_key():
            self._bad_key(frame.node.start, frame.node)
        else:
            self._attach(frame.node, frame.node.start)

    def _awaits_key(self) -> bool:
        return bool(self.frames) and isinstance(self.frames[-1].node, Mapping) and self.frames[-1].awaits_key

    def _key(self, key: str, place: Place, plain: bool) -> None:
        frame = self.frames[-1]
        frame.key, frame.key_place, frame.awaits_key = key, place, False
        frame.skips_value = False
        if key in frame.node and not (plain and key == "<<"):
            assert isinstance(frame.node, Mapping)
            first = frame.node.places[key][0][0]
            self._problem(place, f"the key {key!r} stands here a second time, the first is in line {first}", key)
            frame.skips_value = True

    def _bad_key(self, place: Place, node: Any) -> None:
        frame = self.frames[-1]
        frame.key, frame.key_place, frame.awaits_key, frame.skips_value = None, place, False, True
        what = "a list" if isinstance(node, list) else "a mapping" if isinstance(node, dict) else repr(node)
        self._problem(place, f"got {what} as a key, expected a name (texts that begin with [ or {{ go in quotes)")

    def _attach(self, value: Any, place: Place) -> None:
        """Put a finished value where it belongs."""
        if not self.frames:
            self.root = value
            return
        frame = self.frames[-1]
        if isinstance(frame.node, Sequence):
            frame.node.append(value)
            frame.node.places.append(place)
            return
        frame.awaits_key = True
        if frame.skips_value or frame.key is None:
            return
        if frame.key == "<<":
            self._merge_key(frame, value, place)
            return
        frame.node[frame.key] = value
        frame.node.places[frame.key] = (frame.key_place, place)

    def _merge_key(self, frame: _Frame, value: Any, place: Place) -> None:
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Mapping):
                self._count(len(item), 1, place)
                frame.merges.append((item, place))
            else:
                self._problem(place, "expected an alias of a mapping, or a list of such, to merge", "<<")

    def _remember(self, anchor: str | None, anchored: _Anchored) -> None:
        if anchor:
            self.anchors[anchor] = anchored

    def _count(self, nodes: int, height: int, place: Place) -> None:
        """Refuse what expands, or is nested, beyond any sensible model."""
        self.nodes += nodes
        if self.nodes > MOST_NODES:
            raise self._fatal(place, f"the text expands to more than {MOST_NODES:,} values")
        if len(self.frames) + height > MOST_LEVELS:
            raise self._fatal(place, f"nested more than {MOST_LEVELS} levels deep")
        if self.frames:
            self.frames[-1].height = max(self.frames[-1].height, height + 1)

    def _refuse_tag(self, event: Any) -> bool:
        tag = event.tag
        if tag is None or str(tag) == "!":
            return False
        shown = str(tag).replace("tag:yaml.org,2002:", "!!", 1)
        self._problem(_place(event), f"got the tag {shown!r}, expected a plain value: a model has no tags")
        return True

    def _path(self) -> list[str]:
        return [
            str(len(frame.node)) if isinstance(frame.node, Sequence) else str(frame.key) for frame in self.frames[:-1]
        ]

    def _problem(self, place: Place, message: str, key: str | None = None) -> None:
        path = [*self._path(), key] if key is not None else []
        self.problems.append(Problem(self.source, *self._within(place), dotted(path), message))
        if len(self.problems) >= MOST_PROBLEMS:
            raise self._fatal(place, f"the {MOST_PROBLEMS}th problem, the rest is left out")

    def _fatal(self, place: Place, message: str) -> InputError:
        return InputError([*self.problems, Problem(self.source, *self._within(place), "", message)])

    @cached_property
    def _lines(self) -> list[str]:
        return LINE_BREAK.split(self.text)

    def _within(self, place: Place) -> Place:
        """The place, or the end of the text where it lies behind that."""
        lines = self._lines
        last = len(lines) - 1 if lines[-1] == "" and len(lines) > 1 else len(lines)
        return place if place[0] <= last else (last, len(lines[last - 1]) + 1)

    def _syntax_error(self, error: Exception) -> tuple[Place, str]:
        """Place and message of what is no YAML."""
        if isinstance(error, MarkedYAMLError):
            mark = error.problem_mark or error.context_mark
            place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            problem = str(error.problem or "")
            if "stream end" in problem or "end of stream" in problem:
                return self._cut_off(error, place)
            return place, self._explained(error)
        position = getattr(error, "position", None)
        if isinstance(position, int) and 0 <= position <= len(self.text):
            lines = LINE_BREAK.split(self.text[:position])
            character = self.text[position : position + 1]
            return (len(lines), len(lines[-1]) + 1), f"the character {character!r}, expected a YAML text"
        return (1, 1), "not valid YAML"

    def _explained(self, error: MarkedYAMLError) -> str:
        problem = str(error.problem or error.context or "unreadable")
        began = error.context_mark.line + 1 if error.context_mark else None
        character = re.fullmatch(r"found character '(.+)' that cannot start any token", problem)
        if character:
            if character[1] in ("\t", "\\t"):
                return "a tab, expected spaces: YAML is indented and set apart by spaces only"
            return f"a text begins with {character[1]!r}, expected it in quotes"
        if problem.startswith("mapping values are not allowed"):
            return "a ':' where none can be, expected the same indentation as above, or quotes around a text with ': '"
        if problem.startswith("expected <block end>"):
            return f"not indented like what begins in line {began}, or a mix of '- ' and 'key:' in one block"
        if problem.startswith("expected ',' or"):
            return f"{problem} (opened in line {began})"
        return f"not valid YAML: {problem}"

    def _cut_off(self, error: MarkedYAMLError, end: Place) -> tuple[Place, str]:
        """Where a bracket or quotation that the text does not close begins, else the end of the text."""
        flow = next((frame for frame in reversed(self.frames) if frame.flow), None)
        if "quoted" in str(error.context) and error.context_mark:
            return (error.context_mark.line + 1, error.context_mark.column + 1), "a quotation that is never closed"
        if flow is not None:
            return flow.node.start, f"the {'[' if isinstance(flow.node, Sequence) else '{'} is never closed"
        return end, "the text ends too early"


def _place(event: Any) -> Place:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _merge(node: Mapping, mapping: Mapping) -> None:
    for key, value in mapping.items():
        if key not in node:
            node[key] = value
            node.places[key] = mapping.places[key]
