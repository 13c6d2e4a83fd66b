"""Batch stations: exact semantics on both engines, agreement under cancellation, and bulk-service theory."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_engines_agree import TIGHT, Hand, check_program, visits

from simulator.analytic.demands import facts
from simulator.analytic.queues import bulk_md1, bulk_mm1
from simulator.distributions import Constant, Exponential
from simulator.program.arrivals import Renewal, Replay
from simulator.program.instructions import Acquire, EndScope, Fail, Jump, Release, Scope, Work
from simulator.program.stations import Batch, Pool
from simulator.records import STATION_FIELDS


def batch(hand, most, base, linger=0.0):
    return hand.at(Batch("it", most, hand.draw(base, "base"), linger))


def jobs(most, base, linger, *arrivals, duration=100.0):
    """(wait, service) of jobs (arrival, own seconds, time-out or None) on both engines, and the station's fields."""
    hand = Hand()
    place = batch(hand, most, Constant(base), linger)

    def code(own, timeout):
        def emit(builder):
            work = Work(place, builder.component("it"), hand.draw(Constant(own)))
            if timeout is None:
                builder.emit(work)
                return
            handler, done = builder.label(), builder.label()
            builder.emit(Scope(handler, hand.draw(Constant(timeout)), 0))
            builder.emit(work)
            builder.emit(EndScope())
            builder.emit(Jump(done))
            builder.mark(handler)
            builder.emit(Fail())
            builder.mark(done)

        return emit

    for number, (arrival, own, *timeout) in enumerate(arrivals):
        hand.workload(f"j{number}", Replay((arrival,)), code(own, timeout[0] if timeout else None))
    program = hand.build()
    check_program(program, duration, sizes=TIGHT)
    records = check_program(program, duration)
    fields = dict(zip(STATION_FIELDS, records.stations[-1, 0].tolist(), strict=True))
    return [(float(table.wait[0, 0]), float(table.service[0, 0])) for table in records.requests], fields


def test_jobs_that_wait_are_taken_together_and_complete_together():
    times, fields = jobs(3, 2.0, 0.0, (0, 1), (0.5, 1), (1, 2), (1.5, 0), (2, 4))
    # The first goes alone until 3; three that wait take 2 + 1 + 2 + 0 together until 8; the last 2 + 4.
    assert times == [(0, 3), (2.5, 5), (2, 5), (1.5, 5), (6, 6)]
    assert fields["completions"] == fields["arrivals"] == 5
    # In full batches the base of 2 would be that of three jobs.
    assert fields["busy_area"] == pytest.approx(fields["delivered"]) == pytest.approx((2 / 3 + 1) + 5 + (2 / 3 + 4))
    assert fields["waiting_area"] == 2.5 + 2 + 1.5 + 6


def test_a_batch_lingers_for_more_until_it_is_full():
    times, _ = jobs(3, 2.0, 1.0, (0, 0), (0.5, 0), (8, 0), (8.25, 0), (8.5, 0))
    assert times == [(1, 2), (0.5, 2), (0.5, 2), (0.25, 2), (0, 2)]


def test_time_waited_for_the_server_counts_as_lingering():
    # At 2.5 the second has waited long enough, and takes the third along; at 4.5 the fourth lingers for 0.25 s more.
    times, _ = jobs(9, 2.0, 0.5, (0, 0), (1, 0), (2.25, 0), (4.25, 0))
    assert times == [(0.5, 2), (1.5, 2), (0.25, 2), (0.5, 2)]


def test_a_job_that_gives_up_while_it_waits_leaves_the_batch_to_the_others():
    times, fields = jobs(2, 2.0, 0.0, (0, 0), (0.5, 0, 1), (0.75, 0), (1, 0))
    assert times == [(0, 2), (1, 0), (1.25, 2), (1, 2)]
    assert fields["withdrawals"] == 1


def test_a_job_that_gives_up_in_service_lets_the_batch_finish_without_it():
    times, fields = jobs(2, 4.0, 0.0, (0, 0), (1, 1, 5), (1, 1), (2, 0))
    # Until 4, the first; until 10, the next two, one of which leaves at 6; then the last.
    assert times == [(0, 4), (3, 2), (3, 6), (8, 4)]
    assert (fields["withdrawals"], fields["completions"]) == (1, 3)
    assert fields["busy_area"] == fields["delivered"] == 2 + (2 + 6) * (2 + 1) / 6 + 2


def test_the_server_stays_busy_where_the_whole_batch_gives_up():
    times, fields = jobs(2, 4.0, 0.0, (0, 0, 1), (2, 0))
    assert times == [(0, 1), (2, 4)]
    assert fields["busy_area"] == 2 * 1 / 4 + 2


def test_where_the_first_gives_up_the_next_one_lingers_for_its_own_time():
    times, _ = jobs(9, 1.0, 2.0, (0, 0, 1), (0.5, 0), (1, 0))
    assert times == [(1, 0), (2, 1), (1.5, 1)]


def test_where_all_give_up_nobody_lingers():
    times, _ = jobs(9, 1.0, 2.0, (0, 0, 1), (5, 0))
    assert times == [(1, 0), (2, 1)]


