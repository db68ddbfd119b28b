"""Pooling, reductions and Keras' own forms of them."""

from __future__ import annotations

import itertools
import math

import numpy as np

from hgq.layers import (
    QAveragePooling1D,
    QAveragePooling2D,
    QAveragePooling3D,
    QGlobalAveragePooling1D,
    QGlobalAveragePooling2D,
    QGlobalAveragePooling3D,
    QGlobalMaxPooling1D,
    QGlobalMaxPooling2D,
    QGlobalMaxPooling3D,
    QMax,
    QMaxPooling1D,
    QMaxPooling2D,
    QMaxPooling3D,
    QMean,
    QMin,
    QSum,
)
from tests.check_layer import Case, row
from tests.rows.counts import constant_bits, data_bits, padding_before

SAT = "kif(i0=2, f0=2, overflow=SAT)"
VOLUME = {"io_parallel": "at most two axes", "io_stream": "at most two axes"}


def combined(bits: list[int | None]) -> tuple[int, int]:
    """Two by two, neighbours first, each pair at the bits of its wider one; None is not there. The cost and the result's bits."""
    cost = 0
    while len(bits) > 1:
        pairs: list[int | None] = []
        for pair in itertools.zip_longest(bits[::2], bits[1::2]):
            there = [int(b) for b in pair if b is not None]
            cost += max(there) if len(there) == 2 else 0
            pairs.append(max(there) if there else None)
        bits = pairs
    return cost, int(bits[0] or 0)


def share_bits(layer, count: int) -> int:
    """Bits of 1/n: one for a power of two."""
    if count & (count - 1) == 0:
        return 1
    return int(constant_bits(layer.scale_quantizer, layer._share._reciprocals)[list(layer._share._rest).index(count)])


def windows(layer) -> float:
    """Every window of every channel."""
    *sizes, channels = layer.input.shape[1:]
    counts = layer.output.shape[1:-1]
    bits, total = data_bits(layer.quantizer, tuple(layer.input.shape[1:])), 0
    low = [padding_before(n, p, s, 1, layer.padding) for n, p, s in zip(sizes, layer.pool_size, layer.strides, strict=True)]
    for window in np.ndindex(*counts):
        taps = [
            tuple(o * s + t - a for o, s, t, a in zip(window, layer.strides, tap, low, strict=True)) for tap in np.ndindex(layer.pool_size)
        ]
        inside = [all(0 <= at < n for at, n in zip(tap, sizes, strict=True)) for tap in taps]
        for channel in range(channels):
            cost, width = combined([bits[(*tap, channel)] if there else None for tap, there in zip(taps, inside, strict=True)])
            total += cost + (width * share_bits(layer, sum(inside)) if hasattr(layer, "scale_quantizer") else 0)
    return float(total)


def axes_of(layer) -> float:
    """Every element that remains."""
    shape = tuple(layer.input.shape[1:])
    axes = [axis - 1 if axis > 0 else axis + len(shape) for axis in layer.axes]
    bits = np.moveaxis(data_bits(layer.quantizer, shape), sorted(axes), range(-len(axes), 0))
    total, count = 0, math.prod(shape[axis] for axis in axes)
    for column in bits.reshape(-1, count):
        cost, width = combined(list(column))
        total += cost
        if hasattr(layer, "scale_quantizer"):
            total += width * share_bits(layer, count)
        elif getattr(layer, "scale", 1.0) != 1.0:
            total += width
    return float(total)


