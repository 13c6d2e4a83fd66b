"""Gateways in view of the whole model: what they name that is not there, and circles of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from simulator.model.api_keys import key_problems
from simulator.model.resource import Finding
from simulator.model.words import unknown


def gateway_problems(gateway: dict[Any, Any], document: dict[Any, Any]) -> Iterator[Finding]:
    """What is wrong with a gateway as written in view of the rest of the model."""
    llms, limit = document.get("llms"), gateway.get("limit")
    asked: list[tuple[str, Any, tuple[str | int, ...], Any]] = [
        ("host", document.get("hosts"), ("host",), gateway.get("host")),
        *(("LLM", llms, ("backends", name), name) for name in _names(gateway.get("backends"))),
    ]
    if isinstance(limit, dict):
        asked.append(("key", document.get("keys") or {}, ("limit", "key"), limit.get("key")))
    for kind, names, place, name in asked:
        if isinstance(name, str) and isinstance(names, dict) and name not in names:
            yield ("gateway", *place), unknown(kind, name, names), name
    for place, message, got in key_problems(gateway.get("keys"), document):
        yield ("gateway", *place), message, got
    for name in _names(gateway.get("backends")):
        if gateway in _gateways_behind(name, llms):
            yield ("gateway", "backends", name), f"{name!r} leads back to this gateway, expected another LLM", name


def _names(mapping: Any) -> list[Any]:
    return list(mapping) if isinstance(mapping, dict) else []


def _gateways_behind(name: Any, llms: Any) -> list[Any]:
    """The gateways that a prompt to an LLM may pass."""
    found: list[Any] = []
    waiting = [name]
    while waiting:
        spec = llms.get(waiting.pop()) if isinstance(llms, dict) else None
        gateway = spec.get("gateway") if isinstance(spec, dict) else None
        if isinstance(gateway, dict) and gateway not in found:
            found.append(gateway)
            waiting += _names(gateway.get("backends"))
    return found
