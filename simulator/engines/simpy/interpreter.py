"""The interpreter: every instruction becomes a step, a small function of a token.

A step returns True where the token goes on at its `pc`, False where it blocks or ends.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from simulator.distributions import Constant
from simulator.engines.simpy.balancers import NOBODY, BalancerState
from simulator.engines.simpy.controls import ControlSteps, Step
from simulator.engines.simpy.scalers import ScalerState
from simulator.engines.simpy.stations.station import Outcome
from simulator.engines.simpy.tokens import OpenScope, Token
from simulator.engines.simpy.unwinding import release_holds
from simulator.hashing import bucket_of
from simulator.program import instructions as ops
from simulator.program.instructions import NO_REGISTER, Place
from simulator.program.program import NO_REPLICA, Draw
from simulator.streams import Stream, message_base

if TYPE_CHECKING:
    from simulator.engines.simpy.engine import Engine
    from simulator.engines.simpy.stations.bucket import BucketStation


CALCULATIONS: dict[ops.Arithmetic, Callable[[int, int], int]] = {
    ops.Arithmetic.ADD: operator.add,
    ops.Arithmetic.SUBTRACT: operator.sub,
    ops.Arithmetic.LEAST: min,
    ops.Arithmetic.MOST: max,
}


class Passing:
    """Where tokens are that let time pass."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def now(self) -> float:
        """The present time."""
        return self.engine.environment.now

    def enter(self, token: Token, delay: float, component: int) -> bool:
        """Block a token for `delay` seconds."""
        token.at = self
        token.since = self.engine.environment.now
        token.component = component
        token.timer = self.engine.after(delay, self._complete, token)
        return False

    def _leave(self, token: Token) -> None:
        token.served(self.engine.environment.now)
        token.at = token.timer = None

    def _complete(self, token: Token) -> None:
        self._leave(token)
        self.engine.run(token)

    def withdraw(self, token: Token) -> None:
        """Stop waiting."""
        assert token.timer is not None
        self.engine.cancel_timer(token.timer)
        self._leave(token)


