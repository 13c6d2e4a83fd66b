"""Generating: prompts and answers of language models, alone, or turn by turn of a conversation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar
from zlib import crc32

from simulator.analytic.prefix_caches import most_found
from simulator.model.context import RESEND, Context
from simulator.model.conversation import Talk
from simulator.model.distribution import CountDistribution
from simulator.model.keys import KeyUse
from simulator.model.mcp import ToolResults
from simulator.model.part import WholeNumber
from simulator.model.prompt import Prompt, Tokens, drawn_tokens
from simulator.model.step import Place, StepPart
from simulator.program.builder import Builder
from simulator.program.instructions import NO_REGISTER, Calculate, Clear, Revisit
from simulator.program.instructions import Arithmetic as Do
from simulator.traces.column import TraceColumn
from simulator.traces.formats import BLOCK_TOKENS
from simulator.traces.prefixes import TracePrefixes

if TYPE_CHECKING:
    from simulator.model.site import Site


class GenerateStep(StepPart):
    """Have a language model answer a prompt."""

    verb: ClassVar[str] = "generate"
    references: ClassVar[dict[str, str]] = {"generate": "llms", "key": "keys"}

    generate: str
    """Name of the LLM."""
    system: WholeNumber = 0
    """Tokens of text that all prompts of this step begin with."""
    input: CountDistribution | None = None
    """Tokens that are new in every prompt; in a conversation those of the question where left out."""
    output: CountDistribution | None = None
    """Tokens of the answer; in a conversation that of the conversation where left out."""
    retrieved: CountDistribution | None = None
    """Tokens that are looked up for a prompt and come before what is new in it; no later prompt has them again."""
    key: KeyUse | None = None
    """Outside of a conversation: prompts with the same key are the same text."""
    prefix_hashes: bool = True
    """Outside of a conversation, where `input` is of a trace with the ids of its prompts' blocks (`hash_ids`) and there
    is neither `key` nor `retrieved`: prompts have in common what these say. Off, each prompt is a text of its own."""
    context: Context = RESEND
    """In a conversation: how much of what has been said goes into the prompt; `context: 4k` is short for its window."""
    streamed: bool = True
    """Whether a user reads along, so that the time to the first token is the user's."""

    @classmethod
    def operations(cls, step: dict[Any, Any]) -> Iterator[tuple[Place, Any]]:
        """Those that keep the conversation."""
        store = _inside(step, "context", "store")
        for field in ("fetch", "save"):
            yield ("context", "store", field), store.get(field)

    @classmethod
    def resources(cls, step: dict[Any, Any]) -> Iterator[tuple[Place, str, Any]]:
        """The LLM, the key, and the LLM that writes summaries."""
        yield from super().resources(step)
        yield ("context", "summary", "by"), "llms", _inside(step, "context", "summary").get("by")

    def lower(self, site: Site) -> None:
        """Registers with the prompt's tokens, its generation, and in a conversation what is remembered of it."""
        talk = site.lowering.talk
        with site.builder.within(f"generate {self.generate}"):
            if talk is None:
                site.resource("llms", self.generate).generate(site, self._alone(site))
                return
            new = self._new(site, talk)
            prompt = self._in(site, talk, new)
            site.resource("llms", self.generate).generate(site, prompt)
            self.context.remember(site, talk, new.register, prompt.output)

    def _alone(self, site: Site) -> Prompt:
        """A prompt that no conversation has led to."""
        assert self.input is not None
        assert self.output is not None
        key = NO_REGISTER if self.key is None else self.key.register(site, self.generate)
        tokens = self._tokens(site, drawn_tokens(site, self.input, "input"))
        output = drawn_tokens(site, self.output, "output")
        prefix, mean_found = self._prefix(site)
        results, kept = site.lowering.results, NO_REGISTER
        if results.register != NO_REGISTER:
            tokens, kept = self._with_results(site, tokens, results), tokens.register
        return Prompt(
            tokens.register, output.register, tokens.mean, output.mean, self.system + mean_found, key, kept,
            self.system, self._shared_key(site), conversation=key, streamed=self.streamed, prefix=prefix,
            variance_input=tokens.variance, variance_output=output.variance,
        )  # fmt: skip

    @staticmethod
    def _with_results(site: Site, tokens: Tokens, results: ToolResults) -> Tokens:
        """A prompt's tokens and what tools have answered, which stands behind them."""
        register = site.builder.register()
        site.builder.emit(Calculate(register, Do.ADD, tokens.register, results.register))
        return Tokens(register, tokens.mean + results.mean, tokens.variance + results.variance)

    def _prefix(self, site: Site) -> tuple[int | None, float]:
        """The number of the recorded prefixes of the prompts, and the mean tokens that one finds of those before it.

        That is with room for all, which is the most that there is to be found.
        """
        assert self.input is not None
        column = site.builder.bound(self.input.distribution())
        wanted = self.prefix_hashes and self.key is None and self.retrieved is None
        if not wanted or not isinstance(column, TraceColumn) or column.column != "input" or column.times is None:
            return None, 0.0
        tokens = int(BLOCK_TOKENS * column.each)
        if column.times.trace.block_ids is None or tokens < 1:
            return None, 0.0
        return site.builder.prefix(TracePrefixes(column.times, tokens)), most_found(column.times) * column.each

    def _new(self, site: Site, talk: Talk) -> Tokens:
        """What is new in the prompt of a turn.

        That is the question in the first prompt of a turn, and in others, where history has it, nothing; or the input.
        """
        asked, site.lowering.asked = site.lowering.asked, True
        if self.input is not None:
            return drawn_tokens(site, self.input, "input")
        if not asked:
            return Tokens(talk.question, talk.mean_question, talk.variance_question)
        nothing = site.builder.register()
        site.builder.emit(Clear(nothing))
        return Tokens(nothing, 0.0, 0.0)

    def _in(self, site: Site, talk: Talk, new: Tokens) -> Prompt:
        """A prompt of a turn."""
        builder = site.builder
        history, again, kept = self.context.prepare(site, talk, self.generate)
        mean_history = history.mean
        tokens = self._tokens(site, new)
        builder.emit(Calculate(tokens.register, Do.ADD, tokens.register, history.register))
        output = Tokens(talk.answer, talk.mean_answer, talk.variance_answer)
        if self.output is not None:
            output = drawn_tokens(site, self.output, "output")
        first = new.register == talk.question or self.input is not None
        again, mean_again = self._prompted(builder, again, talk), mean_history
        if not first:
            mean_history, mean_again = mean_history + talk.mean_question + talk.mean_results, mean_history
        earlier = builder.register()
        builder.emit(Calculate(earlier, Do.ADD, again, constant=self.system))
        if kept != NO_REGISTER:
            builder.emit(Calculate(kept, Do.ADD, kept, constant=self.system))
        left = mean_history + new.mean + output.mean
        if self.retrieved is not None:
            # What follows passages is not found again: the last question and answer are computed in the next turn.
            kept, mean_again, left = earlier, max(mean_history - new.mean - output.mean, 0.0), mean_history
        revisit = Revisit(mean_again, new.mean + output.mean, left, talk.again, talk.think) if first else None
        return Prompt(
            tokens.register, output.register, tokens.mean + mean_history, output.mean, mean_again + self.system,
            talk.key, kept, self.system, self._shared_key(site), earlier, talk.number, self.streamed, revisit=revisit,
            variance_input=tokens.variance + history.variance, variance_output=output.variance,
        )  # fmt: skip

    @staticmethod
    def _prompted(builder: Builder, again: int, talk: Talk) -> int:
        """The register with the tokens that were in a prompt before: not those that tools have answered since."""
        if not talk.mean_results:
            return again
        register = builder.register()
        builder.emit(Calculate(register, Do.SUBTRACT, again, talk.results))
        builder.emit(Calculate(register, Do.MOST, register, constant=0))
        return register

    def _tokens(self, site: Site, new: Tokens) -> Tokens:
        """The tokens of the system's text, of what is retrieved and what is new."""
        builder, register = site.builder, site.builder.register()
        builder.emit(Calculate(register, Do.ADD, new.register, constant=self.system))
        if self.retrieved is None:
            return Tokens(register, new.mean + self.system, new.variance)
        retrieved = drawn_tokens(site, self.retrieved, "retrieved")
        builder.emit(Calculate(register, Do.ADD, register, retrieved.register))
        return Tokens(register, new.mean + self.system + retrieved.mean, new.variance + retrieved.variance)

    def _shared_key(self, site: Site) -> int:
        """What tells the system's text of this step from others."""
        return crc32(f"{site.deployment.name} {self.generate} {self.system}".encode())


def _inside(step: dict[Any, Any], *path: str) -> dict[Any, Any]:
    """A mapping in a step as written; an empty one where there is something else."""
    found: Any = step
    for field in path:
        found = found.get(field) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}
