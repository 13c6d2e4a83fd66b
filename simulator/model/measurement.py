"""Measurements: a CSV of what a real system did, and how its columns map to the model."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from simulator.model.objective import parse_metric
from simulator.model.part import Part


class Measurements(Part):
    """How to predict each row of a measured table."""

    file: str | None = None
    """The table, relative to the model's file."""
    set: dict[str, str] = Field(default_factory=dict)
    """Column -> path of the field of the model that it sets, such as `cpus: services.web.workers`."""
    compare: dict[str, str] = Field(min_length=1)
    """Column -> metric that predicts it, such as `rps: throughput`."""
    fitted: dict[str, list[str]] = Field(default_factory=dict)
    """Column -> values of the rows that the model's parameters were fitted to; all others were held out."""

    @field_validator("compare")
    @classmethod
    def _are_metrics(cls, compare: dict[str, str]) -> dict[str, str]:
        for metric in compare.values():
            parse_metric(metric)
        return compare

    @field_validator("fitted", mode="before")
    @classmethod
    def _as_text(cls, fitted: Any) -> Any:
        if not isinstance(fitted, dict):
            return fitted
        return {
            column: [str(value) for value in values] if isinstance(values, list) else values
            for column, values in fitted.items()
        }

    def was_fitted(self, row: dict[str, str]) -> bool:
        """Whether the model's parameters were fitted to a row."""
        return bool(self.fitted) and all(row.get(column) in values for column, values in self.fitted.items())
