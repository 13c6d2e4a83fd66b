"""Parameters to be calibrated: numbers of a model, by dotted path, in the units that they are written in."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator import units
from simulator.errors import InputError, Problem
from simulator.model.files import build, read_document
from simulator.model.overrides import Override, apply_overrides, parse_path
from simulator.model.shape import NoPlaceError, find
from simulator.model.system import System

SMALL_CHANGE = 1.03
"""By which a parameter has to be changeable in one direction at least: whole numbers of cores are not."""
DIGITS = 5
QUANTITY = re.compile(r"\s*(?P<before>\$?\s*)(?P<number>\+?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?P<after>.*)")
EXPECTED = "expected the path of a number above 0, such as services.web.operations.get.0.compute"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number of a model: its path, where it starts, and what is written before and after it (`$`, ` ms`)."""

    path: str
    start: float
    before: str = ""
    after: str = ""

    @property
    def unit(self) -> str:
        """What the number is of, as in `ms` or `$/h`; empty where it has no unit."""
        return f"{self.before}{self.after}".replace(" ", "")

    def text(self, value: float, digits: int = DIGITS) -> str:
        """The field with another number, in so many significant digits."""
        return f"{self.before}{value:.{digits}g}{self.after}"

    def setting(self, value: float, digits: int = DIGITS) -> str:
        """What `--set` takes to give the field another number."""
        return f"{self.path}={self.text(value, digits)}"


def parameters_of(model: Path, paths: Sequence[str], overrides: Sequence[str] = ()) -> tuple[Parameter, ...]:
    """The parameters at some paths of a valid model; raises InputError with what is wrong with every one of them."""
    own = [Override.parse(text) for text in overrides]
    document = apply_overrides(read_document(model), own)
    parameters: list[Parameter] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            parameter = _parameter(document, path.strip())
            if parameter.path in (each.path for each in parameters):
                raise ValueError("given twice, expected every parameter once")
            _check_change(document, model, parameter)
            parameters.append(parameter)
        except ValueError as error:
            problems.append(problem_of(path, str(error)))
    if problems:
        raise InputError(problems)
    return tuple(parameters)


def problem_of(path: str, message: str) -> Problem:
    """What is wrong with a parameter."""
    return Problem(f"--fit {path}", 0, 0, "", message)


def _parameter(document: Any, path: str) -> Parameter:
    """Raises ValueError."""
    try:
        _, value = find(System, document, parse_path(path))
    except NoPlaceError as error:
        message = f"no such number in the model: {error}"
        raise ValueError(
            f"{message} (--set {path}=... gives it a start)" if "not given" in message else message
        ) from None
    parameter = _quantity(path, value)
    if not (0.0 < parameter.start < math.inf):
        raise ValueError(f"got {value!r}, expected a start above 0: parameters are fitted in logarithms")
    return parameter


def _quantity(path: str, value: Any) -> Parameter:
    """A number, with its unit where it has one; raises ValueError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Parameter(path, float(value))
    match = QUANTITY.fullmatch(value) if isinstance(value, str) else None
    unit = re.sub(r"\s", "", match["after"]).replace("μ", "µ").replace("$", "USD") if match else ""
    unit = f"USD{unit}" if match and match["before"] else unit
    if match is None or not any(unit in table for table in units.UNITS.values()):
        what = "a list" if isinstance(value, list) else repr(value)
        raise ValueError(f"got {_fields_of(path, value) if isinstance(value, dict) else what}, {EXPECTED}")
    return Parameter(path, float(match["number"]), match["before"], match["after"].rstrip())


def _fields_of(path: str, mapping: dict[Any, Any]) -> str:
    return f"a mapping with {', '.join(f'{path}.{name}' for name in mapping)}" if mapping else "an empty mapping"


def _check_change(document: Any, model: Path, parameter: Parameter) -> None:
    """Raise ValueError where the model takes no number that is a little larger or smaller."""
    messages = []
    for value in (parameter.start * SMALL_CHANGE, parameter.start / SMALL_CHANGE):
        try:
            build(document, str(model), [Override.parse(parameter.setting(value))], model.parent)
        except InputError as error:
            messages.append(error.problems[0].message)
    if len(messages) == 2:
        raise ValueError(f"cannot be fitted, as it cannot be changed a little: {messages[0]}")
