"""Reading: a Program's code as mean times and flows, with the assumptions of `simulator.analytic.demands`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.analytic.branches import Branches
from simulator.analytic.inference import time_alone
from simulator.analytic.keys import popularity_of, shards_of, shares_of, ways_of
from simulator.analytic.lengths import Lengths, lengths_of
from simulator.analytic.order_statistics import at_least
from simulator.analytic.prefix_reuse import most_sequences_per_second
from simulator.analytic.step import Step, Varying
from simulator.distributions import Constant
from simulator.program import instructions as ops
from simulator.program.instructions import Place
from simulator.program.program import Messages, Program, Users, Workload
from simulator.program.stations import (
    Batch,
    Breaker,
    Gauge,
    Inference,
    Sharing,
    Station,
    capacity_of,
)

Floats = NDArray[np.float64]


def _seconds_per_unit(station: Station) -> float:
    """Time that a unit of work takes alone."""
    return 1.0 / station.capacity[0] if isinstance(station, Sharing) else 1.0


def fetches_once(following: ops.Instruction) -> bool:
    """Whether keyed locks are those of a single flight: who has waited finds the key, and holds it for no time."""
    return isinstance(following, ops.Lookup) and not following.counted


class Target(NamedTuple):
    """A place, and where keys choose among its stations, the share that each gets."""

    place: Place
    shares: tuple[float, ...] | None


@dataclass(slots=True)
class _Hold:
    """Units of pools that a token holds, on top of others."""

    target: Target
    units: float
    below: _Hold | None


class CodePath:
    """Mean executions by instruction (`flow`, where above 0), and visits and demand by station, of one request.

    What it asks of engines with static batches depends on what else comes; its sequences at these are `batched`, by
    station and lengths.
    """

    def __init__(self, reading: Reading, start: int) -> None:
        self.reading = reading
        self.flow: dict[int, float] = {start: 1.0}
        self._holds: dict[int, _Hold | None] = {start: None}
        self._last = start
        self._visits: dict[Target, float] = {}
        self._demand: dict[Target, float] = {}
        self._weights: dict[int, tuple[float, ...]] = {}  # of the replicas that a register's number is chosen from
        self._batches: dict[tuple[Target, Lengths], float] = {}
        self._follow(start)
        self.visits = self._by_station(self._visits)
        self.demand = self._by_station(self._demand)
        self.batched = self._batched_by_station()

    def _follow(self, start: int) -> None:
        """Visit instructions in order: flow only goes forward, for loops run their bodies aside."""
        instructions, steps, flow = self.reading.program.instructions, self.reading.steps, self.flow
        pc = start
        while pc <= self._last:
            executions = flow.get(pc)
            if executions is not None:
                step = steps[pc]
                held = self._holds[pc]
                self._occupy(held, executions * step.time)
                held = self._use(instructions[pc], pc, executions, held)
                for target, weight in step.onward:
                    self._reach(target, executions * weight, held)
                for target, weight in step.aside:
                    self._reach(target, executions * weight, None)
            pc += 1

    def _reach(self, pc: int, executions: float, held: _Hold | None) -> None:
        if executions > 0.0:
            self.flow[pc] = self.flow.get(pc, 0.0) + executions
            self._holds[pc] = held
            self._last = max(self._last, pc)

    def _occupy(self, held: _Hold | None, time: float) -> None:
        """Add the time that passes to the demand of all that is held."""
        while held is not None and time > 0.0:
            _add(self._demand, held.target, time * held.units)
            held = held.below

    def _use(self, instruction: ops.Instruction, pc: int, executions: float, held: _Hold | None) -> _Hold | None:
        """Count a visit; returns what is held afterwards."""
        match instruction:
            case ops.Acquire():
                target = self.reading.target(instruction.place, pc)
                _add(self._visits, target, executions)
                return _Hold(target, self._units(instruction), held)
            case ops.AcquireKey():
                target = self.reading.target(instruction.place, pc)
                _add(self._visits, target, executions)
                return _Hold(target, 1.0, held)
            case ops.Halt():
                return _Hold(self.reading.target(instruction.place, pc), self._capacity_at(instruction.place), held)
            case ops.Release() | ops.Resume():
                return held.below if held is not None else None
            case ops.Work() | ops.TakeTokens():
                target = self.reading.target(instruction.place, pc)
                _add(self._visits, target, executions)
                _add(self._demand, target, executions * self.reading.asked(instruction))
            case ops.Generate():
                target = self.reading.target(instruction.place, pc)
                _add(self._visits, target, executions)
                self._generate(instruction, target, executions)
            case ops.Lookup(counted=True):
                target = self.reading.target(instruction.place, pc)
                _add(self._visits, target, executions)
                _add(self._demand, target, executions)
            case ops.Select():
                self._weights[instruction.register] = self.reading.program.balancers[instruction.balancer].weights
        return held

    def _generate(self, instruction: ops.Generate, target: Target, executions: float) -> None:
        """Count sequences, with what they ask of an engine where that is the same whatever else comes."""
        engine = self.reading.engine(instruction)
        if engine.static:
            kind = target, lengths_of(engine, instruction)
            self._batches[kind] = self._batches.get(kind, 0.0) + executions
        else:
            _add(self._demand, target, executions * self.reading.generation(instruction))

    def _capacity_at(self, place: ops.Place) -> float:
        """Mean capacity of the stations of a place, all of which is taken up while one is halted."""
        each = [capacity_of(self.reading.program.stations[number]) for number in place.stations]
        return math.fsum(each) / len(each)

    def _units(self, instruction: ops.Acquire) -> float:
        """Units that are held; a breaker's permit is none."""
        is_breaker = isinstance(self.reading.program.stations[instruction.place.stations[0]], Breaker)
        return 0.0 if is_breaker else self.reading.mean(instruction.amount)

    def _by_station(self, totals: dict[Target, float]) -> Floats:
        """Spread what goes to places over their stations: by keys, by the weights of replicas, or equally."""
        values = np.zeros(len(self.reading.program.stations))
        for target, total in totals.items():
            np.add.at(values, list(target.place.stations), total * self._spread(target))
        return values

    def _spread(self, target: Target) -> Floats:
        """The share that each of a place's stations gets."""
        weights = target.shares or self._weights.get(target.place.register) or (1.0,) * len(target.place.stations)
        return np.array(weights) / math.fsum(weights)

    def _batched_by_station(self) -> dict[tuple[int, Lengths], float]:
        found: dict[tuple[int, Lengths], float] = {}
        for (target, lengths), total in self._batches.items():
            for number, share in zip(target.place.stations, self._spread(target).tolist(), strict=True):
                found[number, lengths] = found.get((number, lengths), 0.0) + total * share
        return found


