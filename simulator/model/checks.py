"""References between the parts of a model, checked on the document as written.

Works on plain data whose fields may be wrong in other ways, so that those are reported in the same breath.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from simulator.model.host import Host
from simulator.model.resource import RESOURCES
from simulator.model.step import STEPS, Place, StepPart, verb_of
from simulator.model.words import EXPECTED_NAME, NAME, nearest, unknown

Finding = tuple[Place, str, Any]
Calls = dict[str, list[tuple[Place, str]]]

REQUIRED = ("hosts", "services", "workloads")

MESSAGES = "messages."
MOST_FINDINGS = 300
"""More of them would help nobody, and looking for the nearest name takes time."""
MOST_LEVELS = 60
"""Calls within calls, and steps within steps, that a request may go down."""
MOST_CALLS = 100_000
"""Calls that one operation may make in all, those that its callees make included."""


def reference_problems(document: Any) -> list[Finding]:
    """Everything that names something that is not there, goes round in a circle, or has a name that cannot be."""
    if not isinstance(document, dict):
        return []
    calls = calls_of(document)
    circles = list(islice(_circles(calls), MOST_FINDINGS))
    findings = chain(
        _bad_names(document),
        _unknown_hosts(document),
        _resource_problems(document),
        _scaled_hosts(document),
        _unknown_in_resources(document),
        _unknown_keys_of_services(document),
        _unknown_targets(document),
        _unknown_metrics(document),
        circles or _too_many_calls(calls),
    )
    found = list(islice(findings, MOST_FINDINGS))
    if next(findings, None) is not None:
        found.append(((), f"there are more than {MOST_FINDINGS} such problems, the others are left out", None))
    return found


def _named_sections() -> tuple[str, ...]:
    return (*REQUIRED, *RESOURCES)


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _names(document: dict[Any, Any], section: str) -> dict[str, None] | None:
    """The names in a section; None where the section is itself wrong, which is reported elsewhere."""
    value = document.get(section, None if section in REQUIRED else {})
    if not isinstance(value, (list, dict)) or (section in REQUIRED and not value):
        return None
    return {str(name): None for name in value}


def _names_in_steps(document: dict[Any, Any], section: str) -> dict[str, None] | None:
    """The names by which steps may call what is in a section; None where that is itself wrong."""
    names, members = _names(document, section), RESOURCES[section].members
    if names is None or not members:
        return names
    resources = _mapping(document.get(section))
    return {f"{name}.{member}": None for name in names for member in _mapping(_mapping(resources[name]).get(members))}


def _bad_names(document: dict[Any, Any]) -> Iterator[Finding]:
    for section in _named_sections():
        for name in _mapping(document.get(section)):
            if not NAME.fullmatch(str(name)):
                yield (section, name), f"got the name {name!r}, {EXPECTED_NAME}", name
        for index, name in enumerate(_list(document.get(section))):
            if isinstance(name, str) and not NAME.fullmatch(name):
                yield (section, index), f"got the name {name!r}, {EXPECTED_NAME}", name
    for service, spec in _mapping(document.get("services")).items():
        for name in _mapping(_mapping(spec).get("operations")):
            if not NAME.fullmatch(str(name)):
                yield ("services", service, "operations", name), f"got the name {name!r}, {EXPECTED_NAME}", name


def _unknown_hosts(document: dict[Any, Any]) -> Iterator[Finding]:
    hosts = _names(document, "hosts")
    for name, service in _mapping(document.get("services")).items():
        host = _mapping(service).get("host")
        if isinstance(host, str) and hosts is not None and host not in hosts:
            yield ("services", name, "host"), unknown("host", host, hosts), host


def _scaled_hosts(document: dict[Any, Any]) -> Iterator[Finding]:
    """Hosts of which autoscaling would use fewer than are there, and also more: nobody knows what is rented then."""
    hosts = _mapping(document.get("hosts"))
    for name, service in _mapping(document.get("services")).items():
        host, scaling = _mapping(service).get("host"), _mapping(_mapping(service).get("scaling"))
        count = _mapping(hosts.get(host) if isinstance(host, str) else None).get("count", 1)
        least, most = scaling.get("least", 1), scaling.get("most")
        if all(isinstance(each, int) for each in (count, least, most)) and least < count < most:
            yield (
                ("services", name, "scaling", "most"),
                f"got {most}, but least is {least} and there are {count} of host {host!r}: expected a count of at most "
                "least (what is needed is rented), or of at least most (all are rented)",
                most,
            )


def _resource_problems(document: dict[Any, Any]) -> Iterator[Finding]:
    """Resources that name others which are not there, and what else they find wrong with the rest of the model."""
    nouns = {"hosts": "host", **{section: kind.noun for section, kind in RESOURCES.items()}}
    for section, kind in RESOURCES.items():
        for name, spec in _mapping(document.get(section)).items():
            for field, other in kind.references.items():
                wanted, known = _mapping(spec).get(field), _names(document, other)
                if isinstance(wanted, str) and known is not None and wanted not in known:
                    yield (section, name, field), unknown(nouns[other], wanted, known), wanted
            for where, message, value in kind.problems(_mapping(spec), document):
                yield (section, name, *where), message, value


def _unknown_in_resources(document: dict[Any, Any]) -> Iterator[Finding]:
    """Hosts that are not there or have too little, and operations that are not there."""
    hosts, operations = _names(document, "hosts"), _operations(document)
    for section, kind in RESOURCES.items():
        for name, spec in _mapping(document.get(section)).items():
            place = (section, name)
            host = _mapping(spec).get("host")
            if isinstance(host, str):
                for field, part, number in kind.host_needs(_mapping(spec)):
                    yield from _lacking_host(document, (*place, field), hosts, host, part, number)
            for where, target in kind.operations(_mapping(spec)) if operations else ():
                if isinstance(target, str) and target not in operations:
                    yield (*place, *where), unknown("operation", target, operations), target


def _lacking_host(
    document: dict[Any, Any], place: Place, hosts: dict[str, None] | None, host: str, part: str, number: int
) -> Iterator[Finding]:
    if hosts is not None and host not in hosts:
        if place[-1] == "host":
            yield place, unknown("host", host, hosts), host
        return
    spec = Host.completed(_mapping(document.get("hosts")).get(host))
    if not isinstance(spec, dict) or not Host.knows(spec.get("type")):
        return
    if part and spec.get(part) is None:
        yield place, f"host {host!r} has no {part}, expected one (hosts.{host}.{part})", None
    count = spec.get("count", 1)
    if isinstance(count, int) and number > count:
        yield place, f"got {number}, but there are {count} of host {host!r}: expected at most as many", number


def _unknown_keys_of_services(document: dict[Any, Any]) -> Iterator[Finding]:
    keys = _names(document, "keys")
    for name, service in _mapping(document.get("services")).items():
        per_client = _mapping(_mapping(_mapping(service).get("rate_limit")).get("per_client"))
        places: list[tuple[Place, Any]] = [(("rate_limit", "per_client", "key"), per_client.get("key"))]
        if _mapping(service).get("affinity") != "user":
            places.append((("affinity",), _mapping(service).get("affinity")))
        for place, key in places:
            if isinstance(key, str) and keys is not None and key not in keys:
                yield ("services", name, *place), unknown("key", key, keys), key


def all_steps(document: dict[Any, Any], target: str) -> Iterator[tuple[Place, dict[Any, Any]]]:
    """Every step that `service.operation` does, those before it included."""
    service, _, operation = target.partition(".")
    spec = _mapping(_mapping(document.get("services")).get(service))
    yield from walk_steps(spec.get("authentication"), ("services", service, "authentication"))
    steps = _mapping(spec.get("operations")).get(operation)
    yield from walk_steps(steps, ("services", service, "operations", operation))


def _operations(document: dict[Any, Any]) -> dict[str, tuple[Place, list[Any]]]:
    """Steps of every `service.operation`, with where they stand."""
    return {
        f"{service}.{operation}": (("services", service, "operations", operation), _list(steps))
        for service, spec in _mapping(document.get("services")).items()
        for operation, steps in _mapping(_mapping(spec).get("operations")).items()
    }


def walk_steps(steps: Any, place: Place) -> Iterator[tuple[Place, dict[Any, Any]]]:
    """Every step, those inside other steps included."""
    for index, step in enumerate(_list(steps)):
        if not isinstance(step, dict):
            continue
        here = (*place, index)
        yield here, step
        for where, inner in _kind(step).inner_steps(step):
            yield from walk_steps(inner, (*here, *where))


def _kind(step: dict[Any, Any]) -> type[StepPart]:
    return STEPS.get(verb_of(step) or "", StepPart)


def _unknown_targets(document: dict[Any, Any]) -> Iterator[Finding]:
    operations = _operations(document)
    if not operations:
        return
    names = {section: _names_in_steps(document, section) for section in RESOURCES}
    seen: set[Place] = set()
    for target in operations:
        equipment = _equipment(document, target.partition(".")[0])
        for here, step in all_steps(document, target):
            if here in seen:
                continue
            seen.add(here)
            yield from _unknown_in_step(here, step, operations, names)
            yield from _lacking_equipment(here, step, equipment)
    for name, workload in _mapping(document.get("workloads")).items():
        operation = _mapping(workload).get("operation")
        if isinstance(operation, str) and operation not in operations:
            yield ("workloads", name, "operation"), unknown("operation", operation, operations), operation
        for target in _mapping(_mapping(workload).get("mix")):
            if target not in operations:
                yield ("workloads", name, "mix", target), unknown("operation", target, operations), target


def _unknown_in_step(
    place: Place, step: dict[Any, Any], operations: dict[str, Any], names: dict[str, dict[str, None] | None]
) -> Iterator[Finding]:
    kind = _kind(step)
    for where, target in kind.operations(step):
        is_resource = where[0] in kind.references and "." not in str(target)
        if isinstance(target, str) and target not in operations and not is_resource:
            yield (*place, *where), unknown("operation", target, operations), target
    for where, section, name in kind.resources(step):
        known = names[section]
        if where[0] in kind.targets and isinstance(name, str) and "." in name:
            continue
        if isinstance(name, str) and known is not None and name not in known:
            yield (*place, *where), unknown(RESOURCES[section].noun, name, known), name


def _equipment(document: dict[Any, Any], service: str) -> tuple[str, set[str]] | None:
    """Name of a service's host and what it has; None where the host, or its type, is unknown."""
    host = _mapping(_mapping(document.get("services")).get(service)).get("host")
    written = _mapping(document.get("hosts")).get(host) if isinstance(host, str) else None
    spec = Host.completed(written)
    if not isinstance(spec, dict) or not Host.knows(spec.get("type")):
        return None
    return str(host), {part for part in ("disk", "nic", "memory") if spec.get(part) is not None}


