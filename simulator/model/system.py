"""The system: everything that a planner says about a stack and its load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    create_model,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from simulator.model.checks import reference_problems
from simulator.model.host import Host
from simulator.model.llm_checks import llm_problems
from simulator.model.measurement import Measurements
from simulator.model.memory import memory_problems
from simulator.model.network import Network
from simulator.model.objective import Objective
from simulator.model.part import Confidence, Either, Instances, Part, PositiveDuration, WholeNumber
from simulator.model.replays import replay_problems
from simulator.model.resource import RESOURCES, Resource, discover
from simulator.model.service import Service
from simulator.model.shape import NoPlaceError, assign
from simulator.model.shared_guards import differing_guards
from simulator.model.words import short
from simulator.model.workload import Workload
from simulator.program.arrivals import Replay


class Run(Part):
    """How to simulate, where the command line does not say."""

    seed: WholeNumber = 1
    """Seed of all randomness."""
    duration: Annotated[float | Literal["auto"], Either(PositiveDuration, "auto")] = "auto"
    """Simulated time of one replication. `auto` takes what gives a reasonable number of requests."""
    replications: Annotated[int | Literal["auto"], Either(Instances, "auto")] = "auto"
    """Independent repetitions behind every interval; 1 uses batch means of one run. `auto` is 10."""
    warm_up: Annotated[float | Literal["auto", "none"], Either(PositiveDuration, "auto", "none")] = "auto"
    """Time left out at the start of each replication; `auto` finds it by MSER-5."""
    confidence: Confidence = 0.95
    """Confidence of the intervals."""


class Stack(Part):
    """What a system begins with."""

    name: str = "model"
    """Name of the model."""
    description: str = ""
    """What the model is of."""
    hosts: dict[str, Host] = Field(min_length=1)
    """Machines by name."""
    services: dict[str, Service] = Field(min_length=1)
    """Programs by name, with what they do."""
    workloads: dict[str, Workload] = Field(min_length=1)
    """Who sends which requests, by name."""


def _section(kind: type[Resource]) -> Any:
    """Type and field of the section that holds resources of a kind by name."""
    names = "Names, or a mapping of names" if kind.names_alone else "By name"
    field: Any = Field(default_factory=dict, description=f"{names}: {_first_paragraph(kind)}")
    annotation = dict[str, kind]  # type: ignore[valid-type]
    if kind.names_alone:
        return Annotated[annotation, BeforeValidator(partial(_named, kind.noun))], field
    return annotation, field


def _first_paragraph(kind: type[Resource]) -> str:
    return " ".join((kind.__doc__ or "").partition("\n\n")[0].split())


def _named(noun: str, value: Any) -> Any:
    """A list of names stands for resources of which nothing else is said."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, list):
        raise ValueError(f"got {short(value)}, expected a list of names, or a mapping of names")
    for name in value:
        if not isinstance(name, str):
            raise ValueError(f"got {name!r}, expected the name of a {noun}")
        if value.count(name) > 1:
            raise ValueError(f"the {noun} {name!r} stands here more than once")
    return {name: {} for name in value}


if TYPE_CHECKING:
    StackOfResources = Stack
else:
    StackOfResources = create_model(
        "StackOfResources",
        __base__=Stack,
        **{section: _section(kind) for section, kind in discover().items()},
    )


