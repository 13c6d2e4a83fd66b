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
ROUNDS = 20
TOLERANCE = 1e-3


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
    return _together(lengths, prompts, budget) if gated else list(_ways(lengths, prompts, budget))


def _together(lengths: Lengths, prompts: float, budget: float) -> list[PromptSteps]:
    """As many begin together as come in the steps of those before them, on average."""
    together = prompts
    for _ in range(ROUNDS):
        ways = list(_ways(lengths, together, budget))
        coming = prompts * math.fsum(each.probability * each.steps for each in ways)
        if coming <= (1.0 + TOLERANCE) * together:
            break
        together = coming
    return ways


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
