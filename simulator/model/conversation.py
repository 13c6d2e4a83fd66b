"""Conversations: users who ask, read the answer, think, and ask again, so that prompts grow with what has been said.

A request of such a workload is a whole conversation. Each of its turns is a message, reported as
`messages.<workload>.turns`, with the latency, the time to the first token and all that a user sees of one turn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pydantic import model_validator

from simulator.distributions import Distribution
from simulator.model.distribution import CountDistribution, DurationDistribution
from simulator.model.mcp import mean_results_of
from simulator.model.part import Part
from simulator.program.instructions import Arithmetic as Do
from simulator.program.instructions import (
    Calculate,
    Delay,
    DrawInto,
    End,
    IfAtLeast,
    Jump,
    NumberInto,
    Publish,
)

if TYPE_CHECKING:
    from simulator.model.lowering import Lowering

MOST_CONVERSATIONS = 2**31 - 1  # of a workload, which are told apart


@dataclass(frozen=True, slots=True)
class Talk:
    """Registers of a conversation under way: its number, the key of what has been said, the tokens of that, and those
    of this turn, and those that tools have answered since the last prompt; their means (of tools those of a turn) and
    variances, the share of turns that another one follows, and the time until then."""

    number: int
    key: int
    history: int
    question: int
    answer: int
    results: int
    mean_history: float
    mean_question: float
    mean_answer: float
    mean_results: float
    variance_history: float
    variance_question: float
    variance_answer: float
    again: float
    think: Distribution


class Conversation(Part):
    """How users converse. LMSYS-Chat-1M has 2.0 turns of 69.5 tokens a prompt and 214.5 a response on average (Zheng et
    al., ICLR 2024)."""

    turns: CountDistribution
    """Turns of a conversation; a drawn number is rounded."""
    think: DurationDistribution = DurationDistribution(constant=0.0)
    """Time of a user between an answer and the next question."""
    question: CountDistribution
    """Tokens that a user writes in a turn."""
    answer: CountDistribution
    """Tokens that are generated for the user in a turn."""

    @model_validator(mode="after")
    def _has_turns(self) -> Self:
        if self.turns.distribution().mean <= 0.0:
            raise ValueError("turns: got 0 of them, expected at least one turn on average")
        return self

    def mean_history(self, results: float = 0.0) -> float:
        """Mean tokens that have been said before a turn, over all turns: E[T(T - 1)] / (2 E[T]) earlier ones.

        In each of these tools have answered with `results` tokens.
        """
        return self._earlier()[0] * (self.question.distribution().mean + self.answer.distribution().mean + results)

    def variance_history(self, results: float = 0.0) -> float:
        """Variance (tokens squared) of the same, a sum of a random number of turns; what tools answer is constant."""
        question, answer = self.question.distribution(), self.answer.distribution()
        mean, variance = self._earlier()
        turn = question.mean + answer.mean + results
        return float(mean * (question.variance + answer.variance) + variance * turn * turn)

    def _earlier(self) -> tuple[float, float]:
        """Mean and variance of how many turns there were before a turn, over all turns.

        The mean square is E[T(T - 1)(2T - 1)] / (6 E[T]), T taken for log-normal.
        """
        turns = self.turns.distribution()
        mean, square = turns.mean, turns.variance + turns.mean * turns.mean
        cube = (square / mean) ** 3
        earlier = max((square - mean) / (2.0 * mean), 0.0)
        return earlier, max((2.0 * cube - 3.0 * square + mean) / (6.0 * mean) - earlier * earlier, 0.0)

    def lower(self, lowering: Lowering, name: str, operation: str, ask: Callable[[], None]) -> None:
        """A loop over the turns, each of which is a message that the conversation waits for."""
        builder = lowering.builder
        number, key, turn, history, question, answer, results = (builder.register() for _ in range(7))
        mean_results = mean_results_of(lowering.system, operation)
        builder.emit(NumberInto(number, MOST_CONVERSATIONS))
        builder.emit(Calculate(key, Do.ADD, number, constant=0))
        talk = Talk(
            number, key, history, question, answer, results, self.mean_history(mean_results),
            self.question.distribution().mean, self.answer.distribution().mean, mean_results,
            self.variance_history(mean_results),
            self.question.distribution().variance, self.answer.distribution().variance,
            1.0 - 1.0 / max(self.turns.distribution().mean, 1.0),
            self.think.distribution(),
        )  # fmt: skip
        with builder.repeat(self.turns.distribution()):
            self._think(lowering, turn)
            builder.emit(Calculate(turn, Do.ADD, turn, constant=1))
            builder.emit(DrawInto(question, builder.draw(self.question.distribution(), "question")))
            builder.emit(DrawInto(answer, builder.draw(self.answer.distribution(), "answer")))
            self._ask(lowering, name, operation, talk, ask)

    def _think(self, lowering: Lowering, turn: int) -> None:
        """Before all turns but the first."""
        builder = lowering.builder
        think, begin = builder.label(), builder.label()
        turns = max(self.turns.distribution().mean, 1.0)
        builder.emit(IfAtLeast(turn, 1, think, share=1.0 - 1.0 / turns))
        builder.emit(Jump(begin))
        builder.mark(think)
        builder.emit(Delay(builder.component("think"), builder.draw(self.think.distribution(), "think")))
        builder.mark(begin)

    @staticmethod
    def _ask(lowering: Lowering, name: str, operation: str, talk: Talk, ask: Callable[[], None]) -> None:
        builder = lowering.builder
        message, done = builder.label(), builder.label()
        counter, waiting = builder.counter(), builder.component("turns")
        with builder.messages(f"messages.{name}.turns", operation) as stream, lowering.conversing(talk):
            builder.emit(Publish(message, counter, stream, waiting))
            builder.emit(Jump(done))
            builder.mark(message)
            ask()
            builder.emit(End())
        builder.mark(done)
