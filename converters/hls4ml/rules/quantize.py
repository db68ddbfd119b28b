"""Rule of the op that loses information."""

from __future__ import annotations

from collections.abc import Iterator

from hgq.ir.graph import Node
from hgq.numerics import Fixed, rescale

from .base import Context, Layer, lowers, quantizer_layer, refused


@lowers("quantize")
def _quantize(context: Context, node: Node) -> Iterator[Layer]:
    fixed, rounding, overflow = node.attrs["format"], node.attrs["rounding"], node.attrs["overflow"]
    unsigned = (fixed.k == 0) & (fixed.width > 0)
    if overflow == "WRAP_SM" and unsigned.any():
        if _may_overflow(context.formats[node.inputs[0]], fixed, rounding):
            raise refused(
                node,
                "ap_fixed has no sign-magnitude wrap without a sign.",
                "WRAP, SAT or SAT_SYM, or k = 1 everywhere, or a range that cannot overflow",
                f"WRAP_SM with {int(unsigned.sum())} unsigned elements of {unsigned.size}",
            )
        overflow = "WRAP"
    yield quantizer_layer(node.name, node.inputs[0], fixed, rounding, overflow)


def _may_overflow(x: Fixed, fixed: Fixed, rounding: str) -> bool:
    low, high = (rescale(end, x.f, fixed.f, rounding) for end in (x.low, x.high))  # type: ignore[arg-type]
    return bool(((low < fixed.low) | (high > fixed.high)).any())
