"""Tier 6: the compiled engine returns the SimPy engine's Records, to the last bit of every column.

Random models over the whole language, and models made to be nasty; a model on which the engines differ is printed as
YAML, small enough (after shrinking) to be kept in `tests/regressions/`.
"""

import copy
import dataclasses
import io
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from model_strategy import models
from ruamel.yaml import YAML

from simulator.distributions import (
    Constant,
    Discrete,
    Erlang,
    Exponential,
    Gamma,
    LogNormal,
    StandardUniform,
    Uniform,
    Weibull,
    Zipf,
)
from simulator.engines import compiled, simpy, simulate
from simulator.engines.compiled import draws_at
from simulator.engines.compiled.sampling import Sampler
from simulator.engines.compiled.state import Sizes
from simulator.errors import UsageError
from simulator.model.files import load
from simulator.model.lowering import lower
from simulator.model.system import System
from simulator.program.arrivals import Renewal, Replay
from simulator.program.builder import Builder
from simulator.program.instructions import (
    Acquire,
    Clear,
    Delay,
    DrawInto,
    End,
    EndScope,
    Fail,
    Fork,
    Insert,
    Jump,
    Lookup,
    Place,
    Publish,
    Release,
    Retry,
    Scope,
    TakeTokens,
    Work,
)
from simulator.program.program import Entry, Users, Workload
from simulator.program.stations import Bucket, Discipline, Eviction, External, Pool, Servers, Sharing, Store
from simulator.records import STATION_FIELDS
from simulator.streams import Stream, Streams, message_base

HERE = Path(__file__).parent
SHIPPED = sorted(path for path in (HERE.parent / "models").glob("*.yaml") if path.name != "llms.yaml")
REGRESSIONS = sorted((HERE / "regressions").glob("*.yaml"))
DURATION = 12.0
# Room for almost nothing, so that every request for more comes in every situation.
TIGHT = Sizes(tokens=1, scopes=1, holds=1, locks=1, nodes=1, keys=1, entries=1, rows=1, block_bits=1, budget=3)


def differences(expected, found):
    """Names of the columns that are not equal, bit by bit."""
    for before, after in zip(expected.requests, found.requests, strict=True):
        columns = after.columns()
        for name, values in before.columns().items():
            if values.dtype != columns[name].dtype or not np.array_equal(values, columns[name], equal_nan=True):
                yield f"{before.workload}.{name}"
    for name in ("times", "stations", "inference", "workloads"):
        if not np.array_equal(getattr(expected, name), getattr(found, name)):
            yield name
    if expected.resources != found.resources:
        yield "resources"
    if expected.digest() != found.digest():
        yield "digest"


def check_program(program, duration=DURATION, seed=1, windows=7, sizes=None, told=""):
    expected = simpy.simulate(program, duration, seed, windows=windows)
    found = compiled.simulate(program, duration, seed, windows=windows, sizes=sizes)
    different = list(differences(expected, found))
    assert not different, f"the engines differ in {', '.join(different)} (seed {seed})\n{told}"
    return found


def as_yaml(model):
    stream = io.StringIO()
    YAML().dump(model, stream)
    return stream.getvalue()


def without_discipline(program, choice):
    """The program with other queues and limits than the model language knows, chosen at random."""

    def changed(station):
        match station:
            case Servers():
                return dataclasses.replace(
                    station,
                    discipline=choice.choice(list(Discipline)),
                    queue_limit=choice.choice([None, None, 0, 1, 3]),
                )
            case Pool():
                return dataclasses.replace(station, queue_limit=choice.choice([station.queue_limit, None, 2]))
            case _:
                return station

    return dataclasses.replace(program, stations=tuple(changed(station) for station in program.stations))


def check_model(model, seed, tight, changed):
    program = lower(System.model_validate(copy.deepcopy(model)))
    if changed:
        program = without_discipline(program, random.Random(changed))
    told = f"# seed {seed}, tight {tight}, changed {changed}\n{as_yaml(model)}"
    check_program(program, seed=seed, sizes=TIGHT if tight else None, told=told)


generated = given(models(processes=False, controls=True), st.integers(0, 3), st.booleans(), st.integers(0, 2))


