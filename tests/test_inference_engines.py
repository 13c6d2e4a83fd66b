"""Tier 6: serving language models, on both engines to the last bit; and what is conserved while they do."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_engines_agree import POISSON, TIGHT, Hand, check_program

from simulator.distributions import Constant, Exponential, LogNormal, StandardUniform, Uniform, Zipf
from simulator.engines import simpy
from simulator.engines.simpy.stations.inference import InferenceStation
from simulator.program.arrivals import Renewal, Replay
from simulator.program.instructions import (
    NO_REGISTER,
    Arithmetic,
    Calculate,
    Clear,
    DrawInto,
    End,
    EndScope,
    Fork,
    Generate,
    HandBack,
    IfAtLeast,
    Jump,
    Meter,
    Place,
    Publish,
    Retry,
    Scope,
)
from simulator.program.program import DOES_NOT_FIT
from simulator.program.stations import Eviction, Inference, Pool
from simulator.program.step_time import StepTime
from simulator.records import COMPLETED, INFERENCE_FIELDS
from simulator.results.conservation import check

FIELD = {name: number for number, name in enumerate(INFERENCE_FIELDS)}
LFU = {"eviction": Eviction.LFU}
STEP = StepTime(
    overhead=0.01, weights=0.02, token=0.003, sequence=0.001, chunk=0.0001, floor=3.0, generated=0.0002, mixed=0.0004,
    longest=0.0003, uneven=0.0001, activation=0.0005, link=0.001, link_token=0.0001,
)  # fmt: skip
EVEN_STEP = StepTime(overhead=0.125, weights=0.125, token=0.0)  # ends as often as clockwork arrivals come
USAGE, LATENCY, ASKED = ("prompt", "cached", "generated"), ("first", "decode", "gaps", "longest"), ("inputs", "outputs")


@dataclass(frozen=True)
class Recorded:
    """Ids of the blocks of recorded prompts, in memory: what engines ask of `simulator.traces.prefixes`."""

    rows: tuple[tuple[int, ...], ...]
    tokens: int

    @property
    def most(self):
        return max(map(len, self.rows))

    def of(self, number):
        return np.array(self.rows[number % len(self.rows)], np.int64)

    def salt(self, shared, shared_key):
        return 1 + self.tokens + (shared_key if shared else 0)


def tries(paths, tokens):
    """Prompts that go down a tree: a node's id is that of the way to it."""
    nodes = {}
    ways = [[path[: depth + 1] for depth in range(len(path))] for path in paths]
    return Recorded(tuple(tuple(nodes.setdefault(way, 7 * len(nodes)) for way in each) for each in ways), tokens)


@dataclass(frozen=True)
class Served:
    """What requests ask of a station, and what becomes of those that wait too long."""

    prompt: object = Uniform(0.0, 24.0)
    output: object = Uniform(0.0, 12.0)
    keys: int = 0
    kept: bool = False
    shared: int = 0
    timeout: float | None = None
    retries: int = 0
    message: bool = False
    branches: int = 0
    turns: int = 1
    recorded: Recorded | None = None


