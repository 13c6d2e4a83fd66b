"""Tables of the language of model files: a section and its fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from simulator.model.language import WHOLE, Field, Section
from simulator.report.layout import heading, lines_of, paragraph

if TYPE_CHECKING:
    from rich.console import RenderableType


def section_tables(section: Section) -> Iterable[RenderableType]:
    """Everything that `tpsim schema SECTION` shows: what each field takes, its default, and what it says."""
    yield heading(section.path)
    yield paragraph(section.about)
    if section.bare is not None:
        yield paragraph(f"A bare value is short for {{{section.bare}: value}}.")
    yield lines_of(row for field in section.fields for row in _rows(field, section.typed))
    inner = [field.name for field in section.fields if field.has_fields]
    if inner:
        prefix = "" if section.path == WHOLE else f"{section.path}."
        yield lines_of([("fields of", "  ".join(f"{prefix}{name}" for name in inner))])


def _rows(field: Field, typed: bool) -> Iterator[tuple[str, str]]:
    yield field.name, field.takes + _default(field, typed)
    yield "", field.about


def _default(field: Field, typed: bool) -> str:
    if field.default is None:
        return "; required where no type says it" if typed else "; required"
    return f"; {field.default} where left out" if field.default else ""
