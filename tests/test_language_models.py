"""Language models: their sizes, the time of a step that follows from hardware, and what does not fit a GPU's memory."""

import pytest
from pydantic import ValidationError

from simulator.model.gpu import Gpu
from simulator.model.language_model import LanguageModel
from simulator.model.llm import Efficiency, kv_tokens, step_time

PERFECT = Efficiency(
    arithmetic=1,
    bandwidth=1,
    expert_arithmetic=1,
    expert_bandwidth=1,
    kv_bandwidth=1,
    attention=1,
    overhead=0,
    layer=0,
    sequence=0,
    link_latency=0,
    link_bandwidth=1,
)


def model(value):
    return LanguageModel.model_validate(value)


def gpu(value):
    return Gpu.model_validate(value)


def roofline(name, on, gpus=1, precision="bf16", kv_precision=None, efficiency=PERFECT):
    return step_time(model(name), gpu(on), gpus, precision, kv_precision, efficiency)


KV_BYTES = {
    "llama-2-7b": 524_288, "llama-3.1-8b": 131_072, "llama-3.1-70b": 327_680, "llama-3.1-405b": 516_096,
    "qwen2.5-7b": 57_344, "qwen2.5-32b": 262_144, "qwen2.5-72b": 327_680, "qwen3-14b": 163_840, "qwen3-32b": 262_144,
    "qwen3-30b-a3b": 98_304, "mistral-7b": 131_072, "mistral-nemo-12b": 163_840, "mixtral-8x7b": 131_072,
    "mixtral-8x22b": 229_376, "codellama-34b": 196_608, "yi-34b": 245_760, "deepseek-v3": 70_272,
    "gpt-oss-120b": 73_728, "gpt-oss-20b": 49_152,
}  # fmt: skip


@pytest.mark.parametrize("name", KV_BYTES)
def test_bytes_kept_of_a_token_are_those_published(name):
    assert model(name).kv_bytes("bf16") == KV_BYTES[name]
    assert model(name).kv_bytes("fp8") == KV_BYTES[name] / 2


def test_bytes_of_weights_by_precision():
    llama = model("llama-3.1-8b")
    table = 128_256 * 4096
    assert llama.weights_bytes("bf16") == pytest.approx(2 * 8.03e9)
    assert llama.weights_bytes("fp8") == pytest.approx(8.03e9 + 2 * table)
    assert llama.read_bytes("bf16") == pytest.approx(2 * (8.03e9 - table))
    assert llama.read_bytes("fp8") == pytest.approx(8.03e9)
    assert llama.weights_bytes("int4") == pytest.approx(0.53125 * (8.03e9 - 2 * table) + 4 * table)


@pytest.mark.parametrize(
    ("name", "experts_hold"),
    # Of three matrices in each expert: experts * layers * 3 * width * its inner width.
    [
        ("mixtral-8x7b", 8 * 32 * 3 * 4096 * 14336),
        ("mixtral-8x22b", 8 * 56 * 3 * 6144 * 16384),
        ("qwen3-30b-a3b", 128 * 48 * 3 * 2048 * 768),
        ("qwen3-235b-a22b", 128 * 94 * 3 * 4096 * 1536),
        ("gpt-oss-120b", 128 * 36 * 3 * 2880 * 2880),
        ("deepseek-v3", 256 * 58 * 3 * 7168 * 2048),
    ],
)
def test_what_the_experts_hold_follows_from_all_and_active_parameters(name, experts_hold):
    assert model(name).in_experts == pytest.approx(experts_hold, rel=0.015)


def test_decoding_one_sequence_takes_as_long_as_reading_the_weights():
    step = roofline("llama-3.1-8b", "h100-sxm")
    assert step.seconds(1, 1, 0, 0, 0) == pytest.approx(2 * (8.03e9 - 128_256 * 4096) / 3.35e12)
    assert step.seconds(1, 1, 10_000, 10_000, 0) - step.seconds(1, 1, 0, 0, 0) == pytest.approx(
        10_000 * 131_072 / 3.35e12
    )


def test_a_long_prompt_takes_as_long_as_its_arithmetic():
    step = roofline("llama-3.1-8b", "h100-sxm")
    attention = 4 * 32 * 32 * 128 * 8192 * 4096
    expected = (2 * 8.03e9 * 8192 + attention) / 989e12
    assert step.seconds(8192, 0, 0, 0, step.prompt_attention(0, 8192)) == pytest.approx(expected)


def test_a_token_of_a_mixture_reads_its_experts_and_a_large_batch_all():
    step = roofline("qwen3-30b-a3b", "h100-sxm")
    active = 2 * (3.3e9 - 151_936 * 2048) / 3.35e12
    assert step.seconds(1, 1, 0, 0, 0) == pytest.approx(active, rel=0.05)
    every = 2 * (30.5e9 - 151_936 * 2048) / 3.35e12
    assert step.seconds(200, 200, 0, 0, 0) == pytest.approx(every, rel=0.02)