def _add(totals: dict[Target, float], target: Target, amount: float) -> None:
    totals[target] = totals.get(target, 0.0) + amount


class Reading:
    """A Program's code as steps, given the hit ratio of each lookup by its instruction.

    `time_left` is the mean time (s) from an instruction to the end of its token (of one turn, in a loop's body)
    or to its failure, `success` the probability of getting to that end.
    """

    def __init__(self, program: Program, hit_ratios: Mapping[int, float]) -> None:
        self.program = program
        self.hit_ratios = hit_ratios
        self._means: dict[int, float] = {}
        self._seconds: dict[tuple[int, ...], float] = {}
        self._batches = {n: each for n, each in enumerate(program.stations) if isinstance(each, Batch)}
        self._shards = shards_of(program)
        count = len(program.instructions)
        self.steps = [Step()] * count
        self._branches = Branches(program, self.steps)
        self.time_left = [0.0] * (count + 1)
        self.success = [0.0] * (count + 1)
        # The mean time until so many levels are acknowledged, where anybody waits for that.
        deepest = max((each.levels for each in program.instructions if isinstance(each, ops.Acknowledge)), default=1)
        awaited = any(isinstance(each, ops.Publish) and each.awaited is not None for each in program.instructions)
        self.until = [[math.inf] * (count + 1) for _ in range(deepest + 1 if awaited else 0)]
        self._read()
        self.workloads = [[CodePath(self, entry.pc) for entry in workload.entries] for workload in program.foreground]

    def _read(self) -> None:
        """Read backwards, so that what follows is known."""
        time_left, success = self.time_left, self.success
        readers = {kind: getattr(self, f"_{name}") for kind, name in _READERS.items()}
        for pc in range(len(self.steps) - 1, -1, -1):
            instruction = self.program.instructions[pc]
            reader = readers.get(type(instruction))
            step = reader(instruction, pc) if reader else Step(onward=((pc + 1, 1.0),))
            _check_forward(pc, step)
            self.steps[pc] = step
            time_left[pc] = step.time + sum(weight * time_left[target] for target, weight in step.onward)
            success[pc] = step.ended + sum(weight * success[target] for target, weight in step.onward)
            for levels, until in enumerate(self.until, start=1):
                until[pc] = self._acknowledged_after(instruction, step, levels, until)

    def _acknowledged_after(self, instruction: ops.Instruction, step: Step, levels: int, until: list[float]) -> float:
        """Mean time from an instruction until its token, or one that it publishes and awaits, acknowledges `levels` up.

        One level is acknowledged at the end at the latest.
        """
        if isinstance(instruction, ops.Acknowledge) and instruction.levels == levels:
            return 0.0
        if not step.onward:
            return math.inf if levels > 1 and isinstance(instruction, ops.End) else step.time
        ways = [weight * until[target] for target, weight in step.onward if weight > 0.0]
        own = step.time + sum(ways) if ways else math.inf
        if isinstance(instruction, ops.Publish) and instruction.awaited is not None and levels < len(self.until):
            return min(own, self.until[levels][instruction.target])
        return own

    def mean(self, draw: int) -> float:
        """Mean of a draw."""
        if draw not in self._means:
            spec = self.program.draws[draw]
            self._means[draw] = float(spec.distribution.mean) * spec.mean_factor
        return self._means[draw]

    def asked(self, instruction: ops.Work | ops.TakeTokens) -> float:
        """Mean work units that a visit asks for; of a batch's server, the seconds that are its part of a full one."""
        amount, stations = self.mean(instruction.amount), instruction.place.stations
        if stations[0] not in self._batches:
            return amount
        full = [self.mean(each.base) / each.most + amount for each in (self._batches[n] for n in stations)]
        return math.fsum(full) / len(full)

    def _lone_batch(self, stations: tuple[int, ...]) -> float:
        """Mean time that a job alone spends at a batch station beside its own amount."""
        alone = [
            self.mean(each.base) + (each.linger if each.most > 1 else 0.0)
            for each in map(self._batches.get, stations)
            if each
        ]
        return math.fsum(alone) / len(stations)

    def target(self, place: Place, pc: int) -> Target:
        """Where the instruction `pc` goes."""
        shards = self._shards.get(pc)
        return Target(place, None if shards is None else shares_of(shards, len(place.stations)))

    def _seconds_at(self, stations: tuple[int, ...]) -> float:
        """Mean time of a unit of work over the stations of a place."""
        if stations not in self._seconds:
            each = [_seconds_per_unit(self.program.stations[number]) for number in stations]
            self._seconds[stations] = math.fsum(each) / len(each)
        return self._seconds[stations]

    def _work(self, instruction: ops.Work, pc: int) -> Step:
        stations = instruction.place.stations
        seconds = self._seconds_at(stations)
        time = self.mean(instruction.amount) * seconds + self._lone_batch(stations)
        return Step(time, ((pc + 1, 1.0),), varying=Varying(instruction.amount, seconds))

    def _delay(self, instruction: ops.Delay, pc: int) -> Step:
        factor = 1.0
        if instruction.scale is not None:
            gauge = self.program.stations[instruction.scale]
            assert isinstance(gauge, Gauge)
            factor = gauge.level
        time = self.mean(instruction.amount) * factor
        return Step(time, ((pc + 1, 1.0),), varying=Varying(instruction.amount, factor))

    def engine(self, instruction: ops.Generate) -> Inference:
        """The first engine that an instruction may ask; the others are alike."""
        engine = self.program.stations[instruction.place.stations[0]]
        assert isinstance(engine, Inference)
        return engine

    def _generate(self, instruction: ops.Generate, pc: int) -> Step:
        engine = self.engine(instruction)
        lengths = lengths_of(engine, instruction)
        time = time_alone(engine, lengths.prompt, lengths.cached, lengths.output)
        return Step(time, ((pc + 1, 1.0),))

    def generation(self, instruction: ops.Generate) -> float:
        """Mean sequence-seconds of an engine that is as busy as can be."""
        engine = self.engine(instruction)
        blocks = capacity_of(self.program.stations[engine.memory])
        revisit = instruction.revisit if engine.prefix_caching and not instruction.begun else None
        rate = most_sequences_per_second(engine, blocks, lengths_of(engine, instruction), revisit)
        return engine.sequences / rate

    def _scope(self, instruction: ops.Scope, pc: int) -> Step:
        """The first try, and as many more as those that fail ask for."""
        retry, done = self._retry_of(instruction), self._end_of(instruction)
        if retry is None or done is None or self.success[done] <= 0.0:
            return Step(onward=((pc + 1, 1.0),))
        fails = max(1.0 - self.success[pc + 1] / self.success[done], 0.0)
        again = [fails ** (number + 1) for number in range(len(retry.delays))]
        waited = math.fsum(share * delay for share, delay in zip(again, retry.delays, strict=True))
        return Step(waited * (1.0 - retry.jitter / 2.0), ((pc + 1, 1.0 + math.fsum(again)),))

    def _retry_of(self, instruction: ops.Scope) -> ops.Retry | None:
        """What the handler of a scope does, if it tries again."""
        handler = itertools.dropwhile(lambda each: isinstance(each, ops.Meter), self._code_from(instruction.handler))
        first = next(handler, None)
        return first if isinstance(first, ops.Retry) else None

    def _code_from(self, pc: int) -> Iterator[ops.Instruction]:
        return itertools.islice(self.program.instructions, pc, None)

    def _end_of(self, instruction: ops.Scope) -> int | None:
        """Where a scope that has not failed goes on: what comes before its handler jumps there."""
        before = self.program.instructions[instruction.handler - 1]
        return before.target if isinstance(before, ops.Jump) else None

    def _branch(self, instruction: ops.Branch | ops.IfAtLeast, pc: int) -> Step:
        return Step(onward=((pc + 1, 1.0 - instruction.share), (instruction.target, instruction.share)))

    def _lookup(self, instruction: ops.Lookup, pc: int) -> Step:
        ratio = self.hit_ratios[pc] if instruction.counted else 0.0
        return Step(onward=((pc + 1, ratio), (instruction.miss, 1.0 - ratio)))

    def _choose(self, instruction: ops.Choose, pc: int) -> Step:
        weights = popularity_of(self.program.draws[instruction.draw].distribution).tolist()
        return Step(onward=tuple(zip(instruction.targets, weights, strict=False)))

    def _switch(self, instruction: ops.Switch, pc: int) -> Step:
        shares = ways_of(self._shards.get(pc), len(instruction.targets))
        return Step(onward=tuple(zip(instruction.targets, shares, strict=True)))

    def _jump(self, instruction: ops.Jump, pc: int) -> Step:
        return Step(onward=((instruction.target, 1.0),))

    def _fork(self, instruction: ops.Fork, pc: int) -> Step:
        succeeds = _enough_succeed([self.success[target] for target in instruction.targets], instruction.need)
        if len(instruction.targets) == 1:
            (target,) = instruction.targets
            return Step(self.time_left[target], ((pc + 1, succeeds),), ((target, 1.0),))
        time = self._branches.fork(instruction)
        first = instruction.need == 1 and not instruction.detach
        made = [time.unanswered(self._late(target)) if first else 1.0 for target in instruction.targets]
        return Step(time.mean, ((pc + 1, succeeds),), tuple(zip(instruction.targets, made, strict=True)))

    def _late(self, pc: int) -> float:
        """The constant delay (s) that code begins with; 0 where it begins with none."""
        instruction = self.program.instructions[pc]
        if not isinstance(instruction, ops.Delay):
            return 0.0
        distribution = self.program.draws[instruction.amount].distribution
        return distribution.value if isinstance(distribution, Constant) else 0.0

    def _publish(self, instruction: ops.Publish, pc: int) -> Step:
        time = 0.0 if instruction.awaited is None else self.until[0][instruction.target]
        return Step(time, ((pc + 1, 1.0),), ((instruction.target, 1.0),))

    def _loop(self, instruction: ops.Loop, pc: int) -> Step:
        distribution = self.program.draws[instruction.count].distribution
        mean = self.mean(instruction.count)
        count = math.floor(mean + 0.5) if isinstance(distribution, Constant) else mean
        turns, finishes = _turns(count, self.success[pc + 1])
        return Step(turns * self.time_left[pc + 1], ((instruction.exit, finishes),), ((pc + 1, turns),))

    def _end(self, instruction: ops.End | ops.Next, pc: int) -> Step:
        return Step(ended=1.0)

    def _stop(self, instruction: ops.Fail | ops.Retry, pc: int) -> Step:
        return Step()


