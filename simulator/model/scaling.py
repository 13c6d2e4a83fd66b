"""Autoscaling: the number of replicas follows a metric.

At each interval the metric, averaged since the last look, is compared with its target: where their ratio differs from 1
by more than the tolerance, ceil(replicas * ratio) replicas are asked for, within the bounds. More are started at once,
each taking requests once it has started; fewer are kept when fewer have been asked for throughout the cool-down, the
most of what was asked for in that time. A replica that is taken out gets no new requests and finishes those it has.
Replicas that are starting count as there and idle. These are the rules of Kubernetes' horizontal pod autoscaler, and
its defaults (https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/).

Replica i runs on instance i of the host, of which so many more are rented as it takes: its `count` is what is rented at
least. Costs and utilizations that `check` shows are with all replicas that there may be. Lowers to a gauge, the number
of replicas wanted and paid for, and a background workload.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import model_validator

from simulator.distributions import Constant
from simulator.model.distribution import DurationDistribution
from simulator.model.part import Duration, Factor, Instances, Part, PositiveDuration, Share
from simulator.program.instructions import Delay, End, Join, Jump, Scale
from simulator.program.program import Scaler, Users
from simulator.program.stations import capacity_of

if TYPE_CHECKING:
    from simulator.model.lowering import Lowering
    from simulator.model.site import Deployment


class Scaling(Part):
    """An autoscaler of a service's replicas."""

    metric: Literal["cpu", "workers", "queue"] = "cpu"
    """The mean utilization of the replicas' host CPUs, that of their workers, or requests that wait for a worker."""
    target: Factor
    """What the metric should be: a utilization, or waiting requests a replica."""
    least: Instances = 1
    """Fewest replicas."""
    most: Instances
    """Most replicas."""
    interval: PositiveDuration = 15.0
    """Time between looks."""
    start_up: DurationDistribution = DurationDistribution.model_validate("60 s")
    """Time from asking for a replica to its first request: seconds for a container on a machine that is there, 1 to 5
    minutes where a machine has to be started."""
    cool_down: Duration = 300.0
    """How long fewer have to be asked for before there are fewer."""
    tolerance: Share = 0.1
    """Relative difference from the target that changes nothing."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.least > self.most:
            raise ValueError(f"least: got {self.least}, expected at most what most says ({self.most})")
        if self.metric != "queue" and self.target > 1.0:
            raise ValueError(f"target: got {self.target:g}, expected a utilization of at most 100 %")
        return self

    def lower(self, lowering: Lowering, deployment: Deployment, gauge: int) -> None:
        """The scaler and the workload that lets it look."""
        builder, name = lowering.builder, f"services.{deployment.name}.scaling"
        waiting, stations = self.metric == "queue", deployment.loops
        if self.metric == "cpu":
            stations = tuple(dict.fromkeys(instance.cpu for instance in deployment.instances))
        unit = 1.0
        if not waiting:
            unit = sum(capacity_of(builder.stations[number]) for number in stations) / self.most
        scaler = builder.scaler(
            Scaler(
                gauge, deployment.balancer, stations, waiting, self.target * unit, self.tolerance, self.least,
                self.most, self.cool_down,
            )
        )  # fmt: skip

        def source() -> Users:
            return Users(1, builder.draw(Constant(self.interval), "interval"), builder.draw(Constant(0.0), "start"))

        def code() -> None:
            start, done = builder.label(), builder.label()
            register, _, counter = builder.register(), builder.register(), builder.register()
            builder.emit(Scale(scaler, start, register, counter))
            builder.emit(Jump(done))
            builder.mark(start)
            builder.emit(Delay(builder.component("start-up"), builder.draw(self.start_up.distribution(), "start-up")))
            builder.emit(Join(scaler, register))
            builder.emit(End())
            builder.mark(done)

        lowering.in_background(name, source, code)
