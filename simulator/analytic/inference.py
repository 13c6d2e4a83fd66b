"""LLM serving engines without simulation: a sequence alone, and the most sequences a second."""

from __future__ import annotations

from simulator.program.stations import Inference


def time_alone(spec: Inference, prompt: float, cached: float, output: float) -> float:
    """Seconds of a sequence that is alone, from its prompt's first step to its last token.

    `prompt` tokens, of which `cached` are there already, then `output` tokens. The prompt is taken to be computed in
    equal parts, and attention to a context of mean length.
    """
    step = spec.step
    new = max(prompt - cached, 1.0)
    parts = max(-(-new // min(spec.tokens, spec.part)), 1.0) if spec.chunked else 1.0
    size = new / parts
    attention = step.prompt_attention(cached + 0.5 * (parts - 1.0) * size, size)
    first = parts * step.seconds(size, 0.0, 0.0, cached + 0.5 * (parts + 1.0) * size, attention)
    context = prompt + 0.5 * output
    return first + max(output - 1.0, 0.0) * step.seconds(1.0, 1.0, context, context, 0.0)


def sequences_at_most(spec: Inference, blocks: float, prompt: float, output: float) -> float:
    """How many sequences run at a time at most: as many as the engine lets, or as its memory has room for.

    A sequence has `prompt` and half of its `output` tokens on average. Blocks that sequences share count for each.
    """
    return max(min(float(spec.sequences), blocks * spec.block / (prompt + 0.5 * output)), 1.0)


def sequences_per_second(
    spec: Inference, blocks: float, prompt: float, cached: float, output: float, running: float | None = None
) -> float:
    """Sequences a second that an engine ends, about, with so many `running`, as many as there may be if left out.

    In a step every one of n sequences generates a token, so n / output of them end, and as many prompts are computed
    beside, or before that where they are computed apart; where these do not fit in a step's tokens, it is the tokens
    that limit.
    """
    step = spec.step
    running = sequences_at_most(spec, blocks, prompt, output) if running is None else running
    new = max(prompt - cached, 1.0)
    ends = running / output
    if spec.tokens < ends * (new + output):
        ends = spec.tokens / (new + output)
    attention = ends * step.prompt_attention(max(cached, 0.0), new)
    context = prompt + 0.5 * output
    generating = ends * output
    if spec.apart:
        prompts = step.seconds(ends * new, 0.0, 0.0, cached + new, attention)
        return ends / (prompts + step.seconds(generating, generating, generating * context, context, 0.0))
    seconds = step.seconds(ends * new + generating, generating, generating * context, context, attention)
    return ends / seconds