def test_a_run_that_ends_within_a_batch_has_credited_what_it_saw():
    _, fields = jobs(2, 4.0, 0.0, (0, 0), (1, 0), duration=7.0)
    assert fields["delivered"] == fields["busy_area"] == 2 + 2 * 3 / 4
    assert fields["present"] == 1


@settings(max_examples=60)
@given(
    most=st.integers(1, 4),
    linger=st.sampled_from([0.0, 0.125, 0.5, 2.0]),
    base=st.sampled_from([Constant(0.0), Constant(0.5), Exponential(0.5)]),
    own=st.sampled_from([Constant(0.0), Constant(0.125), Exponential(0.1)]),
    timeout=st.sampled_from([None, Constant(0.5), Constant(1.0), Exponential(1.0)]),
    seed=st.integers(0, 3),
    tight=st.booleans(),
)
def test_engines_agree_on_batches(most, linger, base, own, timeout, seed, tight):
    hand = Hand()
    places = [batch(hand, most, base, linger) for _ in range(2)]
    pool = hand.at(Pool("pool", 3.0))

    def emit(builder):
        handler, done = builder.label(), builder.label()
        if timeout is not None:
            builder.emit(Scope(handler, builder.draw(timeout, "timer"), 0))
        builder.emit(Acquire(pool, builder.component("pool"), hand.draw(Constant(1.0))))
        for place in places:
            builder.emit(Work(place, builder.component("it"), builder.draw(own, "own")))
        builder.emit(Release())
        if timeout is None:
            return
        builder.emit(EndScope())
        builder.emit(Jump(done))
        builder.mark(handler)
        builder.emit(Fail())
        builder.mark(done)

    hand.workload("clockwork", Renewal(Constant(0.25)), emit)
    hand.workload("random", Renewal(Exponential(0.5)), emit)
    hand.workload("closed", (3, Constant(0.25), Constant(0.0)), emit)
    check_program(hand.build(), 20.0, seed, sizes=TIGHT if tight else None)


def waits(most, base, rate, requests, seed):
    """Mean number waiting at a batch station, by simulation, with the standard error of 16 replications."""
    from simulator.engines import compiled

    hand = Hand()
    hand.workload(
        "w", Renewal(Exponential(1 / rate)), visits((Work, batch(hand, most, base), hand.draw(Constant(0.0))))
    )
    program, means = hand.build(), []
    for replication in range(16):
        records = compiled.engine.simulate(program, requests / rate, seed, replication, windows=2)
        start, end = records.stations[1, 0], records.stations[2, 0]
        area = STATION_FIELDS.index("waiting_area")
        means.append((end[area] - start[area]) / (requests / rate / 2))
    mean = math.fsum(means) / len(means)
    variance = math.fsum((each - mean) ** 2 for each in means) / (len(means) - 1)
    return mean, math.sqrt(variance / len(means))


@pytest.mark.parametrize(("most", "load"), [(1, 0.7), (4, 0.5), (4, 0.8), (16, 0.8)])
def test_bulk_service_theory(most, load):
    """Standard errors 4 and more away happen once in 10,000 checks; there are eight here."""
    rate = load * most / 0.01
    for base, theory in ((Exponential(0.01), bulk_mm1), (Constant(0.01), bulk_md1)):
        expected = theory(rate, 0.01, most).queue_length
        mean, error = waits(most, base, rate, 40_000, seed=5)
        assert abs(mean - expected) < 4 * error, (base, mean, error, expected)
        assert error < 0.04 * expected
    # A mistake is seen: batches of one job more or less.
    assert abs(mean - bulk_md1(rate, 0.01, most + 1).queue_length) > 4 * error


def test_bulk_service_of_one_is_the_single_server():
    assert bulk_mm1(70.0, 0.01, 1).queue_length == pytest.approx(0.7**2 / 0.3)
    assert bulk_md1(70.0, 0.01, 1).queue_length == pytest.approx(0.7**2 / 0.3 / 2)


@pytest.mark.parametrize("theory", [bulk_mm1, bulk_md1])
def test_bulk_service_refuses_what_cannot_be(theory):
    for arguments in ((1000.0, 0.01, 10), (-1.0, 0.01, 1), (1.0, 0.0, 1), (1.0, 0.01, 0)):
        with pytest.raises(ValueError, match=r"must be|unstable"):
            theory(*arguments)


def test_demand_is_the_place_in_a_full_batch():
    hand = Hand()
    place = batch(hand, 4, Constant(0.02), 0.005)
    hand.workload("w", Renewal(Constant(0.1)), visits((Work, place, hand.draw(Constant(0.005)))))
    [workload] = facts(hand.build()).workloads
    assert workload.saturation_throughput == pytest.approx(4 / (0.02 + 4 * 0.005))
    assert workload.zero_load_response == pytest.approx(0.005 + 0.02 + 0.005)


def test_overload_completes_full_batches():
    hand = Hand()
    place = batch(hand, 4, Constant(0.02))
    hand.workload("w", Renewal(Constant(0.001)), visits((Work, place, hand.draw(Constant(0.005)))))
    records = check_program(hand.build(), 8.0)
    assert records.stations[-1, 0, STATION_FIELDS.index("completions")] == pytest.approx(4 / 0.04 * 8, abs=4)
