"""What is measured of a load that ends: the time from its first arrival to its last completion, and nothing else."""

import numpy as np
import pytest

import simulator as sim

REPLAY = """
name: short
hosts: {app: {cpu: 1}}
services: {web: {host: app, operations: {get: [{compute: 500 ms}]}}}
workloads: {shop: {replay: {times: [TIMES]}, operation: web.get}}
"""


def replayed(*times: float, changes: tuple[str, ...] = (), **settings: float) -> sim.Results:
    text = REPLAY.replace("TIMES", ", ".join(f"{time} s" for time in times))
    return sim.run(sim.loads(text, list(changes)), sim.Settings(replications=2, **settings))


@pytest.mark.parametrize("duration", [None, 200.0, 10_000.0])
@pytest.mark.parametrize("start", [0.0, 100.0])
def test_idle_time_before_and_after_a_replay_is_not_measured(start: float, duration: float | None) -> None:
    """Twenty requests, one a second, of half a second each, last for 19.5 s."""
    results = replayed(*(start + np.arange(20.0)), duration=duration)
    shop = results.workloads["shop"]
    assert results.replayed_s == pytest.approx(19.5)
    assert (results.requests, results.warm_up_s) == (40, 0.0)
    assert shop.offered_per_s.value == shop.throughput_per_s.value == pytest.approx(20 / 19.5)
    assert results.resources["hosts.app.cpu"].utilization.value == pytest.approx(10 / 19.5)
    assert shop.in_flight_mean.value == pytest.approx(10 / 19.5)
    assert results.bottleneck is not None
    assert results.bottleneck.utilization.value == pytest.approx(10 / 19.5)


def test_latencies_are_those_of_all_requests() -> None:
    found = replayed(0, 0, 0, 10).workloads["shop"].latency_s
    assert found is not None
    assert found["mean"].value == pytest.approx((1.5 + 1.5 + 1.5 + 0.5) / 4)


def test_a_run_that_is_too_short_measures_until_its_end_and_says_so() -> None:
    results = replayed(*np.arange(20.0), duration=10.25)
    assert results.replayed_s == pytest.approx(10.25)
    assert results.workloads["shop"].throughput_per_s.value == pytest.approx(10 / 10.25)
    assert "not ended" in " ".join(results.warnings)


def test_requests_that_all_come_and_end_at_once_have_a_time() -> None:
    results = replayed(5, changes=("services.web.operations.get=[]",), duration=10.0)
    assert results.replayed_s is not None
    assert results.replayed_s > 0.0


def test_a_warm_up_that_is_asked_for_is_left_out() -> None:
    results = replayed(*np.arange(200.0), changes=("run.warm_up=100 s",), duration=1000.0)
    assert results.warm_up_s >= 100.0
    assert results.workloads["shop"].throughput_per_s.value == pytest.approx(1.0, rel=0.1)


def test_loads_that_go_on_are_measured_to_the_end() -> None:
    again = replayed(*np.arange(20.0), changes=("workloads.shop.replay.repeats=true",), duration=100.0)
    assert again.replayed_s is None
    assert again.workloads["shop"].offered_per_s.value == pytest.approx(1.0, rel=0.05)


def test_the_rate_of_a_recording_is_that_between_its_requests() -> None:
    text = REPLAY.replace("TIMES", "100 s, 101 s, 102 s, 103 s")
    facts = sim.facts(sim.lower(sim.loads(text)))
    assert facts.workloads[0].offered_per_s == pytest.approx(1.0)
    assert facts.saturation_factor == pytest.approx(2.0)


def test_work_that_goes_on_after_its_request_is_no_more_than_there_is_time_for() -> None:
    left = "[{parallel: [[{delay: 1 s}], [{compute: 30 s}]], need: 1, unfinished: continue}]"
    results = replayed(0, changes=(f"services.web.operations.get={left}",), duration=1000.0)
    assert results.replayed_s == pytest.approx(5.0)  # the first sampling time after the request's end
    assert results.resources["hosts.app.cpu"].utilization.value == pytest.approx(1.0)
