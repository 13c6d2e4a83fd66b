"""Locks: one request at a time, in the whole model, does the steps inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from simulator.distributions import Constant
from simulator.model.part import WholeNumber
from simulator.model.resource import Resource
from simulator.model.step import StepPart, lower_steps
from simulator.program.instructions import Place
from simulator.program.stations import Pool

if TYPE_CHECKING:
    from simulator.model.lowering import Lowering
    from simulator.model.site import Site
    from simulator.model.steps import Step


class LockResource(Resource):
    """A mutual exclusion, such as a hot row, a table lock or a serial section."""

    section: ClassVar[str] = "locks"
    noun: ClassVar[str] = "lock"
    names_alone: ClassVar[bool] = True

    queue_limit: WholeNumber | None = None
    """Requests that may wait for it; unlimited where left out."""

    def lower(self, lowering: Lowering, name: str) -> int:
        """A pool of one unit."""
        return lowering.builder.station(Pool(f"locks.{name}", 1.0, self.queue_limit))


class Lock(StepPart):
    """Do the steps while holding a lock, alone among all requests of the model."""

    verb: ClassVar[str] = "lock"
    references: ClassVar[dict[str, str]] = {"lock": "locks"}
    inner: ClassVar[tuple[str, ...]] = ("steps",)

    lock: str
    """Name of the lock."""
    steps: list[Step]
    """What is done."""

    def lower(self, site: Site) -> None:
        """A pool of one unit, held over the steps."""
        site.acquire(f"lock {self.lock}", Place((site.resource("locks", self.lock),)), Constant(1.0))
        lower_steps(self.steps, site)
        site.release()
