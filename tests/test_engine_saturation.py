"""Where analysis says that an LLM serving engine saturates, beside what it does in simulation when more comes."""

import math
from dataclasses import replace

import numpy as np
import pytest

from simulator.analytic.demands import facts
from simulator.analytic.inference import sequences_per_second
from simulator.analytic.lengths import Lengths, lengths_of
from simulator.distributions import LogNormal
from simulator.engines import simulate
from simulator.model.files import loads
from simulator.model.lowering import lower
from simulator.program.instructions import Generate
from simulator.program.stations import Inference
from simulator.records import STATION_FIELDS
from simulator.study.run import Settings, run

# As fitted to vLLM on an RTX PRO 6000, models/llm/rtx-pro-6000.yaml.
STEP_TIME = (
    "overhead: 7.2 ms, weights: 4.6 ms, token: 22.4 us, activation: 12.5 us, sequence: 7 us, chunk: 1.84 ns, "
    "floor: 132, generated: 89 ns, mixed: 134 ns, mixed_sequence: 21 us, longest: 704 ns"
)
SYSTEM = """
hosts: {{app: {{cpu: 16}}}}
llms:
  own: {{step_time: {{{step_time}}}, kv_tokens: {room}, max_batched_tokens: 2048, {engine}}}
services: {{web: {{host: app, operations: {{say: [{{generate: own, input: {input}, output: {output}}}]}}}}}}
workloads: {{users: {{rate: {rate}/s, operation: web.say}}}}
"""
SHARED = """
hosts: {{app: {{cpu: 16}}}}
llms: {{own: {{step_time: {{{step_time}}}, kv_tokens: {room}, max_batched_tokens: 2048, {engine}}}}}
services:
  web:
    host: app
    operations: {{seldom: [{{generate: own, {seldom}}}], often: [{{generate: own, {often}}}]}}
workloads: {{few: {{rate: {few}/s, operation: web.seldom}}, many: {{rate: {many}/s, operation: web.often}}}}
"""
SKEWED = "{lognormal: {mean: 1000, cv: 1.5}}"
ANSWERS = "{exponential: 200}"


def system(rate, prompts=SKEWED, answers=ANSWERS, room="530k", engine="max_sequences: 128", uneven="0 ns"):
    step_time = f"{STEP_TIME}, uneven: {uneven}"
    return loads(
        SYSTEM.format(step_time=step_time, room=room, engine=engine, input=prompts, output=answers, rate=f"{rate:.6f}")
    )


def shared(rate, seldom, often, share=0.1, room="42k", engine="max_sequences: 128"):
    """An engine that two kinds of requests share."""
    rates = {"few": f"{share * rate:.6f}", "many": f"{(1.0 - share) * rate:.6f}"}
    return loads(SHARED.format(step_time=STEP_TIME, room=room, engine=engine, seldom=seldom, often=often, **rates))


def saturation(make=system, **engine):
    """Requests a second at which the engine saturates, by analysis."""
    found = facts(lower(make(1.0, **engine)))
    assert found.saturated_resource == "llms.own"
    return found.saturation_throughput


def most_done(expected, make=system, **engine):
    """Requests a second that the engine ends while three times as many come as are expected to saturate it."""
    program = lower(make(3.0 * expected, **engine))
    records = simulate(program, 2000.0 / expected, 1, 0, "compiled")
    (number,) = (number for number, each in enumerate(program.stations) if isinstance(each, Inference))
    ended, first = records.stations[:, number, STATION_FIELDS.index("completions")], len(records.times) // 3
    assert records.stations[-1, number, STATION_FIELDS.index("present")] > 500.0
    return (ended[-1] - ended[first]) / (records.times[-1] - records.times[first])


@pytest.mark.parametrize(
    "engine",
    [
        {},
        {"answers": "{lognormal: {mean: 300, cv: 1}}"},
        {"prompts": "2000", "answers": "{exponential: 20}"},  # prompts fill the steps
        {"prompts": "{exponential: 500}"},
        {"prompts": "{exponential: 500}", "uneven": "3 us"},
        {"prompts": "{lognormal: {mean: 4000, cv: 1}}", "uneven": "258 ns"},
        {"room": "42k"},
        {"room": "42k", "prompts": "500", "answers": "200"},
        {"room": "42k", "prompts": "{lognormal: {mean: 4000, cv: 1}}"},
        {"engine": "max_sequences: 128, mixed_steps: false"},
        {"engine": "max_sequences: 128, chunked_prefill: false"},
        {"prompts": "7000", "answers": "3", "engine": "chunked_prefill: false, max_sequences: 64"},  # one in a step
        {"prompts": "1200", "answers": "3", "engine": "chunked_prefill: false, max_sequences: 64"},
        {"engine": "max_sequences: 4"},
        {"prompts": "8000", "answers": "500", "room": "15k"},  # not two at a time
        {"prompts": "8000", "answers": "500", "room": "20k"},
    ],
)
def test_an_engine_does_as_much_as_analysis_says(engine):
    expected = saturation(**engine)
    assert most_done(expected, **engine) == pytest.approx(expected, rel=0.05)


