"""Processes of the user's own: SimPy code that serves requests where no kind of resource does."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from simulator.model.distribution import DurationDistribution
from simulator.model.step import StepPart
from simulator.program.instructions import Place

if TYPE_CHECKING:
    from simulator.model.site import Site


class Use(StepPart):
    """Be served by a SimPy process of the user's own, given to `simulate(processes=...)` under this name."""

    verb: ClassVar[str] = "use"

    use: str
    """Name of the process."""
    demand: DurationDistribution = DurationDistribution(constant=0.0)
    """What the process is told as `job.amount`."""

    def lower(self, site: Site) -> None:
        """A visit of an external station."""
        site.work(self.use, Place((site.lowering.process(self.use),)), self.demand.distribution())
