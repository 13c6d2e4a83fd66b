"""Tables of the catalogue: the types of a section with what a planner chooses by, and their prices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from simulator import units
from simulator.model.catalogue import Type, Typed
from simulator.model.disk import Disk
from simulator.model.gpu import Gpu
from simulator.model.host import Host
from simulator.model.language_model import LanguageModel
from simulator.model.nic import Nic
from simulator.report.layout import paragraph, table_of

if TYPE_CHECKING:
    from rich.console import RenderableType

NONE = "–"
Figure = Callable[[Any], str]


def _shown(dimension: str, value: Callable[[Any], float | None]) -> Figure:
    """What shows a quantity of a part, where it has one."""

    def show(part: Any) -> str:
        found = value(part)
        if found is None:
            return NONE
        return _bytes_per_s(found) if dimension == "bytes/s" else units.show(found, dimension)

    return show


def _bytes_per_s(rate: float) -> str:
    return f"{units.show(rate, 'size')}/s"


def _rounded(value: float | None) -> float | None:
    """Three digits, which are shown in decimal units."""
    return None if value is None else float(f"{value:.3g}")


def _teraflops(*precisions: str) -> Figure:
    return lambda gpu: next((f"{gpu.teraflops[each]:g}" for each in precisions if each in gpu.teraflops), NONE)


def _operation(disk: Any) -> float:
    return float(disk.operation_time(write=False).mean)


PARTS: dict[str, type[Typed]] = {each.section: each for each in (Host, Disk, Nic, Gpu, LanguageModel)}
FIGURES: dict[str, dict[str, Figure]] = {
    "machines": {
        "cores": lambda host: str(host.cpu.cores),
        "threads": lambda host: str(host.cpu.hardware_threads),
        "memory": _shown("size", lambda host: host.memory and host.memory.size),
        "network": _shown("bandwidth", lambda host: host.nic and host.nic.bandwidth),
        "disk": _shown("rate", lambda host: host.disk and host.disk.iops),
        "price": _shown("price", lambda host: host.cost_per_hour),
    },
    "disks": {
        "reads": _shown("rate", lambda disk: disk.iops),
        "time": _shown("duration", _operation),
        "bandwidth": _shown("bytes/s", lambda disk: disk.bandwidth),
        "size": _shown("size", lambda disk: disk.size),
        "a month": lambda disk: f"${disk.cost_per_hour * units.HOURS_A_MONTH:,.2f}" if disk.cost_per_hour else NONE,
    },
    "nics": {"bandwidth": _shown("bandwidth", lambda nic: nic.bandwidth)},
    "gpus": {
        "memory": _shown("size", lambda gpu: gpu.memory),
        "bandwidth": _shown("bytes/s", lambda gpu: _rounded(gpu.memory_bandwidth)),
        "16 bit": _teraflops("bf16", "fp16"),
        "8 bit": _teraflops("fp8", "int8"),
        "link": _shown("bytes/s", lambda gpu: _rounded(gpu.link)),
        "price": _shown("price", lambda gpu: gpu.price),
    },
    "llms": {
        "parameters": _shown("count", lambda llm: llm.parameters),
        "active": _shown("count", lambda llm: llm.active),
        "layers": lambda llm: str(llm.layers),
        "heads": lambda llm: str(llm.heads),
        "of keys": lambda llm: NONE if llm.kv_heads is None else str(llm.kv_heads),
        "experts": lambda llm: NONE if llm.experts is None else str(llm.experts),
    },
}
NOTES = {
    "machines": "Cores, hardware threads, reads a second of the local disk, and the price of one with that disk.",
    "disks": "Reads a second at most, time of a random read alone, and what one of this size costs; others follow from"
    " its tariff.",
    "nics": "Bits a second each way.",
    "gpus": "Bytes a second of its memory, dense teraflops with numbers of 16 and of 8 bits, and bytes a second one way"
    " to the others of its machine.",
    "llms": "Parameters, those of them that a token is computed with, and attention heads, in all and of keys.",
}


def catalogue_tables(section: str, groups: Mapping[str, Sequence[Type]]) -> Iterable[RenderableType]:
    """Everything that `tpsim models SECTION` shows: the types by group, each group with its source."""
    yield paragraph(NOTES[section])
    for group, types in groups.items():
        yield _group(section, group, types)
        yield paragraph(f"{types[0].about}; {types[0].date}, {types[0].source[0]}")


def _group(section: str, group: str, types: Sequence[Type]) -> Table:
    figures = FIGURES[section]
    table = table_of(group, *figures)
    for each in types:
        part = PARTS[section].model_validate({"type": each.name})
        table.add_row(each.name, *(show(part) for show in figures.values()))
    return table
