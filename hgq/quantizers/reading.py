"""Formats as NumPy reads them off variables and constants: the numbers of `FixedFormats._kif`, for everything outside of training.

Statistics of bits and freezing ask for the formats of each quantizer of a model. TensorFlow answers with some fifty eager ops a quantizer,
tens of milliseconds a model and epoch, more than an epoch of a small network takes. The arithmetic is that of `hgq.quantizers.ops` and
`ranges`, in float32 as there, and is tested against it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hgq.quantizers.ops import NO_BITS, SIGNIFICANT
from hgq.quantizers.ranges import HIGHEST

Floats = NDArray[np.float32]


def integer_bits(q: Floats) -> NDArray[Any]:
    """`hgq.quantizers.ops.integer_bits`."""
    mantissa, exponent = np.frexp(np.abs(q))
    return np.where(q == 0, NO_BITS, np.maximum(exponent - ((q < 0) & (mantissa == 0.5)), NO_BITS)).astype(np.float32)


def needed(
    x: ArrayLike, width: Floats, *, fixed_fraction: bool, rounding: str, shared: tuple[int, ...]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """`hgq.quantizers.ranges.needed`: sign and integer bits that `x` takes once it is rounded."""
    x = np.asarray(x, np.float32)
    low, high = (x.min(shared, keepdims=True), x.max(shared, keepdims=True)) if shared else (x, x)

    def rounded(bits: Floats) -> tuple[Floats, Floats]:
        f = bits.astype(np.int32)
        if rounding == "S_RND":
            return np.ldexp(np.floor(np.ldexp(low, f)), -f), np.ldexp(np.ceil(np.ldexp(high, f)), -f)
        return _rounded(low, f, rounding), _rounded(high, f, rounding)

    def bits(values: tuple[Floats, Floats]) -> NDArray[Any]:
        return np.maximum(integer_bits(values[0]), integer_bits(values[1]))

    if fixed_fraction:
        values = rounded(width)
        return (values[0] < 0).astype(np.float32), bits(values)
    i = np.maximum(bits((low, high)), -HIGHEST)
    i = np.maximum(i, bits(rounded(width - i)))
    return (rounded(width - i)[0] < 0).astype(np.float32), i


def _rounded(x: Floats, f: NDArray[np.int32], rounding: str) -> Floats:
    if rounding == "RND_CONV":
        u = np.rint(np.ldexp(x, f))
    elif rounding == "TRN":
        u = np.floor(np.ldexp(x, f))
    else:
        u = np.ceil(np.floor(np.ldexp(x, f + 1)) * np.float32(0.5))
    return np.ldexp(u, -f)


def fitting(i: NDArray[Any], f: NDArray[Any]) -> NDArray[Any]:
    """Fractional bits that float32 holds besides `i` integer bits."""
    return f - np.maximum(i + f - SIGNIFICANT, 0)
