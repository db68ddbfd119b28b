"""Rules of pooling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from hgq.ir.graph import Const, Node
from hgq.numerics import Fixed, trailing_zeros

from ..types import type_name
from .base import PREVIOUS, Context, Layer, lowers, quantizer_layer, refused
from .conv import conv_layer
from .window import window_attributes


@lowers("max_pool")
def _max_pool(context: Context, node: Node) -> Iterator[Layer]:
    x, pool = node.inputs[0], node.attrs["pool"]
    _check_axes(node)
    shape, result = context.shape(x), context.shape(node.name)
    kind, source = context.type_of(x), x
    if any(map(any, node.attrs["padding"])) and kind.startswith("u"):  # hls4ml pads unsigned numbers with their greatest
        signed = Fixed(np.ones(shape, np.int64), *context.formats[x].canonical().astuple()[1:])
        kind, source = type_name(signed), PREVIOUS
        yield quantizer_layer(None, x, context.formats[x], "TRN", "WRAP", result=kind)
    attributes: dict[str, Any] = {"n_filt": shape[-1], "data_format": "channels_last"}
    attributes |= window_attributes(shape, result, pool, node, "pool")
    if len(pool) == 1:
        attributes |= {"n_in": shape[0], "n_out": result[0]}
    yield Layer(node.name, f"MaxPooling{len(pool)}D", (source,), {"result": context.type_of(node.name), "accum": kind}, attributes)


@lowers("sum_pool")
def _sum_pool(context: Context, node: Node) -> Iterator[Layer]:
    """A convolution of each channel with ones, or with the power of two that the sum is multiplied with next: hls4ml's own mean rounds."""
    _check_axes(node)
    result, kernel = node.name, np.ones(1, np.int64)
    fixed = Fixed(0, kernel, 0)
    user = context.only_user(node.name)
    share = context.const(user.inputs[1]) if user is not None and user.op == "multiply" else None
    if user is not None and share is not None and share.mantissa.size == 1 and is_power_of_two(share):
        result, kernel, fixed = user.name, share.mantissa.reshape(1), share.format.reshape(1)
        context.done.add(user.name)
    shape = (*node.attrs["pool"], 1, context.shape(node.name)[-1])
    taps = Const.minimal("taps", np.broadcast_to(kernel, shape), np.broadcast_to(fixed.f, shape))
    yield conv_layer(context, node, result, taps, None, dilation=(1,) * len(node.attrs["pool"]), groups=shape[-1])


def _check_axes(node: Node) -> None:
    if (axes := len(node.attrs["pool"])) > 2:
        raise refused(node, "hls4ml pools over at most two axes.", "1 or 2", str(axes))


def is_power_of_two(const: Const) -> bool:
    """Whether a product with this constant is a shift."""
    return bool((const.mantissa > 0).all() and (const.mantissa >> trailing_zeros(const.mantissa) == 1).all())
