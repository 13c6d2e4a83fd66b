"""One exception tree: whatever tpsim raises on purpose is a `TpsimError`."""

from __future__ import annotations

from dataclasses import dataclass


class TpsimError(Exception):
    """Base of every error that tpsim raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with one place of an input; `line` and `column` count from 1, 0 where unknown."""

    source: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}:{self.column}" if self.line else self.source
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


class InputError(TpsimError):
    """A model, a data file or an override is invalid; carries every problem found, not only the first."""

    def __init__(self, problems: list[Problem] | tuple[Problem, ...]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[InputError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


class UsageError(TpsimError):
    """The command line or a call asks for something that makes no sense, such as an unknown metric."""


class ConservationError(TpsimError):
    """A run broke a law that every run obeys (flow balance, Little, utilisation): a defect of tpsim."""
