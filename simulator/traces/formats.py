"""Formats of request traces, read row by row from plain or gzipped files.

`azure` is a CSV file with the columns TIMESTAMP (date and time), ContextTokens and GeneratedTokens
(github.com/Azure/AzurePublicDataset). `mooncake` is one JSON object a line with timestamp (ms), input_length,
output_length and, where they are known, hash_ids: one number for each block of 512 tokens of the prompt, the last of
which may be a part of one, equal where the prompts are equal up to the block's end (github.com/kvcache-ai/Mooncake).
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

Format = Literal["azure", "mooncake"]

AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
MOONCAKE_COLUMNS = ("timestamp", "input_length", "output_length")
GZIP = b"\x1f\x8b"
BLOCK_TOKENS = 512
"""Tokens of a prompt's block that has an id, in Mooncake's traces."""
MOST_TOKENS = 10**15  # exact as a floating-point number
LONGEST_SHOWN = 60
STAMP = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?")
WHOLE_NUMBER = re.compile(r"[0-9]{1,16}")


class Row(NamedTuple):
    """A recorded request: when it came (ns since any time), its tokens, and the ids of its prompt's blocks."""

    nanoseconds: int
    input: int
    output: int
    blocks: list[int] | None


def format_of(path: Path) -> Format | None:
    """The format that a file's first line tells; None where it tells none. Raises ValueError as `read_rows` does."""
    with _text(path) as lines:
        first = next((line for line in lines if not _is_left_out(line)), "").strip()
    if first.startswith("{"):
        return "mooncake"
    return "azure" if set(AZURE_COLUMNS) & {cell.strip() for cell in first.split(",")} else None


def read_rows(path: Path, trace_format: Format) -> Iterator[Row]:
    """The rows of a trace, in order of time.

    Raises ValueError with `file:line:column: what was expected` at the first bad row, and where there is none.
    """
    rows = _azure_rows(path) if trace_format == "azure" else _mooncake_rows(path)
    before, line = -math.inf, 1
    for line, column, text, row in rows:
        if row.nanoseconds < before:
            raise ValueError(f"{path}:{line}:{column}: got {text}, expected no earlier than the row above")
        before = row.nanoseconds
        yield row
    if before == -math.inf:
        raise ValueError(f"{path}:{line}:1: no rows, expected at least one request")


def _azure_rows(path: Path) -> Iterator[tuple[int, int, str, Row]]:
    """Each row with its line, and the column and text of its time."""
    with _text(path) as lines:
        reader = csv.reader(lines, strict=True)
        header: dict[str, int] = {}
        try:
            for cells in reader:
                if not cells or cells[0].lstrip().startswith("#"):
                    continue
                place = f"{path}:{reader.line_num}"
                if header:
                    time, row = _azure_row(place, header, [cell.strip() for cell in cells])
                    yield reader.line_num, header[AZURE_COLUMNS[0]] + 1, time, row
                else:
                    header = _header(place, [cell.strip() for cell in cells])
        except csv.Error as error:
            raise ValueError(f"{path}:{max(reader.line_num, 1)}:1: {error}, expected a row of a CSV file") from None


def _azure_row(place: str, header: dict[str, int], cells: list[str]) -> tuple[str, Row]:
    """The text of its time, and the row."""

    def cell(name: str) -> tuple[str, str]:
        return (cells[header[name]] if header[name] < len(cells) else ""), f"{place}:{header[name] + 1}"

    time, prompt, generated = map(cell, AZURE_COLUMNS)
    return time[0], Row(_nanoseconds(*time), _tokens_of_text(*prompt), _tokens_of_text(*generated), None)


def _header(place: str, cells: list[str]) -> dict[str, int]:
    for name in AZURE_COLUMNS:
        if name not in cells:
            raise ValueError(f"{place}:1: no column {name!r}, expected {', '.join(AZURE_COLUMNS)}")
    return {name: cells.index(name) for name in AZURE_COLUMNS}


def _tokens_of_text(text: str, place: str) -> int:
    if not WHOLE_NUMBER.fullmatch(text) or int(text) > MOST_TOKENS:
        raise ValueError(f"{place}: got {_short(text)}, expected a whole number of tokens >= 0")
    return int(text)


