"""Calls of another service, and messages that nobody waits for."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from simulator.model.guarded_step import GuardedStep
from simulator.model.message import Messages
from simulator.model.part import Count
from simulator.model.step import StepPart

if TYPE_CHECKING:
    from simulator.model.site import Site


class Call(GuardedStep, Messages):
    """Call an operation of another service (or another operation of this one) and wait for its end."""

    verb: ClassVar[str] = "call"
    targets: ClassVar[tuple[str, ...]] = ("call",)
    equipment: ClassVar[dict[str, str]] = {"request": "nic", "response": "nic"}

    call: str
    """`service.operation`."""

    def lower(self, site: Site) -> None:
        """The operation's code, in place."""
        with site.builder.within(f"call {self.call}"):
            self.guard(site, self.callee(self.call), lambda: site.lowering.call(self.call, caller=site, messages=self))


class Scatter(StepPart):
    """Call an operation at all replicas of a service at once, and go on when enough of them have answered.

    All of them: a query across shards. R or W of N: a quorum, whose time is the R-th or W-th fastest answer's.
    """

    verb: ClassVar[str] = "scatter"
    targets: ClassVar[tuple[str, ...]] = ("scatter",)

    scatter: str
    """`service.operation`."""
    need: Count | None = None
    """How many replicas must have answered; all where left out."""
    unfinished: Literal["cancel", "continue"] = "continue"
    """What becomes of the others then: a quorum's writes go on."""

    def lower(self, site: Site) -> None:
        """A fork with a branch for every replica."""
        builder, lowering = site.builder, site.lowering
        replicas = len(lowering.deployments[self.scatter.partition(".")[0]].instances)
        need = min(self.need or replicas, replicas)
        detach = need < replicas and self.unfinished == "continue"
        branches = [partial(lowering.call, self.scatter, caller=site, replica=number) for number in range(replicas)]
        builder.fork(branches, "replica", need, detach)
