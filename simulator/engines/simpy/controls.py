"""Steps of the instructions that change the system: faults, health checks, autoscaling, garbage collection."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from simulator.engines.simpy.balancers import BalancerState
from simulator.engines.simpy.scalers import ScalerState
from simulator.engines.simpy.tokens import Token
from simulator.program import instructions as ops
from simulator.program.instructions import Place

if TYPE_CHECKING:
    from simulator.engines.simpy.engine import Engine

Step = Callable[[Token], bool]


class ControlSteps:
    """The part of the interpreter that makes these steps; all of them go on at once."""

    engine: Engine
    draws: list[Callable[[Token], float]]
    balancers: list[BalancerState]
    scalers: list[ScalerState]

    def _station(self, place: Place) -> Callable[[Token], Any]:
        raise NotImplementedError

    def _child(self, token: Token, pc: int, frame: list[int]) -> Token:
        raise NotImplementedError

    @staticmethod
    def _own_frame(token: Token, counter: int) -> list[int]:
        raise NotImplementedError

    @staticmethod
    def _doing(action: Callable[[Token], object], following: int) -> Step:
        def step(token: Token) -> bool:
            action(token)
            token.pc = following
            return True

        return step

    def _SetSpeed(self, instruction: ops.SetSpeed, following: int) -> Step:
        station = self._station(instruction.place)
        return self._doing(lambda token: station(token).set_speed(instruction.factor), following)

    def _Halt(self, instruction: ops.Halt, following: int) -> Step:
        station = self._station(instruction.place)
        return self._doing(lambda token: station(token).halt(), following)

    def _Resume(self, instruction: ops.Resume, following: int) -> Step:
        station = self._station(instruction.place)
        return self._doing(lambda token: station(token).resume(), following)

    def _Close(self, instruction: ops.Close, following: int) -> Step:
        station = self._station(instruction.place)
        return self._doing(lambda token: station(token).close(instruction.hangs), following)

    def _Open(self, instruction: ops.Open, following: int) -> Step:
        station = self._station(instruction.place)
        return self._doing(lambda token: station(token).open(instruction.hangs), following)

    def _Break(self, instruction: ops.Break, following: int) -> Step:
        engine = self.engine
        pools: list[Any] = [engine.stations[number] for number in instruction.pools]
        return self._doing(lambda token: engine.unwinder.break_off(pools, instruction.reason), following)

    def _Exclude(self, instruction: ops.Exclude, following: int) -> Step:
        balancer = self.balancers[instruction.balancer]
        return self._doing(lambda token: balancer.exclude(instruction.replica), following)

    def _Include(self, instruction: ops.Include, following: int) -> Step:
        balancer = self.balancers[instruction.balancer]
        return self._doing(lambda token: balancer.include(instruction.replica), following)

    def _Set(self, instruction: ops.Set, following: int) -> Step:
        gauge, amount = self._station(instruction.place), self.draws[instruction.amount]
        return self._doing(lambda token: gauge(token).set(amount(token)), following)

    def _Add(self, instruction: ops.Add, following: int) -> Step:
        gauge, amount = self._station(instruction.place), self.draws[instruction.amount]
        sign = -1.0 if instruction.negative else 1.0
        return self._doing(lambda token: gauge(token).set(gauge(token).level + sign * amount(token)), following)

    def _Branch(self, instruction: ops.Branch, following: int) -> Step:
        gauge = self._station(instruction.place)

        def step(token: Token) -> bool:
            token.pc = instruction.target if gauge(token).level >= instruction.least else following
            return True

        return step

    def _Scale(self, instruction: ops.Scale, following: int) -> Step:
        scaler, register = self.scalers[instruction.scaler], instruction.register

        def start(token: Token) -> None:
            for replica in scaler.look():
                frame = self._own_frame(token, instruction.counter)
                frame[register : register + 2] = replica, scaler.started
                self._child(token, instruction.target, frame).detached = True

        return self._doing(start, following)

    def _Join(self, instruction: ops.Join, following: int) -> Step:
        scaler, register = self.scalers[instruction.scaler], instruction.register
        return self._doing(lambda token: scaler.join(*token.frame[register : register + 2]), following)
