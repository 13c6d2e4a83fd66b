"""The reference engine: interprets a Program on a SimPy environment.

Written to be read as the specification in code; the rule numbers are those of `simulator.program`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakSet

import simpy

from simulator.engines.simpy.interpreter import Interpreter
from simulator.engines.simpy.recorder import Recorder
from simulator.engines.simpy.sources import Source, source_of
from simulator.engines.simpy.stations import station_of
from simulator.engines.simpy.stations.external import Serve
from simulator.engines.simpy.stations.inference import InferenceStation
from simulator.engines.simpy.stations.station import Station
from simulator.engines.simpy.tokens import Request, Token
from simulator.engines.simpy.unwinding import Unwinder
from simulator.program.instructions import Break
from simulator.program.program import Program
from simulator.records import COMPLETED, WINDOWS, Consume, Records, sampling_steps
from simulator.streams import Streams

Process = Callable[[simpy.Environment], Serve]


class Engine:
    """One run of a Program: the clock, the tokens that are ready, and the parts that act on them."""

    def __init__(
        self, program: Program, streams: Streams, processes: Mapping[str, Process], consume: Consume | None = None
    ) -> None:
        self.program = program
        self.environment = simpy.Environment()
        self.streams = streams
        self.ready: deque[Token] = deque()
        self.tokens_created = 0
        self.tokens: WeakSet[Token] = WeakSet()  # kept where the Program has a `Break`
        self.breaks = any(isinstance(instruction, Break) for instruction in program.instructions)
        serves = {name: process(self.environment) for name, process in processes.items()}
        self.stations: list[Station] = []
        for spec in program.stations:
            self.stations.append(station_of(self, spec, serves))
        self.inference = [each for each in self.stations if isinstance(each, InferenceStation)]
        self.unwinder = Unwinder(self)
        self.fail = self.unwinder.fail
        self.recorder = Recorder(self, consume)
        self.interpreter = Interpreter(self)
        self.run = self.interpreter.run
        self.sources: list[Source] = [source_of(self, n) for n in range(len(program.workloads))]

    def simulate(self, duration: float, windows: int, begin: float = 0.0) -> None:
        """Run from 0 to `duration` seconds, sampling the stations at the times of `sampling_times`."""
        first, step = sampling_steps(duration, windows, begin)
        self.recorder.sample(0.0)
        self._schedule_sample(first, step, windows)
        for source in self.sources:
            source.start()
        self.environment.run(until=duration)
        self.recorder.sample(duration)

    def _schedule_sample(self, delay: float, step: float, left: int) -> None:
        if left > 1:
            self.after(delay, self._sample, (step, left - 1))

    def _sample(self, state: tuple[float, int]) -> None:
        step, left = state
        self.recorder.sample(self.environment.now)
        self._schedule_sample(step, step, left)

    def after(self, delay: float, action: Callable[[Any], object], argument: Any) -> simpy.Timeout:
        """Schedule action(argument) in `delay` seconds (rule 1)."""
        timer = simpy.Timeout(self.environment, delay, (action, argument))
        timer.callbacks.append(self._happen)
        return timer

    def _happen(self, event: simpy.Event) -> None:
        action, argument = event.value  # type: ignore[misc]
        action(argument)
        if self.ready:
            self._run_ready()

    def _run_ready(self) -> None:
        """Run woken tokens, first in first out (rule 2)."""
        ready = self.ready
        while ready:
            token = ready.popleft()
            if token.alive and (token.refused is None or self._refuse(token, token.refused)):
                self.run(token)

    def _refuse(self, token: Token, reason: int) -> bool:
        """Let a woken token fail; True where it goes on in a handler."""
        token.refused = None
        return self.fail(token, reason)

    def when(self, event: simpy.Event, action: Callable[[Any], object], argument: Any) -> None:
        """Call action(argument) when an event of a user's own process happens."""

        def happen(_: simpy.Event) -> None:
            action(argument)
            self._run_ready()

        event.callbacks.append(happen)

    @staticmethod
    def cancel_timer(timer: simpy.Timeout) -> None:
        """Let a scheduled event pass without effect."""
        timer.callbacks.clear()

    def wake(self, token: Token) -> None:
        """Let a token go on after those already woken."""
        self.ready.append(token)

    def token(self, request: Request, pc: int, frame: list[int], times: list[float]) -> Token:
        """A new token."""
        self.tokens_created += 1
        token = Token(request, pc, frame, times, self.tokens_created)
        if self.breaks:
            self.tokens.add(token)
        return token

    def start_request(self, workload: int, number: int, user: int) -> None:
        """Let request `number` of a workload come now."""
        spec = self.program.workloads[workload]
        now = self.environment.now
        request = Request(workload, number, user, now, len(spec.meters))
        token = self.token(request, 0, [0] * spec.frame_size, [0.0] * (2 * len(spec.components)))
        if len(spec.entries) > 1:
            request.operation = int(self.interpreter.draws[spec.choice](token))
        token.pc = spec.entries[request.operation].pc
        self.recorder.workloads[workload].arrive(token, now)
        self.run(token)

    def start_message(self, stream: int, number: int, pc: int, frame: list[int]) -> Token:
        """Let a message come now, which runs after those already woken (rule 13)."""
        now = self.environment.now
        spec = self.program.workloads[stream]
        request = Request(stream, number, -1, now, len(spec.meters))
        token = self.token(request, pc, frame, [0.0] * (2 * len(spec.components)))
        self.recorder.workloads[stream].arrive(token, now)
        self.wake(token)
        return token

    def end_request(self, token: Token, outcome: int = COMPLETED) -> None:
        """Record a request that completed or failed, then let its user think (rule 3)."""
        request = token.request
        self.recorder.workloads[request.workload].end(token, self.environment.now, outcome)
        self.sources[request.workload].request_ended(request)


def simulate(
    program: Program,
    duration: float,
    seed: int,
    replication: int = 0,
    windows: int = WINDOWS,
    processes: Mapping[str, Process] | None = None,
    consume: Consume | None = None,
    begin: float = 0.0,
) -> Records:
    """Run a Program on SimPy for `duration` seconds and return its Records.

    `processes` gives each external station, by name, a function of the environment that returns the station's
    serve function: a generator function of a `Job`. Where there is something to `consume` requests, they go there and
    not into the Records. Raises `UsageError` where a process is missing.
    """
    engine = Engine(program, Streams(seed, replication), processes or {}, consume)
    engine.simulate(duration, windows, begin)
    return engine.recorder.records(seed, replication, duration)
