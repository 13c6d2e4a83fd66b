"""Step profiles: how long steps of an LLM serving engine took, and what was in them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.errors import InputError, Problem
from simulator.model.columns import read_rows
from simulator.model.words import nearest, short
from simulator.program.step_time import StepTime

if TYPE_CHECKING:
    import numpy as np

ONCE = ("embedding", "final_layernorm")
"""Parts of a pass that come once; the other dense ones come in every layer."""
REPEATED = {"layernorm": 2}
"""Parts that come more than once a layer: before attention, and before the feed-forward network."""


@dataclass(frozen=True, slots=True)
class MeasuredStep:
    """A step of `tokens`, of which `generating` sequences have one each and attend to `attended`.

    The longest sequence has `longest` tokens, prompts included. `parts` are those of prompts: tokens computed before,
    and now. It took `seconds`.
    """

    tokens: float
    generating: float
    attended: float
    longest: float
    parts: tuple[tuple[float, float], ...]
    seconds: float

    def predicted(self, step: StepTime) -> float:
        """What the formula says that it takes, in seconds."""
        attention = sum(step.prompt_attention(computed, part) for computed, part in self.parts)
        return step.seconds(self.tokens, self.generating, self.attended, self.longest, attention)

    @property
    def kept(self) -> float:
        """Tokens whose keys and values must be in memory."""
        return self.attended + sum(computed + part for computed, part in self.parts)


def layered_profile(directory: Path, layers: int) -> list[MeasuredStep]:
    """The steps that a profile by layer stands for, as the profiler of LLMServingSim 2.0 (KAIST, MIT) writes it.

    `dense.csv` has layer, tokens, time_us; `per_sequence.csv` layer (lm_head, sampler), sequences, time_us;
    `attention.csv` prefill_chunk, kv_prefill, n_decode, kv_decode, time_us of one layer. A step takes `layers` times
    its dense parts and attention, and once what ends it; between the measured counts of tokens times are interpolated.

    Raises InputError with the place of the first bad cell.
    """
    dense = _curves(directory / "dense.csv", "tokens")
    ends = _curves(directory / "per_sequence.csv", "sequences")

    def outside_attention(tokens: float, sequences: float) -> float:
        once = sum(dense[name](tokens) for name in ONCE if name in dense)
        layer = sum(REPEATED.get(name, 1) * curve(tokens) for name, curve in dense.items() if name not in ONCE)
        return once + layers * layer + sum(curve(sequences) for curve in ends.values())

    steps = []
    columns = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us")
    for chunk, computed, generating, length, microseconds in _numbers(directory / "attention.csv", columns):
        tokens, sequences = chunk + generating, generating + (1.0 if chunk else 0.0)
        total = outside_attention(tokens, sequences) + layers * microseconds
        longest = max(length if generating else 0.0, computed + chunk)
        parts = ((computed, chunk),) if chunk else ()
        steps.append(MeasuredStep(tokens, generating, generating * length, longest, parts, total * 1e-6))
    return steps


def _curves(path: Path, column: str) -> dict[str, Callable[[float], float]]:
    """Microseconds of each layer by a column, interpolated."""
    points: dict[str, list[tuple[float, float]]] = {}
    for name, (at, microseconds) in zip(_names(path, "layer"), _numbers(path, (column, "time_us")), strict=True):
        points.setdefault(name, []).append((at, microseconds))
    return {name: _interpolation(sorted(found)) for name, found in points.items()}


def _interpolation(points: Iterable[tuple[float, float]]) -> Callable[[float], float]:
    import numpy as np

    at, values = (np.array(column) for column in zip(*points, strict=True))

    def interpolate(x: float) -> float:
        return float(np.interp(x, at, values))

    return interpolate


def _names(path: Path, column: str) -> list[str]:
    header, rows = _table(path, (column,))
    return [cells[header.index(column)] for _, cells in rows]


def _numbers(path: Path, columns: tuple[str, ...]) -> list[tuple[float, ...]]:
    header, rows = _table(path, columns)
    indexes = [header.index(column) for column in columns]
    return [tuple(_number(path, line, cells, index) for index in indexes) for line, cells in rows]


def _table(path: Path, columns: tuple[str, ...]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    try:
        header, rows = read_rows(path)
    except ValueError as error:
        raise InputError([Problem(str(path), 0, 0, "", str(error).removeprefix(f"{path}: "))]) from None
    problems = [
        Problem(str(path), 1, 1, "", f"no column {name!r}; {nearest(name, header, 'it has')}")
        for name in columns
        if name not in header
    ]
    if problems:
        raise InputError(problems)
    return header, rows


def _number(path: Path, line: int, cells: list[str], index: int) -> float:
    text = cells[index] if index < len(cells) else ""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.0 <= number < math.inf:
        raise InputError([Problem(str(path), line, index + 1, "", f"got {short(text)}, expected a number >= 0")])
    return number


INPUTS: Mapping[str, Callable[[MeasuredStep], float]] = {
    "tokens": lambda step: step.tokens,
    "generating": lambda step: step.generating,
    "attended": lambda step: step.attended,
    "longest": lambda step: step.longest,
    "prompt part": lambda step: max((part for _, part in step.parts), default=0.0),
    "computed before": lambda step: max((computed for computed, _ in step.parts), default=0.0),
}
"""What a step's time depends on, by the name that messages give it."""


@dataclass(frozen=True, slots=True)
class StepColumns:
    """Steps as arrays: one entry a step, and of the prompt parts one entry a part with the number of its step."""

    tokens: np.ndarray
    generating: np.ndarray
    attended: np.ndarray
    longest: np.ndarray
    seconds: np.ndarray
    step_of_part: np.ndarray
    computed: np.ndarray
    part: np.ndarray

    @classmethod
    def of(cls, steps: list[MeasuredStep]) -> StepColumns:
        """All of them."""
        import numpy as np

        parts = [(number, *part) for number, step in enumerate(steps) for part in step.parts]
        flat = np.array(parts, dtype=float).reshape(-1, 3)
        fields = ("tokens", "generating", "attended", "longest", "seconds")
        arrays = {name: np.array([getattr(step, name) for step in steps], dtype=float) for name in fields}
        return cls(**arrays, step_of_part=flat[:, 0].astype(int), computed=flat[:, 1], part=flat[:, 2])

    def predicted(self, step: StepTime) -> np.ndarray:
        """Seconds of each step by the formula of `simulator.program.step_time`, on arrays."""
        import numpy as np

        pieces = np.maximum(self.part, step.floor) * (self.computed + 0.5 * self.part)
        attention = np.bincount(self.step_of_part, pieces, len(self.tokens))
        together = step.chunk * attention + step.mixed * self.attended + step.mixed_sequence * self.generating
        mixed = np.maximum(step.longest * self.longest, together + step.uneven * self.longest)
        chosen = step.expert_share * self.tokens
        touched = 1.0 - 1.0 / (1.0 + chosen * (1.0 + chosen * (0.5 + chosen / 6.0)))
        read = step.weights + step.experts * touched
        seconds = step.overhead + np.maximum(read, step.token * self.tokens) + step.sequence * self.generating
        seconds = seconds + np.where(attention > 0.0, mixed, step.generated * self.attended)
        found: np.ndarray = seconds + step.link + (step.activation + step.link_token) * self.tokens
        return found
