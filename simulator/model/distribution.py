"""Distributions as a planner writes them: a bare quantity is constant, anything else names itself.

    compute: 5 ms
    compute: {exponential: 5 ms}
    compute: {lognormal: {mean: 5 ms, cv: 1.5}}
    compute: {empirical: {file: service_times.csv, column: seconds, unit: s}}

Every distribution is given by its mean and coefficient of variation (`cv`, standard deviation / mean), or by
shape parameters that say what they are.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import (
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    model_serializer,
    model_validator,
)

from simulator import distributions
from simulator.distributions import Distribution
from simulator.model.columns import read_column
from simulator.model.part import Amount, Count, Duration, Factor, Keys, Part, Size

Q = TypeVar("Q")


class MeanAndCv(Part, Generic[Q]):
    """A mean and a coefficient of variation."""

    mean: Q
    cv: Factor
    """Standard deviation divided by the mean."""


class ErlangSpec(Part, Generic[Q]):
    """The sum of `stages` equal exponential stages; cv = 1/sqrt(stages)."""

    mean: Q
    stages: Count


class UniformSpec(Part, Generic[Q]):
    """Anything between low and high, equally likely."""

    low: Q
    high: Q


class WeibullSpec(Part, Generic[Q]):
    """Weibull; a shape below 1 has a heavier tail than the exponential, above 1 a lighter one."""

    mean: Q
    shape: Factor


class BoundedParetoSpec(Part, Generic[Q]):
    """Power-law tail with exponent `shape`, cut off at `high`."""

    low: Q
    high: Q
    shape: Factor


class EmpiricalSpec(Part, Generic[Q]):
    """Values drawn with equal probability from a CSV file's column (`unit` applies), or from a list."""

    file: str | None = None
    column: str | None = None
    """Name of the column; the only one where it is left out."""
    unit: str | None = None
    values: tuple[Q, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _load(cls, data: Any, info: ValidationInfo) -> Any:
        if isinstance(data, dict) and isinstance(data.get("file"), str) and not data.get("values"):
            unit = cls._unit(data.get("unit"))
            values = read_column(data["file"], data.get("column"), info.context)
            return {**data, "values": [f"{value!r} {unit}" if unit else value for value in values]}
        return data

    @classmethod
    def _unit(cls, unit: Any) -> str:
        """The unit of a file's numbers; raises ValueError where they cannot be in it."""
        quantity: TypeAdapter[Any] = TypeAdapter(tuple[cls.model_fields["values"].annotation])  # type: ignore[misc]
        try:
            quantity.validate_python(((f"1 {unit}" if unit else 1.0,),))
        except ValidationError as error:
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ValueError(f"unit of the file's numbers: {message}") from None
        return str(unit or "")

    @model_validator(mode="after")
    def _has_values(self) -> Self:
        if not self.values:
            raise ValueError("expected a file or a list of values")
        return self


class DistributionSpec(Part, Generic[Q]):
    """Exactly one distribution; a bare quantity is constant."""

    bare: ClassVar[str | None] = "constant"
    exclusive: ClassVar[bool] = True

    constant: Q | None = None
    """Always the same."""
    exponential: Q | None = None
    """Exponential with this mean (cv = 1)."""
    erlang: ErlangSpec[Q] | None = None
    gamma: MeanAndCv[Q] | None = None
    lognormal: MeanAndCv[Q] | None = None
    hyperexponential: MeanAndCv[Q] | None = None
    """Two exponential phases with balanced means; cv > 1."""
    uniform: UniformSpec[Q] | None = None
    weibull: WeibullSpec[Q] | None = None
    bounded_pareto: BoundedParetoSpec[Q] | None = None
    empirical: EmpiricalSpec[Q] | None = None

    @model_validator(mode="before")
    @classmethod
    def _one(cls, data: Any) -> Any:
        data = {cls.bare: None} if data is None else cls.long_form(data)
        if isinstance(data, dict) and all(key in cls.model_fields for key in data):
            given = [key for key, value in data.items() if value is not None]
            if len(given) != 1:
                got = " and ".join(given) or "none of them"
                raise ValueError(f"got {got}, expected exactly one of {', '.join(cls.model_fields)}")
        return data

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> Any:
        """A constant is written as a bare quantity."""
        long = handler(self)
        return long["constant"] if self.constant is not None else long

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        self.distribution()
        return self

    def distribution(self) -> Distribution:
        """The distribution in base units; raises ValueError where its parameters make none."""
        spec: Any = next(value for name in type(self).model_fields if (value := getattr(self, name)) is not None)
        if self.constant is not None:
            return distributions.Constant(spec)
        if self.exponential is not None:
            return distributions.Exponential(spec)
        if self.erlang is not None:
            return distributions.Erlang(spec.mean, spec.stages)
        if self.gamma is not None:
            return distributions.Gamma(spec.mean, spec.cv)
        if self.lognormal is not None:
            return distributions.LogNormal(spec.mean, spec.cv)
        if self.hyperexponential is not None:
            return distributions.HyperExponential(spec.mean, spec.cv)
        if self.uniform is not None:
            return distributions.Uniform(spec.low, spec.high)
        if self.weibull is not None:
            return distributions.Weibull(spec.mean, spec.shape)
        if self.bounded_pareto is not None:
            return distributions.BoundedPareto(spec.low, spec.high, spec.shape)
        return distributions.Empirical(spec.values)


DurationDistribution = DistributionSpec[Duration]
SizeDistribution = DistributionSpec[Size]
CountDistribution = DistributionSpec[Amount]


class ZipfSpec(Part):
    """Key r of `count` has popularity proportional to 1/r^exponent."""

    count: Keys
    exponent: Amount = 1.0


class KeySpec(Part):
    """Which key a request asks for: `uniform: 1000` keys, or `zipf: {count: 1M, exponent: 0.9}`."""

    exclusive: ClassVar[bool] = True

    uniform: Keys | None = None
    zipf: ZipfSpec | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.uniform is None) == (self.zipf is None):
            raise ValueError("expected exactly one of uniform, zipf")
        return self

    def distribution(self) -> distributions.Zipf:
        """Popularity by key, keys numbered from 0."""
        if self.zipf is not None:
            return distributions.Zipf(self.zipf.count, self.zipf.exponent)
        assert self.uniform is not None
        return distributions.Zipf(self.uniform, 0.0)
