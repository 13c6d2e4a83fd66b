"""Controls: what faults, autoscalers and garbage collectors do, exactly, and the same on both engines.

Times are small whole or dyadic numbers of seconds, so that every comparison is exact.
"""

import itertools

import numpy as np
import pytest
from test_engines_agree import TIGHT, check_program

from simulator.distributions import Constant, Exponential
from simulator.program.arrivals import Renewal, Replay
from simulator.program.builder import Builder
from simulator.program.instructions import (
    Acquire,
    Add,
    Branch,
    Break,
    Clear,
    Close,
    Delay,
    End,
    EndScope,
    Exclude,
    Fail,
    Fork,
    Halt,
    Include,
    Join,
    Jump,
    Open,
    Place,
    Publish,
    Release,
    Resume,
    Retry,
    Scale,
    Scope,
    Set,
    SetSpeed,
    Work,
)  # fmt: skip
from simulator.program.program import Balancer, Entry, Policy, Scaler, Users, Workload
from simulator.program.stations import Discipline, Gauge, Pool, Servers, Sharing
from simulator.records import STATION_FIELDS

CRASHED = "crashed"
SECONDS = range(1, 20)


class Hand:
    """A Program under construction: one workload after the other, each a flat piece of code."""

    def __init__(self):
        self.builder = Builder()
        self.crashed = self.builder.reason(CRASHED)

    def at(self, *stations):
        return Place(tuple(self.builder.station(station) for station in stations))

    def number(self, value, name="x"):
        distribution = value if not isinstance(value, (int, float)) else Constant(float(value))
        return self.builder.draw(distribution, name)

    def work(self, place, amount):
        self.builder.emit(Work(place, self.builder.component("work"), self.number(amount)))

    def delay(self, amount, scale=None):
        self.builder.emit(Delay(self.builder.component("delay"), self.number(amount), scale))

    def acquire(self, place):
        self.builder.emit(Acquire(place, self.builder.component("pool"), self.number(1)))

    def workload(self, name, source, emit, background=False):
        builder = self.builder
        builder.start_workload()
        start = builder.label()
        builder.mark(start)
        emit(builder)
        builder.emit(End())
        choice = self.number(0)
        if isinstance(source, (list, range)):
            source = Replay(tuple(float(time) for time in source))
        elif isinstance(source, tuple):
            source = Users(source[0], self.number(source[1], f"{name}.think"), self.number(0))
        entries = (Entry("op", start, 1.0),)
        builder.workload(Workload(name, source, entries, choice, (), 0, background=background))

    def control(self, time, *instructions):
        """Instructions that happen at a time."""

        def emit(builder):
            for instruction in instructions:
                builder.emit(instruction)

        self.workload(f"control at {time} #{len(self.builder.workloads)}", [time], emit, background=True)

    def run(self, duration=100.0, windows=1, seed=1):
        program = self.builder.build("by hand")
        check_program(program, duration, seed, windows=windows, sizes=TIGHT)
        return Log(program, check_program(program, duration, seed, windows=windows))


class Log:
    def __init__(self, program, records):
        self.program = program
        self.records = records

    def ends(self, workload="w"):
        """(number, end, outcome) in order of ending, those in flight left out."""
        table = next(table for table in self.records.requests if table.workload == workload)
        return [
            (int(number), float(end), "ok" if code == 0 else self.program.reasons[code - 1])
            for number, end, code in zip(table.number, table.end, table.outcome, strict=True)
            if not np.isnan(end)
        ]

    def field(self, resource, name):
        [number] = self.program.resources()[resource]
        return float(self.records.stations[-1, number, STATION_FIELDS.index(name)])


# Speed.


@pytest.mark.parametrize("station", [Servers("x", 1), Sharing("x", (1.0,))])
def test_a_slower_station_takes_longer_from_then_on(station):
    hand = Hand()
    x = hand.at(station)
    hand.workload("w", [0, 20], lambda _: hand.work(x, 4))
    hand.control(2, SetSpeed(x, 0.5))
    hand.control(10, SetSpeed(x, 1.0))
    log = hand.run()
    assert log.ends() == [(0, 6, "ok"), (1, 24, "ok")]


