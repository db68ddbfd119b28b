"""Rule of Einstein sums."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hgq.ir.contraction import read
from hgq.ir.graph import Node
from hgq.ir.ops import PARALLEL

from ..types import const_type
from .base import Context, Layer, lowers, refused


@lowers("einsum")
def _einsum(context: Context, node: Node) -> Iterator[Layer]:
    """With a constant hls4ml calls it EinsumDense, with data Einsum; neither of them returns a tensor without axes."""
    equation, (x, y) = node.attrs["equation"], node.inputs
    if not read(equation).out:
        raise refused(node, "hls4ml has no tensor without axes.", "an equation whose result has an axis", equation)
    kernel = context.const(y)
    if kernel is None:
        types = {"result": context.type_of(node.name), "accum": context.type_of(node.name)}
        shapes = {"inp0_shape": context.shape(x), "inp1_shape": context.shape(y), "out_shape": context.shape(node.name)}
        yield Layer(node.name, "Einsum", (x, y), types, {"equation": equation, **shapes})
        return
    result, bias = context.absorb_bias(node, per_channel=False)
    types = {
        "result": context.type_of(result),
        "accum": context.type_of(node.name, result),
        "weight": const_type(kernel),
        "bias": const_type(bias),
    }
    shape = context.shape(node.name)
    attributes = {
        "equation": equation,
        "inp_shape": context.shape(x),
        "out_shape": shape,
        "weight_data": kernel.value,
        "bias_data": np.zeros(shape) if bias is None else np.broadcast_to(bias.value, shape).copy(),
    }
    if PARALLEL in node.attrs:
        attributes["parallelization_factor"] = node.attrs[PARALLEL]
    yield Layer(result, "EinsumDense", (x,), types, attributes)
