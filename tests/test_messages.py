"""Messages: requests of their own, whose publishers may wait until they acknowledge; by hand, on both engines."""

import numpy as np
import pytest

from simulator import simulate
from simulator.distributions import Constant, Discrete, Exponential
from simulator.program.arrivals import Renewal, Replay
from simulator.program.builder import Builder
from simulator.program.instructions import (
    Acknowledge,
    Acquire,
    Delay,
    End,
    EndScope,
    Fail,
    IfAbandoned,
    Jump,
    Place,
    Publish,
    Release,
    Scope,
)
from simulator.program.program import TIMEOUT, Entry, Workload
from simulator.program.stations import Pool
from simulator.results.conservation import check

WAIT = "publish"


class Hand:
    """A Program written by hand, of one workload `w`."""

    def __init__(self):
        self.builder = Builder()
        self.builder.start_workload()

    def delay(self, seconds, component="work"):
        builder = self.builder
        distribution = seconds if not isinstance(seconds, (int, float)) else Constant(float(seconds))
        builder.emit(Delay(builder.component(component), builder.draw(distribution, component)))

    def publish(self, body, stream="messages.m", awaited=False):
        """Publish a message that does `body`."""
        builder = self.builder
        message, done = builder.label(), builder.label()
        counter = builder.counter()
        wait = builder.component(WAIT) if awaited else None
        with builder.messages(stream, "s.m") as number:
            builder.emit(Publish(message, counter, number, wait))
            builder.emit(Jump(done))
            builder.mark(message)
            body()
            builder.emit(End())
        builder.mark(done)

    def finish(self, source=None):
        builder = self.builder
        builder.emit(End())
        choice = builder.draw(Discrete((1.0,)), "operation")
        builder.workload(Workload("w", source or Replay((0.0,)), (Entry("s.o", 0, 1.0),), choice, (), 0))
        return builder.build("by hand")

    def run(self, source=None, duration=100.0):
        """Run on both engines, to the same records; (arrival, end, outcome) of each request of each table."""
        program = self.finish(source)
        reference, compiled = (simulate(program, duration, seed=1, engine=engine) for engine in ("simpy", "compiled"))
        assert reference.digest() == compiled.digest()
        check(reference, program)
        outcomes = {0: "completed", -1: "in flight"}
        return {
            table.workload: [
                (float(arrival), float(end), outcomes.get(int(outcome)) or program.reasons[int(outcome) - 1])
                for arrival, end, outcome in zip(table.arrival, table.end, table.outcome, strict=True)
            ]
            for table in reference.requests
        }, reference


def spent(records, table):
    """(wait, service) by component of the first request that ended."""
    rows = records.requests[table]
    return {
        name: (wait, service)
        for name, wait, service in zip(rows.components, rows.wait[0], rows.service[0], strict=True)
        if wait or service
    }


def test_a_message_is_a_request_of_its_own():
    hand = Hand()
    hand.delay(1)
    hand.publish(lambda: hand.delay(3, "processing"))
    hand.delay(1)
    logs, records = hand.run(Replay((0.0, 0.5)))
    assert logs == {
        "w": [(0, 2, "completed"), (0.5, 2.5, "completed")],
        "messages.m": [(1, 4, "completed"), (1.5, 4.5, "completed")],
    }
    assert list(records.requests[1].number) == [0, 1]
    assert (spent(records, 0), spent(records, 1)) == ({"work": (0, 2)}, {"processing": (0, 3)})


def test_a_publisher_waits_for_the_acknowledgement_and_the_message_goes_on():
    hand = Hand()

    def body():
        hand.delay(2, "storing")
        hand.builder.emit(Acknowledge())
        hand.delay(5, "processing")

    hand.publish(body, awaited=True)
    hand.delay(1)
    logs, records = hand.run()
    assert logs == {"w": [(0, 3, "completed")], "messages.m": [(0, 7, "completed")]}
    assert spent(records, 0) == {WAIT: (2, 0), "work": (0, 1)}


def test_the_end_of_a_message_acknowledges():
    hand = Hand()
    hand.publish(lambda: hand.delay(2), awaited=True)
    logs, _ = hand.run()
    assert logs == {"w": [(0, 2, "completed")], "messages.m": [(0, 2, "completed")]}


@pytest.mark.parametrize(("acknowledged", "end"), [(False, (2, "broken")), (True, (1, "completed"))])
def test_a_failure_reaches_the_publisher_until_the_message_has_acknowledged(acknowledged, end):
    hand = Hand()

    def body():
        hand.delay(1)
        if acknowledged:
            hand.builder.emit(Acknowledge())
        hand.delay(1)
        hand.builder.emit(Fail(hand.builder.reason("broken")))

    hand.publish(body, awaited=True)
    logs, _ = hand.run()
    assert logs == {"w": [(0, *end)], "messages.m": [(0, 2, "broken")]}


