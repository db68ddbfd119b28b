"""LUTs of a product with constants under distributed arithmetic: what an adder graph of shifted data costs, before there is one.

EBOPs charge a weight for its bits. An adder graph pays for the *signed digits* of a weight: each but the first of an output adds or
subtracts its data once, by an adder about as wide as the data. What outputs have in common is added once, so the more digits a row of the
kernel has, the smaller the share of its additions that are built::

    LUT = sum_ij d_ij ((1 - 1/D_j) share ADDER (b_i + CARRIES) + 1/D_j LAST b_i)

with the digits d of weight (i, j), their sum D_j over the inputs of an output, and data of b bits. `benchmarks/lut_price.py` fits the four
constants to adder graphs and prints the errors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

ADDER = 0.76
"""LUTs for each bit of an adder, before sharing."""
CARRIES = 2.4
"""Bits by which an adder is wider than the data it adds."""
LAST = 1.31
"""LUTs for each bit of an output besides its additions: bias and activation."""
SHARED = 62.0
"""Additions for each row of the kernel beyond which sharing pays …"""
EXPONENT = 0.30
"""… and how fast it grows."""

Array = Any


def prices(digits: Array, total: Callable[..., Array] = np.sum) -> tuple[Array, Array]:
    """LUTs that each weight costs for each bit of its data, and for each piece of data that has bits.

    Args:
        digits: Signed digits of each weight, shape (inputs, outputs), float.
        total: Sums along ``axis``.

    Returns:
        Two arrays of that shape: the LUT count is the sum of the first times the bits of data, and the second times 1 where there are any.
    """
    per_output = total(digits, axis=0)
    terms = _at_least_one(per_output)
    additions = total(per_output - per_output / terms)  # one less than an output's digits
    rows = total(_at_most_one(total(digits, axis=1)))
    share = (1 + additions / _at_least_one(rows) / SHARED) ** -EXPONENT
    built = digits * (1 - 1 / terms) * (share * ADDER)
    return built + digits / terms * LAST, built * CARRIES


def _at_least_one(x: Array) -> Array:
    return (x + 1 + abs(x - 1)) / 2


def _at_most_one(x: Array) -> Array:
    return (x + 1 - abs(x - 1)) / 2
