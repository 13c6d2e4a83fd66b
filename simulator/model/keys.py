"""Keys of a request: which product, customer or row it is about, drawn once and shared by the steps that name it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import model_validator

from simulator.distributions import Discrete, Zipf
from simulator.model.distribution import KeySpec
from simulator.program.instructions import DrawInto

if TYPE_CHECKING:
    from simulator.model.lowering import Lowering
    from simulator.model.site import Site


class RequestKeys:
    """The registers of named keys while a workload's code is emitted.

    A request draws a key once, at its very beginning, if any of its steps names it; a step may pick another one,
    which is that of the steps after it in its list, and of all that is inside of them or called by them.
    """

    def __init__(self, lowering: Lowering) -> None:
        self.lowering = lowering
        self._of_request: dict[str, tuple[int, Zipf | Discrete]] = {}
        self._picked: dict[str, int] = {}

    def distribution(self, name: str) -> Zipf | Discrete:
        """The popularity of the keys of that name."""
        kind: Any = self.lowering.system.resources("keys")[name]
        distribution: Zipf | Discrete = kind.distribution()
        return distribution

    def register(self, name: str) -> int:
        """The register of the key of that name."""
        return self._picked[name] if name in self._picked else self.drawn(name, self.distribution(name))

    def drawn(self, name: str, distribution: Zipf | Discrete) -> int:
        """The register of what is drawn under that name at the beginning of the request."""
        if name not in self._of_request:
            self._of_request[name] = self.lowering.builder.register(), distribution
        return self._of_request[name][0]

    def pick(self, name: str) -> None:
        """Emit the drawing of another key of that name."""
        builder = self.lowering.builder
        register = builder.register()
        builder.emit(DrawInto(register, builder.draw(self.distribution(name), f"key {name}")))
        self._picked[name] = register

    @contextmanager
    def within(self) -> Iterator[None]:
        """What is picked inside holds inside."""
        outside = dict(self._picked)
        try:
            yield
        finally:
            self._picked = outside

    @contextmanager
    def of_a_request(self) -> Iterator[None]:
        """The code of one operation of a workload, before which the keys that it names are drawn."""
        builder = self.lowering.builder
        self._of_request = {}
        with builder.preceded() as first:
            yield
            for name, (register, distribution) in self._of_request.items():
                draw = builder.draw(distribution, f"key {name}")
                first.append(DrawInto(register, draw))


class KeyUse(KeySpec):
    """Which key a step asks for: the name of one of the model's keys, the request's own, or a fresh one each time."""

    bare: ClassVar[str | None] = "name"

    name: str | None = None
    """Name of one of the keys; `key: product` is short for `key: {name: product}`."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [field for field in ("name", "uniform", "zipf", "observed") if getattr(self, field) is not None]
        if len(given) != 1:
            raise ValueError("expected the name of a key, or exactly one of uniform, zipf, observed")
        return self

    def register(self, site: Site, purpose: str) -> int:
        """The register that the key is in; a fresh one is drawn into it."""
        if self.name is not None:
            return site.lowering.keys.register(self.name)
        builder = site.builder
        register = builder.register()
        builder.emit(DrawInto(register, builder.draw(self.distribution(), f"key {purpose}")))
        return register
