"""CPU: quotas, overhead and contention, exactly and against theory."""

import dataclasses
import math
import re

import numpy as np
import pytest
from test_engines_agree import check_program

import simulator as sim
from simulator.distributions import Constant
from simulator.engines import compiled
from simulator.errors import InputError
from simulator.model.cpu import Cpu
from simulator.program.arrivals import Replay
from simulator.program.builder import Builder
from simulator.program.instructions import End, EndScope, Fail, Jump, Place, Scope, Work
from simulator.program.program import Entry, Workload
from simulator.program.stations import Quota, Sharing, capacity_of
from simulator.records import STATION_FIELDS


def jobs_on(station, jobs, duration=100.0, windows=1):
    """Records of jobs (arrival, work, and perhaps seconds to its time-out), each a workload of its own."""
    builder = Builder()
    place = Place((builder.station(station),))
    for number, (arrival, work, *timeout) in enumerate(jobs):
        builder.start_workload()
        start, handler, done = builder.label(), builder.label(), builder.label()
        builder.mark(start)
        if timeout:
            builder.emit(Scope(handler, builder.draw(Constant(timeout[0]), "timeout"), 0))
        builder.emit(Work(place, builder.component("it"), builder.draw(Constant(float(work)), "work")))
        if timeout:
            builder.emit(EndScope())
            builder.emit(Jump(done))
            builder.mark(handler)
            builder.emit(Fail())
        builder.mark(done)
        builder.emit(End())
        choice = builder.draw(Constant(0.0), "operation")
        entries = (Entry("op", start, 1.0),)
        builder.workload(Workload(f"j{number}", Replay((float(arrival),)), entries, choice, (), 0))
    program = builder.build("by hand")
    records = check_program(program, duration, windows=windows)
    station = dict(zip(STATION_FIELDS, records.stations[-1, 0].tolist(), strict=True))
    assert station["busy_area"] == pytest.approx(station["delivered"], rel=1e-12)
    return records, station


def ends(station, jobs, **more):
    records, _ = jobs_on(station, jobs, **more)
    return [float(table.end[0]) for table in records.requests]


QUARTER = Quota(0.25, 1.0, 1)
ONE_CORE = Sharing("cpu", (1.0,), QUARTER)


def test_work_crosses_as_many_periods_as_its_quota_takes():
    records, station = jobs_on(ONE_CORE, [(0, 1)])
    [table] = records.requests
    # 0-0.25, 1-1.25, 2-2.25, 3-3.25: the last quota ends as the work does, which needs no further period.
    assert (table.end[0], table.wait[0, 0], table.service[0, 0]) == (3.25, 2.25, 1.0)
    assert (station["busy_area"], station["waiting_area"], station["completions"]) == (1.0, 2.25, 1)


def test_periods_are_aligned_to_time_0_and_unused_quota_is_lost():
    # 0.875-1, then the new period's quota 1-1.25, then 2-2.125.
    assert ends(ONE_CORE, [(0.875, 0.5)]) == [2.125]
    # A later job finds what is left of its period: 5-5.125 is used, 5.5-5.625 the rest, 6-6.0625.
    assert ends(ONE_CORE, [(5, 0.125), (5.5, 0.1875)]) == [5.125, 6.0625]
    # What was not used before is not there later.
    assert ends(ONE_CORE, [(7.5, 0.375)]) == [8.125]


def test_several_jobs_share_the_quota():
    assert ends(ONE_CORE, [(0, 0.25), (0, 0.25)]) == [1.25, 1.25]
    assert ends(ONE_CORE, [(0, 0.25), (0.5, 0.125), (0.75, 0.125)]) == [0.25, 1.25, 1.25]


def test_two_processors_use_the_quota_twice_as_fast():
    two = Sharing("cpu", (1.0, 2.0), Quota(0.5, 1.0, 2))
    # Both together 0.25 each a period; alone, a job may use the whole quota.
    assert ends(two, [(0, 1), (0, 1)]) == [3.25, 3.25]
    assert ends(two, [(0, 1)]) == [1.5]
    assert ends(two, [(0, 0.75), (0, 0.25)]) == [1.5, 0.25]
    # Three jobs use two processors.
    assert ends(two, [(0, 0.5)] * 3) == [2.25, 2.25, 2.25]