def _lacking_equipment(place: Place, step: dict[Any, Any], equipment: tuple[str, set[str]] | None) -> Iterator[Finding]:
    for verb, part in _kind(step).needed_equipment(step).items():
        if equipment is not None and part not in equipment[1]:
            yield (
                (*place, verb),
                f"host {equipment[0]!r} has no {part}, expected one for this step (hosts.{equipment[0]}.{part})",
                step[verb],
            )


def _unknown_metrics(document: dict[Any, Any]) -> Iterator[Finding]:
    workloads = _names(document, "workloads")
    if workloads is None:
        return
    metrics: list[tuple[Place, Any]] = [
        (("objectives", index), next(iter(text.items())) if isinstance(text, dict) and len(text) == 1 else text)
        for index, text in enumerate(_list(document.get("objectives")))
    ]
    compare = _mapping(_mapping(document.get("measurements")).get("compare"))
    metrics += [(("measurements", "compare", column), text) for column, text in compare.items()]
    for place, text in metrics:
        name, given, _ = (text[0], ":", "") if isinstance(text, tuple) else str(text).partition(":")
        if given and isinstance(text, (str, tuple)) and name.strip() not in workloads:
            if name.strip().startswith(MESSAGES):
                streams = _streams(document)
                if name.strip().removeprefix(MESSAGES) not in streams:
                    yield place, unknown("messages", name.strip().removeprefix(MESSAGES), streams), text
            elif NAME.fullmatch(name.strip()):
                yield place, unknown("workload", name.strip(), workloads), text
            else:
                known = nearest(name.strip(), workloads, "known:")
                yield place, f"got {name.strip()!r}, expected the name of a workload before the colon; {known}", text