def _nanoseconds(text: str, place: str) -> int:
    """Nanoseconds since 1970 of a time without a zone, or in UTC."""
    found = STAMP.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        whole = _seconds(f"{found[1]} {found[2]}{found[4] or ''}")
    except ValueError:
        expected = "a date and time such as 2023-11-16 18:17:03.9799600"
        raise ValueError(f"{place}: got {_short(text)}, expected {expected}") from None
    return whole * 10**9 + int((found[3] or "0").ljust(9, "0"))


@lru_cache(maxsize=64)
def _seconds(text: str) -> int:
    stamp = datetime.fromisoformat(text)
    return int((stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp())


def _mooncake_rows(path: Path) -> Iterator[tuple[int, int, str, Row]]:
    """Each row with its line, and the column and text of its time."""
    with_blocks: bool | None = None
    with _text(path) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            item = _Object(path, number, line)
            prompt = item.tokens("input_length")
            blocks = item.blocks(prompt)
            if with_blocks is not None and with_blocks != (blocks is not None):
                raise ValueError(f"{item.place('hash_ids')}: expected hash_ids in all rows or in none")
            with_blocks = blocks is not None
            row = Row(item.nanoseconds(), prompt, item.tokens("output_length"), blocks)
            yield number, item.column("timestamp"), f"{item.values['timestamp']!r} ms", row


class _Object:
    """A JSON object in a line of a file."""

    def __init__(self, path: Path, number: int, line: str) -> None:
        self.path, self.number, self.line = path, number, line
        expected = f"expected a JSON object with {', '.join(MOONCAKE_COLUMNS)}"
        try:
            self.values: Any = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{number}:{error.colno}: {error.msg}, {expected}") from None
        except (RecursionError, ValueError):
            raise ValueError(f"{path}:{number}:1: nested too deeply or too long a number, {expected}") from None
        if not isinstance(self.values, dict):
            raise ValueError(f"{path}:{number}:1: got {_short(self.values)}, {expected}")
        for name in MOONCAKE_COLUMNS:
            if name not in self.values:
                raise ValueError(f"{path}:{number}:1: no {name!r}, {expected}")

    def column(self, name: str) -> int:
        """Where a key stands in the line, from 1."""
        return self.line.find(f'"{name}"') + 1 or 1

    def place(self, name: str) -> str:
        """File, line and column of a key."""
        return f"{self.path}:{self.number}:{self.column(name)}"

    def nanoseconds(self) -> int:
        """The time stamp."""
        value: float = self.values["timestamp"]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e15:
            raise ValueError(f"{self.place('timestamp')}: got {_short(value)}, expected a time in ms >= 0")
        return round(value * 10**6)

    def tokens(self, name: str) -> int:
        """A number of tokens."""
        value: int = self.values[name]
        if not _is_whole(value) or value > MOST_TOKENS:
            raise ValueError(f"{self.place(name)}: got {_short(value)}, expected a whole number of tokens >= 0")
        return value

    def blocks(self, prompt: int) -> list[int] | None:
        """Ids of the blocks of a prompt of so many tokens; None where they are not given."""
        value: list[int] | None = self.values.get("hash_ids")
        if value is not None and not (
            isinstance(value, list) and all(_is_whole(each) and each < 2**63 for each in value)
        ):
            raise ValueError(f"{self.place('hash_ids')}: got {_short(value)}, expected a list of whole numbers >= 0")
        whole = -(-prompt // BLOCK_TOKENS)
        if value is not None and len(value) != whole:
            raise ValueError(
                f"{self.place('hash_ids')}: got {len(value)} for {prompt} tokens, expected {whole}: one for each block "
                f"of {BLOCK_TOKENS}"
            )
        return value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


@contextmanager
def _text(path: Path) -> Iterator[Iterator[str]]:
    """The lines of a plain or gzipped text file."""
    try:
        if "\0" in str(path) or not path.exists():
            raise ValueError(f"{str(path).encode('unicode_escape').decode()}: no such file, expected a trace")
        if not path.is_file():
            raise ValueError(f"{path}: expected a trace, got a directory or a device")
        with path.open("rb") as raw:
            zipped = raw.read(2) == GZIP
            raw.seek(0)
            stream = gzip.GzipFile(fileobj=raw) if zipped else raw
            yield iter(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: {error.reason}, expected a text in UTF-8") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: {str(error).rstrip('.')}, expected a whole gzip file") from None
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}, expected a trace") from None


def _is_left_out(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."
