"""What follows from a language model and the GPUs that it runs on: the time of a step, and room for tokens.

The time of a step is the roofline of Williams, Waterman & Patterson (CACM 52(4), 2009): arithmetic at a share of the
GPU's peak, or reading memory at a share of its bandwidth. How near an engine comes to the peaks is its efficiency.
"""

from __future__ import annotations

from simulator.model.catalogue import types_of
from simulator.model.gpu import Gpu, Precision
from simulator.model.language_model import BYTES, LanguageModel
from simulator.model.part import Amount, Duration, Factor, Part, PositiveShare, Size
from simulator.program.step_time import StepTime

__all__ = ["Efficiency", "LanguageModel", "kept_precision", "kv_tokens", "step_time"]

BLOCK = 16
"""Tokens of a block of memory; the default of vLLM."""
COUNTS = (1, 2, 4, 8, 16, 32, 64)
"""Numbers of GPUs that a model is commonly spread over."""


class Efficiency(Part):
    """How near an engine comes to what the hardware can do, and what it adds.

    Defaults are chosen with 30 % of the measured rows of experiments/llm-out-of-the-box, vLLM, SGLang and TensorRT-LLM
    of 2025 on H100 and H200 (aiconfigurator's silicon_sample.csv, Apache-2.0), within the ranges that are given. What
    single kernels of vLLM 0.19 reach on an RTX 4090 and an RTX PRO 6000 (LLMServingSim, MIT) is said beside them.
    """

    arithmetic: PositiveShare = 0.8
    """Share of the peak arithmetic that matrix products reach; 0.4 to 0.9."""
    bandwidth: PositiveShare = 0.86
    """Share of the peak bandwidth that reading weights reaches; 0.5 to 0.95."""
    expert_arithmetic: PositiveShare = 0.2
    """Share of the peak arithmetic that the products of a mixture's experts reach, many small ones; 0.1 to 0.9."""
    expert_bandwidth: PositiveShare = 0.59
    """Share of the peak bandwidth that reading a mixture's experts reaches; 0.2 to 0.95."""
    kv_bandwidth: PositiveShare = 0.95
    """The same of reading keys and values; 0.4 to 0.95, 0.8 on the RTX PRO 6000, 0.86 on the RTX 4090."""
    attention: PositiveShare = 0.35
    """Share of the peak arithmetic that attention of prompts reaches; 0.35 to 0.9, 0.62 and 0.87 on those two."""
    small_prompt: Amount = 300.0
    """Tokens as which a smaller part of a prompt counts for attention; 102 to 217 there, a long sequence alone as 274
    to 384."""
    small_sequence: Amount = 100.0
    """Beside a prompt, attention of a sequence that generates costs a square of so many tokens; 99 to 119 there."""
    mixed: Factor = 1.3
    """How much more reading keys and values takes beside a prompt; 1.3 to 3, 1.5 to 2.7 there."""
    overhead: Duration = 1e-3
    """What a step takes whatever is in it, mostly the CPU's work; 0.2 to 10 ms."""
    layer: Duration = 30e-6
    """What each layer adds to that, kernels too small to fill the GPU; 0 to 30 µs."""
    sequence: Duration = 14e-6
    """Of a sequence that generates: sampling, and the CPU's work for it; 0 to 50 µs."""
    link_latency: Duration = 13e-6
    """Of an exchange between GPUs, two for each layer; 2 to 50 µs on NVLink, more on PCIe."""
    link_bandwidth: PositiveShare = 0.44
    """Share of the link's bandwidth that an exchange reaches; 0.3 to 1."""
    reserve: Size = 1.25e9
    """Memory of each GPU for activations and the engine itself; 1.24 GB in vLLM 0.19 with 2,048 tokens a step on an RTX
    4090, 1 to 5 GB."""


def step_time(
    model: LanguageModel,
    gpu: Gpu,
    tensor_parallel: int,
    precision: Precision,
    kv_precision: Precision | None,
    efficiency: Efficiency,
) -> StepTime:
    """The roofline of a step on `tensor_parallel` GPUs that compute it together.

    Raises ValueError where the GPU's arithmetic is unknown, or its link where there is more than one.
    """
    kept = kept_precision(precision, kv_precision)
    bandwidth = gpu.memory_bandwidth * tensor_parallel
    flops = _flops(gpu, precision) * tensor_parallel
    in_experts = model.expert_share * model.in_experts
    rest = model.computed_with - in_experts
    # Two products, of queries with keys and of shares with values, and two operations for each number.
    attention = 4.0 * model.far_layers * model.layers * model.heads * model.head
    chunk = attention / (_flops(gpu, kept) * tensor_parallel * efficiency.attention)
    kv_bytes = model.far_layers * model.kv_bytes(kept) * model.kv_copies(tensor_parallel)
    generated = kv_bytes / (bandwidth * efficiency.kv_bandwidth)
    link, link_token = _exchange(model, gpu, tensor_parallel, efficiency)
    return StepTime(
        overhead=efficiency.overhead + model.layers * efficiency.layer,
        weights=model.read_bytes(precision) / (bandwidth * efficiency.bandwidth),
        experts=model.expert_bytes(precision) / (bandwidth * efficiency.expert_bandwidth),
        expert_share=model.expert_share,
        token=2.0 * (rest / efficiency.arithmetic + in_experts / efficiency.expert_arithmetic) / flops,
        sequence=efficiency.sequence,
        chunk=chunk,
        floor=efficiency.small_prompt,
        generated=generated,
        mixed=efficiency.mixed * generated,
        mixed_sequence=chunk * efficiency.small_sequence**2,
        # One sequence alone keeps as few of the GPU's processors busy as the smallest part of a prompt.
        longest=chunk * efficiency.small_prompt,
        link=link,
        link_token=link_token,
    )


