"""A user's own SimPy process as a station: it behaves as theory says, is interrupted by time-outs, and is checked."""

import pytest
import simpy

import simulator as sim
from simulator.analytic.queues import mmc
from simulator.errors import UsageError

RATE, PICK, ROBOTS = 1.5, 1.0, 2
CONFIDENCE = 0.999
MODEL = f"""
hosts: {{office: {{cpu: 1}}}}
services:
  warehouse:
    host: office
    operations:
      pick: [{{use: robot, demand: {{exponential: {PICK} s}}}}]
workloads:
  orders: {{rate: {RATE}/s, operation: warehouse.pick}}
run: {{seed: 7, replications: 20, duration: 2000 s, warm_up: 100 s, confidence: {CONFIDENCE}}}
"""


def robots(environment):
    """Two robots that pick one order after the other, first come, first served."""
    crew = simpy.Resource(environment, capacity=ROBOTS)

    def pick(job):
        with crew.request() as robot:
            yield robot
            yield environment.timeout(job.amount)

    return pick


def test_two_robots_are_two_servers():
    results = sim.run(sim.loads(MODEL), sim.Settings(processes={"robot": robots}))
    theory = mmc(RATE, PICK, ROBOTS)
    latency = results.workloads["orders"].latency_s["mean"]
    assert latency.contains(theory.response_time), (latency, theory)
    assert latency.relative_half_width < 0.1
    jobs = results.workloads["orders"].in_flight_mean
    assert jobs.contains(theory.number_in_system)
    assert results.workloads["orders"].breakdown["warehouse.robot"].service_s.value == pytest.approx(latency.value)


def test_three_robots_are_not_two():
    """Negative control: the check above can fail."""

    def crew_of_three(environment):
        crew = simpy.Resource(environment, capacity=3)

        def pick(job):
            with crew.request() as robot:
                yield robot
                yield environment.timeout(job.amount)

        return pick

    results = sim.run(sim.loads(MODEL), sim.Settings(processes={"robot": crew_of_three}))
    theory = mmc(RATE, PICK, ROBOTS)
    assert not results.workloads["orders"].latency_s["mean"].contains(theory.response_time)


def test_a_process_is_told_whom_it_serves():
    seen = []

    def watch(environment):
        def serve(job):
            seen.append((job.workload, job.operation, job.number, job.amount, environment.now))
            yield environment.timeout(0.25)

        return serve

    model = sim.loads(MODEL, ["workloads.orders.arrivals=constant", "services.warehouse.operations.pick.0.demand=3 s"])
    records = sim.simulate(sim.lower(model), 3.0, processes={"robot": watch})
    gap = 1.0 / RATE
    assert [each[:4] for each in seen] == [("orders", "warehouse.pick", number, 3.0) for number in range(len(seen))]
    assert [each[4] for each in seen] == pytest.approx([gap * (number + 1) for number in range(len(seen))])
    assert (records.requests[0].end - records.requests[0].arrival)[0] == pytest.approx(0.25)


def test_a_time_out_interrupts_the_process_which_gives_its_robot_back():
    """Of orders 1 s apart that one robot would pick for 3 s, all give up after 0.5 s, so that it is free for each."""
    interrupted = []

    def robot(environment):
        crew = simpy.Resource(environment, capacity=1)

        def pick(job):
            with crew.request() as turn:
                yield turn
                try:
                    yield environment.timeout(job.amount)
                except simpy.Interrupt as interrupt:
                    interrupted.append((environment.now, interrupt.cause))

        return pick

    changes = ["workloads.orders.rate=1/s", "workloads.orders.arrivals=constant", "workloads.orders.timeout=0.5 s",
               "services.warehouse.operations.pick.0.demand=3 s"]  # fmt: skip
    records = sim.simulate(sim.lower(sim.loads(MODEL, changes)), 5.25, processes={"robot": robot})
    assert interrupted == [(1.5, "cancelled"), (2.5, "cancelled"), (3.5, "cancelled"), (4.5, "cancelled")]
    table = records.requests[0]
    assert list((table.end - table.arrival)[:4]) == [0.5] * 4


def test_a_process_that_was_not_given_is_asked_for():
    with pytest.raises(UsageError, match="no process was given for the station 'robot'"):
        sim.run(sim.loads(MODEL))
