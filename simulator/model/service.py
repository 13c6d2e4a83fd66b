"""Services: replicas of a program, placed on hosts, with workers that limit how many requests each serves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from simulator.model.part import AtLeastOne, Count, Instances, Part, PositiveRate, WholeNumber
from simulator.model.site import Deployment
from simulator.model.steps import Step
from simulator.program.program import Balancer, Policy
from simulator.program.stations import Bucket, Pool

if TYPE_CHECKING:
    from simulator.model.host import HostStations
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
    queue_limit: WholeNumber | None = None
    """Requests that may wait for a replica's workers; one more is turned away. Unlimited where left out."""
    balancer: Policy = Policy.ROUND_ROBIN
    """How callers choose a replica."""
    rate_limit: RateLimit | None = None
    """Token bucket; `rate_limit: 100/s` is short for `rate_limit: {rate: 100/s}`."""
    operations: dict[str, list[Step]] = Field(min_length=1)
    """What it can be asked to do, step by step."""

    def lower(self, builder: Builder, name: str, instances: tuple[HostStations, ...]) -> Deployment:
        """Pools of workers and of requests, the same where a thread stays with its request, and the rate limit."""
        resource = f"services.{name}"
        replicas = self.replicas or len(instances)
        capacity = math.inf if self.workers is None else float(self.workers)
        loops = self._pools(builder, f"{resource}.workers", replicas, capacity)
        requests = loops
        if self.worker_model == "event_loop" and self.counts_requests:
            requests = self._pools(builder, f"{resource}.requests", replicas, math.inf)
        balancer = builder.balancer(Balancer(self.balancer, requests))
        bucket = self.rate_limit.lower(builder, f"{resource}.rate_limit") if self.rate_limit else None
        placed = tuple(instances[replica % len(instances)] for replica in range(replicas))
        return Deployment(name, self, requests, loops, balancer, bucket, placed)

    def _pools(self, builder: Builder, resource: str, replicas: int, capacity: float) -> tuple[int, ...]:
        return tuple(builder.station(Pool(resource, capacity, self.queue_limit)) for _ in range(replicas))

    @property
    def counts_requests(self) -> bool:
        """Whether a request holds a unit from its beginning to its end: a thread, or for the balancer to count it."""
        threads = self.workers is not None and self.worker_model == "thread"
        return threads or self.balancer in (Policy.LEAST_OUTSTANDING, Policy.POWER_OF_TWO)
