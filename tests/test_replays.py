"""What is measured of a load that ends: the time from its first arrival to its last completion, and nothing else."""

from typing import Any

import numpy as np
import pytest

import simulator as sim
from simulator.errors import UsageError

REPLAY = """
name: short
hosts: {app: {cpu: 1}}
services: {web: {host: app, operations: {get: [{compute: 500 ms}]}}}
workloads: {shop: {replay: {times: [TIMES]}, operation: web.get}}
"""


def replayed(*times: float, changes: tuple[str, ...] = (), **settings: Any) -> sim.Results:
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
    assert shop.offered_per_s.value == pytest.approx(1.0)
    assert shop.throughput_per_s.value == pytest.approx(20 / 19.5)
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
    assert results.replay_cut_off


def test_requests_that_all_come_and_end_at_once_have_a_time() -> None:
    results = replayed(5, changes=("services.web.operations.get=[]",), duration=10.0)
    assert results.replayed_s is not None
    assert results.replayed_s > 0.0


@pytest.mark.parametrize("settings", [{}, {"engine": "simpy"}, {"jobs": 2}, {"summaries_only": True}], ids=str)
@pytest.mark.parametrize("duration", [20.0, 100.0, 10_000.0])
def test_a_warm_up_that_is_asked_for_is_left_out(duration: float, settings: dict[str, Any]) -> None:
    """Of twenty requests fifteen end in the last 14.5 s."""
    results = replayed(*np.arange(20.0), changes=("run.warm_up=5 s",), duration=duration, **settings)
    shop = results.workloads["shop"]
    assert (results.warm_up_s, results.replayed_s) == (5.0, pytest.approx(14.5))
    assert shop.throughput_per_s.value == pytest.approx(15 / 14.5)
    assert results.resources["hosts.app.cpu"].utilization.value == pytest.approx(7.5 / 14.5)


@pytest.mark.parametrize("warm_up", [19.5, 100.0])
@pytest.mark.parametrize("duration", [50.0, 10_000.0])
def test_a_warm_up_that_leaves_nothing_is_refused(duration: float, warm_up: float) -> None:
    with pytest.raises(UsageError, match="leaves nothing to measure: the load is over"):
        replayed(*np.arange(20.0), changes=(f"run.warm_up={warm_up} s",), duration=duration)


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
@pytest.mark.parametrize("duration", [19.21, 20.0, 20_000.0])
@pytest.mark.parametrize("start", [0.0, 1_000.0])
def test_work_that_is_left_behind_dilutes_nothing(start: float, duration: float, engine: str) -> None:
    """The first of two branches that share a core is done after 200 ms; the other goes on for 200 ms more."""
    left = "[{parallel: [[{compute: 100 ms}], [{compute: 300 ms}]], need: 1, unfinished: continue}]"
    change = f"services.web.operations.get={left}"
    results = replayed(*(start + np.arange(20.0)), changes=(change,), duration=start + duration, engine=engine)
    assert results.replayed_s == pytest.approx(19.2)
    assert results.workloads["shop"].throughput_per_s.value == pytest.approx(20 / 19.2)
    assert results.resources["hosts.app.cpu"].utilization.value == pytest.approx((19 * 0.4 + 0.2) / 19.2)


def test_a_fault_beside_the_load_dilutes_nothing() -> None:
    fault = "faults={f: {host: app, at: 5000 s, lasts: 1 s}}"
    results = replayed(*np.arange(20.0), changes=(fault,), duration=10_000.0)
    assert results.replayed_s == pytest.approx(19.5)
    assert results.workloads["shop"].throughput_per_s.value == pytest.approx(20 / 19.5)
    assert results.faults["f"].availability.value == 1.0
    assert results.simulated_s == 20_000.0


def test_loads_that_go_on_are_measured_to_the_end() -> None:
    again = replayed(*np.arange(20.0), changes=("workloads.shop.replay.repeats=true",), duration=100.0)
    assert again.replayed_s is None
    assert again.workloads["shop"].offered_per_s.value == pytest.approx(1.0, rel=0.05)


def test_the_rate_of_a_recording_is_that_between_its_requests() -> None:
    text = REPLAY.replace("TIMES", "100 s, 101 s, 102 s, 103 s")
    facts = sim.facts(sim.lower(sim.loads(text)))
    assert facts.workloads[0].offered_per_s == pytest.approx(1.0)
    assert facts.saturation_factor == pytest.approx(2.0)


@pytest.mark.parametrize("speed", [1, 2])
@pytest.mark.parametrize("start", [0.0, 0.1])
def test_what_is_offered_is_the_rate_of_the_recording_however_slowly_it_is_served(start: float, speed: int) -> None:
    slow = ("services.web.operations.get=[{compute: 5 s}]", f"workloads.shop.replay.speed={speed}")
    results = replayed(*(start + np.arange(20.0)), changes=slow, duration=1000.0)
    shop = results.workloads["shop"]
    assert shop.offered_per_s.value == pytest.approx(speed)
    assert shop.throughput_per_s.value == pytest.approx(0.2)
    assert results.bottleneck is not None
    assert results.bottleneck.saturation_factor == pytest.approx(0.2 / speed)
    assert not results.replay_cut_off


def test_what_is_offered_after_a_warm_up_is_the_rate_from_then_on() -> None:
    results = replayed(0, 1, 2, 10, 14, 18, changes=("run.warm_up=5 s",), duration=1000.0)
    assert results.workloads["shop"].offered_per_s.value == pytest.approx(0.25)


@pytest.mark.parametrize("times", [(5,), (0,), (5, 5, 5)])
def test_requests_that_come_at_once_have_no_rate(times: tuple[float, ...]) -> None:
    facts = sim.facts(sim.lower(sim.loads(REPLAY.replace("TIMES", ", ".join(f"{time} s" for time in times)))))
    results = replayed(*times)
    offered = results.workloads["shop"].offered_per_s
    assert np.isnan([facts.workloads[0].offered_per_s, offered.value]).all()
    assert facts.saturation_factor == np.inf
    assert results.bottleneck is not None
    assert results.bottleneck.saturation_factor is None
    assert results.workloads["shop"].throughput_per_s.value == pytest.approx(2.0)


def test_a_request_without_a_rate_leaves_the_saturation_by_others() -> None:
    more = ["workloads.more={rate: 1/s, operation: web.get}"]
    assert sim.facts(sim.lower(sim.loads(REPLAY.replace("TIMES", "5 s"), more))).saturation_factor == pytest.approx(2.0)


def test_work_that_goes_on_after_its_request_is_no_more_than_there_is_time_for() -> None:
    left = "[{parallel: [[{delay: 1 s}], [{compute: 30 s}]], need: 1, unfinished: continue}]"
    results = replayed(0, changes=(f"services.web.operations.get={left}",), duration=1000.0)
    assert results.replayed_s == pytest.approx(1.0)
    assert results.resources["hosts.app.cpu"].utilization.value == pytest.approx(1.0)
