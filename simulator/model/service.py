"""Services: replicas of a program, placed on hosts, with workers that limit how many requests each serves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from simulator.model.part import Count, Instances, Part, PositiveAmount, PositiveRate, WholeNumber
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
    burst: PositiveAmount | None = None
    """Requests that an idle bucket lets through at once; one second's worth (at least 1) where left out."""
    when_empty: Literal["reject", "wait"] = "reject"

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
    operations: dict[str, list[Step]] = Field(min_length=1)
    """What it can be asked to do, step by step."""

    def lower(self, builder: Builder, name: str, instances: tuple[HostStations, ...]) -> Deployment:
        """One pool of workers per replica, and the bucket of the rate limit."""
        resource = f"services.{name}"
        replicas = self.replicas or len(instances)
        capacity = math.inf if self.workers is None else float(self.workers)
        pools = tuple(builder.station(Pool(f"{resource}.workers", capacity, self.queue_limit)) for _ in range(replicas))
        balancer = builder.balancer(Balancer(self.balancer, pools))
        bucket = self.rate_limit.lower(builder, f"{resource}.rate_limit") if self.rate_limit else None
        placed = tuple(instances[replica % len(instances)] for replica in range(replicas))
        return Deployment(name, self, pools, balancer, bucket, placed)

    @property
    def counts_outstanding(self) -> bool:
        """Whether requests must pass the worker pool: to be limited, or to be counted by the balancer."""
        return self.workers is not None or self.balancer in (Policy.LEAST_OUTSTANDING, Policy.POWER_OF_TWO)
