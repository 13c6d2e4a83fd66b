"""External APIs: services outside the model, known by their latency only."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from simulator.distributions import Constant
from simulator.model.distribution import DurationDistribution
from simulator.model.guarded_step import GuardedStep
from simulator.model.part import Count, Share
from simulator.model.resource import Resource
from simulator.program.builder import Builder
from simulator.program.instructions import Acquire, Branch, Delay, Fail, Jump, Place, Release
from simulator.program.stations import Pool

if TYPE_CHECKING:
    from simulator.model.lowering import Lowering
    from simulator.model.site import Site


class ExternalApi(Resource):
    """A service outside the model, known by its latency only."""

    section: ClassVar[str] = "externals"
    noun: ClassVar[str] = "external API"

    latency: DurationDistribution
    """Time from the call to its answer."""
    failures: Share = 0.0
    """Share of the calls that fail, after the latency, with `external failure`."""
    concurrency: Count | None = None
    """Most calls that it serves at a time; the others wait."""

    def lower(self, lowering: Lowering, name: str) -> int | None:
        """The pool that bounds its concurrency."""
        if self.concurrency is None:
            return None
        return lowering.builder.station(Pool(f"externals.{name}", float(self.concurrency)))


class ExternalCall(GuardedStep):
    """Call an external API and wait for it."""

    verb: ClassVar[str] = "external"
    references: ClassVar[dict[str, str]] = {"external": "externals"}

    external: str
    """Name of the external API."""

    def lower(self, site: Site) -> None:
        """A delay, and a failure with the API's probability."""
        with site.builder.within(f"external {self.external}"):
            self.guard(site, self.callee(self.external), lambda: self._body(site))

    def _body(self, site: Site) -> None:
        builder, api = site.builder, site.lowering.system.resources("externals")[self.external]
        assert isinstance(api, ExternalApi)
        component = builder.component(f"external {self.external}")
        pool = site.resource("externals", self.external)
        if pool is not None:
            builder.emit(Acquire(Place((pool,)), component, builder.draw(Constant(1.0), "calls")))
        brown_out = site.lowering.brown_outs.get(self.external)
        scale = None if brown_out is None else brown_out.latency_factor
        builder.emit(Delay(component, builder.draw(api.latency.distribution(), "latency"), scale))
        if pool is not None:
            builder.emit(Release())
        if api.failures:
            self._maybe_fail(builder, api.failures)
        for gauge, failures in brown_out.failures if brown_out is not None else ():
            worse, done = builder.label(), builder.label()
            builder.emit(Branch(Place((gauge,)), 1.0, worse))
            builder.emit(Jump(done))
            builder.mark(worse)
            self._maybe_fail(builder, failures)
            builder.mark(done)

    @staticmethod
    def _maybe_fail(builder: Builder, probability: float) -> None:
        done = builder.label()
        with builder.choice((probability, 1.0 - probability)) as (fails, works):
            builder.mark(fails)
            builder.emit(Fail(builder.reason("external failure")))
            builder.mark(works)
        builder.mark(done)