def test_speed_does_not_change_the_quota_of_time():
    fast = Sharing("cpu", (4.0,), QUARTER)
    assert ends(fast, [(0, 2)]) == [1.25]


def test_leaving_while_it_stands_still():
    records, station = jobs_on(ONE_CORE, [(0, 0.5, 0.75), (0, 0.25)])
    assert [float(table.end[0]) for table in records.requests] == [0.75, 1.125]
    assert records.requests[0].wait[0, 0] + records.requests[0].service[0, 0] == 0.75
    assert station["withdrawals"] == 1
    assert station["busy_area"] == 0.375


def test_an_arrival_when_the_period_begins():
    assert ends(ONE_CORE, [(0, 0.5), (1, 0.125)]) == [2.125, 1.25]


def test_samples_change_nothing():
    jobs = [(0.1 * number, 0.07) for number in range(40)]
    few, many = (jobs_on(ONE_CORE, jobs, windows=windows)[0] for windows in (1, 97))
    assert [table.end.tolist() for table in few.requests] == [table.end.tolist() for table in many.requests]


def test_rounding_stops_no_job_at_its_end():
    # 0.25 = 5 * 0.05 in exact arithmetic only.
    assert ends(Sharing("cpu", (1.0,), Quota(0.25, 1.0, 1)), [(0.1 * n, 0.05) for n in range(6)])[:6] == pytest.approx(
        [0.05, 0.15, 0.25, 0.35, 0.45, 1.05]
    )


def test_capacity_is_what_the_quota_lets_through():
    assert capacity_of(ONE_CORE) == 0.25
    assert capacity_of(Sharing("cpu", (1.0, 2.0, 2.5), Quota(0.15, 0.1, 3))) == pytest.approx(1.5)
    assert capacity_of(Sharing("cpu", (1.0, 2.0), Quota(9.0, 1.0, 2))) == 2.0


def model(cpu, workload, steps="{compute: {exponential: 10 ms}}", warm_up="5 s"):
    text = (
        f"hosts: {{h: {{cpu: {cpu}}}}}\nservices: {{s: {{host: h, operations: {{o: [{steps}]}}}}}}\n"
        f"workloads: {{w: {{{workload}, operation: s.o}}}}\nrun: {{warm_up: {warm_up}, confidence: 99.9%}}\n"
    )
    return sim.loads(text)


def results(cpu, workload, steps="{compute: {exponential: 10 ms}}", duration=60.0, warm_up="5 s"):
    return sim.run(model(cpu, workload, steps, warm_up), sim.Settings(replications=8, duration=duration))


@pytest.mark.parametrize(("cores", "cpus"), [(1, 0.25), (2, 0.5), (4, 2.5)])
def test_a_busy_cpu_does_its_quota_and_no_more(cores, cpus):
    system = model(f"{{cores: {cores}, quota: {cpus}}}", "users: 12, ramp_up: 0 s")
    program = sim.lower(system)
    [facts] = sim.facts(program).workloads
    assert facts.saturation_throughput == pytest.approx(cpus / 0.01)
    records = compiled.simulate(program, 50.0, 1)
    assert records.stations[-1, 0, 0] == pytest.approx(cpus * 50.0, rel=1e-9)


def test_periods_much_shorter_than_the_work_are_a_slower_core():
    """M/M/1 with processor sharing at the quota's speed; a request waits for one period more at most."""
    found = results("{cores: 1, quota: {cpus: 40%, period: 1 ms}}", "rate: 2/s", "{compute: {exponential: 100 ms}}",
                    duration=1500.0, warm_up="100 s").workloads["w"].latency_s["mean"]  # fmt: skip
    theory = 0.1 / 0.4 / (1.0 - 2.0 * 0.1 / 0.4)
    assert found.low - 0.001 <= theory <= found.high + 0.001
    assert found.high - found.low < 0.2 * theory


def test_a_quota_that_never_ends_is_none():
    assert sim.lower(model("{cores: 2, quota: 2}", "rate: 1/s")) == sim.lower(model("2", "rate: 1/s"))
    limited, free = (
        sim.lower(model(f"{{cores: 2, quota: {cpus}}}", "rate: 120/s")).stations[0] for cpus in ("1.999999", "3")
    )
    jobs = [(0.13 * number, 0.2) for number in range(200)]
    assert ends(limited, jobs) == pytest.approx(ends(free, jobs))