@settings(max_examples=300)
@generated
def test_generated_models_agree(model, seed, tight, changed):
    check_model(model, seed, tight, changed)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))  # so that processes share them
def test_many_generated_models_agree(part):
    others = seed(part) if settings().derandomize else lambda test: test
    others(settings(max_examples=500)(generated(check_model)))()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_models_agree(path):
    program = lower(load(path))
    check_program(program, duration=0.05)
    check_program(program, duration=0.01, seed=2, sizes=TIGHT)


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.stem)
def test_regressions_agree(path):
    case = YAML(typ="safe").load(path.read_text())
    check_model(case["model"], case["seed"], case["tight"], case["changed"])


# Programs by hand: what the model language does not reach, or too rarely.


class Hand:
    """A Program under construction: one workload after the other, each a flat piece of code."""

    def __init__(self):
        self.builder = Builder()

    def at(self, *stations):
        return Place(tuple(self.builder.station(station) for station in stations))

    def draw(self, distribution, name="x"):
        return self.builder.draw(distribution, name)

    def workload(self, name, source, emit, priority=0):
        builder = self.builder
        builder.start_workload()
        start = builder.label()
        builder.mark(start)
        emit(builder)
        builder.emit(End())
        choice = self.draw(Constant(0.0), "operation")
        if isinstance(source, tuple):
            source = Users(source[0], self.draw(source[1], f"{name}.think"), self.draw(source[2], f"{name}.start"))
        entries = (Entry("op", start, 1.0),)
        builder.workload(Workload(name, source, entries, choice, (), 0, priority))

    def build(self):
        return self.builder.build("by hand")


def visits(*steps):
    """The code of steps (instruction class, place, draw), each accounted to a component of its own."""

    def emit(builder):
        for number, (instruction, place, draw) in enumerate(steps):
            builder.emit(instruction(place, builder.component(f"c{number}"), draw))

    return emit


ONE = Constant(1.0)
CLOCKWORK = Renewal(Constant(0.25))
POISSON = Renewal(Exponential(0.25))
THREE_WORKLOADS = [("low", 5), ("high", -3), ("middle", 0)]
both_sizes = pytest.mark.parametrize("sizes", [None, TIGHT], ids=["roomy", "tight"])


@both_sizes
@pytest.mark.parametrize("discipline", list(Discipline))
@pytest.mark.parametrize("service", [Constant(0.5), Exponential(0.2), Constant(0.0)], ids=str)
@pytest.mark.parametrize("limit", [None, 0, 2])
def test_servers(discipline, service, limit, sizes):
    hand = Hand()
    place = hand.at(Servers("it", 2, discipline, limit))
    for name, priority in THREE_WORKLOADS:
        hand.workload(name, CLOCKWORK, visits((Work, place, hand.draw(service))), priority)
    check_program(hand.build(), 50.0, sizes=sizes)


@both_sizes
@pytest.mark.parametrize("capacity", [(1.0,), (1.0, 2.0, 2.5), (3.0, 1.0)], ids=str)
@pytest.mark.parametrize("amount", [Constant(0.3), Exponential(0.3), LogNormal(0.2, 3.0), Constant(0.0)], ids=str)
def test_sharing_with_ties_and_time_outs(capacity, amount, sizes):
    hand = Hand()
    place, other = hand.at(Sharing("it", capacity)), hand.at(Sharing("other", (1.0,)))
    work, timer = hand.draw(amount), hand.draw(Constant(1.0))

    def emit(builder):
        handler, done = builder.label(), builder.label()
        builder.emit(Scope(handler, timer, 0))
        builder.emit(Work(place, builder.component("it"), work))
        builder.emit(Work(other, builder.component("other"), work))
        builder.emit(EndScope())
        builder.emit(Jump(done))
        builder.mark(handler)
        builder.emit(Fail())
        builder.mark(done)

    hand.workload("w", CLOCKWORK, emit)
    hand.workload("v", POISSON, emit)
    check_program(hand.build(), 60.0, sizes=sizes)


