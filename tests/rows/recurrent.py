"""Recurrent layers."""

from __future__ import annotations

import keras
import numpy as np

from hgq.layers import QGRU, QLSTM, QSimpleRNN
from tests.check_layer import Case, row
from tests.rows.counts import constant_bits, data_bits
from tests.rows.tables import table_cost


class Count:
    """One copy of a cell for each step, counted product by product."""

    def __init__(self, layer) -> None:
        self.layer, self.units, self.total = layer, layer.units, 0
        self.steps, self.features = layer.input.shape[1:]
        self.kernel = constant_bits(layer.kernel_quantizer, layer.kernel)
        self.recurrent = constant_bits(layer.recurrent_quantizer, layer.recurrent_kernel)
        self.bias = np.zeros(4 * layer.kernel.shape[1], int)
        if layer.use_bias:
            self.bias = constant_bits(layer.bias_quantizer, layer.arranged_bias())
        self.inputs = data_bits(layer.input_quantizer, (self.steps, self.features))[:: -1 if layer.go_backwards else 1]

    def sums(self, bits, kernel, bias) -> None:
        for j in range(kernel.shape[1]):
            self.total += sum(int(bits[i]) * int(kernel[i, j]) for i in range(len(bits))) + int(bias[j])

    def part(self, part):
        if part.table is not None:
            self.total += table_cost(part.table, (self.units,))
        return data_bits(part.quantizer, (self.units,))

    def bits(self, quantizer):
        return data_bits(quantizer, (self.units,))

    def product(self, a, b):
        self.total += sum(int(x) * int(y) for x, y in zip(a, b, strict=True))
        return [int(x) + int(y) if x and y else 0 for x, y in zip(a, b, strict=True)]

    def adder(self, a, b):
        self.total += sum(max(int(x), int(y)) for x, y in zip(a, b, strict=True))
        return [max(int(x), int(y)) for x, y in zip(a, b, strict=True)]


def simple(layer) -> float:
    count = Count(layer)
    h = [0] * layer.units
    for x in count.inputs:
        count.sums([*x, *h], np.vstack([count.kernel, count.recurrent]), count.bias)
        h = count.part(layer.state)
    return float(count.total)


def lstm(layer) -> float:
    count = Count(layer)
    h = c = [0] * layer.units
    for x in count.inputs:
        count.sums([*x, *h], np.vstack([count.kernel, count.recurrent]), count.bias)
        i, f, g, o = (count.part(part) for part in (layer.input_gate, layer.forget_gate, layer.candidate, layer.output_gate))
        count.adder(count.product(f, c), count.product(i, g))
        c = count.bits(layer.cell_quantizer)
        count.product(o, count.part(layer.readout))
        h = count.bits(layer.state_quantizer)
    return float(count.total)


def gru(layer) -> float:
    count, n = Count(layer), layer.units
    kernel, recurrent, bias = count.kernel, count.recurrent, count.bias
    h = [0] * n
    for x in count.inputs:
        count.sums([*x, *h], np.vstack([kernel[:, : 2 * n], recurrent[:, : 2 * n]]), bias[: 2 * n])
        z, r = count.part(layer.update_gate), count.part(layer.reset_gate)
        below = recurrent[:, 2 * n :]
        if layer.reset_after:
            count.sums(h, below, bias[3 * n :])
            count.product(r, count.bits(layer.inner_quantizer))
            below = np.eye(n, dtype=int)
        else:
            count.product(r, h)
        count.sums([*x, *count.bits(layer.reset_quantizer)], np.vstack([kernel[:, 2 * n :], below]), bias[2 * n :])
        g = count.part(layer.candidate)
        count.adder(g, count.product(z, count.adder(h, g)))
        h = count.bits(layer.state_quantizer)
    return float(count.total)


def both(counted):
    """Of a Bidirectional layer."""

    def brute(layer) -> float:
        total = 0.0
        for direction in (layer.forward_layer, layer.backward_layer):
            total += counted(_Placed(direction, layer.input))
        return total

    return brute


class _Placed:
    """A layer inside another, which Keras tells no input."""

    def __init__(self, layer, x) -> None:
        self._layer, self.input = layer, x

    def __getattr__(self, name):
        return getattr(self._layer, name)


ONE = "kif(i0=2, f0=3, overflow=SAT, granularity=tensor)"
FEW = "kif(i0=1, f0=3, overflow=SAT)"
SMALL = {"recurrent_quantizer": "kbi(b0=3, i0=0)", "kernel_quantizer": "kbi(b0=3, i0=0)", "input_quantizer": "data(f0=3)"}

row(
    "QSimpleRNN",
    relu=Case(lambda: QSimpleRNN(3, "relu", state_quantizer="kif(i0=2, f0=3, overflow=SAT)", **SMALL), [(3, 2)], brute=simple),
    tanh=Case(lambda: QSimpleRNN(2, return_sequences=True, pre_quantizer=ONE), [(3, 2)], brute=simple),
    backwards=Case(
        lambda: QSimpleRNN(2, "hard_tanh", use_bias=False, go_backwards=True, return_sequences=True, unroll=True), [(2, 2)], brute=simple
    ),
)
row(
    "QLSTM",
    logic=Case(lambda: QLSTM(2, "hard_tanh", "hard_sigmoid", return_sequences=True, cell_quantizer=FEW, **SMALL), [(2, 2)], brute=lstm),
    tables=Case(lambda: QLSTM(2, pre_quantizer=ONE, cell_quantizer=FEW, state_quantizer=FEW, unroll=True, **SMALL), [(2, 1)], brute=lstm),
)
row(
    "QGRU",
    logic=Case(lambda: QGRU(2, "hard_tanh", "hard_sigmoid", return_sequences=True, inner_quantizer=FEW, **SMALL), [(2, 2)], brute=gru),
    tables=Case(lambda: QGRU(2, pre_quantizer=ONE, state_quantizer=FEW, reset_quantizer=FEW, **SMALL), [(2, 1)], brute=gru),
    reset_before=Case(lambda: QGRU(2, "relu", "hard_sigmoid", reset_after=False, go_backwards=True, **SMALL), [(2, 2)], brute=gru),
    no_bias=Case(
        lambda: QGRU(2, "hard_tanh", "hard_sigmoid", use_bias=False, input_quantizer="data(granularity=channel)", state_quantizer=FEW),
        [(2, 2)],
        brute=gru,
    ),
)
row(
    "keras.layers.Bidirectional",
    concat=Case(
        lambda: keras.layers.Bidirectional(QSimpleRNN(2, "hard_tanh", return_sequences=True, **SMALL)),
        [(2, 2)],
        brute=both(simple),
        io_stream="one circuit casts all pixels",
    ),
)
