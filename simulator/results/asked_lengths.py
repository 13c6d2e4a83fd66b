"""How long the sequences were that an LLM serving engine ended, as far as their mean lengths and the Program tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from simulator.analytic.demands import flows
from simulator.analytic.lengths import Kinds, Lengths, lengths_of
from simulator.program.instructions import Generate
from simulator.program.program import Program
from simulator.program.stations import Inference
from simulator.results.section import Section


@dataclass(frozen=True, slots=True)
class MeanTokens:
    """Tokens of the mean sequence: of its prompt, of these what was computed, and of its answer."""

    prompt: float
    new: float
    output: float


def asked_lengths(sections: Sequence[Section], program: Program, number: int, measured: MeanTokens) -> Kinds:
    """The kinds of sequences that came to inference station `number`, which are the instructions that ask it.

    Each has the share that the requests that arrived say by the Program's code, and lengths as the Program says, times
    what makes the mean of all what was measured.
    """
    spec = program.stations[number]
    assert isinstance(spec, Inference)
    asking = {
        pc: each
        for pc, each in enumerate(program.instructions)
        if isinstance(each, Generate) and number in each.place.stations
    }
    said = {pc: lengths_of(spec, each) for pc, each in asking.items()}
    shares = dict.fromkeys(said, 1.0) if len(set(said.values())) == 1 else _shares(sections, program, asking)
    total = math.fsum(shares.values())
    return _scaled(tuple((shares[pc] / total, said[pc]) for pc in said if shares[pc] > 0.0), measured)


def _shares(sections: Sequence[Section], program: Program, asking: Mapping[int, Generate]) -> dict[int, float]:
    """Sequences by instruction, of those that arrived; all alike where none did."""
    arrived = [sum(section.workloads[sender].arrived for section in sections) for sender in program.senders]
    found = {
        pc: math.fsum(number * flow[pc] for number, flow in zip(arrived, _flows(program), strict=True))
        / len(each.place.stations)
        for pc, each in asking.items()
    }
    return found if any(found.values()) else dict.fromkeys(asking, 1.0)


@lru_cache(maxsize=8)
def _flows(program: Program) -> tuple[list[float], ...]:
    """How often a request of each sender executes each instruction."""
    return tuple(flows(program, number).tolist() for number in range(len(program.senders)))


def _scaled(kinds: Kinds, measured: MeanTokens) -> Kinds:
    """The same with means as measured, all alike longer or shorter."""
    prompt = measured.prompt / math.fsum(share * each.prompt for share, each in kinds)
    output = measured.output / math.fsum(share * each.output for share, each in kinds)
    said = math.fsum(share * each.new for share, each in kinds)
    new = measured.new / said if said > 0.0 else 0.0
    return tuple((share, _times(each, prompt, new, output)) for share, each in kinds)


def _times(lengths: Lengths, prompt: float, new: float, output: float) -> Lengths:
    """So many times as long."""
    tokens = max(prompt * lengths.prompt, 1.0)
    return Lengths(
        tokens,
        tokens - min(new * lengths.new, tokens),
        max(output * lengths.output, 1.0),
        lengths.scv_prompt * tokens**2,
        lengths.variance_output * output**2,
    )
