"""LUTs of a product with constants under distributed arithmetic: what an adder graph of shifted data costs, before there is one.

EBOPs charge a weight for its bits. An adder graph pays for the *signed digits* of a weight: each but the first of an output adds or
subtracts its data once, by an adder about as wide as the data. What outputs have in common is added once, so the more digits a row of the
kernel has, the smaller the share of its additions that are built::

    LUT = sum_ij d_ij ((1 - 1/D_j) share adder (b_i + carries) + 1/D_j last b_i)

with the digits d of weight (i, j), their sum D_j over the inputs of an output, and data of b bits. `benchmarks/lut_price.py` fits the
constants to adder graphs and prints the errors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Constants(NamedTuple):
    """What `benchmarks/lut_price.py` fits.

    Args:
        adder: LUTs for each bit of an adder, before sharing.
        carries: Bits by which an adder is wider than the data it adds.
        last: LUTs for each bit of an output besides its additions: bias and activation.
        shared: Additions for each row of the kernel beyond which sharing pays …
        exponent: … and how fast it grows.
    """

    adder: float = 0.952
    carries: float = 1.86
    last: float = 0.395
    shared: float = 3.04
    exponent: float = 0.139


FITTED = Constants()

Array = Any


def prices(digits: Array, total: Callable[..., Array] = np.sum, constants: Constants = FITTED) -> tuple[Array, Array]:
    """LUTs that each weight costs for each bit of its data, and for each piece of data that has bits.

    Args:
        digits: Signed digits of each weight, shape (inputs, outputs), float.
        total: Sums along ``axis``.
        constants: Of the formula.

    Returns:
        Two arrays of that shape: the LUT count is the sum of the first times the bits of data, and the second times 1 where there are any.
    """
    per_output = total(digits, axis=0)
    terms = _at_least_one(per_output)
    additions = total(per_output - per_output / terms)  # one less than an output's digits
    rows = total(_at_most_one(total(digits, axis=1)))
    share = (1 + additions / _at_least_one(rows) / constants.shared) ** -constants.exponent
    built = digits * (1 - 1 / terms) * (share * constants.adder)
    return built + digits / terms * constants.last, built * constants.carries


def _at_least_one(x: Array) -> Array:
    return (x + 1 + abs(x - 1)) / 2


def _at_most_one(x: Array) -> Array:
    return (x + 1 - abs(x - 1)) / 2
