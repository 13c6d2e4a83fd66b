"""Distributions as a planner writes them: a bare quantity is constant, anything else names itself.

    compute: 5 ms
    compute: {exponential: 5 ms}
    compute: {lognormal: {mean: 5 ms, cv: 1.5}}
    compute: {empirical: {file: service_times.csv, column: seconds, unit: s}}
    delay: {trace: {column: output, each: 20 ms}}

Every distribution is given by its mean and coefficient of variation (`cv`, standard deviation / mean), or by
shape parameters that say what they are.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Generic, Literal, Self, TypeVar

from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from simulator import distributions
from simulator.distributions import Distribution
from simulator.model.columns import read_column
from simulator.model.part import Amount, Count, Duration, Factor, Keys, Part, Size
from simulator.model.trace import located, path_of, times_of
from simulator.traces.column import TraceColumn
from simulator.traces.formats import format_of

Q = TypeVar("Q")


class _Of(Part, Generic[Q]):
    """What the distributions of durations, sizes and counts have in common: a name that people can read."""

    @classmethod
    def model_parametrized_name(cls, params: tuple[type[Any], ...]) -> str:
        """Such as `DistributionOfDuration`."""
        names = {Duration: "Duration", Size: "Size", Amount: "Count"}
        return f"{cls.__name__.removesuffix('Spec')}Of{names.get(params[0], 'Quantity')}"


class MeanAndCv(_Of[Q], Generic[Q]):
    """A mean and a coefficient of variation."""

    mean: Q
    """The mean."""
    cv: Factor
    """Standard deviation divided by the mean."""


PERCENTILES = {"p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
LOGNORMAL_WAYS: list[Any] = [{"required": list(way)} for way in (("mean", "cv"), *(("p50", p) for p in PERCENTILES))]


class LogNormalSpec(_Of[Q], Generic[Q]):
    """A mean and a coefficient of variation, or the median and one higher percentile."""

    model_config = ConfigDict(json_schema_extra={"oneOf": LOGNORMAL_WAYS})

    mean: Q | None = None
    """The mean."""
    cv: Factor | None = None
    """Standard deviation divided by the mean."""
    p50: Q | None = None
    """The median, in place of the mean; the mean is higher."""
    p90: Q | None = None
    """The 90th percentile, in place of cv."""
    p95: Q | None = None
    """The 95th percentile, in place of cv."""
    p99: Q | None = None
    """The 99th percentile, in place of cv."""
    p999: Q | None = None
    """The 99.9th percentile, in place of cv."""

    @model_validator(mode="after")
    def _says_it_one_way(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        by_percentiles = len(given) == 2 and given[0] == "p50" and given[1] in PERCENTILES
        if given != ["mean", "cv"] and not by_percentiles:
            got = " and ".join(given) or "nothing"
            raise ValueError(f"got {got}, expected mean and cv, or p50 and one of {', '.join(PERCENTILES)}")
        return self

    def distribution(self) -> distributions.LogNormal:
        """The distribution; raises ValueError where its parameters make none."""
        values: dict[str, Any] = {name: value for name, value in self if value is not None}
        if "mean" in values:
            return distributions.LogNormal(values["mean"], values["cv"])
        median, (name, value) = values.pop("p50"), values.popitem()
        return distributions.LogNormal.of_percentiles(median, value, PERCENTILES[name])


class ErlangSpec(_Of[Q], Generic[Q]):
    """The sum of `stages` equal exponential stages; cv = 1/sqrt(stages)."""

    mean: Q
    """The mean."""
    stages: Count
    """Number of stages."""


class UniformSpec(_Of[Q], Generic[Q]):
    """Anything between low and high, equally likely."""

    low: Q
    """The least value."""
    high: Q
    """The greatest value."""


class WeibullSpec(_Of[Q], Generic[Q]):
    """Weibull; a shape below 1 has a heavier tail than the exponential, above 1 a lighter one."""

    mean: Q
    """The mean."""
    shape: Factor
    """The shape parameter, see above."""


class BoundedParetoSpec(_Of[Q], Generic[Q]):
    """Power-law tail with exponent `shape`, cut off at `high`."""

    low: Q
    """The least value."""
    high: Q
    """The greatest value."""
    shape: Factor
    """The shape parameter, see above."""


class EmpiricalSpec(_Of[Q], Generic[Q]):
    """Values drawn with equal probability from a CSV file's column (`unit` applies), or from a list."""

    file: str | None = None
    """CSV file, relative to the model's."""
    column: str | None = None
    """Name of the column; the only one where it is left out."""
    unit: str | None = None
    """Unit of the file's numbers, such as ms."""
    values: tuple[Q, ...] = ()
    """The values, where there is no file."""

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
        quantities: TypeAdapter[Any] = TypeAdapter(cls.model_fields["values"].annotation)
        if unit is not None and not isinstance(unit, str):
            raise ValueError(f"got the unit {unit!r}, expected a text such as ms")
        try:
            quantities.validate_python((f"1 {unit}" if unit else 1.0,))
        except ValidationError as error:
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            got = f"the unit {unit!r}" if unit else "no unit"
            raise ValueError(f"got {got} for the file's numbers, expected one (unit: ...): {message}") from None
        return unit or ""

    @model_validator(mode="after")
    def _has_values(self) -> Self:
        if not self.values:
            raise ValueError("expected a file or a list of values")
        return self


