"""Measurements: a CSV of what a real system did, and how its columns map to the model."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from simulator.model.objective import parse_metric
from simulator.model.part import Part


def _checked_metric(text: str) -> str:
    parse_metric(text)
    return text


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, (int, float)) else value


Cell = Annotated[
    str,
    BeforeValidator(_as_text),
    WithJsonSchema({"type": ["string", "number", "boolean"], "description": "a cell of the table"}),
]


class Measurements(Part):
    """How to predict each row of a measured table."""

    file: str | None = None
    """The table, relative to the model's file."""
    set: dict[str, str] = Field(default_factory=dict)
    """Column -> path of the field of the model that it sets, such as `cpus: services.web.workers`; its cells are
    written as that field is, with units."""
    compare: dict[str, Annotated[str, AfterValidator(_checked_metric)]] = Field(min_length=1)
    """Column -> metric that predicts it, such as `rps: throughput`; its cells may have units, and are in 1/s,
    seconds and shares of 1 where they have none."""
    label: list[str] = Field(default_factory=list)
    """Columns that tell the rows apart for a reader; all that are not compared where left out."""
    fitted: dict[str, list[Cell]] = Field(default_factory=dict)
    """Column -> values of the rows that the model's parameters were fitted to; all others were held out."""

    def was_fitted(self, row: dict[str, str]) -> bool:
        """Whether the model's parameters were fitted to a row."""
        return bool(self.fitted) and all(row.get(column) in values for column, values in self.fitted.items())
