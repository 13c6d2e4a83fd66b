"""Travelling: the latency between the two ends of a call, which replicas decide when the program runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.distributions import Constant
from simulator.model.distribution import DurationDistribution
from simulator.model.network import Location
from simulator.model.site import Clients, Site
from simulator.program.instructions import NO_REGISTER, Acquire, Delay, Jump, Place, Release, Switch

if TYPE_CHECKING:
    from simulator.model.lowering import Lowering


@dataclass(frozen=True, slots=True)
class End:
    """One end of a call: a host instance by its CPU's station (None: outside), the name of its host, its place."""

    machine: int | None
    host: str
    place: str | None


@dataclass(frozen=True, slots=True)
class Distance:
    """What lies between two ends: a latency, and links that faults may part."""

    latency: DurationDistribution | None = None
    links: tuple[int, ...] = ()


class Way:
    """The way between a caller and a replica of a service, there or back."""

    def __init__(self, lowering: Lowering, caller: Site | Clients, site: Site) -> None:
        self.lowering = lowering
        self.caller_register = caller.register if isinstance(caller, Site) else NO_REGISTER
        self.site_register = site.register
        here, there = ends(lowering, caller), ends(lowering, site)
        if not all(any(end.place for end in side) for side in (here, there)):
            here, there = here[:1], there[:1]
        self.rows = [tuple(self._between(caller, one, other) for other in there) for one in here]

    def _between(self, caller: Site | Clients, one: End, other: End) -> Distance:
        """What lies between two ends."""
        network = self.lowering.system.network
        links: tuple[int, ...] = ()
        if one.place is not None and other.place is not None:
            if one.machine == other.machine:
                return Distance()
            links = self._links(frozenset((one.place, other.place)))
            if network.latency is None:
                return Distance(network.between(Location.of(one.place), Location.of(other.place)), links)
        if isinstance(caller, Clients):
            return Distance(caller.workload.latency, links)
        return Distance(network.latency, links) if one.host != other.host else Distance(None, links)

    def _links(self, apart: frozenset[str]) -> tuple[int, ...]:
        return tuple(link for between, link in self.lowering.links if between == apart)

    def there(self) -> None:
        """Emit the way from the caller to the service."""
        self._travel(back=False)

    def back(self) -> None:
        """Emit the way from the service to the caller."""
        self._travel(back=True)

    def _travel(self, back: bool) -> None:
        builder = self.lowering.builder
        done = builder.label()
        if all(row == self.rows[0] for row in self.rows):
            self._to_callee(self.rows[0], done, back)
        else:
            labels = {row: builder.label() for row in dict.fromkeys(self.rows)}
            builder.emit(Switch(self.caller_register, tuple(labels[row] for row in self.rows)))
            for row, label in labels.items():
                builder.mark(label)
                self._to_callee(row, done, back)
                builder.emit(Jump(done))
        builder.mark(done)

    def _to_callee(self, row: tuple[Distance, ...], done: int, back: bool) -> None:
        builder = self.lowering.builder
        if all(distance == row[0] for distance in row):
            self._cover(row[0], back)
            return
        labels = {distance: builder.label() for distance in dict.fromkeys(row)}
        builder.emit(Switch(self.site_register, tuple(labels[distance] for distance in row)))
        for distance, label in labels.items():
            builder.mark(label)
            self._cover(distance, back)
            builder.emit(Jump(done))

    def _cover(self, distance: Distance, back: bool) -> None:
        """The latency and, at the callee's end of it, what may part the two places."""
        if back:
            self._pass_links(distance)
        builder = self.lowering.builder
        time = distance.latency.distribution() if distance.latency is not None else None
        if time is not None and time.mean > 0.0:
            builder.emit(Delay(builder.component("network"), builder.draw(time, "latency")))
        if not back:
            self._pass_links(distance)

    def _pass_links(self, distance: Distance) -> None:
        builder = self.lowering.builder
        for link in distance.links:
            one = builder.draw(Constant(1.0), "link")
            builder.emit(Acquire(Place((link,)), builder.component("network"), one))
            builder.emit(Release())


def ends(lowering: Lowering, end: Site | Clients) -> tuple[End, ...]:
    """Where a caller or callee can be: for each of its replicas, as far as the program distinguishes them."""
    if isinstance(end, Clients):
        return (End(None, "", end.workload.place),)
    deployment = end.deployment
    host = deployment.service.host
    spec = lowering.system.hosts[host]
    found = tuple(
        End(instance.cpu, host, spec.place_of(number))
        for instance, number in zip(deployment.instances, deployment.placed, strict=True)
    )
    return found if end.register != NO_REGISTER else found[:1]
