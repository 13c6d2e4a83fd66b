"""Language models, as far as serving them depends on their size and shape."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import model_validator

from simulator.model.catalogue import Typed
from simulator.model.gpu import Precision
from simulator.model.part import AtLeastOne, Count, PositiveShare

BYTES: dict[Precision, float] = {
    "fp32": 4.0, "tf32": 4.0, "fp16": 2.0, "bf16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5625, "int4": 0.53125,
}  # fmt: skip
"""Bytes of a number; of four bits with their scales: one of 8 bits for 16 (NVFP4), one of 16 bits for 32."""
UNQUANTIZED = 2.0
"""Bytes of a number of the embeddings and the head where weights are smaller: they stay in bf16."""


class LanguageModel(Typed):
    """A transformer that generates text: dense, or a mixture of experts."""

    section: ClassVar[str] = "llms"
    bare: ClassVar[str | None] = "type"
    least: ClassVar[dict[str, Any]] = {"parameters": 1e9, "layers": 1, "heads": 1, "kv_heads": 1, "head": 1}

    parameters: AtLeastOne
    """All of them."""
    active: AtLeastOne | None = None
    """Those that a token is computed with; all where left out."""
    experts: Count | None = None
    """Experts of a layer."""
    experts_per_token: Count | None = None
    """Experts of a layer that a token is sent to."""
    layers: Count
    """Layers."""
    hidden: Count | None = None
    """Width of the activations between layers; heads times their size where left out."""
    heads: Count
    """Attention heads."""
    kv_heads: Count | None = None
    """Heads of keys and values."""
    head: Count
    """Size of a head."""
    latent: Count | None = None
    """Numbers kept of a token in each layer, in place of keys and values of all heads (multi-head latent attention)."""
    far_layers: PositiveShare = 1.0
    """Share of the layers that attend to all tokens; the others only to a short window, whose time does not count."""
    vocabulary: Count | None = None
    """Tokens of the vocabulary."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if (self.kv_heads is None) == (self.latent is None):
            raise ValueError("expected kv_heads, or latent where keys and values are kept compressed")
        mixture = [name for name in ("active", "experts", "experts_per_token") if getattr(self, name) is not None]
        if 0 < len(mixture) < 3:
            raise ValueError(f"got {', '.join(mixture)}, expected all of active, experts and experts_per_token or none")
        if self.active is not None and self.active > self.parameters:
            raise ValueError(f"got active {self.active:g}, expected at most the {self.parameters:g} parameters")
        if self.experts and self.experts_per_token and self.experts_per_token >= self.experts:
            raise ValueError(
                f"got experts_per_token {self.experts_per_token}, expected fewer than {self.experts} experts"
            )
        return self

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.type or f"a model of {self.parameters / 1e9:.3g} G parameters"

    @property
    def width(self) -> int:
        """Width of the activations between layers."""
        return self.hidden or self.heads * self.head

    @property
    def computed_with(self) -> float:
        """Parameters that a token is computed with."""
        return self.active or self.parameters

    @property
    def expert_share(self) -> float:
        """Share of the experts that a token is sent to; 0 without experts."""
        return self.experts_per_token / self.experts if self.experts and self.experts_per_token else 0.0

    @property
    def in_experts(self) -> float:
        """Parameters of all experts: with p outside of them, active = p + share * rest and parameters = p + rest."""
        share = self.expert_share
        return (self.parameters - self.computed_with) / (1.0 - share) if share else 0.0

    def weights_bytes(self, precision: Precision) -> float:
        """Bytes of all weights: those of embeddings and head, where known, in 16 bits at least."""
        table = self._table
        return (self.parameters - 2.0 * table) * BYTES[precision] + 2.0 * table * max(BYTES[precision], UNQUANTIZED)

    def read_bytes(self, precision: Precision) -> float:
        """Bytes of weights that every step reads: all but experts, and embeddings, of which it reads single rows."""
        table = self._table
        rest = self.parameters - self.in_experts - 2.0 * table
        return rest * BYTES[precision] + table * max(BYTES[precision], UNQUANTIZED)

    def expert_bytes(self, precision: Precision) -> float:
        """Bytes of the weights of all experts."""
        return self.in_experts * BYTES[precision]

    def kv_bytes(self, precision: Precision) -> float:
        """Bytes kept of a token: keys and values of all layers."""
        numbers = self.latent or 2 * (self.kv_heads or 0) * self.head
        return self.layers * numbers * BYTES[precision]

    def kv_copies(self, gpus: int) -> int:
        """How often they are kept: each of `gpus` that compute together has at least one head, or all of a latent."""
        return max(1, -(-gpus // (self.kv_heads or 1)))

    @property
    def _table(self) -> float:
        """Numbers of the embeddings, as many as those of the head."""
        return float((self.vocabulary or 0) * self.width)
