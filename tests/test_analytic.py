"""Closed forms against textbook values, Markov chains, exact fractions and simulation."""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import trapezoid

from simulator.analytic.caches import che_hit_ratio, fifo_hit_ratio, lfu_hit_ratio, ttl_hit_ratio
from simulator.analytic.networks import (
    asymptotic_bounds,
    balanced_job_bounds,
    jackson,
    mva,
    mva_multiclass,
    saturation_point,
)
from simulator.analytic.queues import (
    Queue,
    erlang_b,
    erlang_c,
    fork_join_2_mm1,
    fork_join_bounds,
    mg1,
    mg1_ps,
    mgc,
    mm1,
    mm1_priority,
    mmc,
    mmc_ps,
    mmck,
)

State = tuple[int, ...]
loads = st.floats(0.0, 0.99)
times = st.floats(1e-4, 100.0)
server_counts = st.integers(1, 50)
demand_lists = st.lists(st.floats(1e-3, 10.0), min_size=1, max_size=5)


def stationary(start: State, moves: Callable[[State], Iterable[tuple[State, float]]]) -> dict[State, float]:
    """Solve the balance equations of the Markov chain reachable from `start`."""
    index, frontier, rates = {start: 0}, [start], []
    while frontier:
        state = frontier.pop()
        for target, rate in moves(state):
            if target not in index:
                index[target] = len(index)
                frontier.append(target)
            rates.append((index[state], index[target], rate))
    generator = np.zeros((len(index), len(index)))
    for source, target, rate in rates:
        generator[source, target] += rate
        generator[source, source] -= rate
    balance = generator.T
    balance[0] = 1.0
    right = np.zeros(len(index))
    right[0] = 1.0
    return dict(zip(index, np.linalg.solve(balance, right), strict=True))


def mean(chain: dict[State, float], value: Callable[[State], float]) -> float:
    return math.fsum(probability * value(state) for state, probability in chain.items())


def assert_same(one: Queue, other: Queue, rel: float = 1e-9) -> None:
    for name in Queue.__dataclass_fields__:
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=rel, abs=1e-12), name


@pytest.mark.parametrize(
    ("load", "servers", "lost"),
    [
        (1.0, 1, Fraction(1, 2)),
        (2.0, 2, Fraction(2, 5)),
        (3.0, 3, Fraction(9, 26)),
        (0.0, 3, Fraction(0)),
        (4.0, 0, Fraction(1)),
    ],
)
def test_erlang_b_by_hand(load, servers, lost):
    assert erlang_b(load, servers) == pytest.approx(float(lost), rel=1e-14)


@pytest.mark.parametrize(
    ("servers", "load", "lost"),
    [(5, 1.361, 0.01), (10, 4.461, 0.01), (20, 12.03, 0.01), (100, 84.06, 0.01), (10, 6.216, 0.05)],
)
def test_erlang_b_traffic_tables(servers, load, lost):
    # Tables give the load to four digits for a round loss.
    half_a_digit = 0.005 if load >= 10 else 0.0005
    assert erlang_b(load - half_a_digit, servers) < lost < erlang_b(load + half_a_digit, servers)


def test_erlang_formulas_for_many_servers():
    # 1 / B = 1 + c/a + c(c - 1)/a² + ..., all terms positive.
    load, servers = 2900.0, 3000
    factors = np.arange(servers, 0, -1) / load
    lost = 1 / (1 + math.fsum(np.cumprod(factors)))
    assert erlang_b(load, servers) == pytest.approx(lost, rel=1e-11)
    assert erlang_c(load, servers) == pytest.approx(lost / (1 - load / servers * (1 - lost)), rel=1e-11)


@given(load=st.floats(0.01, 40.0), servers=st.integers(1, 60))
def test_erlang_b_is_mmcc_and_falls_with_servers(load, servers):
    assert erlang_b(load, servers) == pytest.approx(mmck(load, 1.0, servers, servers).loss_probability, rel=1e-9)
    assert erlang_b(load, servers + 1) < erlang_b(load, servers)


def test_mm1_by_hand():
    queue = mm1(8.0, 0.1)
    assert_same(
        queue,
        Queue(
            utilization=0.8,
            wait=0.4,
            response_time=0.5,
            queue_length=3.2,
            number_in_system=4.0,
            throughput=8.0,
            loss_probability=0.0,
        ),
    )
    assert queue.response_time_quantile(0.95) == pytest.approx(0.5 * math.log(20))
    assert queue.wait_quantile(0.95) == pytest.approx(0.5 * math.log(16))
    assert queue.wait_quantile(0.2) == 0.0


