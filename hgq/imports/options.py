"""What a user can decide about an import."""

from __future__ import annotations

from dataclasses import dataclass

from hgq.errors import ConfigError

SOFT_HEADS = ("softmax", "sigmoid")


@dataclass(frozen=True)
class ImportOptions:
    """How foreign models are taken.

    Args:
        input_quantizer: What quantizes a model's inputs where its own first layer does not: what `hgq.quantizers.get` takes.
        float_bits: Significant bits to which numbers are rounded that the original keeps in float32 (scales of ``alpha="auto"``, batch
            normalisations, weights without a quantizer), since hardware cannot have them. None refuses such a model.
        bits: Of a float model's weights and data: see `hgq.imports.quantize_model`.
        drop_head: Leave out a softmax or sigmoid at the very end, which a host computes, or nobody: it changes no ranking.

    Raises:
        ConfigError: a number of bits that means nothing.
    """

    input_quantizer: str = "kif(k0=1, i0=5, f0=10, rounding=RND_CONV, overflow=SAT, granularity=tensor)"
    float_bits: int | None = None
    bits: int = 8
    drop_head: bool = False

    def __post_init__(self) -> None:
        if self.float_bits is not None and not 1 <= self.float_bits <= 24:
            raise ConfigError("float32 has 24 significant bits.", where="float_bits", expected="1 to 24", received=repr(self.float_bits))
