"""Softmax and layer normalization."""

from __future__ import annotations

import numpy as np

from hgq.layers import QLayerNormalization, QSoftmax
from tests.check_layer import Case, row
from tests.rows.counts import constant_bits, data_bits
from tests.rows.tables import table_cost


def combined(bits) -> tuple[float, int]:
    """Two by two, neighbours first, the larger of two each; and what is left."""
    bits, total = list(bits), 0.0
    while len(bits) > 1:
        pairs = [max(a, b) for a, b in zip(bits[::2], bits[1::2], strict=False)]
        total += sum(pairs)
        bits = pairs + bits[len(pairs) * 2 :]
    return total, bits[0]


def groups(shape, axes):
    """The indices of each group that is reduced together."""
    rest = [axis for axis in range(len(shape)) if axis not in axes]
    for fixed in np.ndindex(*(shape[axis] for axis in rest)):
        group = []
        for free in np.ndindex(*(shape[axis] for axis in axes)):
            index = dict(zip([*rest, *axes], [*fixed, *free], strict=True))
            group.append(tuple(index[axis] for axis in range(len(shape))))
        yield group


def softmax_cost(layer) -> float:
    shape, data_mask = layer.sample_shape, layer.mask_shape is not None
    axes = [axis - 1 if axis > 0 else axis + len(shape) for axis in ([layer.axis] if isinstance(layer.axis, int) else layer.axis)]
    alive = np.ones(shape, bool) if layer.mask is None else np.broadcast_to(layer.mask, shape)
    exp, inverse = layer.exponential, layer.inverse
    rows = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    bits_e = data_bits(exp.output_quantizer, shape) * alive
    total = table_cost(inverse, rows)
    total += float(table_cost(exp, shape, alive))
    bits_i = data_bits(inverse.output_quantizer, rows)
    for group in groups(shape, axes):
        row_index = tuple(0 if axis in axes else at for axis, at in enumerate(group[0]))
        if layer.stable:
            bits = data_bits(layer.input_quantizer, shape)
            stand_in = next((index for index in group if alive[index]), None)
            shown = [bits[index if alive[index] or stand_in is None else stand_in] for index in group]
            if data_mask:
                total += sum(shown)
                shown = [0 if bit == 0 else bit + 1 for bit in shown]
            cost, greatest = combined(shown)
            total += cost + sum(max(greatest, bits[index]) for index in group)
        terms = [bits_e[index] for index in group]
        if data_mask:
            total += sum(terms)
            terms = [0 if bit == 0 else bit + 1 for bit in terms]
        total += combined(terms)[0]
        total += sum(bit * bits_i[row_index] for bit in terms)
    return float(total)


def layer_norm_cost(layer) -> float:
    shape = tuple(layer.input.shape[1:])
    axes = [axis - 1 if axis > 0 else axis + len(shape) for axis in ([layer.axis] if isinstance(layer.axis, int) else layer.axis)]
    rows = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    count = int(np.prod([shape[axis] for axis in axes]))
    x, d = data_bits(layer.input_quantizer, shape), data_bits(layer.centered_quantizer, shape)
    mean, root = data_bits(layer.mean_quantizer, rows), data_bits(layer.rsqrt.output_quantizer, rows)
    share = 1 if count & (count - 1) == 0 else int(constant_bits(layer.scale_quantizer, np.array([1 / count], np.float32))[0])
    total = float(table_cost(layer.rsqrt, rows))
    for group in groups(shape, axes):
        row_index = tuple(0 if axis in axes else at for axis, at in enumerate(group[0]))
        cost, summed = combined([x[index] for index in group])
        total += cost + summed * share
        total += combined([2 * d[index] for index in group])[0]
        for index in group:
            total += max(x[index], mean[row_index]) + d[index] ** 2 + d[index] * root[row_index]
    sizes = tuple(shape[axis] for axis in axes)
    z = data_bits(layer.normalized_quantizer, shape) if layer.normalized_quantizer is not None else None
    for index in np.ndindex(*shape):
        at = tuple(index[axis] for axis in axes)
        if layer.scale:
            total += z[index] * constant_bits(layer.gamma_quantizer, layer.gamma).reshape(sizes)[at]
        if layer.center:
            total += constant_bits(layer.offset_quantizer, layer.offset).reshape(sizes)[at]
    return float(total)


STREAM = "In a stream one circuit casts all pixels"
CAUSAL = np.tril(np.ones((3, 3), bool))


row(
    "QSoftmax",
    plain=Case(lambda: QSoftmax(), [(5,)], brute=softmax_cost),
    unstable=Case(lambda: QSoftmax(stable=False), [(3, 4)], brute=softmax_cost, scale=1.0),
    middle_axis=Case(lambda: QSoftmax(1, input_scale=0.5), [(3, 4)], brute=softmax_cost),
    two_axes=Case(lambda: QSoftmax((-1, -2), input_quantizer="data(granularity=tensor)"), [(2, 3, 2)], brute=softmax_cost),
    causal=Case(lambda: QSoftmax(mask=CAUSAL), [(2, 3, 3)], brute=softmax_cost, io_stream=STREAM),
    own=Case(
        lambda: QSoftmax(
            input_scale=1.7,
            exp_input_quantizer="kif(k0=0, i0=2, f0=3, overflow=SAT)",
            exp_output_quantizer="kif(k0=0, i0=1, f0=5, overflow=SAT)",
            inverse_input_quantizer="kif(k0=0, i0=3, f0=3, overflow=SAT, granularity=channel)",
            inverse_output_quantizer="kif(k0=0, i0=0, f0=6, overflow=SAT)",
            output_quantizer="kif(k0=0, i0=0, f0=6, overflow=SAT)",
        ),
        [(2, 4)],
        brute=softmax_cost,
        io_parallel="one table",
        io_stream=STREAM,
    ),
    masked_by_data=Case(lambda: QSoftmax(), [(2, 4), (1, 4)], brute=softmax_cost),
)
row(
    "QLayerNormalization",
    plain=Case(lambda: QLayerNormalization(), [(4,)], brute=layer_norm_cost),
    count_of_three=Case(lambda: QLayerNormalization(center=False), [(2, 3)], brute=layer_norm_cost, io_stream=STREAM),
    bare=Case(lambda: QLayerNormalization(center=False, scale=False), [(2, 4)], brute=layer_norm_cost, io_stream=STREAM),
    first_axis=Case(lambda: QLayerNormalization(axis=1, scale=False), [(4, 2)], brute=layer_norm_cost, io_stream=STREAM),
    two_axes=Case(
        lambda: QLayerNormalization(
            axis=(1, 2), rsqrt_output_quantizer="kif(k0=0, i0=2, f0=5, overflow=SAT)", output_quantizer="data(granularity=tensor)"
        ),
        [(2, 3)],
        brute=layer_norm_cost,
        io_stream=STREAM,
    ),
)
