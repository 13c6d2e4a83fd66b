"""Tools and resources over the Model Context Protocol (MCP): calls whose answers go into the next prompts.

MCP is JSON-RPC 2.0 between the application that holds a conversation and servers that offer tools, resources and
prompts, over standard streams or HTTP (modelcontextprotocol.io/specification/2025-11-25). A call is a message there,
the server's work, a message back, and as many tokens more in every later prompt of the conversation, or of the request
where there is none. The protocol keeps no conversation, shares no keys and values, and summarises nothing: what is kept
of a conversation is said by `context`.

The model writes a call's arguments as the output of the `generate` step before it, and reads the answer in the one
after it. Descriptions of tools, which all prompts begin with, belong to `system`; setting a session up (`initialize`,
`tools/list`) is a `call` of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from simulator.distributions import Constant
from simulator.model.distribution import CountDistribution
from simulator.model.guarded_step import GuardedStep
from simulator.model.message import Messages, Transport
from simulator.model.part import Factor, Part, Size
from simulator.model.prompt import Tokens, drawn_tokens
from simulator.model.step import StepPart
from simulator.program.builder import Builder
from simulator.program.instructions import NO_REGISTER, Calculate, HandBack
from simulator.program.instructions import Arithmetic as Do

if TYPE_CHECKING:
    from simulator.model.site import Site
    from simulator.model.system import System


class McpStep(GuardedStep, Transport):
    """Call a tool, or read a resource, of an MCP server; its answer goes into the prompts that follow."""

    verb: ClassVar[str] = "mcp"
    targets: ClassVar[tuple[str, ...]] = ("mcp",)

    mcp: str
    """`service.operation` of the server: what the tool does."""
    result: CountDistribution
    """Tokens of the answer; tools return 100 to some thousands, documents more."""
    arguments: CountDistribution = CountDistribution(constant=0.0)
    """Tokens that are sent; the model has written them before."""
    bytes_per_token: Factor = 4.5
    """Bytes of a token as text. English has about 4 characters a token (platform.openai.com/tokenizer), and JSON adds
    quotes and escapes: 4 to 6."""
    envelope: Size = 300.0
    """Bytes of a message beside that: JSON-RPC's version, id and method, and the headers of HTTP; 100 B to 1 kB."""

    def lower(self, site: Site) -> None:
        """A call of the server with messages as long as their tokens, which are then added to what prompts have."""
        with site.builder.within(f"mcp {self.mcp}"):
            arguments = drawn_tokens(site, self.arguments, "arguments")
            result = drawn_tokens(site, self.result, "result")
            request, response = (self._bytes(site, each) for each in (arguments, result))
            messages = Messages(format=self.format, compression=self.compression, connection=self.connection)
            self.guard(
                site,
                self.callee(self.mcp),
                lambda: site.lowering.call(self.mcp, site, messages, request=request, response=response),
            )
            self._remember(site, result)

    def _bytes(self, site: Site, tokens: Tokens) -> int:
        """The draw of a message's bytes."""
        builder, whole = site.builder, site.builder.register()
        envelope = round(self.envelope / self.bytes_per_token)
        builder.emit(Calculate(whole, Do.ADD, tokens.register, constant=envelope))
        return builder.times_register(Constant(self.bytes_per_token), whole, tokens.mean + envelope, "bytes")

    @staticmethod
    def _remember(site: Site, result: Tokens) -> None:
        builder, talk = site.builder, site.lowering.talk
        if talk is None:
            site.lowering.results.add(builder, result)
            return
        for register in (talk.history, talk.results):
            builder.emit(Calculate(register, Do.ADD, register, result.register))
            builder.emit(HandBack(register))


@dataclass(slots=True)
class ToolResults:
    """Tokens that tools have answered in a request without a conversation: register, if any, mean and variance."""

    register: int = NO_REGISTER
    mean: float = 0.0
    variance: float = 0.0

    def add(self, builder: Builder, tokens: Tokens) -> None:
        """Emit the addition of an answer."""
        if self.register == NO_REGISTER:
            self.register = builder.register()
        builder.emit(Calculate(self.register, Do.ADD, self.register, tokens.register))
        self.mean += tokens.mean
        self.variance += tokens.variance


def mean_results_of(system: System, operation: str) -> float:
    """Mean tokens that the tools of an operation answer, those of operations that it calls included.

    Every way of a choice is counted in full, and a loop once: it only serves analysis.
    """
    service, _, name = operation.partition(".")
    deployed = system.services.get(service)  # None where a message goes to a broker
    return 0.0 if deployed is None else _results_of(system, deployed.operations.get(name, ()))


def _results_in(system: System, value: Any) -> float:
    if isinstance(value, McpStep):
        return float(value.result.distribution().mean)
    if isinstance(value, StepPart):
        called = (mean_results_of(system, getattr(value, field)) for field in value.targets)
        return sum(called) + _results_of(system, (getattr(value, field) for field in type(value).model_fields))
    if isinstance(value, Part):
        return _results_of(system, (getattr(value, field) for field in type(value).model_fields))
    return _results_of(system, value) if isinstance(value, (list, tuple)) else 0.0


def _results_of(system: System, values: Iterable[Any]) -> float:
    return sum(_results_in(system, each) for each in values)