class Serving(Hand):
    """A Program under construction that has inference stations."""

    def engine(self, step=STEP, sequences=4, tokens=16, part=16, blocks=12, block=4, **options):
        memory = self.builder.station(Pool(f"memory {len(self.builder.stations)}", float(blocks)))
        spec = Inference(f"engine {memory}", step, sequences, tokens, part, memory, block, **options)
        return Place((self.builder.station(spec),))

    def served(self, name, source, places, served, priority=0):
        """A workload whose requests go to the first place, and with another one have their tokens generated there."""
        self.workload(name, source, lambda builder: self._code(builder, places, served), priority)

    def _code(self, builder, places, served):
        prompt, output, one, key, kept, tries = (builder.register() for _ in range(6))
        usage, latency, asked = builder.meters(*USAGE), builder.meters(*LATENCY), builder.meters(*ASKED)
        builder.emit(DrawInto(prompt, builder.draw(served.prompt, "prompt")))
        builder.emit(DrawInto(output, builder.draw(served.output, "output")))
        for register in (prompt, output):
            builder.emit(Calculate(register, Arithmetic.MOST, register, constant=1))
        builder.emit(Calculate(one, Arithmetic.LEAST, output, constant=1))
        if served.keys:
            builder.emit(DrawInto(key, builder.draw(Zipf(served.keys, 0.5), "key")))
            builder.emit(DrawInto(kept, builder.times_register(StandardUniform(), prompt, 1.0, "kept")))
        registers = {"key_register": key if served.keys else NO_REGISTER, "shared": served.shared, "shared_key": 3}
        registers["kept_register"] = kept if served.kept else NO_REGISTER
        registers["prefix"] = None if served.recorded is None else builder.prefix(served.recorded)

        def generate(place, name, output_register, **more):
            builder.emit(
                Generate(
                    place, builder.component(f"{name} prompt"), builder.component(f"{name} output"), prompt,
                    output_register, usage, latency, **registers, **more,
                )
            )  # fmt: skip

        def visit():
            if len(places) == 1:
                generate(places[0], "one", output)
            else:
                generate(places[0], "first", one)
                generate(places[1], "second", output, begun=True)

        with builder.repeating():
            for _ in range(served.turns):
                for number, register in enumerate((prompt, output)):
                    builder.emit(Meter(asked + number, builder.times_register(Constant(1.0), register, 1.0, "asked")))
                self._surroundings(builder, served, tries, output, visit)
                builder.emit(Calculate(prompt, Arithmetic.ADD, prompt, output))

    def _surroundings(self, builder, served, tries, output, visit):
        if served.message:
            target, following = builder.label(), builder.label()
            builder.emit(Publish(target, builder.counter()))
            builder.emit(Jump(following))
            builder.mark(target)
            visit()
            builder.emit(End())
            builder.mark(following)
        if served.timeout is None:
            self._visit(builder, served, visit)
            return
        attempt, handler, done = builder.label(), builder.label(), builder.label()
        builder.emit(Clear(tries))
        builder.mark(attempt)
        builder.emit(Scope(handler, builder.draw(Uniform(0.0, 2.0 * served.timeout), "timeout"), 0))
        self._visit(builder, served, visit)
        builder.emit(EndScope())
        builder.emit(Jump(done))
        builder.mark(handler)
        delays = (0.0, 0.03, 0.1)[: served.retries]
        back_off = builder.draw(StandardUniform(), "jitter")
        builder.emit(Retry(tries, builder.component("back-off"), delays, 0.5, back_off, attempt))
        builder.mark(done)

    @staticmethod
    def _visit(builder, served, visit):
        if not served.branches:
            visit()
            return
        targets, done = [builder.label() for _ in range(served.branches)], builder.label()
        builder.emit(Fork(tuple(targets), 1))
        builder.emit(Jump(done))
        for target in targets:
            builder.mark(target)
            visit()
            builder.emit(End())
        builder.mark(done)


def totals(records, station=0):
    return dict(zip(INFERENCE_FIELDS, records.inference[-1, station], strict=True))


both_sizes = pytest.mark.parametrize("sizes", [None, TIGHT], ids=["roomy", "tight"])
MUCH = Renewal(Exponential(0.15))


@both_sizes
@pytest.mark.parametrize(
    "options",
    [{}, {"static": True}, {"ahead": True}, {"priority": True}, {"prefix_caching": False}, LFU, {"apart": True}],
    ids=repr,
)
@pytest.mark.parametrize("step", [STEP, EVEN_STEP], ids=["rough", "even"])
def test_little_memory_preempts(options, step, sizes):
    hand = Serving()
    place = hand.engine(step, sequences=6, **options)
    for name, priority in (("low", 5), ("high", -3)):
        hand.served(name, MUCH, [place], Served(keys=5), priority)
    found = totals(check_program(hand.build(), 40.0, sizes=sizes))
    assert found["preemptions"] > 5
    assert found["generated_tokens"] > 300
    assert found["computed_tokens"] > found["prompt_tokens"] - found["cached_tokens"]


