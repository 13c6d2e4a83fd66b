"""CPU: cores that all runnable threads share in equal parts, each thread on one core at most.

Lowers to one sharing station per host instance. Work is in seconds of one reference core (`speed: 1`) that has
its physical core to itself; with n runnable threads the CPU does `capacity[n - 1]` such seconds a second:

    up to the first socket's cores      n * speed
    on further sockets                  remote_efficiency * speed for each core more
    hyper-threads                       all cores do (1 + (smt_yield - 1) * share of siblings in use) times that
    overhead                            (1 - overhead) times that
    contention                          1 / (1 + sigma * (p - 1) + kappa * n * (n - 1)) times that,
                                        p = n but at most the number of hardware threads

The last line is the universal scalability law (N. J. Gunther, Guerrilla Capacity Planning, Springer 2007, chapter
4; "A general theory of computational scalability based on rational functions", arXiv:0808.1431): `sigma` is what has
to be done one thread at a time, `kappa` what every thread has to exchange with every other one, such as the cache
lines of a hot lock. Beyond the hardware threads no more work goes on at a time, so that contention stays as it is; data
are exchanged between more threads all the same, and so throughput bends back. For a lock that some steps
hold and others do not, use a `lock` step; the law is for what no step says.

A quota is what Linux calls CFS bandwidth control, and Kubernetes a CPU limit: processor time is granted for each
period, and when it is used up all threads stand still until the next one begins (kernel documentation,
Documentation/scheduler/sched-bwc.rst). So a limit of half a core is not half a core's speed: short requests pass at
full speed, until one has to wait for the next period. Left out are the slices (5 ms by default) in which
processors draw on the quota, of which up to one per processor may be unused when a period ends.
"""

from __future__ import annotations

from functools import cache
from typing import ClassVar, Self

from pydantic import field_validator, model_validator

from simulator import units
from simulator.model.part import Cores, Count, Factor, HardwareThreads, Part, PositiveDuration, Share
from simulator.program import stations
from simulator.program.builder import Builder
from simulator.program.stations import Sharing

SHORTEST_PERIOD = 1e-3
LONGEST_TABLE = 4096
NEGLIGIBLE = 0.01
"""Share of its maximum below which a CPU's capacity is followed no further down."""


class Quota(Part):
    """Processor time that all threads together may use, as of a container."""

    bare: ClassVar[str | None] = "cpus"

    cpus: Factor
    """Seconds of processor time a second, such as a Kubernetes limit; those of a hardware thread, however fast."""
    period: PositiveDuration = 0.1
    """How often they are granted; 100 ms is the default of Linux and of Kubernetes, 1 ms to 1 s is possible there."""

    @field_validator("period")
    @classmethod
    def _is_not_too_short(cls, period: float) -> float:
        if period < SHORTEST_PERIOD:
            raise ValueError(f"got {units.show(period, 'duration')}, expected at least 1 ms, as Linux does")
        return period


class Contention(Part):
    """Coefficients of the universal scalability law."""

    sigma: Share = 0.0
    """Share of the work that is done one thread at a time. Well-built servers have 0 to 5 %, and 20 % is not rare."""
    kappa: Share = 0.0
    """Cost, relative to the work, of the exchange between each two threads; 0 to 0.1 % is usual."""


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
    overhead: Share = 0.0
    """Share of the work lost to virtualisation or containers. 0 for containers and, within a few percent, for virtual
    machines that compute (Felter, Ferreira, Rajamony and Rubio, "An updated performance comparison of virtual
    machines and Linux containers", ISPASS 2015: up to 4 % there, more where a guest does much I/O)."""
    quota: Quota | None = None
    """Limit of processor time; `quota: 2.5` is short for `quota: {cpus: 2.5}`. None where left out."""
    contention: Contention | None = None
    """What threads lose by working beside each other. Nothing where left out."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.cores % self.sockets:
            raise ValueError(f"{self.cores} cores do not spread over {self.sockets} sockets, expected a multiple")
        if self.smt_yield < 1.0:
            raise ValueError(f"smt_yield: got {self.smt_yield}, expected at least 1; threads_per_core: 1 is SMT off")
        if self.overhead >= 1.0:
            raise ValueError(f"overhead: got {self.overhead:.0%}, expected less than 100 %, which leaves no work")
        return self

    @property
    def hardware_threads(self) -> int:
        """Threads that can run at a time."""
        return self.cores * self.threads_per_core

    @property
    def cycle(self) -> float:
        """Seconds in which it goes once through its states; 0 where it has none."""
        return self.quota.period if self.quota else 0.0

    def capacity(self) -> tuple[float, ...]:
        """Reference-core seconds a second by number of runnable threads."""
        return _capacity(self)

    def _uncontended(self) -> list[float]:
        """The same without contention, up to the hardware threads."""
        speed = self.speed * (1.0 - self.overhead)
        local = self.cores // self.sockets
        table = [speed * (min(n, local) + max(n - local, 0) * self.remote_efficiency) for n in range(1, self.cores + 1)]
        siblings = self.cores * (self.threads_per_core - 1)
        table += [table[self.cores - 1] * (1.0 + (self.smt_yield - 1.0) * n / siblings) for n in range(1, siblings + 1)]
        return table

    def lower(self, builder: Builder, resource: str) -> int:
        """The station of one host instance."""
        return builder.station(Sharing(resource, self.capacity(), self._quota()))

    def _quota(self) -> stations.Quota | None:
        """The quota, where it is less than there is."""
        if self.quota is None or self.quota.cpus >= self.hardware_threads:
            return None
        return stations.Quota(self.quota.cpus * self.quota.period, self.quota.period, self.hardware_threads)


@cache
def _capacity(cpu: Cpu) -> tuple[float, ...]:
    table = cpu._uncontended()
    if cpu.contention is None:
        return tuple(table)
    sigma, kappa, threads = cpu.contention.sigma, cpu.contention.kappa, len(table)
    bent: list[float] = []
    for n in range(1, max(threads, LONGEST_TABLE if kappa > 0.0 else 0) + 1):
        running = min(n, threads)
        bent.append(table[running - 1] / (1.0 + sigma * (running - 1) + kappa * n * (n - 1)))
        if n >= threads and bent[-1] < NEGLIGIBLE * max(bent):
            break
    return tuple(bent)
