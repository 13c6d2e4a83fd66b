"""Steps: what an operation does, in order. Each step has one verb and lowers itself to instructions."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from simulator.distributions import Constant
from simulator.model.call import Call, ExternalCall, Publish
from simulator.model.distribution import (
    CountDistribution,
    DurationDistribution,
    KeySpec,
    SizeDistribution,
)
from simulator.model.part import Count, Part, Share
from simulator.program.instructions import DrawInto, End, Fail, Fork, Insert, Jump, Lookup, Place

if TYPE_CHECKING:
    from simulator.model.site import Site

TOLERANCE = 1e-6


class Compute(Part):
    """Use the CPU: seconds of one core of speed 1."""

    compute: DurationDistribution
    """Core time."""

    def lower(self, site: Site) -> None:
        """An event loop or thread does the work on a core that it shares with the others."""
        service = site.deployment.service
        event_loop = service.worker_model == "event_loop" and service.workers is not None
        if event_loop:
            site.acquire("workers", site.spread(site.deployment.loops), Constant(1.0))
        site.work("cpu", site.place(lambda host: host.cpu), self.compute.distribution())
        if event_loop:
            site.release()


class Delay(Part):
    """Let time pass without using anything."""

    delay: DurationDistribution
    """How long."""
    name: str = "delay"
    """What the time is accounted to."""

    def lower(self, site: Site) -> None:
        """A delay."""
        site.delay(self.name, self.delay.distribution())


class _DiskAccess(Part):
    times: CountDistribution | None = None
    """How many operations of this size, one after the other; 1 where left out."""

    def _lower(self, site: Site, size: SizeDistribution) -> None:
        if self.times is None:
            self._access(site, size)
            return
        with site.builder.repeat(self.times.distribution()):
            self._access(site, size)

    def _access(self, site: Site, size: SizeDistribution) -> None:
        disk = site.lowering.disk_of(site)
        site.work("disk", site.place(lambda host: host.disk.channels), disk.operation_time())  # type: ignore[union-attr]
        if disk.bandwidth is not None:
            place = site.place(lambda host: host.disk.bytes)  # type: ignore[union-attr,return-value,arg-type]
            site.work("disk bandwidth", place, size.distribution())


class Read(_DiskAccess):
    """Read from the host's disk."""

    read: SizeDistribution
    """Bytes of one operation."""

    def lower(self, site: Site) -> None:
        """One operation in a channel of the disk, then its bytes over the disk's bandwidth."""
        self._lower(site, self.read)


class Write(_DiskAccess):
    """Write to the host's disk."""

    write: SizeDistribution
    """Bytes of one operation."""

    def lower(self, site: Site) -> None:
        """One operation in a channel of the disk, then its bytes over the disk's bandwidth."""
        self._lower(site, self.write)


class Transfer(Part):
    """Send bytes over the host's NIC (to somebody outside the model), or receive them."""

    transfer: SizeDistribution
    """Bytes of payload."""
    direction: Literal["out", "in"] = "out"
    """Out of the host, or into it."""

    def lower(self, site: Site) -> None:
        """The bytes share the NIC's bandwidth with all other transfers of that direction."""
        site.lowering.transfer(site, self.transfer, self.direction)


class Option(Part):
    """One way to go on."""

    probability: Share
    """Probability of this way; all ways sum to 1."""
    steps: list[Step] = Field(default_factory=list)
    """What is done then."""


class Choose(Part):
    """Go on in one of several ways, by probability."""

    choose: list[Option] = Field(min_length=1)
    """The ways."""

    @field_validator("choose")
    @classmethod
    def _sums_to_one(cls, options: list[Option]) -> list[Option]:
        total = sum(option.probability for option in options)
        if abs(total - 1.0) > TOLERANCE:
            raise ValueError(f"the probabilities sum to {total:.6g}, expected 1")
        return options

    def lower(self, site: Site) -> None:
        """A random jump over the options."""
        builder = site.builder
        done = builder.label()
        with builder.choice(tuple(option.probability for option in self.choose)) as targets:
            for target, option in zip(targets, self.choose, strict=True):
                builder.mark(target)
                lower_steps(option.steps, site)
                builder.emit(Jump(done))
        builder.mark(done)


class Parallel(Part):
    """Do several lists of steps at the same time and go on when enough of them are done."""

    parallel: list[list[Step]] = Field(min_length=1)
    """A list of steps for each branch."""
    need: Count | None = None
    """How many branches must be done; all where left out. A quorum, or 1 for the first of several."""
    unfinished: Literal["cancel", "continue"] = "cancel"
    """What becomes of the other branches then."""

    @model_validator(mode="after")
    def _can_have_enough(self) -> Self:
        if self.need is not None and self.need > len(self.parallel):
            raise ValueError(f"needs {self.need} branches, expected at most the {len(self.parallel)} that there are")
        return self

    def lower(self, site: Site) -> None:
        """A fork; every branch is code of its own."""
        builder = site.builder
        targets, done = [builder.label() for _ in self.parallel], builder.label()
        detach = self.unfinished == "continue" and self.need is not None
        counter = builder.counter() if detach else -1
        builder.emit(Fork(tuple(targets), self.need or len(targets), detach, counter))
        builder.emit(Jump(done))
        for number, (target, steps) in enumerate(zip(targets, self.parallel, strict=True)):
            builder.mark(target)
            with builder.within(f"branch {number}"), builder.detached() if detach else nullcontext():
                lower_steps(steps, site)
            builder.emit(End())
        builder.mark(done)


