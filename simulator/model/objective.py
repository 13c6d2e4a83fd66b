"""Objectives and metrics, as a planner says them: `p99 < 200 ms`, `checkout: error rate < 0.1%`."""

from __future__ import annotations

import re
from typing import Any, ClassVar, NamedTuple

from pydantic import GetJsonSchemaHandler, model_serializer, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from simulator import units
from simulator.model.part import Part

WORKLOAD = re.compile(r"(?:([^:()]+?)\s*:\s*)?(.*)", re.DOTALL)
OBJECTIVE = re.compile(r"(?P<metric>[^<>]+?)\s*(?P<operator><=|>=|<|>)\s*(?P<target>.+)")
PERCENTILE = re.compile(r"p\d{1,2}(?:\.\d+)?|p999")
GOODPUT = re.compile(r"(goodput(?: share)?)\s*\((.*)\)", re.DOTALL)
LIMIT = re.compile(r"([a-z]+)\s+(.+)", re.DOTALL)
LATENCY = "latency"
TOKEN_TIMES = ("ttft", "tpot", "gap")
"""Time to the first token, time per output token after it, and the longest gap between two tokens."""
LIMITED = (LATENCY, *TOKEN_TIMES)
TOKEN_RATES = ("input tokens", "output tokens")
DIMENSIONS = {
    "throughput": "rate",
    "error rate": "fraction",
    "utilization": "fraction",
    "goodput": "rate",
    "goodput share": "fraction",
    "input tokens": "rate",
    "output tokens": "rate",
    "cached tokens": "fraction",
}
EXPECTED = (
    "mean, a percentile such as p99 or p99.9, throughput, error rate, utilization, goodput(latency 1 s); "
    "of LLM calls ttft p95 (or tpot, gap; or mean), itl mean, input tokens, output tokens, cached tokens, "
    "goodput(ttft 500 ms, tpot 50 ms); of one workload with its name and a colon before it"
)
EXPECTED_LIMITS = "limits of latency, ttft, tpot or gap, e.g. goodput(ttft 500 ms, tpot 50 ms)"


class Limit(NamedTuple):
    """What a request that counts for goodput takes at most (s): of its latency, ttft, tpot or gap."""

    time: str
    most: float


Limits = tuple[Limit, ...]


class Metric(Part):
    """A number of the results: of one workload, of a stream of messages (`messages.orders`), or of all workloads.

    A time has two parts, what it is a time of (nothing: latency) and `mean` or a percentile: `p99`, `ttft p95`.
    `goodput` counts the completed requests that keep all `limits`, a second or, as `goodput share`, of those that
    ended; a request that has no such time, say no second token, keeps a limit of it. Zhong et al., DistServe (OSDI
    2024), define it so.
    """

    name: str
    workload: str | None = None
    limits: Limits = ()

    @property
    def time(self) -> str | None:
        """What it is a time of: latency, ttft, tpot, gap or itl; None for what is no time."""
        if self.name in DIMENSIONS:
            return None
        of, _, _ = self.name.rpartition(" ")
        return of or LATENCY

    @property
    def quantile(self) -> float | None:
        """The share below a percentile: 0.99 for p99; None for other metrics."""
        statistic = self.name.rpartition(" ")[2]
        if PERCENTILE.fullmatch(statistic):
            return 0.999 if statistic == "p999" else float(statistic[1:]) / 100.0
        return None

    @property
    def dimension(self) -> str:
        """What it is measured in, see `simulator.units`."""
        return "duration" if self.time is not None else DIMENSIONS[self.name]

    @property
    def streams_tokens(self) -> bool:
        """Whether it is of times that only requests have whose tokens come one by one."""
        return self.time not in (None, LATENCY) or any(limit.time != LATENCY for limit in self.limits)

    @property
    def counts_tokens(self) -> bool:
        """Whether it is of something that only requests have that call an LLM."""
        return self.streams_tokens or self.name.endswith(" tokens")

    def __str__(self) -> str:
        limits = ", ".join(f"{time} {_written(most)}" for time, most in self.limits)
        name = f"{self.name}({limits})" if limits else self.name
        return f"{self.workload}: {name}" if self.workload else name


def _written(seconds: float) -> str:
    """A duration that reads well where that says all, else in seconds."""
    short = units.show(seconds, "duration")
    return short if units.parse(short, "duration") == seconds else f"{seconds!r} s"


