"""What protects a service, instruction by instruction: breakers, retry budgets, keyed buckets, limits of the wait.

Programs by hand, whole event logs compared with values worked out by hand, on both engines.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from test_engines_agree import TIGHT, Hand, check_program

from simulator.distributions import Constant, Exponential, StandardUniform, Zipf
from simulator.engines.simpy.balancers import BalancerState
from simulator.program.arrivals import Renewal, Replay
from simulator.program.instructions import (
    Acquire,
    Clear,
    Delay,
    Deposit,
    DrawInto,
    End,
    EndScope,
    Fail,
    Fork,
    Jump,
    NumberInto,
    Place,
    Release,
    Retry,
    Scope,
    Select,
    Switch,
    TakeTokens,
)
from simulator.program.program import REASONS, Balancer, Policy
from simulator.program.stations import Breaker, Bucket, Budget, Discipline, Pool
from simulator.records import COMPLETED, STATION_FIELDS

ONE = Constant(1.0)
OK = "completed"


def log(program, duration=100.0, sizes=None):
    """{number: (end, outcome)} of the first workload, equal on both engines, and the first station's final fields."""
    records = check_program(program, duration, windows=3, sizes=sizes)
    table = records.requests[0]
    rows = {
        int(number): (float(end), OK if outcome == COMPLETED else program.reasons[int(outcome) - 1])
        for number, end, outcome in zip(table.number, table.end, table.outcome, strict=True)
    }
    fields = dict(zip(STATION_FIELDS, records.stations[-1, 0].tolist(), strict=True))
    return rows, fields


def outcomes(rows):
    return [rows[number][1] for number in sorted(rows)]


def guarded(calls, spec, timeout=None, cancel_after=None):
    """Calls (time, seconds, whether it fails) through a breaker.

    A call takes its seconds, is timed out after `timeout` and cancelled after `cancel_after` by a quicker branch.
    """
    hand = Hand()
    breaker = hand.at(spec)

    def body(builder, targets):
        register = builder.register()
        builder.emit(NumberInto(register, len(calls)))
        builder.emit(Acquire(breaker, builder.component("breaker"), hand.draw(ONE)))
        builder.emit(Switch(register, tuple(targets)))

    def emit(builder):
        targets, handler, done = [builder.label() for _ in calls], builder.label(), builder.label()
        timer = None if timeout is None else hand.draw(Constant(timeout))
        builder.emit(Scope(handler, timer, 0))
        body(builder, targets)
        for target, (_, seconds, fails) in zip(targets, calls, strict=True):
            builder.mark(target)
            builder.emit(Delay(builder.component("call"), hand.draw(Constant(float(seconds)))))
            if fails:
                builder.emit(Fail(builder.reason("broken")))
            builder.emit(Release())
            builder.emit(EndScope())
            builder.emit(Jump(done))
        builder.mark(handler)
        builder.emit(Fail())
        builder.mark(done)

    def racing(builder):
        call, quicker, joined = builder.label(), builder.label(), builder.label()
        builder.emit(Fork((call, quicker), 1))
        builder.emit(Jump(joined))
        builder.mark(call)
        emit(builder)
        builder.emit(End())
        builder.mark(quicker)
        builder.emit(Delay(builder.component("quicker"), hand.draw(Constant(cancel_after or 0.0))))
        builder.emit(End())
        builder.mark(joined)

    hand.workload("w", Replay(tuple(float(at) for at, _, _ in calls)), emit if cancel_after is None else racing)
    return hand.build()


THREE_IN_A_ROW = Breaker("breaker", window=3, least=3, failure_share=1.0, open_time=10.0)
both_sizes = pytest.mark.parametrize("sizes", [None, TIGHT], ids=["roomy", "tight"])


@both_sizes
def test_breaker_opens_after_failures_in_a_row_tries_once_and_closes(sizes):
    calls = [
        (0, 0, True), (1, 0, True), (2, 0, False),  # a success starts the row anew
        (3, 0, True), (4, 0, True), (5, 0, True),  # the third opens it, until 15
        (6, 0, False), (14.5, 0, False),  # not let through
        (15, 2, True), (16, 0, False),  # one trial, beside which nobody passes; it fails at 17
        (26, 0, False), (27, 1, False), (27.5, 0, False),  # still open until 27, then a trial until 28
        (28.5, 0, True), (28.5, 0, True), (29, 0, False),  # closed, with no reports
    ]  # fmt: skip
    rows, fields = log(guarded(calls, THREE_IN_A_ROW), sizes=sizes)
    shut = "circuit open"
    assert outcomes(rows) == [
        "broken", "broken", OK, "broken", "broken", "broken", shut, shut, "broken", shut, shut, OK, shut,
        "broken", "broken", OK,
    ]  # fmt: skip
    assert fields["busy_area"] == 28 - 5
    assert (fields["arrivals"], fields["completions"], fields["rejections"]) == (16, 11, 5)
    assert fields["hits"] == 8


