"""LUTs of a product with constants under distributed arithmetic: what an adder graph of shifted data costs, before there is one.

EBOPs charge a weight for its bits. An adder graph pays for the *signed digits* of a weight: each but the first of an output adds or
subtracts its data once, by an adder about as wide as the data. What outputs have in common is added once, so the more digits a row of the
kernel has, the smaller the share of its additions that are built. An output that goes through an activation pays for that by the bit, and
a bias for what it makes sums wider::

    LUT = sum_ij d_ij ((1 - 1/D_j) share adder (b_i + carries) + 1/D_j activation b_i) + bias sum_j c_j

with the digits d of weight (i, j), their sum D_j over the inputs of an output, data of b bits and biases of c.

That is the count. What a weight *saves* when it goes (`saved`) is more: a whole addition, also where it is one of two of its output, and
of the last one the output itself. Training charges the count and follows the savings. Were the gradient that of the count, an output's
last weights would cost next to nothing, and training would end with many outputs of a weight or two each, none worth its activation.

Bits of a weight save digits: the last one that is left saves the weight, and so a digit, each one above it a third of a digit
(`digits_of_a_bit`). EBOPs take all bits of a weight for alike. So here fewer weights are kept, of more bits, where the loss asks for them.

`benchmarks/lut_price.py` fits the constants and prints the errors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = Any


class Constants(NamedTuple):
    """What `benchmarks/lut_price.py` fits; the last one it measures.

    Args:
        adder: LUTs for each bit of an adder, before sharing.
        carries: Bits by which an adder is wider than the data it adds.
        activation: LUTs for each bit of an output that goes through an activation.
        bias: LUTs for each bit of a bias.
        shared: Additions for each row of the kernel beyond which sharing pays …
        exponent: … and how fast it grows.
        bias_saved: LUTs that a bit of a bias saves when it goes, in networks whose biases have bits to spare.
    """

    adder: float = 0.918
    carries: float = 1.35
    activation: float = 0.44
    bias: float = 0.072
    shared: float = 11.7
    exponent: float = 0.235
    bias_saved: float = 0.3


FITTED = Constants()


class Prices(NamedTuple):
    """LUTs of each weight, shape (inputs, outputs): the sum of `bit` times the bits of data, and of `value` times 1 where data has bits.

    Args:
        bit: For each bit of its data.
        value: For each piece of data that has bits.
    """

    bit: Array
    value: Array


def prices(digits: Array, total: Callable[..., Array] = np.sum, *, activated: bool = True, constants: Constants = FITTED) -> Prices:
    """LUTs that weights cost: they sum up to those of the product.

    Args:
        digits: Signed digits of each weight, shape (inputs, outputs), float.
        total: Sums along ``axis``.
        activated: Whether outputs go through an activation.
        constants: Of the formula.
    """
    terms = _at_least_one(total(digits, axis=0))
    built = digits * (1 - 1 / terms) * (share(digits, total, constants) * constants.adder)
    return Prices(built + digits / terms * (constants.activation if activated else 0.0), built * constants.carries)


def saved(digits: Array, total: Callable[..., Array] = np.sum, *, constants: Constants = FITTED) -> Prices:
    """LUTs that the layer loses with any one digit: an addition. Scalars; arguments as of `prices`."""
    bit = share(digits, total, constants) * constants.adder
    return Prices(bit, bit * constants.carries)


FURTHER = 1 / 3
"""Signed digits for each bit of a number of many bits, on average: in the non-adjacent form, one of three is not 0 (Reitwiesner 1960)."""


def digits_of_a_bit(bits: Array) -> Array:
    """Signed digits that a weight is expected to lose with the last of its bits: 1 with its only one, `FURTHER` with one of more.

    Numbers from 1 to ``2**b - 1`` have 1, 4/3, 11/7, 28/15, 67/31 digits on average for b from 1 to 5, and ``b / 3 + 4 / 9`` in the limit.

    Args:
        bits: Of the magnitude, whole numbers.
    """
    return 1 - (1 - FURTHER) * _at_most_one((bits - 1 + abs(bits - 1)) / 2)


def share(digits: Array, total: Callable[..., Array] = np.sum, constants: Constants = FITTED) -> Array:
    """Share of a kernel's additions that are built; arguments as of `prices`."""
    per_output = total(digits, axis=0)
    additions = total(per_output - per_output / _at_least_one(per_output))  # one less than an output's digits
    rows = total(_at_most_one(total(digits, axis=1)))
    return (1 + additions / _at_least_one(rows) / constants.shared) ** -constants.exponent


def _at_least_one(x: Array) -> Array:
    return (x + 1 + abs(x - 1)) / 2


def _at_most_one(x: Array) -> Array:
    return (x + 1 - abs(x - 1)) / 2