class Awaiting:
    """Where publishers are that wait for their message; the message is the mark."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def now(self) -> float:
        """The present time."""
        return self.engine.environment.now

    def enter(self, token: Token, message: Token, component: int) -> bool:
        """Block a publisher."""
        message.publisher = token
        token.at = self
        token.since = self.engine.environment.now
        token.component = component
        token.mark = [message]
        return False

    def withdraw(self, token: Token) -> None:
        """Wait no more, whatever becomes of the message."""
        message: Token = token.mark[0]  # type: ignore[assignment]
        message.publisher = None
        token.waited(self.engine.environment.now)
        token.at = None


class Interpreter(ControlSteps):
    """Turns a Program's instructions into steps and runs tokens over them."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        program = engine.program
        self.passing = Passing(engine)
        self.awaiting = Awaiting(engine)
        self.draws = [self._sampler(draw) for draw in program.draws]
        self.balancers = [BalancerState(engine, spec) for spec in program.balancers]
        self.scalers = [ScalerState(engine, spec) for spec in program.scalers]
        self.steps: list[Step] = [
            getattr(self, f"_{type(instruction).__name__}")(instruction, pc + 1)
            for pc, instruction in enumerate(program.instructions)
        ]

    def run(self, token: Token) -> None:
        """Run a token until it blocks or ends."""
        steps = self.steps
        while steps[token.pc](token):
            pass

    def _sampler(self, draw: Draw) -> Callable[[Token], float]:
        """The function that draws for a token (rule 8)."""
        if draw.factor != NO_REGISTER:
            factor, amount = draw.factor, self._sampler(replace(draw, factor=NO_REGISTER))
            return lambda token: amount(token) * token.frame[factor]
        if isinstance(draw.distribution, Constant):
            value = draw.distribution.value
            return lambda token: value
        at = Stream(self.engine.streams, draw.stream, draw.distribution).at
        counter = draw.counter
        if counter == NO_REGISTER:
            return lambda token: at(token.request.number, token.frame[0])

        def counted(token: Token) -> float:
            number = token.frame[counter]
            token.frame[counter] = number + 1
            return at(token.request.number, token.frame[0] + number)

        return counted

    def _station(self, place: Place) -> Callable[[Token], Any]:
        stations = [self.engine.stations[number] for number in place.stations]
        register = place.register
        if register == NO_REGISTER:
            only = stations[0]
            return lambda token: only
        return lambda token: stations[token.frame[register]]

    def _visit(self, instruction: ops.Work | ops.Acquire, following: int) -> Step:
        amount, component = self.draws[instruction.amount], instruction.component
        station = self._station(instruction.place)

        def step(token: Token) -> bool:
            token.pc = following
            return station(token).enter(token, amount(token), component)  # type: ignore[no-any-return]

        return step

    _Work = _Acquire = _visit

    def _TakeTokens(self, instruction: ops.TakeTokens, following: int) -> Step:
        register = instruction.key_register
        amount, component = self.draws[instruction.amount], instruction.component
        station = self._station(instruction.place)

        def step(token: Token) -> bool:
            token.pc = following
            bucket: BucketStation = station(token)
            if register == NO_REGISTER:
                return bucket.enter(token, amount(token), component)
            return bucket.enter_of_key(token, amount(token), component, token.frame[register])

        return step

    def _Deposit(self, instruction: ops.Deposit, following: int) -> Step:
        amount, station = self.draws[instruction.amount], self._station(instruction.place)

        def step(token: Token) -> bool:
            station(token).deposit(amount(token))
            token.pc = following
            return True

        return step

    def _AcquireKey(self, instruction: ops.AcquireKey, following: int) -> Step:
        register, component = instruction.key_register, instruction.component
        locks = self._station(instruction.place)

        def step(token: Token) -> bool:
            token.pc = following
            return locks(token).enter(token, token.frame[register], component)  # type: ignore[no-any-return]

        return step

    def _Release(self, instruction: ops.Release, following: int) -> Step:
        def step(token: Token) -> bool:
            token.pc = following
            release_holds(token, Outcome.SUCCESS, len(token.holds) - 1)
            return True

        return step

    def _Delay(self, instruction: ops.Delay, following: int) -> Step:
        amount, component = self.draws[instruction.amount], instruction.component
        enter = self.passing.enter
        gauge: Any = None if instruction.scale is None else self.engine.stations[instruction.scale]

        def step(token: Token) -> bool:
            token.pc = following
            return enter(token, amount(token), component)

        def scaled(token: Token) -> bool:
            token.pc = following
            return enter(token, amount(token) * gauge.level, component)

        return step if gauge is None else scaled

    def _DrawInto(self, instruction: ops.DrawInto, following: int) -> Step:
        register, draw = instruction.register, self.draws[instruction.draw]

        def step(token: Token) -> bool:
            token.frame[register] = int(draw(token) + 0.5)
            token.pc = following
            return True

        return step

    def _Calculate(self, instruction: ops.Calculate, following: int) -> Step:
        register, left, right = instruction.register, instruction.left, instruction.right
        calculate, constant = CALCULATIONS[instruction.operation], instruction.constant

        def step(token: Token) -> bool:
            frame = token.frame
            frame[register] = calculate(frame[left], constant if right == NO_REGISTER else frame[right])
            token.pc = following
            return True

        return step

    def _IfAtLeast(self, instruction: ops.IfAtLeast, following: int) -> Step:
        def step(token: Token) -> bool:
            token.pc = instruction.target if token.frame[instruction.register] >= instruction.least else following
            return True

        return step

    def _Generate(self, instruction: ops.Generate, following: int) -> Step:
        station, workloads = self._station(instruction.place), self.engine.program.workloads

        def step(token: Token) -> bool:
            token.pc = following
            level = workloads[token.request.workload].priority
            return station(token).submit(token, instruction, level)  # type: ignore[no-any-return]

        return step

    def _Meter(self, instruction: ops.Meter, following: int) -> Step:
        amount = None if instruction.amount is None else self.draws[instruction.amount]
        environment = self.engine.environment

        def step(token: Token) -> bool:
            meters = token.request.meters
            if amount is None:
                meters[instruction.meter] = environment.now
            else:
                meters[instruction.meter] += amount(token)
            token.pc = following
            return True

        return step

    def _NumberInto(self, instruction: ops.NumberInto, following: int) -> Step:
        def step(token: Token) -> bool:
            token.frame[instruction.register] = token.request.number % instruction.modulus
            token.pc = following
            return True

        return step

    def _HashInto(self, instruction: ops.HashInto, following: int) -> Step:
        register, key_register, first = instruction.register, instruction.key_register, instruction.first
        count, salt = instruction.count, instruction.salt

        def step(token: Token) -> bool:
            token.frame[register] = first + bucket_of(token.frame[key_register], count, salt)
            token.pc = following
            return True

        return step

    def _GroupInto(self, instruction: ops.GroupInto, following: int) -> Step:
        register, key_register, first = instruction.register, instruction.key_register, instruction.first
        size = instruction.size

        def step(token: Token) -> bool:
            token.frame[register] = first + token.frame[key_register] // size
            token.pc = following
            return True

        return step

    def _Lookup(self, instruction: ops.Lookup, following: int) -> Step:
        store, register, miss = self._station(instruction.place), instruction.key_register, instruction.miss
        counted = instruction.counted

        def step(token: Token) -> bool:
            token.pc = following if store(token).lookup(token.frame[register], counted) else miss
            return True

        return step

    def _Insert(self, instruction: ops.Insert, following: int) -> Step:
        store, register = self._station(instruction.place), instruction.key_register

        def step(token: Token) -> bool:
            store(token).insert(token.frame[register])
            token.pc = following
            return True

        return step

    def _Remove(self, instruction: ops.Remove, following: int) -> Step:
        store, register = self._station(instruction.place), instruction.key_register

        def step(token: Token) -> bool:
            store(token).remove(token.frame[register])
            token.pc = following
            return True

        return step

    def _Choose(self, instruction: ops.Choose, following: int) -> Step:
        draw, targets = self.draws[instruction.draw], instruction.targets

        def step(token: Token) -> bool:
            token.pc = targets[int(draw(token))]
            return True

        return step

    def _Switch(self, instruction: ops.Switch, following: int) -> Step:
        register, targets = instruction.register, instruction.targets

        def step(token: Token) -> bool:
            token.pc = targets[token.frame[register]]
            return True

        return step

    def _Jump(self, instruction: ops.Jump, following: int) -> Step:
        def step(token: Token) -> bool:
            token.pc = instruction.target
            return True

        return step

    def _child(self, token: Token, pc: int, frame: list[int]) -> Token:
        child = self.engine.token(token.request, pc, frame, [0.0] * len(token.times))
        self.engine.wake(child)
        return child

    @staticmethod
    def _own_frame(token: Token, counter: int) -> list[int]:
        """A copy of the frame whose draws no other copy shares."""
        frame = list(token.frame)
        if counter != NO_REGISTER:
            frame[0] = message_base(token.frame[0], token.frame[counter])
            token.frame[counter] += 1
        return frame

    def _Fork(self, instruction: ops.Fork, following: int) -> Step:
        def step(token: Token) -> bool:
            token.pc = following
            token.need = instruction.need
            token.detaches = instruction.detach
            for target in instruction.targets:
                shared = token.frame
                frame = self._own_frame(token, instruction.counter) if instruction.detach else shared
                branch = self._child(token, target, frame)
                branch.parent = token
                token.branches.append(branch)
            return False

        return step

    def _Publish(self, instruction: ops.Publish, following: int) -> Step:
        stream, awaited = instruction.stream, instruction.awaited
        engine, enter = self.engine, self.awaiting.enter

        def step(token: Token) -> bool:
            frame = self._own_frame(token, instruction.counter)
            if stream is None:
                message = self._child(token, instruction.target, frame)
                message.detached = True
            else:
                message = engine.start_message(stream, token.request.number, instruction.target, frame)
            token.pc = following
            return True if awaited is None else enter(token, message, awaited)

        return step

    def _Acknowledge(self, instruction: ops.Acknowledge, following: int) -> Step:
        acknowledge = self.engine.unwinder.acknowledge

        def step(token: Token) -> bool:
            token.pc = following
            acknowledge(token, instruction.levels)
            return True

        return step

    def _HandBack(self, instruction: ops.HandBack, following: int) -> Step:
        awaited_by, register = self.engine.unwinder.awaited_by, instruction.register

        def step(token: Token) -> bool:
            token.pc = following
            publisher = awaited_by(token, 1)
            if publisher is not None:
                publisher.frame[register] = token.frame[register]
            return True

        return step

    def _IfAbandoned(self, instruction: ops.IfAbandoned, following: int) -> Step:
        awaited_by = self.engine.unwinder.awaited_by

        def step(token: Token) -> bool:
            token.pc = instruction.target if awaited_by(token, instruction.levels) is None else following
            return True

        return step

    def _Select(self, instruction: ops.Select, following: int) -> Step:
        register, draw = instruction.register, self.draws[instruction.draw]
        choose, fail = self.balancers[instruction.balancer].choose, self.engine.unwinder.fail

        def step(token: Token) -> bool:
            replica = choose(draw(token))
            if replica == NOBODY:
                return fail(token, NO_REPLICA)
            token.frame[register] = replica
            token.pc = following
            return True

        return step

    def _Clear(self, instruction: ops.Clear, following: int) -> Step:
        def step(token: Token) -> bool:
            token.frame[instruction.register] = 0
            token.pc = following
            return True

        return step

    def _Loop(self, instruction: ops.Loop, following: int) -> Step:
        register, count, leave = instruction.register, self.draws[instruction.count], instruction.exit

        def step(token: Token) -> bool:
            times = int(count(token) + 0.5)
            token.frame[register] = times
            token.pc = following if times > 0 else leave
            return True

        return step

    def _Next(self, instruction: ops.Next, following: int) -> Step:
        register, body = instruction.register, instruction.body

        def step(token: Token) -> bool:
            token.frame[register] -= 1
            token.pc = body if token.frame[register] > 0 else following
            return True

        return step

    def _FirstToken(self, instruction: ops.FirstToken, following: int) -> Step:
        first_token = self.engine.unwinder.first_token

        def step(token: Token) -> bool:
            first_token(token)
            token.pc = following
            return True

        return step

    def _Scope(self, instruction: ops.Scope, following: int) -> Step:
        timeout = None if instruction.timeout is None else self.draws[instruction.timeout]
        engine, expire = self.engine, self.engine.unwinder.expire

        def step(token: Token) -> bool:
            scope = OpenScope(instruction.handler, len(token.holds), instruction.reason, instruction.until_first_token)
            token.scopes.append(scope)
            if timeout is not None:
                scope.timer = engine.after(timeout(token), expire, (token, scope))
            token.pc = following
            return True

        return step

    def _EndScope(self, instruction: ops.EndScope, following: int) -> Step:
        cancel_timer = self.engine.cancel_timer

        def step(token: Token) -> bool:
            timer = token.scopes.pop().timer
            if timer is not None:
                cancel_timer(timer)
            token.pc = following
            return True

        return step

    def _Retry(self, instruction: ops.Retry, following: int) -> Step:
        register, jitter, draw = instruction.register, instruction.jitter, self.draws[instruction.draw]
        fail, enter = self.engine.unwinder.fail, self.passing.enter
        budget = None if instruction.budget is None else self._station(instruction.budget)

        def step(token: Token) -> bool:
            retries = token.frame[register]
            if retries >= len(instruction.delays) or (budget is not None and not budget(token).spend()):
                return fail(token, token.reason)
            token.frame[register] = retries + 1
            token.request.retries += 1
            token.pc = instruction.target
            delay = instruction.delays[retries] * (1.0 - jitter * draw(token))
            return enter(token, delay, instruction.component)

        return step

    def _Fail(self, instruction: ops.Fail, following: int) -> Step:
        fail = self.engine.unwinder.fail

        def step(token: Token) -> bool:
            return fail(token, token.reason if instruction.reason is None else instruction.reason)

        return step

    def _End(self, instruction: ops.End, following: int) -> Step:
        unwinder, end_request = self.engine.unwinder, self.engine.end_request

        def step(token: Token) -> bool:
            if token.parent is not None:
                unwinder.branch_ended(token, token.parent)
                return False
            unwinder.acknowledge(token)
            if token.detached:
                token.alive = False
            else:
                end_request(token)
            return False

        return step
