"""Keras' own layers that hardware takes as they are: activations, merges and movements of elements. All exact."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import keras
import numpy as np

from hgq.errors import FreezeError
from hgq.ir import windows
from hgq.ir.build import GraphBuilder, Ref
from hgq.ir.graph import Const
from hgq.ir.integers import IntArray
from hgq.ir.trees import tree
from hgq.layers import activations, functions
from hgq.layers.recurrent import QRecurrent
from hgq.layers.share import Share, window_counts
from hgq.numerics import bit_length, trailing_zeros

Freezer = Callable[..., Ref | list[Ref]]
FREEZERS: dict[type, Freezer] = {}


def freezes(*classes: type) -> Callable[[Freezer], Freezer]:
    """Register ``function(layer, b, *inputs) -> Ref`` for layers of exactly these classes."""

    def register(function: Freezer) -> Freezer:
        FREEZERS.update(dict.fromkeys(classes, function))
        return function

    return register


@freezes(keras.layers.ReLU, keras.layers.LeakyReLU)
def _relu(layer: keras.layers.ReLU | keras.layers.LeakyReLU, b: GraphBuilder, x: Ref) -> Ref:
    slope, threshold, highest = float(layer.negative_slope), getattr(layer, "threshold", 0.0), getattr(layer, "max_value", None)
    exact = 0 <= slope <= 1 and np.float32(slope) == activations.rounded_slope(slope)
    if threshold or not exact or (slope and highest is not None):
        raise FreezeError(
            "This ReLU cannot be frozen exactly.",
            where=f"layer {layer.name}",
            expected="no threshold, a negative_slope from 0 to 1 with at most 8 significant bits (0.125), no max_value beside a slope",
            received=f"negative_slope={slope}, threshold={threshold}, max_value={highest}",
            fix="Use hgq.layers.QActivation, which rounds the slope: QActivation('leaky_relu(0.2)').",
        )
    if slope:
        return b.op("leaky_relu", x, slope=slope)
    return b.op("relu", x) if highest is None else b.op("clip", x, low=0.0, high=float(np.float32(highest)))


@freezes(keras.layers.Activation)
def _activation(layer: keras.layers.Activation, b: GraphBuilder, x: Ref) -> Ref:
    name = getattr(layer.activation, "__name__", repr(layer.activation))
    if name in ("linear", "relu", *activations.CLIPS):
        return activations.to_ir(b, name, x)
    raise FreezeError(
        "This activation cannot be frozen.",
        where=f"layer {layer.name}",
        expected="linear, relu, relu6 or hard_tanh",
        received=name,
        fix=_nearest(name),
    )


def _nearest(name: str) -> str:
    if name in ("softmax", "hard_sigmoid"):
        return f"Use hgq.layers.{'QSoftmax()' if name == 'softmax' else 'QActivation(' + repr(name) + ')'}, whose numbers hardware has."
    return f"Use hgq.layers.QTable({name!r}), a lookup table with trained formats." if functions.known(name) else "Use hgq.layers.QTable."


MERGES = {
    keras.layers.Add: "add",
    keras.layers.Subtract: "subtract",
    keras.layers.Maximum: "maximum",
    keras.layers.Minimum: "minimum",
    keras.layers.Multiply: "product",
}


@freezes(*MERGES)
def _merge(layer: keras.layers.Layer, b: GraphBuilder, *inputs: Ref) -> Ref:
    _one_rank(layer, inputs)
    return tree(lambda x, y: b.op(MERGES[type(layer)], x, y), inputs)


@freezes(keras.layers.Average)
def _average(layer: keras.layers.Average, b: GraphBuilder, *inputs: Ref) -> Ref:
    _one_rank(layer, inputs)
    return _divided(layer, b, tree(lambda x, y: b.op("add", x, y), inputs), np.array([len(inputs)]), "hgq.layers.QAverage")


def _divided(layer: keras.layers.Layer, b: GraphBuilder, total: Ref, counts: np.ndarray, instead: str) -> Ref:
    """A sum as a mean, if that is a shift."""
    if (counts & (counts - 1)).any():
        raise FreezeError(
            "The mean of a number of values that is no power of two is no fixed-point number.",
            where=f"layer {layer.name}",
            expected="2, 4, 8, … values",
            received=f"{', '.join(map(str, np.unique(counts)))} values",
            fix=f"Use {instead}, which multiplies with a quantized constant.",
        )
    return Share(counts).to_ir(b, total)


MAX_POOLINGS = (keras.layers.MaxPooling1D, keras.layers.MaxPooling2D, keras.layers.MaxPooling3D)
MEAN_POOLINGS = (keras.layers.AveragePooling1D, keras.layers.AveragePooling2D, keras.layers.AveragePooling3D)
GLOBAL_MAX_POOLINGS = (keras.layers.GlobalMaxPooling1D, keras.layers.GlobalMaxPooling2D, keras.layers.GlobalMaxPooling3D)
GLOBAL_MEAN_POOLINGS = (keras.layers.GlobalAveragePooling1D, keras.layers.GlobalAveragePooling2D, keras.layers.GlobalAveragePooling3D)


@freezes(*MAX_POOLINGS, *MEAN_POOLINGS)
def _pooling(layer: keras.layers.MaxPooling2D | keras.layers.AveragePooling2D, b: GraphBuilder, x: Ref) -> Ref:
    _check_channels_last(layer)
    sizes = x.shape[:-1]
    pool, strides = (tuple(int(n) for n in numbers) for numbers in (layer.pool_size, layer.strides))
    padding = windows.padding_of(layer.padding, sizes, pool, strides, (1,) * len(sizes))
    mean = isinstance(layer, MEAN_POOLINGS)
    y = b.op("sum_pool" if mean else "max_pool", x, pool=pool, strides=strides, padding=padding)
    counts = window_counts(sizes, pool, strides, padding)
    return _divided(layer, b, y, counts, f"hgq.layers.Q{type(layer).__name__}") if mean else y


@freezes(*GLOBAL_MAX_POOLINGS, *GLOBAL_MEAN_POOLINGS)
def _global_pooling(layer: keras.layers.GlobalMaxPooling2D | keras.layers.GlobalAveragePooling2D, b: GraphBuilder, x: Ref) -> Ref:
    _check_channels_last(layer)
    mean = isinstance(layer, GLOBAL_MEAN_POOLINGS)
    y = b.op("reduce_sum" if mean else "reduce_max", x, axes=tuple(range(len(x.shape) - 1)))
    if mean:
        y = _divided(layer, b, y, np.array([math.prod(x.shape[:-1])]), f"hgq.layers.Q{type(layer).__name__}")
    return y if layer.keepdims else b.op("reshape", y, shape=x.shape[-1:])


def _check_channels_last(layer: keras.layers.Layer) -> None:
    if layer.data_format != "channels_last":
        raise FreezeError(
            "Channels come last.", where=f"layer {layer.name}", expected='data_format="channels_last"', received=layer.data_format
        )


@freezes(keras.layers.Concatenate)
def _concatenate(layer: keras.layers.Concatenate, b: GraphBuilder, *inputs: Ref) -> Ref:
    rank = len(inputs[0].shape)
    axis = layer.axis - 1 if layer.axis > 0 else layer.axis + rank
    if layer.axis == 0 or not 0 <= axis < rank:
        raise FreezeError(
            "Samples of a batch cannot be concatenated in hardware.", where=f"layer {layer.name}", received=f"axis={layer.axis}"
        )
    return tree(lambda x, y: b.op("concatenate", x, y, axis=axis), inputs)


def _one_rank(layer: keras.layers.Layer, inputs: Sequence[Ref]) -> None:
    if len({len(x.shape) for x in inputs}) > 1:
        raise FreezeError(
            "Values of different rank are merged.",
            where=f"layer {layer.name}",
            expected="inputs of one rank",
            received=", ".join(str(x.shape) for x in inputs),
            fix="Put a Reshape before the merge.",
        )


@freezes(
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.AlphaDropout,
    keras.layers.GaussianNoise,
    keras.layers.GaussianDropout,
    keras.layers.ActivityRegularization,
    keras.layers.Identity,
)
def _pass_through(layer: keras.layers.Layer, b: GraphBuilder, x: Ref) -> Ref:
    """Does nothing in inference."""
    return x


@freezes(keras.layers.Flatten, keras.layers.Reshape)
def _reshape(layer: keras.layers.Layer, b: GraphBuilder, x: Ref) -> Ref:
    shape = layer.compute_output_shape((None, *x.shape))[1:]
    if getattr(layer, "data_format", "channels_last") == "channels_first" and len(x.shape) > 1:
        raise FreezeError("Flatten moves axes with channels_first.", where=f"layer {layer.name}", fix='Use data_format="channels_last".')
    return b.op("reshape", x, shape=tuple(int(size) for size in shape))


@freezes(keras.layers.Permute)
def _permute(layer: keras.layers.Permute, b: GraphBuilder, x: Ref) -> Ref:
    return b.op("transpose", x, axes=tuple(int(axis) - 1 for axis in layer.dims))


@freezes(keras.layers.ZeroPadding1D, keras.layers.ZeroPadding2D, keras.layers.ZeroPadding3D)
def _zero_padding(layer: keras.layers.Layer, b: GraphBuilder, x: Ref) -> Ref:
    pads = dict(zip(_spatial(layer, x), _pairs(layer.padding), strict=True))
    return b.op("pad", x, widths=tuple(pads.get(axis, (0, 0)) for axis in range(len(x.shape))))


@freezes(keras.layers.Cropping1D, keras.layers.Cropping2D, keras.layers.Cropping3D)
def _cropping(layer: keras.layers.Layer, b: GraphBuilder, x: Ref) -> Ref:
    for axis, (before, after) in zip(_spatial(layer, x), _pairs(layer.cropping), strict=True):
        if before or after:
            x = b.op("take", x, axis=axis, indices=tuple(range(before, x.shape[axis] - after)))
    return x


@freezes(keras.layers.UpSampling1D, keras.layers.UpSampling2D, keras.layers.UpSampling3D)
def _up_sampling(layer: keras.layers.Layer, b: GraphBuilder, x: Ref) -> Ref:
    if (received := getattr(layer, "interpolation", "nearest")) != "nearest":
        raise FreezeError(
            "Only nearest-neighbour up-sampling is exact.",
            where=f"layer {layer.name}",
            expected='interpolation="nearest"',
            received=received,
        )
    axes = _spatial(layer, x)
    factors = (layer.size,) * len(axes) if isinstance(layer.size, int) else tuple(layer.size)
    for axis, factor in zip(axes, factors, strict=True):
        if factor > 1:
            x = b.op("take", x, axis=axis, indices=tuple(index // factor for index in range(factor * x.shape[axis])))
    return x


@freezes(keras.layers.RepeatVector)
def _repeat_vector(layer: keras.layers.RepeatVector, b: GraphBuilder, x: Ref) -> Ref:
    return b.op("take", b.op("reshape", x, shape=(1, *x.shape)), axis=0, indices=(0,) * int(layer.n))


SIGNIFICANT = 8
"""Most bits of a rescaling's numbers: a product with data of up to 16 bits is then exact in float32, too."""


