"""Rules of activations that are logic."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from hgq.ir.graph import Node
from hgq.ir.ranges import RangeArray
from hgq.numerics import Fixed

from ..types import type_name
from .base import PREVIOUS, Context, Layer, kept, lowers
from .scale import affine


@lowers("relu")
def _relu(context: Context, node: Node) -> Iterator[Layer]:
    attributes = {"activation": "relu", "n_in": prod(context.shape(node.name))}
    yield Layer(node.name, "Activation", node.inputs, {"result": context.type_of(node.name)}, attributes)


@lowers("clip")
def _clip(context: Context, node: Node) -> Iterator[Layer]:
    (x,) = node.inputs
    yield from _clipped(context, node, x, RangeArray.of_format(context.formats[x]), node.attrs["low"], node.attrs["high"])


@lowers("hard_sigmoid")
def _hard_sigmoid(context: Context, node: Node) -> Iterator[Layer]:
    (x,) = node.inputs
    line: Any = RangeArray.of_format(context.formats[x]) * node.attrs["slope"] + 0.5
    yield affine(None, x, line.format(), node.attrs["slope"], 0.5)
    yield from _clipped(context, node, PREVIOUS, line, 0.0, 1.0)


def _clipped(context: Context, node: Node, source: str, x: RangeArray, low: float, high: float) -> Iterator[Layer]:
    """``max(x, low)`` is ``low + relu(x - low)``, and ``min(y, high)`` is ``high - relu(high - y)``."""
    above: Any = x - low
    if low:  # hls4ml drops additions of 0
        yield affine(None, source, above.format(), 1.0, -low)
        source = PREVIOUS
    above = np.maximum(above, 0.0)
    yield _rectified(source, above.format())
    below: Any = (high - low) - above
    yield affine(None, PREVIOUS, below.format(), -1.0, high - low)
    below = np.maximum(below, 0.0)
    yield _rectified(PREVIOUS, below.format())
    yield affine(node.name, PREVIOUS, context.formats[node.name], -1.0, high)


@lowers("leaky_relu")
def _leaky_relu(context: Context, node: Node) -> Iterator[Layer]:
    (x,) = node.inputs
    if node.attrs["slope"] in (0, 1):  # hls4ml drops products with 1
        yield from _relu(context, node) if node.attrs["slope"] == 0 else [kept(context, node.name, x, context.formats[x])]
        return
    scaled = RangeArray.of_format(context.formats[x]) * node.attrs["slope"]
    yield affine(None, x, scaled.format(), node.attrs["slope"], 0.0)
    yield Layer(node.name, "Merge", (x, PREVIOUS), {"result": context.type_of(node.name)}, {"op": "maximum"})


def _rectified(source: str, fixed: Fixed) -> Layer:
    return Layer(None, "Activation", (source,), {"result": type_name(fixed)}, {"activation": "relu", "n_in": prod(fixed.shape)})
