"""Resources: what every kind of named resource has in common, and the kinds that there are.

A kind is one file in `simulator.model.kinds`, found by its being there: a class of this sort, which gives a model its
section, says what can be set, and lowers itself; and the steps that use it (`simulator.model.step`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, ClassVar

from simulator.model import kinds
from simulator.model.part import Part

if TYPE_CHECKING:
    from simulator.model.host import Host
    from simulator.model.lowering import Lowering
    from simulator.model.memory import ServiceMemory

Finding = tuple[tuple[str | int, ...], str, Any]
"""Where in a resource something is wrong, what, and what stands there."""


class Resource(Part):
    """Something that models have any number of, by name."""

    section: ClassVar[str]
    """The section of a model that has them by name."""
    noun: ClassVar[str]
    """What one of them is called in messages."""
    names_alone: ClassVar[bool] = False
    """Whether a list of names will do for the section."""

    references: ClassVar[dict[str, str]] = {}
    """Fields that name a host or a resource, and the section that it stands in."""
    members: ClassVar[str] = ""
    """A field with names that steps add to that of the resource, as in `database.table`."""

    @classmethod
    def problems(cls, resource: dict[Any, Any], document: dict[Any, Any]) -> Iterator[Finding]:
        """What is wrong with a resource as written in view of the rest of the model; parts of both may be wrong."""
        yield from ()

    @property
    def stationary(self) -> bool:
        """Whether it behaves in the same way for ever."""
        return True

    def crashes(self, hosts: Mapping[str, Host]) -> list[str]:
        """Names of the hosts that it brings down."""
        return []

    @property
    def cycle(self) -> float:
        """Seconds in which it goes once through its states, which a run must see several times; 0 where it has none."""
        return 0.0

    @property
    def cost_per_hour(self) -> float:
        """Price, in USD an hour; 0 where it has none."""
        return 0.0

    @property
    def unpriced(self) -> str:
        """The field of what it rents and nobody said the price of; empty where there is none."""
        return ""

    def held_memory(self) -> tuple[tuple[str, ...], str, ServiceMemory | None, int | None] | None:
        """What it holds of a host's memory: the field that says so, the host, what, and how many replicas do (one each
        instance where None)."""
        return None

    @classmethod
    def host_needs(cls, spec: dict[Any, Any]) -> Iterator[tuple[str, str, int]]:
        """What one, as written, asks of its `host`: the field that asks, the equipment ('' for none), how many."""
        yield from ()

    @classmethod
    def operations(cls, spec: dict[Any, Any]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
        """The operations that one, as written, starts for those who use it, with where they stand in it."""
        yield from ()

    def lower(self, lowering: Lowering, name: str) -> Any:
        """What its steps need: numbers of stations, as a rule. Hosts and services are lowered before."""
        raise NotImplementedError


def _discovered() -> dict[str, type[Resource]]:
    """The kinds by section, in the order of the alphabet."""
    for module in iter_modules(kinds.__path__, f"{kinds.__name__}."):
        import_module(module.name)
    found = {kind.section: kind for kind in Resource.__subclasses__()}
    return dict(sorted(found.items()))


RESOURCES: dict[str, type[Resource]] = {}
"""Filled by `discover`, once all that kinds are made of can be imported."""


def discover() -> dict[str, type[Resource]]:
    """Import every kind; idempotent."""
    if not RESOURCES:
        RESOURCES.update(_discovered())
    return RESOURCES
