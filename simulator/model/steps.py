"""Steps: what an operation does, in order. Each step has one verb and lowers itself to instructions.

Here are the steps that use a service's own host, and those that hold other steps. Those that use a named resource
stand beside it, in `simulator.model.kinds`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial, reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from simulator.distributions import Distribution
from simulator.model import call as _calls  # takes their steps into the language  # noqa: F401
from simulator.model import generate as _generation  # the same  # noqa: F401
from simulator.model import mcp as _tools  # the same  # noqa: F401
from simulator.model.distribution import CountDistribution, DurationDistribution, SizeDistribution
from simulator.model.growth import Growth
from simulator.model.memory import take_memory
from simulator.model.part import Count, Part, Share
from simulator.model.resource import discover
from simulator.model.step import EXPECTED_STEP, STEPS, Place, StepPart, lower_steps, verb_of
from simulator.program.instructions import Fail, Jump

if TYPE_CHECKING:
    from simulator.model.site import Site

TOLERANCE = 1e-6


class Compute(StepPart):
    """Use the CPU: seconds of one core of speed 1."""

    verb: ClassVar[str] = "compute"

    compute: DurationDistribution
    """Core time."""
    growth: Growth | None = None
    """How it grows with the data; it does not where left out."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        self.time()
        return self

    def time(self) -> Distribution:
        """Core time with the data as they are; raises ValueError where there is no such thing."""
        measured = self.compute.distribution()
        return measured if self.growth is None else measured.scaled(self.growth.factor())

    def lower(self, site: Site) -> None:
        """An event loop or thread does the work on a core that it shares with the others."""
        site.compute("cpu", self.time())


class Block(StepPart):
    """Do the steps without letting go of the event loop: what blocks, such as a synchronous call in it, stalls it.

    A thread waits with its request anyway. A call of the service itself inside may wait for the loop that it holds.
    """

    verb: ClassVar[str] = "block"
    inner: ClassVar[tuple[str, ...]] = ("block",)

    block: list[Step]
    """What is done."""

    def lower(self, site: Site) -> None:
        """The event loop, held over the steps."""
        if not site.takes_loop:
            lower_steps(self.block, site)
            return
        site.take_loop()
        lower_steps(self.block, replace(site, blocked=True))
        site.release()


class Move(StepPart):
    """Move bytes between the cores and the memory; a core that only does this is not counted as busy."""

    verb: ClassVar[str] = "move"
    equipment: ClassVar[dict[str, str]] = {"move": "memory"}

    move: SizeDistribution
    """Bytes."""

    def lower(self, site: Site) -> None:
        """The bytes share the memory's bandwidth with all others that are moved; no time where it is not given."""
        if site.deployment.instances[0].memory_bandwidth is None:
            return
        if site.takes_loop:
            site.take_loop()
        place = site.place(lambda host: host.memory_bandwidth)  # type: ignore[arg-type,return-value]
        site.work("memory bandwidth", place, self.move.distribution())
        if site.takes_loop:
            site.release()


class Delay(StepPart):
    """Let time pass without using anything."""

    verb: ClassVar[str] = "delay"

    delay: DurationDistribution
    """How long."""
    name: str = "delay"
    """What the time is accounted to."""

    def lower(self, site: Site) -> None:
        """A delay."""
        site.delay(self.name, self.delay.distribution())


class Transfer(StepPart):
    """Send bytes over the host's NIC (to somebody outside the model), or receive them."""

    verb: ClassVar[str] = "transfer"
    equipment: ClassVar[dict[str, str]] = {"transfer": "nic"}

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


class Choose(StepPart):
    """Go on in one of several ways, by probability."""

    verb: ClassVar[str] = "choose"

    choose: list[Option] = Field(min_length=1)
    """The ways."""

    @classmethod
    def inner_steps(cls, step: dict[Any, Any]) -> Iterator[tuple[Place, Any]]:
        """The steps of every option."""
        options = step.get("choose")
        for number, option in enumerate(options if isinstance(options, list) else []):
            if isinstance(option, dict):
                yield ("choose", number, "steps"), option.get("steps")

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


class Parallel(StepPart):
    """Do several lists of steps at the same time and go on when enough of them are done."""

    verb: ClassVar[str] = "parallel"

    parallel: list[list[Step]] = Field(min_length=1)
    """A list of steps for each branch."""
    need: Count | None = None
    """How many branches must be done; all where left out. A quorum, or 1 for the first of several."""
    unfinished: Literal["cancel", "continue"] = "cancel"
    """What becomes of the other branches then."""

    @classmethod
    def inner_steps(cls, step: dict[Any, Any]) -> Iterator[tuple[Place, Any]]:
        """The branches."""
        branches = step.get("parallel")
        for number, branch in enumerate(branches if isinstance(branches, list) else []):
            yield ("parallel", number), branch

    @model_validator(mode="after")
    def _can_have_enough(self) -> Self:
        if self.need is not None and self.need > len(self.parallel):
            raise ValueError(f"needs {self.need} branches, expected at most the {len(self.parallel)} that there are")
        return self

    def lower(self, site: Site) -> None:
        """A fork; every branch is code of its own."""
        detach = self.unfinished == "continue" and self.need is not None
        branches = [partial(lower_steps, steps, site) for steps in self.parallel]
        site.builder.fork(branches, "branch", self.need, detach)


class Repeat(StepPart):
    """Do the steps several times, one after the other."""

    verb: ClassVar[str] = "repeat"
    inner: ClassVar[tuple[str, ...]] = ("steps",)

    repeat: CountDistribution
    """How often; a drawn number is rounded."""
    steps: list[Step]
    """What is done."""

    def lower(self, site: Site) -> None:
        """A loop with a counter."""
        with site.builder.repeat(self.repeat.distribution()):
            lower_steps(self.steps, site)


class Hold(StepPart):
    """Do the steps while holding memory of the host."""

    verb: ClassVar[str] = "hold"
    equipment: ClassVar[dict[str, str]] = {"hold": "memory"}
    inner: ClassVar[tuple[str, ...]] = ("steps",)

    hold: SizeDistribution
    """Bytes held."""
    steps: list[Step]
    """What is done."""

    def lower(self, site: Site) -> None:
        """Bytes of the memory pool, held over the steps."""
        take_memory(site, self.hold.distribution())
        lower_steps(self.steps, site)
        site.release()


class FailStep(StepPart):
    """Fail with a reason of your own; what encloses it may retry, else the request fails."""

    verb: ClassVar[str] = "fail"

    fail: str
    """The reason."""

    def lower(self, site: Site) -> None:
        """A failure."""
        site.builder.emit(Fail(site.builder.reason(self.fail)))


discover()

if TYPE_CHECKING:
    Step = StepPart
else:
    Step = Annotated[
        reduce(or_, (Annotated[kind, Tag(verb)] for verb, kind in STEPS.items())),
        Discriminator(
            verb_of,
            custom_error_type="step",
            custom_error_message=EXPECTED_STEP,
        ),
    ]

_kinds: list[type[Part]] = [Option, *STEPS.values()]
for each in _kinds:
    each.model_rebuild(_types_namespace={"Step": Step})
