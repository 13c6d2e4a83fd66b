"""Steps: what every kind of step has in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from simulator.model.part import Part

if TYPE_CHECKING:
    from simulator.model.site import Site

STEPS: dict[str, type[StepPart]] = {}
"""The kinds of steps by verb, in the order in which they are defined."""
EXPECTED_STEP = (
    "expected a step: a verb such as compute, delay, read or call, and what it needs "
    "(tpsim schema services.operations has all verbs)"
)
Place = tuple[str | int, ...]


class StepPart(Part):
    """A piece of what an operation does; a subclass with a `verb` is a kind of step.

    Annotations may name `Step`, any step, which exists only when all kinds are known.
    """

    verb: ClassVar[str] = ""
    """The key that tells a step of this kind."""
    references: ClassVar[dict[str, str]] = {}
    """Fields that name a resource, and the section that it stands in."""
    targets: ClassVar[tuple[str, ...]] = ()
    """Fields that name an operation, as `service.operation`, which so becomes part of this one."""
    equipment: ClassVar[dict[str, str]] = {}
    """Fields that need a part of the host: its disk, nic or memory."""
    inner: ClassVar[tuple[str, ...]] = ()
    """Fields that are lists of steps."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Take the kind into the language."""
        if "verb" in cls.__dict__:
            STEPS[cls.verb] = cls

    @classmethod
    def needed_equipment(cls, step: dict[Any, Any]) -> dict[str, str]:
        """The fields of a step as written that need a part of the host."""
        return {field: part for field, part in cls.equipment.items() if step.get(field) is not None}

    @classmethod
    def inner_steps(cls, step: dict[Any, Any]) -> Iterator[tuple[Place, Any]]:
        """The lists of steps inside a step as written, which may be wrong, with where they stand in it."""
        for field in cls.inner:
            yield (field,), step.get(field)

    @classmethod
    def operations(cls, step: dict[Any, Any]) -> Iterator[tuple[Place, Any]]:
        """The operations that a step as written names, with where they stand in it."""
        for field in cls.targets:
            yield (field,), step.get(field)

    @classmethod
    def resources(cls, step: dict[Any, Any]) -> Iterator[tuple[Place, str, Any]]:
        """The resources that a step as written names: where they stand in it, their section, and the name."""
        for field, section in cls.references.items():
            yield (field,), section, step.get(field)

    @classmethod
    def streams(cls, step: dict[Any, Any], document: dict[Any, Any]) -> Iterator[str]:
        """Names under which results can be asked for the messages that a step, as written, publishes."""
        yield from ()

    def lower(self, site: Site) -> None:
        """Emit the step's instructions."""
        raise NotImplementedError


def verb_of(step: Any) -> str | None:
    """The verb of a step as written, None where it has none that is known."""
    if isinstance(step, StepPart):
        return step.verb
    if isinstance(step, dict):
        return next((verb for verb in STEPS if verb in step), None)
    return None


def lower_steps(steps: list[Any], site: Site) -> None:
    """Lower steps one after the other; a key that one of them picks is that of the steps after it."""
    with site.lowering.keys.within():
        for step in steps:
            step.lower(site)