def test_mmc_clinic_of_gross_and_harris():
    # Three doctors, 6 patients an hour, 20 minutes each: Lq = 8/9, Wq = 8/54 h, L = 26/9.
    queue = mmc(6.0, 1 / 3, 3)
    assert queue.waiting_probability == pytest.approx(4 / 9)
    assert queue.queue_length == pytest.approx(8 / 9)
    assert queue.wait == pytest.approx(8 / 54)
    assert queue.number_in_system == pytest.approx(26 / 9)


@pytest.mark.parametrize(
    ("arrival_rate", "servers", "capacity"),
    [(0.5, 1, 1), (2.0, 1, 7), (3.0, 4, 4), (3.5, 4, 11), (30.0, 5, 9)],
)
def test_mmck_against_its_markov_chain(arrival_rate, servers, capacity):
    service_time = 0.7

    def moves(state):
        (number,) = state
        if number < capacity:
            yield (number + 1,), arrival_rate
        if number:
            yield (number - 1,), min(number, servers) / service_time

    chain = stationary((0,), moves)
    queue = mmck(arrival_rate, service_time, servers, capacity)
    lost = chain[(capacity,)]
    assert queue.loss_probability == pytest.approx(lost, rel=1e-9)
    assert queue.number_in_system == pytest.approx(mean(chain, lambda s: s[0]), rel=1e-9)
    assert queue.queue_length == pytest.approx(mean(chain, lambda s: max(s[0] - servers, 0)), rel=1e-9)
    assert queue.utilization == pytest.approx(mean(chain, lambda s: min(s[0], servers)) / servers, rel=1e-9)
    assert queue.throughput == pytest.approx(arrival_rate * (1 - lost), rel=1e-9)


@pytest.mark.parametrize("servers", [1, 3, 40])
def test_mmck_tends_to_mmc(servers):
    assert_same(mmck(0.8 * servers, 1.0, servers, 400), mmc(0.8 * servers, 1.0, servers))


def test_mmck_at_extremes():
    assert mmck(1e9, 1.0, 2, 5000).throughput == pytest.approx(2.0)
    idle = mmck(0.0, 1.0, 2, 10)
    assert (idle.number_in_system, idle.response_time, idle.loss_probability) == (0.0, 1.0, 0.0)
    assert mmck(2000.0, 1.0, 2000, 3000).loss_probability == pytest.approx(
        mmck(2000.0, 1.0, 2000, 3001).loss_probability, rel=0.02
    )


@given(load=loads, time=times)
def test_special_cases_agree(load, time):
    rate = load / time
    queue = mm1(rate, time)
    assert_same(queue, mmc(rate, time, 1))
    assert_same(queue, mg1(rate, time, 1.0))
    assert_same(queue, mg1_ps(rate, time))
    assert_same(queue, mm1_priority([rate], [time])[0])
    assert_same(mg1(rate, time, 4.0), mgc(rate, time, 1, 4.0))
    assert mg1(rate, time, 0.0).wait == pytest.approx(queue.wait / 2)


@given(load=loads, time=times, servers=server_counts, extra=st.integers(0, 30), scv=st.floats(0.0, 20.0))
def test_laws_hold_for_every_queue(load, time, servers, extra, scv):
    rate = load * servers / time
    queues = [
        mmc(rate, time, servers),
        mmc_ps(rate, time, servers),
        mgc(rate, time, servers, scv),
        mmck(rate, time, servers, servers + extra),
        mmck(3 * rate, time, servers, servers + extra),
    ]
    single = [
        mg1(load / time, time, scv),
        *mm1_priority([load / time / 3, load / time / 6], [time, 2 * time]),
    ]
    for queue, count in [(q, servers) for q in queues] + [(q, 1) for q in single]:
        service = queue.response_time - queue.wait
        assert queue.number_in_system == pytest.approx(queue.throughput * queue.response_time, abs=1e-12)
        assert queue.queue_length == pytest.approx(queue.throughput * queue.wait, abs=1e-12)
        assert queue.utilization * count == pytest.approx(queue.throughput * service, abs=1e-9)
        assert 0 <= queue.utilization <= 1 + 1e-12
        assert 0 <= queue.loss_probability <= 1


