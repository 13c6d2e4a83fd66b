"""Memory of services and requests, and its bandwidth, exactly and against theory."""

import pytest
from test_engine_exact import OK, at, delay, run
from test_engines_agree import TIGHT, check_program

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


def killed(times, *, size="10 B", restart="3 s", steps=None, operations=None, workloads=None, service=None, **sections):
    host = {"memory": {"size": size, "when_full": "restart", "restart": restart}, **sections.pop("host", {})}
    found = run(
        operations or {"op": steps or [delay(2)]}, {"w": at(*times), **(workloads or {})}, host=host,
        service=service or {}, **sections,
    )  # fmt: skip
    check_program(found.program, 100.0)
    check_program(found.program, 100.0, sizes=TIGHT)
    assert all(each.present == 0 for each in found.stations("hosts.h.memory"))
    return found


def test_a_replica_whose_request_finds_no_memory_is_killed_and_started_again():
    # The third request is at 12 of 10 B. It is back at 4.5, just before the fifth one comes.
    found = killed((0, 1, 1.5, 2, 4.5, 5), service={"memory": {"per_request": "4 B"}})
    assert found.log() == [
        (2, 1.5, 1.5, "out of memory"), (0, 0, 1.5, "out of memory"), (1, 1, 1.5, "out of memory"),
        (3, 2, 2, "refused"), (4, 4.5, 6.5, OK), (5, 5, 7, OK),
    ]  # fmt: skip
    assert found.station("hosts.h.memory").busy_area == 4 * (1.5 + 0.5 + 2 + 2)
    assert found.station("services.s.down").busy_area == 3
    assert found.times()[0] == {"s.delay": (0, 1.5)}


def test_those_who_wait_for_a_worker_are_killed_too():
    found = killed((0, 0, 1, 2, 4), service={"memory": {"per_connection": "4 B"}, "workers": 1})
    assert sorted(found.log()) == [
        (0, 0, 1, "out of memory"), (1, 0, 1, "out of memory"), (2, 1, 1, "out of memory"), (3, 2, 2, "refused"),
        (4, 4, 6, OK),
    ]  # fmt: skip


@pytest.mark.parametrize("service", [{"workers": 1}, {"concurrency_limit": 2}])
def test_replicas_of_event_loops_and_with_limits_are_killed(service):
    service = {"worker_model": "event_loop", "memory": {"per_request": "6 B"}, **service}
    found = killed((0, 1, 2, 4), steps=[{"compute": "2 s"}], service=service)
    assert found.log() == [(1, 1, 1, "out of memory"), (0, 0, 1, "out of memory"), (2, 2, 2, "refused"), (3, 4, 6, OK)]


def test_a_request_for_more_than_the_whole_memory_kills():
    found = killed((0, 1, 2), steps=[{"hold": "11 B", "steps": [delay(1)]}])
    assert found.log() == [(0, 0, 0, "out of memory"), (1, 1, 1, "refused"), (2, 2, 2, "refused")]


def test_a_hold_step_kills_and_what_is_held_for_good_stays():
    service = {"memory": {"base": "2 B"}}
    found = killed((0, 1, 4), steps=[delay(0.5), {"hold": "5 B", "steps": [delay(2)]}], service=service)
    assert found.log() == [(1, 1, 1.5, "out of memory"), (0, 0, 1.5, "out of memory"), (2, 4, 4, "refused")]


def test_replicas_elsewhere_are_not_touched():
    # In turn, the first one on instance 0: odd ones on instance 1, even ones on 0, where there are never three.
    service = {"memory": {"per_request": "4 B"}, "replicas": 2}
    found = killed((0, 4, 4.25, 4.5, 4.75, 5, 6.5, 6.625, 6.875), host={"count": 2}, service=service)
    assert found.log() == [
        (0, 0, 2, OK), (5, 5, 5, "out of memory"), (1, 4, 5, "out of memory"), (3, 4.5, 5, "out of memory"),
        (2, 4.25, 6.25, OK), (7, 6.625, 6.625, "refused"), (4, 4.75, 6.75, OK), (6, 6.5, 8.5, OK),
        (8, 6.875, 8.875, OK),
    ]  # fmt: skip
    assert [each.busy_area for each in found.stations("services.s.down")] == [0, 3]


