"""Without calibration: time per token and time to the first token of served models, against measurements.

    python experiments/llm-out-of-the-box/study.py POINTS [--fit]

POINTS is a CSV file with the columns of aiconfigurator's `systems/silicon_sample.csv`. Without `--fit` the defaults of
`simulator.model.llm.Efficiency` predict the rows that no default was chosen with; with it, those that would be chosen
are printed.
"""

import argparse
import json
import sys
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from simulator.model.gpu import Gpu
from simulator.model.language_model import LanguageModel
from simulator.model.llm import Efficiency, kv_tokens, step_time

sys.path.append(str(Path(__file__).resolve().parents[1]))
from measured_data import measured_data

POINTS = measured_data("github.com/ai-dynamo/aiconfigurator, commit 095f58a, systems/silicon_sample.csv")
MODELS = {
    "Qwen/Qwen3-32B": "qwen3-32b",
    "Qwen/Qwen3-235B-A22B-FP8": "qwen3-235b-a22b",
    "openai/gpt-oss-120b": "gpt-oss-120b",
    "meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b",
    "nvidia/Llama-3.1-8B-Instruct-FP8": "llama-3.1-8b",
    "meta-llama/Llama-3.1-70B": "llama-3.1-70b",
    "deepseek-ai/DeepSeek-R1": "deepseek-v3",
    "deepseek-ai/DeepSeek-V3": "deepseek-v3",
}
GPUS = {"h100_sxm": "h100-sxm", "h200_sxm": "h200-sxm"}
PRECISIONS = {"fp8": "fp8", "fp8_block": "fp8", "nvfp4": "fp4", "int4_wo": "int4"}
BATCHED_TOKENS = 8192
"""Tokens of a step at most: vLLM's default on an H100, and the usual setting of the others."""
TRAINED = 0.3
"""Share of the rows that defaults may be chosen with, by a hash of their id."""


@dataclass(frozen=True)
class Front:
    """What the closed loop has beside steps."""

    seconds: dict[str, float]
    """By who measured: HTTP, tokens of the text, and the way of the first token back."""
    together: dict[str, float]
    """By who measured with what engine, how much prompts come together, as at the start of a run where all answers are
    as long as each other; the rest come one by one. It is not in the data, so it is chosen with the rows for that."""


CAMPAIGNS = ("gap h100", "gap h200", "inferencex")
HARNESSES = (
    "gap h100 vllm", "gap h100 trtllm", "gap h100 sglang", "gap h200 vllm", "gap h200 sglang",
    "inferencex vllm", "inferencex trtllm", "inferencex sglang",
)  # fmt: skip
CHOSEN = Front(
    dict(zip(CAMPAIGNS, (0.135, 0.2, 0.069), strict=True)),
    dict(zip(HARNESSES, (0.125, 0.225, 1.0, 0.0, 0.293, 0.112, 0.127, 0.472), strict=True)),
)


SAME = Front(dict.fromkeys(CAMPAIGNS, 0.1), dict.fromkeys(HARNESSES, 0.1))
"""One setting for all, the best of a few with the rows for that."""


def campaign(row):
    """Who measured: InferenceX (InferenceMAX), or the authors of the estimator, on either GPU with other loads."""
    return f"gap {row.system.split('_')[0]}" if "auto-gap-analysis" in row.silicon_data_source else "inferencex"


def scope(row):
    """Why a row is out of scope, or '' where it is in it."""
    if row.model_path not in MODELS:
        return "model not in the catalogue"
    if row.mode != "agg":
        return "prompts computed apart"
    if row.pp_size != 1 or row.tp_size > 8:
        return "more than one machine or stage"
    if row.attention_dp_size > 1:
        return "attention in data parallel"
    if row.moe_tp_size * row.moe_ep_size not in (0, 1, row.tp_size):
        return "experts on other GPUs than attention"
    if not (row.concurrency > 0 and row.concurrency == row.batch_size):
        return "concurrency not given"
    try:
        room = kv_tokens(model(row), gpu(row), int(row.tp_size), precision(row), None)
    except ValueError:
        return "does not fit by our figures"
    return "batch does not fit the memory at once" if room < row.concurrency * (row.isl + row.osl) else ""


