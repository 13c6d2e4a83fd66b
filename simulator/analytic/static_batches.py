"""Static batches of an LLM serving engine, of which nobody is replaced before all have ended."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from simulator.analytic.lengths import Kinds, Lengths, any_of
from simulator.program.stations import Inference

Floats = NDArray[np.float64]
DRAWN = 8192
STEPS_DRAWN, MOST_STEPS = 32, 1024
"""Steps that a drawn queue is enough for, and that are looked at."""
MOST_DRAWN = 1024
"""Prompts in a step beyond which it is taken for full."""
ROUNDING = 1e-6
SHORTLY_BEFORE = 1.0 - 1e-6


@lru_cache(maxsize=4096)
def static_batch(spec: Inference, blocks: float, kinds: Kinds) -> tuple[float, float]:
    """How many sequences a batch has where enough wait, and the mean seconds from its first step to its last token.

    A batch has sequences of all kinds, and lasts until the last of them has ended.
    """
    number = _number(spec, blocks, kinds)
    steps = _prompt_steps(spec, kinds, number)
    return number, _prompt_seconds(spec, kinds, number, steps) + _answer_seconds(spec, kinds, number, steps)


def _answer_seconds(spec: Inference, kinds: Kinds, number: float, prompt_steps: float) -> float:
    """Seconds from the steps that compute prompts to the last token.

    There is a step for as long as any answer is longer, with probability 1 - F^n, and in it those whose is, n (1 - F) /
    (1 - F^n) on average. Of prompts that take several steps the last one ends with them, and its answer begins; a long
    one is more likely to be the last. The others generate from the second step on, where prompts are not computed
    apart.
    """
    began = prompt_steps > 0.0
    ahead = prompt_steps - 1.0 if began and not spec.apart else 0.0
    tokens = _edges(kinds, ahead, 1.0 if began else 0.0)
    middle = 0.5 * (tokens[1:] + tokens[:-1])
    others, last = _longer(kinds, middle + ahead), _longer(_by_prompts(kinds) if ahead else kinds, middle)
    running = 1.0 - (1.0 - any_of(others, number - 1.0)) * (1.0 - last)
    attended = _held(kinds, middle) / np.maximum(_longer(kinds, middle), np.finfo(float).tiny)
    seconds = 0.0
    for steps, any_runs, some, context in zip(
        np.diff(tokens), running, (number - 1.0) * others + last, attended, strict=True
    ):
        if any_runs > 0.0:
            each = some / any_runs
            seconds += steps * any_runs * spec.step.seconds(each, each, each * context, context, 0.0)
    return float(seconds)


def _edges(kinds: Kinds, ahead: float, first: float) -> Floats:
    """Tokens between which the shares of longer answers are taken not to change, from `first` up."""
    each = np.concatenate([lengths.answers()[0] for _, lengths in kinds])
    edges = np.unique(np.concatenate([each, each - ahead, [first]]))
    return edges[edges >= first]


def _longer(kinds: Kinds, tokens: Floats) -> Floats:
    """Share of the answers that are longer than so many tokens, shape (tokens,)."""
    found: Floats = np.sum([share * _longer_of(lengths, tokens) for share, lengths in kinds], axis=0)
    return found


def _longer_of(lengths: Lengths, tokens: Floats) -> Floats:
    edges, longer = lengths.answers()
    found: Floats = np.append(longer, 0.0)[np.searchsorted(edges, tokens, side="right") - 1]
    return found


def _held(kinds: Kinds, tokens: Floats) -> Floats:
    """Mean tokens that a sequence has after so many of its answer, 0 where it has ended; shape (tokens,)."""
    each = [share * _longer_of(lengths, tokens) * (lengths.prompt + tokens) for share, lengths in kinds]
    found: Floats = np.sum(each, axis=0)
    return found


def _by_prompts(kinds: Kinds) -> Kinds:
    """The kinds of the sequences that new tokens belong to."""
    total = _new(kinds)
    return tuple((share * each.new / total, each) for share, each in kinds) if total > 0.0 else kinds


def _new(kinds: Kinds) -> float:
    """Mean new tokens of a prompt."""
    return math.fsum(share * each.new for share, each in kinds)


def _number(spec: Inference, blocks: float, kinds: Kinds) -> float:
    """Sequences that begin in one step and end: as many as its tokens let, or the engine, or its memory.

    Those that have begun beyond what memory has room for when they have most of it, for some have ended before others
    are long, lose their places; what they have done until then they do not do again one by one, so that up to a quarter
    more may be done.
    """
    memory = blocks * spec.block
    tokens = _edges(kinds, 0.0, 0.0)
    held = _held(kinds, tokens[:-1] + SHORTLY_BEFORE * np.diff(tokens))
    return max(min(_begun(spec, memory, kinds), memory / float(held.max())), 1.0)


def _begun(spec: Inference, memory: float, kinds: Kinds) -> float:
    """Mean prompts that begin in a step, of a drawn queue, always the same.

    They are taken until they fill the step, the last of them computed in part, or while they fit whole, and while
    memory has room for them. A last block is half full. One that does not fit is the first of the next step.
    """
    most = int(min(spec.sequences, MOST_DRAWN))
    prompts, new = _queue(kinds, max(DRAWN, STEPS_DRAWN * most))
    computed, held = _sums(new), _sums(prompts + 0.5 * spec.block)
    first, steps = 0, 0
    while first + most < len(computed) and steps < MOST_STEPS:
        full = computed[first] + spec.tokens
        if spec.chunked:
            fill = int(np.searchsorted(computed, full - ROUNDING))
        else:
            fill = int(np.searchsorted(computed, full + ROUNDING)) - 1
        room = int(np.searchsorted(held, held[first] + memory + ROUNDING)) - 1
        first, steps = max(min(fill, room, first + most), first + 1), steps + 1
    return first / steps


def _sums(values: Floats) -> Floats:
    """Of the values before each."""
    return np.append(0.0, np.cumsum(values))


def _queue(kinds: Kinds, number: int) -> tuple[Floats, Floats]:
    """Tokens of prompts, and how many of them are new; shape (number,) each."""
    generator = np.random.default_rng(1)
    chosen = generator.choice(len(kinds), number, p=[share for share, _ in kinds])
    normal = generator.standard_normal(number)
    square = np.array([math.log1p(each.scv_prompt) for _, each in kinds])[chosen]
    relative = np.exp(np.sqrt(square) * normal - 0.5 * square)
    prompts, new = (np.array(each)[chosen] for each in zip(*((k.prompt, k.new) for _, k in kinds), strict=True))
    return prompts * relative, new * relative


def _prompt_steps(spec: Inference, kinds: Kinds, number: float) -> float:
    """Steps that compute the prompts; none where these were computed elsewhere."""
    new = _new(kinds)
    if new <= 0.0:
        return 0.0
    if not spec.chunked:
        return 1.0
    longest = max(each.new for _, each in kinds)
    return float(math.ceil(max(number * new / spec.tokens, longest / spec.part)))


def _prompt_seconds(spec: Inference, kinds: Kinds, number: float, steps: float) -> float:
    """Seconds of the steps that compute the prompts."""
    if steps <= 0.0:
        return 0.0
    step = spec.step
    attention = number * math.fsum(
        share * (1.0 + each.scv_prompt) * step.prompt_attention(max(each.cached, 0.0), each.new)
        for share, each in kinds
        if each.new > 0.0
    )
    longest = max(each.longest_prompt(max(share * number, 1.0)) for share, each in kinds)
    return steps * step.seconds(number * _new(kinds) / steps, 0.0, 0.0, longest, attention / steps)
