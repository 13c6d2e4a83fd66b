"""Times of forks against theory, and races against what is simulated."""

import math

import numpy as np
import pytest

from simulator.analytic.branches import Outcomes, fork_time
from simulator.analytic.demands import WorkloadFacts, facts
from simulator.analytic.order_statistics import at_least
from simulator.analytic.weighted_times import NEVER, always
from simulator.engines.simpy import simulate
from simulator.model.files import loads
from simulator.model.lowering import lower
from simulator.program.program import Program
from simulator.records import COMPLETED
from simulator.study.run import Settings, run

EXPONENTIAL = "[{delay: {exponential: 100 ms}}]"
RACING = "[{delay: {gamma: {mean: 80 ms, cv: 2}}}, {delay: {exponential: 20 ms}}]"


def model(steps: str) -> str:
    return f"""
hosts: {{app: {{cpu: 8}}}}
services: {{web: {{host: app, operations: {{get: {steps}, ask: {EXPONENTIAL}}}}}}}
externals: {{bank: {{latency: {{exponential: 100 ms}}, failures: 30%}}}}
workloads: {{shop: {{rate: 20/s, operation: web.get}}}}
"""


def program_of(steps: str) -> Program:
    return lower(loads(model(steps)))


def shop(steps: str) -> WorkloadFacts:
    return facts(program_of(steps)).workloads[0]


@pytest.mark.parametrize("need", [1, 2, 3, 4, 5])
def test_equal_exponential_branches_take_their_order_statistic(need: int) -> None:
    """The mean of the k-th of n is mean * (1/n + 1/(n-1) + ... + 1/(n-k+1)), by Rényi's representation."""
    found = shop(f"[{{need: {need}, parallel: [{', '.join([EXPONENTIAL] * 5)}]}}]")
    assert found.zero_load_response == pytest.approx(0.1 * sum(1 / (5 - k) for k in range(need)), rel=2e-3)


def test_the_rates_of_a_race_of_exponential_branches_add_up() -> None:
    found = shop(f"[{{need: 1, parallel: [{EXPONENTIAL}, [{{delay: {{exponential: 25 ms}}}}]]}}]")
    assert found.zero_load_response == pytest.approx(1 / (1 / 0.1 + 1 / 0.025), rel=2e-3)


def test_constant_branches_are_exact() -> None:
    parallel = "parallel: [[{delay: 30 ms}], [{delay: 10 ms}, {compute: 5 ms}], [{delay: 20 ms}]]"
    times = [shop(f"[{{need: {need}, {parallel}}}]").zero_load_response for need in (1, 2, 3)]
    assert times == pytest.approx([0.015, 0.020, 0.030], rel=1e-12)


def test_a_branch_of_two_stages_races_with_a_constant() -> None:
    """E[min(Erlang-2, c)] = 2/mu - (2/mu + c) exp(-mu c), with stages of rate mu."""
    found = shop("[{need: 1, parallel: [[{delay: {exponential: 1 s}}, {delay: {exponential: 1 s}}], [{delay: 1 s}]]}]")
    assert found.zero_load_response == pytest.approx(2 - 3 * math.exp(-1), rel=1e-2)


def test_a_fork_in_a_branch_is_one_more_racer() -> None:
    inner = f"[{{need: 1, parallel: [{EXPONENTIAL}, {EXPONENTIAL}]}}]"
    found = shop(f"[{{need: 1, parallel: [{inner}, {EXPONENTIAL}]}}]")
    assert found.zero_load_response == pytest.approx(0.1 / 3, rel=5e-3)


def test_a_hedge_starts_when_nothing_has_answered() -> None:
    """Exponential tries of mean m, the second d later: m (1 - exp(-d/m)) + exp(-d/m) m / 2."""
    found = shop("[{call: web.ask, hedge: 50 ms}]")
    late = math.exp(-0.5)
    assert found.zero_load_response == pytest.approx(0.1 * (1 - late) + late * 0.05, rel=2e-3)


