"""Time-outs of a gateway that end with the first token of an answer, in runs that can be worked out by hand."""

import pytest

import simulator as sim
from simulator.model.files import loads
from simulator.records import COMPLETED

SYSTEM = """
name: desk
hosts: {{app: {{cpu: 64}}}}
llms:
  # Steps of a second, one sequence at a time.
  own: {{step_time: {{overhead: 1 s, weights: 0 s, token: 0 s}}, kv_tokens: 100k, max_sequences: {sequences}}}
  slow: {{provider: {{first_token: 5 s, per_token: 1 s}}}}
  hosted: {{provider: {{first_token: 500 ms, per_token: 1 s}}}}
  inner: {{gateway: {{host: app, cpu: 0 s, backends: {{own: {{}}}}}}}}
  it: {{gateway: {{host: app, cpu: 0 s, backends: {{{backends}}}, routing: fallback}}}}
services:
  web: {{host: app, operations: {{ask: [{{generate: it, input: 10, output: 10, streamed: {streamed}}}]}}}}
workloads: {{w: {{replay: {{times: [{times}]}}, operation: web.ask}}}}
run: {{duration: 2 min, warm_up: none}}
"""


def system(backends, times="0 s", streamed="true", sequences=1):
    return loads(SYSTEM.format(backends=backends, times=times, streamed=streamed, sequences=sequences))


def requests(*args, **options):
    """The table of the requests, the same on both engines."""
    program = sim.lower(system(*args, **options))
    found = [sim.simulate(program, 120.0, 3, engine=engine) for engine in ("simpy", "compiled")]
    assert found[0].digest() == found[1].digest()
    return found[0].requests[0]


def times_of(table):
    """When each request ended after it came."""
    return (table.end - table.arrival).tolist()


def first_tokens(table):
    return table.meter[:, table.meters.index("first token")].tolist()


def test_a_back_end_that_does_not_begin_in_time_is_given_up():
    table = requests("slow: {first_token_timeout: 2 s}, hosted: {}")
    assert times_of(table) == [pytest.approx(2.0 + 0.5 + 9.0)]
    assert first_tokens(table) == [pytest.approx(2.5)]


@pytest.mark.parametrize("backend", ["own", "hosted", "inner"])
def test_an_answer_that_has_begun_may_take_long(backend):
    table = requests(f"{backend}: {{first_token_timeout: 2 s}}, slow: {{}}")
    assert times_of(table) == [pytest.approx(9.5 if backend == "hosted" else 10.0)]


def test_a_prompt_that_waits_for_an_engine_is_asked_elsewhere():
    table = requests("own: {first_token_timeout: 2 s}, hosted: {}", times="0 s, 0.5 s")
    assert sorted(times_of(table)) == pytest.approx([10.0, 2.0 + 0.5 + 9.0])


def test_the_time_for_the_whole_answer_still_counts():
    table = requests("own: {first_token_timeout: 2 s, timeout: 6 s}, hosted: {first_token_timeout: 2 s}")
    assert times_of(table) == [pytest.approx(6.0 + 0.5 + 9.0)]


def test_who_reads_nothing_along_sees_no_first_token():
    table = requests("slow: {first_token_timeout: 2 s}, hosted: {}", streamed="false")
    assert times_of(table) == [pytest.approx(5.0 + 9.0)]


def test_every_try_has_the_time_anew():
    table = requests("slow: {first_token_timeout: 2 s, retries: 2}, hosted: {}")
    assert times_of(table) == [pytest.approx(3 * 2.0 + 0.5 + 9.0)]
    assert table.retries.tolist() == [2]


def test_the_first_token_of_any_copy_will_do():
    # The copy comes after 1 s to an engine for two, which has its first token at 2 s: that of the first is at 1 s.
    table = requests("own: {first_token_timeout: 1.5 s, hedge: 1 s}", sequences=2)
    assert table.outcome.tolist() == [COMPLETED]
    assert times_of(table) == [pytest.approx(10.0)]


def test_what_is_abandoned_goes_on_uselessly():
    # The second prompt is given up at 2 s, and computed all the same when the first one ends.
    guard = "first_token_timeout: 2 s, on_timeout: abandon"
    table = requests(f"own: {{{guard}}}, hosted: {{}}", times="0 s, 0 s, 9.5 s")
    assert sorted(times_of(table)) == pytest.approx([10.0, 11.5, 11.5])
    cancelled = requests("own: {first_token_timeout: 2 s}, hosted: {}", times="0 s, 0 s, 9.5 s")
    assert sorted(times_of(cancelled)) == pytest.approx([10.0, 10.5, 11.5])


def test_it_counts_as_a_time_out():
    found = sim.run(
        system("slow: {first_token_timeout: 2 s, retries: 1}, hosted: {}"), sim.Settings(replications=1, jobs=1)
    )
    slow = found.gateways["it"].backends["slow"]
    counts = [found.replayed_s * each.per_s.value for each in (slow.timeouts, slow.errors)]
    assert counts == pytest.approx([2.0, 0.0])


def test_a_breaker_sees_it():
    guard = "first_token_timeout: 2 s, circuit_breaker: {consecutive: 1, open: 1 min}"
    table = requests(f"slow: {{{guard}}}, hosted: {{}}", times="0 s, 5 s")
    assert times_of(table) == pytest.approx([11.5, 9.5])


def test_the_first_token_has_less_time_than_all_of_them():
    with pytest.raises(sim.InputError, match="first_token_timeout: got 30 s, expected less than the timeout of 20 s"):
        system("slow: {first_token_timeout: 30 s, timeout: 20 s}")