class System(StackOfResources):
    """A stack and its load."""

    network: Network = Network()
    """What lies between hosts."""
    objectives: list[Objective] = Field(default_factory=list)
    """What the system has to achieve."""
    run: Run = Run()
    """How to simulate it."""
    measurements: Measurements | None = None
    """What a real system did."""

    @model_validator(mode="wrap")
    @classmethod
    def _all_problems(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        """Report what is wrong with single fields and with references between them together."""
        document = _plain(data)
        references = [_problem(*each) for each in (*reference_problems(document), *_unknown_fields(cls, document))]
        try:
            system = handler(data)
        except ValidationError as error:
            fields = [
                InitErrorDetails(
                    type=PydanticCustomError(found["type"], "{message}", {"message": found["msg"]}),
                    loc=found["loc"],
                    input=found["input"],
                )
                for found in error.errors()
            ]
            raise ValidationError.from_exception_data(cls.__name__, [*fields, *references]) from None
        if not references:
            found = (
                *memory_problems(system),
                *replay_problems(system, document),
                *llm_problems(system, document),
                *differing_guards(document),
            )
            references = [_problem(*each) for each in found]
        if references:
            raise ValidationError.from_exception_data(cls.__name__, references)
        return system

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel between processes as a document: pydantic's generic parts cannot be found by name."""
        return type(self).model_validate, (self.model_dump(mode="json", exclude_defaults=True),)

    def resources(self, section: str) -> dict[str, Resource]:
        """The resources of a section by name."""
        named: dict[str, Resource] = getattr(self, section)
        return named

    @property
    def longest_cycle(self) -> float:
        """Seconds in which the slowest resource goes once through its states."""
        cycles = [each.cycle for section in RESOURCES for each in self.resources(section).values()]
        cycles += [host.cpu.cycle for host in self.hosts.values()]
        cycles += [host.memory.cycle for host in self.hosts.values() if host.memory is not None]
        return max(cycles, default=0.0)

    @property
    def cost_per_hour(self) -> float:
        """Price of all hosts and resources, in USD an hour; with as few hosts as autoscaling may leave."""
        scaled = {name: service.scaling for name, service in self.services.items()}
        return self.cost_of({name: scaling.least for name, scaling in scaled.items() if scaling is not None})

    @property
    def unpriced(self) -> list[str]:
        """Paths of what is rented and has no price, and so is missing in the cost."""
        return [
            f"{section}.{name}.{each.unpriced}"
            for section in RESOURCES
            for name, each in self.resources(section).items()
            if each.unpriced
        ]

    def cost_of(self, replicas: Mapping[str, float]) -> float:
        """Price of everything, in USD an hour, given the (mean) number of replicas of services that are scaled."""
        hosts = sum(host.cost_per_hour * self._rented(name, replicas) for name, host in self.hosts.items())
        return hosts + sum(each.cost_per_hour for section in RESOURCES for each in self.resources(section).values())

    def _rented(self, host: str, replicas: Mapping[str, float]) -> float:
        count = self.hosts[host].count
        more = [
            replicas[name]
            for name, service in self.services.items()
            if service.host == host and service.scaling is not None and service.scaling.most > count
        ]
        return max([float(count), *more])

    @property
    def has_steady_state(self) -> bool:
        """Whether every workload goes on in the same way for ever."""
        workloads = [workload.open_arrivals() for workload in self.workloads.values()]
        return all(arrivals is None or arrivals.stationary for arrivals in workloads) and not self.has_scheduled_events

    @property
    def load_ends(self) -> bool:
        """Whether all that is ever sent is recordings, each replayed once."""
        workloads = [workload.open_arrivals() for workload in self.workloads.values()]
        return all(isinstance(arrivals, Replay) and not arrivals.repeats for arrivals in workloads)

    @property
    def has_scheduled_events(self) -> bool:
        """Whether something happens to the system once, at a time that is given."""
        return not all(each.stationary for section in RESOURCES for each in self.resources(section).values())

    @property
    def failing_hosts(self) -> frozenset[str]:
        """Names of the hosts that something brings down."""
        everything = (each for section in RESOURCES for each in self.resources(section).values())
        return frozenset(host for each in everything for host in each.crashes(self.hosts))

    def most_instances(self, host: str) -> int:
        """Instances of a host that there may be."""
        scalings = [service.scaling for service in self.services.values() if service.host == host]
        return max(self.hosts[host].count, *(scaling.most for scaling in scalings if scaling is not None), 1)

    def scaled(self, factor: float) -> Self:
        """The same system under `factor` times the load; raises ValueError for a replay."""
        workloads = {
            name: workload.model_copy(update=workload.scaled(factor)) for name, workload in self.workloads.items()
        }
        return self.model_copy(update={"workloads": workloads})


def _problem(loc: tuple[str | int, ...], message: str, value: Any) -> InitErrorDetails:
    """What is wrong between parts of a model."""
    return InitErrorDetails(
        type=PydanticCustomError("reference", "{message}", {"message": message}), loc=loc, input=value
    )


def _unknown_fields(root: type[System], document: Any) -> Iterator[tuple[tuple[str | int, ...], str, Any]]:
    """Columns of the measurements that set a field which is not there."""
    measurements = document.get("measurements") if isinstance(document, dict) else None
    columns = measurements.get("set") if isinstance(measurements, dict) else None
    for column, path in columns.items() if isinstance(columns, dict) else ():
        try:
            if isinstance(path, str):
                assign(root, document, tuple(path.split(".")), None)
        except NoPlaceError as error:
            yield ("measurements", "set", column), f"no such place in the model: {error}", path


def _plain(data: Any) -> Any:
    """The data as nested mappings and lists, where parts of it are already built."""
    if isinstance(data, Part):
        return data.model_dump(exclude_none=True)
    if isinstance(data, dict):
        return {key: _plain(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_plain(value) for value in data]
    return data
