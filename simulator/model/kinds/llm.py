"""Language models that can be asked: served on GPUs of one's own, by a provider, or through a gateway to others.

An LLM of one's own is a `model` on `gpus` of a type: how long a step takes follows from a roofline of the two (or from
coefficients that were fitted to measurements, `step_time`), and what remains of the memory holds keys and values. An
engine forms a new batch for every step (continuous batching, see `simulator.program.stations.Inference`).

    llms:
      assistant: {model: llama-3.1-8b, gpu: h100-sxm, gpus: 2}

A `generate` step has a prompt answered. Its `system` text is the same in all prompts of the step, `input` is new in
each, or in a conversation the question, before which goes what has been said (`context`), and `retrieved` text is added
to it. Prompts of a trace (`input: {trace: input}`) with prefix hashes have in common what these say. What results say
of a request then: the time to its first token, the time per token after that, tokens and, where they are paid for, what
they cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self
from zlib import crc32

from pydantic import model_validator

from simulator.analytic.prefix_caches import most_found
from simulator.model.context import RESEND, Context
from simulator.model.conversation import Talk
from simulator.model.distribution import CountDistribution, DurationDistribution
from simulator.model.gateway import Gateway
from simulator.model.gateway_checks import gateway_problems
from simulator.model.gpu import Gpu, Precision
from simulator.model.keys import KeyUse
from simulator.model.language_model import LanguageModel
from simulator.model.llm import Efficiency, kept_precision, kv_tokens, step_time
from simulator.model.memory import ServiceMemory
from simulator.model.part import Bandwidth, Count, Instances, Part, PositiveShare, WholeNumber
from simulator.model.prompt import AFFINITY_TOKENS, PREFILL, Endpoint, Prompt
from simulator.model.provider import Provider
from simulator.model.resource import Finding, Resource
from simulator.model.serving import Engines, EngineSpec, Prefills, Serving
from simulator.model.step import Place, StepPart
from simulator.model.step_coefficients import StepCoefficients
from simulator.program.instructions import NO_REGISTER, Calculate, Clear, DrawInto, Revisit
from simulator.program.instructions import Arithmetic as Do
from simulator.program.program import Policy
from simulator.program.stations import Eviction
from simulator.program.step_time import StepTime
from simulator.traces.column import TraceColumn
from simulator.traces.formats import BLOCK_TOKENS
from simulator.traces.prefixes import TracePrefixes

if TYPE_CHECKING:
    from simulator.model.lowering import Lowering
    from simulator.model.site import Site


class Prefill(Part):
    """GPUs that only compute prompts, apart from those that generate."""

    gpus: Instances
    """How many there are."""
    link: Bandwidth
    """Bytes a second from each of their engines to those that generate; 25 to 50 GB/s with 200 to 400 Gbit/s RDMA."""


class Llm(Resource):
    """A language model: on `gpus`, of a `provider`, or behind a `gateway`."""

    section: ClassVar[str] = "llms"
    noun: ClassVar[str] = "LLM"

    model: LanguageModel | None = None
    """The model; `model: llama-3.1-8b` names one of the catalogue."""
    gpu: Gpu | None = None
    """What it runs on; `gpu: h100-sxm` names one of the catalogue."""
    gpus: Instances = 1
    """How many there are; each replica takes `tensor_parallel` times `pipeline_parallel` of them."""
    tensor_parallel: Instances = 1
    """GPUs that compute every step together."""
    pipeline_parallel: Instances = 1
    """Stages, each on GPUs of its own, that the layers are spread over."""
    precision: Precision = "bf16"
    """Of weights and arithmetic."""
    kv_precision: Precision | None = None
    """Of keys and values; that of the weights, bf16 at least, where left out."""
    efficiency: Efficiency = Efficiency()
    """How near the engine comes to what the hardware can do."""
    step_time: StepCoefficients | None = None
    """The time of a step as fitted to measurements, in place of what follows from hardware and efficiency."""
    kv_tokens: Count | None = None
    """Tokens whose keys and values a replica has room for, in place of what the weights leave of the memory."""
    memory_utilization: PositiveShare = 0.9
    """Share of the GPUs' memory that the engine takes; vLLM's default is 90 %."""
    max_sequences: Count = 256
    """Sequences that run at a time; vLLM's `max_num_seqs` is 128 to 1024 by default, as versions and GPUs go."""
    max_batched_tokens: Count = 8192
    """Tokens of a step at most; vLLM's `max_num_batched_tokens` is 2,048 by default, 8,192 on large GPUs."""
    chunked_prefill: bool = True
    """Whether prompts are computed in parts beside sequences that generate; else whole, however long they are."""
    mixed_steps: bool = True
    """Whether prompts are computed beside sequences that generate; else in steps of their own, which come first, as
    SGLang does by default."""
    prefix_caching: bool = True
    """Whether keys and values of earlier prompts are kept for prompts that begin alike."""
    eviction: Literal["lru", "lfu"] = "lru"
    """Which of them go first: the least recently used, as in vLLM, or those that were found again least often."""
    block: Count = 16
    """Tokens of a block of memory; 16 in vLLM, 1 to 64 in others."""
    batching: Literal["continuous", "static"] = "continuous"
    """`static` waits until all of a batch have ended, as engines did before Orca (Yu et al., OSDI 2022)."""
    async_scheduling: bool = False
    """Put a step together while the one before runs, so that a prompt waits for one step more; vLLM's default since
    0.14. The step's `overhead` is then what of the CPU's work is left between steps."""
    scheduling: Literal["fcfs", "priority"] = "fcfs"
    """Which of the waiting prompts comes next: the first to come, or that of the workload with the lowest number."""
    balancer: Policy = Policy.ROUND_ROBIN
    """How a replica is chosen."""
    affinity: bool = False
    """Send a conversation, a `key`, or recorded prompts that begin alike (`prefix_hashes`), always to the same replica,
    which has its keys and values."""
    affinity_tokens: Count = AFFINITY_TOKENS
    """How many of their first tokens recorded prompts have to have in common for that, in whole blocks of 512. With no
    more than all prompts begin with, they all go to one replica."""
    prefill: Prefill | None = None
    """Compute prompts on GPUs apart."""
    provider: Provider | None = None
    """Somebody else serves it."""
    gateway: Gateway | None = None
    """It is behind a gateway, which asks others."""
    front_end: DurationDistribution = DurationDistribution(constant=0.0)
    """Time of a request before it reaches the engine: HTTP, tokens of the text; 1 to 20 ms in vLLM."""

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        elsewhere = [name for name in ("provider", "gateway") if getattr(self, name) is not None]
        if elsewhere:
            others = sorted(self.model_fields_set - set(elsewhere[:1]))
            if others:
                raise ValueError(f"got {others[0]} beside {elsewhere[0]}, expected the one or the other")
            return self
        known = (self.model is not None and self.gpu is not None) or (
            self.step_time is not None and self.kv_tokens is not None
        )
        if not known:
            raise ValueError(
                "expected a model and a gpu (or step_time and kv_tokens as measured), a provider, or a gateway"
            )
        if self.gpus % self.stage_gpus:
            raise ValueError(
                f"{self.gpus} gpus do not make whole replicas, expected a multiple of {self.stage_gpus} (tensor times "
                "pipeline parallel)"
            )
        if self.prefill is not None and self.prefill.gpus % self.stage_gpus:
            raise ValueError(
                f"prefill: {self.prefill.gpus} gpus do not make whole replicas, expected a multiple of "
                f"{self.stage_gpus}"
            )
        if self.prefill is not None and self.model is None:
            raise ValueError("prefill without a model, expected one that says how large keys and values are")
        if self.balancer is Policy.WEIGHTED:
            raise ValueError("balancer: got weighted, expected another one: replicas are equal")
        self._check_room(self.engine())
        return self

    def _check_room(self, engine: EngineSpec) -> None:
        if engine.kv_tokens < self.block:
            stages = f", each of {self.pipeline_parallel} stages" if self.pipeline_parallel > 1 else ""
            raise ValueError(
                f"got room for {engine.kv_tokens} kv_tokens{stages}, expected at least the {self.block} of a block"
            )

    @classmethod
    def problems(cls, resource: dict[Any, Any], document: dict[Any, Any]) -> Iterator[Finding]:
        """Hosts, back ends and keys of a gateway that are not there, or that go round in a circle."""
        gateway = resource.get("gateway")
        if isinstance(gateway, dict):
            yield from gateway_problems(gateway, document)

    @property
    def stage_gpus(self) -> int:
        """GPUs of a replica."""
        return self.tensor_parallel * self.pipeline_parallel

    @property
    def cost_per_hour(self) -> float:
        """Price of its GPUs, in USD an hour; 0 where it is not known."""
        count = self.gpus + (self.prefill.gpus if self.prefill else 0)
        return count * (self.gpu.price or 0.0) if self.gpu is not None else 0.0

    @property
    def unpriced(self) -> str:
        """Its GPUs, where the catalogue has no price of them."""
        return "gpu" if self.gpu is not None and self.gpu.price is None else ""

    def held_memory(self) -> tuple[tuple[str, ...], str, ServiceMemory | None, int | None] | None:
        """What a gateway holds of its host's memory."""
        if self.gateway is None:
            return None
        return ("gateway", "memory"), self.gateway.host, self.gateway.memory, self.gateway.replicas

    def engine(self) -> EngineSpec:
        """An engine; raises ValueError where the model does not fit."""
        return EngineSpec(
            step=self.step_time.step_time() if self.step_time else self._roofline(),
            sequences=max(self.max_sequences // self.pipeline_parallel, 1),
            tokens=self.max_batched_tokens,
            part=self.max_batched_tokens,
            chunked=self.chunked_prefill,
            # With prompts computed elsewhere there is nothing to keep apart.
            apart=not self.mixed_steps and self.prefill is None,
            kv_tokens=(self.kv_tokens or self._kv_tokens()) // self.pipeline_parallel,
            block=self.block,
            prefix_caching=self.prefix_caching,
            priority=self.scheduling == "priority",
            static=self.batching == "static",
            ahead=self.async_scheduling,
            eviction=Eviction(self.eviction),
        )

    def _roofline(self) -> StepTime:
        assert self.model is not None
        assert self.gpu is not None
        return step_time(self.model, self.gpu, self.tensor_parallel, self.precision, self.kv_precision, self.efficiency)

    def _kv_tokens(self) -> int:
        assert self.model is not None
        assert self.gpu is not None
        return kv_tokens(
            self.model, self.gpu, self.stage_gpus, self.precision, self.kv_precision, self.memory_utilization,
            self.efficiency, self.block,
        )  # fmt: skip

    def lower(self, lowering: Lowering, name: str) -> Endpoint:
        """Its engines, those for prompts first, or who serves it elsewhere."""
        if self.provider is not None:
            return self.provider.lower(lowering, name)
        if self.gateway is not None:
            return self.gateway.lower(lowering, name)
        return self._serving(lowering, name)

    def _serving(self, lowering: Lowering, name: str) -> Serving:
        builder, resource, spec = lowering.builder, f"llms.{name}", self.engine()
        prefills = None
        if self.prefill is not None:
            assert self.model is not None
            count = self.prefill.gpus // self.tensor_parallel
            size = self.model.kv_bytes(kept_precision(self.precision, self.kv_precision))
            prefills = Prefills.lower(
                builder, f"{resource}.{PREFILL}", spec, count, self.balancer, self.prefill.link, size
            )
        engines = Engines.lower(builder, resource, spec, self.gpus // self.tensor_parallel, self.balancer)
        affinity = self.affinity_tokens if self.affinity else None
        return Serving(name, engines, prefills, self.front_end.distribution(), affinity)


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
            new, mean_new = self._new(site, talk)
            prompt = self._in(site, talk, new, mean_new)
            site.resource("llms", self.generate).generate(site, prompt)
            self.context.remember(site, talk, new, prompt.output)

    def _alone(self, site: Site) -> Prompt:
        """A prompt that no conversation has led to."""
        assert self.input is not None
        assert self.output is not None
        key = NO_REGISTER if self.key is None else self.key.register(site, self.generate)
        tokens, mean = self._tokens(site, *self._drawn(site, self.input, "input"))
        output, mean_output = self._drawn(site, self.output, "output")
        prefix, mean_found = self._prefix(site)
        return Prompt(
            tokens, output, mean, mean_output, self.system + mean_found, key, shared=self.system,
            shared_key=self._shared_key(site), conversation=key, streamed=self.streamed, prefix=prefix,
        )  # fmt: skip

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

    def _new(self, site: Site, talk: Talk) -> tuple[int, float]:
        """The register with what is new in the prompt of a turn, and its mean.

        That is the question in the first prompt of a turn, and in others, where history has it, nothing; or the input.
        """
        asked, site.lowering.asked = site.lowering.asked, True
        if self.input is not None:
            return self._drawn(site, self.input, "input")
        if not asked:
            return talk.question, talk.mean_question
        nothing = site.builder.register()
        site.builder.emit(Clear(nothing))
        return nothing, 0.0

    def _in(self, site: Site, talk: Talk, new: int, mean_new: float) -> Prompt:
        """A prompt of a turn."""
        builder = site.builder
        history, again, kept, mean_history = self.context.prepare(site, talk, self.generate)
        tokens, mean = self._tokens(site, new, mean_new)
        builder.emit(Calculate(tokens, Do.ADD, tokens, history))
        output, mean_output = talk.answer, talk.mean_answer
        if self.output is not None:
            output, mean_output = self._drawn(site, self.output, "output")
        earlier, mean_again = builder.register(), mean_history
        builder.emit(Calculate(earlier, Do.ADD, again, constant=self.system))
        if kept != NO_REGISTER:
            builder.emit(Calculate(kept, Do.ADD, kept, constant=self.system))
        left = mean_history + mean_new + mean_output
        if self.retrieved is not None:
            # What follows passages is not found again: the last question and answer are computed in the next turn.
            kept, mean_again, left = earlier, max(mean_history - mean_new - mean_output, 0.0), mean_history
        first = new == talk.question or self.input is not None
        revisit = Revisit(mean_again, mean_new + mean_output, left, talk.again, talk.think) if first else None
        return Prompt(
            tokens, output, mean + mean_history, mean_output, mean_again + self.system, talk.key, kept, self.system,
            self._shared_key(site), earlier, talk.number, self.streamed, revisit=revisit,
        )  # fmt: skip

    def _tokens(self, site: Site, new: int, mean: float) -> tuple[int, float]:
        """The register with the tokens of the system's text, of what is retrieved and what is new, and their mean."""
        builder, tokens = site.builder, site.builder.register()
        builder.emit(Calculate(tokens, Do.ADD, new, constant=self.system))
        if self.retrieved is not None:
            retrieved, mean_retrieved = self._drawn(site, self.retrieved, "retrieved")
            builder.emit(Calculate(tokens, Do.ADD, tokens, retrieved))
            mean += mean_retrieved
        return tokens, mean + self.system

    def _shared_key(self, site: Site) -> int:
        """What tells the system's text of this step from others."""
        return crc32(f"{site.deployment.name} {self.generate} {self.system}".encode())

    @staticmethod
    def _drawn(site: Site, count: CountDistribution, purpose: str) -> tuple[int, float]:
        """The register of a drawn count, and its mean."""
        builder, register = site.builder, site.builder.register()
        builder.emit(DrawInto(register, builder.draw(count.distribution(), purpose)))
        return register, float(builder.bound(count.distribution()).mean)


def _inside(step: dict[Any, Any], *path: str) -> dict[Any, Any]:
    """A mapping in a step as written; an empty one where there is something else."""
    found: Any = step
    for field in path:
        found = found.get(field) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}