@pytest.mark.parametrize("station", [Servers("x", 2), Sharing("x", (1.0, 2.0))])
def test_a_halted_station_keeps_its_jobs_and_goes_on(station):
    hand = Hand()
    x = hand.at(station)
    hand.workload("w", [0, 1, 4], lambda _: hand.work(x, 3))
    hand.control(2, Halt(x))
    hand.control(3, Halt(x))
    hand.control(5, Resume(x))
    hand.control(8, Resume(x))  # the third has come in between; two run first at the servers, three share
    log = hand.run()
    if isinstance(station, Servers):
        assert log.ends() == [(0, 9, "ok"), (1, 10, "ok"), (2, 12, "ok")]
        assert log.field("x", "busy_area") == 9 + 9 + 3  # a halted server is busy
    else:
        # Left are 1, 2 and 3 at the rate 2: the first at 8 + 1.5, then 1 and 2 at full rate.
        assert log.ends() == [(0, 9.5, "ok"), (1, 10.5, "ok"), (2, 11.5, "ok")]
        assert log.field("x", "busy_area") == log.field("x", "delivered") == 9


def test_speed_and_halts_combine():
    hand = Hand()
    x = hand.at(Servers("x", 1))
    hand.workload("w", [0], lambda _: hand.work(x, 4))
    hand.control(1, Halt(x), SetSpeed(x, 0.25))
    hand.control(2, Resume(x))  # 3 left, at a quarter of the speed
    hand.control(6, SetSpeed(x, 2.0))  # 2 left
    assert hand.run().ends() == [(0, 7, "ok")]


def test_jobs_that_end_together_end_in_the_order_in_which_they_were_made():
    hand = Hand()
    x = hand.at(Servers("x", 3))
    hand.workload("w", [0, 0, 0], lambda _: hand.work(x, 2))
    hand.control(1, Halt(x), Resume(x))
    assert hand.run().ends() == [(0, 2, "ok"), (1, 2, "ok"), (2, 2, "ok")]


def test_who_gives_up_at_a_halted_server_leaves_it():
    hand = Hand()
    x = hand.at(Servers("x", 1))

    def patient(builder):
        handler = builder.label()
        builder.emit(Scope(handler, hand.number(3), 0))
        hand.work(x, 2)
        builder.emit(EndScope())
        builder.emit(End())
        builder.mark(handler)
        builder.emit(Fail())

    hand.workload("w", [0, 3], patient)
    hand.control(1, Halt(x))
    hand.control(5, Resume(x))
    # The first gives up at 3, the second starts at a server that stands until 5, and gives up at 6.
    assert hand.run().ends() == [(0, 3, "timeout"), (1, 6, "timeout")]


# Pools.


def holding(hand, pool, seconds):
    def emit(builder):
        hand.acquire(pool)
        hand.delay(seconds)
        builder.emit(Release())

    return emit


def test_a_closed_pool_refuses_newcomers_and_leaves_others_alone():
    hand = Hand()
    pool = hand.at(Pool("p", 1.0))
    hand.workload("w", [0, 1, 3, 9], holding(hand, pool, 4))
    hand.control(2, Close(pool))
    hand.control(6, Open(pool))
    log = hand.run()
    assert log.ends() == [(2, 3, "refused"), (0, 4, "ok"), (1, 10, "ok"), (3, 14, "ok")]


def test_a_hanging_pool_lets_newcomers_wait():
    hand = Hand()
    pool = hand.at(Pool("p", float("inf")))
    hand.workload("w", [0, 3, 4], holding(hand, pool, 1))
    hand.control(2, Close(pool, hangs=True))
    hand.control(2, Close(pool, hangs=True))
    hand.control(5, Open(pool, hangs=True))
    hand.control(7, Open(pool, hangs=True))
    assert hand.run().ends() == [(0, 1, "ok"), (1, 8, "ok"), (2, 8, "ok")]


# Breaking.