def test_breaker_opens_at_a_share_of_failures_among_the_last_calls():
    spec = Breaker("breaker", window=4, least=3, failure_share=0.5, open_time=1000.0)
    outcome_of = {True: "broken", False: OK}

    def passed(*failures):
        rows, _ = log(guarded([(n, 0, failure) for n, failure in enumerate(failures)], spec))
        seen = outcomes(rows)
        assert seen[: seen.index("circuit open") if "circuit open" in seen else None] == [
            outcome_of[failure] for failure in failures[: seen.count("broken") + seen.count(OK)]
        ]
        return len(seen) - seen.count("circuit open")

    assert passed(True, True, False, False, False) == 3  # two of three, with the least number of reports
    assert passed(True, False, False, True, False) == 4  # two of four
    assert passed(True, False, False, False, True, False, False, True) == 8  # the first one has left the window
    assert passed(True, False, False, False, True, True, False) == 6


def test_time_outs_are_failures_and_cancelled_calls_are_neither():
    calls = [(0, 5, False), (1, 5, False), (2, 5, False), (3.5, 0, False)]
    rows, fields = log(guarded(calls, THREE_IN_A_ROW, timeout=1.0))
    assert outcomes(rows) == ["timeout", "timeout", "timeout", "circuit open"]
    assert fields["hits"] == 3
    rows, fields = log(guarded(calls, THREE_IN_A_ROW, cancel_after=1.0))
    assert outcomes(rows) == [OK, OK, OK, OK]
    assert (fields["hits"], fields["completions"], fields["present"], fields["busy_area"]) == (0, 4, 0, 0)


def test_cancelled_trial_lets_the_next_one_try():
    calls = [(0, 0, True), (1, 0, True), (2, 0, True), (12, 9, False), (14, 0, False), (15, 0, False)]
    rows, fields = log(guarded(calls, THREE_IN_A_ROW, cancel_after=1.0))
    # A failed branch leaves the quicker one to end the request well; the trial of 12 is cancelled at 13.
    assert [end for end, _ in rows.values()] == [1, 2, 3, 13, 14, 15]
    assert fields["busy_area"] == 14 - 2


def test_reports_from_before_the_breaker_opened_do_not_count():
    calls = [(0, 20, False), (0, 12.5, True), (1, 0, True), (2, 0, True), (3, 0, True), (13, 8, False), (22, 0, False)]
    rows, fields = log(guarded(calls, THREE_IN_A_ROW))
    # Half-open from 13 on: neither the failure at 12.5 nor the success at 20 decides, but the trial at 21.
    assert outcomes(rows) == [OK, "broken", "broken", "broken", "broken", OK, OK]
    assert fields["busy_area"] == 21 - 3


def test_several_trials_must_all_succeed():
    spec = Breaker("breaker", window=1, least=1, failure_share=1.0, open_time=10.0, trials=2)
    calls = [(0, 0, True), (10, 2, False), (10, 3, False), (11, 0, False), (12.5, 0, False), (13, 0, False)]
    rows, fields = log(guarded(calls, spec))
    assert outcomes(rows) == ["broken", OK, OK, "circuit open", "circuit open", OK]
    assert fields["busy_area"] == 13


# Retry budgets.


def retrying(times, budget, deposit, most=3):
    """Requests that always fail, and retry at once within a budget."""
    hand = Hand()
    place = hand.at(budget)

    def emit(builder):
        attempt, handler = builder.label(), builder.label()
        register = builder.register()
        builder.emit(Clear(register))
        builder.emit(Deposit(place, hand.draw(Constant(deposit))))
        builder.mark(attempt)
        builder.emit(Scope(handler))
        builder.emit(Fail(builder.reason("broken")))
        builder.mark(handler)
        nothing = hand.draw(Constant(0.0))
        builder.emit(Retry(register, builder.component("wait"), (0.0,) * most, 0.0, nothing, attempt, place))

    hand.workload("w", Replay(tuple(float(time) for time in times)), emit)
    return hand.build()


@both_sizes
def test_retries_stop_where_the_budget_is_spent(sizes):
    # 2 at first; 0.5 a request, and 0.125 a second; the reason stays that of the call.
    records = check_program(retrying([0, 1, 2, 3, 4], Budget("b", 0.125, 2.0), 0.5), sizes=sizes)
    assert records.requests[0].retries.tolist() == [2, 0, 1, 0, 1]
    assert set(records.requests[0].outcome.tolist()) == {1 + len(REASONS)}
    fields = dict(zip(STATION_FIELDS, records.stations[-1, 0].tolist(), strict=True))
    assert (fields["arrivals"], fields["completions"], fields["rejections"]) == (9, 4, 5)


