"""LLM serving engines without simulation: a sequence alone, and the most sequences a second.

Where requests always wait, what comes and goes in a step is random. As many prompts as sequences end begin at once,
taken for Poisson: some steps compute none, and take less than half of what others do, so that the mean time of a step
is not that of a mean step. Memory is full but for what the first in the queue does not fit in, and answers that
outgrow it cost others their place. Answers that are all equally long end in groups, for which that is some 5 % off.
"""

from __future__ import annotations

import math
from functools import lru_cache

from simulator.analytic.lengths import Lengths, whole_number
from simulator.analytic.prompt_steps import PromptSteps, prompt_steps
from simulator.analytic.static_batches import static_batch
from simulator.program.stations import Inference


def time_alone(spec: Inference, prompt: float, cached: float, output: float) -> float:
    """Seconds of a sequence that is alone, from its prompt's first step to its last token.

    `prompt` tokens, of which `cached` are there already, then `output` tokens. The prompt is taken to be computed in
    equal parts, and attention to a context of mean length.
    """
    step = spec.step
    new = max(prompt - cached, 1.0)
    parts = _parts(spec, new)
    size = new / parts
    attention = step.prompt_attention(cached + 0.5 * (parts - 1.0) * size, size)
    first = parts * step.seconds(size, 0.0, 0.0, cached + 0.5 * (parts + 1.0) * size, attention)
    context = prompt + 0.5 * output
    return first + max(output - 1.0, 0.0) * step.seconds(1.0, 1.0, context, context, 0.0)


def _parts(spec: Inference, new: float) -> float:
    """Steps in which a prompt is computed."""
    return max(-(-new // min(spec.tokens, spec.part)), 1.0) if spec.chunked else 1.0


def sequences_at_most(spec: Inference, blocks: float, lengths: Lengths) -> float:
    """How many sequences run at a time at most: as many as the engine lets, or as its memory has room for.

    Blocks that sequences share count for each.
    """
    return max(min(float(spec.sequences), _room_for(spec, blocks, lengths)), 1.0)


def _room_for(spec: Inference, blocks: float, lengths: Lengths) -> float:
    """Sequences that memory has room for on average; a last block is half full.

    The first in the queue waits until all of its prompt fits. That is a prompt as somebody finds it who comes at any
    time, and on average half of it is free (as a renewal process's age, Kleinrock, section 5.2). Where lengths hardly
    vary it is a whole number: those beside which a prompt fits, and that one. Long prompts of which one more fits, but
    not with its answer, take each other's places again and again, and an engine does up to a third less than is said.
    """
    memory, each = blocks * spec.block, lengths.context + 0.5 * spec.block
    free = 0.5 * lengths.new * (1.0 + lengths.scv_prompt)
    beside = max(memory - lengths.prompt, 0.0) / each
    variance = (beside * lengths.variance_context + lengths.variance_prompt) / each**2
    # A whole number is half of one less than what it is cut from, where that may be anything.
    return (memory - free) / each + whole_number(beside, math.sqrt(variance)) + 0.5 - beside


def _preemptions(spec: Inference, blocks: float, lengths: Lengths, running: float) -> float:
    """How often a sequence loses its blocks on average, where it has to compute its prompt anew.

    Between two that end, sequences grow by an answer's tokens together, an exponential number if they end at any time;
    one loses its blocks where that is more than what is free, which is anything up to a prompt. That is about right
    for answers no longer than twice the prompts. Those that are 4 to 10 times as long lose them 2 to 4 times, not once,
    and an engine does some 13 % less than is said.
    """
    room = _room_for(spec, blocks, lengths)
    if room >= spec.sequences or running < room or running <= 1.0 or lengths.new <= 0.0:
        return 0.0
    growth = lengths.output / lengths.new
    return -growth * math.expm1(-1.0 / growth)


@lru_cache(maxsize=4096)
def sequences_per_second(spec: Inference, blocks: float, lengths: Lengths, running: float | None = None) -> float:
    """Sequences a second that an engine ends, about, with so many `running`, as many as there may be if left out.

    Of n sequences n / s end in a step, where each runs for s steps, and as many prompts are computed beside; where
    these do not fit in a step's tokens, it is the tokens that limit. Those that are computed apart are before that.
    """
    if spec.static:
        number, seconds = static_batch(spec, blocks, ((1.0, lengths),))
        return number / seconds
    running = sequences_at_most(spec, blocks, lengths) if running is None else running
    prompts = 1.0 + _preemptions(spec, blocks, lengths, running) if lengths.new > 0.0 else 0.0
    ends = _ends(spec, lengths, running, prompts)
    return ends / _mean_step(spec, lengths, running, ends, ends * prompts)


def _ends(spec: Inference, lengths: Lengths, running: float, prompts: float) -> float:
    """Sequences that end in a step, of those that generate where prompts are computed apart."""
    if spec.apart:
        return running / max(lengths.decoded, 1.0)
    steps = lengths.decoded + prompts * _parts(spec, lengths.new)
    fitting = spec.tokens / (prompts * lengths.new + lengths.decoded)
    if not spec.chunked and prompts > 0.0:
        fitting = _whole_prompts(spec, lengths, fitting * lengths.decoded) / prompts
    return min(running / steps, fitting)


def _whole_prompts(spec: Inference, lengths: Lengths, beside: float) -> float:
    """Prompts that fit whole in a step beside so many tokens, the first of them in any case.

    By the renewal theorem these are t / m + (c² - 1) / 2 on average (Cox, Renewal Theory, section 4.2).
    """
    fitting = max(spec.tokens - beside, 0.0) / lengths.new
    scv = lengths.scv_prompt
    return max(fitting + 0.5 * (scv - 1.0) if scv > 0.0 else float(math.floor(fitting)), 1.0)


def _mean_step(spec: Inference, lengths: Lengths, running: float, ends: float, prompts: float) -> float:
    """Mean seconds of a step in which so many sequences end and prompts begin; with the steps before it, where these
    are computed apart.
    """
    step, generating = spec.step, ends * lengths.decoded
    attended, longest = generating * lengths.context, lengths.longest(running)
    beside = 0.0 if spec.apart else generating
    decoding = step.seconds(generating, generating, attended, longest, 0.0)
    budget = max(spec.tokens - beside, 1.0)

    def seconds(each: PromptSteps) -> float:
        """Of the steps that compute some prompts, or of one without any."""
        if not each.prompts:
            return 0.0 if spec.apart else decoding
        attention = each.tokens / lengths.new * step.prompt_attention(max(lengths.cached, 0.0), lengths.new)
        attention *= (1.0 + lengths.scv_prompt) / each.steps
        tokens = each.tokens / each.steps + beside
        if spec.apart:
            return each.steps * step.seconds(tokens, 0.0, 0.0, lengths.longest_prompt(each.prompts), attention)
        return each.steps * step.seconds(tokens, beside, attended, longest, attention)

    ways = prompt_steps(lengths, prompts, budget if spec.chunked else max(budget, lengths.new), gated=not spec.apart)
    total = math.fsum(each.probability * seconds(each) for each in ways)
    if spec.apart:
        return total + (decoding if generating > 0.0 else 0.0)
    return total / math.fsum(each.probability * each.steps for each in ways)