def model(row):
    return LanguageModel.model_validate({"type": MODELS[row.model_path]})


def gpu(row):
    return Gpu.model_validate({"type": GPUS[row.system]})


def precision(row):
    return PRECISIONS.get(
        row.moe_quant_mode if MODELS[row.model_path].startswith("gpt") else row.gemm_quant_mode, "bf16"
    )


def is_trained(row):
    return zlib.crc32(row.id.encode()) % 1000 < 1000 * TRAINED


@dataclass(frozen=True)
class Case:
    """A row in scope."""

    model: LanguageModel
    gpu: Gpu
    gpus: int
    precision: str
    prompt: int
    output: int
    users: int
    campaign: str
    harness: str

    @classmethod
    def of(cls, row):
        return cls(
            model(row),
            gpu(row),
            int(row.tp_size),
            precision(row),
            int(row.isl),
            int(row.osl),
            int(row.concurrency),
            campaign(row),
            f"{campaign(row)} {row.backend}",
        )


def predict(case, efficiency, front):
    """Time per output token and to the first one, in seconds, of a closed loop without thinking.

    All users but those whose prompt is computed generate in every step, with half of their answer done on average. Over
    one answer each of the other users has a prompt computed once, in parts beside those that generate. Where prompts
    all come together, a request waits for half of the others before its first token, and for the other half after it.
    """
    step = step_time(case.model, case.gpu, case.gpus, case.precision, None, efficiency)
    context = case.prompt + 0.5 * case.output

    def time(generating, parts):
        attention = sum(step.prompt_attention(*part) for part in parts)
        tokens = generating + sum(part for _, part in parts)
        longest = max([context if generating else 0.0, *(sum(part) for part in parts)])
        return step.seconds(tokens, generating, generating * context, longest, attention)

    generate = time(case.users, [])
    starts = range(0, case.prompt, BATCHED_TOKENS)
    parts = [(start, min(BATCHED_TOKENS, case.prompt - start)) for start in starts]
    prompt = sum(time(case.users - 1, [part]) for part in parts)
    extra = max(prompt - len(parts) * generate, 0.0)
    together = front.together[case.harness]
    per_token = generate + (case.users - 1) * (1.0 - 0.5 * together) * extra / case.output
    burst = 0.5 * (case.users + 1) * extra
    first = front.seconds[case.campaign] + together * burst + (1.0 - together) * (0.5 * generate + prompt)
    return per_token, first


FREE = {
    "arithmetic": (0.6, 0.4, 0.9), "bandwidth": (0.8, 0.5, 0.95), "expert_arithmetic": (0.4, 0.1, 0.9),
    "expert_bandwidth": (0.5, 0.2, 0.95), "kv_bandwidth": (0.8, 0.4, 0.95), "attention": (0.55, 0.35, 0.8),
    "mixed": (2.0, 1.3, 3.0), "overhead": (1.5e-3, 2e-4, 1e-2), "layer": (1e-5, 0.0, 3e-5),
    "sequence": (5e-6, 0.0, 5e-5), "link_latency": (1e-5, 2e-6, 5e-5), "link_bandwidth": (0.7, 0.3, 1.0),
    **dict.fromkeys(CAMPAIGNS, (0.02, 0.0, 0.2)), **dict.fromkeys(HARNESSES, (0.35, 0.0, 1.0)),
}  # fmt: skip
"""What is chosen with the rows for it: start, least and most that published figures allow."""


def settings(values):
    named = dict(zip(FREE, map(float, values), strict=True))
    front = Front({name: named.pop(name) for name in CAMPAIGNS}, {name: named.pop(name) for name in HARNESSES})
    return Efficiency.model_construct(**{**dict(Efficiency()), **named}), front


