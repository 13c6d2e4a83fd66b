"""Static batches of an LLM serving engine, of which nobody is replaced before all have ended."""

from __future__ import annotations

import math

import numpy as np

from simulator.analytic.lengths import Lengths, any_of
from simulator.program.stations import Inference


def static_batch(spec: Inference, blocks: float, lengths: Lengths) -> tuple[float, float]:
    """How many sequences a batch has where enough wait, and the mean seconds from its first step to its last token.

    Its prompts take as many steps as their tokens need, all but the first beside those who generate already. From
    then on there is a step for as long as any answer is longer, with probability 1 - F^n, and in it those whose is, n
    (1 - F) / (1 - F^n) on average.
    """
    number = _number(spec, blocks, lengths)
    begun = _prompt_steps(spec, lengths, number)
    seconds = _prompt_seconds(spec, lengths, number, begun)
    answers, longer = lengths.answers()
    running = any_of(longer, number)
    answers = np.maximum(answers, begun)
    for before, after, share, any_runs in zip(answers[:-1], answers[1:], longer, running, strict=True):
        if after > before:
            some, context = number * share / any_runs, lengths.prompt + 0.5 * (before + after)
            seconds += (after - before) * any_runs * spec.step.seconds(some, some, some * context, context, 0.0)
    return number, float(seconds)


def _number(spec: Inference, blocks: float, lengths: Lengths) -> float:
    """Sequences that begin in one step: as many as its tokens let, or the engine, or its memory when they end.

    Prompts are taken until they fill the step, the last of them computed in part, or while they fit whole: by the
    renewal theorem these are t / m + (c² + 1) / 2 on average, and one fewer (Cox, Renewal Theory, section 4.2).
    """
    share, scv = spec.tokens / max(lengths.new, 1.0), lengths.scv_prompt
    if scv > 0.0:
        begun = share + 0.5 * (scv + 1.0) - (0.0 if spec.chunked else 1.0)
    else:
        begun = float(math.ceil(share) if spec.chunked else math.floor(share))
    room = blocks * spec.block / (lengths.prompt + lengths.output)
    return max(min(float(spec.sequences), begun, room), 1.0)


def _prompt_steps(spec: Inference, lengths: Lengths, number: float) -> float:
    """Steps that compute the prompts; none where these were computed elsewhere."""
    if lengths.new <= 0.0:
        return 0.0
    return float(math.ceil(number * lengths.new / spec.tokens)) if spec.chunked else 1.0


def _prompt_seconds(spec: Inference, lengths: Lengths, number: float, steps: float) -> float:
    """Seconds of the steps that compute the prompts."""
    if steps <= 0.0:
        return 0.0
    step = spec.step
    attention = number * (1.0 + lengths.scv_prompt) * step.prompt_attention(max(lengths.cached, 0.0), lengths.new)
    return steps * step.seconds(
        number * lengths.new / steps, 0.0, 0.0, lengths.longest_prompt(number), attention / steps
    )