def parse_metric(text: str) -> Metric:
    """Read a metric; raises ValueError that says what was expected."""
    match = WORKLOAD.fullmatch(text.strip())
    workload, name = match.groups() if match else (None, "")
    if goodput := GOODPUT.fullmatch(name):
        return Metric(name=goodput[1], workload=workload, limits=_limits(text, goodput[2]))
    name = name.replace("_", " ")
    name = "throughput" if name == "throughput per s" else name
    if name in ("goodput", "goodput share"):
        raise ValueError(f"got {text.strip()!r}, expected {EXPECTED_LIMITS}")
    if not (name in DIMENSIONS or _is_time(name)):
        raise ValueError(f"got {text.strip()!r}, expected {EXPECTED}")
    return Metric(name=name, workload=workload)


def _is_time(name: str) -> bool:
    of, _, statistic = name.rpartition(" ")
    if of == "itl":
        return statistic == "mean"
    return of in ("", *TOKEN_TIMES) and (statistic == "mean" or PERCENTILE.fullmatch(statistic) is not None)


def _limits(text: str, inside: str) -> Limits:
    """The limits within the brackets of a goodput, by name, so that their order makes no difference."""
    found = []
    for part in inside.split(","):
        match = LIMIT.fullmatch(part.strip())
        if not match or match[1] not in LIMITED:
            raise ValueError(f"got {part.strip()!r} in {text.strip()!r}, expected {EXPECTED_LIMITS}")
        found.append(Limit(match[1], units.parse(match[2], "duration")))
    if len({limit.time for limit in found}) < len(found) or any(limit.most <= 0.0 for limit in found):
        raise ValueError(f"got {text.strip()!r}, expected each limit once and above 0")
    return tuple(sorted(found, key=lambda limit: LIMITED.index(limit.time)))


class Objective(Part):
    """A bound on a metric, written as one text: `p99 < 200 ms`, `mean < 50 ms`, `throughput > 2k/s`, `error rate < 1%`,
    `utilization < 70%` (of the busiest resource), `goodput(latency 1 s) > 95%`; of one workload with its name before
    it, `shoppers: p99 < 200 ms`, and of messages likewise, `messages.orders: p95 < 5 s`; where language models are
    asked, `ttft p95 < 500 ms` and `tpot mean < 50 ms`, too."""

    expected: ClassVar[str | None] = "an objective such as 'p99 < 200 ms'"

    metric: Metric
    above: bool
    """Whether the metric must be above the target."""
    target: float
    """In the metric's base unit."""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, text: Any) -> Any:
        if isinstance(text, Objective) or (isinstance(text, dict) and "metric" in text):
            return text
        if isinstance(text, dict) and len(text) == 1:  # YAML reads `checkout: p99 < 1 s` as a mapping
            text = ": ".join(str(part) for part in next(iter(text.items())))
        if not isinstance(text, str):
            raise ValueError(f"got {text!r}, expected {cls.expected}")
        match = OBJECTIVE.fullmatch(text.strip())
        if not match:
            raise ValueError(f"got {text!r}, expected an objective such as 'p99 < 200 ms'")
        metric = parse_metric(match["metric"])
        if metric.name == "goodput" and _is_share(match["target"]):
            metric = metric.model_copy(update={"name": "goodput share"})
        target = units.parse(match["target"], metric.dimension)
        if target < 0.0:
            raise ValueError(f"got {text!r}, expected a target of at least 0")
        return {"metric": metric, "above": match["operator"].startswith(">"), "target": target}

    @model_serializer
    def _write(self) -> str:
        base = units.DIMENSIONS[self.metric.dimension]
        return f"{self.metric} {'>' if self.above else '<'} {self.target!r} {base}".rstrip()

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """A text, or what YAML makes of one that begins with the name of a workload."""
        bound = {"type": "string", "pattern": "[<>]", "examples": ["p99 < 200 ms", "throughput > 2k/s"]}
        named = {"type": "object", "additionalProperties": bound, "minProperties": 1, "maxProperties": 1}
        return {"title": "Objective", "description": cls.__doc__, "anyOf": [bound, named]}

    def is_met_by(self, value: float) -> bool:
        """Whether a value of the metric is on the right side."""
        return value > self.target if self.above else value < self.target

    def __str__(self) -> str:
        target = units.show(self.target, self.metric.dimension)
        return f"{self.metric} {'>' if self.above else '<'} {target}"


def _is_share(target: str) -> bool:
    """Whether a target of goodput is a share of the requests: `> 95%` or `> 0.95`."""
    try:
        return units.parse(target, "fraction") <= 1.0
    except units.UnitError:
        return False
