"""Merges of several inputs."""

from __future__ import annotations

import keras
import numpy as np

from hgq.layers import QAdd, QAverage, QConcatenate, QInput, QMaximum, QMinimum, QMultiply, QSubtract
from tests.check_layer import Case, row
from tests.rows.counts import constant_bits, data_bits


def input_bits(layer) -> list[list[int]]:
    """Bits of the operands of each element of the result."""
    shapes = [tuple(x.shape[1:]) for x in layer.input]
    result = np.broadcast_shapes(*shapes)
    bits = [np.broadcast_to(data_bits(q, s), result).ravel().tolist() for q, s in zip(layer.input_quantizers, shapes, strict=True)]
    return list(map(list, zip(*bits, strict=True)))


def neighbours_first(bits: list[int], cost, result) -> tuple[float, int]:
    """Two by two, the odd one left for the next round."""
    total = 0
    while len(bits) > 1:
        pairs = [(bits[i], bits[i + 1]) for i in range(0, len(bits) - 1, 2)]
        total += sum(cost(a, b) for a, b in pairs)
        bits = [result(a, b) for a, b in pairs] + bits[2 * len(pairs) :]
    return total, bits[0]


def wider(layer) -> float:
    """max(a, b) for each pair."""
    return float(sum(neighbours_first(bits, max, max)[0] for bits in input_bits(layer)))


def products(layer) -> float:
    """a * b for each pair; the product has a + b bits, or none."""
    return float(sum(neighbours_first(bits, lambda a, b: a * b, lambda a, b: a + b if a and b else 0)[0] for bits in input_bits(layer)))


def sum_and_share(layer) -> float:
    """The sum, and its product with 1/n: one bit where n is a power of two."""
    n = len(layer.input)
    share = 1 if n & (n - 1) == 0 else int(constant_bits(layer.scale_quantizer, np.array([1 / n], np.float32))[0])
    return float(sum(cost + share * bits for cost, bits in (neighbours_first(bits, max, max) for bits in input_bits(layer))))


SAT = "kif(i0=2, f0=2, overflow=SAT)"
NARROW = "kif(granularity=channel, i0=2, f0=3, overflow=SAT)"  # the product of three has to fit into float32
PAIR, THREE, BROADCAST = [(3,), (3,)], [(2, 3)] * 3, [(2, 3), (2, 1)]

for layer, brute in ((QAdd, wider), (QMaximum, wider), (QMinimum, wider), (QMultiply, products), (QAverage, sum_and_share)):
    row(
        layer.__name__,
        two=Case(lambda layer=layer: layer(), PAIR, brute=brute),
        three=Case(lambda layer=layer: layer(input_quantizers=NARROW), THREE, brute=brute),
        saturating=Case(lambda layer=layer: layer(input_quantizers=[SAT, "data"], output_quantizer=SAT), PAIR, brute=brute),
    )
row(
    "QSubtract",
    two=Case(lambda: QSubtract(), PAIR, brute=wider),
    saturating=Case(lambda: QSubtract(input_quantizers=["kbi(granularity=tensor)", SAT]), [(2, 3)] * 2, brute=wider),
)
row(
    "QConcatenate",
    last=Case(lambda: QConcatenate(), [(2, 3), (2, 1)]),
    first=Case(lambda: QConcatenate(axis=1, input_quantizers=SAT), [(2, 3), (1, 3)]),
)
for name in ("Add", "Subtract", "Multiply", "Maximum", "Minimum", "Concatenate", "Average"):
    make = getattr(keras.layers, name)
    row(f"keras.layers.{name}", two=Case(lambda make=make: [QInput(SAT), make()], PAIR, charged=False))
