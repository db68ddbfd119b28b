"""Convolutions: plain, normalised, depthwise, separable, transposed."""

from __future__ import annotations

import numpy as np

from hgq.layers import (
    QConv1D,
    QConv1DBatchNorm,
    QConv1DTranspose,
    QConv2D,
    QConv2DBatchNorm,
    QConv2DTranspose,
    QConv3D,
    QConv3DBatchNorm,
    QConv3DTranspose,
    QDepthwiseConv1D,
    QDepthwiseConv1DBatchNorm,
    QDepthwiseConv2D,
    QDepthwiseConv2DBatchNorm,
    QSeparableConv1D,
    QSeparableConv2D,
)
from tests.check_layer import Case, row
from tests.rows.counts import constant_bits, data_bits, taps_of

CHANNEL, TENSOR = "data(granularity=channel)", "kif(granularity=tensor, overflow=SAT)"
NARROW = "kbi(b0=4, granularity=channel, overflow=WRAP)"


def windows_by_loops(layer) -> float:
    """Every window, tap, channel and filter by itself; a product with padding is none."""
    shape = layer._shape
    kernel, bias = layer.constants()
    bx, bw = data_bits(layer.input_quantizer, shape), constant_bits(layer.kernel_quantizer, kernel)
    groups, outputs = shape[-1] // bw.shape[-2], bw.shape[-1]
    sizes = layer.compute_output_shape((None, *shape))[1:-1]
    bias_bits = constant_bits(layer.bias_quantizer, bias).sum() if bias is not None else 0
    copies = layer.parallelization_factor or int(np.prod(sizes))
    widest: dict = {}  # of each copy, at each tap, channel and filter
    for number, window in enumerate(np.ndindex(*sizes)):
        for tap, at in taps_of(window, shape[:-1], layer.kernel_size, layer.strides, layer.dilation_rate, layer.padding):
            for c, m in np.ndindex(*bw.shape[-2:]):
                key = (number % copies, *tap, c, m)
                widest[key] = max(widest.get(key, 0), bx[(*at, m // (outputs // groups) * bw.shape[-2] + c)])
    return float(sum(bits * bw[key[1:]] for key, bits in widest.items()) + copies * bias_bits)


def separable_by_loops(layer) -> float:
    """Both of its convolutions."""
    return windows_by_loops(layer.depthwise) + windows_by_loops(layer.pointwise)


def scattered_by_loops(layer) -> float:
    """Each element with each tap, where the sum falls on an output: Keras' kernel (*taps, filters, channels), not turned round."""
    shape = layer._shape
    kernel, bias = layer.kernel_quantizer(layer.arranged(layer.kernel)).numpy(), layer.bias
    bx, bw = data_bits(layer.input_quantizer, shape), constant_bits(layer.kernel_quantizer, layer.arranged(layer.kernel))
    turned = np.flip(bw, tuple(range(layer.rank)))
    sizes = layer.compute_output_shape((None, *shape))[1:-1]
    spans = [(k - 1) * d + 1 for k, d in zip(layer.kernel_size, layer.dilation_rate, strict=True)]
    low = [
        max((n - 1) * s + span - o, 0) // 2 if layer.padding == "same" else 0
        for n, s, span, o in zip(shape[:-1], layer.strides, spans, sizes, strict=True)
    ]
    total = np.prod(sizes) * constant_bits(layer.bias_quantizer, bias).sum()
    for *i, c in np.ndindex(*shape):
        for *t, m in np.ndindex(*layer.kernel_size, kernel.shape[-1]):
            at = [a * s + b * d - p for a, s, b, d, p in zip(i, layer.strides, t, layer.dilation_rate, low, strict=True)]
            if all(0 <= a < n for a, n in zip(at, sizes, strict=True)):
                total += bx[(*i, c)] * turned[(*t, c, m)]
    return float(total)


def case(make, shape, brute=windows_by_loops, **refusals):
    return Case(make, [shape], brute=brute, **refusals)


THREE = {"io_parallel": "at most two axes", "io_stream": "at most two axes"}
MIXED = {"io_stream": "formats must not differ"}  # a quantizer of each element inside of a stream
row(
    "QConv1D",
    plain=case(lambda: QConv1D(3, 3, activation="relu"), (7, 2)),
    same_strided=case(lambda: QConv1D(3, 4, 2, "same", input_quantizer=CHANNEL), (7, 2)),
    causal_dilated=case(lambda: QConv1D(2, 3, padding="causal", dilation_rate=2, use_bias=False), (6, 3)),
    in_turns=case(lambda: QConv1D(2, 3, padding="same", parallelization_factor=2), (6, 2)),
    groups=case(lambda: QConv1D(4, 2, groups=2, input_quantizer=TENSOR), (5, 4)),
)
row(
    "QConv2D",
    plain=case(lambda: QConv2D(3, 3, activation="relu"), (5, 6, 2)),
    same=case(
        lambda: QConv2D(2, (3, 2), padding="same", input_quantizer=CHANNEL, output_quantizer="kif(f0=2, overflow=SAT)"), (4, 5, 2), **MIXED
    ),
    strided_same=case(lambda: QConv2D(2, 3, (2, 3), "same", kernel_quantizer=NARROW), (5, 7, 1)),
    in_turns=case(lambda: QConv2D(2, 3, padding="same", activation="relu", parallelization_factor=4), (4, 3, 2)),
    one_window=case(lambda: QConv2D(2, 2, input_quantizer=CHANNEL, parallelization_factor=1), (3, 3, 2)),
    dilated_groups=case(lambda: QConv2D(4, 2, dilation_rate=(2, 1), groups=2, input_quantizer=TENSOR), (5, 4, 2)),
)
row("QConv3D", same=case(lambda: QConv3D(2, 2, padding="same"), (2, 3, 2, 2), **THREE))
row("QConv2DBatchNorm", in_turns=case(lambda: QConv2DBatchNorm(3, 2, parallelization_factor=3), (4, 2, 2)))
row("QConv1DBatchNorm", causal=case(lambda: QConv1DBatchNorm(2, 3, padding="causal", activation="relu", epsilon=1e-2), (5, 2)))
row(
    "QConv2DBatchNorm",
    same=case(lambda: QConv2DBatchNorm(3, 3, padding="same", activation="relu"), (4, 4, 2)),
    bare_groups=case(lambda: QConv2DBatchNorm(4, 2, groups=2, center=False, scale=False, kernel_quantizer=NARROW), (4, 4, 2)),
)
row("QConv3DBatchNorm", plain=case(lambda: QConv3DBatchNorm(2, 2), (2, 3, 2, 2), **THREE))
row(
    "QDepthwiseConv1D",
    plain=case(lambda: QDepthwiseConv1D(3), (6, 3)),
    causal=case(lambda: QDepthwiseConv1D(2, padding="causal", depth_multiplier=2, dilation_rate=2, activation="relu"), (6, 2)),
)
row(
    "QDepthwiseConv2D",
    same=case(lambda: QDepthwiseConv2D(3, padding="same", input_quantizer=CHANNEL), (4, 5, 2)),
    multiplied=case(lambda: QDepthwiseConv2D((2, 3), (1, 2), depth_multiplier=2, kernel_quantizer=NARROW, use_bias=False), (4, 5, 2)),
    in_turns=case(lambda: QDepthwiseConv2D(2, parallelization_factor=2, depth_multiplier=2), (3, 3, 2)),
    one_channel=case(lambda: QDepthwiseConv2D(2, depth_multiplier=3), (3, 3, 1)),
)
row("QDepthwiseConv1DBatchNorm", plain=case(lambda: QDepthwiseConv1DBatchNorm(3, activation="relu"), (6, 3)))
row(
    "QDepthwiseConv2DBatchNorm",
    multiplied=case(lambda: QDepthwiseConv2DBatchNorm(2, depth_multiplier=2, padding="same", epsilon=1e-2), (4, 3, 2)),
)
row(
    "QSeparableConv1D",
    plain=case(lambda: QSeparableConv1D(3, 3, activation="relu"), (6, 2), separable_by_loops, **MIXED),
    causal=case(lambda: QSeparableConv1D(2, 2, padding="causal", dilation_rate=2, use_bias=False), (6, 2), separable_by_loops, **MIXED),
)
row(
    "QSeparableConv2D",
    same=case(lambda: QSeparableConv2D(3, 3, padding="same", depth_multiplier=2), (4, 4, 2), separable_by_loops, **MIXED),
    in_turns=case(lambda: QSeparableConv2D(2, 2, parallelization_factor=2), (3, 3, 2), separable_by_loops, **MIXED),
    strided=case(
        lambda: QSeparableConv2D(
            2, 2, 2, intermediate_quantizer="kif(f0=1, overflow=SAT, granularity=channel)", pointwise_quantizer=NARROW
        ),
        (4, 4, 2),
        separable_by_loops,
    ),
)
row(
    "QConv1DTranspose",
    plain=case(lambda: QConv1DTranspose(2, 3, activation="relu"), (4, 2), scattered_by_loops),
    strided_same=case(lambda: QConv1DTranspose(2, 3, 2, "same", input_quantizer=CHANNEL), (4, 2), scattered_by_loops),
    gaps=case(lambda: QConv1DTranspose(2, 2, 3, kernel_quantizer=NARROW), (3, 2), scattered_by_loops),
)
row(
    "QConv2DTranspose",
    strided=case(lambda: QConv2DTranspose(2, 3, 2), (3, 2, 2), scattered_by_loops),
    same=case(lambda: QConv2DTranspose(2, (2, 3), (2, 1), "same", activation="relu"), (2, 3, 2), scattered_by_loops),
    dilated=case(lambda: QConv2DTranspose(2, 2, dilation_rate=2, padding="same"), (3, 3, 1), scattered_by_loops),
    output_padding=case(lambda: QConv2DTranspose(1, 3, 2, "same", output_padding=1), (2, 3, 2), scattered_by_loops),
)
row("QConv3DTranspose", strided=case(lambda: QConv3DTranspose(2, 2, 2), (2, 2, 1, 1), scattered_by_loops, **THREE))
