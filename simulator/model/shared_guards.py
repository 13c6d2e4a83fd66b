"""What the steps of a service share that call the same: a bulkhead, a circuit breaker, a retry budget.

A replica has one of them for each callee, as clients' libraries have one connection pool for a server, so two steps
that ask for one say the same. Works on the document as written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from simulator.model.checks import Finding, walk_steps
from simulator.model.document import dotted
from simulator.model.guard import Bulkhead, CircuitBreaker, RetryBudget, SharedPart
from simulator.model.guarded_step import GuardedStep
from simulator.model.step import STEPS, Place, verb_of

PARTS: dict[Place, tuple[str, type[SharedPart]]] = {
    ("bulkhead",): ("bulkhead", Bulkhead),
    ("circuit_breaker",): ("circuit breaker", CircuitBreaker),
    ("retries", "budget"): ("retry budget", RetryBudget),
}
"""What is shared by the fields of a step that it stands in: what it is called, and its class."""


def differing_guards(document: dict[Any, Any]) -> Iterator[Finding]:
    """Steps that say something else than the first one with which they share; the fields of the document are right."""
    for (service, callee, fields), written in _shared(document).items():
        noun, kind = PARTS[fields]
        (first, value), *others = written.items()
        expected = kind.model_validate(value)
        for place, other in others:
            got = kind.model_validate(other)
            if got.station("") != expected.station(""):
                yield place, _difference(service, callee, noun, dotted(first), got, expected), other


def same_elsewhere(document: Any, place: Place) -> list[Place]:
    """The places of the same thing as that at a place, in the steps that share it; none where what it says is wrong."""
    for (_, _, fields), written in _shared(document).items():
        kind = PARTS[fields][1]
        for part, value in written.items():
            within = place[len(part) :]
            if place[: len(part)] == part and _is_shared(kind, within) and _is_right(kind, value):
                return [(*other, *within) for other in written if other != part]
    return []


def _is_shared(kind: type[SharedPart], within: Place) -> bool:
    """Whether a place within such a part, or the whole of it, has nothing that each call has for itself."""
    return within[0] not in kind.of_each_call if within else not kind.of_each_call


def _is_right(kind: type[SharedPart], value: Any) -> bool:
    try:
        kind.model_validate(value)
    except ValidationError:
        return False
    return True


def _shared(document: Any) -> dict[tuple[str, str, Place], dict[Place, Any]]:
    """Everything shared, as written by those who share it, by service, callee and fields."""
    found: dict[tuple[str, str, Place], dict[Place, Any]] = {}
    for service, place, step in _steps(document):
        kind = STEPS.get(verb_of(step) or "")
        target = step.get(kind.verb) if kind is not None else None
        if kind is None or not issubclass(kind, GuardedStep) or not isinstance(target, str):
            continue
        for fields in PARTS:
            value = _at(step, fields)
            if value is not None:
                found.setdefault((service, kind.callee(target), fields), {})[(*place, *fields)] = value
    return found


def _steps(document: Any) -> Iterator[tuple[str, Place, dict[Any, Any]]]:
    """Every step of every service, with its name and the place of the step."""
    for service, spec in _items(_at(document, ("services",))):
        for place, step in walk_steps(_at(spec, ("authentication",)), ("services", service, "authentication")):
            yield service, place, step
        for operation, steps in _items(_at(spec, ("operations",))):
            for place, step in walk_steps(steps, ("services", service, "operations", operation)):
                yield service, place, step


def _items(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _at(value: Any, fields: Place) -> Any:
    """What stands in some fields within each other; None where there is no such thing."""
    for field in fields:
        value = value.get(field) if isinstance(value, dict) else None
    return value


def _difference(service: str, callee: str, noun: str, first: str, got: SharedPart, expected: SharedPart) -> str:
    ours, theirs = got.model_dump(mode="json"), expected.model_dump(mode="json")
    names = [name for name in ours if ours[name] != theirs[name] and name not in got.of_each_call]
    return (
        f"got {_listed(ours, names)}, expected {_listed(theirs, names)} as in {first}: the steps of {service!r} "
        f"share one {noun} for {callee!r}; to write it once, put '&shared' before the value there, and '*shared' here"
    )


def _listed(values: dict[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name}: {'nothing' if values[name] is None else values[name]}" for name in names)
