"""A user's own SimPy process as a station."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import simpy

from simulator.engines.simpy.stations.station import Station
from simulator.engines.simpy.tokens import Token
from simulator.program.stations import External

if TYPE_CHECKING:
    from simulator.engines.simpy.engine import Engine


class Job:
    """What a user's own process is told of a request that it serves."""

    __slots__ = ("amount", "number", "operation", "workload")

    def __init__(self, workload: str, operation: str, number: int, amount: float) -> None:
        self.workload = workload
        self.operation = operation
        self.number = number
        self.amount = amount


Serve = Callable[[Job], Generator[Any, Any, Any]]


class ExternalStation(Station):
    """`External`: each job is a SimPy process of the user's."""

    def __init__(self, engine: Engine, spec: External, serve: Serve) -> None:
        super().__init__(engine)
        self.spec = spec
        self.serve = serve
        self.processes: dict[Token, Any] = {}

    def enter(self, token: Token, amount: float, component: int) -> bool:
        """Start the user's process."""
        token.since = self.account()
        token.amount = amount
        token.component = component
        token.at = self
        self.arrivals += 1
        self.busy += 1
        workload = self.engine.program.workloads[token.request.workload]
        operation = workload.entries[token.request.operation].operation
        job = Job(workload.name, operation, token.request.number, amount)
        process = self.engine.environment.process(self.serve(job))
        self.processes[token] = process
        self.engine.when(process, self._complete, token)
        return False

    def _complete(self, token: Token) -> None:
        self._leave(token)
        self.completions += 1
        self.engine.run(token)

    def _leave(self, token: Token) -> None:
        now = self.account()
        del self.processes[token]
        self.delivered += now - token.since
        token.served(now)
        token.at = None
        self.busy -= 1

    def withdraw(self, token: Token) -> None:
        """Interrupt the user's process with simpy.Interrupt('cancelled')."""
        process = self.processes[token]
        process.callbacks.clear()
        process.callbacks.append(defuse)
        if process.is_alive:
            process.interrupt("cancelled")
        self.withdrawals += 1
        self._leave(token)

    def in_progress(self, now: float) -> float:
        """Seconds that jobs present have spent."""
        return sum(now - token.since for token in self.processes)


def defuse(event: Any) -> None:
    """Let an interrupted process end by the interrupt without stopping the simulation; its own errors still do."""
    if isinstance(event.value, simpy.Interrupt):
        event.defused = True
