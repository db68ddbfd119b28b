"""Layers of learned tables."""

from __future__ import annotations

import numpy as np

from hgq.layers import QConv1DT, QConv2DT, QDenseT
from tests.check_layer import Case, row
from tests.rows.counts import constant_bits, data_bits
from tests.rows.tables import LUTS


def edges(layer) -> float:
    """The tables of each position, then the sums two by two, then the bias."""
    inputs, units = layer.slope.shape
    positions = np.prod(layer.compute_output_shape((None, *layer.input.shape[1:]))[1:-1], dtype=int)
    bx, by = data_bits(layer.edge_quantizer, (inputs, units)), data_bits(layer.table_quantizer, (inputs, units))
    total = 0.0
    for j in range(units):
        alive = [int(by[i, j]) if bx[i, j] else 0 for i in range(inputs)]
        total += sum(LUTS[int(bx[i, j])] * alive[i] for i in range(inputs))
        while len(alive) > 1:
            pairs = [max(a, b) for a, b in zip(alive[::2], alive[1::2], strict=False)]
            total += sum(pairs)
            alive = pairs + alive[2 * len(pairs) :]
    if layer.use_bias:
        total += constant_bits(layer.bias_quantizer, layer.bias).sum()
    return float(positions * total)


REFUSED = {"io_parallel": "one table", "io_stream": "one circuit casts all pixels"}
row(
    "QDenseT",
    plain=Case(lambda: QDenseT(3), [(4,)], brute=edges, **REFUSED),
    positions=Case(lambda: QDenseT(2, hidden=2, use_bias=False), [(2, 3)], brute=edges, **REFUSED),
    channels=Case(
        lambda: QDenseT(2, edge_quantizer="kif(i0=1, f0=2, overflow=SAT)", table_quantizer="data(granularity=channel)"),
        [(3,)],
        brute=edges,
        **REFUSED,
    ),
)
row("QConv1DT", causal=Case(lambda: QConv1DT(2, 2, padding="causal", dilation_rate=2), [(4, 2)], brute=edges, **REFUSED))
row("QConv2DT", strided=Case(lambda: QConv2DT(2, 2, strides=(2, 1), padding="same"), [(3, 3, 1)], brute=edges, **REFUSED))
