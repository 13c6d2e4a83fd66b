"""What tables for the terminal are made of: at most 80 columns, every estimate with its unit and its interval."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from simulator.report.wrapping import Wrapped
from simulator.results.estimate import Estimate

NO_STEADY_STATE = "no steady state"
LABEL_INDENT = 2


class LabelledTable(Table):
    """A table whose first column is for labels, which are broken at their dots where they have to be."""

    def add_row(self, *cells: Any, **look: Any) -> None:
        """Add a row, of texts that are shown as they are."""
        super().add_row(*(_wrapped(cell, number) for number, cell in enumerate(cells)), **look)


def table_of(*headers: str) -> Table:
    """An empty table; the first column is for labels."""
    table = LabelledTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for number, header in enumerate(headers):
        table.add_column(_wrapped(header, number), justify="left" if number == 0 else "right", overflow="fold")
    return table


def _wrapped(cell: Any, column: int) -> Any:
    return Wrapped(cell, indent=0 if column else LABEL_INDENT) if isinstance(cell, str) else cell


def lines_of(rows: Iterable[tuple[str, str]]) -> Table:
    """Labels and what there is to say about them, without a heading."""
    table = Table.grid(padding=(0, 2))
    for label, text in rows:
        table.add_row(Wrapped(label, indent=LABEL_INDENT), Wrapped(text))
    return table


def heading(name: str) -> Text:
    """The name of what follows."""
    return Text(name, style="bold", overflow="fold")


def paragraph(text: str) -> Wrapped:
    """Sentences, in as many lines as they need."""
    return Wrapped(text)


def interval(estimate: Estimate, dimension: str) -> str:
    """The interval alone, in the unit of the value."""
    shown = estimate.show(dimension)
    return shown[shown.index("[") :] if "[" in shown and "no interval" not in shown else "–"


def value(estimate: Estimate, dimension: str) -> str:
    """The value alone, with its unit."""
    if math.isinf(estimate.value):
        return NO_STEADY_STATE
    shown = estimate.show(dimension)
    return shown[: shown.index("[")].rstrip() if "[" in shown else shown


def counted(number: int, thing: str) -> str:
    """So many things, as in `3 loads`."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def number_text(number: float) -> str:
    """Three significant digits without an exponent, as far as that goes; nothing below a thousandth."""
    if number < 0.0005:
        return "0"
    return f"{number:,.0f}" if 999.5 <= number < 1e9 else f"{number:.3g}"


def estimate_row(table: Table, label: str, estimate: Estimate, dimension: str) -> None:
    """Add a row with an estimate and its interval."""
    table.add_row(label, value(estimate, dimension), interval(estimate, dimension))
