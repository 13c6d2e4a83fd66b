"""Numbers from a CSV file, with errors that name the file, the line and the column."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

MOST_BYTES = 256 * 2**20


def read_column(file: str, column: str | None, context: Any) -> list[float]:
    """The numbers of a CSV file's column, relative to the model's directory.

    Raises ValueError with `file:line:column: what was expected` for the first bad row, a missing file or column.
    """
    directory = Path(context["directory"]) if context and context.get("directory") else Path()
    path = directory / file
    header, rows = read_rows(path)
    if not header:
        raise ValueError(f"{file}:1:1: empty file, expected a header and one number a row")
    index = _index(file, header, column)
    values = []
    for line, row in rows:
        text = row[index] if index < len(row) else ""
        values.append(_number(text, f"{file}:{line}:{index + 1}"))
    if not values:
        raise ValueError(f"{file}:2:1: no rows, expected at least one number")
    return values


def read_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header and (line number, cells) of a CSV file, blank lines and lines that start with # left out.

    Raises ValueError where the file is missing, too large or not text.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"{path}:1:1: larger than {MOST_BYTES // 2**20} MiB")
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            lines = [(reader.line_num, row) for row in reader if row and not row[0].lstrip().startswith("#")]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}:1:1: not a text file ({error.reason} at byte {error.start})") from None
    except csv.Error as error:
        raise ValueError(f"{path}:{reader.line_num}:1: {error}") from None
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    if not lines:
        return [], []
    return [cell.strip() for cell in lines[0][1]], lines[1:]


def _index(file: str, header: list[str], column: str | None) -> int:
    if column is None:
        if len(header) == 1:
            return 0
        raise ValueError(f"{file}:1:1: has {len(header)} columns, name one with 'column': {', '.join(header)}")
    if column not in header:
        raise ValueError(f"{file}:1:1: no column {column!r}, it has: {', '.join(header)}")
    return header.index(column)


def _number(text: str, place: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{place}: got {text!r}, expected a number") from None
    if not math.isfinite(number) or number < 0.0:
        raise ValueError(f"{place}: got {text!r}, expected a number >= 0")
    return number