def kept_precision(precision: Precision, kv_precision: Precision | None) -> Precision:
    """That of keys and values: where none is given that of the weights, but 16 bits at least."""
    if kv_precision is not None:
        return kv_precision
    return precision if BYTES[precision] >= BYTES["bf16"] else "bf16"


def _flops(gpu: Gpu, precision: Precision) -> float:
    """Operations a second in that precision, or in 16 bits where the GPU only stores weights in it."""
    usable: list[Precision] = list(dict.fromkeys((precision, "bf16", "fp16")))
    for each in usable:
        if each in gpu.teraflops:
            return gpu.teraflops[each] * 1e12
    raise ValueError(f"{gpu.name} has no teraflops of {' or '.join(usable)}, expected them for the time of a step")


def _exchange(model: LanguageModel, gpu: Gpu, gpus: int, efficiency: Efficiency) -> tuple[float, float]:
    """Seconds a step and a token of the two all-reduces of each layer, by rings (Patarasuk & Yuan, 2009)."""
    if gpus == 1:
        return 0.0, 0.0
    if gpu.link is None:
        raise ValueError(f"{gpu.name} has no link, expected one for the time of a step on {gpus} of them")
    volume = 2.0 * (gpus - 1) / gpus * model.width * BYTES["bf16"]
    exchanges = 2.0 * model.layers
    return exchanges * efficiency.link_latency, exchanges * volume / (gpu.link * efficiency.link_bandwidth)


def kv_tokens(
    model: LanguageModel,
    gpu: Gpu,
    gpus: int,
    precision: Precision,
    kv_precision: Precision | None,
    utilization: float = 0.9,
    efficiency: Efficiency | None = None,
    block: int = BLOCK,
) -> int:
    """Tokens whose keys and values the memory of `gpus` has room for beside the weights, in whole blocks.

    Raises ValueError where there is none, saying how much memory is missing and what would do.
    """
    reserve = (efficiency or Efficiency()).reserve
    kept = kept_precision(precision, kv_precision)
    tokens = _room(model, gpu, gpus, precision, kept, utilization, reserve, block)
    if tokens <= 0:
        raise ValueError(_does_not_fit(model, gpu, gpus, precision, kept, utilization, reserve, block))
    return tokens


def _free(model: LanguageModel, gpu: Gpu, gpus: int, precision: Precision, utilization: float, reserve: float) -> float:
    """Bytes that weights leave."""
    return gpus * (gpu.memory * utilization - reserve) - model.weights_bytes(precision)


def _room(
    model: LanguageModel, gpu: Gpu, gpus: int, precision: Precision, kept: Precision, utilization: float,
    reserve: float, block: int,
) -> int:  # fmt: skip
    of_block = block * model.kv_bytes(kept) * model.kv_copies(gpus)
    return block * int(_free(model, gpu, gpus, precision, utilization, reserve) // of_block)


def _does_not_fit(
    model: LanguageModel, gpu: Gpu, gpus: int, precision: Precision, kept: Precision, utilization: float,
    reserve: float, block: int,
) -> str:  # fmt: skip
    """How much is missing, the smallest number of these GPUs that would do, and which of the catalogue would."""

    def fits(other: Gpu, count: int) -> bool:
        return _room(model, other, count, precision, kept, utilization, reserve, block) > 0

    missing = block * model.kv_bytes(kept) - _free(model, gpu, gpus, precision, utilization, reserve)
    more = next((count for count in COUNTS if count > gpus and fits(gpu, count)), None)
    others = [name for name in types_of("gpus") if fits(Gpu.model_validate({"type": name}), gpus)]
    ways = [f"{more} of them"] if more else []
    ways += [f"{gpus} of {' or '.join(others[:4])}"] if others else []
    here = f"{gpus} {gpu.name} {'has' if gpus == 1 else 'have'}"
    weights = model.weights_bytes(precision)
    return (
        f"{model.name} in {precision} does not fit: {here} {missing / 1e9:,.1f} GB too little memory for "
        f"{weights / 1e9:,.1f} GB of weights and a block of tokens"
        + (f"; it fits on {', or on '.join(ways)}" if ways else "")
    )