class TraceColumnSpec(_Of[Q], Generic[Q]):
    """Tokens of a recorded request, by its number: `{trace: input}` is of the trace that the workload replays."""

    bare: ClassVar[str | None] = "column"

    column: Literal["input", "output"]
    """Which tokens of the request: those of its prompt, or those generated."""
    each: Q = Field(default=1.0)  # type: ignore[assignment]
    """What a token stands for, such as 4 B or 20 ms; 1 where a number is wanted."""
    file: str | None = None
    """The trace, where it is not the one that the workload replays; rows begin anew after the last."""
    format: Literal["azure", "mooncake"] | None = None
    """Format of the file; found out where it is left out."""
    digest: str | None = None
    """Digest of the file's content, found out where it is left out; with another content, the model is refused."""

    @model_validator(mode="before")
    @classmethod
    def _locate(cls, data: Any, info: ValidationInfo) -> Any:
        data = cls.long_form(data)
        if not isinstance(data, dict):
            return data
        if data.get("each") is None:
            cls._check_one()
        if not isinstance(data.get("file"), str):
            return data
        path = path_of(data["file"], info)
        kind = data.get("format") or format_of(path)
        if kind is None:
            raise ValueError(f"{path}:1:1: expected a trace in the format azure or mooncake")
        return located(data, path, kind)

    @classmethod
    def _check_one(cls) -> None:
        """A token stands for 1 where that says enough; raises ValueError where it does not."""
        field = cls.model_fields["each"]
        quantity: TypeAdapter[Any] = TypeAdapter(Annotated[field.annotation, *field.metadata])
        try:
            quantity.validate_python(1.0)
        except ValidationError as error:
            expected = error.errors()[0]["msg"].partition("expected ")[2]
            raise ValueError(f"no 'each', which says what a token stands for, expected {expected}") from None

    def distribution(self) -> TraceColumn:
        """The column, bound to its trace where it names a file."""
        times = None if self.file is None or self.format is None else times_of(self.file, self.format)
        return TraceColumn(self.column, float(self.each), times)  # type: ignore[arg-type]


