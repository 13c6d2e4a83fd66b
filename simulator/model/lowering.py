"""Lowering: a System becomes a Program."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from simulator.analytic.demands import facts
from simulator.analytic.popular_keys import watched
from simulator.distributions import Constant, Discrete, Uniform
from simulator.errors import InputError, Problem
from simulator.model.conversation import Talk
from simulator.model.disk import Disk
from simulator.model.distribution import SizeDistribution
from simulator.model.host import HostStations
from simulator.model.keys import RequestKeys
from simulator.model.mcp import ToolResults
from simulator.model.memory import NO_MEMORY, held_for_good
from simulator.model.message import NO_MESSAGES, Connection, Messages
from simulator.model.resource import RESOURCES
from simulator.model.service import ClientLimit
from simulator.model.site import Clients, Deployment, Site
from simulator.model.step import lower_steps
from simulator.model.stores import SettledStores, settle
from simulator.model.system import System
from simulator.model.travel import Way
from simulator.model.workload import Workload
from simulator.program import program as p
from simulator.program.arrivals import Arrivals
from simulator.program.builder import Builder, TooLargeError
from simulator.program.instructions import (
    Delay,
    DrawInto,
    End,
    EndScope,
    Fail,
    HashInto,
    Jump,
    NumberInto,
    Place,
    Scope,
    TakeTokens,
    Work,
)
from simulator.program.stations import External, Station
from simulator.traces.trace import TraceError

if TYPE_CHECKING:
    from simulator.model.kinds.fault import BrownOut

Direction = Literal["out", "in"]
MOST_REQUESTS = 2**31 - 1  # of an open workload, whose requests are told apart
NOTHING: Mapping[str, Any] = {}


def lower(system: System) -> p.Program:
    """The Program of a system; raises InputError where its calls expand beyond all measure, or lack a trace."""
    try:
        first = Lowering(system)
        program = first.program()
        cycles, settled = _cycles(system, program), settle(program, first.unsettled)
        return watched(Lowering(system, cycles, settled).program() if cycles or settled else program)
    except TooLargeError as error:
        raise InputError([Problem(system.name, 0, 0, "services", str(error))]) from None
    except TraceError as error:
        raise InputError([Problem(system.name, 0, 0, "", str(error))]) from None


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
        self.talk: Talk | None = None
        self.results = ToolResults()
        self.asked = False  # whether the code of a turn has asked its question already
        self.fetches_once = False  # within a single-flight fetch, where another would invite a deadlock
        self.resources: dict[str, dict[str, Any]] = {}
        for section in RESOURCES:
            named = system.resources(section).items()
            self.resources[section] = {name: resource.lower(self, name) for name, resource in named}
        self._processes: dict[str, int] = {}
        self._made: dict[str, Any] = {}
        self._shared: dict[str, tuple[int, ...]] = {}
        self._clients: Clients | None = None

    def program(self) -> p.Program:
        """Lower every workload and finish."""
        for name, workload in self.system.workloads.items():
            self._workload(name, workload)
        for emit in self.background:
            emit()
        return self.builder.build(self.system.name)

    @contextmanager
    def conversing(self, talk: Talk) -> Iterator[None]:
        """Code inside is that of a turn of a conversation."""
        self.talk = talk
        try:
            yield
        finally:
            self.talk = None

    @property
    def workload(self) -> str:
        """The name of the workload under way, whose requests come by the code that is emitted."""
        assert self._clients is not None
        return self._clients.name

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

    def shared(self, resource: str, make: Callable[[str], Station], count: int) -> tuple[int, ...]:
        """`count` stations of a resource, the same ones for all who ask for it."""
        if resource not in self._shared:
            station = make(resource)
            self._shared[resource] = tuple(self.builder.station(station) for _ in range(count))
        return self._shared[resource]

    def _workload(self, name: str, workload: Workload) -> None:
        builder = self.builder
        builder.start_workload(workload.replay.trace() if workload.replay is not None else None)
        self._clients = Clients(self, name, workload)
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
        self.results = ToolResults()
        builder.mark(start)
        with builder.within(operation), self.keys.of_a_request():
            if workload.deadline is not None:
                timer = builder.draw(Constant(workload.deadline), "deadline")
                builder.emit(Scope(handler, timer, p.DEADLINE))
            clients = self._clients
            assert clients is not None

            def turn() -> None:
                self.asked = False
                self.call(operation, clients, workload)

            ask = partial(workload.guard, clients, "client", turn)
            if workload.conversation is None:
                ask()
            else:
                workload.conversation.lower(self, clients.name, operation, ask)
            if workload.deadline is not None:
                builder.emit(EndScope())
            builder.emit(End())
            if workload.deadline is not None:
                builder.mark(handler)
                builder.emit(Fail())
        return start

    def call(
        self,
        target: str,
        caller: Site | Clients,
        messages: Messages = NO_MESSAGES,
        replica: int | None = None,
        request: int | None = None,
        response: int | None = None,
    ) -> None:
        """Emit the code of an operation where it is called: at the replica that is chosen, or a given one.

        `request` and `response` are draws of the messages' bytes, in place of what the messages say.
        """
        site = self._callee(target, replica)
        way = Way(self, caller, site)
        with self.builder.within("request"):
            request = self._bytes(messages.request) if request is None else request
            self._codec(caller, request, messages.seconds_to_make())
            if messages.connection is not None:
                self._connect(messages.connection, way, site)
        way.there()
        self._exchange(caller, site, request, messages.wire_factor())
        response = self._serve(target, site, messages, request, response)
        self._exchange(site, caller, response, messages.wire_factor())
        way.back()
        self._codec(caller, response, messages.seconds_to_read())

    def receive(self, target: str, size: SizeDistribution | None = None) -> None:
        """Emit the code of an operation that a message has reached, whose bytes come in."""
        site = self._callee(target)
        if size is not None:
            with self.builder.within("message"):
                self.transfer(site, size, "in")
        self._serve(target, site, NO_MESSAGES, None)

    def pass_network(self) -> None:
        """Emit the way from one host to another."""
        latency = self.system.network.latency
        time = latency.distribution() if latency is not None else None
        if time is not None and time.mean > 0.0:
            self.builder.emit(Delay(self.builder.component("network"), self.builder.draw(time, "latency")))

    def _callee(self, target: str, replica: int | None = None) -> Site:
        """One of the replicas of the service that has an operation."""
        deployment = self.deployments[target.partition(".")[0]]
        chosen = self._replica(deployment) if replica is None else self._fixed(replica)
        return Site(self, deployment, chosen)

    def _serve(
        self, target: str, site: Site, messages: Messages, request: int | None, response: int | None = None
    ) -> int | None:
        """Emit what a replica does; returns the draw of the response's bytes."""
        service = site.deployment.service
        self._limit_rate(site.deployment)
        memory = service.memory or NO_MEMORY
        held = memory.connect(site) + self._admit(site) + memory.begin(site)
        self._codec(site, request, messages.seconds_to_read())
        if service.garbage_collection is not None:
            service.garbage_collection.allocate(site)
        with self.builder.within(target):
            lower_steps(service.authentication, site)
            lower_steps(service.operations[target.partition(".")[2]], site)
        with self.builder.within("response"):
            response = self._bytes(messages.response) if response is None else response
            self._codec(site, response, messages.seconds_to_make())
        for _ in range(held):
            site.release()
        return response

    def _replica(self, deployment: Deployment) -> int:
        """The register of the chosen replica's number: balanced, or always the same one for a key."""
        affinity, count = deployment.service.affinity, len(deployment.instances)
        if affinity is None or count == 1:
            return self.builder.select(deployment.balancer)
        key = self.builder.register() if affinity == "user" else self.keys.register(affinity)
        if affinity == "user":
            users = self._clients.workload.users if self._clients is not None else None
            self.builder.emit(NumberInto(key, users or MOST_REQUESTS))
        register = self.builder.register()
        self.builder.emit(HashInto(register, key, count))
        return register

    def _bytes(self, size: SizeDistribution | None) -> int | None:
        """The draw of a message's bytes."""
        return None if size is None else self.builder.draw(size.distribution(), "bytes")

    def _codec(self, site: Site | Clients, size: int | None, seconds: float) -> None:
        """Turn a message into bytes, or bytes into a message, on a CPU of the model."""
        if isinstance(site, Site) and size is not None and seconds > 0.0:
            site.compute("serialization", self.builder.scaled(size, seconds))

    def _connect(self, connection: Connection, way: Way, site: Site) -> None:
        """Set a connection up, where the request finds none open."""
        done = self.builder.label()
        full = (1.0 - connection.keep_alive) * (1.0 - connection.resumed)
        weights = (connection.keep_alive, (1.0 - connection.keep_alive) * connection.resumed, full)
        with self.builder.choice(weights) as (open_, resumed, fresh):
            for target, is_resumed in ((resumed, True), (fresh, False)):
                self.builder.mark(target)
                for _ in range(connection.round_trips(is_resumed)):
                    way.there()
                    way.back()
                if connection.tls != "none" and not is_resumed and connection.handshake_cpu > 0.0:
                    site.compute("tls", Constant(connection.handshake_cpu))
                self.builder.emit(Jump(done))
            self.builder.mark(open_)
        self.builder.mark(done)

    def _fixed(self, replica: int) -> int:
        """Emit the choice of a given replica; returns its register."""
        register = self.builder.register()
        self.builder.emit(DrawInto(register, self.builder.draw(Constant(float(replica)), "replica")))
        return register

    def _limit_rate(self, deployment: Deployment) -> None:
        """Pass the service's token buckets, where it has them: that of the client, then that of all."""
        limit = deployment.service.rate_limit
        if limit is None:
            return
        component = self.builder.component(f"{deployment.name}.rate limit")
        one = self.builder.draw(Constant(1.0), "tokens")
        if limit.per_client is not None:
            spec, clients = limit.per_client, self._clients
            assert clients is not None
            keys = spec.clients.distribution() if spec.key is None else self.keys.distribution(spec.key)
            count = keys.count if spec.key is not None or not clients.workload.users else clients.workload.users
            resource = f"services.{deployment.name}.client_limits"
            [bucket] = self.shared(f"{resource}.{clients.name}", lambda name: spec.station(name, count), 1)
            self.builder.emit(TakeTokens(Place((bucket,)), component, one, self._client(spec)))
        if deployment.bucket is not None:
            self.builder.emit(TakeTokens(Place((deployment.bucket,)), component, one))

    def _client(self, limit: ClientLimit) -> int:
        """A register with the number of the client who sent the request."""
        if limit.key is not None:
            return self.keys.register(limit.key)
        register = self.builder.register()
        users = self._clients.workload.users if self._clients is not None else None
        if users is not None:
            self.builder.emit(NumberInto(register, users))
        else:
            self.builder.emit(DrawInto(register, self.builder.draw(limit.clients.distribution(), "client")))
        return register

    @staticmethod
    def _admit(site: Site) -> int:
        """Be counted as a request of the replica, and take a thread where it has such workers: how many units."""
        deployment = site.deployment
        if not deployment.counted:
            return 0
        limited = deployment.service.concurrency_limit is not None
        site.acquire("concurrency limit" if limited else "workers", site.spread(deployment.requests), Constant(1.0))
        if not (limited and deployment.service.has_threads):
            return 1
        site.acquire("workers", site.spread(deployment.loops), Constant(1.0))
        return 2

    def _exchange(self, sender: Site | Clients, receiver: Site | Clients, size: int | None, factor: float) -> None:
        """Send bytes from one site's NIC to another's; each is passed in turn."""
        if size is not None:
            self._pass_nic(sender, self.builder.scaled(size, factor), "out")
            self._pass_nic(receiver, self.builder.scaled(size, factor), "in")

    def transfer(self, site: Site, size: SizeDistribution, direction: Direction) -> None:
        """Send bytes of the site's own over its NIC, or receive them."""
        self._pass_nic(site, self.builder.draw(size.distribution(), f"nic {direction}"), direction)

    def _pass_nic(self, site: Site | Clients, draw: int, direction: Direction) -> None:
        """Pass a NIC, where there is one."""
        if isinstance(site, Clients) or self.system.hosts[site.deployment.service.host].nic is None:
            return
        if direction == "out":
            place = site.place(lambda host: host.nic.outgoing)  # type: ignore[union-attr]
        else:
            place = site.place(lambda host: host.nic.incoming)  # type: ignore[union-attr]
        self.builder.emit(Work(place, site.component(f"nic {direction}"), draw))

    def disk_of(self, site: Site) -> Disk:
        """The disk of the host that a site is on."""
        disk = self.system.hosts[site.deployment.service.host].disk
        assert disk is not None
        return disk