def _streams(document: dict[Any, Any]) -> dict[str, None]:
    """Names under which results can be asked for messages."""
    published = {
        stream: None
        for place, steps in _operations(document).values()
        for _, step in walk_steps(steps, place)
        for stream in _kind(step).streams(step, document)
    }
    workloads = document.get("workloads")
    conversing = (
        name
        for name, workload in (workloads.items() if isinstance(workloads, dict) else ())
        if isinstance(workload, dict) and workload.get("conversation") is not None
    )
    return published | {stream: None for name in conversing for stream in (f"{name}.turns", str(name))}


def calls_of(document: dict[Any, Any]) -> Calls:
    """What every operation calls or publishes to, step by step, where that exists."""
    operations = _operations(document)
    return {
        operation: [
            ((*here, *where), called)
            for here, step in all_steps(document, operation)
            for where, called in _called(document, step)
            if called in operations
        ]
        for operation in operations
    }


def _called(document: dict[Any, Any], step: dict[Any, Any]) -> Iterator[tuple[Place, str]]:
    """The operations that a step starts, itself or by way of a resource, with the field that says so."""
    kind = _kind(step)
    for where, called in kind.operations(step):
        if isinstance(called, str):
            yield where, called
    for where, section, name in kind.resources(step):
        spec = _mapping(_mapping(document.get(section)).get(name)) if isinstance(name, str) else {}
        for _, called in RESOURCES[section].operations(spec):
            if isinstance(called, str):
                yield where, called


