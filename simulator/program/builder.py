"""Builder: what a lowering rule calls to add stations, draws and instructions to a Program under construction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, replace

from simulator.distributions import Constant, Discrete, Distribution, StandardUniform
from simulator.program.instructions import (
    NO_REGISTER,
    Choose,
    End,
    EndScope,
    Fail,
    Fork,
    Instruction,
    Jump,
    Loop,
    Meter,
    Next,
    Scope,
    Select,
)
from simulator.program.program import (
    REASONS,
    Balancer,
    Draw,
    Entry,
    Messages,
    Policy,
    Program,
    Scaler,
    Workload,
)
from simulator.program.stations import Station
from simulator.traces.column import TraceColumn, TraceTimes
from simulator.traces.prefixes import TracePrefixes

MOST_INSTRUCTIONS = 200_000


class TooLargeError(ValueError):
    """The model's calls expand to more instructions than any sensible model has."""


@dataclass(frozen=True, slots=True)
class _Stream:
    """A stream of messages under construction."""

    number: int
    operation: str
    priority: int
    components: dict[str, int]
    meters: dict[str, int]


class Builder:
    """Collects a Program; `workload` opens the context in which code is emitted."""

    def __init__(self) -> None:
        self.stations: list[Station] = []
        self.draws: list[Draw] = []
        self.instructions: list[Instruction] = []
        self.balancers: list[Balancer] = []
        self.workloads: list[Workload] = []
        self.scalers: list[Scaler] = []
        self.prefixes: list[TracePrefixes] = []
        self.reasons = list(REASONS)
        self._labels: list[int] = []
        self._constants: dict[float, int] = {}
        self._names: dict[str, int] = {}
        self._path: list[str] = []
        self._streams: dict[str, _Stream] = {}
        self._components: dict[str, int] = {}
        self._meters: dict[str, int] = {}
        self._frame_size = self._largest_frame = 1
        self._repeating = 0
        self._replayed: TraceTimes | None = None

    def station(self, station: Station) -> int:
        """Add a station and return its number."""
        self.stations.append(station)
        return len(self.stations) - 1

    def reason(self, text: str) -> int:
        """Number of a failure reason, added where it is new."""
        if text not in self.reasons:
            self.reasons.append(text)
        return self.reasons.index(text)

    def label(self) -> int:
        """A new label: a negative number that stands for an instruction's index until `build`."""
        self._labels.append(-1)
        return -len(self._labels)

    def mark(self, label: int) -> None:
        """Fix a label at the next instruction."""
        self._labels[-label - 1] = len(self.instructions)

    def emit(self, instruction: Instruction) -> None:
        """Append an instruction; its jump targets may be labels."""
        if len(self.instructions) >= MOST_INSTRUCTIONS:
            raise TooLargeError(f"its calls expand to more than {MOST_INSTRUCTIONS:,} instructions")
        self.instructions.append(instruction)

    def register(self) -> int:
        """A new register of the frame of the workload under construction."""
        self._frame_size += 1
        return self._frame_size - 1

    def component(self, name: str) -> int:
        """Number of a component of the workload under construction, added where it is new."""
        return self._components.setdefault(name, len(self._components))

    def meters(self, *names: str) -> int:
        """Number of the first of some meters in a row, of the workload under construction, added where they are new."""
        for name in names:
            self._meters.setdefault(name, len(self._meters))
        return self._meters[names[0]]

    def count(self, meter: int) -> None:
        """Emit the adding of one to a meter."""
        self.emit(Meter(meter, self.draw(Constant(1.0), "one")))

    @contextmanager
    def counting_failures(self, meter: int) -> Iterator[None]:
        """Count failures of the code emitted inside by a meter; a time-out from outside is none."""
        failed, done = self.label(), self.label()
        self.emit(Scope(failed))
        yield
        self.emit(EndScope())
        self.emit(Jump(done))
        self.mark(failed)
        self.count(meter)
        self.emit(Fail())
        self.mark(done)

    def prefix(self, prefixes: TracePrefixes) -> int:
        """Number of some recorded prefixes, added where they are new."""
        if prefixes not in self.prefixes:
            self.prefixes.append(prefixes)
        return self.prefixes.index(prefixes)

    @contextmanager
    def preceded(self) -> Iterator[list[Instruction]]:
        """Put what is added to the list that this yields before the code emitted inside, when that is known."""
        start, labels = len(self.instructions), len(self._labels)
        first: list[Instruction] = []
        yield first
        self.instructions[start:start] = first
        for number, address in enumerate(self._labels):
            if address > start or (address == start and number >= labels):
                self._labels[number] = address + len(first)

    @contextmanager
    def within(self, part: str) -> Iterator[None]:
        """Name the streams drawn inside after `part`, numbered where the same part comes again."""
        self._path.append(self._unique("/".join([*self._path, part])).rsplit("/", 1)[-1])
        try:
            yield
        finally:
            self._path.pop()

    @contextmanager
    def repeating(self) -> Iterator[None]:
        """Code inside may run more than once in a frame: its draws and messages are counted."""
        self._repeating += 1
        try:
            yield
        finally:
            self._repeating -= 1

    @contextmanager
    def detached(self) -> Iterator[None]:
        """Code inside runs in a frame of its own, with draw numbers that no other frame has."""
        outside, self._repeating = self._repeating, 0
        try:
            yield
        finally:
            self._repeating = outside

    @contextmanager
    def messages(self, name: str, operation: str, priority: int = 0) -> Iterator[int]:
        """Code inside runs as a message of the stream of that name, added where it is new; yields its number.

        That number is for `Publish`, and becomes an index into `Program.workloads` in `build`.
        """
        stream = self._streams.setdefault(name, _Stream(len(self._streams), operation, priority, {}, {}))
        outside, self._components = self._components, stream.components
        outside_meters, self._meters = self._meters, stream.meters
        try:
            with self.detached():
                yield stream.number
        finally:
            self._components, self._meters = outside, outside_meters

    def draw(self, distribution: Distribution, purpose: str) -> int:
        """Number of a draw named by the current path and purpose; equal constants share one.

        Raises TraceError for a column of the trace that the workload replays, where it replays none.
        """
        if isinstance(distribution, Constant):
            return self._constant(distribution)
        stream = self._unique("/".join([*self._path, purpose]))
        self.draws.append(Draw(stream, self.bound(distribution), self.counter()))
        return len(self.draws) - 1

    def bound(self, distribution: Distribution) -> Distribution:
        """The distribution, that of the trace that the workload replays where it is a column of one.

        Raises TraceError where it replays none.
        """
        return distribution.bound(self._replayed) if isinstance(distribution, TraceColumn) else distribution

    def draw_of_station(self, distribution: Distribution, name: str) -> int:
        """Number of a draw that a station makes by itself, under a name that no path is part of."""
        if isinstance(distribution, Constant):
            return self._constant(distribution)
        self.draws.append(Draw(self._unique(name), self.bound(distribution)))
        return len(self.draws) - 1

    def scaled(self, draw: int, factor: float) -> int:
        """Number of a draw that is `factor` times what another one draws, each where it is executed as often."""
        spec = self.draws[draw]
        if isinstance(spec.distribution, Constant) and spec.factor == NO_REGISTER:
            return self._constant(spec.distribution.scaled(factor))
        counter = NO_REGISTER if isinstance(spec.distribution, Constant) else self.counter()
        scaled = spec.distribution.scaled(factor)
        self.draws.append(replace(spec, distribution=scaled, counter=counter))
        return len(self.draws) - 1

    def times_register(self, distribution: Distribution, register: int, mean: float, purpose: str) -> int:
        """Number of a draw that is multiplied by a register, which has `mean` on average."""
        if isinstance(distribution, Constant):
            self.draws.append(Draw("constant", distribution, factor=register, mean_factor=mean))
        else:
            stream = self._unique("/".join([*self._path, purpose]))
            self.draws.append(Draw(stream, self.bound(distribution), self.counter(), register, mean))
        return len(self.draws) - 1

    def counter(self) -> int:
        """A register that counts the executions of what is emitted next, where it may run more than once."""
        return self.register() if self._repeating else NO_REGISTER

    def _constant(self, distribution: Constant) -> int:
        if distribution.value not in self._constants:
            self._constants[distribution.value] = len(self.draws)
            self.draws.append(Draw("constant", distribution))
        return self._constants[distribution.value]

    def _unique(self, name: str) -> str:
        seen = self._names.get(name, 0)
        self._names[name] = seen + 1
        return f"{name}#{seen}" if seen else name

    def balancer(self, balancer: Balancer) -> int:
        """Add a balancer and return its number."""
        self.balancers.append(balancer)
        return len(self.balancers) - 1

    def scaler(self, scaler: Scaler) -> int:
        """Add a scaler and return its number."""
        self.scalers.append(scaler)
        return len(self.scalers) - 1

    def select(self, balancer: int) -> int:
        """Choose one of a balancer's replicas; returns the register of its index."""
        spec = self.balancers[balancer]
        if len(spec.pools) == 1 and not spec.steered:
            return NO_REGISTER
        random = spec.policy in (Policy.RANDOM, Policy.POWER_OF_TWO)
        draw = self.draw(StandardUniform() if random else Constant(0.0), "balance")
        register = self.register()
        self.emit(Select(register, balancer, draw))
        return register

    @contextmanager
    def repeat(self, times: Distribution) -> Iterator[None]:
        """Run the code emitted inside `times` times (a drawn count, rounded)."""
        register, body, leave = self.register(), self.label(), self.label()
        self.emit(Loop(register, self.draw(times, "times"), leave))
        self.mark(body)
        with self.repeating():
            yield
        self.emit(Next(register, body))
        self.mark(leave)

    @contextmanager
    def choice(self, weights: tuple[float, ...]) -> Iterator[list[int]]:
        """Yield one label per weight to be marked, one of which is jumped to at random."""
        targets = [self.label() for _ in weights]
        self.emit(Choose(self.draw(Discrete(weights), "choose"), tuple(targets)))
        yield targets

    def fork(
        self, branches: Sequence[Callable[[], None]], noun: str = "", need: int | None = None, detach: bool = False
    ) -> None:
        """Emit a fork: every branch emits its code, in parts named `noun 0`, `noun 1`, ... where they have a noun.

        The request goes on when `need` branches have ended, all if left out. The others are then cancelled, or go on
        by themselves where they `detach`.
        """
        targets, joined = [self.label() for _ in branches], self.label()
        self.emit(Fork(tuple(targets), need or len(targets), detach, self.counter() if detach else -1))
        self.emit(Jump(joined))
        for number, (target, branch) in enumerate(zip(targets, branches, strict=True)):
            self.mark(target)
            with (
                self.within(f"{noun} {number}") if noun else nullcontext(),
                self.detached() if detach else nullcontext(),
            ):
                branch()
            self.emit(End())
        self.mark(joined)

    def build(self, name: str) -> Program:
        """The finished Program, labels resolved."""
        return Program(
            name=name,
            stations=tuple(self.stations),
            draws=tuple(self.draws),
            instructions=tuple(self._resolved(instruction) for instruction in self.instructions),
            balancers=tuple(self.balancers),
            workloads=(
                *(self._resolved_workload(workload) for workload in self.workloads if not workload.background),
                *self._stream_workloads(),
                *(self._resolved_workload(workload) for workload in self.workloads if workload.background),
            ),
            reasons=tuple(self.reasons),
            scalers=tuple(self.scalers),
            prefixes=tuple(self.prefixes),
        )

    def _address(self, target: int) -> int:
        return self._labels[-target - 1] if target < 0 else target

    def _resolved(self, instruction: Instruction) -> Instruction:
        changes: dict[str, object] = {}
        for field in fields(instruction):
            value = getattr(instruction, field.name)
            if value is None:
                continue
            if field.name in ("target", "handler", "miss", "exit", "body"):
                changes[field.name] = self._address(value)
            elif field.name == "stream":
                changes[field.name] = sum(not workload.background for workload in self.workloads) + value
            elif field.name == "targets":
                changes[field.name] = tuple(self._address(target) for target in value)
        return replace(instruction, **changes) if changes else instruction  # type: ignore[arg-type]

    def _resolved_workload(self, workload: Workload) -> Workload:
        entries = tuple(replace(entry, pc=self._address(entry.pc)) for entry in workload.entries)
        return replace(workload, entries=entries)

    def _stream_workloads(self) -> Iterator[Workload]:
        """The streams of messages, whose frames are copies of their publishers'."""
        for name, stream in self._streams.items():
            entries = (Entry(stream.operation, 0, 1.0),)
            yield Workload(
                name, Messages(), entries, 0, tuple(stream.components), self._largest_frame, stream.priority,
                meters=tuple(stream.meters),
            )  # fmt: skip

    def workload(self, workload: Workload) -> None:
        """Add the workload whose code has been emitted since `start_workload`, its components and frame filled in."""
        filled = replace(
            workload, components=tuple(self._components), frame_size=self._frame_size, meters=tuple(self._meters)
        )
        self._largest_frame = max(self._largest_frame, self._frame_size)
        self.workloads.append(filled)

    def start_workload(self, replayed: TraceTimes | None = None) -> None:
        """Begin with the code of another workload: fresh registers and components; `replayed` is its trace."""
        self._components, self._meters, self._frame_size = {}, {}, 1
        self._replayed = replayed
