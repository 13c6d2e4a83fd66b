"""Services: replicas of a program, placed on hosts, with workers that limit how many requests each serves.

How it works is said with `workers` and `worker_model`:

    a thread for each request       neither: every request has a thread of its own, and all share the cores
    a fixed pool of threads         `workers: 200`: a thread serves one request at a time, and waits with it
    event loops                     `worker_model: event_loop`, `workers` of them, one core each at most: a loop
                                    computes for one request at a time, and has others while this one waits. A `block`
                                    step waits with the loop, and stalls all of its other requests.
    actors                          event loops, which are the dispatcher's threads, and a `lock` step with a `key`: the
                                    messages of one actor are served one at a time, in order, those of others beside
                                    them, and a message that waits for its actor has no thread


What a request passes, in this order: the rate limits, the concurrency limit, the queue of the workers with its load
shedding, authentication, and the operation itself.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from simulator.model.distribution import KeySpec
from simulator.model.garbage_collection import GarbageCollection
from simulator.model.guard import Bulkhead
from simulator.model.health_check import HealthCheck
from simulator.model.memory import ServiceMemory
from simulator.model.part import (
    AtLeastOne,
    Count,
    Duration,
    Factor,
    Instances,
    Part,
    PositiveDuration,
    PositiveRate,
    WholeNumber,
)
from simulator.model.scaling import Scaling
from simulator.model.site import Deployment
from simulator.model.steps import Step
from simulator.program.program import Balancer, Policy
from simulator.program.stations import Bucket, Discipline, Gauge, Pool

if TYPE_CHECKING:
    from simulator.model.lowering import Lowering
    from simulator.program.builder import Builder


class ClientLimit(Part):
    """A token bucket for every client; what finds its own empty is rejected."""

    bare: ClassVar[str | None] = "rate"

    rate: PositiveRate
    """Tokens a second of each client."""
    burst: AtLeastOne | None = None
    """Requests that a client can send at once; one second's worth (at least 1) where left out."""
    clients: KeySpec = KeySpec(uniform=1000)
    """Who the clients of an open workload are, and how unlike they are: `{zipf: {count: 10k}}`. In a closed workload
    each user is a client."""
    key: str | None = None
    """Name of one of the model's `keys` that tells clients apart instead."""

    def station(self, resource: str, clients: int) -> Bucket:
        """The buckets of that many clients."""
        return Bucket(resource, self.rate, _burst(self.burst, self.rate), keys=max(clients, 2))


class RateLimit(Part):
    """A token bucket before the service, shared by its replicas; a request takes one token."""

    bare: ClassVar[str | None] = "rate"

    rate: PositiveRate | None = None
    """Tokens a second, of all clients together; unlimited where left out."""
    burst: AtLeastOne | None = None
    """Requests that an idle bucket lets through at once; one second's worth (at least 1) where left out."""
    when_empty: Literal["reject", "wait"] = "reject"
    """What happens to a request that finds no token."""
    per_client: ClientLimit | None = None
    """A limit for each client beside, which a request passes first; `per_client: 10/s` is short for its rate."""

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.rate is None and (self.per_client is None or self.burst is not None):
            raise ValueError("expected a rate, or per_client alone")
        return self

    def lower(self, builder: Builder, resource: str) -> int | None:
        """The station of the bucket that all clients share."""
        if self.rate is None:
            return None
        return builder.station(
            Bucket(resource, self.rate, _burst(self.burst, self.rate), waits=self.when_empty == "wait")
        )


def _burst(burst: float | None, rate: float) -> float:
    return burst if burst is not None else max(rate, 1.0)


class LoadShedding(Part):
    """Drop what has waited too long for a worker, so that workers do not serve those who have given up.

    With `standing` it is the controlled delay that Facebook uses (Maurer, Fail at Scale, ACM Queue 2015): requests may
    wait long while the queue empties at times, but only 5 ms once it has not been empty for 100 ms. Last in, first out
    (`queue: lifo`) beside serves the newest under overload; with little load both queues are the same.
    """

    bare: ClassVar[str | None] = "wait"

    wait: PositiveDuration
    """A request whose turn comes after a longer wait fails with `waited too long`. 5 ms to 1 s are usual."""
    standing: Duration = 0.0
    """Only drop while the queue has not been empty for this long."""