def test_overhead_is_lost_work():
    assert Cpu.model_validate({"cores": 2, "speed": 2, "overhead": "5%"}).capacity() == pytest.approx((1.9, 3.8))


# Contention: the universal scalability law.

SIGMA, KAPPA = 0.05, 0.0002


def usl(threads, sigma=SIGMA, kappa=KAPPA):
    return threads / (1.0 + sigma * (threads - 1) + kappa * threads * (threads - 1))


def fitted(threads, throughput):
    """Least squares of N X(1) / X(N) - 1 = sigma (N - 1) + kappa N (N - 1)."""
    n = np.array(threads, dtype=float)
    lost = n * throughput[0] / np.array(throughput) - 1.0
    return np.linalg.lstsq(np.column_stack([n - 1.0, n * (n - 1.0)]), lost, rcond=None)[0]


def test_capacity_is_the_law_up_to_the_cores_and_bends_back_beyond():
    table = Cpu.model_validate({"cores": 48, "contention": {"sigma": "5%", "kappa": "0.02%"}}).capacity()
    assert table[:48] == pytest.approx([usl(n) for n in range(1, 49)], rel=1e-12)
    best = math.sqrt((1.0 - SIGMA) / KAPPA)  # Gunther's N*
    many = Cpu.model_validate({"cores": 128, "contention": {"sigma": "5%", "kappa": "0.02%"}}).capacity()
    assert abs(int(np.argmax(many)) + 1 - best) <= 1.0
    assert table[300] < 0.5 * max(table)
    assert min(table) < 0.01 * max(table)


def test_without_exchange_more_threads_than_cores_lose_nothing():
    table = Cpu.model_validate({"cores": 4, "contention": {"sigma": "10%"}}).capacity()
    assert table == pytest.approx([usl(n, 0.1, 0.0) for n in (1, 2, 3, 4)])


def test_closed_model_follows_the_law_and_gives_its_coefficients_back():
    threads = (1, 2, 4, 8, 16, 32, 64, 96)
    cpu = f"{{cores: 96, contention: {{sigma: {SIGMA}, kappa: {KAPPA}}}}}"
    found = [
        results(cpu, f"users: {count}", duration=40.0 / usl(count) + 1.0, warm_up="1 s").workloads["w"].throughput_per_s
        for count in threads
    ]
    for count, each in zip(threads, found, strict=True):
        assert each.low <= 100.0 * usl(count) <= each.high, (count, each)
        assert each.high - each.low < 0.1 * each.value
    sigma, kappa = fitted(threads, [each.value for each in found])
    assert sigma == pytest.approx(SIGMA, rel=0.1)
    assert kappa == pytest.approx(KAPPA, rel=0.1)


@pytest.mark.parametrize(
    ("cpu", "message"),
    [
        ("{cores: 1, quota: 0}", "got 0, expected a factor above 0"),
        ("{cores: 1, quota: {cpus: 1, period: 10 us}}", "got 10 µs, expected at least 1 ms"),
        ("{cores: 1, overhead: 100%}", "overhead: got 100%, expected less than 100 %"),
        ("{cores: 1, contention: {sigma: 2}}", "got 2, expected a share between 0 and 1"),
        ("{cores: 1, contention: {kappa: -1%}}", "got '-1%', expected a share between 0 and 1"),
        ("{cores: 1, contention: {lambda: 1%}}", "lambda"),
    ],
)
def test_bad_parameters_are_refused(cpu, message):
    with pytest.raises(InputError, match=re.escape(message)):
        model(cpu, "rate: 1/s")


def test_twenty_milliseconds_beside_half_a_second_take_forty():
    """A fair share, not a queue: it would take 520 ms behind the other."""
    assert ends(Sharing("cpu", (1.0,)), [(0, 0.5), (0, 0.02)]) == pytest.approx([0.52, 0.04])
    assert dataclasses.replace(ONE_CORE, quota=None) == Sharing("cpu", (1.0,))
