"""Predict how vLLM serves three models on H100s at several rates, with three numbers of each fitted to two rates.

    python experiments/llm-serving/load_sweep.py stages.csv

calibrates each model on its `codegen` stages, predicts all others, prints both, writes load-sweep.csv (what was
predicted and how far off it is) and draws load-sweep.png. stages.csv is a table of the results of the runs in
github.com/inference-sim/training (commit ed5c1d2); see README.md for its columns.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

import simulator as sim
from simulator.records import COMPLETED, Records
from simulator.results.estimate import Estimate, mean_interval

sys.path.append(str(Path(__file__).resolve().parents[1]))
from measured_data import measured_data

HERE = Path(__file__).resolve().parent
STAGES = measured_data("github.com/inference-sim/training, commit ed5c1d2, a table of its runs")
MODEL = HERE / "load-sweep.yaml"
CALIBRATION = "codegen"
REPLICATIONS = 4
BANDWIDTH, PEAK, MEMORY, UTILIZATION = 3.35e12, 989e12, 80e9, 0.9
"""Of an H100 SXM: bytes a second, bf16 flop a second without sparsity, bytes, and vLLM's share of them."""
BYTES = 2.0
"""Of a parameter, or an element of a key or value: bf16."""
FLOOR = 282.0
"""Tokens as which a smaller part of a prompt counts for attention, from the profile of an RTX 4090 (217 with
`uneven` attention, which came later)."""
THIRD = {"attended": 1e-7, "sequence": 5e-5}
"""Seconds from which the search for the third number starts."""
SHOWN = ("tpot", "e2e", "ttft")


@dataclass(frozen=True, slots=True)
class Architecture:
    """A model's size, for rooflines."""

    parameters: float
    layers: int
    heads: int
    kv_heads: int
    head: int = 128

    @property
    def kv_bytes(self) -> float:
        """Of the keys and values of a token."""
        return 2.0 * self.layers * self.kv_heads * self.head * BYTES


ARCHITECTURES = {
    "meta-llama/Llama-2-7b-hf": Architecture(6.7e9, 32, 32, 32),
    "meta-llama/Llama-2-70b-hf": Architecture(69e9, 80, 64, 8),
    "codellama/CodeLlama-34b-Instruct-hf": Architecture(33.7e9, 48, 64, 8),
}


@dataclass(frozen=True, slots=True)
class Way:
    """How to calibrate: what the third number is of, and what is assumed."""

    third: Literal["attended", "sequence"] = "attended"
    """Per token that is attended to, or per sequence, beside attention at the memory's bandwidth."""
    mixed: float = 1.0
    """Attention beside a prompt costs as many times that of steps without."""
    counted: bool = False
    """Take the tokens that the load generator counted for those that were generated."""
    even: bool = False
    """Space the requests evenly."""
    ahead: bool = True
    """Steps are put together while the one before runs (`async_scheduling`)."""
    together: bool = False
    """Fit all numbers to TPOT and TTFT at once, instead of the steps' to TPOT and then the front end to TTFT."""


SHIPPED = Way()
OTHERS = {
    "per sequence": Way(third="sequence"),
    "mixed steps twice": Way(mixed=2.0),
    "counted tokens": Way(counted=True),
    "even arrivals": Way(even=True),
    "not ahead": Way(ahead=False),
    "fitted together": Way(together=True),
}


@dataclass(frozen=True, slots=True)
class Stage:
    """A measured stage: its load, and mean seconds."""

    model: str
    workload: str
    rate: float
    duration: float
    gpus: int
    prompts: int
    prompt_tokens: int
    output_tokens: int
    counted_tokens: float
    failed: int
    throughput: float
    ttft: float
    e2e: float

    @property
    def tpot(self) -> float:
        """Seconds per token after the first."""
        return (self.e2e - self.ttft) / (self.output_tokens - 1)

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.model.partition('/')[2].removesuffix('-hf')} {self.workload} {self.rate:g}/s"


def stages(path: Path) -> list[Stage]:
    """All stages of the table."""
    with path.open(encoding="utf-8") as stream:
        return [
            Stage(
                model=row["model"],
                workload=row["workload"],
                rate=float(row["rate_rps"]),
                duration=float(row["duration_s"]),
                gpus=int(row["tp"]),
                prompts=int(row["n_system_prompts"]) * int(row["users_per_prompt"]),
                prompt_tokens=round(float(row["prompt_mean"])),
                output_tokens=int(row["output_len"]),
                counted_tokens=float(row["output_mean"]),
                failed=int(row["failed"]),
                throughput=float(row["done_rps"]),
                ttft=float(row["ttft_mean_ms"]) / 1e3,
                e2e=float(row["e2e_mean_ms"]) / 1e3,
            )
            for row in csv.DictReader(stream)
        ]