class Service(Part):
    """A program that serves requests."""

    host: str
    """Name of the hosts that it runs on; replica i runs on instance i modulo their count."""
    replicas: Instances | None = None
    """As many as there are instances of the host where left out."""
    workers: Count | None = None
    """Threads (or event loops) of one replica; unlimited where left out."""
    worker_model: Literal["thread", "event_loop"] = "thread"
    """A thread serves one request from its beginning to its end. An event loop is held only while it computes."""
    memory: ServiceMemory | None = None
    """What it holds of its host's memory. Nothing where left out."""
    queue_limit: WholeNumber | None = None
    """Requests that may wait for a replica's workers; one more is turned away. Unlimited where left out."""
    queue: Discipline = Discipline.FIFO
    """Which of the waiting requests gets a worker; `priority` takes that of the workload with the lowest number."""
    load_shedding: LoadShedding | None = None
    """Drop requests that waited too long; `load_shedding: 50 ms` is short for `load_shedding: {wait: 50 ms}`."""
    concurrency_limit: Bulkhead | None = None
    """Requests that a replica has inside at a time, those that wait for its workers included."""
    balancer: Policy = Policy.ROUND_ROBIN
    """How callers choose a replica."""
    weights: list[Factor] = Field(default_factory=list)
    """Share of the requests of each replica in turn, relative to each other, for `balancer: weighted`."""
    affinity: str | None = None
    """Send requests with the same key to the same replica, instead of balancing: the name of one of the model's `keys`
    (consistent hashing: a replica more takes its share from each of the others and moves nothing else; Lamping and
    Veach, 2014), or `user` for sticky sessions of a closed workload's users."""
    rate_limit: RateLimit | None = None
    """Token bucket; `rate_limit: 100/s` is short for `rate_limit: {rate: 100/s}`."""
    authentication: list[Step] = Field(default_factory=list)
    """What is done for every request before its operation: `compute` to check a signature, `call` or `external` to ask
    somebody, a `lookup` around that for a cache of tokens. Checking the signature of a token takes 20 to 200 µs."""
    scaling: Scaling | None = None
    """Autoscaling; it starts with `replicas`, or where this is left out with the fewest."""
    health_check: HealthCheck | None = None
    """How the balancer learns that a replica is down; it never does where left out.
    `health_check: 5 s` is short for `health_check: {interval: 5 s}`."""
    garbage_collection: GarbageCollection | None = None
    """Pauses of a replica when requests have filled its young generation."""
    operations: dict[str, list[Step]] = Field(min_length=1)
    """What it can be asked to do, step by step."""

    @model_validator(mode="after")
    def _is_balanced_or_sticky(self) -> Self:
        if self.affinity is not None and "balancer" in self.model_fields_set:
            raise ValueError("got affinity beside balancer, expected the one or the other")
        if self.affinity is not None and self.scaling is not None:
            raise ValueError("got affinity beside scaling, expected the one or the other: keys stay with their replica")
        return self

    @model_validator(mode="after")
    def _scales_within_reason(self) -> Self:
        scaling = self.scaling
        if scaling is None:
            return self
        if self.replicas is not None and not scaling.least <= self.replicas <= scaling.most:
            raise ValueError(
                f"replicas: got {self.replicas}, expected {scaling.least} to {scaling.most} as scaling says"
            )
        if scaling.metric != "cpu" and self.workers is None:
            raise ValueError(f"scaling by {scaling.metric} needs workers, but they are unlimited")
        return self

    @model_validator(mode="after")
    def _weights_are_the_balancers(self) -> Self:
        if bool(self.weights) != (self.balancer is Policy.WEIGHTED):
            raise ValueError("expected weights with balancer: weighted, and only then")
        return self

    def lower(self, lowering: Lowering, name: str) -> Deployment:
        """Pools of workers and of requests, the same where a thread stays with its request, and the rate limit."""
        builder, resource = lowering.builder, f"services.{name}"
        instances = lowering.hosts[self.host]
        fails = self.host in lowering.failing_hosts
        memory = lowering.system.hosts[self.host].memory
        killed = memory is not None and memory.kills
        steered = (fails or killed) and self.health_check is not None
        counted = self.counts_requests or fails or killed
        if self.scaling is None:
            instances = instances[: lowering.system.hosts[self.host].count]
        replicas = self.scaling.most if self.scaling else self.replicas or len(instances)
        capacity = math.inf if self.workers is None else float(self.workers)
        loops = self._pools(builder, f"{resource}.workers", replicas, capacity)
        requests = loops
        if self.concurrency_limit is not None:
            limit = self.concurrency_limit.station(f"{resource}.requests")
            requests = tuple(builder.station(limit) for _ in range(replicas))
        elif self.worker_model == "event_loop" and counted:
            requests = self._pools(builder, f"{resource}.requests", replicas, math.inf)
        balancer = builder.balancer(self._balancer(requests, checked=steered))
        bucket = self.rate_limit.lower(builder, f"{resource}.rate_limit") if self.rate_limit else None
        places = tuple(replica % len(instances) for replica in range(replicas))
        deployment = Deployment(
            name, self, requests, loops, balancer, bucket, tuple(instances[place] for place in places), places, counted,
            down=_gauges(builder, f"{resource}.down", replicas) if steered or killed else (),
            heap=_gauges(builder, f"{resource}.heap", replicas) if self.garbage_collection else (),
        )  # fmt: skip
        self._lower_controls(lowering, deployment)
        return deployment

    def _balancer(self, requests: tuple[int, ...], checked: bool) -> Balancer:
        """The balancer; replicas that are not there at the start are excluded."""
        excluded = tuple(int(replica >= self.first_replicas) for replica in range(len(requests)))
        count = len(self.weights)
        weights = tuple(self.weights[replica % count] for replica in range(len(requests)) if count)
        return Balancer(self.balancer, requests, weights, excluded=excluded if self.scaling else (), steered=checked)

    @property
    def first_replicas(self) -> int:
        """Replicas at the start, where they are scaled."""
        return self.replicas or (self.scaling.least if self.scaling else 0)

    def _lower_controls(self, lowering: Lowering, deployment: Deployment) -> None:
        resource = f"services.{deployment.name}"
        if self.health_check is not None and deployment.down:
            self.health_check.lower(lowering, deployment.name, deployment.balancer, deployment.down)
        if self.scaling is not None:
            gauge = lowering.builder.station(Gauge(f"{resource}.instances", float(self.first_replicas)))
            self.scaling.lower(lowering, deployment, gauge)

    def _pools(self, builder: Builder, resource: str, replicas: int, capacity: float) -> tuple[int, ...]:
        shed = self.load_shedding
        pool = Pool(
            resource,
            capacity,
            self.queue_limit,
            self.queue,
            shed.wait if shed else None,
            shed.standing if shed else 0.0,
        )
        return tuple(builder.station(pool) for _ in range(replicas))

    @property
    def has_threads(self) -> bool:
        """Whether a request holds one of the workers from its beginning to its end."""
        return self.workers is not None and self.worker_model == "thread"

    @property
    def counts_requests(self) -> bool:
        """Whether a request holds a unit from its beginning to its end: a thread, or for somebody to count it."""
        counted = self.balancer in (Policy.LEAST_OUTSTANDING, Policy.POWER_OF_TWO)
        return self.has_threads or counted or self.concurrency_limit is not None


def _gauges(builder: Builder, resource: str, replicas: int) -> tuple[int, ...]:
    return tuple(builder.station(Gauge(resource)) for _ in range(replicas))
