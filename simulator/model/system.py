"""The system: everything that a planner says about a stack and its load."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from simulator.model.cache import Cache
from simulator.model.call import ExternalApi
from simulator.model.checks import reference_problems
from simulator.model.host import Host
from simulator.model.lock import LockResource
from simulator.model.measurement import Measurements
from simulator.model.network import Network
from simulator.model.objective import Objective
from simulator.model.part import Either, Instances, Part, PositiveDuration, Share, WholeNumber
from simulator.model.service import Service
from simulator.model.shape import NoPlaceError, assign
from simulator.model.words import short
from simulator.model.workload import Workload


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
    confidence: Share = 0.95
    """Confidence of the intervals."""


class System(Part):
    """A stack and its load."""

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
    caches: dict[str, Cache] = Field(default_factory=dict)
    """Caches by name."""
    locks: Annotated[dict[str, LockResource], BeforeValidator(lambda v: _named(v))] = Field(default_factory=dict)
    """Locks by name; a list of names will do."""
    externals: dict[str, ExternalApi] = Field(default_factory=dict)
    """External APIs by name."""
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
        references = [
            InitErrorDetails(
                type=PydanticCustomError("reference", "{message}", {"message": message}), loc=loc, input=value
            )
            for loc, message, value in [*reference_problems(document), *_unknown_fields(cls, document)]
        ]
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
        if references:
            raise ValidationError.from_exception_data(cls.__name__, references)
        return system

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel between processes as a document: pydantic's generic parts cannot be found by name."""
        return type(self).model_validate, (self.model_dump(mode="json", exclude_defaults=True),)

    @property
    def cost_per_hour(self) -> float:
        """Price of all hosts, in USD an hour."""
        return sum(host.price * host.count for host in self.hosts.values())

    @property
    def has_steady_state(self) -> bool:
        """Whether every workload goes on in the same way for ever."""
        return all(
            (arrivals := workload.open_arrivals()) is None or arrivals.stationary
            for workload in self.workloads.values()
        )

    def scaled(self, factor: float) -> Self:
        """The same system under `factor` times the load; raises ValueError for a replay."""
        workloads = {
            name: workload.model_copy(update=workload.scaled(factor)) for name, workload in self.workloads.items()
        }
        return self.model_copy(update={"workloads": workloads})


def _named(value: Any) -> Any:
    """Locks may be a list of names."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, list):
        raise ValueError(f"got {short(value)}, expected a list of names, or a mapping of names")
    for name in value:
        if not isinstance(name, str):
            raise ValueError(f"got {name!r}, expected the name of a lock")
        if value.count(name) > 1:
            raise ValueError(f"the lock {name!r} stands here more than once")
    return {name: {} for name in value}


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
