"""Lowering: a System becomes a Program."""

from __future__ import annotations

from typing import Literal

from simulator.distributions import Constant, Discrete
from simulator.errors import InputError, Problem
from simulator.model.disk import Disk
from simulator.model.distribution import DurationDistribution, SizeDistribution
from simulator.model.site import Deployment, Site
from simulator.model.steps import lower_steps
from simulator.model.system import System
from simulator.model.workload import Workload
from simulator.program import program as p
from simulator.program.arrivals import Arrivals
from simulator.program.builder import Builder, TooLargeError
from simulator.program.instructions import Delay, End, EndScope, Fail, Place, Scope, TakeTokens
from simulator.program.stations import External

Direction = Literal["out", "in"]


def lower(system: System) -> p.Program:
    """The Program of a system; raises InputError where its calls expand beyond all measure."""
    try:
        return Lowering(system).program()
    except TooLargeError as error:
        raise InputError([Problem(system.name, 0, 0, "services", str(error))]) from None


class Lowering:
    """One lowering under way: the stations of every part, and the code of every workload."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.builder = builder = Builder()
        hosts = {name: host.lower(builder, name) for name, host in system.hosts.items()}
        self.deployments = {
            name: service.lower(builder, name, hosts[service.host]) for name, service in system.services.items()
        }
        self.caches = {name: cache.lower(builder, name) for name, cache in system.caches.items()}
        self.locks = {name: lock.lower(builder, name) for name, lock in system.locks.items()}
        self.externals = {name: api.lower(builder, name) for name, api in system.externals.items()}
        self._processes: dict[str, int] = {}

    def program(self) -> p.Program:
        """Lower every workload and finish."""
        for name, workload in self.system.workloads.items():
            self._workload(name, workload)
        return self.builder.build(self.system.name)

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
            source = self._source(workload)
        builder.workload(p.Workload(name, source, entries, choice, (), 0, workload.priority))

    def _source(self, workload: Workload) -> Arrivals | p.Users:
        arrivals = workload.open_arrivals()
        if arrivals is not None:
            return arrivals
        assert workload.users is not None
        return p.Users(workload.users, self.builder.draw(workload.think.distribution(), "think"))

    def _entry(self, workload: Workload, operation: str) -> int:
        """The code of one operation as its client sees it; returns its start."""
        builder = self.builder
        start, handler = builder.label(), builder.label()
        builder.mark(start)
        with builder.within(operation):
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
    ) -> None:
        """Emit the code of an operation where it is called."""
        name, _, operation = target.partition(".")
        deployment = self.deployments[name]
        remote = caller is not None and caller.deployment.service.host != deployment.service.host
        site = self._arrive(deployment)
        if remote:
            self._latency(self.system.network.latency)
        if caller is not None and request is not None:
            self._exchange(caller, site, request, "request")
        held = self._admit(site)
        with self.builder.within(f"{name}.{operation}"):
            lower_steps(deployment.service.operations[operation], site)
        if held:
            site.release()
        if caller is not None and response is not None:
            self._exchange(site, caller, response, "response")
        if remote:
            self._latency(self.system.network.latency)

    def _arrive(self, deployment: Deployment) -> Site:
        """Pass the rate limit and let the balancer choose a replica."""
        builder = self.builder
        if deployment.bucket is not None:
            component = builder.component(f"{deployment.name}.rate limit")
            one = builder.draw(Constant(1.0), "tokens")
            builder.emit(TakeTokens(Place((deployment.bucket,)), component, one))
        return Site(self, deployment, builder.select(deployment.balancer))

    @staticmethod
    def _admit(site: Site) -> bool:
        """Take a worker where the service has threads, or where its balancer counts requests."""
        service = site.deployment.service
        unlimited = service.workers is None
        takes = service.counts_outstanding and (service.worker_model == "thread" or unlimited)
        if takes:
            site.acquire_worker()
        return takes

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
