"""What sequences ask of LLM serving engines with static batches, of which all wait for the longest, of whatever kind.

So what one of them asks depends on what comes beside: batches are taken to have all kinds in the shares in which they
come, and every sequence asks for the same part of a batch. What conversations find of what their earlier turns left
depends on how full batches are, so that nothing is known of engines that they come to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simulator.analytic.lengths import Lengths
from simulator.analytic.reading import CodePath
from simulator.analytic.static_batches import static_batch
from simulator.program.instructions import Generate
from simulator.program.program import Program
from simulator.program.stations import Inference, capacity_of

Floats = NDArray[np.float64]


def batched_demand(program: Program, mix: Sequence[tuple[float, CodePath]]) -> Floats:
    """Mean sequence-seconds of each station, where requests of so many a second, or shares of one, come together."""
    demand = np.zeros(len(program.stations))
    for number, coming in _sequences(mix).items():
        engine = program.stations[number]
        assert isinstance(engine, Inference)
        rate = math.fsum(coming.values())
        kinds = tuple((each / rate, lengths) for lengths, each in coming.items() if each > 0.0)
        batch, seconds = static_batch(engine, capacity_of(program.stations[engine.memory]), kinds)
        demand[number] = engine.sequences * rate * seconds / batch
    return demand


def of_unknown_batches(program: Program) -> set[int]:
    """Stations of which is not known how much they can do."""
    return {
        number
        for each in program.instructions
        if isinstance(each, Generate) and each.revisit is not None and each.revisit.found > 0.0 and not each.begun
        for number in each.place.stations
        if isinstance(engine := program.stations[number], Inference) and engine.static and engine.prefix_caching
    }


def _sequences(mix: Sequence[tuple[float, CodePath]]) -> dict[int, dict[Lengths, float]]:
    """How many come of each kind, by station."""
    found: dict[int, dict[Lengths, float]] = {}
    for weight, path in mix:
        for (number, lengths), each in path.batched.items():
            kinds = found.setdefault(number, {})
            kinds[lengths] = kinds.get(lengths, 0.0) + weight * each
    return {number: kinds for number, kinds in found.items() if any(kinds.values())}
