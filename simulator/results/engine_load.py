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
from simulator.records import Floats
from simulator.results.section import Section, inference_field, station_field


def engine_load(sections: Sequence[Section], program: Program, stations: tuple[int, ...]) -> list[float]:
    """Sequences that inference stations ended, as a share of a second's most of them, shape (sections,), in seconds.

    The most is that of `simulator.analytic.inference`, for prompts and answers as long as they were, and as much of
    them as was computed, also again after a preemption; at most 1 a second and station. Where more wait than run, they
    are as busy as they are with steps: those who wait may all give up, so that none is ended.
    """
    engines = [number for number, each in enumerate(program.stations) if isinstance(each, Inference)]
    loads = np.zeros(len(sections))
    for number in stations:
        own = (engines.index(number),)
        load = np.maximum(_by_sequences(sections, program, number, own), _where_more_wait(sections, number, own))
        loads += np.minimum(load, [section.length for section in sections])
    found: list[float] = loads.tolist()
    return found


def _by_sequences(sections: Sequence[Section], program: Program, number: int, own: tuple[int]) -> Floats:
    """What was ended by what could have been."""
    ended = np.array([float(station_field(section, (number,), "completions").sum()) for section in sections])
    if not ended.sum():
        return ended
    prompt, computed, output = (
        sum(inference_field(section, own, name) for section in sections) / ended.sum()
        for name in ("prompt_tokens", "computed_tokens", "generated_tokens")
    )
    spec = program.stations[number]
    assert isinstance(spec, Inference)
    memory = program.stations[spec.memory]
    assert isinstance(memory, Pool)
    most = sequences_per_second(spec, memory.capacity, prompt, prompt - computed, max(output, 1.0))
    return ended / most


def _where_more_wait(sections: Sequence[Section], number: int, own: tuple[int]) -> Floats:
    """Time in steps of the sections in which more sequences wait than run, on average."""
    waiting, running = (
        np.array([float(station_field(section, (number,), name).sum()) for section in sections])
        for name in ("waiting_area", "busy_area")
    )
    stepping = np.array([inference_field(section, own, "stepping") for section in sections])
    return np.where(waiting > running, stepping, 0.0)
