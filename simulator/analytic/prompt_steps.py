"""Steps in which an LLM serving engine computes prompts, and how many of them at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from simulator.analytic.lengths import Lengths

MANY = 30.0
"""Prompts a step from which they are taken to be always as many."""
NEARLY_FULL = 0.9
"""Share of a step's tokens from which all steps are taken to be alike."""
NEGLIGIBLE = 1e-4
HALVINGS = 20


@dataclass(frozen=True, slots=True)
class PromptSteps:
    """With a `probability`, so many `prompts` begin together, whose `tokens` take so many `steps`, one at least."""

    probability: float
    prompts: float
    tokens: float
    steps: float


def prompt_steps(lengths: Lengths, prompts: float, budget: float, gated: bool) -> list[PromptSteps]:
    """What begins together where `prompts` begin in a step on average, and `budget` tokens of them fit in one.

    Prompts that come while others take several steps begin together after these, where they are `gated`.
    """
    tokens = prompts * lengths.new
    if prompts <= 0.0:
        return [PromptSteps(1.0, 0.0, 0.0, 1.0)]
    if prompts >= MANY or tokens >= NEARLY_FULL * budget:
        return [PromptSteps(1.0, prompts, tokens, 1.0 if gated else max(tokens / budget, 1.0))]
    return list(_ways(lengths, _together(lengths, prompts, budget) if gated else prompts, budget))


def _together(lengths: Lengths, prompts: float, budget: float) -> float:
    """How many begin together on average, so that there are `prompts` of them a step."""
    low, high = prompts, MANY + prompts
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        steps = math.fsum(each.probability * each.steps for each in _ways(lengths, middle, budget))
        low, high = (middle, high) if middle < prompts * steps else (low, middle)
    return 0.5 * (low + high)


def _ways(lengths: Lengths, prompts: float, budget: float) -> Iterator[PromptSteps]:
    """A Poisson number of prompts, of all sizes."""
    number, probability, left = 0, math.exp(-prompts), 1.0
    while left > NEGLIGIBLE:
        sizes = lengths.sizes(number) if number else [0.0]
        for tokens in sizes:
            steps = max(math.ceil(tokens / budget), 1)
            yield PromptSteps(probability / len(sizes), float(number), tokens, float(steps))
        left -= probability
        number += 1
        probability *= prompts / number
