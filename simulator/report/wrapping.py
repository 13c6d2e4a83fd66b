"""Wrapping of what stands in a table: between words, and a long name at its dots before anywhere else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len, chop_cells
from rich.measure import Measurement
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

WORD = re.compile(r"^\s*\S+\s*|\S+\s*")
AFTER_A_MARK = re.compile(r"(?<=[./:-])")
AFTER_A_MARK_OR_WORD = re.compile(r"(?<=[./:-])|\s+")


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A text whose lines but the first are `indent` columns further in, so that a name in two lines is seen as one.

    They are not where that leaves too little room for a word, or for what is between two marks of it.
    """

    text: str
    indent: int = 0

    def lines(self, width: int) -> list[str]:
        """The text in lines of at most so many columns; a word without marks that is longer is broken anywhere."""
        indent = len(self.text) - len(self.text.lstrip()) + self.indent
        further = " " * indent if self._longest_piece() <= width - indent else ""
        lines, line = [], ""
        for piece in self._pieces(width - len(further)):
            if line.strip() and cell_len((line + piece).rstrip()) > width:
                lines.append(line.rstrip())
                line = further
            line += piece
        return [*lines, line.rstrip()]

    def _pieces(self, width: int) -> Iterator[str]:
        """What no line is to be broken in: words, and of those that are too long for a line what is between marks."""
        for word in WORD.findall(self.text):
            if cell_len(word.rstrip()) <= width:
                yield word
                continue
            for piece in AFTER_A_MARK.split(word):
                yield from [piece] if cell_len(piece.rstrip()) <= width else chop_cells(piece, max(width, 1))

    def _longest_piece(self) -> int:
        return max(cell_len(piece) for piece in AFTER_A_MARK_OR_WORD.split(self.text))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """From the longest word, or what is between two marks of it, to the longest line."""
        most = max(cell_len(line) for line in self.lines(max(options.max_width, 1)))
        return Measurement(min(self._longest_piece(), most), most)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines, justified and styled as where they stand."""
        yield Text("\n".join(self.lines(options.max_width)))
