"""Write the traces of the measured runs, and print the step times that are fitted to the kernels' profile.

    python experiments/llm-serving/prepare.py FOLDER

FOLDER has what LLMServingSim's repository (commit 5daddb2, MIT) has of both GPUs: `<run>/requests.jsonl` and
`profile_<gpu>_<model>_bf16_tp<n>/*.csv`. The traces go to models/llm, where the coefficients are, too; those for
all steps that fit the memory of a GPU go to models/step-times.csv.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from simulator.calibration.step_profile import StepColumns, layered_profile
from simulator.calibration.step_time import FITTED, Fit, fit_step_time

sys.path.append(str(Path(__file__).resolve().parents[1]))
from measured_data import measured_data

MODELS = Path(__file__).resolve().parents[2] / "models" / "llm"
LAYERS = 32
SOURCE = """\
# Llama-3.1-8B (bf16) on one {gpu}, vLLM 0.19.0: 300 requests (ShareGPT prompts), when each came, its tokens, and the
# measured seconds until its first and its last token. Source: github.com/casys-kaist/LLMServingSim, commit 5daddb2,
# bench/examples (MIT License, Copyright (c) 2024 CASYS Lab at KAIST).
"""


@dataclass(frozen=True, slots=True)
class Run:
    """A measured run: where its data is, and what its engine may have in a step and in memory."""

    name: str
    gpu: str
    folder: str
    profile: str
    max_sequences: int
    kv_tokens: int


RUNS = (
    Run("rtx-4090", "RTX 4090", "RTX4090_Llama-3.1-8B", "RTX4090", 256, 41_408),
    Run("rtx-pro-6000", "RTX PRO 6000", "RTXPRO6000_Llama-3.1-8B", "RTXPRO6000", 128, 530_000),
)


PROFILES = (
    # Model, GPU, tensor parallel, tokens that its memory has room for, layers, and the folder.
    ("llama-3.1-8b", "rtx-4090", 1, 41_408, 32, "profile_RTX4090_meta-llama_Llama-3.1-8B_bf16_tp1"),
    ("llama-3.1-8b", "rtx-pro-6000", 1, 530_000, 32, "profile_RTXPRO6000_meta-llama_Llama-3.1-8B_bf16_tp1"),
    ("qwen3-32b", "rtx-pro-6000", 2, 450_000, 64, "profile_RTXPRO6000_Qwen_Qwen3-32B_bf16_tp2"),
)
STEP_TIMES = """\
# Step times of vLLM 0.19 (bf16, eager), fitted to its measured kernels by simulator.calibration.step_time, balanced:
# seconds a step, token or token squared, floor in tokens. No time of the CPU is in them: add about 1 ms a step to the
# overhead. Links between GPUs are not in them. Errors: absolute and relative, of all steps within kept_tokens, the keys
# and values that fit the memory. Source: github.com/casys-kaist/LLMServingSim, commit 5daddb2, profiler/perf
# (MIT License, Copyright (c) 2024 CASYS Lab at KAIST).
"""


PARTS = ("dense", "per_sequence", "attention")
MEASURED = measured_data(
    "github.com/casys-kaist/LLMServingSim, commit 5daddb2, bench/examples and profiler/perf",
    *(f"{run.folder}/requests.jsonl" for run in RUNS),
    *(f"{folder}/{part}.csv" for *_, folder in PROFILES for part in PARTS),
)


def fitted(run: Run, data: Path) -> Fit:
    """The step time by those rows of the profile that the engine of the run may ever have."""
    steps = layered_profile(data / f"profile_{run.profile}_meta-llama_Llama-3.1-8B_bf16_tp1", LAYERS)
    possible = [step for step in steps if step.generating <= run.max_sequences and step.kept <= run.kv_tokens]
    return fit_step_time(possible, balanced=True)


def requests(path: Path) -> list[dict[str, Any]]:
    """The requests in order of arrival.

    Arrivals are by the wall clock, the engine's stamps by another one: the request that was queued soonest after it
    came is taken to have been queued at once.
    """
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    offset = min(row["queued_ts"] - row["arrival_time"] for row in rows)
    return [
        {
            "TIMESTAMP": (datetime.fromtimestamp(0, UTC) + timedelta(seconds=row["arrival_time"])).strftime(
                "%Y-%m-%d %H:%M:%S.%f"
            ),
            "ContextTokens": row["input_toks"],
            "GeneratedTokens": row["output_toks"],
            "ttft_s": f"{row['first_token_ts'] - offset - row['arrival_time']:.4f}",
            "e2e_s": f"{row['last_token_ts'] - offset - row['arrival_time']:.4f}",
        }
        for row in sorted(rows, key=lambda row: float(row["arrival_time"]))
    ]


def write(run: Run, data: Path) -> None:
    """Write the trace of a run."""
    rows = requests(data / run.folder / "requests.jsonl")
    with (MODELS / f"{run.name}.csv").open("w", encoding="utf-8", newline="") as stream:
        stream.write(SOURCE.format(gpu=run.gpu))
        table = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def step_times(data: Path) -> list[list[object]]:
    """Coefficients of all profiles, and how far they are off the steps that they were fitted to."""
    rows: list[list[object]] = []
    for model, gpu, gpus, room, layers, folder in PROFILES:
        steps = [step for step in layered_profile(data / folder, layers) if step.kept <= room]
        found = fit_step_time(steps, balanced=True).step
        columns = StepColumns.of(steps)
        errors = np.abs(columns.predicted(found) / columns.seconds - 1.0)
        values = [f"{getattr(found, name):.4g}" for name in FITTED]
        rows.append([model, gpu, gpus, room, *values, f"{errors.mean():.3f}", f"{np.median(errors):.3f}"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=MEASURED)
    data = parser.parse_args().folder
    rows = step_times(data)
    with (MODELS.parent / "step-times.csv").open("w", encoding="utf-8", newline="") as stream:
        stream.write(STEP_TIMES)
        table = csv.writer(stream, lineterminator="\n")
        named = ["model", "gpu", "tensor_parallel", "kept_tokens", *FITTED, "mean_error", "median_error"]
        table.writerows([named, *rows])
    for run in RUNS:
        write(run, data)
        fit = fitted(run, data)
        print(f"{run.name}: {fit.steps} steps")
        for field in fields(fit.step):
            if field.name in fit.intervals:
                low, high = fit.intervals[field.name]
                print(f"  {field.name:15} {getattr(fit.step, field.name):.4g}  [{low:.4g}, {high:.4g}]")


if __name__ == "__main__":
    main()
