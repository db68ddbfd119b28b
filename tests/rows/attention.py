"""Attention."""

from __future__ import annotations

import numpy as np

from hgq.layers import QLinformerAttention, QMultiHeadAttention
from tests.check_layer import Case, row
from tests.rows.counts import constant_bits, data_bits
from tests.rows.softmax import softmax_cost


def dense_cost(layer, contracted: int = 1) -> float:
    """A product for every element of the kernel at every position, and a bias for every output; the last axes are contracted."""
    kernel, bias = layer.constants()
    shape = layer._shape
    bw, bx = constant_bits(layer.kernel_quantizer, kernel), data_bits(layer.input_quantizer, shape)
    features = int(np.prod(shape[-contracted:]))
    total = 0
    for position in bx.reshape(-1, features):
        for at, bits in enumerate(position):
            total += bits * bw.reshape(features, -1)[at].sum()
    if bias is not None:
        total += bx.size // features * constant_bits(layer.bias_quantizer, bias).sum()
    return float(total)


def attention_cost(layer) -> float:
    """Head by head, query by query, key by key."""
    total = sum(dense_cost(part) for part in (layer.query_dense, layer.key_dense, layer.value_dense))
    total += dense_cost(layer.output_dense, 2)
    (q, k), (p, v) = (
        [data_bits(*pair) for pair in zip(part.input_quantizers, part._shapes, strict=True)] for part in (layer.scores, layer.context)
    )
    for head in range(layer.num_heads):
        for a in range(q.shape[0]):
            for b in range(k.shape[0]):
                total += (q[a, head] * k[b, head]).sum() + p[head, a, b] * v[b, head].sum()
    return float(total + softmax_cost(layer.softmax))


def linformer_cost(layer) -> float:
    total = attention_cost(layer)
    projections = [layer.value_projection] if layer.share_projection else [layer.value_projection, layer.key_projection]
    for part in projections:
        bx, bw = data_bits(part.input_quantizer, part._shape), constant_bits(part.kernel_quantizer, part.constants()[0])
        for s, r in np.ndindex(*bw.shape):
            total += bx[s].sum() * bw[s, r]
    return float(total)


STREAM = "In a stream one circuit casts all pixels|no EinsumDense for streams"

SMALL = {
    "input_quantizer": "data(f0=3)",
    "projected_quantizer": "kif(i0=2, f0=2, overflow=SAT)",
    "kernel_quantizer": "kbi(b0=4, i0=1)",
    "softmax": {"input_quantizer": "data(f0=3)"},
}


row(
    "QMultiHeadAttention",
    itself=Case(lambda: QMultiHeadAttention(2, 2, **SMALL), [(3, 4)], brute=attention_cost, io_stream=STREAM),
    another=Case(
        lambda: QMultiHeadAttention(2, 2, value_dim=3, use_bias=False, output_shape=2, **SMALL),
        [(2, 3), (4, 2)],
        brute=attention_cost,
        io_stream=STREAM,
    ),
)
row(
    "QLinformerAttention",
    separate=Case(lambda: QLinformerAttention(2, 2, 2, **SMALL), [(4, 3)], brute=linformer_cost, io_stream=STREAM),
    shared=Case(lambda: QLinformerAttention(1, 2, 2, share_projection=True, **SMALL), [(3, 3)], brute=linformer_cost, io_stream=STREAM),
)
