"""References between the parts of a model, checked on the document as written.

Works on plain data whose fields may be wrong in other ways, so that those are reported in the same breath.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

Place = tuple[str | int, ...]
Finding = tuple[Place, str, Any]

NAME = re.compile(r"[A-Za-z][\w-]*")
NAMED_SECTIONS = ("hosts", "services", "workloads", "caches", "locks", "externals")


def reference_problems(document: Any) -> list[Finding]:
    """Everything that names something that is not there, goes round in a circle, or has a name that cannot be."""
    if not isinstance(document, dict):
        return []
    return [
        *_bad_names(document),
        *_unknown_hosts(document),
        *_unknown_targets(document),
        *_unknown_metrics(document),
        *_call_cycles(document),
    ]


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _names(document: dict[Any, Any], section: str) -> list[str]:
    value = document.get(section)
    return [str(name) for name in (value if isinstance(value, (list, dict)) else ())]


def unknown(kind: str, name: Any, known: list[str]) -> str:
    """A message that names the nearest known name, or a few known ones."""
    close = get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known[:8]) or 'none'}"
    return f"no {kind} named {name!r}; {hint}"


def _bad_names(document: dict[Any, Any]) -> Iterator[Finding]:
    for section in NAMED_SECTIONS:
        for name in _names(document, section):
            if not NAME.fullmatch(name):
                yield (
                    (section, name),
                    "expected a name of letters, digits, - and _ that starts with a letter",
                    name,
                )
    for service, spec in _mapping(document.get("services")).items():
        for name in _mapping(_mapping(spec).get("operations")):
            if not NAME.fullmatch(str(name)):
                place = ("services", service, "operations", name)
                yield place, "expected a name of letters, digits, - and _ that starts with a letter", name


def _unknown_hosts(document: dict[Any, Any]) -> Iterator[Finding]:
    hosts = _names(document, "hosts")
    for name, service in _mapping(document.get("services")).items():
        host = _mapping(service).get("host")
        if isinstance(host, str) and host not in hosts:
            yield ("services", name, "host"), unknown("host", host, hosts), host


def _operations(document: dict[Any, Any]) -> dict[str, tuple[Place, list[Any]]]:
    """Steps of every `service.operation`, with where they stand."""
    return {
        f"{service}.{operation}": (("services", service, "operations", operation), _list(steps))
        for service, spec in _mapping(document.get("services")).items()
        for operation, steps in _mapping(_mapping(spec).get("operations")).items()
    }


def _walk(steps: Any, place: Place) -> Iterator[tuple[Place, dict[Any, Any]]]:
    """Every step, those inside other steps included."""
    for index, step in enumerate(_list(steps)):
        if not isinstance(step, dict):
            continue
        here = (*place, index)
        yield here, step
        for inner in ("steps", "hit", "miss"):
            yield from _walk(step.get(inner), (*here, inner))
        for number, option in enumerate(_list(step.get("choose"))):
            yield from _walk(_mapping(option).get("steps"), (*here, "choose", number, "steps"))
        for number, branch in enumerate(_list(step.get("parallel"))):
            yield from _walk(branch, (*here, "parallel", number))


NEEDS = {
    "read": "disk",
    "write": "disk",
    "transfer": "nic",
    "hold": "memory",
    "request": "nic",
    "response": "nic",
}
NAMED = {"lookup": ("cache", "caches"), "lock": ("lock", "locks"), "external": ("external API", "externals")}


def _unknown_targets(document: dict[Any, Any]) -> Iterator[Finding]:
    operations = _operations(document)
    for target, (place, steps) in operations.items():
        equipment = _equipment(document, target.partition(".")[0])
        for here, step in _walk(steps, place):
            yield from _step_problems(document, here, step, list(operations), equipment)
    for name, workload in _mapping(document.get("workloads")).items():
        operation = _mapping(workload).get("operation")
        if isinstance(operation, str) and operation not in operations:
            yield (
                ("workloads", name, "operation"),
                unknown("operation", operation, list(operations)),
                operation,
            )
        for target in _mapping(_mapping(workload).get("mix")):
            if target not in operations:
                yield (
                    ("workloads", name, "mix", target),
                    unknown("operation", target, list(operations)),
                    target,
                )


def _equipment(document: dict[Any, Any], service: str) -> tuple[str, set[str]] | None:
    """Name of a service's host and what it has; None where the host is unknown."""
    host = _mapping(_mapping(document.get("services")).get(service)).get("host")
    spec = _mapping(document.get("hosts")).get(host) if isinstance(host, str) else None
    if not isinstance(spec, dict):
        return None
    return str(host), {part for part in ("disk", "nic", "memory") if spec.get(part) is not None}


def _step_problems(
    document: dict[Any, Any],
    place: Place,
    step: dict[Any, Any],
    operations: list[str],
    equipment: tuple[str, set[str]] | None,
) -> Iterator[Finding]:
    for verb in ("call", "publish"):
        target = step.get(verb)
        if isinstance(target, str) and target not in operations:
            yield (*place, verb), unknown("operation", target, operations), target
    for verb, (kind, section) in NAMED.items():
        name = step.get(verb)
        if isinstance(name, str) and name not in _names(document, section):
            yield (*place, verb), unknown(kind, name, _names(document, section)), name
    for verb, part in NEEDS.items():
        if step.get(verb) is not None and equipment is not None and part not in equipment[1]:
            yield (*place, verb), f"host {equipment[0]!r} has no {part}, which this step needs", step[verb]


def _unknown_metrics(document: dict[Any, Any]) -> Iterator[Finding]:
    workloads = _names(document, "workloads")
    for index, text in enumerate(_list(document.get("objectives"))):
        workload, colon, _ = str(text).partition(":")
        if colon and workload.strip() not in workloads:
            yield ("objectives", index), unknown("workload", workload.strip(), workloads), text


def _call_cycles(document: dict[Any, Any]) -> Iterator[Finding]:
    """Each step that closes a circle of calls or messages, found depth first."""
    operations = _operations(document)
    finished: set[str] = set()
    for start in operations:
        yield from _cycles_from(start, [], operations, finished)


def _cycles_from(
    operation: str, path: list[str], operations: dict[str, tuple[Place, list[Any]]], finished: set[str]
) -> Iterator[Finding]:
    if operation in finished:
        return
    place, steps = operations[operation]
    for here, step in _walk(steps, place):
        for verb in ("call", "publish"):
            target = step.get(verb)
            if not isinstance(target, str) or target not in operations:
                continue
            chain = [*path, operation]
            if target in chain:
                circle = [*chain[chain.index(target) :], target]
                yield (*here, verb), f"calls go round in a circle: {' -> '.join(circle)}", target
            else:
                yield from _cycles_from(target, chain, operations, finished)
    finished.add(operation)