def errors(cases, measured, efficiency, front):
    predicted = np.array([predict(case, efficiency, front) for case in cases])
    return predicted / measured - 1.0


def fit(cases, measured):
    start, least, most = (np.array(column) for column in zip(*FREE.values(), strict=True))
    width = most - least

    def residuals(shares):
        ratios = 1.0 + errors(cases, measured, *settings(least + shares * width))
        return np.log(np.maximum(ratios, 1e-3)).ravel()

    found = least_squares(
        residuals, (start - least) / width, bounds=(0.0, 1.0), loss="soft_l1", f_scale=0.1, diff_step=1e-3
    )
    return dict(zip(FREE, (least + found.x * width).round(8).tolist(), strict=True))


def table(rows, relative):
    """Median absolute error by model, system and engine, in percent."""
    columns = pd.DataFrame({"tpot": relative[:, 0], "ttft": relative[:, 1]}, index=rows.index)
    joined = rows[["model", "system", "backend"]].join(columns)
    return joined.groupby(["model", "system", "backend"]).agg(
        rows=("tpot", "size"),
        tpot=("tpot", lambda e: 100 * e.abs().median()),
        tpot_bias=("tpot", lambda e: 100 * e.median()),
        ttft=("ttft", lambda e: 100 * e.abs().median()),
        ttft_bias=("ttft", lambda e: 100 * e.median()),
    )


def tell(name, relative):
    percent = 100 * np.abs(relative)
    size, median, mean = len(percent), np.median(percent, axis=0), percent.mean(axis=0)
    print(
        f"{name}: {size} rows, TPOT median {median[0]:.1f} % mean {mean[0]:.1f} %, "
        f"TTFT median {median[1]:.1f} % mean {mean[1]:.1f} %"
    )


def in_scope(points):
    """The rows in scope, and how many are out of it for what reason."""
    rows = pd.read_csv(points)
    rows["concurrency"] = rows.silicon_data_source.str.extract(r"concurrency=(\d+)")[0].astype(float)
    same = [
        "model_path",
        "system",
        "backend",
        "gemm_quant_mode",
        "tp_size",
        "moe_tp_size",
        "isl",
        "osl",
        "silicon_tpot_ms",
    ]
    out = Counter({"measured twice": int(rows.duplicated(same).sum())})
    rows = rows.drop_duplicates(same)
    rows["scope"] = [scope(row) for row in rows.itertuples()]
    out.update(rows.scope[rows.scope != ""])
    rows = rows[rows.scope == ""].copy()
    rows["model"] = rows.model_path.map(MODELS)
    return rows, out


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("points", type=POINTS)
    arguments.add_argument("--fit", action="store_true")
    asked = arguments.parse_args()
    rows, out = in_scope(asked.points)
    trained = np.array([is_trained(row) for row in rows.itertuples()])
    cases = [Case.of(row) for row in rows.itertuples()]
    measured = rows[["silicon_tpot_ms", "silicon_ttft_ms"]].to_numpy() / 1000
    print(f"{len(rows)} rows in scope, {trained.sum()} of them to choose defaults with; out of it: {json.dumps(out)}")
    chosen = (Efficiency(), CHOSEN)
    if asked.fit:
        values = fit([case for case, used in zip(cases, trained, strict=True) if used], measured[trained])
        print(json.dumps(values))
        chosen = settings(values.values())
    relative = errors(cases, measured, *chosen)
    tell("chosen with", relative[trained])
    tell("held out", relative[~trained])
    tell("held out, one front for all", errors(cases, measured, chosen[0], SAME)[~trained])
    shown = table(rows[~trained], relative[~trained])
    print(shown.round(1).to_string())
    if not asked.fit:
        shown.round(1).to_csv(Path(__file__).parent / "errors.csv")


if __name__ == "__main__":
    main()
