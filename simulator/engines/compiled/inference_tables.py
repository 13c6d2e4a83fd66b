"""Inference stations in numbers: their records, their instructions, and the memory that is theirs alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.engines.compiled import layout
from simulator.engines.compiled.layout import NONE, as_signed
from simulator.hashing import prompt_key
from simulator.program.instructions import Generate
from simulator.program.program import Program
from simulator.program.stations import MOST_USES, Eviction, Inference
from simulator.program.step_time import StepTime

Array = NDArray[Any]
Fields = dict[str, int | float]


def coefficients(step: StepTime) -> tuple[float, ...]:
    """The coefficients of a step's time, those of `step_seconds` in its order, and the floor."""
    return (
        step.overhead, step.weights, step.token, step.sequence, step.chunk, step.generated, step.mixed,
        step.mixed_sequence, step.longest, step.link, step.link_token, step.experts, step.expert_share, step.floor,
    )  # fmt: skip


def record(spec: Inference, capacity: float, first_coefficient: int) -> Fields:
    """A station's record, addresses left out; its memory has so many blocks."""
    return {
        "memory": spec.memory, "capacity": int(capacity), "block": spec.block, "sequences": spec.sequences,
        "tokens": spec.tokens, "part": spec.part, "prefix_caching": spec.prefix_caching, "priority": spec.priority,
        "static": spec.static, "ahead": spec.ahead, "chunked": spec.chunked,
        "levels": 1 + MOST_USES if spec.eviction is Eviction.LFU else 1, "coefficients": first_coefficient,
    }  # fmt: skip


def numbers_of(instruction: Generate, program: Program) -> tuple[int, ...]:
    """What an instruction says, in the order in which `stations.sequences` reads it."""
    prefix = (NONE, 1, 0)
    if instruction.prefix is not None:
        prefixes = program.prefixes[instruction.prefix]
        prefix = instruction.prefix, prefixes.tokens, prefixes.salt(instruction.shared, instruction.shared_key)
    return (
        2 * instruction.generating, instruction.prompt_register, instruction.output_register, instruction.usage,
        NONE if instruction.latency is None else instruction.latency, instruction.key_register, instruction.shared,
        as_signed(prompt_key(2 * instruction.shared_key)), int(instruction.begun), instruction.kept_register,
        *prefix,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class InferenceMemory:
    """The arrays of a station: tokens that run, tokens in the step, blocks, and the table of kept ones."""

    running: Array
    stepped: Array
    blocks: Array
    kept: Array
    lists: Array


def lay_out(record: Any) -> InferenceMemory:
    """Make a station's arrays, all blocks free, and write their addresses into its record."""
    count = int(record["capacity"])
    memory = InferenceMemory(
        running=np.zeros(int(record["sequences"]), np.int32),
        stepped=np.zeros(int(record["sequences"]), np.int32),
        blocks=np.zeros(count, layout.BLOCK),
        kept=np.full(1 << count.bit_length(), NONE, np.int32),
        lists=np.full(2 * int(record["levels"]), NONE, np.int32),
    )
    memory.blocks["before"] = np.arange(-1, count - 1)
    memory.blocks["after"] = np.arange(1, count + 1)
    memory.blocks["after"][-1:] = NONE
    record["free"] = count
    memory.lists[:2] = 0 if count else NONE, count - 1
    record["mask"] = len(memory.kept) - 1
    for name in ("running", "stepped", "blocks", "kept", "lists"):
        record[name] = getattr(memory, name).ctypes.data
    return memory
