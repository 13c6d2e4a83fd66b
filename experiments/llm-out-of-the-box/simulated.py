"""The same measurements against the simulator itself: a closed loop of users on the catalogue's model and GPU.

    python experiments/llm-out-of-the-box/simulated.py POINTS [--choose]

Where `study.py` predicts with a closed form, this runs every row in scope as a model of tpsim, with its defaults, for as
many requests as the load generator sent. Without `--choose` it prints how far off the simulation is and writes
simulated-errors.csv; with it, the time beside steps that fits best the rows for that.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import study

import simulator as sim
from simulator.model.files import loads
from simulator.model.llm import Efficiency
from simulator.records import COMPLETED

ROUNDS = 10
"""Requests of each user; the load generators of both campaigns send ten times as many as run at a time."""
LEAST_LENGTH = {"gap h100": 1.0, "gap h200": 1.0, "inferencex": 0.8}
"""Lengths are drawn evenly from this share of the row's to all of it: `random-range-ratio` of InferenceX's
benchmark_serving.py is 0.8, and aiconfigurator's own runs of genai-perf have a standard deviation of 0."""
FRONT = 0.03
"""Seconds of a request beside steps: HTTP, tokens of the text, and the way back; one for all."""
FRONT_BY_ENGINE = {"sglang": 0.19, "trtllm": 0.04, "vllm": 0.02}
FRONTS = (0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.13, 0.16, 0.19, 0.22)
"""Seconds that are tried."""
SEED = 1
MODEL = """
name: row
hosts:
  client: {{cpu: 4}}
llms:
  it:
    model: {model}
    gpu: {gpu}
    gpus: {gpus}
    tensor_parallel: {gpus}
    precision: {precision}
    max_sequences: {users}
    max_batched_tokens: {budget}
    prefix_caching: false
    front_end: {front} s
services:
  web:
    host: client
    workers: 10000
    operations:
      ask:
        - generate: it
          input: {prompt}
          output: {output}
workloads:
  users: {{users: {users}, ramp_up: 0 s, operation: web.ask}}
"""


@dataclass(frozen=True)
class Outcome:
    """Means over the requests of a run, in seconds."""

    per_token: float
    first: float


def length(most, least_share):
    """How long prompts or answers are."""
    return f"{{constant: {most}}}" if least_share == 1.0 else f"{{uniform: {{low: {int(most * least_share)}, high: {most}}}}}"


def model(case, front):
    """The row as a model of tpsim."""
    share = LEAST_LENGTH[case.campaign]
    return MODEL.format(
        model=case.model.type, gpu=case.gpu.type, gpus=case.gpus, precision=case.precision, users=case.users,
        budget=study.BATCHED_TOKENS, front=front, prompt=length(case.prompt, share), output=length(case.output, share),
    )  # fmt: skip


def simulate(case, front, engine="compiled"):
    """The first requests of a run, as many as the load generator sent, from the burst at its start on."""
    program = sim.lower(loads(model(case, front)))
    per_token, first = study.predict(case, Efficiency(), study.SAME)
    wanted = ROUNDS * case.users
    seconds = (ROUNDS + 1) * 1.1 * (per_token * case.output + first + front)
    while True:
        (table,) = sim.simulate(program, seconds, SEED, engine=engine).requests
        counted = (table.number < wanted) & (table.outcome == COMPLETED)
        if counted.sum() == wanted:
            return outcome(table, counted)
        seconds *= 1.5


def outcome(table, counted):
    """Means of those that count."""
    meter = dict(zip(table.meters, table.meter[counted].T, strict=True))
    token = meter["first token"]
    gaps = (table.end[counted] - token) / (meter["llms.it.output"] - 1)
    return Outcome(float(gaps.mean()), float((token - table.arrival[counted]).mean()))


def predictions(cases, front):
    """Seconds a token and to the first one; `front` is a number, or one for each engine."""
    found = [simulate(case, front[case.harness.split()[-1]] if isinstance(front, dict) else front) for case in cases]
    return np.array([(each.per_token, each.first) for each in found])


def choose(cases, measured):
    """Print the medians of the absolute errors by the time beside steps, for all and for each engine."""
    engines = np.array([case.harness.split()[-1] for case in cases])
    for front in FRONTS:
        off = 100 * np.abs(predictions(cases, front) / measured - 1)
        shown = [f"{name} {np.median(off[engines == name, 1]):.1f} %" for name in sorted(set(engines))]
        tpot, ttft = np.median(off, axis=0)
        print(f"{1e3 * front:4.0f} ms: TPOT {tpot:.1f} %, TTFT {ttft:.1f} %; by engine {', '.join(shown)}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("points", type=Path)
    arguments.add_argument("--choose", action="store_true")
    asked = arguments.parse_args()
    rows, _ = study.in_scope(asked.points)
    trained = np.array([study.is_trained(row) for row in rows.itertuples()])
    cases = [study.Case.of(row) for row in rows.itertuples()]
    measured = rows[["silicon_tpot_ms", "silicon_ttft_ms"]].to_numpy() / 1000
    if asked.choose:
        choose([case for case, used in zip(cases, trained, strict=True) if used], measured[trained])
        return
    for name, front in (("nothing", 0.0), ("one number", FRONT), ("one for each engine", FRONT_BY_ENGINE)):
        relative = predictions(cases, front) / measured - 1
        study.tell(f"{name} chosen; rows for that", relative[trained])
        study.tell(f"{name} chosen; held out", relative[~trained])
        if name == "one number":
            shown = study.table(rows[~trained], relative[~trained])
    print(shown.round(1).to_string())
    shown.round(1).to_csv(Path(__file__).parent / "simulated-errors.csv")


if __name__ == "__main__":
    main()
