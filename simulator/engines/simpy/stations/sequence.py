"""Sequences: prompts and the tokens that are generated after them, one for each token at an LLM serving engine."""

from __future__ import annotations

from simulator.engines.simpy.tokens import Token
from simulator.hashing import block_key, prefix_key, prompt_key
from simulator.program.instructions import NO_REGISTER, Generate
from simulator.program.program import Program


class Sequence:
    """A prompt and the tokens that are generated after it.

    `known` counts the tokens that there are, `computed` those of them whose keys and values are in `blocks`, `part`
    what the step under way adds to that; the first `keyed` blocks have been offered under their keys. No other sequence
    has what comes behind `kept` tokens. A recorded prompt has an id in `ids` for each `span` tokens behind those that
    are shared.
    """

    __slots__ = (
        "admitted", "blocks", "computed", "generated", "ids", "instruction", "kept", "keyed", "known", "last", "level",
        "output", "own_key", "part", "prompt", "salt", "shared_key", "span", "started", "token",
    )  # fmt: skip

    def __init__(self, token: Token, instruction: Generate, level: int, program: Program) -> None:
        frame = token.frame
        self.token = token
        self.instruction = instruction
        self.level = level
        self.prompt = max(frame[instruction.prompt_register], 1)
        self.output = max(frame[instruction.output_register], 1)
        self.generated = int(instruction.begun)
        self.known = self.prompt + self.generated
        self.computed = self.part = self.keyed = 0
        self.blocks: list[int] = []
        self.admitted = False
        self.started = self.last = 0.0
        self.shared_key = prompt_key(2 * instruction.shared_key)
        self.own_key = self.kept = 0
        self.ids: list[int] = []
        if instruction.prefix is not None:
            self._find_ids(program, instruction.prefix)
        elif instruction.key_register != NO_REGISTER:
            self.own_key = prompt_key(2 * frame[instruction.key_register] + 1)
            kept = instruction.kept_register
            self.kept = self.prompt + self.output if kept == NO_REGISTER else frame[kept]

    def _find_ids(self, program: Program, prefix: int) -> None:
        prefixes, shared = program.prefixes[prefix], self.instruction.shared
        self.ids = prefixes.of(self.token.request.number).tolist()
        self.span, self.salt = prefixes.tokens, prefixes.salt(shared, self.instruction.shared_key)
        self.kept = min(self.prompt, shared + len(self.ids) * self.span)

    @property
    def generates(self) -> bool:
        """Whether the next step brings another token, and not only a part of the prompt."""
        return self.generated > 0 and self.known - self.computed == 1

    def key(self, block: int, size: int) -> int | None:
        """The key of a block of the sequence; None where no other sequence can have it."""
        end, shared = (block + 1) * size, self.instruction.shared
        if end <= shared:
            return block_key(self.shared_key, block)
        if end > self.kept:
            return None
        if self.ids:
            return block_key(prefix_key(self.ids[(end - 1 - shared) // self.span], self.salt), block)
        return block_key(self.own_key, block)