def test_a_health_check_sends_requests_elsewhere_until_it_is_back():
    # Replica 0 is down from 1 to 4, out of the balancer from 1.125 to 4.5; a third one on replica 1 would kill that.
    service = {"memory": {"per_request": "4 B"}, "replicas": 2, "health_check": {"interval": "1.125 s", "failures": 1}}
    found = killed((0, 0.25, 0.5, 0.75, 1, 2.5, 2.75, 5, 5.25, 5.5), host={"count": 2}, service=service)
    assert found.log() == [
        (4, 1, 1, "out of memory"), (0, 0, 1, "out of memory"), (2, 0.5, 1, "out of memory"), (1, 0.25, 2.25, OK),
        (3, 0.75, 2.75, OK), (5, 2.5, 4.5, OK), (6, 2.75, 4.75, OK), (7, 5, 7, OK), (8, 5.25, 7.25, OK),
        (9, 5.5, 7.5, OK),
    ]  # fmt: skip


def test_clients_who_all_try_again_kill_it_again():
    # Both are refused at 2.5, kill it again when it is back at 4, and are refused for the last time at 5.5.
    workloads = {"w": {**at(0, 1), "retries": {"most": 3, "backoff": "1.5 s", "factor": 1.0}}}
    found = killed((), workloads=workloads, service={"memory": {"per_request": "6 B"}})
    assert found.log() == [(0, 0, 5.5, "refused"), (1, 1, 5.5, "refused")]
    assert found.station("services.s.down").busy_area == 6


def test_several_that_find_no_memory_at_once_kill_once():
    branch = [{"hold": "6 B", "steps": [delay(2)]}]
    found = killed((0, 2, 3), steps=[{"parallel": [branch, branch, branch], "need": 1}])
    assert found.log() == [(0, 0, 0, "out of memory"), (1, 2, 2, "refused"), (2, 3, 3, "out of memory")]
    assert found.station("services.s.down").busy_area == 6


def test_a_replica_that_is_down_is_not_killed_again():
    # What t holds leaves no room for a connection to s, which is down from 1 to 4 for all that.
    services = {
        "s": {"host": "h", "memory": {"per_connection": "4 B"}, "operations": {"op": [delay(1)]}},
        "t": {"host": "h", "operations": {"op": [{"hold": "8 B", "steps": [delay(3.5)]}]}},
    }
    workloads = {"w": at(1, 2, 3.75, 4.5), "v": {**at(0), "operation": "t.op"}}
    found = killed((), services=services, workloads=workloads)
    assert found.log() == [
        (0, 1, 1, "out of memory"),
        (1, 2, 2, "refused"),
        (2, 3.75, 3.75, "refused"),
        (3, 4.5, 5.5, OK),
    ]
    assert found.log("v") == [(0, 0, 3.5, OK)]
    assert found.stations("services.s.down")[0].busy_area == 3


def test_a_crash_of_its_host_and_a_kill_overlap():
    crash = {"host": "h", "at": "2 s", "lasts": "4 s"}
    found = killed((0, 1, 5, 6.5), service={"memory": {"per_request": "6 B"}}, faults={"f": crash})
    assert found.log() == [
        (1, 1, 1, "out of memory"),
        (0, 0, 1, "out of memory"),
        (2, 5, 5, "refused"),
        (3, 6.5, 8.5, OK),
    ]


def test_the_analysis_assumes_that_nobody_is_killed():
    service = {"memory": {"per_connection": "1 B", "per_request": "2 B"}}
    restart, reject = (
        sim.facts(run({"op": [delay(2)]}, {"w": at(0)}, host={"memory": memory}, service=service).program)
        for memory in ({"size": "10 B", "when_full": "restart"}, {"size": "10 B", "when_full": "reject"})
    )
    [killing], [rejecting] = restart.workloads, reject.workloads
    assert killing.expected_throughput == rejecting.expected_throughput
    found = {each.resource: each for each in killing.demands}
    assert found["hosts.h.memory"] == next(each for each in rejecting.demands if each.resource == "hosts.h.memory")


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
        ("{size: 1 GiB, when_full: explode}", "{}", "expected 'wait' or 'reject' or 'restart'"),
        ("{size: 1 GiB, restart: 1 s}", "{}", "hosts.h.memory: got restart with when_full: wait, expected it with"),
        ("{size: 1 GiB, when_full: restart, restart: 5}", "{}", "restart: got 5, expected a duration"),
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
