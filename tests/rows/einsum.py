"""Einstein sums of data with a kernel and of data with data."""

from __future__ import annotations

import numpy as np

from hgq.layers import QDot, QEinsum, QEinsumDense, QEinsumDenseBatchNorm
from tests.check_layer import Case, row
from tests.rows.counts import constant_bits, data_bits


def _products(one: str, two: str, bits_one, bits_two) -> int:
    """Every combination of indices by itself."""
    letters = sorted(set(one + two))
    sizes = dict(zip(one + two, (*bits_one.shape, *bits_two.shape), strict=True))
    total = 0
    for index in np.ndindex(*(sizes[c] for c in letters)):
        at = dict(zip(letters, index, strict=True))
        total += int(bits_one[tuple(at[c] for c in one)]) * int(bits_two[tuple(at[c] for c in two)])
    return total


def kernel_by_loops(one: str, two: str):
    """`one` and `two`: the equation's operands without batch and ellipsis."""

    def brute(layer) -> float:
        kernel, bias = layer.constants()
        shape = layer._shape
        total = _products(one, two, data_bits(layer.input_quantizer, shape), constant_bits(layer.kernel_quantizer, kernel))
        if bias is not None:
            outputs = layer.compute_output_shape((None, *shape))[1:]
            total += np.broadcast_to(constant_bits(layer.bias_quantizer, bias), outputs).sum()
        return float(total)

    return brute


def turns_by_loops(layer) -> float:
    """``abc,cde->abde`` in turns of `parallelization_factor` rows b."""
    bx, copies = data_bits(layer.input_quantizer, layer._shape), layer.parallelization_factor
    pairs = zip((layer.kernel_quantizer, layer.bias_quantizer), layer.constants(), strict=True)
    kernel, bias = (constant_bits(quantizer, value) for quantizer, value in pairs)
    bias = np.broadcast_to(bias, layer.compute_output_shape((None, *layer._shape))[1:])
    total = 0
    for copy in range(copies):
        rows = range(copy, len(bx), copies)
        for c, d, e in np.ndindex(*kernel.shape):
            total += max(bx[row, c] for row in rows) * kernel[c, d, e]
        total += sum(max(bias[row, d, e] for row in rows) for d, e in np.ndindex(*kernel.shape[1:]))
    return float(total)


def data_by_loops(one: str, two: str):
    """The same for two data."""

    def brute(layer) -> float:
        bits = [data_bits(quantizer, shape) for quantizer, shape in zip(layer.input_quantizers, layer._shapes, strict=True)]
        return float(_products(one, two, *bits))

    return brute


TENSOR = "kif(granularity=tensor, overflow=SAT)"
PARALLEL = {"io_stream": "has no Einsum(Dense)? for streams"}
row(
    "QEinsumDense",
    dense=Case(lambda: QEinsumDense("ab,bc->ac", 3, "relu", "c"), [(4,)], brute=kernel_by_loops("b", "bc")),
    ellipsis=Case(lambda: QEinsumDense("...x,xy->...y", 2, bias_axes="y"), [(3, 4)], brute=kernel_by_loops("ax", "xy")),
    heads=Case(
        lambda: QEinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de", input_quantizer="data(granularity=channel)"),
        [(3, 4)],
        brute=kernel_by_loops("bc", "cde"),
        **PARALLEL,
    ),
    in_turns=Case(
        lambda: QEinsumDense("abc,cde->abde", (4, 2, 3), bias_axes="be", parallelization_factor=2),
        [(4, 3)],
        brute=turns_by_loops,
        **PARALLEL,
    ),
    shared_axis=Case(lambda: QEinsumDense("abc,bcd->abd", (3, 2), bias_axes="b"), [(3, 2)], brute=kernel_by_loops("bc", "bcd"), **PARALLEL),
    transposed=Case(
        lambda: QEinsumDense("abcd,dbe->aecb", (3, 2, 2), kernel_quantizer=TENSOR, input_quantizer=TENSOR),
        [(2, 2, 3)],
        brute=kernel_by_loops("bcd", "dbe"),
        **PARALLEL,
    ),
)
row(
    "QEinsumDenseBatchNorm",
    last=Case(lambda: QEinsumDenseBatchNorm("abc,cd->abd", (None, 3), "relu"), [(2, 4)], brute=kernel_by_loops("bc", "cd")),
    kept=Case(
        lambda: QEinsumDenseBatchNorm("abc,bdc->adb", (2, 3), center=False, epsilon=1e-2),
        [(3, 4)],
        brute=kernel_by_loops("bc", "bdc"),
        **PARALLEL,
    ),
)
row(
    "QEinsum",
    scores=Case(lambda: QEinsum("bqhd,bkhd->bhqk"), [(2, 2, 3), (3, 2, 3)], brute=data_by_loops("qhd", "khd"), **PARALLEL),
    ellipsis=Case(
        lambda: QEinsum("...i,...i->...", input_quantizers=["data", TENSOR]), [(2, 3), (2, 3)], brute=data_by_loops("ai", "ai"), **PARALLEL
    ),
    outer=Case(
        lambda: QEinsum("ba,bc->bac", output_quantizer="kif(f0=1, overflow=SAT)"), [(2,), (3,)], brute=data_by_loops("a", "c"), **PARALLEL
    ),
)
row(
    "QDot",
    vectors=Case(lambda: QDot(1), [(4,), (4,)], brute=data_by_loops("a", "a"), **PARALLEL),
    matrices=Case(lambda: QDot((2, 1)), [(2, 3), (3, 2)], brute=data_by_loops("ba", "ac"), **PARALLEL),
    negative=Case(lambda: QDot(-1, input_quantizers=TENSOR), [(2, 3), (3,)], brute=data_by_loops("ba", "a"), **PARALLEL),
)