def taken(stage: Stage, way: Way) -> Stage:
    """The stage with the output tokens that a way takes it to have had."""
    return replace(stage, output_tokens=round(stage.counted_tokens)) if way.counted else stage


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What is fitted, in seconds: a step whatever is in it, the third number, and the front end of a request."""

    constant: float
    third: float
    front_end: float


def overrides(stage: Stage, numbers: Calibrated, way: Way) -> list[str]:
    """What sets the model to a stage."""
    of = ARCHITECTURES[stage.model]
    weights = BYTES * of.parameters
    attended = of.kv_bytes / stage.gpus / BANDWIDTH if way.third == "sequence" else numbers.third
    step = {
        "overhead": max(numbers.constant - weights / stage.gpus / BANDWIDTH, 0.0),
        "weights": weights / stage.gpus / BANDWIDTH,
        "token": 2.0 * of.parameters / stage.gpus / PEAK,
        "sequence": numbers.third if way.third == "sequence" else 0.0,
        "chunk": 4.0 * of.layers * of.heads * of.head / stage.gpus / PEAK,
        "generated": attended,
        "mixed": way.mixed * attended,
    }
    kept = (UTILIZATION * MEMORY * stage.gpus - weights) / of.kv_bytes
    generate = "services.chat.operations.answer.0"
    return [
        *(f"llms.llama.step_time.{name}={value!r} s" for name, value in step.items()),
        f"llms.llama.step_time.floor={FLOOR}",
        f"llms.llama.kv_tokens={int(kept)}",
        f"llms.llama.async_scheduling={str(way.ahead).lower()}",
        f"llms.llama.front_end={numbers.front_end!r} s",
        f"{generate}.key.uniform={stage.prompts}",
        f"{generate}.input={stage.prompt_tokens}",
        f"{generate}.output={stage.output_tokens}",
        f"workloads.generator.rate={stage.rate!r}/s",
        f"workloads.generator.arrivals={'constant' if way.even else 'poisson'}",
    ]


@dataclass(frozen=True, slots=True)
class Prediction:
    """Mean seconds of a stage with intervals, requests a second, and whether a queue grows without end."""

    tpot: Estimate
    e2e: Estimate
    ttft: Estimate
    throughput: Estimate
    stable: bool

    def error(self, stage: Stage, name: str) -> float:
        """(predicted - measured) / measured of a mean."""
        predicted: Estimate = getattr(self, name)
        measured: float = getattr(stage, name)
        return predicted.value / measured - 1.0


def means(records: Records) -> tuple[float, float, float]:
    """Mean TPOT, E2E and TTFT (s) of the completed requests."""
    table = records.requests[0]
    done = table.outcome == COMPLETED
    meter = {name: table.meter[done, index] for index, name in enumerate(table.meters)}
    e2e, ttft = table.end[done] - table.arrival[done], meter["first token"] - table.arrival[done]
    tpot = (e2e - ttft) / (meter["llms.llama.output"] - 1.0)
    return float(tpot.mean()), float(e2e.mean()), float(ttft.mean())


def predict(stage: Stage, numbers: Calibrated, way: Way = SHIPPED, replications: int = REPLICATIONS) -> Prediction:
    """Simulate a stage for as long as it was measured."""
    system = sim.load(MODEL, overrides(stage, numbers, way))
    kept: list[tuple[float, float, float]] = []
    settings = sim.Settings(
        duration=stage.duration, replications=replications, keep=lambda records: kept.append(means(records))
    )
    results = sim.run(system, settings)
    tpot, e2e, ttft = (mean_interval(each) for each in zip(*kept, strict=True))
    return Prediction(tpot, e2e, ttft, results.workloads["generator"].throughput_per_s, results.stable)


def calibrated(measured: Sequence[Stage], way: Way = SHIPPED) -> Calibrated:
    """The three numbers with which the simulated stages have the measured TPOT and TTFT, as nearly as may be.

    The front end delays all requests by the same, so that it changes no TPOT: it is what is missing of the mean TTFT.
    """
    from scipy.optimize import least_squares

    scale = np.array([measured[0].tpot, THIRD[way.third], measured[0].ttft])
    fitted = ("tpot", "ttft") if way.together else ("tpot",)

    def numbers(x: NDArray[np.float64]) -> Calibrated:
        constant, third, *front_end = map(float, x * scale[: len(x)])
        return Calibrated(constant, third, *(front_end or [0.0]))

    def residuals(x: NDArray[np.float64]) -> list[float]:
        found = [(stage, predict(stage, numbers(x), way, 1)) for stage in measured]
        return [prediction.error(stage, name) for stage, prediction in found for name in fitted]

    start = [0.8, 1.0, 0.4] if way.together else [0.8, 1.0]
    best = least_squares(residuals, start, bounds=(0.0, np.inf), diff_step=0.02, xtol=1e-4, ftol=1e-6)
    steps = numbers(best.x)
    if way.together:
        return steps
    missing = [stage.ttft - predict(stage, steps, way, 1).ttft.value for stage in measured]
    return replace(steps, front_end=max(float(np.mean(missing)), 0.0))


@dataclass(frozen=True, slots=True)
class Study:
    """A way, the numbers that it calibrated by model, and what it predicted."""

    numbers: dict[str, Calibrated]
    predictions: list[tuple[Stage, Prediction]]

    def errors(self) -> dict[str, list[float]]:
        """Absolute errors in the stages that nothing was fitted to and that were not overloaded."""
        held_out = [each for each in self.predictions if each[0].workload != CALIBRATION and not each[0].failed]
        return {name: [abs(found.error(stage, name)) for stage, found in held_out] for name in SHOWN}

    def misjudged(self) -> list[str]:
        """Stages that are called stable and were overloaded, or the other way round."""
        return [stage.name for stage, found in self.predictions if found.stable == (stage.failed > 0)]


def study(every: Sequence[Stage], way: Way = SHIPPED, replications: int = REPLICATIONS) -> Study:
    """Calibrate each model and predict all of its stages."""
    numbers, predictions = {}, []
    for model in ARCHITECTURES:
        own = [taken(stage, way) for stage in every if stage.model == model]
        own.sort(key=lambda stage: (stage.workload != CALIBRATION, stage.failed > 0, stage.rate))
        numbers[model] = calibrated([stage for stage in own if stage.workload == CALIBRATION], way)
        predictions += [(stage, predict(stage, numbers[model], way, replications)) for stage in own]
    return Study(numbers, predictions)


def show(found: Study) -> None:
    """Print what was calibrated, and each stage: measured and predicted milliseconds with their interval, and error."""
    for model, numbers in found.numbers.items():
        print(
            f"{model}: {1e3 * numbers.constant:.2f} ms a step, {1e9 * numbers.third:.1f} ns a token that is attended"
            f" to, {1e3 * numbers.front_end:.1f} ms front end"
        )
    for stage, prediction in found.predictions:
        line = f"{stage.name:<38}{'fitted' if stage.workload == CALIBRATION else '':<7}"
        for name in SHOWN:
            value: Estimate = getattr(prediction, name)
            line += f" {name} {1e3 * getattr(stage, name):.5g} {1e3 * value.value:.5g}"
            line += f" [{1e3 * value.low:.5g}, {1e3 * value.high:.5g}] {prediction.error(stage, name):+.1%}"
        overloaded = f" failed {stage.failed}, {stage.throughput:.2f}/s" if stage.failed else ""
        print(f"{line}{overloaded}{'' if prediction.stable else f' UNSTABLE {prediction.throughput.value:.2f}/s'}")


def write(found: Study, path: Path) -> None:
    """Write what was predicted, in ms, and how far off it is; nothing measured stands there."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        columns = [f"{name}{end}" for name in SHOWN for end in ("_ms", "_low", "_high", "_error")]
        table.writerow(["stage", "fitted", "failed_in_reality", "stable", "throughput", *columns])
        for stage, prediction in found.predictions:
            yes_or_no = (stage.workload == CALIBRATION, stage.failed > 0, prediction.stable)
            cells = [stage.name, *(str(each).lower() for each in yes_or_no), f"{prediction.throughput.value:.2f}"]
            for name in SHOWN:
                value: Estimate = getattr(prediction, name)
                cells += [f"{1e3 * each:.2f}" for each in (value.value, value.low, value.high)]
                cells.append(f"{prediction.error(stage, name):.3f}")
            table.writerow(cells)


