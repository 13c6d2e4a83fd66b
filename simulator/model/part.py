"""What every part of a model has in common: it is frozen, refuses unknown keys, and reads quantities with units."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from simulator import units


class Part(BaseModel):
    """A piece of a model."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


def _quantity(dimension: str, expected: str, accepts: Callable[[float], bool]) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        number = units.parse(value, dimension)
        if not accepts(number):
            raise ValueError(f"got {value!r}, expected {expected}, e.g. '{units.EXAMPLES[dimension]}'")
        return number

    return read


def _writer(dimension: str) -> Callable[[float], str | float]:
    base = units.DIMENSIONS[dimension]

    def write(number: float) -> str | float:
        return f"{number!r} {base}" if base else number

    return write


def _schema(dimension: str, description: str) -> WithJsonSchema:
    return WithJsonSchema(
        {"type": ["string", "number"], "description": description, "examples": [units.EXAMPLES[dimension]]}
    )


def _at_least_zero(number: float) -> bool:
    return number >= 0.0


def _above_zero(number: float) -> bool:
    return number > 0.0


def _is_share(number: float) -> bool:
    return 0.0 <= number <= 1.0


Duration = Annotated[
    float,
    BeforeValidator(_quantity("duration", "a duration of at least 0", _at_least_zero)),
    PlainSerializer(_writer("duration")),
    _schema("duration", "a duration with its unit"),
]
PositiveDuration = Annotated[
    float,
    BeforeValidator(_quantity("duration", "a duration above 0", _above_zero)),
    PlainSerializer(_writer("duration")),
    _schema("duration", "a duration above 0 with its unit"),
]
Size = Annotated[
    float,
    BeforeValidator(_quantity("size", "a size of at least 0", _at_least_zero)),
    PlainSerializer(_writer("size")),
    _schema("size", "a size in bytes with its unit"),
]
PositiveSize = Annotated[
    float,
    BeforeValidator(_quantity("size", "a size above 0", _above_zero)),
    PlainSerializer(_writer("size")),
    _schema("size", "a size above 0 with its unit"),
]
Bandwidth = Annotated[
    float,
    BeforeValidator(_quantity("bandwidth", "a bandwidth above 0", _above_zero)),
    PlainSerializer(_writer("bandwidth")),
    _schema("bandwidth", "a bandwidth with its unit"),
]
Rate = Annotated[
    float,
    BeforeValidator(_quantity("rate", "a rate of at least 0", _at_least_zero)),
    PlainSerializer(_writer("rate")),
    _schema("rate", "a rate with its unit"),
]
PositiveRate = Annotated[
    float,
    BeforeValidator(_quantity("rate", "a rate above 0", _above_zero)),
    PlainSerializer(_writer("rate")),
    _schema("rate", "a rate above 0 with its unit"),
]


def _iops(value: Any) -> float:
    """The name says the unit: a bare number will do."""
    bare = isinstance(value, (int, float)) and not isinstance(value, bool)
    return _quantity("rate", "a rate above 0", _above_zero)(f"{value} IOPS" if bare else value)


OperationsPerSecond = Annotated[
    float,
    BeforeValidator(_iops),
    PlainSerializer(_writer("rate")),
    _schema("rate", "operations a second, with or without a unit"),
]
Price = Annotated[
    float,
    BeforeValidator(_quantity("price", "a price of at least 0", _at_least_zero)),
    PlainSerializer(_writer("price")),
    _schema("price", "a price per hour (or month, year) with its unit"),
]
Share = Annotated[
    float,
    BeforeValidator(_quantity("fraction", "a share between 0 and 1", _is_share)),
    _schema("fraction", "a share between 0 and 1, or a percentage"),
]
Factor = Annotated[
    float,
    BeforeValidator(_quantity("fraction", "a factor above 0", _above_zero)),
    _schema("fraction", "a factor above 0"),
]
Amount = Annotated[
    float,
    BeforeValidator(_quantity("count", "a number of at least 0", _at_least_zero)),
    _schema("count", "a number of at least 0"),
]
PositiveAmount = Annotated[
    float,
    BeforeValidator(_quantity("count", "a number above 0", _above_zero)),
    _schema("count", "a number above 0"),
]


def _whole(least: int, dimension: str = "count") -> Callable[[Any], int]:
    def read(value: Any) -> int:
        try:
            number = units.parse(value, dimension)
        except units.UnitError:
            number = -1.0
        if number != int(number) or number < least:
            raise ValueError(f"got {value!r}, expected a whole number >= {least}")
        return int(number)

    return read


WholeNumber = Annotated[
    int,
    BeforeValidator(_whole(0)),
    WithJsonSchema({"type": ["integer", "string"], "minimum": 0, "description": "a whole number >= 0"}),
]
Count = Annotated[
    int,
    BeforeValidator(_whole(1)),
    WithJsonSchema({"type": ["integer", "string"], "minimum": 1, "description": "a whole number >= 1"}),
]
Cores = Annotated[
    int,
    BeforeValidator(_whole(1, "cores")),
    WithJsonSchema({"type": ["integer", "string"], "minimum": 1, "description": "a whole number of cores"}),
]
Priority = Annotated[int, Field(ge=-1000, le=1000, description="a lower number is served first")]


def shorthand(field: str) -> Callable[[Any], Any]:
    """A validator that reads a bare value as a mapping of that one field."""

    def expand(value: Any) -> Any:
        return value if isinstance(value, (dict, BaseModel)) else {field: value}

    return expand
