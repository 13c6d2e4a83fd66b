"""Size: the smallest whole number of something with which a system meets the objectives under its load."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from simulator.errors import InputError, Problem, UsageError
from simulator.model.files import build, read_document
from simulator.model.objective import Objective
from simulator.model.overrides import Override, parse_all, parse_path
from simulator.model.shape import NoPlaceError, assign
from simulator.model.system import System
from simulator.results.estimate import Estimate
from simulator.results.results import Results
from simulator.study.run import Settings
from simulator.study.trial import Trial, try_system, with_objectives

MOST = 1024
MOST_INVALID = 64
"""Numbers in a row that a field may not take before the search is given up; GPUs of one replica of an LLM are fewer."""
ENOUGH = 3
"""Numbers, each twice the last one, that leave all as it is by analysis before the search is given up."""
Tell = Callable[[float, bool], None]


@dataclass(frozen=True, slots=True)
class Size:
    """The smallest number of a field that meets every objective; more of it is taken to never hurt.

    `number.value` is the smallest number tried that met them, infinite where none up to the limit does. Its interval is
    that of the trials whose outcome was beyond doubt: `low` the next number above the largest that surely did not
    meet them, `high` the smallest that surely did (infinite where none did). `broken` says what the next smaller
    number does not meet (nothing where there is none), `results` are those of the number, or of the largest tried.
    """

    field: str
    number: Estimate
    broken: str
    below: int | None
    """The next smaller number that the field can take, which `broken` is about."""
    results: Results
    trials: tuple[tuple[int, bool, bool], ...]
    """(number, whether it was met, whether that is beyond doubt), in the order of trying."""

    @property
    def reachable(self) -> bool:
        """Whether a number meets the objectives."""
        return math.isfinite(self.number.value)


def size(
    model: str | Path,
    field: str,
    objectives: Sequence[Objective] = (),
    overrides: Sequence[str] = (),
    settings: Settings | None = None,
    step: int = 1,
    most: int = MOST,
    tell: Tell | None = None,
) -> Size:
    """Double the number in a field of a model file until the objectives are met, then bisect.

    Numbers are multiples of `step` up to `most`; those that make the model invalid, as GPUs that do not make up whole
    replicas, are left out. `gpus` is short for the field of that name of the model's only LLM on GPUs of its own. All
    trials have the same seed. Raises InputError for a model, or a field, that is not valid, and UsageError without
    objectives, or where `gpus` could be those of several LLMs.
    """
    numbers = _Numbers(Path(model), field, overrides, objectives, step, most)
    search = _Search(numbers, settings or Settings(), tell)
    good, bad = search.bracket()
    while good is not None and bad is not None and (middle := numbers.between(int(bad.value), int(good.value))):
        trial = search.try_number(middle)
        good, bad = (trial, bad) if trial.met else (good, trial)
    return search.answer(good, bad)


class _Numbers:
    """The numbers that a field can take, and the systems that they make."""

    def __init__(
        self,
        path: Path,
        field: str,
        overrides: Sequence[str],
        objectives: Sequence[Objective],
        step: int,
        most: int,
    ) -> None:
        if not 1 <= step <= most:
            raise UsageError(f"got a step of {step} and numbers up to {most}, expected 1 <= step <= most")
        self.step, self.most = step, most
        self.objectives = objectives
        changes, problems = parse_all(overrides)
        if problems:
            raise InputError(problems)
        document = read_document(path)
        with_objectives(build(document, str(path), changes, path.parent), objectives)
        self.build = partial(build, document, str(path), directory=path.parent)
        self.changes = changes
        self.field = _field(document, field)
        self.systems: dict[int, System | InputError] = {}

    def system(self, number: int) -> System:
        """The system with that number; raises InputError."""
        if number not in self.systems:
            try:
                built = self.build(overrides=[*self.changes, Override.of(self.field, number)])
                self.systems[number] = with_objectives(built, self.objectives)
            except InputError as error:
                problems = [replace(each, source=each.source.replace("--set", "--vary", 1)) for each in error.problems]
                self.systems[number] = InputError(problems)
        found = self.systems[number]
        if isinstance(found, InputError):
            raise found
        return found

    def _first(self, numbers: Iterable[int]) -> int | None:
        """The first that is valid; raises InputError where too many in a row are not."""
        for count, number in enumerate(numbers):
            try:
                self.system(number)
            except InputError:
                if count + 1 == MOST_INVALID:
                    raise
            else:
                return number
        return None

    def up_from(self, number: int) -> int | None:
        """The first valid number from one on, none above `most`."""
        return self._first(range(-(-number // self.step) * self.step, self.most + 1, self.step))

    def larger(self, number: int) -> int | None:
        """Twice a number, or the valid one next above that, or the largest below; None where no larger one is."""
        with suppress(InputError):
            if above := self.up_from(2 * number):
                return above
        with suppress(InputError):
            below = self.down_from(min(2 * number - 1, self.most))
            return below if below is not None and below > number else None
        return None

    def refusal(self, number: int) -> str:
        """Why the next larger number is none that the field can take; nothing where it is."""
        try:
            if number + self.step <= self.most:
                self.system(number + self.step)
        except InputError as error:
            return f"; {number + self.step} is not valid: {error.problems[0].message}"
        return ""

    def down_from(self, number: int) -> int | None:
        """The first valid number from one on downwards."""
        return self._first(range(number // self.step * self.step, 0, -self.step))

    def between(self, low: int, high: int) -> int | None:
        """A valid number between two others, as near as can be to their middle; None where there is none."""
        middle = (low + high) // 2 // self.step * self.step
        above = self._first(range(middle, high, self.step)) if middle > low else None
        return above or self._first(range(min(middle, high - 1), low, -self.step))


def _field(document: Any, field: str) -> str:
    """The path of a field; raises InputError where it leads nowhere, and UsageError for `gpus` of several LLMs."""
    path = field.strip()
    if path == "gpus":
        llms = document.get("llms") or {}
        names = [f"llms.{name}.gpus" for name, llm in llms.items() if not {"provider", "gateway"} & set(llm)]
        if len(names) != 1:
            known = f"one of {', '.join(names)}" if names else "a model with one"
            raise UsageError(f"--vary gpus: got a model with {len(names)} LLMs on GPUs of its own, expected {known}")
        return names[0]
    try:
        assign(System, document, parse_path(path), 1)
    except NoPlaceError as error:
        raise InputError([Problem(f"--vary {path}", 0, 0, "", f"no such place in the model: {error}")]) from None
    return path


class _Search:
    def __init__(self, numbers: _Numbers, settings: Settings, tell: Tell | None) -> None:
        self.numbers = numbers
        self.settings = settings
        self.tell = tell
        self.trials: list[Trial] = []
        self.in_vain = ""

    def try_number(self, number: int) -> Trial:
        trial = try_system(self.numbers.system(number), self.settings, number)
        self.trials.append(trial)
        if self.tell:
            self.tell(number, trial.met)
        return trial

    def bracket(self) -> tuple[Trial | None, Trial | None]:
        """The smallest number of those doubled that meets the objectives, and the largest that does not."""
        number, bad = self.numbers.up_from(1), None
        if number is None:
            self.numbers.system(self.numbers.step)  # says what is wrong with it
        while number is not None:
            trial = self.try_number(number)
            if trial.met:
                return trial, bad
            self.in_vain = _in_vain(self.trials)
            bad = trial
            number = None if self.in_vain else self.numbers.larger(number)
        return None, bad

    def answer(self, good: Trial | None, bad: Trial | None) -> Size:
        """What the trials say."""
        found = math.inf if good is None else good.value
        sure = [trial for trial in self.trials if trial.decided]
        failed = max((int(trial.value) for trial in sure if not trial.met and trial.value < found), default=0)
        low = self.numbers.up_from(failed + 1) if failed < max(trial.value for trial in self.trials) else None
        results = good or bad
        assert results is not None
        refusal = self.in_vain or self.numbers.refusal(int(results.value)) if good is None else ""
        return Size(
            field=self.numbers.field,
            number=Estimate(
                found,
                math.inf if low is None else float(low),
                min((trial.value for trial in sure if trial.met and trial.value >= found), default=math.inf),
                len(self.trials),
            ),
            broken="" if bad is None else bad.broken + refusal,
            below=None if bad is None else int(bad.value),
            results=results.results,
            trials=tuple((int(trial.value), trial.met, trial.decided) for trial in self.trials),
        )


def _in_vain(trials: Sequence[Trial]) -> str:
    """Why more does not help: by analysis something is too small for the load, whatever number was tried lately."""
    if len(trials) < ENOUGH or len({trial.saturation for trial in trials[-ENOUGH:]}) > 1:
        return ""
    factor, resource = trials[-1].saturation
    if resource is None or factor >= 1.0:
        return ""
    return f"; more of it does not help: {resource} saturates at {factor:.3g} times this load"
