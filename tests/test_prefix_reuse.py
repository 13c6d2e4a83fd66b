"""What conversations find of their earlier prompts, by analysis: limits that are known, and the simulated engine."""

import math

import pytest

from simulator.analytic.demands import facts
from simulator.analytic.prefix_reuse import found_on_any, share_found
from simulator.distributions import Constant, Exponential
from simulator.model.conversation import Conversation
from simulator.model.files import loads
from simulator.model.lowering import lower
from simulator.program.instructions import Revisit
from simulator.study.run import Settings, run

LASTING = Revisit(found=800.0, growth=400.0, left=1200.0, again=1.0, idle=Exponential(10.0))


def test_all_is_found_where_there_is_room_for_all_and_nothing_where_there_is_none():
    # 2 prompts a second leave 1,200 tokens each for 10 s on average
    assert share_found(LASTING, 2.0, room=27_000.0) == 1.0
    assert share_found(LASTING, 2.0, room=0.0) == 0.0


@pytest.mark.parametrize("time", [2.0, 10.0, 30.0])
def test_idle_times_below_the_characteristic_time_find_it(time):
    # E[min(I, T)] of an exponential time of mean 10 s is 10 (1 - exp(-T / 10)).
    room = 2.0 * 1200.0 * 10.0 * (1.0 - math.exp(-time / 10.0))
    assert share_found(LASTING, 2.0, room) == pytest.approx(1.0 - math.exp(-time / 10.0), abs=0.04)


def test_conversations_that_have_ended_take_room_from_the_others():
    ending = Revisit(800.0, 400.0, 1200.0, again=0.5, idle=Constant(10.0))
    # All stays for T: half of it until the next prompt after 10 s, the other half for nobody.
    just_enough = 2.0 * 1200.0 * 10.0
    assert share_found(ending, 2.0, 0.99 * just_enough) == 0.0
    assert share_found(ending, 2.0, 1.01 * just_enough) == 1.0


def test_on_one_of_several_engines_older_turns_are_found():
    assert found_on_any(LASTING, 1) == 800.0
    # the last prompt was here (800 tokens) or elsewhere, and the one before that here (400 tokens)
    assert found_on_any(LASTING, 2) == pytest.approx(0.5 * 800.0 + 0.25 * 400.0)


TALK = """
hosts: {app: {cpu: 4}}
llms:
  assistant:
    step_time: {overhead: 1 ms, weights: 6 ms, token: 60 us, generated: 60 ns, mixed: 120 ns}
    kv_tokens: KV
    gpu: {memory: 80 GB, memory_bandwidth: 3 TB/s, price: $4/h}
    gpus: GPUS
    max_sequences: 16
services: {web: {host: app, operations: {say: [{generate: assistant, system: 200}]}}}
workloads:
  chats:
    rate: RATE
    operation: web.say
    conversation:
      turns: {uniform: {low: 2, high: 10}}
      question: 300
      answer: {exponential: 60}
      think: {exponential: 20 s}
"""


@pytest.mark.parametrize(("tokens", "gpus"), [("30k", 1), ("100k", 1), ("1M", 1), ("100k", 3)])
def test_the_engine_saturates_where_analysis_says_with_little_memory_and_with_much(tokens, gpus):
    def talk(rate):
        return loads(TALK.replace("KV", tokens).replace("GPUS", str(gpus)).replace("RATE", f"{rate}/s"))

    most = facts(lower(talk(1.0))).saturation_factor
    settings = Settings(replications=3, duration=1200.0, jobs=1, summaries_only=True)
    below, above = (run(talk(round(share * most, 6)), settings) for share in (0.92, 1.08))
    assert below.stable, below.verdict
    # Well above it the engine does less: those who wait are idle for longer, and what they left is gone.
    assert not above.stable


def test_history_varies_as_turns_and_what_is_said_in_them_do():
    # The first, second or third turn, each as likely: 0, 1 or 2 turns of 300 tokens before it.
    three = {"turns": 3, "question": 200, "answer": 100}
    assert Conversation.model_validate(three).mean_history() == pytest.approx(300.0)
    assert Conversation.model_validate(three).variance_history() == pytest.approx(300.0**2 * 2 / 3)
    # One turn before on average, whose answer varies.
    varied = {**three, "answer": {"exponential": 100}}
    assert Conversation.model_validate(varied).variance_history() == pytest.approx(300.0**2 * 2 / 3 + 100.0**2)