def test_a_hedge_that_comes_half_the_time_asks_for_half() -> None:
    delay = 100 * math.log(2)
    branches = f"{EXPONENTIAL}, [{{delay: {delay} ms}}, {{compute: 9 ms}}]"
    (demand,) = shop(f"[{{need: 1, parallel: [{branches}]}}]").demands
    assert demand.demand == pytest.approx(0.0045, rel=2e-3)


def test_hedges_that_never_come_ask_for_nothing() -> None:
    (demand,) = shop("[{need: 1, parallel: [[{compute: 4 ms}], [{delay: 10 ms}, {compute: 9 ms}]]}]").demands
    assert demand.demand == pytest.approx(0.004)


def test_what_is_abandoned_but_not_cancelled_is_asked_for_in_full() -> None:
    branches = "[{compute: 4 ms}], [{delay: 10 ms}, {compute: 9 ms}]"
    (demand,) = shop(f"[{{need: 1, unfinished: continue, parallel: [{branches}]}}]").demands
    assert demand.demand == pytest.approx(0.013)


RACES = [
    f"[{{need: 1, parallel: [[{{external: bank}}], [{{external: bank}}, {{delay: 30 ms}}], {EXPONENTIAL}]}}]",
    "[{need: 2, parallel: [[{external: bank}], [{external: bank}], [{delay: {gamma: {mean: 80 ms, cv: 2}}}]]}]",
    f"[{{parallel: [[{{repeat: {{exponential: 2.5}}, steps: {EXPONENTIAL}}}], [{{delay: 200 ms}}]]}}]",
    "[{need: 1, parallel: [[{choose: [{probability: 0.2, steps: [{delay: 1 s}]}, {probability: 0.8, steps: "
    "[{delay: {lognormal: {mean: 90 ms, cv: 1}}}]}]}], [{repeat: 3, steps: [{external: bank}]}]]}]",
]


@pytest.mark.parametrize("steps", RACES)
def test_races_take_as_long_as_simulated_whatever_fails(steps: str) -> None:
    program = program_of(steps)
    table = simulate(program, 1000.0, seed=3).requests[0]
    times = (table.end - table.arrival)[np.isfinite(table.end)]
    share = float((table.outcome == COMPLETED).mean())
    found = facts(program).workloads[0]
    assert abs(times.mean() - found.zero_load_response) < 4 * times.std() / math.sqrt(times.size)
    assert share > 0.3


def test_a_race_is_not_called_too_fast() -> None:
    results = run(loads(model(f"[{{need: 1, parallel: [{', '.join([EXPONENTIAL] * 2)}]}}]")), Settings(replications=3))
    assert results.workloads["shop"].latency_s is not None
    assert not [warning for warning in results.warnings if "slow or rare paths" in warning]


def test_at_least_so_many_of_unequal_events() -> None:
    chances = [0.9, 0.5, 0.2]
    each = [np.array([chance]) for chance in chances]
    assert at_least(1, each)[0] == pytest.approx(1 - 0.1 * 0.5 * 0.8)
    assert at_least(2, each)[0] == pytest.approx(0.9 * 0.5 * 0.8 + 0.9 * 0.5 * 0.2 + 0.1 * 0.5 * 0.2 + 0.9 * 0.5 * 0.2)
    assert at_least(3, each)[0] == pytest.approx(0.9 * 0.5 * 0.2)


def test_a_fork_ends_where_too_many_have_failed() -> None:
    fails, works = Outcomes(NEVER, always(1.0)), Outcomes(always(3.0), NEVER)
    found = fork_time([fails, works, works], need=3)
    assert (found.mean, found.succeeded[-1], found.failed[-1]) == (1.0, 0.0, 1.0)
    assert fork_time([fails, works, works], need=2).mean == 3.0


def test_code_elsewhere_does_not_move_a_forks_time() -> None:
    text = model(f"[{{need: 1, parallel: [{RACING}, {EXPONENTIAL}]}}]")
    before = text.replace("services: {", "services: {first: {host: app, operations: {op: [{compute: 1 ms}]}}, ")
    more = before.replace("workloads: {", "workloads: {another: {rate: 1/s, operation: first.op}, ")
    found = {each.workload: each.zero_load_response for each in facts(lower(loads(more))).workloads}
    assert found["shop"] == facts(lower(loads(text))).workloads[0].zero_load_response
