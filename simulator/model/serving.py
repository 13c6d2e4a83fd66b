"""Serving a language model on GPUs of one's own: replicas of an engine, each on as many GPUs as it is spread over.

A replica computes every step on all of its GPUs (`tensor_parallel`), between which it exchanges activations, and has
what memory the weights leave for keys and values. With `pipeline_parallel` stages a replica has as many batches under
way, each with a share of the memory, whose steps take the time of the whole pass: a token takes no less time, but
there are as many more of them.

Prompts and answers can be computed on GPUs apart (`prefill`): the keys and values of a prompt then go from those that
compute prompts to those that generate over a link. See Zhong et al., DistServe, OSDI 2024.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from simulator.analytic.prefix_reuse import found_on_any
from simulator.distributions import Constant, Distribution
from simulator.model.prompt import PREFILL, Prompt, latency_meters, usage_meters
from simulator.program.builder import Builder
from simulator.program.instructions import (
    NO_REGISTER,
    Acquire,
    Delay,
    DrawInto,
    Generate,
    HashInto,
    IfAtLeast,
    Jump,
    Place,
    Release,
    Work,
)
from simulator.program.program import Balancer, Policy
from simulator.program.stations import Eviction, Inference, Pool, Sharing
from simulator.program.step_time import StepTime

if TYPE_CHECKING:
    from simulator.model.site import Site


@dataclass(frozen=True, slots=True)
class Engines:
    """Equal engines behind a balancer, known by the pools in which their requests are counted."""

    stations: tuple[int, ...]
    pools: tuple[int, ...]
    balancer: int

    @classmethod
    def lower(cls, builder: Builder, resource: str, spec: EngineSpec, count: int, policy: Policy) -> Engines:
        """`count` of them."""
        stations = tuple(spec.lower(builder, resource) for _ in range(count))
        pools = tuple(builder.station(Pool(f"{resource}.requests", math.inf)) for _ in range(count))
        return cls(stations, pools, builder.balancer(Balancer(policy, pools)))

    def place(self, stations: Sequence[int], register: int) -> Place:
        """One of some stations that there are of every engine."""
        return Place(tuple(stations)[:1]) if register == NO_REGISTER else Place(tuple(stations), register)


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """An engine: the time of its steps, its limits, and the tokens whose keys and values it has room for."""

    step: StepTime
    sequences: int
    tokens: int
    part: int
    kv_tokens: int
    block: int
    prefix_caching: bool
    priority: bool
    static: bool
    ahead: bool = False
    eviction: Eviction = Eviction.LRU
    chunked: bool = True
    apart: bool = False

    def lower(self, builder: Builder, resource: str) -> int:
        """Its station, after that of its memory."""
        memory = builder.station(Pool(f"{resource}.kv_cache", float(self.kv_tokens // self.block)))
        return builder.station(
            Inference(
                resource, self.step, self.sequences, self.tokens, self.part, memory, self.block, self.prefix_caching,
                self.priority, self.static, self.ahead, self.eviction, self.chunked, self.apart,
            )
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Prefills:
    """Engines that only compute prompts, and the link over which keys and values leave one of them."""

    engines: Engines
    links: tuple[int, ...]
    bytes_per_token: float

    @classmethod
    def lower(
        cls, builder: Builder, resource: str, spec: EngineSpec, count: int, policy: Policy, link: float, size: float
    ) -> Prefills:
        """`count` of them, each with a link of so many bytes a second, for so many bytes a token."""
        engines = Engines.lower(builder, resource, spec, count, policy)
        links = tuple(builder.station(Sharing(f"{resource}.link", (link,), unit="B")) for _ in range(count))
        return cls(engines, links, size)


@dataclass(frozen=True, slots=True)
class Serving:
    """A served language model: its engines, those for prompts where they are apart, and its front end.

    Where `affinity_tokens` are given, a prompt's key chooses the engine, or so many first tokens of a recorded one.
    """

    name: str
    engines: Engines
    prefills: Prefills | None
    front_end: Distribution
    affinity_tokens: int | None

    @property
    def resource(self) -> str:
        """What it is called in results."""
        return f"llms.{self.name}"

    def generate(self, site: Site, prompt: Prompt) -> None:
        """The front end, an engine for the prompt where that is apart, and one for all else."""
        builder, prompt = site.builder, self._spread(prompt)
        if self.front_end.mean > 0.0:
            builder.emit(Delay(builder.component(f"{self.name}.front end"), builder.draw(self.front_end, "front end")))
        if self.prefills is None:
            self._visit(site, self.engines, self._instruction(site, prompt), prompt)
            return
        register = self._prefill(site, self.prefills, prompt)
        rest, done = builder.label(), builder.label()
        builder.emit(IfAtLeast(prompt.output, 2, rest, share=1.0))
        builder.emit(Jump(done))
        builder.mark(rest)
        self._transfer(site, self.prefills, prompt, register)
        self._visit(site, self.engines, self._instruction(site, prompt, begun=True), prompt)
        builder.mark(done)

    def _spread(self, prompt: Prompt) -> Prompt:
        """The prompt with what it finds on average where a conversation's prompts go to any engine, for analysis."""
        count = len((self.prefills.engines if self.prefills else self.engines).stations)
        if prompt.revisit is None or self.affinity_tokens is not None or count == 1:
            return prompt
        found = found_on_any(prompt.revisit, count)
        mean_cached = prompt.mean_cached - prompt.revisit.found + found
        return replace(prompt, mean_cached=mean_cached, revisit=replace(prompt.revisit, found=found))

    def _prefill(self, site: Site, prefills: Prefills, prompt: Prompt) -> int:
        """The prompt and the first token; returns the register of the engine that was chosen."""
        builder, one = site.builder, site.builder.register()
        builder.emit(DrawInto(one, builder.draw(Constant(1.0), "first token")))
        instruction = self._instruction(site, prompt, output=one)
        register = self._choose(site, prefills.engines, prompt)
        self._at(site, prefills.engines, register, instruction)
        return register

    def _transfer(self, site: Site, prefills: Prefills, prompt: Prompt, register: int) -> None:
        """The way of the keys and values, which the other tokens need."""
        builder = site.builder
        link = prefills.engines.place(prefills.links, register)
        size = builder.times_register(
            Constant(prefills.bytes_per_token), prompt.input, prompt.mean_input, "keys and values"
        )
        builder.emit(Work(link, builder.component(f"{self.name}.transfer"), size))

    def _instruction(self, site: Site, prompt: Prompt, begun: bool = False, output: int | None = None) -> Generate:
        """At no place yet."""
        part = "decode" if begun else "prefill"
        return Generate(
            Place(()), site.builder.component(f"{self.name}.{part}"), site.builder.component(f"{self.name}.decode"),
            prompt.input, prompt.output if output is None else output,
            usage_meters(site.builder, prompt, f"{self.resource}.{PREFILL}" if output is not None else self.resource),
            latency_meters(site) if prompt.streamed else None,
            prompt.key, prompt.kept, prompt.shared, prompt.shared_key, begun,
            prompt.mean_input, prompt.mean_cached, prompt.mean_output if output is None else 1.0, prompt.prefix,
            prompt.revisit, prompt.variance_input, prompt.variance_output if output is None else 0.0,
        )  # fmt: skip

    def _visit(self, site: Site, engines: Engines, instruction: Generate, prompt: Prompt) -> None:
        self._at(site, engines, self._choose(site, engines, prompt), instruction)

    def _choose(self, site: Site, engines: Engines, prompt: Prompt) -> int:
        """The register of the chosen engine."""
        builder = site.builder
        if self.affinity_tokens is not None and len(engines.stations) > 1:
            key = prompt.affinity(site, self.affinity_tokens)
            if key != NO_REGISTER:
                register = builder.register()
                builder.emit(HashInto(register, key, len(engines.stations)))
                return register
        return builder.select(engines.balancer)

    def _at(self, site: Site, engines: Engines, register: int, instruction: Generate) -> None:
        builder = site.builder
        one = builder.draw(Constant(1.0), "request")
        builder.emit(Acquire(engines.place(engines.pools, register), instruction.component, one))
        builder.emit(replace(instruction, place=engines.place(engines.stations, register)))
        builder.emit(Release())
