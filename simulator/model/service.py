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
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from simulator.model.garbage_collection import GarbageCollection
from simulator.model.health_check import HealthCheck
from simulator.model.memory import ServiceMemory
from simulator.model.part import AtLeastOne, Count, Instances, Part, PositiveRate, WholeNumber
from simulator.model.scaling import Scaling
from simulator.model.site import Deployment
from simulator.model.steps import Step
from simulator.program.program import Balancer, Policy
from simulator.program.stations import Bucket, Gauge, Pool

if TYPE_CHECKING:
    from simulator.model.lowering import Lowering
    from simulator.program.builder import Builder


class RateLimit(Part):
    """A token bucket before the service, shared by its replicas; a request takes one token."""

    bare: ClassVar[str | None] = "rate"

    rate: PositiveRate
    """Tokens a second."""
    burst: AtLeastOne | None = None
    """Requests that an idle bucket lets through at once; one second's worth (at least 1) where left out."""
    when_empty: Literal["reject", "wait"] = "reject"
    """What happens to a request that finds no token."""

    def lower(self, builder: Builder, resource: str) -> int:
        """The bucket's station."""
        burst = self.burst if self.burst is not None else max(self.rate, 1.0)
        return builder.station(Bucket(resource, self.rate, burst, self.when_empty == "wait"))


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
    balancer: Policy = Policy.ROUND_ROBIN
    """How callers choose a replica."""
    rate_limit: RateLimit | None = None
    """Token bucket; `rate_limit: 100/s` is short for `rate_limit: {rate: 100/s}`."""
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

    def lower(self, lowering: Lowering, name: str) -> Deployment:
        """Pools of workers and of requests, the same where a thread stays with its request, and the rate limit."""
        builder, resource = lowering.builder, f"services.{name}"
        instances = lowering.hosts[self.host]
        fails = self.host in lowering.failing_hosts
        counted = self.counts_requests or fails
        if self.scaling is None:
            instances = instances[: lowering.system.hosts[self.host].count]
        replicas = self.scaling.most if self.scaling else self.replicas or len(instances)
        capacity = math.inf if self.workers is None else float(self.workers)
        loops = self._pools(builder, f"{resource}.workers", replicas, capacity)
        requests = loops
        if self.worker_model == "event_loop" and counted:
            requests = self._pools(builder, f"{resource}.requests", replicas, math.inf)
        balancer = builder.balancer(self._balancer(requests, checked=fails and self.health_check is not None))
        bucket = self.rate_limit.lower(builder, f"{resource}.rate_limit") if self.rate_limit else None
        places = tuple(replica % len(instances) for replica in range(replicas))
        deployment = Deployment(
            name, self, requests, loops, balancer, bucket, tuple(instances[place] for place in places), places, counted,
            down=_gauges(builder, f"{resource}.down", replicas) if fails and self.health_check else (),
            heap=_gauges(builder, f"{resource}.heap", replicas) if self.garbage_collection else (),
        )  # fmt: skip
        self._lower_controls(lowering, deployment)
        return deployment

    def _balancer(self, requests: tuple[int, ...], checked: bool) -> Balancer:
        """The balancer; replicas that are not there at the start are excluded."""
        excluded = tuple(int(replica >= self.first_replicas) for replica in range(len(requests)))
        return Balancer(self.balancer, requests, excluded=excluded if self.scaling else (), steered=checked)

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
        return tuple(builder.station(Pool(resource, capacity, self.queue_limit)) for _ in range(replicas))

    @property
    def counts_requests(self) -> bool:
        """Whether a request holds a unit from its beginning to its end: a thread, or for the balancer to count it."""
        threads = self.workers is not None and self.worker_model == "thread"
        return threads or self.balancer in (Policy.LEAST_OUTSTANDING, Policy.POWER_OF_TWO)


def _gauges(builder: Builder, resource: str, replicas: int) -> tuple[int, ...]:
    return tuple(builder.station(Gauge(resource)) for _ in range(replicas))
