"""Priorities in the model language against Cobham's formula for the non-preemptive M/M/1 queue."""

import pytest

from simulator.analytic.queues import mm1_priority
from simulator.model.files import loads
from simulator.study.run import Settings, run

SERVICE_TIME = 0.001
RATES = (300.0, 500.0)
MODEL = """
hosts: {h: {cpu: 1, disk: {iops: 1000, discipline: DISCIPLINE}}}
services: {s: {host: h, operations: {o: [read: 0 B]}}}
workloads:
  urgent: {rate: 300/s, operation: s.o, priority: 0}
  patient: {rate: 500/s, operation: s.o, priority: 1}
run: {duration: 20 s, warm_up: 1 s, replications: 20, confidence: 99.9%}
"""


def responses(discipline):
    results = run(loads(MODEL.replace("DISCIPLINE", discipline)), Settings(jobs=2))
    return [results.workloads[name].latency_s["mean"] for name in ("urgent", "patient")]


@pytest.fixture(scope="module")
def theory():
    return [queue.response_time for queue in mm1_priority(RATES, (SERVICE_TIME, SERVICE_TIME))]


def test_urgent_requests_overtake_as_theory_says(theory):
    simulated = responses("priority")
    assert all(estimate.contains(value) for estimate, value in zip(simulated, theory, strict=True))
    assert all(estimate.relative_half_width < 0.1 for estimate in simulated)


def test_first_in_first_out_fails_the_same_check(theory):
    assert not any(estimate.contains(value) for estimate, value in zip(responses("fifo"), theory, strict=True))
