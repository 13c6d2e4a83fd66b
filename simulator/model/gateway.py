"""Gateways to language models: one address for several back ends, with limits, a cache, and what to do when one fails.

    gateway: {host: edge, cpu: 0.4 ms, backends: {own: {timeout: 20 s}, openai: {}}, routing: fallback}

A gateway is a program on a host: a prompt takes its CPU, for the translation from one interface to another among other
things, waits for its workers where they are limited, and uses its memory. Measured overheads are far apart: 0.4 ms for
a gateway written in Rust at 10,000 requests/s on 4 cores, 5 ms for one in Python at 100/s, which fails at 1,000/s
(tensorzero.com/docs, benchmarks, 2025-07); all of them are vendors' figures against models that answer at once.

On the way of a prompt: the rate limits, the workers, authentication, `cpu`, the limits of tokens, the cache, and the
back end that `routing` chooses, each with a time-out, retries, breaker and hedging of its own; where that fails, those
in `fallback`, in order. A `timeout` is on the whole answer, also where a user reads along, so it has to leave time for
the longest one: what is cut off is asked again of the next back end. A `first_token_timeout` need not, for it stops at
the first token that is streamed. To ask one back end and others only where that fails, name them all in order with
`routing: fallback`; to share prompts out by weight and keep one back end for those that fail, give it `weight: 0` and
name it in `fallback`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from simulator.distributions import Constant
from simulator.model.api_keys import ApiKey, ApiKeys, TokenLimit, limit_bucket, take_prompt, take_requests
from simulator.model.distribution import DurationDistribution
from simulator.model.guard import Bulkhead, Guard, Watch
from simulator.model.memory import ServiceMemory
from simulator.model.part import Amount, Count, Instances, Part, PositiveDuration, Share, Weight
from simulator.model.prompt import (
    AFFINITY_TOKENS,
    BACKEND_METERS,
    GATEWAY_METERS,
    WRONG_METER,
    Endpoint,
    Prompt,
    count_up,
    latency_meters,
)
from simulator.model.site import Deployment, Site
from simulator.model.stores import hit_by_chance, look_up, warm_store
from simulator.program.builder import Builder
from simulator.program.instructions import (
    NO_REGISTER,
    Acquire,
    Clear,
    EndScope,
    Fail,
    HashInto,
    Jump,
    Meter,
    Place,
    Release,
    Scope,
    Switch,
)
from simulator.program.program import TIMEOUT, Balancer, Policy
from simulator.program.stations import Eviction, Pool

if TYPE_CHECKING:
    from simulator.model.lowering import Lowering

UNLIMITED = float("inf")


class Backend(Guard):
    """One of the language models behind a gateway, and how a request to it is guarded."""

    weight: Weight = 1.0
    """Its share of the prompts, relative to the others, for `routing: weighted`. With 0 no routing chooses it: it is
    only asked as one of `fallback`."""
    first_token_timeout: PositiveDuration | None = None
    """How long one try may take to the first token, where a user reads along; LiteLLM's `stream_timeout`, and what the
    idle time-out of a try comes to in Envoy before anything is streamed."""

    @model_validator(mode="after")
    def _first_comes_first(self) -> Self:
        first, whole = self.first_token_timeout, self.timeout
        if first is not None and whole is not None and first >= whole:
            raise ValueError(f"first_token_timeout: got {first:g} s, expected less than the timeout of {whole:g} s")
        return self

    @contextmanager
    def begun(self, builder: Builder) -> Iterator[None]:
        """Fail with a time-out where there is no first token in time."""
        if self.first_token_timeout is None:
            yield
            return
        late, done = builder.label(), builder.label()
        timeout = builder.draw(Constant(self.first_token_timeout), "first token timeout")
        builder.emit(Scope(late, timeout, TIMEOUT, until_first_token=True))
        yield
        builder.emit(EndScope())
        builder.emit(Jump(done))
        builder.mark(late)
        builder.emit(Fail())
        builder.mark(done)

    def for_prompt(self, prompt: Prompt) -> Backend:
        """As it treats a prompt: where nobody reads along, nobody sees a first token."""
        return self if prompt.streamed else self.model_copy(update={"first_token_timeout": None})


class ResponseCache(Part):
    """Answers that are kept: of the same prompt (`key` of the generate step), or of one that means nearly the same.

    Prompts of a conversation are all different, and are not looked up.
    """

    entries: Count
    """Answers that it holds."""
    time_to_live: PositiveDuration | None = None
    """Age at which an answer no longer counts."""
    similar: Share = 0.0
    """Share of the prompts not found that a semantic cache answers with that of a similar one."""
    wrong: Share = 0.0
    """Share of those answers that are wrong, for the threshold of similarity is low."""
    embedding: DurationDistribution = DurationDistribution(constant=0.0)
    """Core time of computing what a prompt means, where the semantic cache is asked."""


class Gateway(Part):
    """A gateway to language models."""

    host: str
    """Name of the hosts that it runs on."""
    replicas: Instances | None = None
    """As many as there are instances of the host where left out."""
    workers: Count | None = None
    """Prompts that a replica has under way at a time; unlimited where left out, as in an event loop."""
    cpu: DurationDistribution = DurationDistribution(constant="0.4 ms")
    """Core time of a prompt on its way there and back; 0.1 to 1 ms in Go or Rust, 5 to 15 ms in Python."""
    memory: ServiceMemory | None = None
    """What it holds of its host's memory."""
    authentication: DurationDistribution = DurationDistribution(constant=0.0)
    """Core time of checking who asks; 20 to 200 µs for the signature of a token."""
    concurrency_limit: Bulkhead | None = None
    """Prompts that a replica has inside at a time."""
    bytes_per_token: Amount = 4.5
    """Bytes of a token on the way, which use the NICs of hosts that have one."""
    limit: TokenLimit | None = None
    """What each of many customers may use."""
    keys: dict[str, ApiKey] = Field(default_factory=dict)
    """API keys by name, with their teams and their limits; results have an account of each."""
    cache: ResponseCache | None = None
    """Answers that are kept."""
    backends: dict[str, Backend] = Field(min_length=1)
    """Names of LLMs, with how requests to them are guarded."""
    routing: Literal["weighted", "round_robin", "least_outstanding", "affinity", "fallback"] = "weighted"
    """Which back end a prompt goes to: by weight, in turn, to the one with the fewest prompts, always the same for a
    conversation (or `key`, or recorded prompts that begin alike), or the first, and the others in order where that
    fails."""
    affinity_tokens: Count = AFFINITY_TOKENS
    """How many of their first tokens recorded prompts have to have in common for `affinity`, in whole blocks of 512."""
    fallback: list[str] = Field(default_factory=list)
    """Names of back ends that are asked in turn where the one that was chosen by weight or so fails."""

    @model_validator(mode="after")
    def _falls_back_to_what_there_is(self) -> Self:
        for name in self.fallback:
            if name not in self.backends:
                raise ValueError(f"fallback: got {name!r}, expected one of the backends {', '.join(self.backends)}")
        for key, spec in self.keys.items():
            for name in spec.backends:
                if name not in self.backends:
                    known = ", ".join(self.backends)
                    raise ValueError(f"keys.{key}.backends: got {name!r}, expected one of the backends {known}")
        if not self.chosen:
            raise ValueError("backends: got weight 0 of all of them, expected one above 0")
        if self.routing == "fallback" and self.fallback:
            raise ValueError(
                "got a list of fallbacks with routing: fallback, expected none: it has all backends in order"
            )
        return self

    @property
    def chosen(self) -> list[str]:
        """The back ends that a prompt may go to at first: those with a weight, or where `fallback` orders them, all."""
        ordered = self.routing == "fallback"
        return [name for name, backend in self.backends.items() if ordered or backend.weight > 0.0]

    def lower(self, lowering: Lowering, name: str) -> GatewayEndpoint:
        """The program that it is, and what it keeps; the back ends are looked up when they are asked."""
        from simulator.model.service import Service  # which is made of steps, as these are

        builder, resource = lowering.builder, f"llms.{name}"
        service = Service(
            host=self.host, replicas=self.replicas, workers=self.workers, memory=self.memory,
            concurrency_limit=self.concurrency_limit, operations={"generate": []},
        )  # fmt: skip
        pools = {each: builder.station(Pool(f"{resource}.{each}.requests", UNLIMITED)) for each in self.backends}
        least = Policy.LEAST_OUTSTANDING if self.routing == "least_outstanding" else Policy.ROUND_ROBIN
        cache = None
        if self.cache is not None:
            cache = warm_store(lowering, f"{resource}.cache", self.cache.entries, Eviction.LRU, self.cache.time_to_live)
        return GatewayEndpoint(
            name, self, service.lower(lowering, name), pools,
            builder.balancer(Balancer(least, tuple(pools[each] for each in self.chosen))),
            None if cache is None else Place((cache,)), self._buckets(lowering, resource),
            ApiKeys.lower(builder, name, self.keys) if self.keys else None,
        )  # fmt: skip

    def _buckets(self, lowering: Lowering, resource: str) -> dict[str, Place]:
        """Those that limit requests and tokens of each key."""
        if self.limit is None:
            return {}
        keys = max(lowering.keys.distribution(self.limit.key).count, 2)
        return {
            what: Place((lowering.builder.station(limit_bucket(f"{resource}.customers.{what}_limit", rate, keys)),))
            for what, rate in (("requests", self.limit.requests), ("tokens", self.limit.tokens))
            if rate is not None
        }


