"""What every part of a model has in common: it is frozen, refuses unknown keys, and reads quantities with units."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from simulator import units
from simulator.model.attribute_docstrings import attribute_docstrings


class Part(BaseModel):
    """A piece of a model."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    bare: ClassVar[str | None] = None
    """The field that a bare value stands for: `cpu: 8` is short for `cpu: {cores: 8}`."""
    exclusive: ClassVar[bool] = False
    """Whether exactly one of the fields is given, so that one that is set takes the place of another."""

    expected: ClassVar[str | None] = None
    """What is expected in place of something else, where the fields do not say it."""

    @classmethod
    def long_form(cls, value: Any) -> Any:
        """The mapping that a bare value is short for; anything else as it is."""
        if cls.bare is None or value is None or isinstance(value, (dict, BaseModel)):
            return value
        return {cls.bare: value}

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: Any) -> Any:
        return cls.long_form(value)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The mapping, or the bare value that is short for it."""
        schema = handler(core_schema)
        mapping = handler.resolve_ref_schema(schema)
        generic = cls.__pydantic_generic_metadata__["origin"]
        if generic is not None:
            mapping["description"] = generic.__doc__
        for name, text in attribute_docstrings(cls).items():
            if name in mapping.get("properties", {}):
                mapping["properties"][name]["description"] = text
        if cls.exclusive:
            mapping |= {"minProperties": 1, "maxProperties": 1}
        if cls.bare is not None:
            long = dict(mapping)
            mapping.clear()
            mapping |= {name: long.pop(name) for name in ("title", "description") if name in long}
            mapping["anyOf"] = [long["properties"][cls.bare], long]
        return schema


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
        if not base:
            return number
        short = units.show(number, dimension)
        return short if units.parse(short, dimension) == number else f"{number!r} {base}"

    return write


def _schema(dimension: str, description: str, bare: bool = False) -> WithJsonSchema:
    """A text with a unit of the dimension; a number too where that needs no unit (or is `bare`), else only 0."""
    text = {"type": "string", "pattern": _pattern(dimension)}
    number = {"type": "number", "minimum": 0} if bare or dimension in units.UNITLESS else {"const": 0}
    return WithJsonSchema(
        {"anyOf": [text, number], "description": description, "examples": [units.EXAMPLES[dimension]]}
    )


def _pattern(dimension: str) -> str:
    """A regular expression, in the dialect of JSON schemas, of the quantities of a dimension."""
    number = r"^\s*\+?\s*\$?\s*(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*"
    if dimension == "rate":
        things = "|".join(thing for thing in units.THINGS if thing)
        per = f"({things})?\\s*/\\s*({'|'.join(units.PERIODS)})"
        return f"{number}[kMG]?\\s*({per}|{'|'.join(units.RATE_WORDS)})\\s*$"
    if dimension == "price":
        return rf"{number}(USD|\$)?\s*/\s*(h|d|month|year)\s*$"
    names = sorted({name.replace("µ", "[µμ]").replace("/", r"\s*/\s*") for name in units.UNITS[dimension]})
    return f"{number}({'|'.join(names)})\\s*$"


def _at_least_zero(number: float) -> bool:
    return number >= 0.0


def _above_zero(number: float) -> bool:
    return number > 0.0


def _is_share(number: float) -> bool:
    return 0.0 <= number <= 1.0


def _is_confidence(number: float) -> bool:
    return number > 0.0 and (1.0 + number) / 2.0 < 1.0  # the quantile that a two-sided interval takes


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
MOST_ARRIVALS = 1e9
"""Requests a second: more than any system gets, and more than a second of which can be simulated in an hour."""


def _is_arrival_rate(number: float) -> bool:
    return 0.0 <= number <= MOST_ARRIVALS


ArrivalRate = Annotated[
    float,
    BeforeValidator(_quantity("rate", "a rate of at least 0 and at most 1 G/s", _is_arrival_rate)),
    PlainSerializer(_writer("rate")),
    _schema("rate", "a rate of at most 1 G/s with its unit"),
]
PositiveArrivalRate = Annotated[
    float,
    BeforeValidator(_quantity("rate", "a rate above 0 and at most 1 G/s", lambda n: n > 0.0 and _is_arrival_rate(n))),
    PlainSerializer(_writer("rate")),
    _schema("rate", "a rate above 0 and at most 1 G/s with its unit"),
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
    _schema("rate", "operations a second, with or without a unit", bare=True),
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
PositiveShare = Annotated[
    float,
    BeforeValidator(_quantity("fraction", "a share above 0 and at most 1", lambda number: 0.0 < number <= 1.0)),
    _schema("fraction", "a share above 0 and at most 1, or a percentage"),
]
Confidence = Annotated[
    float,
    BeforeValidator(_quantity("fraction", "a share above 0 and below 1", _is_confidence)),
    _schema("fraction", "a share above 0 and below 1, or a percentage"),
]
Factor = Annotated[
    float,
    BeforeValidator(_quantity("fraction", "a factor above 0", _above_zero)),
    _schema("fraction", "a factor above 0"),
]
Weight = Annotated[
    float,
    BeforeValidator(_quantity("fraction", "a factor of at least 0", _at_least_zero)),
    _schema("fraction", "a factor of at least 0"),
]
Amount = Annotated[
    float,
    BeforeValidator(_quantity("count", "a number of at least 0", _at_least_zero)),
    _schema("count", "a number of at least 0"),
]
AtLeastOne = Annotated[
    float,
    BeforeValidator(_quantity("count", "a number of at least 1", lambda number: number >= 1.0)),
    _schema("count", "a number of at least 1"),
]


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number between two bounds; the upper one keeps a slip of the pen from asking for all memory."""

    least: int
    most: int
    dimension: str = "count"

    @property
    def description(self) -> str:
        """What is expected."""
        return f"a whole number >= {self.least}"

    def read(self, value: Any) -> int:
        """The number; raises ValueError."""
        try:
            number = units.parse(value, self.dimension)
        except units.UnitError:
            number = math.nan
        if not (number.is_integer() and self.least <= number):
            raise ValueError(f"got {value!r}, expected {self.description}")
        if number > self.most:
            raise ValueError(f"got {value!r}, expected {self.description} and at most {self.most:,}")
        return int(number)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read before pydantic's own check."""
        return core_schema.no_info_before_validator_function(self.read, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """An integer, or a text such as `10k`."""
        number = {"type": "integer", "minimum": self.least, "maximum": self.most}
        text = {"type": "string", "pattern": _pattern(self.dimension)}
        return {"anyOf": [number, text], "description": self.description}


BILLION = 10**9

WholeNumber = Annotated[int, Whole(0, BILLION)]
Count = Annotated[int, Whole(1, BILLION)]
Tries = Annotated[int, Whole(0, 1000)]
Instances = Annotated[int, Whole(1, 10_000)]
Users = Annotated[int, Whole(1, 10_000_000)]
Keys = Annotated[int, Whole(1, 100_000_000)]
Cores = Annotated[int, Whole(1, 4096, "cores")]
HardwareThreads = Annotated[int, Whole(1, 64)]
Priority = Annotated[int, Whole(-1000, 1000)]


class Either:
    """A quantity, or one of some words in its place."""

    def __init__(self, quantity: Any, *words: str) -> None:
        self.words = words
        self._adapter: TypeAdapter[Any] = TypeAdapter(quantity)
        self._schema = self._adapter.json_schema()
        self._alternative = " or ".join(map(repr, words))
        self.description = f"{self._schema['description']}, or {self._alternative}"

    def read(self, value: Any) -> Any:
        """The word or the quantity; raises ValueError."""
        if isinstance(value, str) and value in self.words:
            return value
        try:
            return self._adapter.validate_python(value)
        except ValidationError as error:
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ValueError(f"{message}, or {self._alternative}") from None

    def write(self, value: Any) -> Any:
        """As it is written in a model file."""
        return value if isinstance(value, str) else self._adapter.dump_python(value)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read in place of pydantic's own check of the union, which would report each of its members."""
        writer = core_schema.plain_serializer_function_ser_schema(self.write)
        return core_schema.no_info_plain_validator_function(self.read, serialization=writer)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The quantity's schema, or the words."""
        return {"anyOf": [self._schema, {"enum": list(self.words)}], "description": self.description}