def test_analysis_that_knows_means_only_is_wrong_where_memory_is_short():
    program = lower(system(1.0, room="42k", prompts="{exponential: 500}"))
    (engine,) = (each for each in program.stations if isinstance(each, Inference))
    (instruction,) = (each for each in program.instructions if isinstance(each, Generate))
    known = lengths_of(engine, instruction)
    blocks = program.stations[engine.memory].capacity
    by_means = sequences_per_second(engine, blocks, replace(known, variance_prompt=0.0, variance_output=0.0))
    done = most_done(sequences_per_second(engine, blocks, known), room="42k", prompts="{exponential: 500}")
    assert by_means > 1.08 * done


def test_whoever_waits_for_the_longest_sequence_waits_for_the_longest_of_all_that_run():
    slowed = {uneven: saturation(uneven=uneven) for uneven in ("0 ns", "3 us")}
    done = {uneven: most_done(slowed[uneven], uneven=uneven) for uneven in slowed}
    assert done["3 us"] < 0.85 * done["0 ns"]
    assert slowed["3 us"] / slowed["0 ns"] == pytest.approx(done["3 us"] / done["0 ns"], rel=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("engine", [{"uneven": "258 ns"}, {"room": "42k"}, {"engine": "batching: static"}])
def test_a_run_is_stable_below_saturation_and_not_above(engine):
    most = saturation(**engine)
    settings = Settings(replications=3, duration=4000.0 / most, jobs=1, summaries_only=True)
    below, above = (run(system(share * most, **engine), settings) for share in (0.9, 1.1))
    assert below.stable, below.verdict
    assert not above.stable


@pytest.mark.parametrize("number", [1, 8, 128])
def test_the_longest_context_is_the_expected_largest_of_so_many(number):
    # Answers of one token: only prompts vary.
    lengths = Lengths(1000.0, 0.0, 1.0, LogNormal(1000.0, 0.8).variance)
    generator = np.random.default_rng(1)
    draws = LogNormal(1000.0, 0.8).sample(lambda column: generator.random((20_000, number))).max(axis=1)
    assert lengths.longest(number) == pytest.approx(draws.mean(), abs=4.0 * draws.std() / math.sqrt(len(draws)))


def test_a_running_sequence_has_the_answer_of_one_that_somebody_finds():
    # As old on average as it lasts longer, for exponential answers; half of the answer for constant ones.
    assert Lengths(100.0, 0.0, 200.0, 0.0, 200.0**2).context == pytest.approx(300.0)
    assert Lengths(100.0, 0.0, 200.0).context == pytest.approx(200.0)
    assert Lengths(100.0, 0.0, 200.0).variance_context == pytest.approx(200.0**2 / 12.0)


@pytest.mark.parametrize(
    "engine",
    [
        {"prompts": "100", "answers": "50", "engine": "batching: static, max_sequences: 8"},
        {"prompts": "500", "answers": "200", "engine": "batching: static"},  # five prompts fill a step
        {"prompts": "500", "answers": "200", "engine": "batching: static, chunked_prefill: false"},
        {"prompts": "100", "engine": "batching: static, max_sequences: 8"},
        {"prompts": "{exponential: 100}", "engine": "batching: static, max_sequences: 32"},
        {"prompts": "{exponential: 100}", "engine": "batching: static", "answers": "{lognormal: {mean: 300, cv: 1}}"},
        {"prompts": "100", "answers": "100", "room": "1000", "engine": "batching: static"},
        {"prompts": "8000", "answers": "17", "engine": "batching: static, max_sequences: 1"},  # four steps for a prompt
        {"prompts": "8000", "answers": "500", "room": "15k", "engine": "batching: static"},  # not two at a time
    ],
)
def test_static_batches_do_as_much_as_analysis_says(engine):
    expected = saturation(**engine)
    assert most_done(expected, **engine) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("answers", ["300", ANSWERS])
def test_static_batches_that_outgrow_memory_do_somewhat_more_than_analysis_says(answers):
    engine = {"prompts": "70", "answers": answers, "room": "4k", "engine": "batching: static, max_sequences: 1024"}
    expected = saturation(**engine)
    assert 0.95 * expected < most_done(expected, **engine) < 1.3 * expected


def test_a_static_batch_is_the_prompts_and_the_longest_answer():
    engine = {"prompts": "100", "answers": "50", "engine": "batching: static, max_sequences: 8"}
    (station,) = (each for each in lower(system(1.0, **engine)).stations if isinstance(each, Inference))
    step = station.step
    prompts = step.seconds(800.0, 0.0, 0.0, 100.0, 8 * step.prompt_attention(0.0, 100.0))
    answers = 49 * step.seconds(8.0, 8.0, 8 * 125.5, 125.5, 0.0)
    assert saturation(**engine) == pytest.approx(8.0 / (prompts + answers))


def test_half_of_what_static_batches_can_do_keeps_them_half_busy_though_more_wait_than_run():
    engine = {"prompts": "{exponential: 300}", "engine": "batching: static, max_sequences: 32"}
    most = saturation(**engine)
    results = run(
        system(0.5 * most, **engine), Settings(replications=2, duration=2000.0 / most, jobs=1, summaries_only=True)
    )
    found = results.resources["llms.own"]
    assert results.stable
    assert found.utilization.value == pytest.approx(0.5, abs=0.05)
    assert results.bottleneck.saturation_factor == pytest.approx(2.0, rel=0.1)


DOCUMENTS_AND_CHATS = {"seldom": "input: 8000, output: 20", "often": "input: 50, output: 200"}
LONG_AND_SHORT_ANSWERS = {"seldom": "input: 50, output: 2000", "often": "input: 50, output: 10"}


@pytest.mark.parametrize("engine", [DOCUMENTS_AND_CHATS, LONG_AND_SHORT_ANSWERS])
def test_an_engine_that_unlike_requests_share_does_what_analysis_says_and_is_half_busy_with_half_of_it(engine):
    most = saturation(shared, **engine)
    assert most_done(most, shared, **engine) == pytest.approx(most, rel=0.1)
    settings = Settings(replications=1, duration=12_000.0 / most, jobs=1, summaries_only=True)
    results = run(shared(0.5 * most, **engine), settings)
    assert results.resources["llms.own"].utilization.value == pytest.approx(0.5, abs=0.05)
    assert results.bottleneck.saturation_factor == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize(
    "engine",
    [
        {"seldom": "input: 50, output: 500", "often": "input: 500, output: 20", "share": 0.5},
        {"seldom": "input: 50, output: 1000", "often": "input: 50, output: 10"},
        DOCUMENTS_AND_CHATS,
        {
            "seldom": "input: 1000, output: 100",
            "often": "input: 100, output: {exponential: 50}",
            "share": 0.2,
            "engine": "max_sequences: 16, batching: static, chunked_prefill: false",
        },
    ],
)
def test_unlike_requests_of_static_batches_wait_for_the_longest_of_all(engine):
    engine = {"engine": "max_sequences: 32, batching: static", "room": "530k"} | engine
    most = saturation(shared, **engine)
    assert most_done(most, shared, **engine) == pytest.approx(most, rel=0.1)
    each = facts(lower(shared(1.0, **engine))).workloads
    alone = [workload.offered_per_s / workload.saturation_throughput for workload in each]
    assert 1.0 / most > sum(alone)
    settings = Settings(replications=1, duration=3000.0 / most, jobs=1, summaries_only=True)
    results = run(shared(0.5 * most, **engine), settings)
    assert results.resources["llms.own"].utilization.value == pytest.approx(0.5, abs=0.08)


CONVERSATIONS = """
hosts: {{app: {{cpu: 16}}}}
llms: {{own: {{step_time: {{{step_time}}}, kv_tokens: 60k, batching: static, prefix_caching: {caching}}}}}
services: {{web: {{host: app, operations: {{say: [{{generate: own, system: 200}}]}}}}}}
workloads:
  users:
    rate: 0.1/s
    operation: web.say
    conversation: {{turns: 8, think: 2 s, question: 70, answer: 200}}
"""


def test_nothing_is_said_of_static_batches_of_conversations_that_find_what_was_left():
    for caching, known in (("true", False), ("false", True)):
        found = facts(lower(loads(CONVERSATIONS.format(step_time=STEP_TIME, caching=caching))))
        assert (found.saturation_of("llms.own") is not None) is known
        (workload,) = found.workloads
        assert all(math.isfinite(each.capacity) is known for each in workload.demands if each.resource == "llms.own")
