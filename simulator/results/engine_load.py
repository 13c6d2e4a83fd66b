"""How much of what it could do an LLM serving engine does.

The share of its places that are taken says little of that, for
steps take longer the more sequences are in them, and so do sequences.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from simulator.analytic.inference import sequences_per_second
from simulator.analytic.lengths import Kinds
from simulator.analytic.static_batches import static_batch
from simulator.program.program import Program
from simulator.program.stations import Inference, Pool
from simulator.records import Floats
from simulator.results.asked_lengths import MeanTokens, asked_lengths
from simulator.results.section import Section, inference_field, station_field


def engine_load(sections: Sequence[Section], program: Program, stations: tuple[int, ...]) -> list[float]:
    """Sequences that inference stations ended, as a share of a second's most of them, shape (sections,), in seconds.

    The most is that of `simulator.analytic.inference` of each kind of sequences by itself, for prompts and answers as
    long as they were, and as much of them as was not there already; at most 1 a second and station. Where more wait
    than run, or than a static batch has, they are as busy as they are with steps: those who wait may all give up, so
    that none is ended.
    """
    loads = np.zeros(len(sections))
    for number in stations:
        engine = _Engine(sections, program, number)
        load = np.maximum(engine.by_sequences(), engine.where_more_wait())
        loads += np.minimum(load, [section.length for section in sections])
    found: list[float] = loads.tolist()
    return found


class _Engine:
    """An inference station, and what it did in the sections."""

    def __init__(self, sections: Sequence[Section], program: Program, number: int) -> None:
        self.sections = sections
        self.program = program
        self.number = number
        engines = [each for each, station in enumerate(program.stations) if isinstance(station, Inference)]
        self.own = (engines.index(number),)
        spec = program.stations[number]
        assert isinstance(spec, Inference)
        self.spec = spec
        memory = program.stations[spec.memory]
        assert isinstance(memory, Pool)
        self.blocks = memory.capacity
        self.ended = self._of_station("completions")
        self.kinds = self._kinds() if self.ended.any() else ()

    def _of_station(self, name: str) -> Floats:
        return np.array([float(station_field(each, (self.number,), name).sum()) for each in self.sections])

    def _kinds(self) -> Kinds:
        """The sequences of each kind, as long as they were."""
        prompt, cached, computed, output = (
            sum(inference_field(each, self.own, name) for each in self.sections) / self.ended.sum()
            for name in ("prompt_tokens", "cached_tokens", "computed_tokens", "generated_tokens")
        )
        # What was computed has preemptions in it, and what was found has no prompts that came computed.
        new = prompt - max(cached, prompt - computed)
        measured = MeanTokens(max(prompt, 1.0), new, max(output, 1.0))
        return asked_lengths(self.sections, self.program, self.number, measured)

    def by_sequences(self) -> Floats:
        """What was ended by what could have been: a second's most of each kind alone takes the whole second.

        Static batches have all kinds together.
        """
        if self.spec.static and self.kinds:
            batch, seconds = static_batch(self.spec, self.blocks, self.kinds)
            return self.ended * seconds / batch
        each = [share / sequences_per_second(self.spec, self.blocks, lengths) for share, lengths in self.kinds]
        return self.ended * math.fsum(each)

    def where_more_wait(self) -> Floats:
        """Time in steps of the sections in which more sequences wait than run, on average, or than a batch has."""
        stepping = np.array([inference_field(section, self.own, "stepping") for section in self.sections])
        enough = self._of_station("busy_area")
        if self.spec.static and self.kinds:
            batch = math.fsum(
                share * static_batch(self.spec, self.blocks, ((1.0, each),))[0] for share, each in self.kinds
            )
            enough = np.array([batch * section.length for section in self.sections])
        return np.where(self._of_station("waiting_area") > enough, stepping, 0.0)
