"""Rules of pooling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from hgq.ir.graph import Const, Node
from hgq.ir.ranges import RangeArray
from hgq.numerics import Fixed, trailing_zeros

from ..types import type_name
from .base import PREVIOUS, Context, Layer, kept, lowers, refused
from .conv import conv_layers
from .scale import affine
from .window import padded_stream, window_attributes


@lowers("max_pool")
def _max_pool(context: Context, node: Node) -> Iterator[Layer]:
    x, pool, padding = node.inputs[0], node.attrs["pool"], node.attrs["padding"]
    _check_axes(node)
    shape, result = context.shape(x), context.shape(node.name)
    kind, source, padded = context.type_of(x), x, any(map(any, padding))
    value, types, lowest = node.name, {"result": context.type_of(node.name), "accum": kind}, 0.0
    if context.settings.stream:
        _check_stream(node)
        if padded:  # with zeros: all numbers are lifted, until the least is 0
            fixed = context.formats[x]
            lowest = float(fixed.value(fixed.low).min())
            if lowest:
                lifted: Any = RangeArray.of_format(fixed) - lowest
                kind, value = type_name(lifted.format()), None
                types = {"result": kind, "accum": kind}
                yield affine(None, x, lifted.format(), 1.0, -lowest)
            shape, padding, source = yield from padded_stream(context, x, padding, PREVIOUS if lowest else x, kind)
    elif padded and kind.startswith("u"):  # hls4ml pads unsigned numbers with their greatest
        signed = Fixed(np.ones(shape, np.int64), *context.formats[x].canonical().astuple()[1:])
        kind, source = type_name(signed), PREVIOUS
        types["accum"] = kind
        yield kept(context, None, x, context.formats[x], result=kind)
    attributes: dict[str, Any] = {"n_filt": shape[-1], "data_format": "channels_last"}
    attributes |= window_attributes(shape, result, pool, node.attrs["strides"], padding, "pool")
    if len(pool) == 1:
        attributes |= {"n_in": shape[0], "n_out": result[0]}
    yield Layer(value, f"MaxPooling{len(pool)}D", (source,), types, attributes)
    if lowest:
        yield affine(node.name, PREVIOUS, context.formats[node.name], 1.0, lowest)


def _check_stream(node: Node) -> None:
    if len(node.attrs["pool"]) == 2 and node.attrs["pool"] != node.attrs["strides"]:
        raise refused(
            node,
            "hls4ml pools a stream only where windows do not overlap.",
            f"strides={node.attrs['pool']}",
            f"strides={node.attrs['strides']}",
            "Change the strides, or export with io_type=io_parallel.",
        )


@lowers("sum_pool")
def _sum_pool(context: Context, node: Node) -> Iterator[Layer]:
    """A convolution of each channel with ones, or with the power of two that the sum is multiplied with next: hls4ml's own mean rounds."""
    _check_axes(node)
    result, kernel = node.name, np.ones(1, np.int64)
    fixed = Fixed(0, kernel, 0)
    user = context.only_user(node.name)
    share = context.const(user.inputs[1]) if user is not None and user.op == "multiply" else None
    if user is not None and share is not None and share.mantissa.size == 1 and is_power_of_two(share):
        result, kernel, fixed = user.name, share.mantissa.reshape(1), share.format.reshape((1,))
        context.done.add(user.name)
    shape = (*node.attrs["pool"], 1, context.shape(node.name)[-1])
    taps = Const.minimal("taps", np.broadcast_to(kernel, shape), np.broadcast_to(fixed.f, shape))
    yield from conv_layers(context, node, result, taps, None, dilation=(1,) * len(node.attrs["pool"]), groups=shape[-1])


def _check_axes(node: Node) -> None:
    if (axes := len(node.attrs["pool"])) > 2:
        raise refused(node, "hls4ml pools over at most two axes.", "1 or 2", str(axes))


def is_power_of_two(const: Const) -> bool:
    """Whether a product with this constant is a shift."""
    return bool((const.mantissa > 0).all() and (const.mantissa >> trailing_zeros(const.mantissa) == 1).all())