@both_sizes
def test_who_comes_while_a_step_runs_waits_for_one_more_where_steps_are_planned_ahead(sizes):
    hand = Serving()
    place = hand.engine(StepTime(overhead=1.0, weights=0.0, token=0.0), blocks=30, ahead=True)
    hand.served("w", Replay((0.0, 0.25, 1.0, 20.5)), [place], Served(prompt=Constant(3.0), output=Constant(4.0)))
    table = check_program(hand.build(), 40.0, sizes=sizes).requests[0]
    first = table.meter[np.argsort(table.number), table.meters.index("first")]
    assert first.tolist() == [1.0, 3.0, 3.0, 21.5]


@both_sizes
def test_prefixes_are_shared_and_evicted(sizes):
    hand = Serving()
    hand.served("w", MUCH, [hand.engine(blocks=30)], Served(keys=8, kept=True, shared=9))
    found = totals(check_program(hand.build(), 60.0, sizes=sizes))
    assert 0.05 < found["cached_tokens"] / found["prompt_tokens"] < 0.95


@both_sizes
@pytest.mark.parametrize("eviction", [{}, LFU], ids=repr)
@pytest.mark.parametrize("shared", [0, 6])
def test_recorded_prefixes_are_shared_and_evicted(shared, eviction, sizes):
    hand = Serving()
    recorded = tries([(n % 2, n % 4, n % 3, n)[: 1 + n % 5] for n in range(17)], 5)
    place = hand.engine(blocks=16, sequences=6, **eviction)
    for priority in (0, 1):
        hand.served(f"w{priority}", MUCH, [place], Served(shared=shared, recorded=recorded), priority)
    found = totals(check_program(hand.build(), 60.0, sizes=sizes))
    assert 0.05 < found["cached_tokens"] / found["prompt_tokens"] < 0.95
    assert found["preemptions"] > 0


def test_prompts_of_different_traces_have_nothing_in_common():
    def cached(*recorded):
        hand = Serving()
        place = hand.engine(blocks=100, block=5)
        for number, each in enumerate(recorded):
            hand.served(f"w{number}", Replay((0.0, 50.0 + number)), [place], Served(Constant(12.0), recorded=each))
        return totals(check_program(hand.build(), 99.0))["cached_tokens"]

    one, other = Recorded(((3, 4, 5),), 5), Recorded(((3, 4, 5),), 6)
    assert cached(one) == 10.0
    assert cached(one, one) == 30.0
    assert cached(one, other) == 20.0


@both_sizes
@pytest.mark.parametrize("retries", [0, 3])
@pytest.mark.parametrize("timeout", [0.05, 0.4])
def test_those_who_give_up_leave_and_come_back(timeout, retries, sizes):
    hand = Serving()
    place = hand.engine()
    hand.served("w", MUCH, [place], Served(keys=5, timeout=timeout, retries=retries))
    hand.served("users", (3, Constant(0.1), Constant(0.0)), [place], Served(timeout=timeout, retries=retries))
    records = check_program(hand.build(), 40.0, sizes=sizes)
    assert (records.requests[0].outcome == 0).any() or timeout < 0.1
    assert (records.requests[0].retries > 0).any() == (retries > 0)


@both_sizes
def test_prompts_are_computed_in_one_place_and_answered_in_another(sizes):
    hand = Serving()
    places = [hand.engine(blocks=20), hand.engine(blocks=14, sequences=8)]
    hand.served("w", POISSON, places, Served(keys=6, timeout=3.0))
    hand.served("v", POISSON, places[1:], Served(keys=6))
    records = check_program(hand.build(), 60.0, sizes=sizes)
    assert totals(records, 1)["preemptions"] > 0
    assert totals(records, 1)["generated_tokens"] > 100


@both_sizes
def test_messages_generate_when_their_request_is_over(sizes):
    hand = Serving()
    place = hand.engine(sequences=8, blocks=40)
    hand.served("w", POISSON, [place], Served(message=True, keys=3, turns=2, output=Uniform(0.0, 3.0)))
    hand.served("forks", POISSON, [place], Served(branches=3))
    check_program(hand.build(), 40.0, sizes=sizes)


