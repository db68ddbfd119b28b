"""Effective bit operations (EBOPs): the one set of formulas (HGQ, arXiv:2405.00645).

The bits are those of each element, signs included: of data as declared, of constants as they are (`hgq.numerics.Fixed.minimal`). A
multiplication of a by b bits costs a*b, the addition of a constant its bits. Everything is counted once per copy in a fully parallel
design.

`total` sums all elements of an array: `numpy.sum` for arrays, `tensorflow.reduce_sum` for tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any


def dense(bits_x: Array, bits_kernel: Array, bits_bias: Array | None = None, total: Callable[[Array], Any] = np.sum) -> Any:
    """EBOPs of ``x @ kernel + bias``: the sum of ``bx[i] * bw[i, j]`` over i, j and all positions, plus the bias bits at each position.

    Args:
        bits_x: Bits of the input, shape (…, inputs); the leading axes are positions that share the kernel.
        bits_kernel: Bits of the kernel, shape (inputs, units).
        bits_bias: Bits of the bias, shape (units,), or None.
        total: Sums all elements.
    """
    products = total(bits_x[..., None, :] @ bits_kernel)
    if bits_bias is None:
        return products
    return products + math.prod(bits_x.shape[:-1]) * total(bits_bias)


def scale_offset(bits_x: Array, bits_scale: Array | None, bits_offset: Array | None = None, total: Callable[[Array], Any] = np.sum) -> Any:
    """EBOPs of ``x * scale + offset``, element by element; scale and offset, of shape (channels,), are shared by all positions.

    Args:
        bits_x: Bits of the input, shape (…, channels).
        bits_scale: Bits of the scale, or None where there is none.
        bits_offset: Bits of the offset, or None.
        total: Sums all elements.
    """
    products = total(bits_x * bits_scale) if bits_scale is not None else total(bits_x) * 0
    if bits_offset is None:
        return products
    return products + math.prod(bits_x.shape[:-1]) * total(bits_offset)