@pytest.mark.parametrize("block_bits", [1, 12])
def test_overload_spreads_the_requests_in_flight_far_apart(block_bits):
    hand = Hand()
    places = [hand.at(Sharing(f"s{n}", (1.0,))) for n in range(3)]
    hand.workload(
        "w", Renewal(Exponential(0.001)), visits(*[(Work, place, hand.draw(Exponential(0.01))) for place in places])
    )
    check_program(hand.build(), 20.0, sizes=Sizes(block_bits=block_bits))


@both_sizes
@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("timeout", [0.1, 0.5, 2.0])
def test_buckets_whose_head_gives_up(waits, timeout, sizes):
    hand = Hand()
    place = hand.at(Bucket("it", 3.0, 2.0, waits))
    tokens, timer = hand.draw(Uniform(0.0, 2.1)), hand.draw(Uniform(0.0, 2 * timeout), "timer")

    def emit(builder):
        handler, done = builder.label(), builder.label()
        builder.emit(Scope(handler, timer, 0))
        builder.emit(TakeTokens(place, builder.component("it"), tokens))
        builder.emit(EndScope())
        builder.emit(Jump(done))
        builder.mark(handler)
        builder.emit(Fail())
        builder.mark(done)

    hand.workload("w", CLOCKWORK, emit)
    hand.workload("v", Renewal(Exponential(0.5)), emit)
    check_program(hand.build(), 60.0, sizes=sizes)


@both_sizes
@pytest.mark.parametrize("eviction", list(Eviction))
@pytest.mark.parametrize("time_to_live", [None, 0.5, 5.0])
@pytest.mark.parametrize("capacity", [1, 7, 40])
def test_stores(eviction, time_to_live, capacity, sizes):
    hand = Hand()
    stores = [hand.at(Store(f"s{n}", capacity + n, eviction, time_to_live)) for n in range(2)]
    key, pause = hand.draw(Zipf(60, 0.8)), hand.draw(Constant(0.125))

    def emit(builder):
        register = builder.register()
        for store in stores:
            miss, done = builder.label(), builder.label()
            builder.emit(DrawInto(register, key))
            builder.emit(Lookup(store, register, miss))
            builder.emit(Jump(done))
            builder.mark(miss)
            builder.emit(Delay(builder.component("miss"), pause))
            builder.emit(Insert(store, register))
            builder.mark(done)

    hand.workload("w", Renewal(Constant(0.0625)), emit)
    hand.workload("v", POISSON, emit)
    check_program(hand.build(), 80.0, sizes=sizes)


@both_sizes
@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("need", [1, 2, 3])
@pytest.mark.parametrize("timeout", [0.25, 1.0])
def test_forks_in_forks_that_time_out_are_retried_and_leave_messages(need, detach, timeout, sizes):
    hand = Hand()
    pool, cpu, servers = hand.at(Pool("pool", 2.0, 3)), hand.at(Sharing("cpu", (1.0, 2.0))), hand.at(Servers("s", 1))
    timer = hand.draw(Constant(timeout))

    def inner(builder):
        builder.emit(Acquire(pool, builder.component("pool"), hand.draw(ONE)))
        builder.emit(Work(cpu, builder.component("cpu"), builder.draw(Exponential(0.2), "cpu")))
        builder.emit(Release())
        builder.emit(Work(servers, builder.component("servers"), builder.draw(Constant(0.125), "s")))
        builder.emit(End())

    def fork(builder, branch):
        targets = [builder.label() for _ in range(3)]
        done = builder.label()
        builder.emit(Fork(tuple(targets), need, detach, builder.counter() if detach else -1))
        builder.emit(Jump(done))
        for target in targets:
            builder.mark(target)
            branch(builder)
        builder.mark(done)

    def message(builder):
        target, following = builder.label(), builder.label()
        builder.emit(Publish(target, builder.counter()))
        builder.emit(Jump(following))
        builder.mark(target)
        inner(builder)
        builder.mark(following)

    def middle(builder):
        fork(builder, inner)
        message(builder)
        builder.emit(End())

    def emit(builder):
        attempt, handler, done = builder.label(), builder.label(), builder.label()
        register = builder.register()
        builder.emit(Clear(register))
        with builder.repeating(), builder.repeat(Constant(2.0)):
            builder.mark(attempt)
            builder.emit(Scope(handler, timer, 0))
            message(builder)
            fork(builder, middle)
            builder.emit(EndScope())
            builder.emit(Jump(done))
            builder.mark(handler)
            back_off = builder.draw(StandardUniform(), "jitter")
            builder.emit(Retry(register, builder.component("wait"), (0.0, 0.25, 1.0), 0.5, back_off, attempt))
            builder.mark(done)

    hand.workload("w", CLOCKWORK, emit)
    hand.workload("users", (3, Exponential(0.5), Constant(0.0)), emit)
    check_program(hand.build(), 30.0, sizes=sizes)