@dataclass(frozen=True, slots=True)
class Routing:
    """The one step of a gateway's operation: what is done for a prompt."""

    endpoint: GatewayEndpoint
    prompt: Prompt

    def lower(self, site: Site) -> None:
        """The gateway's own work, and that of a back end unless the answer is kept."""
        endpoint, gateway = self.endpoint, self.endpoint.gateway
        for part, time in (("authentication", gateway.authentication), ("cpu", gateway.cpu)):
            if time.distribution().mean > 0.0:
                site.compute(part, time.distribution())
        endpoint.limit(site, self.prompt)
        if endpoint.cache is None or self.prompt.conversation == NO_REGISTER or site.lowering.talk is not None:
            endpoint.route(site, self.prompt)
            return
        look_up(
            site.builder, endpoint.cache, self.prompt.conversation, lambda: self._similar(site),
            lambda: self._answered(site),
        )  # fmt: skip

    def _answered(self, site: Site) -> None:
        """An answer that is kept comes at once."""
        if self.prompt.streamed:
            site.builder.emit(Meter(latency_meters(site)))

    def _similar(self, site: Site) -> None:
        """Ask the semantic cache, and then a back end."""
        cache, builder = self.endpoint.gateway.cache, site.builder
        assert cache is not None
        if cache.similar <= 0.0:
            self.endpoint.route(site, self.prompt)
            return
        site.compute("embedding", cache.embedding.distribution())

        def found() -> None:
            self._answered(site)
            hit_by_chance(builder, cache.wrong, lambda: None, self._wrong(site))

        hit_by_chance(builder, cache.similar, lambda: self.endpoint.route(site, self.prompt), found)

    def _wrong(self, site: Site) -> Callable[[], None]:
        builder, name = site.builder, f"llms.{self.endpoint.name}.{WRONG_METER}"
        return lambda: builder.emit(Meter(builder.meters(name), builder.draw(Constant(1.0), "wrong")))


