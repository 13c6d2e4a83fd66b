"""Branches: how long code that runs beside other code takes when nobody waits, as a distribution and not a mean alone.

A fork's mean is that of an order statistic of its branches' times (David & Nagaraja, Order Statistics, 2003, sections
2.1 and 5.2), which their means do not give. Branches are taken for independent, and so is what they draw. Times of one
draw, of choices, minima and maxima of them are good to about 1 in 1000, however rare or heavy their tails (of what is
likelier than 1e-9). Sums of draws and loops keep their means, and their deviations to about 1 in 100. Probabilities of
being earlier than a hedge are good to 3 in 1000. What a model server takes for a request is its mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.analytic.draw_times import values_of
from simulator.analytic.order_statistics import at_least
from simulator.analytic.step import Step
from simulator.analytic.turns import Turns
from simulator.analytic.weighted_times import NEVER, WeightedTimes, always, mixture, plus, weighted
from simulator.program import instructions as ops
from simulator.program.program import Draw, Program

MOST_GRID_POINTS = 8192

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """Times (s) of a token until it has succeeded, and until it has failed, with their probabilities."""

    succeeded: WeightedTimes
    failed: WeightedTimes

    def then(self, later: Outcomes) -> Outcomes:
        """Those of this, and where it succeeds of something else after it."""
        failed = mixture([(1.0, self.failed), (1.0, plus(self.succeeded, later.failed))])
        return Outcomes(plus(self.succeeded, later.succeeded), failed)


@dataclass(frozen=True, slots=True)
class ForkTime:
    """When a fork goes on or fails: probabilities, by the ascending `times` (s), that it has done so until then.

    All arrays have shape (times,); the last of `succeeded` and `failed` together are 1.
    """

    times: Floats
    succeeded: Floats
    failed: Floats

    @property
    def mean(self) -> float:
        """The mean time (s) until it goes on or fails."""
        ended = np.diff(self.succeeded + self.failed, prepend=0.0)
        return float(ended @ self.times)

    def unanswered(self, time: float) -> float:
        """The probability that it has not gone on before a time (s)."""
        known = int(np.searchsorted(self.times, time))
        return 1.0 - float(self.succeeded[known - 1]) if known else 1.0

    def outcomes(self) -> Outcomes:
        """Its times as those of a step in a branch."""
        ended = (np.diff(until, prepend=0.0) for until in (self.succeeded, self.failed))
        return Outcomes(*(weighted(self.times, weights) for weights in ended))


def fork_time(branches: Sequence[Outcomes], need: int) -> ForkTime:
    """When `need` of independent branches have succeeded, or too many have failed for that."""
    different = list(dict.fromkeys(branches))
    times = np.unique(np.concatenate([part.times for each in different for part in (each.succeeded, each.failed)]))
    ends, means = _grouped(times) if times.size > MOST_GRID_POINTS else (times, times)
    succeeded = {each: each.succeeded.until(ends) for each in different}
    failed = {each: each.failed.until(ends) for each in different}
    return ForkTime(
        means,
        at_least(need, [succeeded[branch] for branch in branches]),
        at_least(len(branches) - need + 1, [failed[branch] for branch in branches]),
    )


def _grouped(times: Floats) -> tuple[Floats, Floats]:
    """The last and the mean of each of at most MOST_GRID_POINTS groups of ascending times."""
    starts = np.arange(0, times.size, math.ceil(times.size / MOST_GRID_POINTS))
    sizes = np.diff(starts, append=times.size)
    return times[starts + sizes - 1], np.add.reduceat(times, starts) / sizes


class Branches:
    """The outcomes of code from an instruction on, read where a fork asks for them.

    `steps` says of every instruction after that fork what it means; it is filled from the end of the code.
    """

    def __init__(self, program: Program, steps: Sequence[Step]) -> None:
        self._program = program
        self._steps = steps
        self._outcomes: dict[int, Outcomes] = {}
        self._forks: dict[Hashable, ForkTime] = {}
        self._known: dict[Hashable, Outcomes] = {}

    def fork(self, instruction: ops.Fork) -> ForkTime:
        """When the fork of an instruction goes on or fails."""
        for pc in sorted(self._reached_from(instruction.targets) - self._outcomes.keys(), reverse=True):
            self._outcomes[pc] = self._read(pc)
        return self._fork(instruction)

    def _reached_from(self, targets: Sequence[int]) -> set[int]:
        """Instructions that a token at the targets may get to, those of the bodies of loops and branches included."""
        reached, ahead = set[int](), list(targets)
        while ahead:
            pc = ahead.pop()
            if pc not in reached:
                reached.add(pc)
                step = self._steps[pc]
                waited_for = () if isinstance(self._program.instructions[pc], ops.Publish) else step.aside
                ahead += [target for target, _ in (*step.onward, *waited_for)]
        return reached

    def _read(self, pc: int) -> Outcomes:
        """The outcomes of a token at an instruction, given those at all that follow."""
        step = self._steps[pc]
        if not step.onward:
            return self._once(("end", step.time, step.ended), lambda: _ended(step))
        own, later = self._own(pc, step), self._later(step)
        return self._once(("then", own, later), lambda: own.then(later))

    def _once(self, key: Hashable, make: Callable[[], Outcomes]) -> Outcomes:
        """One and the same outcomes wherever they come about in the same way."""
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]

    def _own(self, pc: int, step: Step) -> Outcomes:
        """The outcomes of an instruction alone, and of what its token waits for there."""
        match self._program.instructions[pc]:
            case ops.Fork() as instruction:
                time = self._fork(instruction)
                return self._once(("fork", id(time)), time.outcomes)
            case ops.Loop(count=count):
                body, draw = self._outcomes[pc + 1], self._program.draws[count]
                key = ("loop", body, draw.distribution, draw.mean_factor)
                return self._once(key, lambda: _repeated(body, draw))
        return self._waited(step)

    def _fork(self, instruction: ops.Fork) -> ForkTime:
        branches = [self._outcomes[target] for target in instruction.targets]
        key = (instruction.need, *branches)
        if key not in self._forks:
            self._forks[key] = fork_time(branches, instruction.need)
        return self._forks[key]

    def _waited(self, step: Step) -> Outcomes:
        """The time (s) of an instruction, which varies as what it draws."""
        if step.varying is None or self._program.draws[step.varying.draw].distribution.draws_nothing:
            return self._once(("always", step.time), lambda: Outcomes(always(step.time), NEVER))
        draw = self._program.draws[step.varying.draw]
        factor = draw.mean_factor * step.varying.seconds
        constant = max(step.time - float(draw.distribution.mean) * factor, 0.0)
        key = ("drawn", draw.distribution, factor, constant)
        return self._once(key, lambda: Outcomes(values_of(draw.distribution).scaled(factor, constant), NEVER))

    def _later(self, step: Step) -> Outcomes:
        """The outcomes after an instruction, each of which goes on somewhere by the steps' weights."""
        ways = [(weight, self._outcomes[target]) for target, weight in step.onward]
        total = math.fsum(weight for weight, _ in ways)
        if len(ways) == 1 or total <= 0.0:
            return ways[0][1]
        shares = [(weight / total, later) for weight, later in ways]
        return self._once(("one of", *shares), lambda: _one_of(shares))


def _ended(step: Step) -> Outcomes:
    time = always(step.time)
    return Outcomes(time, NEVER) if step.ended > 0.0 else Outcomes(NEVER, time)


def _one_of(ways: Sequence[tuple[float, Outcomes]]) -> Outcomes:
    return Outcomes(
        mixture([(share, each.succeeded) for share, each in ways]),
        mixture([(share, each.failed) for share, each in ways]),
    )


def _repeated(body: Outcomes, draw: Draw) -> Outcomes:
    """The outcomes of as many turns, one after the other while they succeed, as a draw rounds to."""
    drawn = values_of(draw.distribution).scaled(draw.mean_factor, 0.0)
    rounded, inverse = np.unique(np.floor(drawn.times + 0.5), return_inverse=True)
    counts = WeightedTimes(rounded, np.bincount(inverse, drawn.weights).astype(np.float64))
    turns = Turns(body.succeeded, body.failed)
    return Outcomes(turns.succeeded(counts), turns.failed(counts))
