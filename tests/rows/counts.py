"""Counting by hand: what the rows' ``brute`` functions share. Plain loops, nothing of `hgq.resources`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from hgq.quantizers import FixedQuantizer


def significant_bits(number: float) -> int:
    """From the leading to the trailing significant bit, sign included, by the digits of an odd integer."""
    if number == 0:
        return 0
    numerator = float(number).as_integer_ratio()[0]
    while numerator % 2 == 0:
        numerator //= 2
    return 1 if numerator == -1 else len(bin(abs(numerator))) - 2 + (numerator < 0)


def constant_bits(quantizer: FixedQuantizer, constant) -> np.ndarray:
    """Bits of each quantized constant as it stands in inference."""
    values = quantizer(tf.convert_to_tensor(constant), training=False).numpy()
    return np.vectorize(significant_bits, otypes=[int])(values)


def data_bits(quantizer: FixedQuantizer, shape: tuple[int, ...]) -> np.ndarray:
    """Bits of each element of data, as declared."""
    return np.asarray(quantizer.format().broadcast_to(tuple(shape)).width)


def padding_before(size: int, taps: int, stride: int, dilation: int, padding: str) -> int:
    """Zeros that Keras puts before an axis: TensorFlow's rule for "same"."""
    extent = (taps - 1) * dilation + 1
    if padding == "valid":
        return 0
    if padding == "causal":
        return extent - 1
    windows = -(-size // stride)
    return max((windows - 1) * stride + extent - size, 0) // 2


def taps_of(
    index: tuple[int, ...], sizes: tuple[int, ...], taps: tuple[int, ...], strides: tuple[int, ...], dilation: tuple[int, ...], padding: str
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """For the window `index`: each (tap, element of the input) that is no padding."""
    before = [padding_before(n, t, s, d, padding) for n, t, s, d in zip(sizes, taps, strides, dilation, strict=True)]
    for tap in np.ndindex(*taps):
        at = tuple(o * s + t * d - p for o, s, t, d, p in zip(index, strides, tap, dilation, before, strict=True))
        if all(0 <= a < n for a, n in zip(at, sizes, strict=True)):
            yield tap, at
