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

from pydantic import model_validator

from simulator.model.distribution import DurationDistribution
from simulator.model.gateway import Gateway
from simulator.model.gateway_checks import gateway_problems
from simulator.model.gpu import Gpu, Precision
from simulator.model.language_model import LanguageModel
from simulator.model.llm import Efficiency, kept_precision, kv_tokens, step_time
from simulator.model.memory import ServiceMemory
from simulator.model.part import Bandwidth, Count, Instances, Part, PositiveShare
from simulator.model.prompt import AFFINITY_TOKENS, PREFILL, Endpoint
from simulator.model.provider import Provider
from simulator.model.resource import Finding, Resource
from simulator.model.serving import Engines, EngineSpec, Prefills, Serving
from simulator.model.step_coefficients import StepCoefficients
from simulator.program.program import Policy
from simulator.program.stations import Eviction
from simulator.program.step_time import StepTime

if TYPE_CHECKING:
    from simulator.model.lowering import Lowering


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