class Repeat(Part):
    """Do the steps several times, one after the other."""

    repeat: CountDistribution
    """How often; a drawn number is rounded."""
    steps: list[Step]
    """What is done."""

    def lower(self, site: Site) -> None:
        """A loop with a counter."""
        with site.builder.repeat(self.repeat.distribution()):
            lower_steps(self.steps, site)


class Lock(Part):
    """Do the steps while holding a lock, alone among all requests of the model."""

    lock: str
    """Name of the lock."""
    steps: list[Step]
    """What is done."""

    def lower(self, site: Site) -> None:
        """A pool of one unit, held over the steps."""
        site.acquire(f"lock {self.lock}", Place((site.lowering.locks[self.lock],)), Constant(1.0))
        lower_steps(self.steps, site)
        site.release()


class Hold(Part):
    """Do the steps while holding memory of the host."""

    hold: SizeDistribution
    """Bytes held."""
    steps: list[Step]
    """What is done."""

    def lower(self, site: Site) -> None:
        """Bytes of the memory pool, held over the steps."""
        site.acquire("memory", site.place(lambda host: host.memory), self.hold.distribution())  # type: ignore[arg-type,return-value]
        lower_steps(self.steps, site)
        site.release()


class LookupStep(Part):
    """Look a key up in a cache; a miss does its steps and then puts the key in."""

    lookup: str
    """Name of the cache."""
    key: KeySpec
    """Which key is looked up."""
    hit: list[Step] = Field(default_factory=list)
    """What is done where the key is there."""
    miss: list[Step] = Field(default_factory=list)
    """What is done where it is not, before it is put in."""

    def lower(self, site: Site) -> None:
        """A lookup in a store, which itself takes no time."""
        builder = site.builder
        register, miss, done = builder.register(), builder.label(), builder.label()
        place = Place((site.lowering.caches[self.lookup],))
        builder.emit(DrawInto(register, builder.draw(self.key.distribution(), f"key {self.lookup}")))
        builder.emit(Lookup(place, register, miss))
        lower_steps(self.hit, site)
        builder.emit(Jump(done))
        builder.mark(miss)
        lower_steps(self.miss, site)
        builder.emit(Insert(place, register))
        builder.mark(done)


class FailStep(Part):
    """Fail with a reason of your own; what encloses it may retry, else the request fails."""

    fail: str
    """The reason."""

    def lower(self, site: Site) -> None:
        """A failure."""
        site.builder.emit(Fail(site.builder.reason(self.fail)))


class Use(Part):
    """Be served by a SimPy process of the user's own, given to `simulate(processes=...)` under this name."""

    use: str
    """Name of the process."""
    demand: DurationDistribution = DurationDistribution(constant=0.0)
    """What the process is told as `job.amount`."""

    def lower(self, site: Site) -> None:
        """A visit of an external station."""
        site.work(self.use, Place((site.lowering.process(self.use),)), self.demand.distribution())


KINDS: dict[str, type[Part]] = {
    "compute": Compute, "delay": Delay, "read": Read, "write": Write, "transfer": Transfer, "call": Call,
    "external": ExternalCall, "publish": Publish, "choose": Choose, "parallel": Parallel, "repeat": Repeat,
    "lock": Lock, "hold": Hold, "lookup": LookupStep, "fail": FailStep, "use": Use,
}  # fmt: skip


def verb_of(step: Any) -> str | None:
    """The verb of a step as written, None where it has none that is known."""
    if isinstance(step, Part):
        return next((verb for verb, kind in KINDS.items() if type(step) is kind), None)
    if isinstance(step, dict):
        return next((verb for verb in KINDS if verb in step), None)
    return None


Step = Annotated[
    Annotated[Compute, Tag("compute")]
    | Annotated[Delay, Tag("delay")]
    | Annotated[Read, Tag("read")]
    | Annotated[Write, Tag("write")]
    | Annotated[Transfer, Tag("transfer")]
    | Annotated[Call, Tag("call")]
    | Annotated[ExternalCall, Tag("external")]
    | Annotated[Publish, Tag("publish")]
    | Annotated[Choose, Tag("choose")]
    | Annotated[Parallel, Tag("parallel")]
    | Annotated[Repeat, Tag("repeat")]
    | Annotated[Lock, Tag("lock")]
    | Annotated[Hold, Tag("hold")]
    | Annotated[LookupStep, Tag("lookup")]
    | Annotated[FailStep, Tag("fail")]
    | Annotated[Use, Tag("use")],
    Discriminator(
        verb_of,
        custom_error_type="step",
        custom_error_message=f"expected a step with one of the verbs {', '.join(KINDS)}",
    ),
]

for kind in (Option, Choose, Parallel, Repeat, Lock, Hold, LookupStep):
    kind.model_rebuild()


def lower_steps(steps: list[Step], site: Site) -> None:
    """Lower steps one after the other."""
    for step in steps:
        step.lower(site)
