"""Lengths: how many tokens the sequences of an LLM serving engine have, on average and at the longest.

Of prompts and answers means and variances are known, and log-normals with these are taken for their distributions.
Prompts are taken to be independent of answers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from simulator.program.instructions import Generate
from simulator.program.stations import Inference

Floats = NDArray[np.float64]

ALMOST_SURE = float(np.nextafter(1.0, 0.0))
NORMAL_QUANTILES = np.linspace(-5.0, 6.0, 133)
LARGER = np.array(
    [0.5 * math.erfc(middle / math.sqrt(2.0)) for middle in 0.5 * (NORMAL_QUANTILES[1:] + NORMAL_QUANTILES[:-1])]
)
PARTS = [NormalDist().inv_cdf((part + 0.5) / 4) for part in range(4)]
"""Normal quantiles of the equally likely sizes by which a random one is represented."""
EVEN_QUANTILES = [NormalDist().inv_cdf((part + 0.5) / 64) for part in range(64)]
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Lengths:
    """Mean tokens of a prompt, of what is there of it before, and of those to generate; and variances (tokens squared).

    All of a prompt is there where another engine has computed it.
    """

    prompt: float
    cached: float
    output: float
    variance_prompt: float = 0.0
    variance_output: float = 0.0

    @property
    def new(self) -> float:
        """Mean tokens of a prompt that are to be computed."""
        return self.prompt - max(self.cached, 0.0)

    @property
    def decoded(self) -> float:
        """Mean steps that generate one more token: the first one comes with the prompt, where that is computed here."""
        return self.output - 1.0 if self.new > 0.0 else self.output

    @property
    def scv_prompt(self) -> float:
        """Squared coefficient of variation of the prompt; what is new in it is taken to vary as much."""
        return self.variance_prompt / (self.prompt * self.prompt)

    @property
    def scv_output(self) -> float:
        """Squared coefficient of variation of the answer."""
        return self.variance_output / (self.output * self.output)

    @property
    def context(self) -> float:
        """Mean tokens of a sequence that runs, the prompt and what has been generated so far.

        A sequence with a long answer runs for longer, so that what has been generated is the mean age of a renewal
        process, E[O²] / (2 E[O]) (Kleinrock, Queueing Systems I, section 5.2).
        """
        return self.prompt + 0.5 * self.output * (1.0 + self.scv_output)

    @property
    def variance_context(self) -> float:
        """Variance of the same; the second moment of the age is E[O³] / (3 E[O])."""
        age = self.context - self.prompt
        square = self.output * self.output * (1.0 + self.scv_output) ** 3 / 3.0
        return self.variance_prompt + square - age * age

    def longest(self, running: float) -> float:
        """Expected tokens of the longest of so many sequences that run.

        The integral of 1 - F(x)^n (David and Nagaraja, Order Statistics, 2003, section 3.1).
        """
        return _largest(self.context, self.variance_context, running)

    def longest_prompt(self, prompts: float) -> float:
        """Expected tokens of the longest of so many prompts."""
        return _largest(self.prompt, self.variance_prompt, prompts)

    def answers(self) -> tuple[Floats, Floats]:
        """Tokens that are generated, from 0 up, shape (n + 1,), and the share of answers that are longer in between."""
        tokens, longer = _survival(self.output, self.scv_output)
        return np.append(0.0, tokens), np.append(1.0, longer)

    def sizes(self, prompts: int) -> list[float]:
        """Equally likely numbers of new tokens that so many prompts have together.

        Their sum is taken for a log-normal too (Fenton, IRE Transactions on Communications Systems 8, 1960).
        """
        mean, scv = prompts * self.new, self.scv_prompt / prompts
        return [mean * size for size in _relative_sizes(scv)] if scv > 0.0 else [mean]


Kinds = tuple[tuple[float, Lengths], ...]
"""The share of an engine's sequences, and their lengths, of each kind of them."""


def whole_number(mean: float, deviation: float) -> float:
    """Mean of the whole number that a normal number is at least, where it hardly varies that below its mean."""
    numbers = [math.floor(mean + deviation * quantile + ROUNDING) for quantile in EVEN_QUANTILES]
    return math.fsum(numbers) / len(numbers)


def lengths_of(engine: Inference, instruction: Generate) -> Lengths:
    """Those of the sequences of an instruction at an engine; of prompt and answer there is one token at least."""
    prompt, variances = max(instruction.mean_prompt, 1.0), (instruction.variance_prompt, instruction.variance_output)
    if instruction.begun:
        return Lengths(prompt, prompt, max(instruction.mean_output - 1.0, 1.0), *variances)
    cached = min(instruction.mean_cached, prompt - 1.0) if engine.prefix_caching else 0.0
    return Lengths(prompt, cached, max(instruction.mean_output, 1.0), *variances)


def any_of(probability: Floats, number: float) -> Floats:
    """The probability that any of so many is, each being with a probability; exact for small ones, too."""
    some: Floats = -np.expm1(number * np.log1p(-np.minimum(probability, ALMOST_SURE)))
    return some


def _largest(mean: float, variance: float, number: float) -> float:
    """Expected largest of so many draws."""
    quantiles, larger = _survival(mean, variance / (mean * mean))
    return float(quantiles[0] + np.sum(np.diff(quantiles) * any_of(larger, number)))


def _survival(mean: float, scv: float) -> tuple[Floats, Floats]:
    """Quantiles of a log-normal, shape (n + 1,), and the probability of more than what lies midway, shape (n,)."""
    square = math.log1p(scv)
    quantiles: Floats = mean * np.exp(math.sqrt(square) * NORMAL_QUANTILES - 0.5 * square)
    return quantiles, LARGER


@lru_cache(maxsize=4096)
def _relative_sizes(scv: float) -> tuple[float, ...]:
    """Equally likely numbers of mean 1, for a log-normal."""
    sigma = math.sqrt(math.log1p(scv))
    sizes = [math.exp(sigma * part) for part in PARTS]
    return tuple(size * len(sizes) / math.fsum(sizes) for size in sizes)