def test_break_fails_holders_and_waiters_and_nobody_else():
    hand = Hand()
    broken, other = hand.at(Pool("p", 1.0)), hand.at(Pool("q", 1.0))
    hand.workload("w", [0, 1], holding(hand, broken, 10))
    hand.workload("v", [0, 1], holding(hand, other, 5))
    hand.control(3, Close(broken), Break(broken.stations, hand.crashed), Open(broken))
    log = hand.run()
    assert log.ends("w") == [(0, 3, CRASHED), (1, 3, CRASHED)]
    assert log.ends("v") == [(0, 5, "ok"), (1, 10, "ok")]
    assert log.field("p", "present") == 0


def retrying(hand, body, times=3, backoff=1.0):
    """Code that tries `body` again after failures."""

    def emit(builder):
        register, attempt, handler = builder.register(), builder.label(), builder.label()
        done = builder.label()
        builder.emit(Clear(register))
        builder.mark(attempt)
        builder.emit(Scope(handler))
        body(builder)
        builder.emit(EndScope())
        builder.emit(Jump(done))
        builder.mark(handler)
        component = builder.component("back-off")
        builder.emit(Retry(register, component, (backoff,) * times, 0.0, hand.number(0), attempt))
        builder.mark(done)

    return emit


def test_the_caller_of_what_breaks_can_catch_it():
    hand = Hand()
    caller, callee = hand.at(Pool("caller", 5.0)), hand.at(Pool("callee", 5.0))

    def emit(builder):
        hand.acquire(caller)
        retrying(hand, holding(hand, callee, 4))(builder)
        builder.emit(Release())

    hand.workload("w", [0], emit)
    hand.control(2, Close(callee), Break(callee.stations, hand.crashed))
    hand.control(3, Open(callee))  # before the retry, which comes at the same instant
    assert hand.run().ends() == [(0, 7, "ok")]


def test_what_breaks_cannot_catch_it_itself():
    hand = Hand()
    server, client = hand.at(Pool("server", 5.0)), hand.at(Pool("client", 1.0))

    def emit(builder):
        hand.acquire(server)
        retrying(hand, lambda _: hand.delay(10))(builder)
        builder.emit(Release())

    hand.workload("w", [0], emit)
    hand.workload("v", [0], retrying(hand, emit))
    hand.control(2, Close(server), Break(server.stations, hand.crashed), Open(server))
    log = hand.run()
    assert log.ends("w") == [(0, 2, CRASHED)]
    assert log.ends("v") == [(0, 13, "ok")]
    assert client


def test_branches_break_and_take_their_fork_along_where_it_needs_them():
    hand = Hand()
    pools = [hand.at(Pool(name, 1.0)) for name in "pq"]

    def forking(need):
        def emit(builder):
            branches, done = [builder.label() for _ in pools], builder.label()
            builder.emit(Fork(tuple(branches), need))
            builder.emit(Jump(done))
            for branch, pool in zip(branches, pools, strict=True):
                builder.mark(branch)
                holding(hand, pool, 4)(builder)
                builder.emit(End())
            builder.mark(done)

        return emit

    hand.workload("w", [0], forking(2))
    hand.workload("v", [8], forking(1))
    p = pools[0]
    hand.control(2, Close(p), Break(p.stations, hand.crashed), Open(p))
    hand.control(9, Close(p), Break(p.stations, hand.crashed), Open(p))
    log = hand.run()
    assert log.ends("w") == [(0, 2, CRASHED)]
    assert log.ends("v") == [(0, 12, "ok")]
    assert log.field("q", "withdrawals") == 0