def test_gpus_in_parallel_share_the_work_and_exchange_activations():
    one, four = roofline("llama-3.1-70b", "h200-sxm"), roofline("llama-3.1-70b", "h200-sxm", 4)
    assert (four.weights, four.token, four.generated) == pytest.approx(
        (one.weights / 4, one.token / 4, one.generated / 4)
    )
    assert four.link_token == pytest.approx(2 * 80 * 2 * 0.75 * 8192 * 2 / 450e9)
    slow = roofline("llama-3.1-70b", "h200-sxm", 4, efficiency=Efficiency(link_latency="10 us"))
    assert slow.link == pytest.approx(2 * 80 * 10e-6)


def test_keys_and_values_of_few_heads_are_copied_to_more_gpus():
    assert roofline("qwen3-30b-a3b", "h200-sxm", 8).generated == pytest.approx(
        roofline("qwen3-30b-a3b", "h200-sxm", 4).generated
    )
    assert model("deepseek-v3").kv_copies(8) == 8
    assert model("llama-3.1-8b").kv_copies(2) == 1


def test_weights_of_fewer_bits_than_the_gpu_computes_with_are_only_read_faster():
    sixteen, eight = roofline("llama-3.1-8b", "a100-80-sxm"), roofline("llama-3.1-8b", "a100-80-sxm", precision="fp8")
    assert eight.token == sixteen.token
    assert eight.weights < 0.6 * sixteen.weights
    assert roofline("llama-3.1-8b", "h100-sxm", precision="fp8").token < 0.6 * sixteen.token


def test_room_for_tokens_is_what_vllm_had():
    """vLLM 0.19 had room for 41,408 tokens of Llama-3.1-8B on an RTX 4090 (LLMServingSim, MIT)."""
    tokens = kv_tokens(model("llama-3.1-8b"), gpu("rtx-4090"), 1, "bf16", None)
    assert tokens % 16 == 0
    assert tokens == pytest.approx(41_408, rel=0.02)
    assert kv_tokens(model("llama-3.1-8b"), gpu("rtx-4090"), 1, "bf16", "fp8") == pytest.approx(2 * tokens, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "on", "gpus", "message"),
    [
        (
            "llama-3.1-70b", "h100-sxm", 1,
            "llama-3.1-70b in bf16 does not fit: 1 h100-sxm has 70.5 GB too little memory for 141.2 GB of weights and "
            "a block of tokens; it fits on 2 of them, or on 1 of b200-sxm or b300-sxm or gb200",
        ),
        ("deepseek-v3", "l4", 1, "deepseek-v3 in bf16 does not fit: 1 l4 has 1,321.7 GB too little memory"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_by_how_much_and_what_would_do(name, on, gpus, message):
    with pytest.raises(ValueError, match="does not fit") as raised:
        kv_tokens(model(name), gpu(on), gpus, "bf16", None)
    assert str(raised.value).startswith(message)


def test_the_number_of_gpus_that_is_told_is_the_smallest_that_fits():
    with pytest.raises(ValueError, match="it fits on 8 of them"):
        kv_tokens(model("llama-3.1-405b"), gpu("h200-sxm"), 4, "bf16", None)
    assert kv_tokens(model("llama-3.1-405b"), gpu("h200-sxm"), 8, "bf16", None) > 0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("llama-3.1-8bb", "no language model of type 'llama-3.1-8bb'; did you mean 'llama-3.1-8b'?"),
        ({"parameters": "1G", "layers": 2, "heads": 2, "head": 64}, "expected kv_heads, or latent"),
        ({"type": "llama-3.1-8b", "active": "1G"}, "got active, expected all of active, experts and experts_per_token"),
        ({"type": "mixtral-8x7b", "active": "50G"}, "got active 5e+10, expected at most the 4.67e+10 parameters"),
        ({"type": "mixtral-8x7b", "experts_per_token": 8}, "got experts_per_token 8, expected fewer than 8 experts"),
    ],
)
def test_inconsistent_models_are_refused(value, message):
    with pytest.raises(ValidationError) as raised:
        model(value)
    assert message in str(raised.value)


def test_a_gpu_of_unknown_arithmetic_or_link_is_refused():
    with pytest.raises(ValueError, match="a10g has no teraflops of bf16 or fp16"):
        roofline("llama-3.1-8b", "a10g")
    with pytest.raises(ValueError, match="v100-16-sxm has no link"):
        roofline("llama-3.1-8b", "v100-16-sxm", 2)
