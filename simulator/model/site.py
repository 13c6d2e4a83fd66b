"""Where request code runs: the stations of the service replica that executes a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simulator.distributions import Constant, Distribution
from simulator.model.host import HostStations
from simulator.program.builder import Builder
from simulator.program.instructions import NO_REGISTER, Acquire, Delay, Place, Release, Work
from simulator.program.stations import Station

if TYPE_CHECKING:
    from simulator.model.lowering import Lowering
    from simulator.model.service import Service
    from simulator.model.workload import Workload


@dataclass(frozen=True, slots=True)
class Deployment:
    """A service's replicas: the pools of their requests and workers, and the host instances that they run on.

    `requests` is where a request is counted from its beginning to its end, the workers themselves where these do;
    `counted` tells whether every request holds a unit of it. Gauges of each replica, where there are such: `down`
    counts what has brought it down, `heap` has what it has allocated.
    """

    name: str
    service: Service
    requests: tuple[int, ...]
    loops: tuple[int, ...]
    balancer: int
    bucket: int | None
    instances: tuple[HostStations, ...]
    placed: tuple[int, ...]
    counted: bool
    down: tuple[int, ...] = ()
    heap: tuple[int, ...] = ()

    def replicas_on(self, host: str, instance: int) -> list[int]:
        """The replicas on an instance of a host."""
        if self.service.host != host:
            return []
        return [replica for replica, place in enumerate(self.placed) if place == instance]


@dataclass(frozen=True, slots=True)
class Clients:
    """The clients of a workload, who have everything of their own together."""

    lowering: Lowering
    name: str
    workload: Workload

    @property
    def builder(self) -> Builder:
        """The Program under construction."""
        return self.lowering.builder

    def own(self, part: str, make: Callable[[str], Station]) -> Place:
        """A station of the clients' own."""
        return Place(self.lowering.shared(f"workloads.{self.name}.{part}", make, 1))


@dataclass(frozen=True, slots=True)
class Site:
    """A replica of a deployment, known when the program runs as the number in `register`."""

    lowering: Lowering
    deployment: Deployment
    register: int = NO_REGISTER
    blocked: bool = False
    """Whether the event loop is held, so that computing does not take it."""

    @property
    def takes_loop(self) -> bool:
        """Whether a thread of control has to take an event loop to compute."""
        service = self.deployment.service
        return service.worker_model == "event_loop" and service.workers is not None and not self.blocked

    def take_loop(self) -> None:
        """Emit the taking of an event loop."""
        self.acquire("workers", self.spread(self.deployment.loops), Constant(1.0))

    @property
    def builder(self) -> Builder:
        """The Program under construction."""
        return self.lowering.builder

    def resource(self, section: str, name: str) -> Any:
        """What a named resource was lowered to."""
        return self.lowering.resources[section][name]

    def place(self, station: Callable[[HostStations], int]) -> Place:
        """A station of the replica's host instance."""
        return self.spread(tuple(station(instance) for instance in self.deployment.instances))

    def spread(self, stations: tuple[int, ...]) -> Place:
        """The replica's among stations that are given for every replica."""
        if self.register == NO_REGISTER:
            return Place(stations[:1])
        return Place(stations, self.register)

    def own(self, part: str, make: Callable[[str], Station]) -> Place:
        """A station of every replica's own."""
        resource = f"services.{self.deployment.name}.{part}"
        return self.spread(self.lowering.shared(resource, make, len(self.deployment.instances)))

    def compute(self, part: str, time: Distribution | int) -> None:
        """Emit the use of the CPU for some seconds (a distribution, or a draw): an event loop is held meanwhile."""
        if self.takes_loop:
            self.take_loop()
        draw = time if isinstance(time, int) else self.builder.draw(time, part)
        self.builder.emit(Work(self.place(lambda host: host.cpu), self.component(part), draw))
        if self.takes_loop:
            self.release()

    def component(self, part: str) -> int:
        """The component that a part of this service is accounted to."""
        return self.builder.component(f"{self.deployment.name}.{part}")

    def work(self, part: str, place: Place, amount: Distribution) -> None:
        """Emit a visit of a station."""
        draw = self.builder.draw(amount, part)
        self.builder.emit(Work(place, self.component(part), draw))

    def delay(self, part: str, time: Distribution) -> None:
        """Emit a delay."""
        self.builder.emit(Delay(self.component(part), self.builder.draw(time, part)))

    def acquire(self, part: str, place: Place, amount: Distribution) -> None:
        """Emit the taking of units that are held until `release`."""
        draw = self.builder.draw(amount, part)
        self.builder.emit(Acquire(place, self.component(part), draw))

    def release(self) -> None:
        """Emit the giving back of what was acquired last."""
        self.builder.emit(Release())