def test_a_crash_of_everything_at_once():
    """Closed users end, wait for locks, retry, fork: many at one instant, all by the same crash."""
    hand = Hand()
    front, back = hand.at(Pool("front", 3.0)), hand.at(Pool("back", 2.0))
    cpu = hand.at(Sharing("cpu", (1.0, 2.0)))
    disk = hand.at(Servers("disk", 1, Discipline.LIFO))

    def inner(builder):
        hand.acquire(back)
        hand.work(disk, Exponential(0.2))
        builder.emit(Release())

    def outer(builder):
        hand.acquire(front)
        hand.work(cpu, Exponential(0.1))
        retrying(hand, inner, 2, 0.125)(builder)
        builder.emit(Release())

    hand.workload("closed", (8, Exponential(0.1)), outer)
    hand.workload("open", Renewal(Exponential(0.3)), retrying(hand, outer, 1, 0.25))
    for time in range(1, 20, 2):
        both = (*front.stations, *back.stations)
        pools = [(front,), (back,), (front, back)][time % 3]
        numbers = both if len(pools) == 2 else pools[0].stations
        hand.control(time, Halt(cpu), *(Close(pool) for pool in pools), Break(numbers, hand.crashed))
        hand.control(time + 0.5, *(Open(pool) for pool in pools), Resume(cpu))
    log = hand.run(20.0, windows=7)
    assert {reason for _, _, reason in log.ends("closed")} == {"ok", CRASHED, "refused"}


# Gauges.


def test_gauges_are_integrated_and_decide():
    hand = Hand()
    gauge = hand.at(Gauge("g", 1.0))

    def emit(builder):
        high = builder.label()
        builder.emit(Branch(gauge, 2.0, high))
        hand.delay(1)
        builder.emit(End())
        builder.mark(high)
        builder.emit(Fail(hand.crashed))

    hand.workload("w", [1, 5, 9], emit)
    hand.workload("v", [0, 5, 9], lambda _: hand.delay(0.5, gauge.stations[0]))
    hand.control(4, Add(gauge, hand.number(3)))
    hand.control(8, Set(gauge, hand.number(0)))
    log = hand.run(10.0)
    assert log.ends() == [(0, 2, "ok"), (1, 5, CRASHED)]
    assert log.ends("v") == [(0, 0.5, "ok"), (1, 7, "ok"), (2, 9, "ok")]
    assert log.field("g", "busy_area") == 4 * 1 + 4 * 4 + 0


# Balancers.


@pytest.mark.parametrize("policy", Policy)
def test_no_balancer_chooses_who_is_excluded(policy):
    hand = Hand()
    builder = hand.builder
    pools = tuple(builder.station(Pool("p", float("inf"))) for _ in range(4))
    balancer = builder.balancer(Balancer(policy, pools, (1.0, 2.0, 1.0, 3.0), (0, 1, 0, 0)))

    def emit(builder):
        register = builder.select(balancer)
        hand.acquire(Place(pools, register))
        hand.delay(Exponential(0.5))
        builder.emit(Release())

    hand.workload("w", Renewal(Exponential(0.01)), emit)
    hand.control(2, Exclude(balancer, 2), Exclude(balancer, 2))
    hand.control(4, Include(balancer, 1), Include(balancer, 2), Exclude(balancer, 3))
    hand.control(6, Include(balancer, 2), Exclude(balancer, 0), Exclude(balancer, 1))
    hand.control(8, Exclude(balancer, 2))
    log = hand.run(10.0, windows=5)
    arrivals = np.diff(log.records.stations[:, list(pools), STATION_FIELDS.index("arrivals")], axis=0) > 0
    assert arrivals.tolist() == [
        [True, False, True, True], [True, False, False, True], [True, True, False, False],
        [False, False, True, False], [False, False, False, False],
    ]  # fmt: skip
    assert {reason for _, end, reason in log.ends() if end > 8.0 and reason != "ok"} == {"no replica"}


# Scalers.