def test_budget_without_a_reserve_allows_the_ratio_of_requests():
    program = retrying(np.arange(1000) / 8, Budget("b", 0.0, 5.0), 0.25)
    retries = check_program(program, 1000.0).requests[0].retries
    assert retries.sum() == 5 + 249  # what it has at first, to which the first deposit adds nothing, and 999 quarters


def test_budget_takes_no_more_than_its_burst():
    program = retrying([0, 0, 0, 1000], Budget("b", 0.0, 1.0), 1.0)
    assert check_program(program, 2000.0).requests[0].retries.tolist() == [1, 1, 1, 1]
    assert check_program(retrying([0, 1000], Budget("b", 1.0, 2.0), 0.0), 2000.0).requests[0].retries.tolist() == [2, 2]


# Buckets by key.


def by_key(source, bucket, keys=None, modulus=4):
    hand = Hand()
    place = hand.at(bucket)

    def emit(builder):
        register = builder.register()
        if keys is None:
            builder.emit(NumberInto(register, modulus))
        else:
            builder.emit(DrawInto(register, hand.draw(keys)))
        builder.emit(TakeTokens(place, builder.component("limit"), hand.draw(ONE), register))

    hand.workload("w", source, emit)
    return hand.build()


@both_sizes
def test_every_key_has_a_bucket_of_its_own(sizes):
    # Keys 0, 1, 0, 1, ... Each has 2 tokens, and half a one a second.
    times = (0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6)
    rows, fields = log(by_key(Replay(tuple(map(float, times))), Bucket("b", 0.5, 2.0, keys=2), modulus=2), sizes=sizes)
    no = "rate limited"
    assert outcomes(rows) == [OK, OK, OK, OK, no, no, OK, OK, no, no, OK, OK, OK, OK]
    assert (fields["delivered"], fields["rejections"]) == (10, 4)


def test_a_key_alone_is_limited_as_one_bucket_is():
    source = Renewal(Exponential(0.25))
    alone = check_program(by_key(source, Bucket("b", 2.0, 3.0, keys=7), modulus=1), 500.0)
    hand = Hand()
    place = hand.at(Bucket("b", 2.0, 3.0))
    hand.workload(
        "w", source, lambda builder: builder.emit(TakeTokens(place, builder.component("limit"), hand.draw(ONE)))
    )
    plain = check_program(hand.build(), 500.0)
    assert np.array_equal(alone.requests[0].outcome, plain.requests[0].outcome)


@both_sizes
def test_keyed_buckets_agree_on_skewed_keys(sizes):
    check_program(by_key(Renewal(Exponential(0.05)), Bucket("b", 1.0, 2.5, keys=20), Zipf(50, 0.9)), 60.0, sizes=sizes)


@both_sizes
def test_a_large_modulus_takes_no_room(sizes):
    check_program(by_key(Renewal(Constant(0.125)), Bucket("b", 1.0, 2.0, keys=5), modulus=2**31 - 1), 20.0, sizes=sizes)


# Limits of the wait for a pool.


def visits_of(pool, times, seconds, priorities=(0,)):
    """Requests at times that hold a pool's unit for some seconds; one workload a priority, in turn."""
    hand = Hand()
    place = hand.at(pool)

    def emit(builder):
        builder.emit(Acquire(place, builder.component("pool"), hand.draw(ONE)))
        builder.emit(Delay(builder.component("work"), hand.draw(Constant(float(seconds)))))
        builder.emit(Release())

    for number, priority in enumerate(priorities):
        source = Replay(tuple(map(float, times[number :: len(priorities)])))
        hand.workload(f"w{number}", source, emit, priority)
    return hand.build()


@both_sizes
def test_what_has_waited_too_long_is_dropped_when_its_turn_comes(sizes):
    rows, fields = log(visits_of(Pool("p", 1.0, wait_limit=3.0), [0, 0, 0, 0, 3, 5], 2), sizes=sizes)
    # At 4 the third and fourth have waited 4 s and go, both; the fifth waited 1 s.
    late = "waited too long"
    assert rows == {0: (2, OK), 1: (4, OK), 2: (4, late), 3: (4, late), 4: (6, OK), 5: (8, OK)}
    assert (fields["completions"], fields["rejections"], fields["waiting_area"]) == (4, 2, 2 + 4 + 4 + 1 + 1)


def test_limit_of_the_wait_holds_only_in_a_standing_queue():
    pool = Pool("p", 1.0, wait_limit=3.0, standing=7.0)
    rows, _ = log(visits_of(pool, [0, 0, 0, 0, 0, 0], 2))
    # The queue has not been empty since 0: at 8 for 8 s, when the fifth and sixth have waited for 8 s.
    assert [rows[n] for n in range(6)] == [
        (2, OK), (4, OK), (6, OK), (8, OK), (8, "waited too long"), (8, "waited too long")
    ]  # fmt: skip
    rows, _ = log(visits_of(pool, [0, 0, 0, 0, 8, 8, 8, 8], 2))
    assert {outcome for _, outcome in rows.values()} == {OK}


