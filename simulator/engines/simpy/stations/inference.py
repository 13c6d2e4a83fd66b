"""LLM serving engines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from simulator.engines.simpy.stations.blocks import Blocks
from simulator.engines.simpy.stations.pool import PoolStation
from simulator.engines.simpy.stations.queue import Queue
from simulator.engines.simpy.stations.sequence import Sequence
from simulator.engines.simpy.stations.station import Station
from simulator.engines.simpy.tokens import Token
from simulator.program.instructions import Generate
from simulator.program.program import DOES_NOT_FIT
from simulator.program.stations import Discipline, Eviction, Inference

if TYPE_CHECKING:
    from simulator.engines.simpy.engine import Engine


class InferenceStation(Station):
    """`Inference`: `busy` counts the sequences that run, in the order of their priority and admission."""

    def __init__(self, engine: Engine, spec: Inference) -> None:
        super().__init__(engine)
        self.spec = spec
        memory = engine.stations[spec.memory]
        assert isinstance(memory, PoolStation)
        self.memory = memory
        self.blocks = Blocks(int(memory.capacity), spec.eviction is Eviction.LFU)
        self.queue = Queue(Discipline.PRIORITY if spec.priority else Discipline.FIFO)
        self.sequences: dict[Token, Sequence] = {}
        self.running: list[Sequence] = []
        self.stepped: list[Sequence] = []
        self.serving = False
        self.began = 0.0
        self.steps = self.preemptions = 0
        self.stepping = 0.0
        self.prompt_tokens = self.cached_tokens = self.computed_tokens = self.generated_tokens = 0

    def submit(self, token: Token, instruction: Generate, level: int) -> bool:
        """Queue for what the token's registers say; a sequence that has not room enough alone is turned away."""
        sequence = Sequence(token, instruction, level if self.spec.priority else 0, self.engine.program)
        now = self.account()
        self.arrivals += 1
        if self._blocks_for(sequence.prompt + sequence.output) > self.memory.capacity:
            return self.reject(token, DOES_NOT_FIT)
        token.at = self
        token.since = now
        token.component = instruction.component
        self.sequences[token] = sequence
        self.waiting += 1
        self.queue.push(token, sequence.level)
        if not self.serving:
            self._step(now)
        return False

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.spec.block)

    # A step: first those that run, in order, then those that wait.

    def _step(self, now: float) -> None:
        self.stepped = []
        admits = not (self.spec.static and self.running)
        apart = self.spec.apart
        left = self._continue(now, self.spec.tokens, True if apart else None)
        if admits and left is not None:
            self._admit(now, left)
        if apart and not self.stepped:
            self._continue(now, self.spec.tokens, False)
        if self.stepped:
            seconds = self._seconds()
            self.steps += 1
            self.serving = True
            self.began = now
            self.engine.after(seconds, self._complete, None)

    def _continue(self, now: float, budget: int, skipped: bool | None) -> int | None:
        """Give those that run their part of the tokens; returns what is left, None where one lost its blocks.

        Those that generate are left out where `skipped` is true, those that compute a prompt where it is false.
        """
        preempted, position, size = False, 0, self.spec.block
        while position < len(self.running) and budget:
            sequence = self.running[position]
            if skipped is not None and sequence.generates == skipped:
                position += 1
                continue
            if sequence.known - sequence.computed == 1 and sequence.computed % size:  # there is room in its last block
                sequence.part = 1
                self.stepped.append(sequence)
                if sequence.known % size == 0:
                    self._offer(sequence)
                budget -= 1
                position += 1
                continue
            part = min(sequence.known - sequence.computed, self.spec.part, budget)
            missing = self._blocks_for(sequence.computed + part) - len(sequence.blocks)
            if missing > self.blocks.free_count:
                preempted = True
                self._preempt(self.running.pop(), now)
                continue
            self._schedule(sequence, part, missing)
            budget -= part
            position += 1
        return None if preempted else budget

    def _preempt(self, sequence: Sequence, now: float) -> None:
        self.preemptions += 1
        self.busy -= 1
        self.waiting += 1
        self.delivered += now - sequence.started
        sequence.token.served(now)
        self._give_back(sequence)
        sequence.computed = sequence.keyed = 0
        self.queue.push_first(sequence.token, sequence.level)

    def _admit(self, now: float, budget: int) -> None:
        spec, begins = self.spec, len(self.stepped)
        planned = spec.ahead and bool(self.running)
        while self.waiting and len(self.running) < spec.sequences and budget:
            sequence = self.sequences[self.queue.head()]
            if planned and sequence.token.since > self.began:
                return
            found = self.blocks.found(self._keys(sequence))
            if self._blocks_for(sequence.known) - len(found) > self.blocks.left(found):
                return
            if not spec.chunked and len(self.stepped) > begins and sequence.known - len(found) * spec.block > budget:
                return
            self.queue.pop()
            self._start(sequence, found, now)
            part = sequence.known - sequence.computed
            part = min(part, spec.part, budget) if spec.chunked else part
            self._schedule(sequence, part, self._blocks_for(sequence.computed + part) - len(sequence.blocks))
            budget = max(budget - part, 0)

    def _keys(self, sequence: Sequence) -> Iterator[int]:
        """Keys of the blocks that the sequence may find: at least its last token is computed."""
        if not self.spec.prefix_caching:
            return
        for block in range((sequence.known - 1) // self.spec.block):
            key = sequence.key(block, self.spec.block)
            if key is None:
                return
            yield key

    def _start(self, sequence: Sequence, found: list[int], now: float) -> None:
        self.waiting -= 1
        self.busy += 1
        sequence.token.waited(now)
        sequence.started = now
        place = len(self.running)
        while place and self.running[place - 1].level > sequence.level:
            place -= 1
        self.running.insert(place, sequence)
        for block in found:
            self.blocks.use(block)
        sequence.blocks = found
        sequence.keyed = len(found)
        sequence.computed = len(found) * self.spec.block
        if not sequence.admitted:
            self._count_prompt(sequence)

    def _count_prompt(self, sequence: Sequence) -> None:
        sequence.admitted = True
        cached = min(sequence.computed, sequence.prompt)
        if sequence.instruction.begun:
            self._receive(sequence)
        self.prompt_tokens += sequence.prompt
        self.cached_tokens += cached
        meters, usage = sequence.token.request.meters, sequence.instruction.usage
        meters[usage] += sequence.prompt
        meters[usage + 1] += cached

    def _receive(self, sequence: Sequence) -> None:
        """Have the keys and values of the prompt, which were computed elsewhere."""
        for _ in range(self._blocks_for(sequence.prompt) - len(sequence.blocks)):
            sequence.blocks.append(self.blocks.take())
        sequence.computed = sequence.prompt

    def _schedule(self, sequence: Sequence, part: int, missing: int) -> None:
        for _ in range(missing):
            sequence.blocks.append(self.blocks.take())
        sequence.part = part
        self.stepped.append(sequence)
        self._offer(sequence)

    def _offer(self, sequence: Sequence) -> None:
        """Give the blocks that the step fills their keys."""
        if not self.spec.prefix_caching:
            return
        full = (sequence.computed + sequence.part) // self.spec.block
        for block in range(sequence.keyed, full):
            key = sequence.key(block, self.spec.block)
            if key is None:
                break
            self.blocks.keep(sequence.blocks[block], key)
        sequence.keyed = max(full, sequence.keyed)

    def _seconds(self) -> float:
        """The time of the step, and what it computes."""
        self._account_memory()
        step = self.spec.step
        tokens = generating = attended = longest = 0
        attention = 0.0
        for sequence in self.stepped:
            tokens += sequence.part
            context = sequence.computed + sequence.part
            if context > longest:
                longest = context
            if sequence.generates:
                generating += 1
                attended += context
            else:
                attention += step.prompt_attention(float(sequence.computed), float(sequence.part))
        self.computed_tokens += tokens - generating
        return step.seconds(float(tokens), float(generating), float(attended), float(longest), attention)

    def _account_memory(self) -> None:
        self.memory.account()
        self.memory.used = self.memory.capacity - self.blocks.free_count

    # The end of a step, of a sequence, or of a wait.

    def _complete(self, _: None) -> None:
        now = self.account()
        self.stepping += now - self.began
        self.serving = False
        for sequence in self.stepped:
            if self.sequences.get(sequence.token) is sequence:
                sequence.computed += sequence.part
                if sequence.computed == sequence.known:
                    self._generate(sequence, now)
        if self.running or self.waiting:
            self._step(now)

    def _generate(self, sequence: Sequence, now: float) -> None:
        """Have one more token."""
        self.generated_tokens += 1
        sequence.generated += 1
        sequence.known += 1
        latency = sequence.instruction.latency
        if sequence.generated > 1:
            if latency is not None:
                self._meter_gap(sequence, latency, now)
        else:
            if latency is not None:
                sequence.token.request.meters[latency] = now
            sequence.token.served(now)
            sequence.token.component = sequence.instruction.generating
            self.engine.unwinder.first_token(sequence.token)
        sequence.last = now
        if sequence.generated >= sequence.output:
            sequence.token.request.meters[sequence.instruction.usage + 2] += sequence.output
            self.completions += 1
            self._leave(sequence, now)
            self.engine.wake(sequence.token)

    @staticmethod
    def _meter_gap(sequence: Sequence, latency: int, now: float) -> None:
        """Count the time since the token before."""
        meters = sequence.token.request.meters
        gap = now - (sequence.last if sequence.last > 0.0 else meters[latency])
        meters[latency + 1] += gap
        meters[latency + 2] += 1.0
        if gap > meters[latency + 3]:
            meters[latency + 3] = gap

    def _leave(self, sequence: Sequence, now: float) -> None:
        self.running.remove(sequence)
        self.busy -= 1
        self.delivered += now - sequence.started
        sequence.token.served(now)
        sequence.token.at = None
        self._give_back(sequence)
        del self.sequences[sequence.token]

    def _give_back(self, sequence: Sequence) -> None:
        self.blocks.give_back(sequence.blocks)
        sequence.blocks = []
        self._account_memory()

    def withdraw(self, token: Token) -> None:
        """Leave the queue, or the step under way, which takes as long as before."""
        now = self.account()
        self.withdrawals += 1
        sequence = self.sequences[token]
        if sequence in self.running:
            self._leave(sequence, now)
            return
        self.queue.remove(token)
        self.waiting -= 1
        token.waited(now)
        token.at = None
        del self.sequences[token]

    def in_progress(self, now: float) -> float:
        """Seconds that the sequences which run now have run."""
        seconds = 0.0
        for sequence in self.running:  # not `sum`, which rounds otherwise from Python 3.12 on
            seconds += now - sequence.started
        return seconds

    def tokens_sample(self) -> tuple[float, ...]:
        """The station's tokens, see `simulator.records.INFERENCE_FIELDS`."""
        return (
            self.steps, self.stepping, self.prompt_tokens, self.cached_tokens, self.computed_tokens,
            self.generated_tokens, self.preemptions,
        )  # fmt: skip
