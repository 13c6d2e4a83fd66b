"""Memory of services and requests, and its bandwidth, exactly and against theory."""

import pytest
from test_engine_exact import OK, at, delay, run
from test_engines_agree import check_program

import simulator as sim
from simulator.analytic.queues import erlang_b, mg1_ps


def finished(memory, when_full="wait", *times, steps=None, **service):
    found = run(
        {"op": steps or [delay(2)]}, {"w": at(*times)}, host={"memory": {"size": "10 B", "when_full": when_full}},
        service={"memory": memory, **service},
    )  # fmt: skip
    check_program(found.program, 100.0)
    return found


def test_requests_hold_memory_to_their_end():
    found = finished({"per_request": "4 B"}, "wait", 0, 0, 0)
    assert found.log() == [(0, 0, 2, OK), (1, 0, 2, OK), (2, 0, 4, OK)]
    assert found.times()[2] == {"s.memory": (2, 0), "s.delay": (0, 2)}
    assert found.station("hosts.h.memory").busy_area == 3 * 4 * 2


def test_full_memory_turns_away_by_its_own_reason():
    found = finished({"per_request": "4 B"}, "reject", 0, 0, 0, 2.5)
    assert sorted(found.log()) == [(0, 0, 2, OK), (1, 0, 2, OK), (2, 0, 0, "out of memory"), (3, 2.5, 4.5, OK)]
    found = finished({"per_request": "11 B"}, "reject", 0)
    assert found.log() == [(0, 0, 0, "does not fit")]


def test_what_a_replica_holds_for_good_is_not_there():
    assert [end for *_, end, _ in finished({"base": "3 B", "per_request": "4 B"}, "wait", 0, 0).log()] == [2, 4]
    found = finished({"base": "1 B", "per_request": "4 B"}, "wait", 0, 0, replicas=3)
    assert found.station("hosts.h.memory").busy_area == 16
    assert sorted(end for *_, end, _ in found.log()) == [2, 4]


def test_connections_hold_while_they_wait_for_a_worker():
    # Two connections of 4 B; the third waits for memory until the first is done, the second for the worker.
    found = finished({"per_connection": "4 B"}, "wait", 0, 0, 0, workers=1)
    assert sorted(found.log()) == [(0, 0, 2, OK), (1, 0, 4, OK), (2, 0, 6, OK)]
    assert found.times()[1] == {"s.workers": (2, 0), "s.delay": (0, 2)}
    assert found.times()[2] == {"s.memory": (2, 0), "s.workers": (2, 0), "s.delay": (0, 2)}
    # Without a worker, requests hold nothing of their own.
    found = finished({"per_request": "6 B"}, "reject", 0, 0, workers=1)
    assert sorted(found.log()) == [(0, 0, 2, OK), (1, 0, 4, OK)]


def test_memory_is_given_back_by_those_who_fail():
    found = finished({"per_request": "6 B"}, "reject", 0, 1, steps=[delay(0.5), {"fail": "broken"}])
    assert [outcome for *_, outcome in found.log()] == ["broken", "broken"]
    assert found.station("hosts.h.memory").present == 0


def test_bandwidth_is_shared():
    host = {"cpu": 8, "memory": {"size": "1 GB", "bandwidth": "10 B/s"}}
    found = run({"op": [{"move": "10 B"}], "no": [{"move": "10 B"}]}, {"w": at(0, 0, 5)}, host=host)
    check_program(found.program, 100.0)
    assert found.log() == [(0, 0, 2, OK), (1, 0, 2, OK), (2, 5, 6, OK)]
    assert found.station("hosts.h.memory.bandwidth").busy_area == 30
    unlimited = run({"op": [{"move": "10 B"}]}, {"w": at(0)}, host={"memory": "1 GB"})
    assert unlimited.log() == [(0, 0, 0, OK)]


def test_moving_holds_the_event_loop():
    host = {"cpu": 8, "memory": {"size": "1 GB", "bandwidth": "10 B/s"}}
    service = {"workers": 1, "worker_model": "event_loop"}
    found = run({"op": [{"move": "10 B"}]}, {"w": at(0, 0)}, host=host, service=service)
    assert found.log() == [(0, 0, 1, OK), (1, 0, 2, OK)]


MODEL = """
hosts: {h: {cpu: 64, memory: {size: 1 GiB, when_full: reject, bandwidth: 10 GB/s}}}
services: {s: {host: h, memory: {base: 24 MiB, per_request: %s}, operations: {o: [%s]}}}
workloads: {w: {rate: %s, operation: s.o}}
run: {warm_up: 5 s, confidence: 99.9%%}
"""


def results(size, steps, rate, duration):
    settings = sim.Settings(replications=8, duration=duration)
    return sim.run(sim.loads(MODEL % (size, steps, rate)), settings).workloads["w"]


def test_requests_that_find_no_memory_are_those_of_erlangs_formula():
    """10 requests fit: M/M/10/10."""
    found = results("100 MiB", "{delay: {exponential: 100 ms}}", "80/s", 505.0)
    loss = erlang_b(8.0, 10)
    assert found.error_rate.low <= loss <= found.error_rate.high
    assert found.error_rate.high - found.error_rate.low < 0.2 * loss
    assert set(found.errors) == {"out of memory"}


def test_memory_bandwidth_is_processor_sharing():
    """M/M/1-PS: 10 MB on average at 10 GB/s take 1 ms, 600 of them a second."""
    found = results("1 MiB", "{move: {exponential: 10 MB}}", "600/s", 65.0).latency_s["mean"]
    assert found.low <= mg1_ps(600.0, 0.001).response_time <= found.high


@pytest.mark.parametrize(
    ("memory", "service", "message"),
    [
        ("1 GiB", "{base: 1 GiB}", "services.s.memory.base: services hold all memory of a host 'h' for good"),
        ("", "{base: 1 GiB}", "services.s.memory: host 'h' has no memory, expected one (hosts.h.memory)"),
        ("1 GiB", "{per_request: 5}", "per_request: got 5, expected a size"),
        ("1 GiB", "{per_request: -5 B}", "expected a size"),
        ("{size: 1 GiB, when_full: explode}", "{}", "expected 'wait' or 'reject'"),
        ("{size: 1 GiB, bandwidth: 0 B/s}", "{}", "expected a bandwidth above 0"),
    ],
)
def test_bad_parameters_are_refused(memory, service, message):
    host = f"memory: {memory}" if memory else ""
    text = f"""
hosts: {{h: {{cpu: 1, {host}}}}}
services: {{s: {{host: h, memory: {service}, operations: {{o: [delay: 1 s]}}}}}}
workloads: {{w: {{rate: 1/s, operation: s.o}}}}
"""
    with pytest.raises(sim.InputError) as caught:
        sim.loads(text)
    assert message in str(caught.value)
