"""Health checks: how a balancer finds out which replicas are down.

Every replica is checked at each interval. After `failures` failed checks in a row the balancer does not choose it any
more, and after the first one that succeeds it does again. A check fails while the replica's host is down, or it was
killed for want of memory; being slow is healthy. Lowers to a background workload, and two gauges a replica: whether it
is down, and the failed checks in a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from simulator.distributions import Constant
from simulator.model.part import Count, Part, PositiveDuration
from simulator.program.builder import Builder
from simulator.program.instructions import Add, Branch, Exclude, Include, Jump, Place, Set
from simulator.program.program import Users
from simulator.program.stations import Gauge

if TYPE_CHECKING:
    from simulator.model.lowering import Lowering


class HealthCheck(Part):
    """A check of every replica, again and again."""

    bare: ClassVar[str | None] = "interval"

    interval: PositiveDuration = 10.0
    """Time between checks. Kubernetes' readiness probes take 10 s (and 3 failures) where nothing else is said; AWS load
    balancers 30 s. Usual are 1 s to 30 s."""
    failures: Count = 3
    """Failed checks in a row after which a replica counts as down."""

    def lower(self, lowering: Lowering, name: str, balancer: int, down: tuple[int, ...]) -> None:
        """Check replicas that may go down, as their gauges in `down` say."""
        builder = lowering.builder
        failed = tuple(builder.station(Gauge(f"services.{name}.failed_checks")) for _ in down)

        def source() -> Users:
            return Users(1, builder.draw(Constant(self.interval), "interval"), builder.draw(Constant(0.0), "start"))

        def code() -> None:
            for replica, gauges in enumerate(zip(down, failed, strict=True)):
                self._check(builder, balancer, replica, *(Place((gauge,)) for gauge in gauges))

        lowering.in_background(f"services.{name}.health_check", source, code)

    def _check(self, builder: Builder, balancer: int, replica: int, down: Place, failed: Place) -> None:
        fails, known, back, done = (builder.label() for _ in range(4))
        most = float(self.failures)
        builder.emit(Branch(down, 1.0, fails))
        builder.emit(Branch(failed, most, back))
        builder.emit(Set(failed, builder.draw(Constant(0.0), "none")))
        builder.emit(Jump(done))
        builder.mark(back)
        builder.emit(Set(failed, builder.draw(Constant(0.0), "none")))
        builder.emit(Include(balancer, replica))
        builder.emit(Jump(done))
        builder.mark(fails)
        builder.emit(Branch(failed, most, done))
        builder.emit(Add(failed, builder.draw(Constant(1.0), "one")))
        builder.emit(Branch(failed, most, known))
        builder.emit(Jump(done))
        builder.mark(known)
        builder.emit(Exclude(balancer, replica))
        builder.mark(done)
