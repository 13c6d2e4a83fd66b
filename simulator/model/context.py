"""Context: what of a conversation goes into the next prompt, and where it is kept in between.

    resend          everything that has been said, every time; engines that keep keys and values of earlier prompts
                    (`prefix_caching`) compute only what is new, where the turn comes to the same replica
    window          the last so many tokens of it; once something is cut off, the rest begins differently every time,
                    and nothing behind the system's text is found again
    summary         once it is longer than `above`, a language model reads it, and nothing else, and writes a summary
                    of `to` tokens in its place
    store           it is kept outside (a session store, a database): fetched before and saved after every turn

The Model Context Protocol (MCP), through which models reach tools and resources, keeps no conversation, shares no keys
and values and summarises nothing: what its servers take and add is said with the steps of an operation, a `call` of
the tool and its answer's tokens in `retrieved`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import model_validator

from simulator.distributions import Constant
from simulator.model.part import Count, Factor, Part, WholeNumber
from simulator.model.prompt import Prompt, Tokens
from simulator.program.instructions import NO_REGISTER, Calculate, Clear, DrawInto, HandBack, IfAtLeast, Jump
from simulator.program.instructions import Arithmetic as Do

if TYPE_CHECKING:
    from simulator.model.conversation import Talk
    from simulator.model.site import Site

MOST_TOKENS = 1 << 29
"""More than any prompt has."""
EPOCH = 1 << 40
"""What is added to a conversation's key when what has been said is replaced; keys of conversations are below it."""


class Summary(Part):
    """What has been said is replaced by a summary when it is long."""

    above: Count
    """Tokens of history from which it is summarised, before the turn that finds it so long."""
    to: Count
    """Tokens of the summary."""
    by: str | None = None
    """Name of the LLM that writes it; the one that answers where left out."""

    @model_validator(mode="after")
    def _is_shorter(self) -> Self:
        if self.to >= self.above:
            raise ValueError(f"to: got {self.to} tokens, expected fewer than the {self.above} from which it is written")
        return self


class ContextStore(Part):
    """Where a conversation is kept between turns."""

    fetch: str
    """`service.operation` that is called before a turn; its response carries what has been said."""
    save: str
    """`service.operation` that is called after a turn; its request carries what has been said."""
    bytes_per_token: Factor = 4.5
    """Bytes of a token as text. English has about 4 characters a token (platform.openai.com/tokenizer), and JSON adds
    roles and quotes: 4 to 6."""


class Context(Part):
    """How much of a conversation goes into a prompt, and where it is kept."""

    bare: ClassVar[str | None] = "window"

    window: WholeNumber | None = None
    """Tokens of history that go into a prompt at most; all of it where left out."""
    summary: Summary | None = None
    """Replace a long history by a summary."""
    store: ContextStore | None = None
    """Keep the history outside of the engine."""

    def prepare(self, site: Site, talk: Talk, generate: str) -> tuple[Tokens, int, int]:
        """Emit what comes before the prompt; its tokens of history, and registers with those that were in the prompt
        before, and with those that later prompts have in common with it (NO_REGISTER: all).
        """
        if self.store is not None:
            self._move(site, talk, self.store, fetches=True)
        if self.summary is not None:
            self._summarise(site, talk, self.summary, generate)
        if self.window is None:
            most = math.inf if self.summary is None else float(self.summary.above)
            return self._at_most(talk, talk.history, most), talk.history, NO_REGISTER
        tokens, again, kept = self._cut(site, talk, self.window)
        return self._at_most(talk, tokens, float(self.window)), again, kept

    @staticmethod
    def _at_most(talk: Talk, register: int, most: float) -> Tokens:
        """The register with history that is cut off, which is taken to vary less as its mean is less."""
        mean = min(talk.mean_history, most)
        share = mean / talk.mean_history if talk.mean_history else 0.0
        return Tokens(register, mean, share * share * talk.variance_history)

    def remember(self, site: Site, talk: Talk, new: int, output: int) -> None:
        """Emit what comes after the answer: it and what was new in the prompt become history, which is saved; what
        tools have answered was in this prompt."""
        builder = site.builder
        builder.emit(Calculate(talk.history, Do.ADD, talk.history, new))
        builder.emit(Calculate(talk.history, Do.ADD, talk.history, output))
        builder.emit(HandBack(talk.history))
        builder.emit(HandBack(talk.key))
        if self.store is not None:
            self._move(site, talk, self.store, fetches=False)
        if talk.mean_results:
            builder.emit(Clear(talk.results))
            builder.emit(HandBack(talk.results))

    @staticmethod
    def _cut(site: Site, talk: Talk, window: int) -> tuple[int, int, int]:
        """The last tokens of the history, of which none comes again where any is cut off."""
        builder = site.builder
        tokens, again, kept = (builder.register() for _ in range(3))
        long, done = builder.label(), builder.label()
        builder.emit(Calculate(tokens, Do.LEAST, talk.history, constant=window))
        builder.emit(IfAtLeast(talk.history, window + 1, long))
        builder.emit(Calculate(again, Do.LEAST, talk.history, constant=window))
        builder.emit(Calculate(kept, Do.MOST, talk.history, constant=MOST_TOKENS))
        builder.emit(Jump(done))
        builder.mark(long)
        builder.emit(Clear(again))
        builder.emit(Clear(kept))
        builder.mark(done)
        return tokens, again, kept

    @staticmethod
    def _summarise(site: Site, talk: Talk, summary: Summary, generate: str) -> None:
        builder = site.builder
        long, done, words = builder.label(), builder.label(), builder.register()
        turn = talk.mean_question + talk.mean_answer
        share = min(turn / max(summary.above - summary.to, turn), 1.0) if talk.mean_history > summary.above else 0.0
        builder.emit(IfAtLeast(talk.history, summary.above, long, share))
        builder.emit(Jump(done))
        builder.mark(long)
        builder.emit(DrawInto(words, builder.draw(Constant(float(summary.to)), "summary")))
        with builder.within("summary"):
            site.resource("llms", summary.by or generate).generate(
                site,
                Prompt(talk.history, words, float(summary.above), float(summary.to), key=talk.key, streamed=False),
            )
        builder.emit(Calculate(talk.history, Do.LEAST, words, words))
        builder.emit(Calculate(talk.key, Do.ADD, talk.key, constant=EPOCH))
        builder.mark(done)

    @staticmethod
    def _move(site: Site, talk: Talk, store: ContextStore, fetches: bool) -> None:
        size = site.builder.times_register(Constant(store.bytes_per_token), talk.history, talk.mean_history, "history")
        if fetches:
            site.lowering.call(store.fetch, site, response=size)
        else:
            site.lowering.call(store.save, site, request=size)


RESEND = Context()