row(
    "QMaxPooling1D",
    plain=Case(lambda: QMaxPooling1D(quantizer="data"), [(6, 2)], brute=windows),
    same=Case(lambda: QMaxPooling1D(3, 2, "same", quantizer=SAT), [(7, 2)], brute=windows),
)
row(
    "QMaxPooling2D",
    channel=Case(lambda: QMaxPooling2D(quantizer="data(granularity=channel)"), [(5, 4, 2)], brute=windows),
    overlapping_same=Case(
        lambda: QMaxPooling2D((3, 2), (1, 2), "same", quantizer=SAT), [(4, 5, 2)], brute=windows, io_stream="windows do not overlap"
    ),
)
row(
    "QMaxPooling3D",
    plain=Case(lambda: QMaxPooling3D((2, 1, 2), quantizer="data"), [(2, 3, 4, 1)], brute=windows, **VOLUME),
    same=Case(lambda: QMaxPooling3D(2, padding="same", quantizer=SAT), [(3, 2, 3, 1)], brute=windows, **VOLUME),
)
row(
    "QAveragePooling1D",
    plain=Case(lambda: QAveragePooling1D(2), [(6, 2)], brute=windows),
    three=Case(lambda: QAveragePooling1D(3, 1, quantizer=SAT), [(6, 2)], brute=windows),
    same=Case(lambda: QAveragePooling1D(4, 1, "same", quantizer=SAT), [(6, 1)], brute=windows),
)
row(
    "QAveragePooling2D",
    same_without_padding=Case(
        lambda: QAveragePooling2D((2, 1), padding="same", quantizer="data(granularity=tensor)"), [(4, 3, 2)], brute=windows
    ),
    same=Case(lambda: QAveragePooling2D(3, padding="same", scale_quantizer="weight(b0=4)"), [(4, 5, 2)], brute=windows),
)
row(
    "QAveragePooling3D",
    plain=Case(lambda: QAveragePooling3D((1, 2, 3), quantizer=SAT), [(2, 2, 3, 1)], brute=windows, **VOLUME),
)
row(
    "QGlobalMaxPooling1D",
    plain=Case(lambda: QGlobalMaxPooling1D(quantizer="data"), [(5, 3)], brute=axes_of),
)
row(
    "QGlobalMaxPooling2D",
    keepdims=Case(lambda: QGlobalMaxPooling2D(keepdims=True, quantizer=SAT), [(3, 2, 2)], brute=axes_of),
)
row("QGlobalMaxPooling3D", plain=Case(lambda: QGlobalMaxPooling3D(quantizer="data"), [(2, 1, 3, 2)], brute=axes_of))
row(
    "QGlobalAveragePooling1D",
    plain=Case(lambda: QGlobalAveragePooling1D(quantizer=SAT), [(8, 3)], brute=axes_of),
    seven=Case(lambda: QGlobalAveragePooling1D(), [(7, 2)], brute=axes_of),
)
row(
    "QGlobalAveragePooling2D",
    keepdims=Case(lambda: QGlobalAveragePooling2D(keepdims=True), [(4, 2, 2)], brute=axes_of),
    nine=Case(lambda: QGlobalAveragePooling2D(quantizer=SAT), [(3, 3, 2)], brute=axes_of),
)
row("QGlobalAveragePooling3D", plain=Case(lambda: QGlobalAveragePooling3D(), [(2, 1, 3, 2)], brute=axes_of))
row(
    "QSum",
    plain=Case(lambda: QSum(), [(3, 4)], brute=axes_of),
    scaled=Case(lambda: QSum((1, 3), scale=0.25, quantizer=SAT), [(3, 2, 2)], brute=axes_of),
    all=Case(lambda: QSum(1, keepdims=True, quantizer="data(granularity=tensor)"), [(5,)], brute=axes_of),
)
row(
    "QMean",
    plain=Case(lambda: QMean(), [(3, 4)], brute=axes_of),
    three=Case(lambda: QMean(1, keepdims=True, scale_quantizer="weight(b0=5)"), [(3, 4)], brute=axes_of),
)
row(
    "QMax",
    plain=Case(lambda: QMax(), [(3, 4)], brute=axes_of),
    middle=Case(lambda: QMax(2, True, quantizer=SAT), [(2, 3, 2)], brute=axes_of),
)
row("QMin", plain=Case(lambda: QMin(), [(3, 4)], brute=axes_of), two=Case(lambda: QMin((1, 2), quantizer=SAT), [(2, 3, 2)], brute=axes_of))