@given(load=st.floats(0.01, 0.97), servers=server_counts)
def test_waits_grow_with_load_and_fall_with_servers(load, servers):
    rate = load * servers
    queue = mmc(rate, 1.0, servers)
    assert queue.wait <= mmc(rate * 1.01, 1.0, servers).wait
    assert mmc(rate, 1.0, servers + 1).wait <= queue.wait
    assert mmc(2 * rate, 1.0, 2 * servers).wait <= queue.wait


@given(load=st.floats(0.0, 0.98), servers=server_counts, time=times, probability=st.floats(0.0, 1 - 1e-9))
def test_quantiles_invert_their_distributions(load, servers, time, probability):
    queue = mmc(load * servers / time, time, servers)
    response = queue.response_time_quantile(probability)
    assert queue.response_time_exceeds(response) == pytest.approx(1 - probability, rel=1e-6)
    drain_rate = servers * (1 - load) / time
    wait = queue.wait_quantile(probability)
    tail = queue.waiting_probability * math.exp(-drain_rate * wait)
    assert tail <= (1 - probability) * (1 + 1e-6)
    assert wait == 0 or tail == pytest.approx(1 - probability, rel=1e-6)


@pytest.mark.parametrize(("load", "servers"), [(0.5, 1), (0.999, 1), (0.5, 2), (0.9, 10), (0.9 + 1e-12, 10), (0.99, 3)])
def test_response_time_distribution_has_the_mean(load, servers):
    queue = mmc(load * servers, 1.0, servers)
    grid = np.linspace(0.0, 40 * queue.response_time + 40, 40_001)
    tail = [queue.response_time_exceeds(time) for time in grid]
    assert trapezoid(tail, grid) == pytest.approx(queue.response_time, rel=1e-5)


def test_priority_against_its_markov_chain():
    rates, service = (0.3, 0.25), (0.5, 0.9)
    most = 24

    def moves(state):
        high, low, serving = state
        if high < most:
            yield (high + 1, low, serving or 1), rates[0]
        if low < most:
            yield (high, low + 1, serving or 2), rates[1]
        if serving:
            high, low = (high - 1, low) if serving == 1 else (high, low - 1)
            yield (high, low, 1 if high else 2 if low else 0), 1 / service[serving - 1]

    chain = stationary((0, 0, 0), moves)
    queues = mm1_priority(rates, service)
    for index, queue in enumerate(queues):
        number = mean(chain, lambda state, index=index: state[index])
        assert queue.number_in_system == pytest.approx(number, rel=1e-6)


@given(shares=st.lists(st.floats(0.01, 1.0), min_size=2, max_size=6), load=st.floats(0.01, 0.95))
def test_priorities_conserve_work_and_keep_their_order(shares, load):
    shares = [load * share / sum(shares) for share in shares]
    service = [1.0 + index for index in range(len(shares))]
    rates = [share / time for share, time in zip(shares, service, strict=True)]
    queues = mm1_priority(rates, service)
    weighted = sum(queue.utilization * queue.wait for queue in queues)
    residual = sum(share * time for share, time in zip(shares, service, strict=True))
    assert weighted == pytest.approx(load * residual / (1 - load))
    waits = [queue.wait for queue in queues]
    assert waits == sorted(waits)


