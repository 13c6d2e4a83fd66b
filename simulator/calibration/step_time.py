"""Fit the time of a step of an LLM serving engine to measured steps.

The squares of the relative errors are least, but large errors count less than their square (soft L1 beyond 5 %), for
kernels jump where a tile is full. What the steps say nothing about stays near a `prior`, such as the roofline of the
model on the GPU: among 60 random rows of a profile there may be no single step without a prompt.

Fitted to 60 random steps of vLLM 0.19's kernels (LLMServingSim), with the roofline as the prior, all other steps that
fit the memory are predicted with a mean and median absolute error of 3.3 and 1.9 % (Llama-3.1-8B on an RTX 4090), 3.3
and 2.4 % (Qwen3-32B on two RTX PRO 6000), and 4.4 and 2.6 % (Llama-3.1-8B on one).
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from simulator.calibration.step_profile import INPUTS, MeasuredStep, StepColumns
from simulator.program.step_time import StepTime

if TYPE_CHECKING:
    import numpy as np

FITTED = (
    "overhead", "weights", "token", "activation", "sequence", "chunk", "floor", "generated", "mixed", "mixed_sequence",
    "longest", "uneven",
)  # fmt: skip
"""Coefficients that are fitted; links are in the overhead and the tokens of what is measured as a whole, experts as in
the prior."""
ROBUST_FROM = 0.05
"""Relative error from which on errors count less than their square."""
PRIOR_SPREAD = 2.0
"""How far the logarithm of a coefficient (of 1 more, in multiples of the prior) may be off at the price of an error of
`ROBUST_FROM` in one step."""
VAGUE_SPREAD = 20.0
"""The same without a prior, where it starts from what the steps' own sizes suggest."""


class OutOfRangeWarning(UserWarning):
    """A prediction for a step outside of what the coefficients were fitted to."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted step time: 95 % intervals of its coefficients, and the smallest and largest seen of each input."""

    step: StepTime
    intervals: dict[str, tuple[float, float]]
    ranges: dict[str, tuple[float, float]]
    steps: int

    def predict(self, step: MeasuredStep) -> float:
        """Seconds that a step takes; warns with the names of its inputs that are outside of those fitted to."""
        outside = [
            f"{name} {value:,.0f} (fitted from {low:,.0f} to {high:,.0f})"
            for name, (low, high) in self.ranges.items()
            if not low <= (value := INPUTS[name](step)) <= high
        ]
        if outside:
            message = f"step time outside of the range that it was fitted to: {', '.join(outside)}"
            warnings.warn(message, OutOfRangeWarning, stacklevel=2)
        return step.predicted(self.step)


def fit_step_time(steps: Sequence[MeasuredStep], prior: StepTime | None = None, balanced: bool = False) -> Fit:
    """Coefficients of at least 0 by relative least squares.

    With `balanced`, steps without prompts, with nothing else, and with both count as much as each other, however many
    there are: a serving engine spends most of its time in the first, of which a profile has few.

    Raises ValueError where there are fewer steps than coefficients, or one that took no time.
    """
    import numpy as np
    from scipy.optimize import least_squares

    if len(steps) <= len(FITTED):
        raise ValueError(f"got {len(steps)} steps, expected more than the {len(FITTED)} coefficients")
    if not all(step.seconds > 0.0 for step in steps):
        raise ValueError("got a step that took 0 s, expected times above 0")
    columns = StepColumns.of(list(steps))
    start = prior or _start(columns)
    spread = PRIOR_SPREAD if prior else VAGUE_SPREAD
    weights = np.array(_weights(steps) if balanced else [1.0] * len(steps))
    scale = np.array([getattr(start, name) or _left_out(start, name) for name in FITTED])

    def residuals(factors: np.ndarray) -> np.ndarray:
        errors = columns.predicted(_with(start, factors * scale)) / columns.seconds - 1.0
        return np.concatenate((weights * _softened(errors), ROBUST_FROM * (np.log1p(factors) - np.log(2.0)) / spread))

    best = min(
        (least_squares(residuals, _factors(memory_bound), bounds=(0.0, np.inf)) for memory_bound in (0.5, 1.0)),
        key=lambda found: float(found.cost),
    )
    intervals = _intervals(best.x, np.asarray(best.jac), 2.0 * best.cost, len(steps))
    return Fit(
        _with(start, best.x * scale),
        {
            name: (low * float(by), high * float(by))
            for name, by, (low, high) in zip(FITTED, scale, intervals, strict=True)
        },
        {name: (min(map(read, steps)), max(map(read, steps))) for name, read in INPUTS.items()},
        len(steps),
    )