def test_pool_by_priority_and_last_in_first_out():
    def order(pool, **more):
        program = visits_of(pool, [0, 0, 0, 0.5, 1, 1.5], 2, **more)
        records = check_program(program, 100.0)
        ends = [
            (float(end), table.workload, int(number))
            for table in records.requests
            for number, end in zip(table.number, table.end, strict=True)
        ]
        return [(name, number) for _, name, number in sorted(ends)]

    first = order(Pool("p", 1.0, discipline=Discipline.PRIORITY), priorities=(5, -1))
    assert first == [("w0", 0), ("w1", 0), ("w1", 1), ("w1", 2), ("w0", 1), ("w0", 2)]
    assert [n for _, n in order(Pool("p", 1.0, discipline=Discipline.LIFO))] == [0, 5, 4, 3, 2, 1]


@both_sizes
@pytest.mark.parametrize("discipline", list(Discipline))
@pytest.mark.parametrize("standing", [0.0, 1.0])
def test_dropping_in_handlers_forks_and_retries_agrees(discipline, standing, sizes):
    hand = Hand()
    pool = hand.at(Pool("p", 2.0, 6, discipline, 0.5, standing))
    breaker = hand.at(Breaker("b", 5, 3, 0.5, 2.0, 2))
    budget = hand.at(Budget("r", 0.2, 3.0))
    timer = hand.draw(Constant(1.25))

    def branch(builder):
        builder.emit(Acquire(pool, builder.component("pool"), hand.draw(ONE)))
        builder.emit(Delay(builder.component("work"), builder.draw(Exponential(0.4), "work")))
        builder.emit(Release())

    def emit(builder):
        attempt, handler, done = builder.label(), builder.label(), builder.label()
        one, two = builder.label(), builder.label()
        register = builder.register()
        builder.emit(Clear(register))
        builder.emit(Deposit(budget, hand.draw(Constant(0.3))))
        with builder.repeating():
            builder.mark(attempt)
            builder.emit(Scope(handler, timer, 0))
            builder.emit(Acquire(breaker, builder.component("breaker"), hand.draw(ONE)))
            builder.emit(Fork((one, two), 1))
            builder.emit(Release())
            builder.emit(EndScope())
            builder.emit(Jump(done))
            for target in (one, two):
                builder.mark(target)
                branch(builder)
                builder.emit(End())
            builder.mark(handler)
            jitter = builder.draw(StandardUniform(), "jitter")
            builder.emit(Retry(register, builder.component("wait"), (0.0, 0.25), 0.5, jitter, attempt, budget))
            builder.mark(done)

    hand.workload("w", Renewal(Exponential(0.2)), emit, 1)
    hand.workload("users", (3, Exponential(0.5), Constant(0.0)), emit, -1)
    records = check_program(hand.build(), 60.0, sizes=sizes)
    reasons = {int(code) for table in records.requests for code in table.outcome}
    assert {1 + 5, 1 + 6} <= reasons  # both drops and an open circuit happened


# Weights.


def test_weighted_balancer_is_the_smooth_round_robin_of_nginx():
    choose = BalancerState(
        SimpleNamespace(stations=[None] * 3), Balancer(Policy.WEIGHTED, (0, 1, 2), (5.0, 1.0, 1.0))
    ).choose
    # The sequence that its author gives for these weights: a a b a c a a.
    assert [choose(0.0) for _ in range(14)] == [0, 0, 1, 0, 2, 0, 0] * 2


@both_sizes
def test_weighted_balancers_agree(sizes):
    hand = Hand()
    pools = tuple(hand.builder.station(Pool(f"p{n}", 1.0)) for n in range(3))
    balancer = hand.builder.balancer(Balancer(Policy.WEIGHTED, pools, (0.3, 2.5, 1.1)))

    def emit(builder):
        register = builder.register()
        builder.emit(Select(register, balancer, hand.draw(Constant(0.0))))
        builder.emit(Acquire(Place(pools, register), builder.component("pool"), hand.draw(ONE)))
        builder.emit(Delay(builder.component("work"), builder.draw(Exponential(0.2), "work")))
        builder.emit(Release())

    hand.workload("w", Renewal(Exponential(0.1)), emit)
    records = check_program(hand.build(), 390.0, sizes=sizes)
    arrivals = records.stations[-1, :, STATION_FIELDS.index("arrivals")]
    np.testing.assert_allclose(arrivals, arrivals.sum() * np.array([0.3, 2.5, 1.1]) / 3.9, atol=1.0)