_READERS: dict[type[ops.Instruction], str] = {
    ops.Work: "work", ops.Delay: "delay", ops.Lookup: "lookup", ops.Choose: "choose", ops.Jump: "jump",
    ops.Switch: "switch", ops.Branch: "branch", ops.IfAtLeast: "branch", ops.Generate: "generate",
    ops.Fork: "fork", ops.Scope: "scope", ops.Publish: "publish", ops.Loop: "loop", ops.Next: "end", ops.End: "end",
    ops.Fail: "stop", ops.Retry: "stop",
}  # fmt: skip


def _check_forward(pc: int, step: Step) -> None:
    for target, _ in (*step.onward, *step.aside):
        if target <= pc:
            raise ValueError(f"instruction {pc} jumps back to {target}: only Next and Retry may")


def _turns(count: float, success: float) -> tuple[float, float]:
    """Mean turns of a loop whose turns succeed with that probability, and the probability that all do."""
    if success >= 1.0:
        return count, 1.0
    if count <= 1.0:
        return count, 1.0 - count * (1.0 - success)
    finishes = success**count
    return (1.0 - finishes) / (1.0 - success), finishes


def _enough_succeed(probabilities: list[float], need: int) -> float:
    """Probability that at least `need` of independent branches succeed."""
    if all(probability >= 1.0 for probability in probabilities):
        return 1.0
    return float(at_least(need, [np.array(probability) for probability in probabilities]))


def operation_shares(workload: Workload) -> list[float]:
    """The share of each of a workload's entries in its requests; they sum to 1."""
    total = math.fsum(entry.share for entry in workload.entries)
    return [entry.share / total for entry in workload.entries]


def offered_rate(workload: Workload) -> float | None:
    """Mean arrivals a second, NaN where all come at once; None where the workload is closed."""
    return None if isinstance(workload.source, Users | Messages) else float(workload.source.mean_rate)


def users_of(workload: Workload, reading: Reading) -> tuple[int | None, float]:
    """How many users a closed workload has and their mean think time in seconds; none and 0 for open arrivals."""
    if not isinstance(workload.source, Users):
        return None, 0.0
    return workload.source.count, reading.mean(workload.source.think)


def reciprocal(value: float) -> float:
    """1 / value; infinite where the value is 0 or less."""
    return 1.0 / value if value > 0.0 else math.inf
