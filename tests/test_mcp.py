"""Tools of MCP servers: tokens that come into prompts, bytes on the wire, and what is found of them in caches."""

import pytest
from test_language_model_serving import SECOND_STEPS, component, meter, simulated

from simulator.analytic.demands import facts
from simulator.errors import InputError
from simulator.model.files import loads
from simulator.model.lowering import lower

MODEL = """
name: agents
hosts: {app: {cpu: 64}, far: {cpu: 64, nic: 1 Gbit/s}}
llms:
  it: {STEPS, max_sequences: 64}
  api: {provider: {first_token: 1 s, input_price: 1, output_price: 2, cached_price: 0.1, cache_from: 1, cache_step: 1}}
services:
  web: {host: app, operations: {ask: ASK}}
  tools: {host: far, operations: {search: [{delay: 3 s}], slow: [{delay: 100 s}]}}
workloads:
  w: {replay: {times: [0 s]}, operation: web.ask, CONVERSATION}
"""
TURNS = "conversation: {turns: 2, question: 100, answer: 60}"
AGENT = (
    "[{generate: LLM, system: 40, output: 20}, {mcp: tools.search, result: 500, arguments: 20}, "
    "{generate: LLM, system: 40}]"
)


def agents(ask, conversation=TURNS, llm="it"):
    text = MODEL.replace("ASK", ask).replace("CONVERSATION", conversation).replace("LLM", llm)
    return loads(text.replace("STEPS", SECOND_STEPS))


def test_what_a_tool_answers_is_in_all_later_prompts_of_the_conversation():
    turns = simulated(agents(AGENT))["messages.w.turns"]
    first = [40 + 100, 40 + 100 + 20 + 500]
    history = 100 + 20 + 500 + 60
    second = [40 + history + 100, 40 + history + 100 + 20 + 500]
    assert meter(turns, "llms.it.prompt").tolist() == [sum(first), sum(second)]
    assert meter(turns, "llms.it.output").tolist() == [80, 80]
    assert component(turns, "tools.delay").tolist() == [3.0, 3.0]


def test_what_a_tool_answers_was_in_no_prompt_before():
    turns = simulated(agents(AGENT, llm="api"))["messages.w.turns"]
    # The very first prompt finds nothing, the second one of a turn the first and what was generated, and that of the
    # next turn all but its question.
    history = 40 + 100 + 20 + 500 + 60
    assert meter(turns, "llms.api.cached").tolist() == [40 + 120, history + history + 120]


def test_answers_of_tools_that_are_called_at_the_same_time_come_together():
    ask = (
        "[{parallel: [[{mcp: tools.search, result: 500}], [{mcp: tools.search, result: 70}]]}, "
        "{generate: it, input: 10, output: 5}, {generate: it, input: 1, output: 5}]"
    )
    table = simulated(agents(ask, conversation="deadline: 1000 s"))["w"]
    assert meter(table, "llms.it.prompt").tolist() == [10 + 570 + 1 + 570]
    assert component(table, "tools.delay").tolist() == [3.0]


def test_a_request_does_not_have_what_tools_answered_another_one():
    ask = "[{mcp: tools.search, result: 500}, {generate: it, input: 10, output: 5}]"
    text = MODEL.replace("ASK", ask).replace("CONVERSATION", "deadline: 1000 s").replace("STEPS", SECOND_STEPS)
    table = simulated(loads(text.replace("[0 s]", "[0 s, 50 s]")))["w"]
    assert meter(table, "llms.it.prompt").tolist() == [510, 510]


def test_messages_are_as_long_as_their_tokens_and_the_envelope():
    ask = "[{mcp: tools.search, result: 500, arguments: 20, bytes_per_token: 5, envelope: 250 B}]"
    [workload] = facts(lower(agents(ask, conversation="deadline: 1000 s"))).workloads
    sent = {each.resource: each.demand for each in workload.demands}
    assert sent["hosts.far.nic.in"] == pytest.approx(5 * 20 + 250)
    assert sent["hosts.far.nic.out"] == pytest.approx(5 * 500 + 250)


def test_a_tool_that_is_too_slow_fails_the_request_or_is_asked_again():
    ask = "[{mcp: tools.slow, result: 500, timeout: 5 s, retries: 1}]"
    table = simulated(agents(ask, conversation="deadline: 1000 s"))["w"]
    assert table.retries.tolist() == [1]
    assert component(table, "tools.delay").tolist() == pytest.approx([5.0 + 5.0], abs=1e-3)
    assert table.outcome.tolist() != [0]


def test_analysis_knows_of_the_history_what_tools_have_answered():
    without, with_tools = (
        facts(lower(agents(ask, conversation="conversation: {turns: 5, question: 100, answer: 60}")))
        for ask in (AGENT.replace("500", "1"), AGENT)
    )
    demand = [
        next(each.demand for each in found.workloads[0].demands if each.resource == "llms.it")
        for found in (without, with_tools)
    ]
    assert demand[1] > demand[0]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        ("[{mcp: tools.find, result: 5}]", "tools.find"),
        ("[{mcp: tools.search}]", "result"),
        ("[{mcp: tools.search, result: -5}]", "got -5"),
        ("[{mcp: tools.search, result: 5, request: 1 kB}]", "unknown key 'request' of a mcp step"),
    ],
)
def test_mistakes_are_said(ask, message):
    with pytest.raises(InputError, match=message):
        agents(ask, conversation="deadline: 1000 s")