def scaled(hand, load, most=4, least=1, cool_down=0.0, start_up=1.0, times=SECONDS):
    """A service of replicas with one core each, that should be busy half of the time; it is looked at every second."""
    builder = hand.builder
    gauge = hand.at(Gauge("instances", float(least)))
    cpus = tuple(builder.station(Sharing("cpu", (1.0,))) for _ in range(most))
    pools = tuple(builder.station(Pool("requests", float("inf"))) for _ in range(most))
    excluded = tuple(int(replica >= least) for replica in range(most))
    balancer = builder.balancer(Balancer(Policy.ROUND_ROBIN, pools, excluded=excluded, steered=True))
    scaler = builder.scaler(Scaler(gauge.stations[0], balancer, cpus, False, 0.5, 0.1, least, most, cool_down))

    def serve(builder):
        register = builder.select(balancer)
        hand.work(Place(cpus, register), 0.25)

    hand.workload("w", load, serve)

    def control(builder):
        start, done = builder.label(), builder.label()
        register = builder.register()
        builder.register()
        builder.emit(Scale(scaler, start, register, builder.register()))
        builder.emit(Jump(done))
        builder.mark(start)
        hand.delay(start_up)
        builder.emit(Join(scaler, register))
        builder.emit(End())
        builder.mark(done)

    hand.workload("scaler", times, control, background=True)


def levels(log, resource="instances"):
    [number] = log.program.resources()[resource]
    return np.diff(log.records.stations[:, number, 0]).tolist()


def test_a_scaler_goes_up_at_once_and_instances_join_when_they_have_started():
    hand = Hand()
    # 2.5 cores' worth: five are asked for in the end, four is the most.
    scaled(hand, [time / 10 for time in range(0, 200)], start_up=1.5, times=range(2, 20))
    log = hand.run(20.0, windows=20)
    # At 2 and 3 one core is busy all the time, twice as much as it should be: two. At 4 the second has been there for
    # half of the last second: 1.4 busy, so three. At 5 both are: four.
    assert levels(log)[:8] == [1, 1, 2, 2, 3, 4, 4, 4]
    cpus = log.program.resources()["cpu"]
    arrivals = log.records.stations[:, list(cpus), STATION_FIELDS.index("arrivals")]
    first = [int(np.argmax(arrivals[:, column] > 0)) for column in range(4)]
    assert first == [1, 4, 6, 7]  # within the second that ends then: joined at 3.5, 5.5 and 6.5


def test_a_scaler_goes_down_after_the_cool_down_to_the_most_that_was_asked_for():
    hand = Hand()
    # 1.5 busy, then 0.5 from 6 on, with one look at 8 that sees 0.75.
    busy = [time / 8 for time in range(0, 64)]
    calm = [8 + time / 2 for time in range(0, 24)]
    scaled(hand, busy + calm, least=1, cool_down=3.0, start_up=0.0)
    log = hand.run(20.0, windows=20)
    assert levels(log)[-1] == 1.0
    assert max(levels(log)) == 4.0


def test_scalers_agree_on_random_loads():
    for load, policy in itertools.product([Renewal(Exponential(0.15)), (6, Exponential(0.1))], [0.0, 2.0]):
        hand = Hand()
        scaled(hand, load, cool_down=policy, start_up=Exponential(0.7), times=[n / 2 for n in range(1, 40)])
        log = hand.run(20.0, windows=11)
        assert len(set(levels(log))) > 1


def test_collection_by_gauge_and_message():
    """A stop-the-world pause whenever 3 units have been allocated: what the model's garbage collection lowers to."""
    hand = Hand()
    cpu, heap = hand.at(Sharing("cpu", (1.0,))), hand.at(Gauge("heap"))

    def emit(builder):
        collect, compute, done = builder.label(), builder.label(), builder.label()
        builder.emit(Add(heap, hand.number(1)))
        builder.emit(Branch(heap, 3.0, collect))
        builder.mark(compute)
        hand.work(cpu, 1)
        builder.emit(Jump(done))
        builder.mark(collect)
        builder.emit(Add(heap, hand.number(3), negative=True))
        pause = builder.label()
        builder.emit(Publish(pause))
        hand.work(cpu, 1)
        builder.emit(Jump(done))
        builder.mark(pause)
        builder.emit(Halt(cpu))
        hand.delay(2)
        builder.emit(Resume(cpu))
        builder.emit(End())
        builder.mark(done)

    hand.workload("w", [0, 10, 20, 30, 40, 50], emit)
    log = hand.run()
    assert [end for _, end, _ in log.ends()] == [1, 11, 23, 31, 41, 53]
