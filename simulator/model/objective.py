"""Objectives and metrics, as a planner says them: `p99 < 200 ms`, `checkout: error rate < 0.1%`."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from pydantic import GetJsonSchemaHandler, model_serializer, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from simulator import units
from simulator.model.part import Part

METRIC = re.compile(
    r"(?:(?P<workload>messages(?:\.[A-Za-z][\w-]*){1,2}|[A-Za-z][\w-]*)\s*:\s*)?"
    r"(?P<name>p\d{1,2}(?:\.\d+)?|p999|mean|[a-z]+(?:[ _][a-z]+)*)"
)
OBJECTIVE = re.compile(r"(?P<metric>[^<>]+?)\s*(?P<operator><=|>=|<|>)\s*(?P<target>.+)")
DIMENSIONS = {"throughput": "rate", "error rate": "fraction", "utilization": "fraction", "mean": "duration"}
EXPECTED = "mean, a percentile such as p99 or p99.9, throughput, error rate, utilization"


class Metric(Part):
    """A number of the results: of one workload, of a stream of messages (`messages.orders`), or of all workloads."""

    name: str
    workload: str | None = None

    @property
    def quantile(self) -> float | None:
        """The share below a percentile: 0.99 for p99; None for other metrics."""
        if re.fullmatch(r"p\d.*", self.name):
            return 0.999 if self.name == "p999" else float(self.name[1:]) / 100.0
        return None

    @property
    def dimension(self) -> str:
        """What it is measured in, see `simulator.units`."""
        return "duration" if self.quantile is not None else DIMENSIONS[self.name]

    def __str__(self) -> str:
        return f"{self.workload}: {self.name}" if self.workload else self.name


def parse_metric(text: str) -> Metric:
    """Read a metric; raises ValueError that says what was expected."""
    match = METRIC.fullmatch(text.strip())
    name = match["name"].replace("_", " ") if match else ""
    name = "throughput" if name == "throughput per s" else name
    if not match or not (name in DIMENSIONS or re.fullmatch(r"p\d.*", name)):
        raise ValueError(f"got {text.strip()!r}, expected {EXPECTED}")
    return Metric(name=name, workload=match["workload"])


class Objective(Part):
    """A bound on a metric; written as one text."""

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
