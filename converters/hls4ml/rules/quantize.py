"""Rule of the op that loses information."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hgq.ir.graph import Node
from hgq.numerics import Fixed, rescale

from .base import Context, Layer, cast, lowers, refused


@lowers("quantize")
def _quantize(context: Context, node: Node) -> Iterator[Layer]:
    fixed, rounding, overflow = node.attrs["format"], node.attrs["rounding"], node.attrs["overflow"]
    unsigned = (fixed.k == 0) & (fixed.width > 0)
    if overflow not in context.settings.dialect.overflows:
        if _may_overflow(context.formats[node.inputs[0]], fixed, rounding):
            known = ", ".join(context.settings.dialect.overflows)
            raise refused(node, "ac_fixed has no such overflow.", f"{known}, or a range that cannot overflow", overflow)
        overflow = "WRAP"
    if overflow == "WRAP_SM" and unsigned.any():
        if _may_overflow(context.formats[node.inputs[0]], fixed, rounding):
            raise refused(
                node,
                "ap_fixed has no sign-magnitude wrap without a sign.",
                "WRAP, SAT or SAT_SYM, or k = 1 everywhere, or a range that cannot overflow",
                f"WRAP_SM with {int(unsigned.sum())} unsigned elements of {unsigned.size}",
            )
        overflow = "WRAP"
    if context.settings.stream and len(fixed.shape) > 1:
        fixed = _of_channels(node, context.formats[node.inputs[0]], fixed.canonical(), rounding, overflow)
    yield cast(context, node.name, node.inputs[0], fixed, rounding, overflow, result=context.type_of(node.name))


def _of_channels(node: Node, x: Fixed, fixed: Fixed, rounding: str, overflow: str) -> Fixed:
    """The same quantizer with formats that differ between channels only: in a stream one circuit serves all pixels.

    Passes narrow the formats of single elements, as at the border of a padded image. Widening them again changes no value where nothing
    overflows and nothing is rounded away.
    """
    axes = tuple(range(len(fixed.shape) - 1))
    alive = fixed.width > 0
    parts = [np.where(alive, part, -(1 << 20)).max(axis=axes, keepdims=True) for part in fixed.astuple()]
    parts = [np.where(alive.any(axis=axes, keepdims=True), part, 0) for part in parts]
    wide = Fixed(*(np.broadcast_to(part, fixed.shape) for part in parts))
    same = (wide.k == fixed.k) & (wide.i == fixed.i) & (wide.f == fixed.f)
    free = ~_overflowing(x, fixed, rounding, overflow) & ((x.f <= fixed.f) | (wide.f == fixed.f))
    if not (same | free).all():
        raise refused(
            node,
            "In a stream one circuit casts all pixels, so their formats must not differ.",
            "formats that differ between channels only",
            f"{int((~(same | free)).sum())} of {same.size} elements have another format than their channel",
            'Take quantizers with granularity="channel" or "tensor" between convolutions, or export with io_type=io_parallel.',
        )
    return wide


def _may_overflow(x: Fixed, fixed: Fixed, rounding: str) -> bool:
    return bool(_overflowing(x, fixed, rounding, "WRAP").any())


def _overflowing(x: Fixed, fixed: Fixed, rounding: str, overflow: str) -> np.ndarray:
    low, high = (rescale(end, x.f, fixed.f, rounding) for end in (x.low, x.high))  # type: ignore[arg-type]
    lowest = np.where(fixed.k == 1, -fixed.high, 0) if overflow == "SAT_SYM" else fixed.low
    return (low < lowest) | (high > fixed.high)
