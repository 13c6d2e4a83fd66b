"""GPUs: accelerators, as far as the hardware catalogue knows them."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from simulator.model.catalogue import Typed
from simulator.model.part import Bandwidth, Factor, PositiveSize, Price

Precision = Literal["fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4", "int4"]


class Gpu(Typed):
    """One accelerator."""

    section: ClassVar[str] = "gpus"
    bare: ClassVar[str | None] = "type"
    least: ClassVar[dict[str, Any]] = {"memory": "1 GB", "memory_bandwidth": "1 GB/s"}

    memory: PositiveSize
    """Its own memory."""
    memory_bandwidth: Bandwidth
    """Bytes a second between it and its memory."""
    teraflops: dict[Precision, Factor] = Field(default_factory=dict)
    """Dense arithmetic, 10^12 operations a second, by precision; without sparsity."""
    link: Bandwidth | None = None
    """Bytes a second, one way, to the other accelerators of its machine."""
    price: Price | None = None
    """Price of one."""

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.type or "the GPU"
