"""How much of what it could do an LLM serving engine does.

The share of its places that are taken says little of that, for
steps take longer the more sequences are in them, and so do sequences.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simulator.analytic.inference import sequences_per_second
from simulator.program.program import Program
from simulator.program.stations import Inference, Pool
from simulator.results.section import Section, inference_field, station_field


def engine_load(sections: Sequence[Section], program: Program, stations: tuple[int, ...]) -> list[float]:
    """Sequences that inference stations ended, as a share of a second's most of them, shape (sections,), in seconds.

    The most is that of `simulator.analytic.inference`, for prompts and answers as long as they were, and as much of
    them as was computed, also again after a preemption; at most 1 a second and station.
    """
    engines = [number for number, each in enumerate(program.stations) if isinstance(each, Inference)]
    loads = np.zeros(len(sections))
    for number in stations:
        ended = np.array([float(station_field(section, (number,), "completions").sum()) for section in sections])
        if not ended.sum():
            continue
        own = (engines.index(number),)
        prompt, computed, output = (
            sum(inference_field(section, own, name) for section in sections) / ended.sum()
            for name in ("prompt_tokens", "computed_tokens", "generated_tokens")
        )
        spec = program.stations[number]
        assert isinstance(spec, Inference)
        memory = program.stations[spec.memory]
        assert isinstance(memory, Pool)
        most = sequences_per_second(spec, memory.capacity, prompt, prompt - computed, max(output, 1.0))
        lengths = np.array([section.length for section in sections])
        loads += np.minimum(ended / most, lengths)
    found: list[float] = loads.tolist()
    return found
