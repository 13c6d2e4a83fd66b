"""Language models of providers, which are known by their latency, their limits and their prices.

    provider:
      first_token: {lognormal: {p50: 500 ms, p99: 2 s}}
      per_token: 12 ms
      input_price: 0.15
      output_price: 0.6

With `cached_price` the provider keeps prompts for a while and asks less for what a later prompt of the same
conversation has in common with them, from `cache_from` tokens on. OpenAI does so from 1,024 tokens in steps of 128, for
10 to 50 % of the price (cookbook, Prompt Caching 201); Anthropic asks 10 % for reading and 125 % for writing what is
kept for 5 minutes (portkey.ai/docs).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Self

from pydantic import model_validator

from simulator.distributions import Constant
from simulator.model.api_keys import limit_bucket, take_prompt, take_requests
from simulator.model.distribution import DurationDistribution
from simulator.model.part import Amount, Count, Part, PositiveDuration, PositiveRate, Share, WholeNumber
from simulator.model.prompt import PAID_METER, USAGE_METERS, Prompt, latency_meters, usage_meters
from simulator.model.stores import look_up
from simulator.program.builder import Builder
from simulator.program.instructions import (
    NO_REGISTER,
    Calculate,
    Clear,
    Delay,
    DrawInto,
    Fail,
    FirstToken,
    GroupInto,
    IfAtLeast,
    Insert,
    Jump,
    Meter,
    Place,
)
from simulator.program.instructions import Arithmetic as Do
from simulator.program.stations import Store

if TYPE_CHECKING:
    from simulator.model.lowering import Lowering
    from simulator.model.site import Site

MILLION = 1e6
MOST_CACHED = 1_000_000


class Provider(Part):
    """A language model that somebody else serves."""

    first_token: DurationDistribution
    """Time to the first token, as measured from where the caller is."""
    per_token: DurationDistribution = DurationDistribution(constant=0.0)
    """Time of a token after the first, drawn once for an answer; 5 to 50 ms are usual."""
    per_input_token: DurationDistribution = DurationDistribution(constant=0.0)
    """Time that a token of the prompt adds to the first token, unless it is cached; 0.05 to 0.5 ms."""
    failures: Share = 0.0
    """Share of the requests that fail at once with `provider failure`."""
    requests_rate: PositiveRate | None = None
    """Requests that are let through, such as `500 RPM`; unlimited where left out."""
    tokens_rate: PositiveRate | None = None
    """Tokens of prompts and answers that are let through, such as `200k TPM`; unlimited where left out."""
    when_limited: Literal["reject", "wait"] = "reject"
    """What happens to a request over the limits: it fails with `rate limited` (HTTP 429), or the client waits."""
    input_price: Amount = 0.0
    """USD for a million tokens of prompts."""
    output_price: Amount = 0.0
    """USD for a million tokens of answers."""
    cached_price: Amount | None = None
    """USD for a million tokens of a prompt that the provider has kept; it keeps none where left out."""
    cache_write_price: Amount | None = None
    """USD for a million tokens of a prompt that are newly kept; the input price where left out."""
    cache_from: WholeNumber = 1024
    """Tokens that a prompt must have in common with an earlier one."""
    cache_step: Count = 128
    """What is in common counts in whole steps of so many tokens."""
    cache_time: PositiveDuration = 300.0
    """How long a prompt is kept after its last use."""

    @model_validator(mode="after")
    def _writes_what_it_reads(self) -> Self:
        if self.cache_write_price is not None and self.cached_price is None:
            raise ValueError("a cache_write_price without a cached_price, expected both")
        return self

    def lower(self, lowering: Lowering, name: str) -> ProviderEndpoint:
        """Its limits, and the prompts that it keeps."""
        builder, resource = lowering.builder, f"llms.{name}"
        waits = self.when_limited == "wait"
        buckets = [
            builder.station(replace(limit_bucket(f"{resource}.{what}_limit", rate), waits=waits))
            for what, rate in (("requests", self.requests_rate), ("tokens", self.tokens_rate))
            if rate is not None
        ]
        kept = None
        if self.cached_price is not None:
            kept = Place((builder.station(Store(f"{resource}.cache", MOST_CACHED, time_to_live=self.cache_time)),))
        requests = Place((buckets[0],)) if self.requests_rate is not None else None
        tokens = Place((buckets[-1],)) if self.tokens_rate is not None else None
        return ProviderEndpoint(name, self, requests, tokens, kept)


@dataclass(frozen=True, slots=True)
class ProviderEndpoint:
    """A provider's model, with the buckets of its limits and the prompts that it keeps."""

    name: str
    provider: Provider
    requests: Place | None
    tokens: Place | None
    kept: Place | None

    def generate(self, site: Site, prompt: Prompt) -> None:
        """Its limits, its failures, its price, the time to the first token and that of the others.

        What is asked for is paid, also where nobody waits for the answer any more.
        """
        builder = site.builder
        self._limit(builder, prompt)
        self._fail(builder)
        cached = self._cached(builder, prompt)
        self._pay(builder, prompt, cached)
        self._answer(site, prompt, cached)

    def _limit(self, builder: Builder, prompt: Prompt) -> None:
        component = builder.component(f"{self.name}.limits")
        if self.requests is not None:
            take_requests(builder, self.requests, component)
        if self.tokens is not None:
            take_prompt(builder, self.tokens, component, prompt)

    def _fail(self, builder: Builder) -> None:
        failures = self.provider.failures
        if failures <= 0.0:
            return
        with builder.choice((failures, 1.0 - failures)) as (fails, works):
            builder.mark(fails)
            builder.emit(Fail(builder.reason("provider failure")))
            builder.mark(works)

    def _cached(self, builder: Builder, prompt: Prompt) -> int:
        """The register with the tokens that the provider has kept; NO_REGISTER where it keeps none."""
        if self.kept is None or prompt.conversation == NO_REGISTER:
            return NO_REGISTER
        provider, place, conversation = self.provider, self.kept, prompt.conversation
        common = prompt.input if prompt.cached == NO_REGISTER else prompt.cached
        steps, tokens = builder.register(), builder.register()
        enough, done = builder.label(), builder.label()

        def hit() -> None:
            builder.emit(Insert(place, conversation))
            builder.emit(IfAtLeast(common, max(provider.cache_from, 1), enough, share=1.0))
            builder.emit(Jump(done))
            builder.mark(enough)
            builder.emit(GroupInto(steps, common, provider.cache_step))
            builder.mark(done)

        builder.emit(Clear(steps))
        look_up(builder, place, conversation, lambda: None, hit)
        whole = builder.times_register(Constant(float(provider.cache_step)), steps, 1.0, "cached")
        builder.emit(DrawInto(tokens, whole))
        return tokens

    def _answer(self, site: Site, prompt: Prompt, cached: int) -> None:
        builder, provider = site.builder, self.provider
        first, others = (builder.component(f"{self.name}.{part}") for part in ("first token", "decode"))
        builder.emit(Delay(first, builder.draw(provider.first_token.distribution(), "first token")))
        per_input = provider.per_input_token.distribution()
        if per_input.mean > 0.0:
            new, mean = self._new_tokens(builder, prompt, cached)
            builder.emit(Delay(first, builder.times_register(per_input, new, mean, "input")))
        if prompt.streamed:
            builder.emit(FirstToken())
        after = builder.register()
        builder.emit(Calculate(after, Do.ADD, prompt.output, constant=-1))
        builder.emit(Calculate(after, Do.MOST, after, constant=0))
        mean_after = max(prompt.mean_output - 1.0, 0.0)
        time = builder.times_register(provider.per_token.distribution(), after, mean_after, "token")
        if prompt.streamed:
            meters = latency_meters(site)
            builder.emit(Meter(meters))
            builder.emit(Meter(meters + 1, builder.scaled(time, 1.0)))
            count = builder.times_register(Constant(1.0), after, mean_after, "tokens")
            builder.emit(Meter(meters + 2, count))
        builder.emit(Delay(others, time))

    @staticmethod
    def _new_tokens(builder: Builder, prompt: Prompt, cached: int) -> tuple[int, float]:
        """The register with the tokens that are not cached, and their mean."""
        if cached == NO_REGISTER:
            return prompt.input, prompt.mean_input
        new = builder.register()
        builder.emit(Calculate(new, Do.SUBTRACT, prompt.input, cached))
        return new, max(prompt.mean_input - prompt.mean_cached, 1.0)

    def _pay(self, builder: Builder, prompt: Prompt, cached: int) -> None:
        """Count the tokens, and what they cost."""
        provider = self.provider
        usage = usage_meters(builder, prompt, f"llms.{self.name}", PAID_METER)
        paid = usage + len(USAGE_METERS)
        new, mean = self._new_tokens(builder, prompt, cached)
        written = provider.input_price
        if cached != NO_REGISTER:
            self._add(builder, (usage, usage + 1), cached, prompt.mean_cached)
            self._add(builder, (paid,), cached, prompt.mean_cached, (provider.cached_price or 0.0) / MILLION)
            if provider.cache_write_price is not None:
                written = provider.cache_write_price
        self._add(builder, (usage,), new, mean)
        self._add(builder, (usage + 2,), prompt.output, prompt.mean_output)
        self._add(builder, (paid,), new, mean, written / MILLION)
        self._add(builder, (paid,), prompt.output, prompt.mean_output, provider.output_price / MILLION)

    @staticmethod
    def _add(builder: Builder, meters: tuple[int, ...], register: int, mean: float, factor: float = 1.0) -> None:
        """Add a register, times a factor, to meters."""
        if factor:
            amount = builder.times_register(Constant(factor), register, mean, "tokens")
            for meter in meters:
                builder.emit(Meter(meter, amount))
