"""The same measurements against the simulator itself: a closed loop of users on the catalogue's model and GPU.

    python experiments/llm-out-of-the-box/simulated.py POINTS [--choose]

Where `study.py` predicts with a closed form, this runs every row in scope as a model of tpsim, with its defaults, for
as many requests as the load generator sent. Without `--choose` it prints how far off the simulation is and writes
simulated-errors.csv; with it, how far off it is on the rows for choosing, by what can be chosen.
"""

import argparse
from pathlib import Path

import numpy as np
import study

import simulator as sim
from simulator.model.files import loads
from simulator.model.llm import Efficiency
from simulator.records import COMPLETED

ROUNDS = 10
"""Requests of each user: `num-prompts` of InferenceX's scripts and `request-count` of aiconfigurator's runs of
genai-perf are ten times as many as run at a time."""
LEAST_LENGTH = {"gap h100": 1.0, "gap h200": 1.0, "inferencex": 0.8}
"""Lengths are drawn evenly from this share of the row's to all of it: `random-range-ratio` of InferenceX is 0.8, and
aiconfigurator's runs of genai-perf have a standard deviation of 0."""
PROMPTS_FIRST = ("sglang",)
"""Engines that compute prompts in steps of their own by default."""
ENGINES = ("sglang", "trtllm", "vllm")
NOTHING = (study.BATCHED_TOKENS, dict.fromkeys(ENGINES, 0.0))
ONE = (study.BATCHED_TOKENS, dict.fromkeys(ENGINES, 0.03))
TWO = (2048, dict.fromkeys(ENGINES, 0.05))
FOUR = (2048, {"sglang": 0.2, "trtllm": 0.07, "vllm": 0.04})
"""Tokens of a step at most, and seconds of a request beside steps (HTTP, tokens of the text, and the way back), which
are added to the time to the first token: nothing chosen, or so many numbers with the rows for that."""
FRONTS = (0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.15, 0.2)
TOKEN_CHOICES = (2048, 8192, 16384)
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
    max_batched_tokens: {tokens}
    mixed_steps: {mixed}
    prefix_caching: false
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


def engine(case):
    """What served it."""
    return case.harness.split()[-1]


def length(most, least_share):
    """How long prompts or answers are."""
    low = int(most * least_share)
    return f"{{constant: {most}}}" if least_share == 1.0 else f"{{uniform: {{low: {low}, high: {most}}}}}"


def model(case, tokens):
    """The row as a model of tpsim."""
    share, mixed = LEAST_LENGTH[case.campaign], engine(case) not in PROMPTS_FIRST
    return MODEL.format(
        model=case.model.type, gpu=case.gpu.type, gpus=case.gpus, precision=case.precision, users=case.users,
        tokens=tokens, mixed=str(mixed).lower(),
        prompt=length(case.prompt, share), output=length(case.output, share),
    )  # fmt: skip


def simulated(case, tokens=study.BATCHED_TOKENS, by="compiled"):
    """Mean seconds a token, and to the first one, of as many requests as the load generator sent, from the burst on."""
    program = sim.lower(loads(model(case, tokens)))
    per_token, first = study.predict(case, Efficiency(), study.SAME)
    wanted = ROUNDS * case.users
    seconds = (ROUNDS + 1) * 1.1 * (per_token * case.output + first)
    while True:
        (table,) = sim.simulate(program, seconds, SEED, engine=by).requests
        counted = (table.number < wanted) & (table.outcome == COMPLETED)
        if counted.sum() == wanted:
            return means(table, counted)
        seconds *= 1.5


def means(table, counted):
    """Over the requests that count."""
    meter = dict(zip(table.meters, table.meter[counted].T, strict=True))
    token = meter["first token"]
    gaps = (table.end[counted] - token) / (meter["llms.it.output"] - 1)
    return float(gaps.mean()), float((token - table.arrival[counted]).mean())


def errors(cases, measured, tokens, fronts):
    """(simulated - measured) / measured of the time per token and to the first one."""
    found = np.array([simulated(case, tokens) for case in cases])
    found[:, 1] += [fronts[engine(case)] for case in cases]
    return found / measured - 1.0


def choose(cases, measured):
    """Print medians of the absolute errors of the time to the first token by tokens of a step, engine, and front."""
    engines = np.array([engine(case) for case in cases])
    print("median error of TTFT, % by ms of the front:", *(f"{1e3 * front:5.0f}" for front in FRONTS))
    for tokens in TOKEN_CHOICES:
        found = errors(cases, measured, tokens, NOTHING[1])
        off = {front: 100 * np.abs(found[:, 1] + front / measured[:, 1]) for front in FRONTS}
        for name in ("", *ENGINES):
            mine = (engines == name) | (name == "")
            tpot = 100 * np.median(np.abs(found[mine, 0]))
            shown = " ".join(f"{np.median(each[mine]):5.1f}" for each in off.values())
            print(f"{tokens:6} tokens {name or 'all':7} {mine.sum():4} rows, TPOT {tpot:4.1f} %, {shown}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("points", type=study.POINTS)
    arguments.add_argument("--choose", action="store_true")
    asked = arguments.parse_args()
    rows, _ = study.in_scope(asked.points)
    trained = np.array([study.is_trained(row) for row in rows.itertuples()])
    cases = [study.Case.of(row) for row in rows.itertuples()]
    measured = rows[["silicon_tpot_ms", "silicon_ttft_ms"]].to_numpy() / 1000
    if asked.choose:
        choose([case for case, used in zip(cases, trained, strict=True) if used], measured[trained])
        return
    for name, chosen in (("nothing", NOTHING), ("one number", ONE), ("two", TWO), ("four", FOUR)):
        relative = errors(cases, measured, *chosen)
        study.tell(f"{name} chosen, rows for that", relative[trained])
        study.tell(f"{name} chosen, held out", relative[~trained])
        if chosen is TWO:
            shown = study.table(rows[~trained], relative[~trained])
    print(shown.round(1).to_string())
    shown.round(1).to_csv(Path(__file__).parent / "simulated-errors.csv")


if __name__ == "__main__":
    main()
