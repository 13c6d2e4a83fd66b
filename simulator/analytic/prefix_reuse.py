"""What a conversation's prompt finds of earlier ones on an engine that keeps their keys and values while it has room.

An engine throws away what was used longest ago. As for a cache of single things (Che, Tung & Wang, IEEE JSAC 20(7),
2002), what was left there is found again as long as it was not idle for longer than a time T, which the room says:
what conversations leave in a second, for as long as it stays, fills it. Other prompts are taken to leave nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from simulator.analytic.inference import sequences_at_most, sequences_per_second
from simulator.analytic.lengths import Lengths
from simulator.distributions import Distribution
from simulator.program.instructions import Revisit
from simulator.program.stations import Inference

DRAWS = 256
HALVINGS = 20
NUMBERS_RUNNING = 16


def most_sequences_per_second(spec: Inference, blocks: float, lengths: Lengths, revisit: Revisit | None) -> float:
    """As `sequences_per_second`, where of the cached tokens those of a `revisit` are only found that had room.

    With fewer sequences running more is kept, and less to be computed: with the number of them that does most, which
    is what an engine can do as long as no more come. Where more wait, it does less, and does not come back by itself.
    """
    if revisit is None or revisit.found <= 0.0 or spec.static:
        return sequences_per_second(spec, blocks, lengths)
    most = sequences_at_most(spec, blocks, lengths)
    shares = (number / NUMBERS_RUNNING for number in range(1, NUMBERS_RUNNING + 1))
    return max(_rate_of(spec, blocks, lengths, revisit, max(share * most, 1.0)) for share in shares)


def _rate_of(spec: Inference, blocks: float, lengths: Lengths, revisit: Revisit, running: float) -> float:
    """Sequences a second with so many running, which take room from what is kept."""
    room = max(blocks * spec.block - running * lengths.context, 0.0)

    def rate(share: float) -> float:
        cached = lengths.cached - (1.0 - share) * revisit.found
        return sequences_per_second(spec, blocks, replace(lengths, cached=cached), running)

    # The more is found the more sequences there are, and the less of them is found.
    return rate(_root(lambda share: share_found(revisit, rate(share), room) - share, 0.0, 1.0))


def share_found(revisit: Revisit, rate: float, room: float) -> float:
    """Share of prompts that find what was left, at a rate (1/s) of prompts and with `room` for so many tokens."""
    idle = _idle(revisit.idle)
    if room >= rate * revisit.left * revisit.again * float(idle.mean()) and revisit.again >= 1.0:
        return 1.0
    longest = room / (rate * revisit.left * (1.0 - revisit.again)) if revisit.again < 1.0 else float(idle.max())

    def spare(time: float) -> float:
        """Tokens of the room that are left where nothing stays for longer."""
        stays = revisit.again * float(np.minimum(idle, time).mean()) + (1.0 - revisit.again) * time
        return room - rate * revisit.left * stays

    return float(np.mean(idle <= _root(spare, 0.0, longest)))


def found_on_any(revisit: Revisit, replicas: int) -> float:
    """Mean tokens that are found where every prompt of a conversation goes to any of several engines.

    It was there k prompts ago with probability 1/n (1 - 1/n)^(k - 1), and its history was so many turns shorter.
    """
    elsewhere = 1.0 - 1.0 / replicas
    turns = math.ceil(revisit.found / revisit.growth) if revisit.growth > 0.0 else 1
    each = (elsewhere**ago * max(revisit.found - ago * revisit.growth, 0.0) for ago in range(min(turns, 1000)))
    return math.fsum(each) / replicas


@lru_cache(maxsize=256)
def _idle(distribution: Distribution) -> NDArray[np.float64]:
    """Some draws, always the same, of uniforms that are spread evenly."""
    even = (np.arange(DRAWS) + 0.5) / DRAWS
    return distribution.sample(lambda number: np.random.default_rng(number).permutation(even))


def _root(falling: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function is 0, or the end of the interval that is nearest to it."""
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if falling(middle) > 0.0 else (low, middle)
    return 0.5 * (low + high)
