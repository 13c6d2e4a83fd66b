"""Keys: which product, customer or row a request is about.

A key is drawn once for each request, by its popularity, and is the same for all steps that name it: the lookup in a
cache, the query that follows a miss, the lock of the row, the shard and the replica that its hash chooses. Keys are
numbered from 0, the most popular first. `pick` draws another one for the steps after it, as a loop over rows does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from simulator.model.distribution import KeySpec
from simulator.model.resource import Resource
from simulator.model.step import StepPart

if TYPE_CHECKING:
    from simulator.model.lowering import Lowering
    from simulator.model.site import Site


class Key(KeySpec, Resource):
    """What requests are about: one of `uniform: 1000` equally popular things, of `zipf: {count, exponent}`, or as
    `observed` in a log."""

    section: ClassVar[str] = "keys"
    noun: ClassVar[str] = "key"

    def lower(self, lowering: Lowering, name: str) -> None:
        """Nothing: the steps that name it draw it."""


class Pick(StepPart):
    """Go on with another key of a name: it is that of the steps after this one in its list, and of what they call."""

    verb: ClassVar[str] = "pick"
    references: ClassVar[dict[str, str]] = {"pick": "keys"}

    pick: str
    """Name of the key."""

    def lower(self, site: Site) -> None:
        """A drawing into a register of its own."""
        site.lowering.keys.pick(self.pick)
