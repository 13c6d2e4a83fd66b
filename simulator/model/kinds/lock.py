"""Locks: one request at a time, in the whole model, does the steps inside; or one at a time for each key.

A step that locks with a `key` waits only for those that hold the same key: row locks. A hot row, that most requests
update, is so a queue of its own: it saturates at 1 / (its share of the requests * the time it is held). The lock of
one key and the lock without a key do not exclude each other.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from simulator.distributions import Constant
from simulator.model.keys import KeyUse
from simulator.model.part import WholeNumber
from simulator.model.resource import Resource
from simulator.model.step import StepPart, lower_steps
from simulator.program.builder import Builder
from simulator.program.instructions import AcquireKey, Place
from simulator.program.stations import KeyedLocks, Pool

if TYPE_CHECKING:
    from simulator.model.lowering import Lowering
    from simulator.model.site import Site
    from simulator.model.steps import Step


class LockStations:
    """A lock without a key, and locks of keys, made when a step asks for them."""

    def __init__(self, builder: Builder, resource: str, queue_limit: int | None) -> None:
        self.builder = builder
        self.resource = resource
        self.queue_limit = queue_limit
        self.whole = Place((builder.station(Pool(resource, 1.0, queue_limit)),))

    @cached_property
    def of_keys(self) -> Place:
        """The locks of keys."""
        return Place((self.builder.station(KeyedLocks(f"{self.resource}.keys", 1, self.queue_limit)),))


class LockResource(Resource):
    """A mutual exclusion, such as a hot row, a table lock or a serial section; or one for every key."""

    section: ClassVar[str] = "locks"
    noun: ClassVar[str] = "lock"
    names_alone: ClassVar[bool] = True

    queue_limit: WholeNumber | None = None
    """Requests that may wait for it (for the same key of it); unlimited where left out."""

    def lower(self, lowering: Lowering, name: str) -> LockStations:
        """A pool of one unit, and where a step locks a key, the locks of keys."""
        return LockStations(lowering.builder, f"locks.{name}", self.queue_limit)


class Lock(StepPart):
    """Do the steps while holding a lock, alone among all requests of the model, or among those for the same key."""

    verb: ClassVar[str] = "lock"
    references: ClassVar[dict[str, str]] = {"lock": "locks", "key": "keys"}
    inner: ClassVar[tuple[str, ...]] = ("steps",)

    lock: str
    """Name of the lock."""
    key: KeyUse | None = None
    """Lock this key only."""
    steps: list[Step]
    """What is done."""

    def lower(self, site: Site) -> None:
        """A pool of one unit, or that of a key, held over the steps."""
        lock = site.resource("locks", self.lock)
        part = f"lock {self.lock}"
        if self.key is None:
            site.acquire(part, lock.whole, Constant(1.0))
        else:
            register = self.key.register(site, self.lock)
            site.builder.emit(AcquireKey(lock.of_keys, site.component(part), register))
        lower_steps(self.steps, site)
        site.release()
