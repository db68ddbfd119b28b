"""hls4ml's types: one per tensor, the narrowest that holds every element exactly."""

from __future__ import annotations

import numpy as np

from hgq.errors import LoweringError
from hgq.ir.graph import Const
from hgq.numerics import Fixed

MAX_WIDTH = 62
"""Widest tensor type, in bits: what a float64 and the golden model's integers can still compare."""


def type_name(*formats: Fixed) -> str:
    """The narrowest hls4ml type that holds every element of these formats; one bit wide if all are zero.

    Raises:
        LoweringError: it would be wider than `MAX_WIDTH`.
    """
    parts = [np.stack([part.ravel() for part in fixed.canonical().astuple()]) for fixed in formats]
    k, i, f = np.concatenate(parts, axis=1)
    alive = (k + i + f) > 0
    if not alive.any():
        return "ufixed<1,0>"
    k, i, f = (int(part[alive].max()) for part in (k, i, f))
    width = k + i + f
    if width > MAX_WIDTH:
        raise LoweringError(
            "Two elements of one tensor are too far apart in magnitude for one hls4ml type.",
            expected=f"at most {MAX_WIDTH} bits",
            received=f"{width} bits",
            fix="Bound i and f of this layer, or export with --backend rtl, where each element has a type of its own.",
        )
    return f"{'' if k else 'u'}fixed<{width},{k + i}>"


def tensor_format(fixed: Fixed) -> Fixed:
    """One format for all elements, that of `type_name`."""
    k, i, f = (np.where(fixed.width > 0, part, -(1 << 20)).max() for part in fixed.canonical().astuple())
    parts = (k, i, f) if (fixed.width > 0).any() else (0, 0, 0)
    return Fixed(*(np.full(fixed.shape, part, np.int64) for part in parts))


def const_type(const: Const | None) -> str:
    """Type of a weight array; one bit for none."""
    return "ufixed<1,0>" if const is None else type_name(Fixed.minimal(const.mantissa, const.format.f))
