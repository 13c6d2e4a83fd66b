"""Coefficients of a serving engine's step time, as measured."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from simulator.model.part import Amount, Duration, Part, Share
from simulator.program.step_time import StepTime


class StepCoefficients(Part):
    """Coefficients that were fitted to a profile or to a benchmark, see `simulator.program.step_time`."""

    overhead: Duration
    """Of a step, whatever is in it; 0.2 to 5 ms in vLLM."""
    weights: Duration
    """Reading the weights once."""
    token: Duration
    """Arithmetic of a token; with `activation` where that is given."""
    sequence: Duration = 0.0
    """Of a sequence that generates: the logits and sampling."""
    chunk: Duration = 0.0
    """Attention of a prompt, a token squared."""
    floor: Amount = 0.0
    """Tokens as which a smaller part of a prompt counts for attention; 100 to 220 in vLLM."""
    generated: Duration = 0.0
    """Attention of a step without prompts, a token that is attended to."""
    mixed: Duration = 0.0
    """The same in a step with prompts; 1.5 to 2.7 times as much in vLLM."""
    mixed_sequence: Duration = 0.0
    """Of a sequence that generates in a step with prompts."""
    longest: Duration = 0.0
    """Attention of a step with prompts, a token of the longest sequence, where that is more."""
    uneven: Duration = 0.0
    """A token of the longest sequence, where that is not more: processors that are done wait for others; a seventh
    to a half of `longest` in vLLM."""
    activation: Duration = 0.0
    """What a token adds whether reading the weights takes longer than its arithmetic or not: activations, and tiles by
    which products grow; half to seven tenths of `token` in vLLM."""
    experts: Duration = 0.0
    """Reading the weights of all experts of a mixture."""
    expert_share: Share = 0.0
    """Share of the experts that a token is sent to."""
    link: Duration = 0.0
    """Exchange between GPUs, of a step."""
    link_token: Duration = 0.0
    """Exchange between GPUs, of a token."""

    @model_validator(mode="after")
    def _takes_time(self) -> Self:
        if self.overhead + self.weights <= 0.0:
            raise ValueError("a step takes no time, expected an overhead or weights above 0 s")
        return self

    def step_time(self) -> StepTime:
        """The step time."""
        return StepTime(**{name: getattr(self, name) for name in type(self).model_fields})