@dataclass(frozen=True, slots=True)
class GatewayEndpoint:
    """A gateway as a program on its hosts, with the pools in which the prompts at each back end are counted."""

    name: str
    gateway: Gateway
    deployment: Deployment
    pools: dict[str, int]
    balancer: int
    cache: Place | None
    buckets: dict[str, Place]
    keys: ApiKeys | None

    def generate(self, site: Site, prompt: Prompt) -> None:
        """A call of the gateway's one operation."""
        came, served, _ = GATEWAY_METERS
        self._count(site, came)
        if self.keys is not None:
            self.keys.count(site)
            prompt = replace(prompt, through=(*prompt.through, self.name))
        self._call(site, prompt)
        self._count(site, served)

    def _count(self, site: Site, what: str) -> None:
        count_up(site.builder, f"llms.{self.name}.{what}")

    def _call(self, site: Site, prompt: Prompt) -> None:
        lowering, steps = site.lowering, [Routing(self, prompt)]
        service = self.deployment.service.model_copy(update={"operations": {"generate": steps}})
        lowering.deployments[self.name] = replace(self.deployment, service=service)
        request, response = (
            site.builder.times_register(Constant(self.gateway.bytes_per_token), register, mean, "bytes")
            for register, mean in ((prompt.input, prompt.mean_input), (prompt.output, prompt.mean_output))
        )
        lowering.call(f"{self.name}.generate", site, request=request, response=response)

    def limit(self, site: Site, prompt: Prompt) -> None:
        """Pass the limits of the prompt's API key, and of the customer, and count what does not."""
        of_keys = self.keys is not None and self.keys.are_limited(site.lowering)
        if self.gateway.limit is None and not of_keys:
            return
        with self._counting_rejections(site):
            if self.keys is not None and of_keys:
                self.keys.limit(site, prompt)
            if self.gateway.limit is not None:
                self._limit_customer(site, prompt, self.gateway.limit)

    def _counting_rejections(self, site: Site) -> AbstractContextManager[None]:
        """Count what the limits inside reject."""
        _, _, limited = GATEWAY_METERS
        return site.builder.counting_failures(site.builder.meters(f"llms.{self.name}.{limited}"))

    def _limit_customer(self, site: Site, prompt: Prompt, limit: TokenLimit) -> None:
        builder, component = site.builder, site.component("limit")
        key = site.lowering.keys.register(limit.key)
        if "requests" in self.buckets:
            take_requests(builder, self.buckets["requests"], component, key)
        if "tokens" in self.buckets:
            take_prompt(builder, self.buckets["tokens"], component, prompt, key)

    def route(self, site: Site, prompt: Prompt) -> None:
        """Ask a back end, and others where it fails."""
        names = list(self.gateway.backends)
        if self.gateway.routing == "fallback":
            self._one_of(site, prompt, names)
            return
        chosen = self._chosen(site, prompt)
        self._one_of(site, prompt, self.gateway.fallback, first=chosen)

    def _one_of(self, site: Site, prompt: Prompt, names: list[str], first: Callable[[], None] | None = None) -> None:
        """Ask one after the other until one answers."""
        others = list(names)
        asks = [first] if first is not None else [partial(self._ask, site, prompt, others.pop(0))]
        asks += [partial(self._ask, site, prompt, name, falls_back=True) for name in others]
        builder, done = site.builder, site.builder.label()
        for ask in asks[:-1]:
            handler = builder.label()
            builder.emit(Scope(handler))
            ask()
            builder.emit(EndScope())
            builder.emit(Jump(done))
            builder.mark(handler)
        asks[-1]()
        builder.mark(done)

    def _chosen(self, site: Site, prompt: Prompt) -> Callable[[], None]:
        """What asks the back end that the routing chooses."""
        builder, names = site.builder, self.gateway.chosen
        if len(names) == 1:
            return lambda: self._ask(site, prompt, names[0])
        if self.gateway.routing == "weighted":
            weights = [self.gateway.backends[name].weight for name in names]
            if math.isinf(sum(weights)):
                weights = [weight / max(weights) for weight in weights]
            total = sum(weights)

            def by_weight() -> None:
                done = builder.label()
                with builder.choice(tuple(weight / total for weight in weights)) as targets:
                    self._branches(site, prompt, names, targets, done)
                builder.mark(done)

            return by_weight

        def switched() -> None:
            register, done = self._register(site, prompt, len(names)), builder.label()
            targets = [builder.label() for _ in names]
            builder.emit(Switch(register, tuple(targets)))
            self._branches(site, prompt, names, targets, done)
            builder.mark(done)

        return switched

    def _register(self, site: Site, prompt: Prompt, count: int) -> int:
        """The register of the chosen back end's number."""
        builder = site.builder
        if self.gateway.routing != "affinity":
            return builder.select(self.balancer)
        key, register = prompt.affinity(site, self.gateway.affinity_tokens), builder.register()
        if key == NO_REGISTER:
            builder.emit(Clear(register))
        else:
            builder.emit(HashInto(register, key, count))
        return register

    def _branches(self, site: Site, prompt: Prompt, names: list[str], targets: list[int], done: int) -> None:
        for name, target in zip(names, targets, strict=True):
            site.builder.mark(target)
            self._ask(site, prompt, name)
            site.builder.emit(Jump(done))

    def _ask(self, site: Site, prompt: Prompt, name: str, falls_back: bool = False) -> None:
        """One back end, within its guard, and what is counted of it."""
        builder = site.builder
        endpoint: Endpoint = site.resource("llms", name)
        one = builder.draw(Constant(1.0), "request")

        def ask() -> None:
            if self.keys is not None and self.keys.are_limited(site.lowering, name):
                with self._counting_rejections(site):
                    self.keys.limit(site, prompt, name)
            builder.emit(Acquire(Place((self.pools[name],)), site.component(name), one))
            endpoint.generate(site, prompt)
            builder.emit(Release())

        asked, fallbacks, *watched = (f"llms.{self.name}.{meter} {name}" for meter in BACKEND_METERS)
        count_up(builder, asked)
        if falls_back:
            count_up(builder, fallbacks)
        tries, errors, failures = (builder.meters(meter) for meter in watched)
        with builder.within(name):
            self.gateway.backends[name].for_prompt(prompt).guard(site, name, ask, Watch(tries, errors, failures))