@freezes(keras.layers.Rescaling)
def _rescaling(layer: keras.layers.Rescaling, b: GraphBuilder, x: Ref) -> Ref:
    for name, op, neutral in (("scale", "multiply", 1.0), ("offset", "add", 0.0)):
        value = np.atleast_1d(np.asarray(getattr(layer, name), np.float32)).astype(np.float64)
        exact = IntArray.of_reals(value)
        bits = int(bit_length(np.abs(exact.mantissa) >> trailing_zeros(exact.mantissa)).max(initial=0))
        if bits > SIGNIFICANT:
            raise FreezeError(
                "This rescaling is not exact in float32, so hardware could not repeat it.",
                where=f"layer {layer.name}",
                expected=f"a {name} of at most {SIGNIFICANT} significant bits, such as a power of two",
                received=f"{name}={getattr(layer, name)}, {bits} bits",
                fix="Take scale=1/128 or so, rescale the data before the model, or use hgq.layers.QBatchNormalization.",
            )
        if (value != neutral).any():
            const = Const.minimal(name, exact.mantissa, np.full(value.shape, exact.f))
            x = b.op(op, x, b.constant(const.mantissa, const.format, name=name))
    return x


def _spatial(layer: keras.layers.Layer, x: Ref) -> range:
    """The axes that are neither batch nor channels, the batch not counted."""
    if getattr(layer, "data_format", None) == "channels_first":
        return range(1, len(x.shape))
    return range(len(x.shape) - 1)


