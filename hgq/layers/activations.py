"""Activations that hardware takes exactly, as a few gates a bit. They cost no EBOPs.

``relu6`` and ``hard_tanh`` clip to 0…6 and -1…1. ``hard_sigmoid`` is ``min(max(x / 6 + 1/2, 0), 1)`` with 171/1024 for 1/6, which has 8
significant bits: it reaches 0 and 1 at 2.994 rather than 3. ``leaky_relu`` is ``max(x, slope * x)`` with Keras' slope of 0.2, or with that
in parentheses, as in ``leaky_relu(0.125)``; a slope is rounded to 8 significant bits, which powers of two have.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import tensorflow as tf

from hgq.errors import ConfigError
from hgq.layers import native_relu

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref

ACTIVATIONS = ("linear", "relu", "relu6", "hard_tanh", "hard_sigmoid", "leaky_relu", "leaky_relu(SLOPE)")
CLIPS = {"relu6": (0.0, 6.0), "hard_tanh": (-1.0, 1.0)}
DEFAULT_SLOPE = 0.2
SLOPE_BITS = 8
SIXTH = 171 / 1024

_LEAKY = re.compile(r"leaky_relu(?:\(([^()]*)\))?")


def known(activation: str | None, where: str) -> str:
    """The name of a known activation; None is linear.

    Raises:
        ConfigError: unknown.
    """
    if activation is None:
        return "linear"
    name = getattr(activation, "__name__", activation)  # keras.activations.relu
    if name in ("linear", "relu", "hard_sigmoid", *CLIPS) or (isinstance(name, str) and _slope(name) is not None):
        return name
    raise ConfigError(
        "Unknown activation.",
        where=f"layer {where}",
        expected=f"{' or '.join(map(repr, ACTIVATIONS))}, with a slope from 0 to 1",
        received=repr(activation),
        fix="Other functions need a table in hardware: put hgq.layers.QTable('tanh') behind the layer.",
    )


def rounded_slope(slope: float) -> float:
    """The nearest number of 8 significant bits: what a leaky ReLU multiplies with, in training as in hardware. Powers of two stay."""
    mantissa, exponent = math.frexp(slope)
    return math.ldexp(round(math.ldexp(mantissa, SLOPE_BITS)), exponent - SLOPE_BITS)


def apply_biased(activation: str, y, bias):
    """The activation of ``y + bias``. A bias of channels goes by ops that are fused with the product before them."""
    if len(bias.shape) != 1 or len(y.shape) < 2:
        return apply(activation, y + bias)
    z = native_relu.bias_relu(y, bias) if activation == "relu" else None
    return apply(activation, tf.nn.bias_add(y, bias)) if z is None else z


def apply(activation: str, x):
    """The activation of a tensor."""
    if activation == "linear":
        return x
    if activation == "relu":
        return tf.nn.relu(x)
    if activation in CLIPS:
        return tf.clip_by_value(x, *CLIPS[activation])
    if activation == "hard_sigmoid":
        return tf.clip_by_value(x * SIXTH + 0.5, 0.0, 1.0)
    return tf.maximum(x, x * _slope(activation))


def to_ir(b: GraphBuilder, activation: str, x: Ref) -> Ref:
    """The activation as a node."""
    if activation == "linear":
        return x
    if activation == "relu":
        return b.op("relu", x, name="relu")
    if activation in CLIPS:
        low, high = CLIPS[activation]
        return b.op("clip", x, name=activation, low=low, high=high)
    if activation == "hard_sigmoid":
        return b.op("hard_sigmoid", x, slope=SIXTH)
    return b.op("leaky_relu", x, slope=_slope(activation))


def _slope(activation: str) -> float | None:
    match = _LEAKY.fullmatch(activation)
    try:
        slope = float(match[1]) if match and match[1] is not None else DEFAULT_SLOPE
    except ValueError:
        return None
    return rounded_slope(slope) if match and 0 <= slope <= 1 else None
