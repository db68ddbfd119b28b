"""``x * scale + shift`` with constants, which hls4ml calls BatchNormalization, and the rule of products with a constant."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from hgq.ir.graph import Const, Node
from hgq.ir.integers import IntArray
from hgq.numerics import Fixed

from ..types import const_type, type_name
from .base import PREVIOUS, Context, Layer, broadcast, kept, lowers, per_channel_const


@lowers("multiply")
def _multiply(context: Context, node: Node) -> Iterator[Layer]:
    result, bias = context.absorb_bias(node, per_channel=False)
    yield from scale_and_shift(context, node, node.inputs[0], result, context.graph.consts[node.inputs[1]], bias)


def scale_and_shift(context: Context, node: Node, x: str, result: str, scale: Const | None, bias: Const | None) -> Iterator[Layer]:
    """``x * scale + bias`` with constants, which hls4ml calls BatchNormalization."""
    shape = context.shape(node.name)
    if (own := context.shape(x)) != shape:
        yield broadcast(context, None, x, shape, own, context.type_of(x))
        x = PREVIOUS
    if (scale is None or (scale.value == 1).all()) and (bias is None or not bias.mantissa.any()):  # hls4ml would drop such a layer
        yield kept(context, result, x, context.formats[result])
        return
    given = [const for const in (scale, bias) if const is not None]
    small = all(per_channel_const(const.mantissa.shape, shape) for const in given)
    target = shape[-1:] if small else shape

    def spread(const: Const | None, default: float) -> np.ndarray:
        if const is None:
            return np.full(target, default).reshape(-1)
        value = const.value.reshape(-1) if small else const.value
        return np.broadcast_to(value, target).reshape(-1).copy()

    types = {
        "result": context.type_of(result),
        "scale": "ufixed<1,1>" if scale is None else const_type(scale),
        "bias": const_type(bias),
    }
    attributes = {
        "n_in": prod(shape),
        "n_filt": shape[-1] if small else -1,
        "scale_data": spread(scale, 1.0),
        "bias_data": spread(bias, 0.0),
        "use_gamma": True,
        "use_beta": True,
    }
    yield Layer(result, "BatchNormalization", (x,), types, attributes)


def affine(value: str | None, x: str, fixed: Fixed, scale: float, shift: float) -> Layer:
    """``x * scale + shift`` with two numbers, into a format."""
    numbers = [IntArray.of_reals([number]) for number in (scale, shift)]
    types = [const_type(Const.minimal("number", number.mantissa, np.full(1, number.f))) for number in numbers]
    channels = fixed.shape[-1]
    attributes = {
        "n_in": prod(fixed.shape),
        "n_filt": channels,
        "scale_data": np.full(channels, scale),
        "bias_data": np.full(channels, shift),
        "use_gamma": True,
        "use_beta": True,
    }
    return Layer(value, "BatchNormalization", (x,), {"result": type_name(fixed), "scale": types[0], "bias": types[1]}, attributes)
