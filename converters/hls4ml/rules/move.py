"""Rules of what only moves elements."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from hgq.ir.graph import Node
from hgq.ir.ops import OPS

from .. import generated
from .base import PREVIOUS, Context, Layer, function, lowers
from .window import stream_padding


@lowers("reshape")
def _reshape(context: Context, node: Node) -> Iterator[Layer]:
    """In a stream, a flat tensor is the image before it for those that gather all of it anyway; else its packets change."""
    readers = context.graph.users(node.name)
    gathered = all(user.op in ("matmul", "quantize") for user in readers) and node.name not in context.graph.outputs
    if context.settings.stream and not (gathered and len(readers) == 1 and len(node.attrs["shape"]) == 1):
        yield from _rewired(context, node)
        return
    yield Layer(node.name, "Reshape", node.inputs, {"result": context.type_of(node.name)}, {"target_shape": list(node.attrs["shape"])})


def _rewired(context: Context, node: Node) -> Iterator[Layer]:
    """Any movement of one operand, by our own C++: what the op does to the numbers of the elements tells where each comes from."""
    shape = context.shape(node.inputs[0])
    numbers = np.arange(1, prod(shape) + 1).reshape(1, *shape)
    sources = np.asarray(OPS[node.op].function(numbers, **node.attrs), np.int64).ravel() - 1  # padding is 0 there
    result = context.type_of(node.name)
    yield function(context, node.name, node.inputs[0], context.shape(node.name), shape, generated.picks(sources.tolist()), result)


@lowers("transpose")
def _transpose(context: Context, node: Node) -> Iterator[Layer]:
    if context.settings.stream:
        yield from _rewired(context, node)
        return
    yield Layer(node.name, "Transpose", node.inputs, {"result": context.type_of(*node.inputs)}, {"perm": list(node.attrs["axes"])})


@lowers("take")
def _take(context: Context, node: Node) -> Iterator[Layer]:
    axis, indices, shape = node.attrs["axis"], node.attrs["indices"], context.shape(node.inputs[0])
    size, count = shape[axis], len(indices)
    start = indices[0]
    cropped, resized = tuple(indices) == tuple(range(start, start + count)), _resized(size, count) == tuple(indices)
    if context.settings.stream or not (cropped or resized):
        yield from _rewired(context, node)
        return
    yield _flattened(context, node.inputs[0], shape, axis)
    if cropped:
        yield _image(context, node, "Cropping2D", shape, axis, count, crop_left=start, crop_right=size - start - count)
    else:
        yield _image(context, node, "Resize", shape, axis, count, algorithm="nearest")
    yield _restored(context, node, node.inputs[0])


def _resized(size: int, count: int) -> tuple[int, ...]:
    """The element that hls4ml's ``resize_nearest`` puts at each place: it divides in 16 fractional bits."""
    ratio = (size << 16) // count + 1
    return tuple(place * ratio >> 16 for place in range(count))


@lowers("pad")
def _pad(context: Context, node: Node) -> Iterator[Layer]:
    shape, widths = list(context.shape(node.inputs[0])), node.attrs["widths"]
    source = node.inputs[0]
    if context.settings.stream:
        if 2 <= len(shape) <= 3 and widths[-1] == (0, 0):
            yield stream_padding(context, node.name, source, widths[:-1])
        else:
            yield from _rewired(context, node)
        return
    for axis, (before, after) in enumerate(widths):
        if before or after:
            width = shape[axis] + before + after
            yield _flattened(context, node.inputs[0], tuple(shape), axis, source)
            yield _image(context, node, "ZeroPadding2D", tuple(shape), axis, width, pad_left=before, pad_right=after)
            shape[axis], source = width, PREVIOUS
    yield _restored(context, node, node.inputs[0], source)


def _flattened(context: Context, x: str, shape: tuple[int, ...], axis: int, source: str | None = None) -> Layer:
    """Three axes around one: as hls4ml sees an image, that one is its width. In parallel a reshape is free."""
    target = [prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])]
    return Layer(None, "Reshape", (source or x,), {"result": context.type_of(x)}, {"target_shape": target})


def _image(context: Context, node: Node, kind: str, shape: tuple[int, ...], axis: int, width: int, **attributes: Any) -> Layer:
    height, n_in, channels = prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
    if kind != "Resize":
        sides = ("pad_top", "pad_bottom") if kind == "ZeroPadding2D" else ("crop_top", "crop_bottom")
        attributes.update(dict.fromkeys(sides, 0))
    sizes = {"in_height": height, "in_width": n_in, "out_height": height, "out_width": width, "n_chan": channels}
    # one type for operand and result: hls4ml's functions take no other
    types = {"result": context.type_of(*node.inputs)}
    return Layer(None, kind, (PREVIOUS,), types, {**sizes, "data_format": "channels_last", **attributes})


def _restored(context: Context, node: Node, x: str, source: str = PREVIOUS) -> Layer:
    return Layer(node.name, "Reshape", (source,), {"result": context.type_of(x)}, {"target_shape": list(context.shape(node.name))})