@both_sizes
def test_registers_are_handed_back_and_calculated_with(sizes):
    hand = Serving()

    def emit(builder):
        left, right = builder.register(), builder.register()
        meters = builder.meters(*"abcdef")
        add = builder.times_register(Constant(1.0), left, 1.0, "left")
        builder.emit(DrawInto(left, builder.draw(Uniform(0.0, 9.0), "left")))
        builder.emit(DrawInto(right, builder.draw(Uniform(0.0, 9.0), "right")))
        for number, operation in enumerate(Arithmetic):
            builder.emit(
                Calculate(left, operation, left, right) if number % 2 else Calculate(left, operation, left, constant=4)
            )
            builder.emit(Meter(meters + number, add))
        target, following, skip = builder.label(), builder.label(), builder.label()
        builder.emit(Publish(target, awaited=builder.component("wait")))
        builder.emit(Jump(following))
        builder.mark(target)
        builder.emit(Calculate(left, Arithmetic.ADD, left, constant=100))
        builder.emit(HandBack(left))
        builder.emit(End())
        builder.mark(following)
        builder.emit(IfAtLeast(right, 5, skip))
        builder.emit(Meter(meters + 4, add))
        builder.mark(skip)
        builder.emit(Meter(meters + 5))

    hand.workload("w", POISSON, emit)
    meter = check_program(hand.build(), 30.0, sizes=sizes).requests[0].meter
    passed = meter[:, 4] > 0.0
    assert 0 < passed.sum() < len(meter)
    assert np.array_equal(meter[passed, 4], meter[passed, 3] + 100.0)
    assert np.array_equal(meter[:, 2], np.minimum(meter[:, 1], 4.0))


# Random ones.

stations = st.fixed_dictionaries(
    {
        "step": st.sampled_from([STEP, EVEN_STEP, StepTime(0.0, 0.0, 0.01), StepTime(0.03, 0.0, 0.0, 0.01, 0.002)]),
        "sequences": st.integers(1, 7),
        "tokens": st.integers(1, 40),
        "part": st.integers(1, 40),
        "blocks": st.integers(2, 40),
        "block": st.sampled_from([1, 2, 3, 4, 16]),
        "prefix_caching": st.booleans(),
        "priority": st.booleans(),
        "static": st.booleans(),
        "ahead": st.booleans(),
        "eviction": st.sampled_from([Eviction.LRU, Eviction.LFU]),
        "apart": st.booleans(),
    }
)
lengths = st.sampled_from([Constant(1.0), Constant(8.0), Uniform(0.0, 30.0), LogNormal(9.0, 1.0), Exponential(4.0)])
sources = st.sampled_from(
    [
        Renewal(Exponential(0.3)), Renewal(Constant(0.25)), Replay((0.0, 0.0, 0.125, 0.125, 0.125, 1.0)),
        (4, Constant(0.0625), Constant(0.0)), (2, Exponential(0.2), Exponential(0.5)),
    ]
)  # fmt: skip
paths = st.lists(st.lists(st.integers(0, 2), max_size=6).map(tuple), min_size=1, max_size=6)
recorded = st.none() | st.builds(tries, paths, st.sampled_from([1, 3, 4, 8, 16]))
requests = st.builds(
    Served,
    prompt=lengths,
    output=lengths,
    keys=st.sampled_from([0, 1, 3, 20]),
    kept=st.booleans(),
    shared=st.sampled_from([0, 5, 16]),
    timeout=st.sampled_from([None, None, 0.02, 0.3, 2.0]),
    retries=st.integers(0, 3),
    message=st.booleans(),
    branches=st.sampled_from([0, 0, 2]),
    turns=st.integers(1, 3),
    recorded=recorded,
)
generated = given(
    st.lists(stations, min_size=1, max_size=2),
    st.lists(st.tuples(requests, sources, st.booleans(), st.integers(-1, 1)), min_size=1, max_size=3),
    st.booleans(),
    st.integers(0, 3),
)


def check_random(engines, workloads, tight, seed):
    hand = Serving()
    places = [hand.engine(**options) for options in engines]
    for number, (served, source, both, priority) in enumerate(workloads):
        hand.served(f"w{number}", source, places if both else places[-1:], served, priority)
    check_program(hand.build(), 10.0, seed=seed, sizes=TIGHT if tight else None)