def _circles(calls: Calls) -> Iterator[Finding]:
    """Each step that closes a circle of calls or messages, found depth first; a circle is reported once."""
    finished: set[str] = set()
    reported: set[tuple[str, ...]] = set()
    for start in calls:
        path: dict[str, Iterator[tuple[Place, str]]] = {} if start in finished else {start: iter(calls[start])}
        while path:
            operation = next(reversed(path))
            place, target = next(path[operation], (None, ""))
            if place is None:
                finished.add(operation)
                del path[operation]
            elif target in path:
                way = list(path)
                circle = (*way[way.index(target) :], target)
                if circle not in reported:
                    reported.add(circle)
                    yield place, f"calls go round in a circle: {' -> '.join(circle)}; expected calls that end", target
            elif target not in finished:
                path[target] = iter(calls[target])


def _too_many_calls(calls: Calls) -> Iterator[Finding]:
    """The operation that goes down deepest, or calls most, where that is beyond all measure; without circles."""
    levels: dict[str, int] = {}
    totals: dict[str, int] = {}
    for operation in _callees_first(calls):
        below = [(len(place) // 2 - 2 + levels[target], 1 + totals[target]) for place, target in calls[operation]]
        levels[operation] = max((level for level, _ in below), default=0)
        totals[operation] = sum(total for _, total in below)
    deepest = max(levels, key=lambda name: levels[name], default=None)
    if deepest is not None and levels[deepest] > MOST_LEVELS:
        message = f"its calls go {levels[deepest]} levels deep, expected at most {MOST_LEVELS}"
        yield _operation_place(deepest), message, deepest
    busiest = max(totals, key=lambda name: totals[name], default=None)
    if busiest is not None and totals[busiest] > MOST_CALLS:
        message = f"it makes {_roughly(totals[busiest])} calls in all, expected at most {MOST_CALLS:,}"
        yield _operation_place(busiest), message, busiest


def _callees_first(calls: Calls) -> list[str]:
    """All operations, each after those that it calls."""
    order: dict[str, None] = {}
    for start in calls:
        waiting = [(start, False)]
        while waiting:
            operation, ready = waiting.pop()
            if ready:
                order[operation] = None
            elif operation not in order:
                waiting.append((operation, True))
                waiting.extend((target, False) for _, target in calls[operation] if target not in order)
    return list(order)


def _operation_place(name: str) -> Place:
    service, _, operation = name.partition(".")
    return ("services", service, "operations", operation)


def _roughly(number: int) -> str:
    return f"{number:,}" if number < 10**12 else "more than a trillion"