@both_sizes
def test_pool_with_large_requests_at_its_head(sizes):
    hand = Hand()
    pool = hand.at(Pool("pool", 1.0))
    units, seconds, timer = hand.draw(Uniform(0.0, 1.1)), hand.draw(Uniform(0.0, 0.5)), hand.draw(Constant(0.75))

    def emit(builder):
        handler, done = builder.label(), builder.label()
        builder.emit(Scope(handler, timer, 0))
        builder.emit(Acquire(pool, builder.component("pool"), units))
        builder.emit(Delay(builder.component("delay"), seconds))
        builder.emit(Release())
        builder.emit(EndScope())
        builder.emit(Jump(done))
        builder.mark(handler)
        builder.emit(Fail())
        builder.mark(done)

    hand.workload("w", CLOCKWORK, emit)
    hand.workload("users", (5, Constant(0.25), Constant(0.0)), emit)
    check_program(hand.build(), 60.0, sizes=sizes)


def tandem(stations, service=0.8, rate=1.0):
    hand = Hand()
    draws = [hand.draw(Exponential(service), f"work {n}") for n in range(len(stations))]
    places = [hand.at(station) for station in stations]
    hand.workload(
        "w", Renewal(Exponential(1 / rate)), visits(*[(Work, *each) for each in zip(places, draws, strict=True)])
    )
    return hand.build()


@pytest.mark.parametrize("windows", [1, 2, 3, 200])
def test_samples_are_taken_at_the_same_instants(windows):
    check_program(tandem([Servers("s", 1), Sharing("p", (1.0,))]), 97.3, windows=windows)


def test_nothing_to_do():
    hand = Hand()
    hand.workload("w", Replay((50.0,)), visits((Work, hand.at(Servers("s", 1)), hand.draw(ONE))))
    assert len(check_program(hand.build(), 1.0).requests[0]) == 0


def test_long_run_crosses_every_block():
    check_program(tandem([Servers(f"s{n}", 1) for n in range(3)]), 30_000.0)


def test_other_seed_differs():
    program = tandem([Servers("s", 1)])
    records = [compiled.simulate(program, 20.0, seed) for seed in (1, 2)]
    assert {"w.arrival", "digest"} <= set(differences(*records))


def test_time_that_stands_still_is_an_error_on_both_engines():
    hand = Hand()
    hand.workload("w", (1, Constant(0.0), Constant(0.0)), visits())
    messages = []
    for engine in ("simpy", "compiled"):
        with pytest.raises(UsageError) as caught:
            simulate(hand.build(), 1.0, engine=engine)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


# Which engine runs.


def robot(environment):
    def serve(job):
        yield environment.timeout(job.amount)

    return serve


def test_auto_takes_the_compiled_engine():
    program = tandem([Servers("s", 1)])
    assert simulate(program, 10.0).engine == "compiled"
    assert simulate(program, 10.0, engine="simpy").engine == "simpy"


def test_auto_takes_simpy_for_processes_of_the_users():
    program = tandem([External("robot", "robot")])
    assert simulate(program, 10.0, processes={"robot": robot}).engine == "simpy"
    with pytest.raises(UsageError, match="compiled engine runs no process of your own"):
        simulate(program, 10.0, engine="compiled", processes={"robot": robot})


def test_auto_takes_simpy_where_numba_is_missing(monkeypatch):
    monkeypatch.setattr("simulator.engines.find_spec", lambda name: None)
    assert simulate(tandem([Servers("s", 1)]), 10.0).engine == "simpy"