_SMALL = {
    "overhead": 1e-3, "weights": 1e-3, "token": 1e-5, "activation": 1e-6, "sequence": 1e-6, "chunk": 1e-10,
    "floor": 128.0, "generated": 1e-8, "mixed": 1e-8, "mixed_sequence": 1e-6, "longest": 1e-8, "uneven": 1e-9,
}  # fmt: skip
"""Scale of a coefficient that the prior has at 0."""
PARTS = {"activation": "token", "uneven": "longest"}
"""What the roofline leaves out, and of what it is a part."""
PART = 0.25
"""That part; from 0.1 to 1 held-out errors of 60 measured steps do not change by more than 0.1 points."""


def _left_out(start: StepTime, name: str) -> float:
    """Scale of a coefficient that the prior has at 0."""
    whole = getattr(start, PARTS[name]) if name in PARTS else 0.0
    return PART * whole or _SMALL[name]


def _weights(steps: Sequence[MeasuredStep]) -> list[float]:
    """What the error of each step is multiplied with so that each kind of steps has the same weight in all."""
    kinds = [(step.generating > 0.0, bool(step.parts)) for step in steps]
    counts = Counter(kinds)
    return [(len(steps) / (len(counts) * counts[kind])) ** 0.5 for kind in kinds]


def _softened(errors: np.ndarray) -> np.ndarray:
    """Errors whose squares are the soft L1 loss: as they are where small, growing as the root where large."""
    import numpy as np

    ratio = errors / ROBUST_FROM
    # sqrt(1 + r^2) - 1 without the loss of digits near 0.
    loss = 2.0 * ratio * ratio / (np.sqrt(1.0 + ratio * ratio) + 1.0)
    softened: np.ndarray = ROBUST_FROM * np.copysign(np.sqrt(loss), ratio)
    return softened


def _factors(memory_bound: float) -> list[float]:
    """Where the search starts, as multiples of the prior."""
    return [memory_bound if name == "weights" else 1.0 for name in FITTED]


def _with(start: StepTime, values: Sequence[float]) -> StepTime:
    return replace(start, **dict(zip(FITTED, map(float, values), strict=True)))


def _start(columns: StepColumns) -> StepTime:
    """Coefficients of about the right size: those of the fastest step, and of the step with the most tokens."""
    fastest = float(columns.seconds.min())
    largest = int(columns.tokens.argmax())
    token = float(columns.seconds[largest] / columns.tokens[largest])
    return StepTime(
        overhead=0.2 * fastest, weights=0.8 * fastest, token=0.5 * token, sequence=0.05 * token, chunk=2e-5 * token,
        floor=256.0, generated=1e-3 * token, mixed=2e-3 * token, mixed_sequence=0.2 * token, longest=1e-2 * token,
    )  # fmt: skip


def _intervals(values: np.ndarray, jacobian: np.ndarray, squares: float, steps: int) -> list[tuple[float, float]]:
    """95 % intervals by the curvature of the sum of squares at its least; none goes below 0."""
    import numpy as np
    from scipy.stats import t

    freedom = steps - len(FITTED)
    covariance = np.linalg.pinv(jacobian.T @ jacobian) * squares / freedom
    half = t.ppf(0.975, freedom) * np.sqrt(np.maximum(np.diag(covariance), 0.0))
    return [(max(float(value - each), 0.0), float(value + each)) for value, each in zip(values, half, strict=True)]
