"""CPU: cores that all runnable threads share in equal parts, each thread on one core at most.

Lowers to one sharing station per host instance. Work is in seconds of one reference core (`speed: 1`) that has
its physical core to itself; with n runnable threads the CPU does `capacity[n - 1]` such seconds a second:

    up to the first socket's cores      n * speed
    on further sockets                  remote_efficiency * speed for each core more
    hyper-threads                       all cores do (1 + (smt_yield - 1) * share of siblings in use) times that
"""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import model_validator

from simulator.model.part import Cores, Count, Factor, HardwareThreads, Part
from simulator.program.builder import Builder
from simulator.program.stations import Sharing


class Cpu(Part):
    """The processors of one host."""

    bare: ClassVar[str | None] = "cores"

    cores: Cores
    """Physical cores, all sockets together."""
    speed: Factor = 1.0
    """Work a core does relative to the core on which the compute times were measured (clock, generation)."""
    sockets: Count = 1
    """Sockets that the cores are spread over; threads fill the first socket first."""
    remote_efficiency: Factor = 1.0
    """Speed of cores outside the first socket relative to those inside (memory and NIC are further away).
    Published slow-downs of network work on a remote socket are 1.1 to 1.4: 0.7 to 0.9 here."""
    threads_per_core: HardwareThreads = 1
    """Hardware threads (SMT, hyper-threads) of a core; 1 where SMT is off."""
    smt_yield: Factor = 1.25
    """Throughput of a core with all its hardware threads busy relative to one thread. 1.1 to 1.3 is usual."""

    @model_validator(mode="after")
    def _sockets_divide_cores(self) -> Self:
        if self.cores % self.sockets:
            raise ValueError(f"{self.cores} cores do not spread over {self.sockets} sockets, expected a multiple")
        if self.smt_yield < 1.0:
            raise ValueError(f"smt_yield: got {self.smt_yield}, expected at least 1; threads_per_core: 1 is SMT off")
        return self

    def capacity(self) -> tuple[float, ...]:
        """Reference-core seconds a second by number of runnable threads."""
        local = self.cores // self.sockets
        table = [
            self.speed * (min(n, local) + max(n - local, 0) * self.remote_efficiency) for n in range(1, self.cores + 1)
        ]
        siblings = self.cores * (self.threads_per_core - 1)
        table += [table[self.cores - 1] * (1.0 + (self.smt_yield - 1.0) * n / siblings) for n in range(1, siblings + 1)]
        return tuple(table)

    def lower(self, builder: Builder, resource: str) -> int:
        """The station of one host instance."""
        return builder.station(Sharing(resource, self.capacity()))