def draw(found: Study, path: Path) -> None:
    """Draw the error of each stage that was not overloaded."""
    from matplotlib.figure import Figure

    rows = [each for each in found.predictions if not each[0].failed][::-1]
    figure = Figure(figsize=(9.0, 5.2), layout="constrained")
    panel = figure.subplots()
    for name, mark in zip(SHOWN, "os^", strict=True):
        panel.plot(
            [100.0 * each.error(stage, name) for stage, each in rows], range(len(rows)), mark, label=name.upper()
        )
    labels = [f"{stage.name}{' (fitted)' if stage.workload == CALIBRATION else ''}" for stage, _ in rows]
    panel.set_yticks(range(len(rows)), labels)
    panel.axvspan(-3.0, 3.0, color="0.9", zorder=0)
    panel.axvline(0.0, color="black", linewidth=0.8)
    panel.set(xlabel="error of the predicted mean (%); gray: within 3 %")
    panel.grid(alpha=0.3)
    panel.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", type=STAGES, help="the table of measured stages")
    parser.add_argument("--others", action="store_true", help="also print the errors of other ways to calibrate")
    parser.add_argument("--output", type=Path, default=HERE, help="folder for the table and the plot")
    options = parser.parse_args()
    every = stages(options.stages)
    found = study(every)
    show(found)
    ways = {"shipped": found}
    if options.others:
        ways |= {name: study(every, way, 1) for name, way in OTHERS.items()}
    print("\nmedian and largest error of stages that nothing was fitted to")
    for name, each in ways.items():
        errors = (f"{kind} {np.median(of):.1%} {max(of):.1%}" for kind, of in each.errors().items())
        print(f"{name:<18} {'  '.join(errors)}  stability misjudged: {', '.join(each.misjudged()) or 'never'}")
    write(found, options.output / "load-sweep.csv")
    draw(found, options.output / "load-sweep.png")


if __name__ == "__main__":
    main()