def test_a_refused_publisher_fails_to_its_scope():
    hand = Hand()
    handler = hand.builder.label()
    hand.builder.emit(Scope(handler))
    hand.publish(lambda: hand.builder.emit(Fail(hand.builder.reason("broken"))), awaited=True)
    hand.builder.emit(EndScope())
    hand.builder.mark(handler)
    hand.delay(1)
    logs, _ = hand.run()
    assert logs == {"w": [(0, 1, "completed")], "messages.m": [(0, 0, "broken")]}


@pytest.mark.parametrize("breaks", [False, True])
def test_a_publisher_who_times_out_waits_no_more_and_the_message_goes_on(breaks):
    hand = Hand()
    builder = hand.builder
    handler = builder.label()

    def body():
        hand.delay(3)
        builder.emit(Fail(builder.reason("broken")) if breaks else Acknowledge())
        hand.delay(1)

    builder.emit(Scope(handler, builder.draw(Constant(2.0), "timeout"), TIMEOUT))
    hand.publish(body, awaited=True)
    builder.emit(EndScope())
    builder.mark(handler)
    hand.delay(1, "afterwards")
    logs, records = hand.run()
    message = (0, 3, "broken") if breaks else (0, 4, "completed")
    assert logs == {"w": [(0, 3, "completed")], "messages.m": [message]}
    assert spent(records, 0) == {WAIT: (2, 0), "afterwards": (0, 1)}


def test_more_levels_acknowledge_further_up_while_those_between_wait_on():
    hand = Hand()

    def inner():
        hand.delay(1)
        hand.builder.emit(Acknowledge(levels=2))
        hand.delay(2)
        hand.builder.emit(Acknowledge())
        hand.delay(4)

    def outer():
        hand.publish(inner, "messages.inner", awaited=True)
        hand.delay(1)

    hand.publish(outer, "messages.outer", awaited=True)
    logs, _ = hand.run()
    assert logs == {
        "w": [(0, 1, "completed")],
        "messages.outer": [(0, 4, "completed")],
        "messages.inner": [(0, 7, "completed")],
    }


def test_a_failure_is_handed_up_a_chain_of_those_who_wait():
    hand = Hand()
    hand.publish(
        lambda: hand.publish(
            lambda: hand.builder.emit(Fail(hand.builder.reason("broken"))), "messages.inner", awaited=True
        ),
        "messages.outer",
        awaited=True,
    )
    logs, _ = hand.run()
    assert {outcome for rows in logs.values() for *_, outcome in rows} == {"broken"}


def test_a_message_that_waits_for_room_holds_its_publisher_back():
    hand = Hand()
    builder = hand.builder
    room = Place((builder.station(Pool("room", 2.0)),))

    def body():
        builder.emit(Acquire(room, builder.component("room"), builder.draw(Constant(1.0), "one")))
        builder.emit(Acknowledge())
        hand.delay(4)
        builder.emit(Release())

    hand.publish(body, awaited=True)
    logs, records = hand.run(Replay((0.0, 1.0, 2.0)))
    assert logs["w"] == [(0, 0, "completed"), (1, 1, "completed"), (2, 4, "completed")]
    assert logs["messages.m"] == [(0, 4, "completed"), (1, 5, "completed"), (2, 8, "completed")]
    assert records.stations[:, 0, 8].max() <= 3  # two hold, one waits


@pytest.mark.parametrize(("patience", "expected"), [(2.0, (0, 3, "gave up")), (4.0, (0, 4, "completed"))])
def test_a_message_may_ask_whether_its_publisher_still_waits(patience, expected):
    hand = Hand()
    builder = hand.builder
    handler, abandoned = builder.label(), builder.label()

    def body():
        hand.delay(3)
        builder.emit(IfAbandoned(abandoned))
        hand.delay(1)
        builder.emit(End())
        builder.mark(abandoned)
        builder.emit(Fail(builder.reason("gave up")))

    builder.emit(Scope(handler, builder.draw(Constant(patience), "timeout"), TIMEOUT))
    hand.publish(body, awaited=True)
    builder.emit(EndScope())
    builder.mark(handler)
    logs, _ = hand.run()
    assert logs == {"w": [(0, min(patience, 4), "completed")], "messages.m": [expected]}


def test_messages_of_one_request_draw_apart_and_as_the_request_would():
    hand = Hand()
    with hand.builder.repeat(Constant(3.0)):
        hand.publish(lambda: hand.delay(Exponential(1.0)))
    logs, _ = hand.run(Renewal(Constant(1.0)), duration=50.0)
    ages = np.array([end - arrival for arrival, end, outcome in logs["messages.m"] if outcome == "completed"])
    assert len(np.unique(ages)) == len(ages) > 100
