"""Times of forks against theory, and races against what is simulated."""

import math
import time
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import gammaincc, ndtr

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

Floats = NDArray[np.float64]

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


@pytest.mark.parametrize(("draws", "delay"), [(10, 100), (10, 120), (40, 420)])
def test_a_hedge_of_several_draws_in_a_row_comes_by_their_sum(draws: int, delay: int) -> None:
    several = "[" + ", ".join(["{delay: {exponential: 10 ms}}"] * draws) + "]"
    (demand,) = shop(f"[{{need: 1, parallel: [{several}, [{{delay: {delay} ms}}, {{compute: 9 ms}}]]}}]").demands
    assert demand.demand / 0.009 == pytest.approx(gammaincc(draws, delay / 10), abs=3e-3)


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


def alike(branch: str, count: int, need: int) -> str:
    return f"[{{need: {need}, parallel: [{', '.join([branch] * count)}]}}]"


def mean_of_maximum(count: int, tail: Callable[[Floats], Floats]) -> float:
    """The integral of 1 - (1 - tail)^count, on a logarithmic scale; times from 1 ns to 1e6 s."""
    times = np.exp(np.linspace(math.log(1e-9), math.log(1e6), 200_001))
    survives = -np.expm1(count * np.log1p(-np.minimum(tail(times), 1.0 - 1e-16)))
    return float(np.trapezoid(survives, times)) + 1e-9


def pareto_tail(times: Floats) -> Floats:
    low, high = 0.01, 1000.0
    inside = np.clip(times, low, high)
    return ((low / inside) ** 1.1 - (low / high) ** 1.1) / (1.0 - (low / high) ** 1.1)


def lognormal_tail(times: Floats) -> Floats:
    square = math.log(101.0)
    return ndtr(-(np.log(times / 0.1) + 0.5 * square) / math.sqrt(square))


TAILS = {
    "bounded_pareto: {low: 10 ms, high: 1000 s, shape: 1.1}": pareto_tail,
    "lognormal: {mean: 100 ms, cv: 10}": lognormal_tail,
    "gamma: {mean: 100 ms, cv: 2}": lambda times: gammaincc(0.25, times / 0.4),
    "erlang: {mean: 100 ms, stages: 3}": lambda times: gammaincc(3.0, times / (0.1 / 3)),
}


@pytest.mark.parametrize("count", [2, 20, 500])
@pytest.mark.parametrize("draw", TAILS)
def test_the_slowest_of_many_is_as_slow_as_the_tail_makes_it(draw: str, count: int) -> None:
    found = shop(alike(f"[{{delay: {{{draw}}}}}]", count, count))
    assert found.zero_load_response == pytest.approx(mean_of_maximum(count, TAILS[draw]), rel=2e-3)


@pytest.mark.parametrize(("chance", "seconds"), [(3e-4, 100), (5e-4, 100), (1e-4, 1000), (1e-7, 1e6)])
def test_a_rare_path_counts_by_its_probability(chance: float, seconds: float) -> None:
    ways = f"{{probability: {chance}, steps: [{{delay: {seconds} s}}]}}, {{probability: {1 - chance}, steps: []}}"
    found = shop(f"[{{parallel: [[{{choose: [{ways}]}}], [{{delay: 100 ms}}]]}}]")
    assert found.zero_load_response == pytest.approx(0.1 + chance * (seconds - 0.1), rel=1e-6)


@pytest.mark.parametrize("need", [1, 2, 1000, 2000])
def test_order_statistics_of_thousands(need: int) -> None:
    exact = 0.1 * sum(1 / (2000 - k) for k in range(need))
    assert shop(alike(EXPONENTIAL, 2000, need)).zero_load_response == pytest.approx(exact, rel=3e-3)


def test_races_of_races_stay_right() -> None:
    branch = EXPONENTIAL
    for _ in range(5):
        branch = alike(branch, 3, 1)
    assert shop(branch).zero_load_response == pytest.approx(0.1 / 3**5, rel=3e-3)


@pytest.mark.parametrize("need", [1, 2])
def test_ten_draws_in_a_row(need: int) -> None:
    """The maximum and the minimum of two Erlang-10: together twice the mean."""
    slowest = mean_of_maximum(2, lambda times: gammaincc(10.0, times / 0.1))
    found = shop(alike("[" + ", ".join(["{delay: {exponential: 100 ms}}"] * 10) + "]", 2, need))
    assert found.zero_load_response == pytest.approx(slowest if need == 2 else 2.0 - slowest, rel=5e-3)


@pytest.mark.parametrize("mean", [8, 9, 20, 200])
def test_loops_of_any_number_of_turns(mean: int) -> None:
    """The number rounds to k >= 1 with q^(k - 1) (1 - q) exp(-1 / 2N), q = exp(-1 / N): so many turns are exponential.

    None are turned with the rest.
    """
    any_turn = math.exp(-0.5 / mean)
    each = 0.1 / -math.expm1(-1 / mean)
    slowest = each * (2 * any_turn * (1 - any_turn) + any_turn**2 * 1.5)
    loop = f"[{{repeat: {{exponential: {mean}}}, steps: {EXPONENTIAL}}}]"
    assert shop(alike(loop, 2, 2)).zero_load_response == pytest.approx(slowest, rel=3e-3)


def test_a_constant_number_of_very_many_turns_is_nearly_normal() -> None:
    loop = f"[{{repeat: 1000, steps: {EXPONENTIAL}}}]"
    spread = 0.1 * math.sqrt(1000) / math.sqrt(math.pi)
    assert shop(alike(loop, 2, 2)).zero_load_response - 100.0 == pytest.approx(spread, rel=2e-2)


def test_a_loop_ends_at_the_first_turn_that_fails() -> None:
    """Of failures 30 % of the time: the k-th of 100 turns is taken with 0.7^(k - 1)."""
    loop = "[{repeat: 100, steps: [{external: bank}]}]"
    found = shop(f"[{{parallel: [{loop}, [{{delay: 1 us}}]]}}]")
    assert found.zero_load_response == pytest.approx(0.1 / 0.3, rel=3e-3)


def test_so_many_turns_that_none_finishes() -> None:
    loop = "[{repeat: 1e6, steps: [{external: bank}]}]"
    assert shop(alike(loop, 2, 1)).zero_load_response == pytest.approx(0.1 / 0.3 * 1.5, rel=3e-3)


def test_very_many_different_branches_are_nearly_as_exact() -> None:
    generator = np.random.default_rng(0)
    probabilities = [np.full(1000, chance) for chance in generator.uniform(0.2, 0.6, 500)]
    exact = [at_least(need, [each[:1] for each in probabilities])[0] for need in (190, 200, 220)]
    nearly = [at_least(need, probabilities)[0] for need in (190, 200, 220)]
    assert nearly == pytest.approx(exact, abs=2e-4)


def test_equal_events_are_those_of_a_binomial() -> None:
    chances = np.array([0.0, 0.1, 0.5, 1.0])
    for need in (1, 3, 40, 70, 100):
        one_by_one = at_least(need, [chances.copy() for _ in range(100)])
        assert at_least(need, [chances] * 100) == pytest.approx(one_by_one, abs=1e-12)


def test_thousands_of_branches_take_no_time_to_check() -> None:
    different = ", ".join(f"[{{delay: {{exponential: {100 + k / 100} ms}}}}]" for k in range(1000))
    program = program_of(f"[{{need: 500, parallel: [{different}]}}]")
    started = time.process_time()
    facts(program)
    assert time.process_time() - started < 5.0


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
