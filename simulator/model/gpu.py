"""GPUs: accelerators, as far as the hardware catalogue knows them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simulator.model.part import Bandwidth, Factor, Part, PositiveSize, Price

Precision = Literal["fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4"]


class Gpu(Part):
    """One accelerator."""

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
