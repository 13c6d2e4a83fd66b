"""Lowering: a System becomes a Program."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from simulator.analytic.demands import facts
from simulator.distributions import Constant, Discrete, Uniform
from simulator.errors import InputError, Problem
from simulator.model.disk import Disk
from simulator.model.distribution import DurationDistribution, SizeDistribution
from simulator.model.host import HostStations
from simulator.model.keys import RequestKeys
from simulator.model.memory import NO_MEMORY, held_for_good
from simulator.model.resource import RESOURCES
from simulator.model.site import Deployment, Site
from simulator.model.step import lower_steps
from simulator.model.stores import SettledStores, settle
from simulator.model.system import System
from simulator.model.workload import Workload
from simulator.program import program as p
from simulator.program.arrivals import Arrivals
from simulator.program.builder import Builder, TooLargeError
from simulator.program.instructions import (
    Acquire,
    Delay,
    DrawInto,
    End,
    EndScope,
    Fail,
    Place,
    Release,
    Scope,
    TakeTokens,
)
from simulator.program.stations import External

if TYPE_CHECKING:
    from simulator.model.kinds.fault import BrownOut

Direction = Literal["out", "in"]
NOTHING: Mapping[str, Any] = {}


def lower(system: System) -> p.Program:
    """The Program of a system; raises InputError where its calls expand beyond all measure."""
    try:
        first = Lowering(system)
        program = first.program()
        cycles, settled = _cycles(system, program), settle(program, first.unsettled)
        return Lowering(system, cycles, settled).program() if cycles or settled else program
    except TooLargeError as error:
        raise InputError([Problem(system.name, 0, 0, "services", str(error))]) from None


def _cycles(system: System, program: p.Program) -> dict[str, float]:
    """Seconds in which all users of a closed workload can have had one request each, where they ramp up by it."""
    automatic = {name for name, spec in system.workloads.items() if spec.users and spec.ramp_up == "auto"}
    if not automatic:
        return {}
    return {
        each.workload: (each.users or 0) / each.throughput_bound
        for each in facts(program).workloads
        if each.workload in automatic and each.throughput_bound and math.isfinite(each.throughput_bound)
    }


class Lowering:
    """One lowering under way: the stations of every part, and the code of every workload.

    `ramp_ups` gives the seconds within which the users of a workload come, where these are automatic; `settled` what
    the stores of a resource have in the long run, in the order of their stations. Both follow from a first lowering,
    in which `unsettled` gathers the resources for which that is wanted.
    """

    def __init__(
        self, system: System, ramp_ups: Mapping[str, float] = NOTHING, settled: Mapping[str, SettledStores] = NOTHING
    ) -> None:
        self.system = system
        self.ramp_ups = ramp_ups
        self.settled = settled
        self.unsettled: set[str] = set()
        self.builder = builder = Builder()
        self.keys = RequestKeys(self)
        self.counts = {name: system.most_instances(name) for name in system.hosts}
        self.failing_hosts = system.failing_hosts
        self.background: list[Callable[[], None]] = []
        self.links: list[tuple[frozenset[str], int]] = []
        self.brown_outs: dict[str, BrownOut] = {}
        self.hosts = {
            name: host.lower(builder, name, held_for_good(system, name)) for name, host in system.hosts.items()
        }
        self.deployments = {name: service.lower(self, name) for name, service in system.services.items()}
        self.fetches_once = False  # within a single-flight fetch, where another would invite a deadlock
        self.resources: dict[str, dict[str, Any]] = {}
        for section in RESOURCES:
            named = system.resources(section).items()
            self.resources[section] = {name: resource.lower(self, name) for name, resource in named}
        self._processes: dict[str, int] = {}
        self._made: dict[str, Any] = {}

    def program(self) -> p.Program:
        """Lower every workload and finish."""
        for name, workload in self.system.workloads.items():
            self._workload(name, workload)
        for emit in self.background:
            emit()
        return self.builder.build(self.system.name)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What is made where it is first asked for, such as stations that few models need."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def logs_of_host(self, site: Site) -> dict[HostStations, int]:
        """The stations that flush the disks of a site's host, by its instances."""
        name = f"hosts.{site.deployment.service.host}.disk"
        instances = self.hosts[site.deployment.service.host]
        disk = self.disk_of(site)
        return self.once(  # type: ignore[no-any-return]
            name, lambda: {instance: disk.lower_log(self.builder, name) for instance in instances}
        )

    def in_background(self, name: str, source: Callable[[], Arrivals | p.Users], code: Callable[[], None]) -> None:
        """Have a background workload after all others: its source, and what emits the code of its requests."""

        def emit() -> None:
            builder = self.builder
            builder.start_workload()
            with builder.within(name):
                start = builder.label()
                builder.mark(start)
                code()
                builder.emit(End())
                choice = builder.draw(Constant(0.0), "operation")
                entries = (p.Entry("control", start, 1.0),)
                workload = p.Workload(name, source(), entries, choice, (), 0, background=True)
            builder.workload(workload)

        self.background.append(emit)

    def process(self, name: str) -> int:
        """The external station of that name, one for all who use it."""
        if name not in self._processes:
            self._processes[name] = self.builder.station(External(f"processes.{name}", name))
        return self._processes[name]

    def _workload(self, name: str, workload: Workload) -> None:
        builder = self.builder
        builder.start_workload()
        with builder.within(name):
            entries = tuple(
                p.Entry(operation, self._entry(workload, operation), share)
                for operation, share in workload.shares().items()
            )
            choice = builder.draw(Discrete(tuple(entry.share for entry in entries)), "operation")
            source = self._source(name, workload)
        builder.workload(p.Workload(name, source, entries, choice, (), 0, workload.priority))

    def _source(self, name: str, workload: Workload) -> Arrivals | p.Users:
        arrivals = workload.open_arrivals()
        if arrivals is not None:
            return arrivals
        assert workload.users is not None
        ramp_up = self.ramp_ups.get(name, 0.0) if workload.ramp_up == "auto" else workload.ramp_up
        start = Uniform(0.0, ramp_up) if ramp_up > 0.0 else Constant(0.0)
        think = workload.think.distribution()
        return p.Users(workload.users, self.builder.draw(think, "think"), self.builder.draw(start, "start"))

    def _entry(self, workload: Workload, operation: str) -> int:
        """The code of one operation as its client sees it; returns its start."""
        builder = self.builder
        start, handler = builder.label(), builder.label()
        builder.mark(start)
        with builder.within(operation), self.keys.of_a_request():
            if workload.deadline is not None:
                timer = builder.draw(Constant(workload.deadline), "deadline")
                builder.emit(Scope(handler, timer, p.DEADLINE))
            workload.guard(builder, "client", lambda: self._client_call(workload, operation))
            if workload.deadline is not None:
                builder.emit(EndScope())
            builder.emit(End())
            if workload.deadline is not None:
                builder.mark(handler)
                builder.emit(Fail())
        return start

    def _client_call(self, workload: Workload, operation: str) -> None:
        self._latency(workload.latency)
        self.call(operation, caller=None)
        self._latency(workload.latency)

    def _latency(self, latency: DurationDistribution) -> None:
        time = latency.distribution()
        if time.mean > 0.0:
            draw = self.builder.draw(time, "latency")
            self.builder.emit(Delay(self.builder.component("network"), draw))

    def call(
        self,
        target: str,
        caller: Site | None,
        request: SizeDistribution | None = None,
        response: SizeDistribution | None = None,
        replica: int | None = None,
    ) -> None:
        """Emit the code of an operation where it is called: at a replica that the balancer chooses, or a given one."""
        site = self._callee(target, replica)
        remote = caller is not None and caller.deployment.service.host != site.deployment.service.host
        if remote:
            self.pass_network()
            self._pass_links(caller, site)
        if caller is not None and request is not None:
            self._exchange(caller, site, request, "request")
        self._serve(target, site)
        if caller is not None and response is not None:
            self._exchange(site, caller, response, "response")
        if remote:
            self._pass_links(site, caller)
            self.pass_network()

    def receive(self, target: str, size: SizeDistribution | None = None) -> None:
        """Emit the code of an operation that a message has reached, whose bytes come in."""
        site = self._callee(target)
        if size is not None:
            with self.builder.within("message"):
                self.transfer(site, size, "in")
        self._serve(target, site)

    def pass_network(self) -> None:
        """Emit the way from one host to another."""
        self._latency(self.system.network.latency)

    def _callee(self, target: str, replica: int | None = None) -> Site:
        """One of the replicas of the service that has an operation."""
        deployment = self.deployments[target.partition(".")[0]]
        chosen = self.builder.select(deployment.balancer) if replica is None else self._fixed(replica)
        return Site(self, deployment, chosen)

    def _serve(self, target: str, site: Site) -> None:
        """Emit what a replica does."""
        deployment = site.deployment
        self._limit_rate(deployment)
        memory = deployment.service.memory or NO_MEMORY
        held = memory.connect(site) + self._admit(site) + memory.begin(site)
        if deployment.service.garbage_collection is not None:
            deployment.service.garbage_collection.allocate(site)
        with self.builder.within(target):
            lower_steps(deployment.service.operations[target.partition(".")[2]], site)
        for _ in range(held):
            site.release()

    def _pass_links(self, sender: Site | None, receiver: Site | None) -> None:
        """Pass what may part the places of two sites."""
        assert sender is not None
        assert receiver is not None
        hosts = (self.system.hosts[site.deployment.service.host] for site in (sender, receiver))
        places = {host.place for host in hosts}
        for between, link in self.links:
            if between == places:
                one = self.builder.draw(Constant(1.0), "link")
                self.builder.emit(Acquire(Place((link,)), self.builder.component("network"), one))
                self.builder.emit(Release())

    def _fixed(self, replica: int) -> int:
        """Emit the choice of a given replica; returns its register."""
        register = self.builder.register()
        self.builder.emit(DrawInto(register, self.builder.draw(Constant(float(replica)), "replica")))
        return register

    def _limit_rate(self, deployment: Deployment) -> None:
        """Pass the service's token bucket, where it has one."""
        if deployment.bucket is not None:
            component = self.builder.component(f"{deployment.name}.rate limit")
            one = self.builder.draw(Constant(1.0), "tokens")
            self.builder.emit(TakeTokens(Place((deployment.bucket,)), component, one))

    @staticmethod
    def _admit(site: Site) -> bool:
        """Be counted as a request of the replica, and take a thread where it has such workers."""
        if site.deployment.counted:
            site.acquire("workers", site.spread(site.deployment.requests), Constant(1.0))
        return site.deployment.counted

    def _exchange(self, sender: Site, receiver: Site, size: SizeDistribution, what: str) -> None:
        """Send bytes from one site's NIC to another's; each is passed in turn."""
        with self.builder.within(what):
            self.transfer(sender, size, "out")
            self.transfer(receiver, size, "in")

    def transfer(self, site: Site, size: SizeDistribution, direction: Direction) -> None:
        """Pass a NIC, where the host has one."""
        if self.system.hosts[site.deployment.service.host].nic is None:
            return
        if direction == "out":
            place = site.place(lambda host: host.nic.outgoing)  # type: ignore[union-attr]
        else:
            place = site.place(lambda host: host.nic.incoming)  # type: ignore[union-attr]
        site.work(f"nic {direction}", place, size.distribution())

    def disk_of(self, site: Site) -> Disk:
        """The disk of the host that a site is on."""
        disk = self.system.hosts[site.deployment.service.host].disk
        assert disk is not None
        return disk
