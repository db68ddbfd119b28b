"""Rules of sums and extrema over axes."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from hgq.ir.graph import Const, Node
from hgq.ir.ranges import RangeArray

from .. import generated
from ..types import const_type, type_name
from .base import PREVIOUS, Context, Layer, function, lowers
from .scale import affine


@lowers("reduce_sum")
def _reduce_sum(context: Context, node: Node) -> Iterator[Layer]:
    """A dense layer of ones, row by row; in a stream, packets are added up."""
    if context.settings.stream:
        yield from _folded(context, node, "acc[j] + packet[j]", "output_t")
        return
    axes, shape = node.attrs["axes"], context.shape(node.inputs[0])
    rest = [axis for axis in range(len(shape)) if axis not in axes]
    rows, count = prod(shape[axis] for axis in rest), prod(shape[axis] for axis in axes)
    ones = Const.minimal("ones", np.ones((count, 1), np.int64), np.zeros((count, 1), np.int64))
    result = context.type_of(node.name)
    types = {"result": result, "accum": result, "weight": const_type(ones), "bias": const_type(None)}
    attributes = {"n_in": count, "n_out": 1, "weight_data": ones.value, "bias_data": np.zeros(1), "data_format": "channels_last"}
    yield from _permuted(context, node.inputs[0], [*rest, *axes], [rows, count] if rows > 1 else [count])
    yield Layer(None, "Dense", (PREVIOUS,), types, attributes)
    yield Layer(node.name, "Reshape", (PREVIOUS,), {"result": result}, {"target_shape": list(context.shape(node.name))})


@lowers("reduce_max")
def _reduce_max(context: Context, node: Node) -> Iterator[Layer]:
    if context.settings.stream:
        yield from _folded(context, node, "packet[j] > acc[j] ? packet[j] : acc[j]", "input_t")
        return
    yield from _maximum(context, node, node.inputs[0], node.inputs[0], context.type_of(*node.inputs), context.type_of(node.name))


@lowers("reduce_min")
def _reduce_min(context: Context, node: Node) -> Iterator[Layer]:
    """``-max(-x)``."""
    if context.settings.stream:
        yield from _folded(context, node, "packet[j] < acc[j] ? packet[j] : acc[j]", "input_t")
        return
    negated = [(-RangeArray.of_format(context.formats[name])).format() for name in (*node.inputs, node.name)]
    operand, result = map(type_name, negated)
    yield affine(None, node.inputs[0], negated[0], -1.0, 0.0)
    yield from _maximum(context, node, None, PREVIOUS, operand, result)
    yield affine(node.name, PREVIOUS, context.formats[node.name], -1.0, 0.0)


def _folded(context: Context, node: Node, expression: str, value_type: str) -> Iterator[Layer]:
    """Packets as they come, where all axes but the channels are reduced; else after they have been put into such an order."""
    (x,), axes, shape = node.inputs, node.attrs["axes"], context.shape(node.inputs[0])
    rest = [axis for axis in range(len(shape)) if axis not in axes]
    count, elements = prod(shape[axis] for axis in axes), prod(shape[axis] for axis in rest)
    if rest != [len(shape) - 1]:
        order = np.arange(prod(shape)).reshape(shape).transpose(*axes, *rest)
        yield function(context, None, x, (count, elements), shape, generated.picks(order.ravel().tolist()), context.type_of(x))
        x = PREVIOUS
    text = context.settings.dialect.folded(expression, count, elements, value_type)
    result = {"result": context.type_of(node.name)}
    yield Layer(node.name, generated.KIND, (x,), result, generated.attributes(text, context.shape(node.name)))


def _maximum(context: Context, node: Node, value: str | None, source: str, kind: str, result: str) -> Iterator[Layer]:
    """Maximum pooling of one window, with all that is reduced along its axis."""
    axes, shape = node.attrs["axes"], context.shape(node.inputs[0])
    rest = [axis for axis in range(len(shape)) if axis not in axes]
    count, channels = prod(shape[axis] for axis in axes), prod(shape[axis] for axis in rest)
    yield from _permuted(context, source, [*axes, *rest], [count, channels], kind, shape)
    sizes = {"in_width": count, "out_width": 1, "pool_width": count, "stride_width": count, "pad_left": 0, "pad_right": 0}
    attributes = {"n_filt": channels, "data_format": "channels_last", "n_in": count, "n_out": 1, **sizes}
    yield Layer(None, "MaxPooling1D", (PREVIOUS,), {"result": result, "accum": kind}, attributes)
    target = list(context.shape(node.name))
    yield Layer(node.name if value is not None else None, "Reshape", (PREVIOUS,), {"result": result}, {"target_shape": target})


def _permuted(
    context: Context, x: str, order: list[int], target: list[int], kind: str | None = None, shape: tuple[int, ...] | None = None
) -> Iterator[Layer]:
    """`x` with its axes in another order and shape; axes of one element move for free."""
    kind, shape = kind or context.type_of(x), shape or context.shape(x)
    long = [axis for axis in order if shape[axis] > 1]
    if long != sorted(long):
        yield Layer(None, "Transpose", (x,), {"result": kind}, {"perm": order})
        x = PREVIOUS
    yield Layer(None, "Reshape", (x,), {"result": kind}, {"target_shape": target})