class DistributionSpec(_Of[Q], Generic[Q]):
    """Exactly one distribution; a bare quantity is constant."""

    bare: ClassVar[str | None] = "constant"
    exclusive: ClassVar[bool] = True

    constant: Q | None = None
    """Always the same."""
    exponential: Q | None = None
    """Exponential with this mean (cv = 1)."""
    erlang: ErlangSpec[Q] | None = None
    """Sum of equal exponential stages (cv below 1)."""
    gamma: MeanAndCv[Q] | None = None
    """Gamma, for any cv from 1e-6 to 30."""
    lognormal: LogNormalSpec[Q] | None = None
    """Log-normal, the usual skew of service times: `{mean: 5 ms, cv: 1}` or `{p50: 4 ms, p99: 20 ms}`."""
    hyperexponential: MeanAndCv[Q] | None = None
    """Two exponential phases with balanced means; cv > 1."""
    uniform: UniformSpec[Q] | None = None
    """Anything between two bounds."""
    weibull: WeibullSpec[Q] | None = None
    """Weibull, by its mean and shape."""
    bounded_pareto: BoundedParetoSpec[Q] | None = None
    """Power-law tail between two bounds: the heavy tail of sizes."""
    empirical: EmpiricalSpec[Q] | None = None
    """Measured values, from a file or a list."""
    trace: TraceColumnSpec[Q] | None = None
    """Tokens of recorded requests, each its own: `{trace: input}` where the workload replays a trace."""

    @model_validator(mode="before")
    @classmethod
    def _one(cls, data: Any) -> Any:
        data = cls.long_form(data)
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
            return self.lognormal.distribution()
        if self.hyperexponential is not None:
            return distributions.HyperExponential(spec.mean, spec.cv)
        if self.uniform is not None:
            return distributions.Uniform(spec.low, spec.high)
        if self.weibull is not None:
            return distributions.Weibull(spec.mean, spec.shape)
        if self.bounded_pareto is not None:
            return distributions.BoundedPareto(spec.low, spec.high, spec.shape)
        if self.trace is not None:
            return self.trace.distribution()
        return distributions.Empirical(spec.values)


DurationDistribution = DistributionSpec[Duration]
SizeDistribution = DistributionSpec[Size]
CountDistribution = DistributionSpec[Amount]


class ZipfSpec(Part):
    """Key r of `count` has popularity proportional to 1/r^exponent."""

    count: Keys
    """Number of keys."""
    exponent: Amount = 1.0
    """0 is uniform; around 0.8 to 1 is usual for web pages."""


class ObservedKeys(Part):
    """How often each key was asked for in a log or a trace; a key's popularity is its share of that."""

    bare: ClassVar[str | None] = "file"

    file: str | None = None
    """CSV file, relative to the model's, with a row for each key."""
    column: str | None = None
    """Name of the column with the number of requests; the only one where it is left out."""
    counts: tuple[Amount, ...] = ()
    """The numbers, where there is no file."""

    @model_validator(mode="before")
    @classmethod
    def _load(cls, data: Any, info: ValidationInfo) -> Any:
        data = cls.long_form(data)
        if isinstance(data, dict) and isinstance(data.get("file"), str) and not data.get("counts"):
            return {**data, "counts": read_column(data["file"], data.get("column"), info.context)}
        return data

    @field_validator("counts")
    @classmethod
    def _says_something(cls, counts: tuple[float, ...]) -> tuple[float, ...]:
        if not counts:
            raise ValueError("expected a file or a list of counts")
        if not any(counts):
            raise ValueError("every count is 0, expected at least one above 0")
        return tuple(sorted(counts, reverse=True))


class KeySpec(Part):
    """How popular keys are: `uniform: 1000` keys, `zipf: {count: 1M, exponent: 0.9}`, or as `observed: log.csv`."""

    exclusive: ClassVar[bool] = True

    uniform: Keys | None = None
    """Number of keys, all equally popular."""
    zipf: ZipfSpec | None = None
    """Few keys are popular, most are not."""
    observed: ObservedKeys | None = None
    """As popular as they were; `observed: log.csv` is short for `observed: {file: log.csv}`."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(each is not None for each in (self.uniform, self.zipf, self.observed)) != 1:
            raise ValueError("expected exactly one of uniform, zipf, observed")
        return self

    def distribution(self) -> distributions.Zipf | distributions.Discrete:
        """Popularity by key, keys numbered from 0."""
        if self.observed is not None:
            return distributions.Discrete(self.observed.counts)
        if self.zipf is not None:
            return distributions.Zipf(self.zipf.count, self.zipf.exponent)
        assert self.uniform is not None
        return distributions.Zipf(self.uniform, 0.0)