@settings(max_examples=60)
@generated
def test_random_engines_agree(engines, workloads, tight, seed):
    check_random(engines, workloads, tight, seed)


@pytest.mark.slow
@settings(max_examples=1000)
@generated
def test_many_random_engines_agree(engines, workloads, tight, seed):
    check_random(engines, workloads, tight, seed)


# Conservation, on the reference engine.


def check_blocks(station):
    """Every block is used as often as the sequences that run say, and is free where that is never."""
    blocks, used = station.blocks, [0] * len(station.blocks.users)
    for sequence in station.running:
        assert len(set(sequence.blocks)) == len(sequence.blocks)
        assert sequence.computed <= sequence.known
        assert sequence.computed <= len(sequence.blocks) * station.spec.block
        for block in sequence.blocks:
            used[block] += 1
    assert used == blocks.users
    assert {block for block, users in enumerate(used) if not users} == {
        block for level in blocks.free for block in level
    }
    assert {key: block for block, key in blocks.keys.items()} == blocks.kept
    assert station.memory.used == len(used) - blocks.free_count
    assert station.busy == len(station.running) <= station.spec.sequences
    assert station.busy + station.waiting == len(station.sequences)
    assert sum(sequence.part for sequence in station.stepped) <= station.spec.tokens


class Checked(InferenceStation):
    """A station that is checked after every step that begins or ends, and whenever a token leaves it."""

    def _step(self, now):
        super()._step(now)
        self._account_memory()
        check_blocks(self)
        assert self.stepped or not self.sequences

    def withdraw(self, token):
        super().withdraw(token)
        check_blocks(self)


def simulate_checked(program, duration, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simulator.engines.simpy.stations.InferenceStation", Checked)
        records = simpy.simulate(program, duration, seed, windows=3)
    check(records, program)
    return records


@settings(max_examples=60)
@generated
def test_no_block_is_lost_or_used_twice(engines, workloads, tight, seed):
    hand = Serving()
    places = [hand.engine(**options) for options in engines]
    for number, (served, source, both, priority) in enumerate(workloads):
        hand.served(f"w{number}", source, places if both else places[-1:], served, priority)
    simulate_checked(hand.build(), 8.0, seed)


BURST = Replay(tuple(number / 8.0 for number in range(40)))
PATIENT = st.builds(
    Served, lengths, lengths, st.sampled_from([0, 3]), st.booleans(), st.sampled_from([0, 5]), recorded=recorded
)


@settings(max_examples=60)
@given(stations, st.lists(PATIENT, min_size=1, max_size=2), st.integers(0, 3))
def test_no_token_is_lost_over_preemption(options, workloads, seed):
    hand = Serving()
    place = hand.engine(**options)
    for number, served in enumerate(workloads):
        hand.served(f"w{number}", BURST, [place], served, number)
    records = simulate_checked(hand.build(), 1e6, seed)
    generated_tokens = prompts = cached = 0.0
    for table in records.requests:
        done = table.outcome == COMPLETED
        assert np.array_equal(np.isin(table.outcome, (COMPLETED, 1 + DOES_NOT_FIT)), np.ones(40, bool))
        meter = dict(zip(table.meters, table.meter[done].T, strict=True))
        assert np.array_equal(meter["generated"], meter["outputs"])
        assert np.array_equal(meter["prompt"], meter["inputs"])
        assert np.array_equal(meter["gaps"], meter["outputs"] - 1.0)
        assert (meter["cached"] < meter["prompt"]).all()
        assert (meter["longest"] <= meter["decode"] + 1e-9).all()
        assert np.allclose(meter["first"] + meter["decode"], table.end[done], rtol=0.0, atol=1e-6)
        generated_tokens += meter["generated"].sum()
        prompts += meter["prompt"].sum()
        cached += meter["cached"].sum()
    found = totals(records)
    assert (found["generated_tokens"], found["prompt_tokens"], found["cached_tokens"]) == (
        generated_tokens,
        prompts,
        cached,
    )
    if found["preemptions"]:
        assert found["computed_tokens"] >= prompts - cached
    else:
        assert found["computed_tokens"] == prompts - cached