def simulated_fork_join(branches: int, load: float, arrivals: int, seed: int) -> tuple[float, float]:
    """Return the mean response and its standard error from batches of Lindley's recursion."""
    random = np.random.default_rng(seed)
    gaps = random.exponential(1 / load, arrivals)
    service = random.exponential(1.0, (branches, arrivals))
    steps = np.cumsum(service[:, :-1] - gaps[1:], axis=1)
    walk = np.concatenate((np.zeros((branches, 1)), steps), axis=1)
    waits = walk - np.minimum.accumulate(walk, axis=1)
    responses = (waits + service).max(axis=0)[arrivals // 20 :]
    batches = np.array([batch.mean() for batch in np.array_split(responses, 30)])
    return float(batches.mean()), float(batches.std(ddof=1) / math.sqrt(30))


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_fork_join_of_two_against_simulation(load):
    response, error = simulated_fork_join(2, load, 400_000, seed=1)
    assert abs(fork_join_2_mm1(load, 1.0) - response) < 4 * error


@pytest.mark.parametrize("branches", [3, 8, 20])
@pytest.mark.parametrize("load", [0.2, 0.8])
def test_fork_join_bounds_against_simulation(branches, load):
    response, error = simulated_fork_join(branches, load, 200_000, seed=2)
    bounds = fork_join_bounds(branches, load, 1.0)
    assert bounds.lower - 4 * error < response < bounds.upper + 4 * error
    # Nelson and Tantawi state 5 % for up to 32 branches.
    assert abs(bounds.approximation - response) < 0.05 * response + 4 * error


@given(branches=st.integers(1, 32), load=st.floats(0.0, 0.999), time=times)
def test_fork_join_bounds_are_in_order(branches, load, time):
    bounds = fork_join_bounds(branches, load / time, time)
    slack = 1 + 1e-12
    assert bounds.lower <= bounds.approximation * slack
    assert bounds.approximation <= bounds.upper * slack
    assert bounds.lower >= mm1(load / time, time).response_time / slack or branches == 1


def test_fork_join_without_load_is_the_slowest_of_the_services():
    bounds = fork_join_bounds(4, 0.0, 1.0)
    assert bounds.lower == pytest.approx(25 / 12)
    assert bounds.approximation == pytest.approx(25 / 12)
    assert bounds.upper == pytest.approx(25 / 12)


def test_jackson_tandem_is_a_row_of_mm1():
    network = jackson([0.5, 0.0], [[0.0, 1.0], [0.0, 0.0]], [1.0, 1.5], [1, 1])
    assert_same(network.stations[0], mm1(0.5, 1.0))
    assert_same(network.stations[1], mm1(0.5, 1.5))
    assert network.response_time == pytest.approx(2.0 + 6.0)


def test_jackson_feedback_and_delay_by_hand():
    # Each job visits the server 1 / (1 - 0.5) = 2 times and thinks once between visits.
    network = jackson([1.0, 0.0], [[0.0, 0.5], [1.0, 0.0]], [0.8, 3.0], [2, math.inf])
    assert [station.throughput for station in network.stations] == pytest.approx([2.0, 1.0])
    assert_same(network.stations[0], mmc(2.0, 0.8, 2))
    assert network.response_time == pytest.approx(2 * mmc(2.0, 0.8, 2).response_time + 3.0)
    assert network.stations[1].utilization == 0


def test_jackson_against_its_markov_chain():
    outside, most = (0.3, 0.2), 22
    paths, service, servers = ((0.1, 0.5), (0.3, 0.0)), (0.6, 1.1), (1, 2)

    def moves(state):
        for station in range(2):
            if state[station] < most:
                yield tuple(number + (i == station) for i, number in enumerate(state)), outside[station]
            rate = min(state[station], servers[station]) / service[station]
            if rate:
                left = [number - (i == station) for i, number in enumerate(state)]
                yield tuple(left), rate * (1 - sum(paths[station]))
                for target in range(2):
                    if target != station and left[target] < most:
                        arrived = tuple(number + (i == target) for i, number in enumerate(left))
                        yield arrived, rate * paths[station][target]

    chain = stationary((0, 0), moves)
    network = jackson(outside, paths, service, servers)
    for index, station in enumerate(network.stations):
        number = mean(chain, lambda state, index=index: state[index])
        assert station.number_in_system == pytest.approx(number, rel=1e-5)


def closed_chain(demands, population, think_time, servers) -> tuple[float, list[float]]:
    """Return throughput and numbers at stations of a cycle of thinking and stations by its Markov chain."""
    work, counts = [think_time, *demands], [math.inf, *servers]
    visited = [index for index, demand in enumerate(work) if demand > 0]

    def rate(state, index):
        return min(state[index], counts[index]) / work[index]

    def moves(state):
        for place, index in enumerate(visited):
            if state[index]:
                target = visited[(place + 1) % len(visited)]
                moved = list(state)
                moved[index] -= 1
                moved[target] += 1
                yield tuple(moved), rate(state, index)

    start = [0] * len(work)
    start[visited[0]] = population
    chain = stationary(tuple(start), moves)
    throughput = mean(chain, lambda state: rate(state, visited[0]))
    return throughput, [mean(chain, lambda state, i=i: state[i]) for i in range(1, len(work))]


@pytest.mark.parametrize(
    ("demands", "population", "think_time", "servers"),
    [
        ([1.0, 2.0], 6, 0.0, [1, 1]),
        ([1.0, 2.0], 7, 0.0, [1, 3]),
        ([1.0, 5.0], 7, 0.0, [2, 4]),
        ([0.7], 9, 4.0, [3]),
        ([0.7], 9, 0.0, [3]),
        ([0.5, 2.0, 1.5], 6, 1.0, [1, 2, math.inf]),
        ([0.9, 2.0, 1.5], 5, 0.0, [2, 2, 3]),
        ([0.9, 2.0, 0.0], 5, 3.0, [4, 1, 3]),
        ([4.0, 2.0], 3, 0.0, [8, 9]),
    ],
)
def test_mva_against_its_markov_chain(demands, population, think_time, servers):
    network = mva(demands, population, think_time, servers)
    for row in range(population):
        throughput, numbers = closed_chain(demands, row + 1, think_time, servers)
        assert network.throughput[row] == pytest.approx(throughput, rel=1e-10)
        assert network.numbers_at_stations[row] == pytest.approx(numbers, rel=1e-9, abs=1e-12)


def test_mva_machine_repair():
    # Machines run for 10 h on average, and two mechanics mend each in 2 h.
    machines, mechanics = 8, 2
    weights = [1.0]
    for broken in range(machines):
        weights.append(weights[-1] * (machines - broken) / 10 * 2 / min(broken + 1, mechanics))
    broken = sum(number * weight for number, weight in enumerate(weights)) / sum(weights)
    network = mva([2.0], machines, 10.0, [mechanics])
    assert network.numbers_at_stations[-1, 0] == pytest.approx(broken)
    assert network.throughput[-1] == pytest.approx((machines - broken) / 10)


def test_mva_by_hand():
    # R(1) = 2 + 3 + 1 and X(1) = 0.1, so R(2) = 2(1 + 0.2) + 3(1 + 0.3) + 1(1 + 0.1).
    network = mva([2.0, 3.0, 1.0], 2, 4.0)
    assert network.response_time == pytest.approx([6.0, 7.4])
    assert network.throughput == pytest.approx([0.1, 2 / 11.4])
    assert network.utilizations[1] == pytest.approx([4 / 11.4, 6 / 11.4, 2 / 11.4])


def exact_closed(demands, population, think_time, servers) -> tuple[list[Fraction], list[Fraction]]:
    """Return throughput and the number at the last station for each population, in exact arithmetic."""

    def constants(demand, count):
        values = [Fraction(1)]
        for number in range(1, population + 1):
            values.append(values[-1] * demand / min(number, count))
        return values

    def convolve(first, second):
        return [sum(first[j] * second[n - j] for j in range(n + 1)) for n in range(population + 1)]

    rest = constants(Fraction(think_time), population)
    for demand, count in zip(demands[:-1], servers[:-1], strict=True):
        rest = convolve(rest, constants(Fraction(demand), count))
    last = constants(Fraction(demands[-1]), servers[-1])
    total = convolve(rest, last)
    numbers = [sum(j * last[j] * rest[n - j] for j in range(n + 1)) / total[n] for n in range(1, population + 1)]
    return [total[n - 1] / total[n] for n in range(1, population + 1)], numbers


@pytest.mark.parametrize("last_demand", [7.0, 8.0, 16.0])
def test_mva_with_many_servers_stays_exact_when_saturated(last_demand):
    # The textbook recursion on marginal probabilities goes negative here.
    demands, servers = [1.0, last_demand], [2, 16]
    network = mva(demands, 120, 3.0, servers)
    throughput, numbers = exact_closed(demands, 120, 3, servers)
    assert network.throughput == pytest.approx([float(value) for value in throughput], rel=1e-11)
    assert network.numbers_at_stations[:, 1] == pytest.approx([float(value) for value in numbers], rel=1e-10)


def test_mva_for_a_large_population():
    network = mva([0.01, 0.5, 0.02], 1500, 5.0, [1, 64, 4])
    bounds = asymptotic_bounds([0.01, 0.5, 0.02], 1500, 5.0, [1, 64, 4])
    assert network.throughput[-1] == pytest.approx(bounds.throughput_upper, rel=1e-9)
    assert np.all(np.diff(network.throughput) > -1e-9)
    thinking = network.throughput * 5.0
    assert network.numbers_at_stations.sum(axis=1) + thinking == pytest.approx(network.populations, rel=1e-9)


@given(
    demands=demand_lists,
    population=st.integers(1, 25),
    think_time=st.just(0.0) | st.floats(1e-9, 50.0),  # the reciprocal of less overflows
    kinds=st.lists(st.sampled_from([1, 1, 2, 5, 100, math.inf]), min_size=5, max_size=5),
)
def test_mva_invariants(demands, population, think_time, kinds):
    servers = kinds[: len(demands)]
    network = mva(demands, population, think_time, servers)
    total = sum(demands)
    assert network.response_time[0] == pytest.approx(total)
    cycle = network.response_time + think_time
    assert network.throughput * cycle == pytest.approx(network.populations, rel=1e-9)
    assert network.numbers_at_stations == pytest.approx(network.throughput[:, None] * network.residence_times, rel=1e-9)
    assert np.all(network.utilizations <= 1)
    assert np.all(np.diff(network.throughput) >= -1e-9 * network.throughput[0])
    assert np.all(np.diff(network.response_time) >= -1e-9 * total)
    bounds = asymptotic_bounds(demands, population, think_time, servers)
    assert bounds.throughput_lower * (1 - 1e-9) <= network.throughput[-1]
    assert network.throughput[-1] <= bounds.throughput_upper * (1 + 1e-9)
    assert bounds.response_time_lower * (1 - 1e-9) <= network.response_time[-1]
    assert network.response_time[-1] <= bounds.response_time_upper * (1 + 1e-9)


@given(demands=demand_lists, population=st.integers(1, 40), think_time=st.just(0.0) | st.floats(1e-9, 50.0))
def test_balanced_job_bounds_are_tighter_and_hold(demands, population, think_time):
    network = mva(demands, population, think_time)
    outer = asymptotic_bounds(demands, population, think_time)
    inner = balanced_job_bounds(demands, population, think_time)
    slack = 1 + 1e-9
    assert outer.throughput_lower <= inner.throughput_lower * slack
    assert inner.throughput_lower <= network.throughput[-1] * slack
    assert network.throughput[-1] <= inner.throughput_upper * slack
    assert inner.throughput_upper <= outer.throughput_upper * slack
    assert inner.response_time_lower <= network.response_time[-1] * slack
    assert network.response_time[-1] <= inner.response_time_upper * slack


@given(stations=st.integers(1, 6), population=st.integers(1, 30), demand=times)
def test_balanced_networks_have_a_closed_form(stations, population, demand):
    network = mva([demand] * stations, population)
    expected = population / (population + stations - 1) / demand
    assert network.throughput[-1] == pytest.approx(expected)
    inner = balanced_job_bounds([demand] * stations, population)
    assert (inner.throughput_lower, inner.throughput_upper) == pytest.approx((expected, expected))


def test_saturation_point():
    assert saturation_point([2.0, 3.0, 1.0], 4.0) == pytest.approx(10 / 3)
    assert saturation_point([2.0, 3.0, 1.0], 4.0, [1, 3, math.inf]) == pytest.approx(5.0)


def test_multiclass_with_one_class_is_mva():
    single = mva([2.0, 3.0, 1.0], 9, 4.0, [1, 1, math.inf])
    many = mva_multiclass([[2.0, 3.0, 1.0]], [9], [4.0], [1, 1, math.inf])
    assert many.throughput[0] == pytest.approx(single.throughput[-1])
    assert many.numbers_at_stations[0] == pytest.approx(single.numbers_at_stations[-1])
    assert many.utilizations[0] == pytest.approx(single.utilizations[-1])


def test_multiclass_splits_equal_requests_evenly():
    single = mva([2.0, 3.0], 7, 1.0)
    split = mva_multiclass([[2.0, 3.0]] * 3, [4, 2, 1], [1.0] * 3)
    assert split.throughput == pytest.approx(single.throughput[-1] * np.array([4, 2, 1]) / 7)
    assert split.numbers_at_stations.sum(axis=0) == pytest.approx(single.numbers_at_stations[-1])


def test_multiclass_against_its_markov_chain():
    # Two processor-sharing stations in a cycle; a state counts each class at the first.
    demands, populations = ((1.0, 2.0), (3.0, 0.5)), (3, 2)

    def rates(state):
        for station in range(2):
            present = [s if station == 0 else n - s for s, n in zip(state, populations, strict=True)]
            for index, number in enumerate(present):
                if number:
                    yield station, index, number / sum(present) / demands[index][station]

    def moves(state):
        for station, index, rate in rates(state):
            step = -1 if station == 0 else 1
            yield tuple(s + step * (i == index) for i, s in enumerate(state)), rate

    chain = stationary(populations, moves)
    network = mva_multiclass(demands, populations)
    for index in range(2):
        throughput = mean(chain, lambda state, index=index: sum(r for k, i, r in rates(state) if k == 0 and i == index))
        assert network.throughput[index] == pytest.approx(throughput)
        number = mean(chain, lambda state, index=index: state[index])
        assert network.numbers_at_stations[index, 0] == pytest.approx(number)


@given(
    demands=st.lists(st.tuples(*[st.floats(0.01, 5.0)] * 3), min_size=2, max_size=2),
    populations=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    think_times=st.tuples(st.floats(0.0, 10.0), st.floats(0.0, 10.0)),
)
def test_multiclass_laws(demands, populations, think_times):
    network = mva_multiclass(demands, populations, think_times, [1, math.inf, 1])
    assert network.throughput * (network.response_time + think_times) == pytest.approx(populations)
    assert network.numbers_at_stations == pytest.approx(network.throughput[:, None] * network.residence_times)
    assert np.all(network.utilizations.sum(axis=0) <= 1 + 1e-12)


def test_multiclass_absent_class():
    network = mva_multiclass([[1.0], [2.0]], [3, 0])
    assert network.throughput == pytest.approx([1.0, 0.0])
    assert math.isnan(network.response_time[1])
    assert network.numbers_at_stations[1, 0] == 0


def zipf(keys: int, exponent: float) -> np.ndarray:
    weights = np.arange(1, keys + 1) ** -exponent
    return weights / weights.sum()


def simulated_hits(probabilities: np.ndarray, capacity: int, renew: bool, seed: int) -> tuple[float, float]:
    """Return the hit ratio of an LRU (`renew`) or FIFO cache and its standard error from batches."""
    random = np.random.default_rng(seed)
    keys = random.choice(probabilities.size, 300_000, p=probabilities)
    cache: OrderedDict[int, None] = OrderedDict()
    hits = np.zeros(keys.size)
    for index, key in enumerate(keys.tolist()):
        if key in cache:
            hits[index] = 1
            if renew:
                cache.move_to_end(key)
            continue
        if len(cache) == capacity:
            cache.popitem(last=False)
        cache[key] = None
    batches = np.array([batch.mean() for batch in np.array_split(hits[keys.size // 6 :], 25)])
    return float(batches.mean()), float(batches.std(ddof=1) / 5)


@pytest.mark.parametrize(("exponent", "capacity"), [(0.8, 100), (1.1, 400)])
@pytest.mark.parametrize(
    ("renew", "formula", "other"),
    [(True, che_hit_ratio, fifo_hit_ratio), (False, fifo_hit_ratio, che_hit_ratio)],
)
def test_caches_against_simulation(exponent, capacity, renew, formula, other):
    probabilities = zipf(4000, exponent)
    hit_ratio, error = simulated_hits(probabilities, capacity, renew, seed=3)
    assert abs(formula(probabilities, capacity) - hit_ratio) < 4 * error
    # A negative control: the other policy's formula is refused.
    assert abs(other(probabilities, capacity) - hit_ratio) > 6 * error


def test_ttl_against_simulation():
    probabilities, rate, ttl = zipf(200, 1.0), 50.0, 1.5
    random = np.random.default_rng(4)
    keys = random.choice(200, 300_000, p=probabilities).tolist()
    clock = np.cumsum(random.exponential(1 / rate, 300_000)).tolist()
    expires: dict[int, float] = {}
    hits = np.zeros(300_000)
    for index, (key, now) in enumerate(zip(keys, clock, strict=True)):
        if now < expires.get(key, 0.0):
            hits[index] = 1
        else:
            expires[key] = now + ttl
    batches = np.array([batch.mean() for batch in np.array_split(hits[10_000:], 25)])
    error = batches.std(ddof=1) / 5
    assert abs(ttl_hit_ratio(probabilities, rate, ttl) - batches.mean()) < 4 * error


def test_caches_by_hand():
    equal = np.full(50, 0.02)
    # With equal keys any policy holds a fixed share of them.
    for formula in (che_hit_ratio, fifo_hit_ratio, lfu_hit_ratio):
        assert formula(equal, 10) == pytest.approx(0.2)
        assert formula(equal, 0) == 0
        assert formula(equal, 50) == 1
        assert formula(equal, 99) == 1
    assert lfu_hit_ratio([5, 1, 3, 1], 2) == pytest.approx(0.8)
    assert ttl_hit_ratio([1.0], 4.0, 0.5) == pytest.approx(2 / 3)
    assert che_hit_ratio([0.5, 0.5, 0.0], 2) == 1


@given(weights=st.lists(st.floats(1e-3, 1.0), min_size=2, max_size=60), share=st.floats(0.0, 1.0), scale=times)
def test_cache_policies_are_in_order(weights, share, scale):
    capacity = int(share * (len(weights) - 1))
    ratios = [formula(weights, capacity) for formula in (fifo_hit_ratio, che_hit_ratio, lfu_hit_ratio)]
    slack = 1e-9
    assert ratios[0] <= ratios[1] + slack
    assert ratios[1] <= ratios[2] + slack
    assert che_hit_ratio([weight * scale for weight in weights], capacity) == pytest.approx(ratios[1])
    assert che_hit_ratio(weights, capacity + 1) >= ratios[1] - slack


def test_caches_for_a_million_keys():
    probabilities = zipf(1_000_000, 0.9)
    fifo, lru = fifo_hit_ratio(probabilities, 50_000), che_hit_ratio(probabilities, 50_000)
    assert fifo < lru < lfu_hit_ratio(probabilities, 50_000)
    assert che_hit_ratio(probabilities, 999_999) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mm1(2.0, 0.5), "unstable: offered load 1 erlang, servers 1"),
        (lambda: mmc(9.0, 0.5, 4), "unstable: offered load 4.5 erlang, servers 4"),
        (lambda: erlang_c(3.0, 3), "unstable: offered load 3 erlang, servers 3"),
        (lambda: mg1(3.0, 0.5, 1.0), "unstable"),
        (lambda: mgc(3.0, 1.0, 2, 1.0), "unstable"),
        (lambda: mg1_ps(3.0, 0.5), "unstable"),
        (lambda: mmc_ps(3.0, 1.0, 2), "unstable"),
        (lambda: mm1_priority([1.0, 1.0], [0.5, 0.6]), "unstable: offered load 1.1 erlang"),
        (lambda: fork_join_bounds(3, 2.0, 1.0), "unstable"),
        (lambda: mm1(-1.0, 0.5), "arrival_rate must be at least 0"),
        (lambda: mm1(math.nan, 0.5), "arrival_rate must be at least 0"),
        (lambda: mm1(1.0, 0.0), "service_time must be above 0"),
        (lambda: mmc(1.0, 0.5, 0), "servers must be a whole number"),
        (lambda: mmc(1.0, 0.5, 1.5), "servers must be a whole number"),
        (lambda: mmck(1.0, 0.5, 3, 2), "capacity must be a whole number of at least 3"),
        (lambda: mg1(1.0, 0.5, -1.0), "scv must be at least 0"),
        (lambda: erlang_b(-1.0, 3), "offered_load must be at least 0"),
        (lambda: mm1_priority([1.0], [0.5, 0.6]), "got 1 arrival rates and 2 service times"),
        (lambda: mm1(1.0, 0.5).wait_quantile(1.0), "probability must be"),
        (lambda: jackson([1, 1], [[0, 0], [0, 0]], [0.5, 2], [1, 1]), "station 1: unstable"),
        (lambda: jackson([1, 0], [[0, 1], [1, 0]], [0.1, 0.1], [1, 1]), "can never leave"),
        (lambda: jackson([1, 0], [[0, 1.2], [1, 0]], [0.1, 0.1], [1, 1]), "add up to at most 1"),
        (lambda: jackson([0, 0], [[0, 0], [0, 0]], [0.1, 0.1], [1, 1]), "no requests arrive"),
        (lambda: mva([1.0], 0), "population must be a whole number"),
        (lambda: mva([-1.0], 1), "demands must be"),
        (lambda: mva([0.0], 1), "throughput is unbounded"),
        (lambda: mva([1.0], 1, servers=[0]), "servers must be whole"),
        (lambda: mva([1.0, 2.0], 1, servers=[1]), "one entry for each of the 2 stations"),
        (lambda: mva_multiclass([[1.0]], [1], servers=[2]), "servers must be 1 or infinite"),
        (lambda: mva_multiclass([[1.0]] * 4, [99] * 4), "too many"),
        (lambda: saturation_point([1.0], 1.0, [math.inf]), "no station can saturate"),
        (lambda: che_hit_ratio([-0.1, 1.1], 1), "popularities must be"),
        (lambda: che_hit_ratio([], 1), "popularities must be"),
        (lambda: fifo_hit_ratio([1.0, 2.0], -1), "capacity must be"),
        (lambda: ttl_hit_ratio([1.0], -1.0, 2.0), "request_rate and ttl must be"),
    ],
)
def test_impossible_inputs_are_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as refused:
        call()
    assert "\n" not in str(refused.value)