def _pairs(sides) -> list[tuple[int, int]]:
    """Keras keeps ``(before, after)`` for one axis, a tuple of such pairs for more."""
    return [tuple(sides)] if isinstance(sides[0], int) else [tuple(pair) for pair in sides]


@freezes(keras.layers.Bidirectional)
def _bidirectional(layer: keras.layers.Bidirectional, b: GraphBuilder, x: Ref) -> list[Ref]:
    values = []
    for direction in (layer.forward_layer, layer.backward_layer):
        if not isinstance(direction, QRecurrent):
            raise FreezeError(
                "Bidirectional wraps a layer that cannot be frozen.",
                where=f"layer {layer.name}",
                expected="QSimpleRNN, QGRU or QLSTM",
                received=type(direction).__name__,
            )
        with b.layer(direction.name):
            outputs = direction.to_ir(b, x)
        values.append(outputs if isinstance(outputs, list) else [outputs])
    (one, *states), (other, *other_states) = values
    if layer.return_sequences:
        rows = [b.op("take", other, axis=0, indices=(time,)) for time in reversed(range(other.shape[0]))]
        other = tree(lambda x, y: b.op("concatenate", x, y, axis=0), rows)
    states = [*states, *other_states]
    if layer.merge_mode is None:
        return [one, other, *states]
    if layer.merge_mode == "concat":
        return [b.op("concatenate", one, other, axis=len(one.shape) - 1), *states]
    merged = b.op("product" if layer.merge_mode == "mul" else "add", one, other)
    return [Share(2).to_ir(b, merged) if layer.merge_mode == "ave" else merged, *states]
