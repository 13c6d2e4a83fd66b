"""Branches: how long code that runs beside other code takes when nobody waits, as a distribution and not a mean alone.

A fork's mean is that of an order statistic of its branches' times (David & Nagaraja, Order Statistics, 2003, sections
2.1 and 5.2), which their means do not give. Each branch's time is represented by POINTS of its values, equally
likely. Those of every draw are one out of each of POINTS strata, in an order of their own (McKay, Beckman & Conover,
Technometrics 21(2), 1979), so that sums and alternatives of independent draws are made value by value. Branches are
taken for independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.analytic.step import Step
from simulator.program import instructions as ops
from simulator.program.program import Draw, Program
from simulator.streams import Streams

POINTS = 1024
MOST_GRID_POINTS = 8192
MOST_TURNS = 64
"""A loop of more turns is taken to last for its mean."""

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Outcomes(NamedTuple):
    """Equally likely times (s) of a token until it ends, and whether it has succeeded then; both of shape (POINTS,)."""

    times: Floats
    succeeds: Flags


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

    def outcomes(self, uniforms: Floats) -> Outcomes:
        """Its times by inverse transform, at uniforms of shape (POINTS,)."""
        going_on, last = float(self.succeeded[-1]), self.times.size - 1
        succeeds = uniforms < going_on
        until_success = np.searchsorted(self.succeeded, uniforms)
        until_failure = np.searchsorted(self.failed, uniforms - going_on)
        return Outcomes(self.times[np.minimum(np.where(succeeds, until_success, until_failure), last)], succeeds)


def fork_time(branches: Sequence[Outcomes], need: int) -> ForkTime:
    """When `need` of independent branches have succeeded, or too many have failed for that."""
    times = np.unique(np.concatenate([branch.times for branch in branches]))
    if times.size > MOST_GRID_POINTS:
        times = np.unique(np.append(times[:: math.ceil(times.size / MOST_GRID_POINTS)], times[-1]))
    succeeded = [_share_until(times, branch.times[branch.succeeds]) for branch in branches]
    failed = [_share_until(times, branch.times[~branch.succeeds]) for branch in branches]
    return ForkTime(times, at_least(need, succeeded), at_least(len(branches) - need + 1, failed))


def _share_until(times: Floats, of: Floats) -> Floats:
    """The share of all POINTS that are among these values and at most each of the times."""
    return np.searchsorted(np.sort(of), times, side="right") / POINTS


def at_least(need: int, probabilities: Sequence[Floats]) -> Floats:
    """The probability that at least `need` >= 1 of independent events happen, given arrays of those of each."""
    if 2 * need > len(probabilities) + 1:
        return 1.0 - at_least(len(probabilities) - need + 1, [1.0 - each for each in probabilities])
    so_many = [np.ones_like(probabilities[0]), *(np.zeros_like(probabilities[0]) for _ in range(need - 1))]
    for probability in probabilities:
        for count in range(need - 1, 0, -1):
            so_many[count] = so_many[count] * (1.0 - probability) + so_many[count - 1] * probability
        so_many[0] = so_many[0] * (1.0 - probability)
    return np.clip(1.0 - sum(so_many), 0.0, 1.0)


class Branches:
    """The outcomes of code from an instruction on, read where a fork asks for them.

    `steps` says of every instruction after that fork what it means; it is filled from the end of the code.
    """

    def __init__(self, program: Program, steps: Sequence[Step]) -> None:
        self._program = program
        self._steps = steps
        self._uniforms = Streams(seed=0, replication=0)
        self._outcomes: dict[int, Outcomes] = {}
        self._places: dict[int, int] = {}

    def fork(self, instruction: ops.Fork, at: int) -> ForkTime:
        """When the fork at an instruction goes on or fails."""
        for pc in sorted(self._reached_from(instruction.targets) - self._outcomes.keys(), reverse=True):
            self._places[pc] = pc - at  # counted from the fork, so that code elsewhere changes nothing
            self._outcomes[pc] = self._read(pc)
        return fork_time([self._outcomes[target] for target in instruction.targets], instruction.need)

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
            return Outcomes(np.full(POINTS, step.time), np.full(POINTS, step.ended > 0.0))
        own, later = self._own(pc, step), self._later(pc, step)
        return Outcomes(own.times + np.where(own.succeeds, later.times, 0.0), own.succeeds & later.succeeds)

    def _own(self, pc: int, step: Step) -> Outcomes:
        """The outcomes of an instruction alone, and of what its token waits for there."""
        match self._program.instructions[pc]:
            case ops.Fork(targets=targets, need=need):
                found = fork_time([self._outcomes[target] for target in targets], need)
                return found.outcomes(self._strata(pc))
            case ops.Loop(count=count):
                turns = np.floor(self._drawn(count, pc) + 0.5)
                if turns.max() <= MOST_TURNS:
                    return self._repeated(self._outcomes[pc + 1], turns, pc)
                succeeds = self._strata(pc) < sum(weight for _, weight in step.onward)
                return Outcomes(np.full(POINTS, step.time), succeeds)
        return Outcomes(self._times(pc, step), np.ones(POINTS, dtype=bool))

    def _times(self, pc: int, step: Step) -> Floats:
        """Times (s) of an instruction, which vary as what it draws."""
        if step.varying is None or self._program.draws[step.varying.draw].distribution.draws_nothing:
            return np.full(POINTS, step.time)
        draw, seconds = step.varying
        amounts = self._drawn(draw, pc)
        constant = step.time - _mean(self._program.draws[draw]) * seconds
        return amounts * seconds + max(constant, 0.0)

    def _later(self, pc: int, step: Step) -> Outcomes:
        """The outcomes after an instruction, each of which goes on somewhere by the steps' weights."""
        targets, weights = zip(*step.onward, strict=True)
        total = math.fsum(weights)
        if len(targets) == 1 or total <= 0.0:
            return self._outcomes[targets[0]]
        chosen = np.searchsorted(np.cumsum(weights)[:-1] / total, self._strata(pc), side="right")
        times, succeeds = (np.stack(each) for each in zip(*(self._outcomes[target] for target in targets), strict=True))
        points = np.arange(POINTS)
        return Outcomes(times[chosen, points], succeeds[chosen, points])

    def _repeated(self, body: Outcomes, turns: Floats, pc: int) -> Outcomes:
        """The outcomes of so many turns, one after the other while they succeed."""
        times, succeeds = np.zeros(POINTS), np.ones(POINTS, dtype=bool)
        for turn in range(int(turns.max())):
            order = self._order(pc, turn)
            goes = succeeds & (turn < turns)
            times += np.where(goes, body.times[order], 0.0)
            succeeds &= ~goes | body.succeeds[order]
        return Outcomes(times, succeeds)

    def _drawn(self, draw: int, pc: int) -> Floats:
        """Values of a draw, as an instruction draws it."""
        spec = self._program.draws[draw]
        return spec.distribution.sample(lambda k: self._strata(pc, k)) * spec.mean_factor

    def _strata(self, pc: int, k: int = 0) -> Floats:
        """One uniform in the middle of each of POINTS strata, in an order that is the instruction's own."""
        return (self._order(pc, k) + 0.5) / POINTS

    def _order(self, pc: int, k: int) -> NDArray[np.intp]:
        return np.argsort(self._uniforms.uniforms("order", 0, POINTS, draw=self._places[pc], k=k))


def _mean(draw: Draw) -> float:
    return float(draw.distribution.mean) * draw.mean_factor
