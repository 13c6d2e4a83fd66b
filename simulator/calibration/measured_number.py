"""Numbers of measured tables: quantities with a unit, or bare numbers of the base unit."""

from __future__ import annotations

from simulator import units

BASE = {"rate": "1/s", "duration": "seconds", "fraction": "shares of 1"}


def measured_number(text: str, dimension: str) -> float | None:
    """A quantity, or a bare number of its base unit; None where it is neither."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return units.parse(text, dimension)
    except units.UnitError:
        return None


def expected(dimension: str, range_of: str) -> str:
    """What a cell should have, its range such as `above 0`."""
    if dimension not in BASE:
        return f"a number {range_of}"
    return f"a {dimension} {range_of} such as {units.EXAMPLES[dimension]!r}, or a number of {BASE[dimension]}"
