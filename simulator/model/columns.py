"""Numbers from a CSV file, with errors that name the file, the line and the column."""

from __future__ import annotations

import csv
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

from simulator.model.words import nearest, short

MOST_BYTES = 256 * 2**20


def read_column(file: str, column: Any, context: Any, ascending: bool = False) -> list[float]:
    """The numbers of a CSV file's column, relative to the model's directory; column None is the only one.

    Raises ValueError with `file:line:column: what was expected` for the first bad row, a missing file or column.
    """
    directory = Path(context["directory"]) if context and context.get("directory") else Path()
    path = directory / file
    header, rows = read_rows(path)
    if not header:
        raise ValueError(f"{path}:1:1: empty file, expected a header and one number a row")
    index = _index(path, header, column)
    values = _numbers(path, rows, index)
    if not values:
        raise ValueError(f"{path}:2:1: no rows, expected at least one number")
    if ascending:
        _check_order(path, rows, index, values)
    return values


def read_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header and (line number, cells) of a CSV file, blank lines and lines that start with # left out.

    Raises ValueError where the file is missing, too large or not text.
    """
    try:
        if "\0" in str(path) or not path.exists():
            raise ValueError(f"{str(path).encode('unicode_escape').decode()}: no such file, expected a CSV file")
        if not path.is_file():
            raise ValueError(f"{path}: expected a CSV file, got a directory or a device")
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"{path}:1:1: expected a CSV file of at most {MOST_BYTES // 2**20} MiB")
        lines = _rows(path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}:1:1: expected a text in UTF-8 ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}, expected a CSV file") from None
    if not lines:
        return [], []
    return [cell.strip() for cell in lines[0][1]], lines[1:]


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        try:
            return [(reader.line_num, row) for row in reader if row and not row[0].lstrip().startswith("#")]
        except csv.Error as error:
            raise ValueError(f"{path}:{max(reader.line_num, 1)}:1: {error}, expected a row of a CSV file") from None


def _index(path: Path, header: list[str], column: Any) -> int:
    if column is None:
        if len(header) > 1:
            raise ValueError(f"{path}:1:1: has {len(header)} columns, name one with 'column': {', '.join(header)}")
        if _parsed(header[0]) is not None:
            raise ValueError(
                f"{path}:1:1: got {header[0]!r}, expected a header with the column's name above the numbers"
            )
        return 0
    if column not in header:
        raise ValueError(f"{path}:1:1: no column {column!r}; {nearest(column, header, 'it has')}")
    return header.index(column)


def _numbers(path: Path, rows: list[tuple[int, list[str]]], index: int) -> list[float]:
    values: list[float] = []
    bad: list[tuple[int, str]] = []
    for line, row in rows:
        text = row[index] if index < len(row) else ""
        number = _parsed(text)
        if number is None or not 0.0 <= number < math.inf:
            bad.append((line, text))
        else:
            values.append(number)
    if bad:
        line, text = bad[0]
        more = f" ({len(bad) - 1:,} more such rows)" if len(bad) > 1 else ""
        raise ValueError(f"{path}:{line}:{index + 1}: got {short(text)}, expected a number >= 0{more}")
    return values


def _parsed(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _check_order(path: Path, rows: list[tuple[int, list[str]]], index: int, values: list[float]) -> None:
    for (line, _), (before, after) in zip(rows[1:], pairwise(values), strict=True):
        if after < before:
            raise ValueError(f"{path}:{line}:{index + 1}: got {after:g} s, expected no earlier than the row above")
