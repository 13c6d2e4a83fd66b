"""Language models in view of the whole model: prompts that lack their tokens, objectives on tokens that nobody counts.

Works on the document as written, once all of its fields are right, so that problems have their places.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from simulator.model.api_keys import keys_of_workload
from simulator.model.checks import Calls, Finding, all_steps, calls_of
from simulator.model.generate import GenerateStep
from simulator.model.kinds.llm import Llm

if TYPE_CHECKING:
    from simulator.model.objective import Metric
    from simulator.model.system import System


def llm_problems(system: System, document: dict[Any, Any]) -> Iterator[Finding]:
    """Everything that is wrong with how language models are asked, and with objectives on it."""
    yield from _names_of_services(document)
    calls = calls_of(document)
    yield from _lacking_tokens(system, document, calls)
    yield from _contexts_without_conversation(system, document, calls)
    yield from _lacking_keys(system, document, calls)
    yield from _objectives_without_tokens(system, document, calls)


def _names_of_services(document: dict[Any, Any]) -> Iterator[Finding]:
    """Gateways are programs as services are, and have the same names in results."""
    for name, spec in (document.get("llms") or {}).items():
        if name in document["services"] and spec.get("gateway") is not None:
            yield ("llms", name), f"{name!r} is also the name of a service, expected another one for a gateway", name


def _reached(calls: Calls, operations: list[str]) -> set[str]:
    """The operations, and all that they call."""
    found: set[str] = set()
    waiting = list(operations)
    while waiting:
        operation = waiting.pop()
        if operation not in found:
            found.add(operation)
            waiting += [called for _, called in calls[operation]]
    return found


def _lacking_tokens(system: System, document: dict[Any, Any], calls: Calls) -> Iterator[Finding]:
    """Prompts and answers of no known length: only conversations have questions and answers of their own."""
    alone = [name for each in system.workloads.values() if each.conversation is None for name in each.shares()]
    for operation in sorted(_reached(calls, alone)):
        for place, step in all_steps(document, operation):
            for field in ("input", "output") if "generate" in step else ():
                if step.get(field) is None:
                    yield (
                        (*place, "generate"),
                        f"a generate step outside of a conversation ({operation} is asked for without one), expected "
                        f"its {field}",
                        step["generate"],
                    )


def _contexts_without_conversation(system: System, document: dict[Any, Any], calls: Calls) -> Iterator[Finding]:
    """What has been said goes into a prompt where somebody has said something."""
    alone, conversing = (
        [name for each in system.workloads.values() if (each.conversation is None) is lonely for name in each.shares()]
        for lonely in (True, False)
    )
    for operation in sorted(_reached(calls, alone) - _reached(calls, conversing)):
        for place, step in all_steps(document, operation):
            if "generate" in step and step.get("context") is not None:
                yield (
                    (*place, "context"),
                    f"nothing has been said before, for no conversation asks for {operation}, expected a workload with "
                    "a conversation, or the tokens in input and no context",
                    step["context"],
                )


def _lacking_keys(system: System, document: dict[Any, Any], calls: Calls) -> Iterator[Finding]:
    """Workloads that come to a gateway whose keys are all those of others."""
    llms = system.resources("llms")
    for name, llm in llms.items():
        keys = llm.gateway.keys if isinstance(llm, Llm) and llm.gateway is not None else {}
        for workload, spec in system.workloads.items() if keys else ():
            if not keys_of_workload(keys, workload) and name in _asked(document, calls, list(spec.shares())):
                yield (
                    ("llms", name, "gateway", "keys"),
                    f"{workload} has none of the keys, expected one with {workload} among its workloads, or one "
                    "without workloads, for all who have none of their own",
                    None,
                )


def _asked(document: dict[Any, Any], calls: Calls, operations: list[str]) -> set[str]:
    """The LLMs that operations come to, those behind gateways included."""
    llms, found = document.get("llms") or {}, set[str]()
    steps = [step for each in _reached(calls, operations) for _, step in all_steps(document, each)]
    named = [each for step in steps if "generate" in step for each in GenerateStep.resources(step)]
    waiting = [name for _, section, name in named if section == "llms"]
    while waiting:
        name = waiting.pop()
        if name not in found and name in llms:
            found.add(name)
            waiting += (llms[name].get("gateway") or {}).get("backends") or ()
    return found


def _objectives_without_tokens(system: System, document: dict[Any, Any], calls: Calls) -> Iterator[Finding]:
    for index, objective in enumerate(system.objectives):
        wrong = _without_tokens(system, document, calls, objective.metric) if objective.metric.counts_tokens else None
        if wrong is not None:
            yield ("objectives", index), wrong, str(objective)


def _without_tokens(system: System, document: dict[Any, Any], calls: Calls, metric: Metric) -> str | None:
    """What is wrong with a metric of tokens."""
    name = metric.workload
    workload = system.workloads.get(name or "")
    if workload is not None and workload.conversation is not None:
        turns = f"messages.{name}.turns: {metric.name}"
        return f"a request of {name} is a conversation, expected the metric of its turns, {turns}"
    operations = _operations_of(system, name, calls)
    if operations is None:
        return None
    steps = (step for each in _reached(calls, operations) for _, step in all_steps(document, each))
    if any("generate" in step and _counts(metric, step) for step in steps):
        return None
    kind = "streamed generate" if metric.streams_tokens else "generate"
    return f"{name or 'the load'} comes to no {kind} step, expected one for the metric {metric.name!r}"


def _counts(metric: Metric, step: dict[Any, Any]) -> bool:
    return not metric.streams_tokens or step.get("streamed", True) is not False


def _operations_of(system: System, name: str | None, calls: Calls) -> list[str] | None:
    """What a workload, or a stream of messages, asks for; None where that is not known here."""
    if name is None:
        return [each for workload in system.workloads.values() for each in workload.shares()]
    stream = name.removeprefix("messages.")
    if stream in calls:
        return [stream]
    workload = system.workloads.get(stream.removesuffix(".turns"))
    return None if workload is None else list(workload.shares())