# Draws and memory.


@both_sizes
@pytest.mark.parametrize(("levels", "copies", "before"), [(5, 4, 0), (40, 1, 1)])
def test_messages_that_send_messages_draw_for_themselves(levels, copies, before, sizes):
    hand = Hand()
    station = hand.at(Servers("s", 1000))
    work = hand.draw(Exponential(0.1))

    def emit(builder):
        counter = builder.register()
        for _ in range(levels):
            end, target = builder.label(), builder.label()
            for to in (*[end] * before, *[target] * copies):
                builder.emit(Publish(to, counter))
            builder.mark(end)
            builder.emit(End())
            builder.mark(target)
        builder.emit(Work(station, builder.component("s"), work))

    hand.workload("w", Replay((0.0,)), emit)
    records = check_program(hand.build(), duration=2.0, windows=100_000, sizes=sizes)
    # All begin at time 0, so messages that shared a draw would end in the same of the many windows.
    completions = np.diff(records.stations[:, 0, STATION_FIELDS.index("completions")])
    assert completions.sum() == copies**levels
    assert (completions > 0).sum() >= 0.9 * copies**levels


word = st.one_of(
    st.integers(0, (1 << 62) - 1), st.sampled_from([0, 1, (1 << 31) - 1, 1 << 32, (1 << 61) - 1, (1 << 62) - 1])
)


@settings(max_examples=2000)
@given(word, word)
def test_compiled_bases_of_draw_numbers_are_the_reference_s(base, message):
    assert compiled_message_base(base, message) == message_base(base, message)


@numba.njit
def compiled_message_base(base, message):
    return draws_at.message_base(base, message)


DISTRIBUTIONS = [
    Exponential(0.3), StandardUniform(), Uniform(1.0, 3.0), LogNormal(2.0, 0.5), LogNormal(0.1, 1e6), Gamma(2.0, 0.5),
    Gamma(2.0, 1.0), Gamma(1.0, 30.0), Gamma(5.0, 1e-6), Zipf(5000, 0.9), Zipf(1, 1.0), Discrete((1.0, 0.0, 2.0, 0.0)),
    Weibull(1.0, 0.7), Erlang(1.0, 3),
]  # fmt: skip


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=repr)
def test_compiled_draws_are_the_distributions_own(distribution):
    stream = Stream(Streams(3, 2), "some/stream", distribution)
    sampler = Sampler(stream)
    for first, count in ((0, 20_000), (1 << 40, 4096), (4, 4), (3, 5)):
        for draw in (0, 1, 1 << 20, 1 << 40):
            assert np.array_equal(sampler.block(first, count, draw), stream.block(first, count, draw))


def test_interrupt_stops_the_run_soon():
    program = tandem([Servers(f"s{n}", 1) for n in range(5)])
    compiled.simulate(program, 1.0, 1)
    timer = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])
    timer.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        compiled.simulate(program, 1e9, 1)
    assert time.monotonic() - start < 2.5


COLD_START = """
import resource, sys
from test_engines_agree import Servers, tandem
from simulator.engines import simulate
print(len(simulate(tandem([Servers("s", 4)], 1.0, 3.0), float(sys.argv[1]), engine="compiled").requests[0]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def in_a_new_process(duration, **environment):
    return subprocess.run(
        [sys.executable, "-c", COLD_START, str(duration)],
        cwd=HERE, env={**os.environ, **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip


@pytest.mark.slow
def test_ten_million_requests_fit_in_four_gigabytes():
    requests, peak = in_a_new_process(10_000_000 / 3).stdout.split()
    assert int(requests) > 9_900_000
    assert int(peak) < 4 << 30


@pytest.mark.slow
def test_first_compilation_is_announced_and_kept(tmp_path):
    announced = "compiling the engine, once"
    assert announced in in_a_new_process(10.0, NUMBA_CACHE_DIR=str(tmp_path)).stderr
    assert announced not in in_a_new_process(10.0, NUMBA_CACHE_DIR=str(tmp_path)).stderr
