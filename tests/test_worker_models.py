"""Worker models: what a thread, a pool of them, an event loop and an actor wait for, exactly and against theory."""

import pytest
from test_engine_exact import OK, at, compute, delay, run
from test_engines_agree import check_program

import simulator as sim
from simulator.analytic.queues import mg1, mmc

PAGE = [compute(1), delay(3)]
LOOP = {"workers": 1, "worker_model": "event_loop"}


def ends(operations, *times, cores=4, **service):
    finished = run({"op": operations}, {"w": at(*times)}, host={"cpu": cores}, service=service)
    check_program(finished.program, 100.0)
    return [end for _, _, end, outcome in sorted(finished.log()) if outcome == OK]


def test_a_thread_for_each_request():
    assert ends(PAGE, 0, 0, 0, cores=1) == [6, 6, 6]
    assert ends(PAGE, 0, 0, 0) == [4, 4, 4]


def test_a_pool_of_threads_waits_with_its_requests():
    assert ends(PAGE, 0, 0, 0, workers=2) == [4, 4, 8]


def test_an_event_loop_goes_on_while_requests_wait():
    assert ends(PAGE, 0, 0, 0, **LOOP) == [4, 5, 6]


def test_a_blocking_step_stalls_the_loop():
    assert ends([{"block": PAGE}], 0, 0, 0, **LOOP) == [4, 8, 12]
    # Only the delay blocks: the first blocks 1-4, the second computes 4-5 and blocks, and so on.
    assert ends([compute(1), {"block": [delay(3)]}], 0, 0, **LOOP) == [5, 8]
    # Two loops: two requests at a time.
    assert ends([{"block": PAGE}], 0, 0, 0, workers=2, worker_model="event_loop") == [4, 4, 8]


def test_threads_block_anyway():
    assert ends([{"block": PAGE}], 0, 0, 0, workers=2) == ends(PAGE, 0, 0, 0, workers=2)
    assert ends([{"block": PAGE}], 0, 0, 0) == ends(PAGE, 0, 0, 0)


def test_blocks_inside_blocks_and_time_outs_let_go_of_the_loop():
    assert ends([{"block": [compute(1), {"block": [delay(1)]}]}], 0, 0, **LOOP) == [2, 4]
    workloads = {"w": at(0, timeout="1 s"), "x": at(0.5)}
    finished = run({"op": [{"block": [delay(5)]}]}, workloads, service=LOOP)
    assert finished.log("w") == [(0, 0, 1, "timeout")]
    assert finished.log("x") == [(0, 0.5, 6, OK)]


def test_check_knows_what_blocks():
    free, blocked = (
        sim.facts(sim.lower(sim.loads(MODEL % steps))).workloads[0].saturation_throughput
        for steps in ("{compute: 2 ms}, {delay: 10 ms}", "{block: [{compute: 2 ms}, {delay: 10 ms}]}")
    )
    assert (free, blocked) == (pytest.approx(500.0), pytest.approx(1 / 0.012))


MODEL = """
hosts: {h: {cpu: 4}}
services: {s: {host: h, workers: 1, worker_model: event_loop, operations: {o: [%s]}}}
workloads: {w: {rate: 60/s, operation: s.o}}
run: {warm_up: 20 s, confidence: 99.9%%}
"""


def latency(text, duration):
    settings = sim.Settings(replications=8, duration=duration)
    return sim.run(sim.loads(text), settings).workloads["w"].latency_s["mean"]


def test_a_blocked_loop_is_a_queue_of_its_whole_time():
    """M/D/1 with 12 ms at 60/s; an event loop that does not block is one with 2 ms, and 10 ms beside it."""
    for steps, time, beside in (
        ("{block: [{compute: 2 ms}, {delay: 10 ms}]}", 0.012, 0.0),
        ("{compute: 2 ms}, {delay: 10 ms}", 0.002, 0.010),
    ):
        found = latency(MODEL % steps, 220.0)
        theory = mg1(60.0, time, 0.0).response_time + beside
        assert found.low - 1e-9 <= theory <= found.high + 1e-9, (steps, found, theory)


ACTORS = """
hosts: {h: {cpu: 64}}
services:
  s:
    host: h
    workers: 64
    worker_model: event_loop
    operations: {o: [{lock: mailbox, key: {uniform: 20}, steps: [{compute: {exponential: 10 ms}}]}]}
locks: [mailbox]
workloads: {w: {rate: 1200/s, operation: s.o}}
run: {warm_up: 5 s, confidence: 99.9%}
"""


def test_every_actor_is_a_queue_of_its_own():
    """20 queues M/M/1 at 60 % load; one queue of 20 servers would hardly wait at all."""
    found = latency(ACTORS, 65.0)
    theory = mmc(60.0, 0.01, 1).response_time
    assert found.low <= theory <= found.high
    assert found.high - found.low < 0.1 * theory
