"""Dense layers and batch normalization."""

from __future__ import annotations

import numpy as np

from hgq.layers import QBatchNormalization, QDense, QDenseBatchNorm
from tests.check_layer import Case, row
from tests.rows.counts import constant_bits, data_bits


def matrix_products(layer) -> float:
    """Every product of every position, and the bias at each."""
    kernel, bias = layer.folded() if isinstance(layer, QDenseBatchNorm) else (layer.kernel, layer.bias if layer.use_bias else None)
    shape = tuple(layer.input.shape[1:])
    bx, bw = data_bits(layer.input_quantizer, shape), constant_bits(layer.kernel_quantizer, kernel)
    total = sum(bx[(*position, i)] * bw[i, j] for position in np.ndindex(shape[:-1]) for i, j in np.ndindex(bw.shape))
    if bias is not None:
        total += np.prod(shape[:-1], dtype=int) * constant_bits(layer.bias_quantizer, bias).sum()
    return float(total)


def scale_and_offset(layer) -> float:
    """A product and an addition for each element."""
    scale, offset = layer.folded()
    shape = tuple(layer.input.shape[1:])
    bx, bs, bo = (
        data_bits(layer.input_quantizer, shape),
        constant_bits(layer.scale_quantizer, scale),
        constant_bits(layer.offset_quantizer, offset),
    )
    return float(sum(bx[index] * bs[index[-1]] + bo[index[-1]] for index in np.ndindex(shape)))


row(
    "QDense",
    plain=Case(lambda: QDense(3, "relu"), [(4,)], brute=matrix_products),
    positions=Case(lambda: QDense(3, use_bias=False, input_quantizer="data(granularity=channel)"), [(2, 4)], brute=matrix_products),
    per_tensor=Case(
        lambda: QDense(
            2,
            input_quantizer="kif(granularity=tensor, overflow=SAT, rounding=RND_CONV)",
            kernel_quantizer="kbi(b0=4, granularity=channel, overflow=WRAP)",
            output_quantizer="kif(i0=2, f0=2, overflow=SAT)",
        ),
        [(4,)],
        brute=matrix_products,
    ),
    luq4=Case(lambda: QDense(3, "relu", gradients="luq4", gradient_seed=1), [(2, 4)], brute=matrix_products),
    hard_tanh=Case(lambda: QDense(3, "hard_tanh", input_quantizer="kbi(overflow=SAT_SYM)"), [(4,)], brute=matrix_products),
)
row(
    "QDenseBatchNorm",
    plain=Case(lambda: QDenseBatchNorm(3, "relu", epsilon=1e-2), [(4,)], brute=matrix_products),
    bare=Case(lambda: QDenseBatchNorm(3, center=False, scale=False), [(2, 4)], brute=matrix_products),
)
row(
    "QBatchNormalization",
    plain=Case(lambda: QBatchNormalization(), [(4,)], brute=scale_and_offset),
    bare=Case(
        lambda: QBatchNormalization(center=False, scale=False, input_quantizer="data(granularity=channel)"),
        [(2, 4)],
        brute=scale_and_offset,
    ),
)
KINDS = ("binary", "ternary", "po2", "minifloat")
row(
    "QDense with other quantizers",
    **{f"{kind}_weights": Case(lambda kind=kind: QDense(3, kernel_quantizer=kind), [(4,)], brute=matrix_products) for kind in KINDS},
    sawb_weights=Case(lambda: QDense(3, kernel_quantizer="sawb4(granularity=channel)"), [(4,)], brute=matrix_products),
    sawb_data=Case(lambda: QDense(3, input_quantizer="sawb4", kernel_quantizer="sawb4"), [(4,)], brute=matrix_products),
    ternary_data=Case(lambda: QDense(3, input_quantizer="ternary"), [(4,)], brute=matrix_products),
)
