"""Prompts: what a step asks a language model, as registers of the request's frame and means for analysis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from simulator.program.instructions import NO_REGISTER, DrawInto, Revisit
from simulator.traces.formats import BLOCK_TOKENS
from simulator.traces.prefixes import PrefixNumbers

if TYPE_CHECKING:
    from simulator.model.distribution import CountDistribution
    from simulator.model.site import Site
    from simulator.program.builder import Builder

LATENCY_METERS = ("first token", "decode time", "decode tokens", "longest gap")
USAGE_METERS = ("prompt", "cached", "output")
PAID_METER = "usd"
WRONG_METER = "wrong answers"
GATEWAY_METERS = ("requests", "served", "limited")
"""Prompts that came to a gateway, that were answered, and rejections by a limit of its own."""
KEY_METER = "key"
"""Before the name of an API key: prompts that came with it, which are all of a request."""
BACKEND_METERS = ("asked", "fallbacks", "tries", "errors", "failures")
"""Before the name of a back end: prompts that were sent there, those of them after another one had failed; tries, those
that failed by themselves, and those that failed or timed out."""
AFFINITY_TOKENS = BLOCK_TOKENS
"""Tokens at the beginning of a recorded prompt that choose where it goes, by default."""
PREFILL = "prefill"
"""What the GPUs that only compute prompts are called, behind the name of their LLM."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Registers with the tokens of a prompt and of the answer, and of what other prompts may have in common with it.

    The first `shared` tokens are common to all prompts with the same `shared_key`; those behind them, up to the number
    in register `kept`, to all with the same key in register `key`. `cached` is the register with how many of the first
    tokens were in an earlier prompt of the conversation, where it is in one, and `conversation` that with its number,
    or that of a prompt that is asked again and again. Of a recorded prompt whose blocks have ids, `prefix` is the
    number of these in the Program; it takes the place of a key. It has come `through` the gateways of these names,
    which keep accounts by API key. Means and variances (tokens squared) are for analysis, which `revisit` tells how
    `mean_cached` comes about.
    """

    input: int
    output: int
    mean_input: float
    mean_output: float
    mean_cached: float = 0.0
    key: int = NO_REGISTER
    kept: int = NO_REGISTER
    shared: int = 0
    shared_key: int = 0
    cached: int = NO_REGISTER
    conversation: int = NO_REGISTER
    streamed: bool = True
    through: tuple[str, ...] = ()
    prefix: int | None = None
    revisit: Revisit | None = None
    variance_input: float = 0.0
    variance_output: float = 0.0

    def affinity(self, site: Site, tokens: int) -> int:
        """Emit what chooses where it always goes; the register with that, NO_REGISTER where nothing does.

        That is its key, or of a recorded prompt what it begins with: as many whole blocks as `tokens` are in.
        """
        if self.prefix is None:
            return self.key
        builder, register = site.builder, site.builder.register()
        prefixes = builder.prefixes[self.prefix]
        numbers = PrefixNumbers(prefixes, -(-tokens // prefixes.tokens))
        builder.emit(DrawInto(register, builder.draw(numbers, "affinity")))
        return register


class Tokens(NamedTuple):
    """A register with a number of tokens, its mean, and its variance (tokens squared)."""

    register: int
    mean: float
    variance: float


def drawn_tokens(site: Site, count: CountDistribution, purpose: str) -> Tokens:
    """Emit the drawing of a number of tokens."""
    builder, register = site.builder, site.builder.register()
    builder.emit(DrawInto(register, builder.draw(count.distribution(), purpose)))
    drawn = builder.bound(count.distribution())
    return Tokens(register, float(drawn.mean), float(drawn.variance))


class Endpoint(Protocol):
    """What can be asked to generate: GPUs, a provider, or a gateway to others."""

    def generate(self, site: Site, prompt: Prompt) -> None:
        """Emit the code that has a prompt answered."""


def usage_meters(builder: Builder, prompt: Prompt, resource: str, *more: str) -> int:
    """The first of the meters that count a prompt's tokens of a resource, and more behind them.

    Their names begin with the gateways that it has come through, `gateway/llms.model.output`.
    """
    account = "/".join([*prompt.through, resource])
    return builder.meters(*(f"{account}.{name}" for name in (*USAGE_METERS, *more)))


def count_up(builder: Builder, meter: str) -> None:
    """Emit the counting of one more by the meter of that name."""
    builder.count(builder.meters(meter))


def latency_meters(site: Site) -> int:
    """The first of the meters of what a user sees who reads along."""
    return site.builder.meters(*LATENCY_METERS)


Emit = Callable[[], None]
