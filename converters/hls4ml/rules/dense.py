"""Rule of the product with a matrix of constants."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from hgq.errors import LoweringError
from hgq.ir.graph import Const, Node
from hgq.ir.ops import PARALLEL
from hgq.numerics import bit_length, trailing_zeros

from ..types import const_type
from .base import PREVIOUS, Context, Layer, lowers, where

FLOAT32_BITS = 24


@lowers("matmul")
def _matmul(context: Context, node: Node) -> Iterator[Layer]:
    x, name = node.inputs
    kernel = context.graph.consts[name]
    check_distributed(context, node, kernel)
    shape, (n_in, n_out) = context.shape(x), kernel.mantissa.shape
    result, bias = context.absorb_bias(node, per_channel=True)
    types = {
        "result": context.type_of(result),
        "accum": context.type_of(node.name, result),  # partial sums may wrap: only their last bits count
        "weight": const_type(kernel),
        "bias": const_type(bias),
    }
    attributes = {
        "n_in": n_in,
        "n_out": n_out,
        "weight_data": kernel.value,
        "bias_data": np.zeros(n_out) if bias is None else np.broadcast_to(bias.value.reshape(-1), (n_out,)).copy(),
        "data_format": "channels_last",
    }
    if len(shape) > 1:
        attributes["parallelization_factor"] = node.attrs.get(PARALLEL, prod(shape[:-1]))
    if len(shape) <= (3 if context.settings.stream else 2):
        yield Layer(result, "Dense", (x,), types, attributes)
        return
    rows = prod(shape[:-1])  # hls4ml's dense layer takes no more axes; in parallel a reshape is free
    yield Layer(None, "Reshape", (x,), {"result": context.type_of(x)}, {"target_shape": [rows, n_in]})
    yield Layer(None, "Dense", (PREVIOUS,), types, attributes)
    yield Layer(result, "Reshape", (PREVIOUS,), {"result": types["result"]}, {"target_shape": [*shape[:-1], n_out]})


def check_distributed(context: Context, node: Node, kernel: Const) -> None:
    """da4ml 0.5 and 0.6 round kernels to float32 without a word."""
    if context.settings.strategy_of(node.source) != "distributed_arithmetic":
        return
    bits = int(bit_length(np.abs(kernel.mantissa) >> trailing_zeros(kernel.mantissa)).max(initial=0))
    if bits > FLOAT32_BITS:
        raise LoweringError(
            "da4ml rounds weights of more than 24 bits, so distributed arithmetic would not be exact.",
            where=where(node),
            expected=f"weights of at most {FLOAT32_BITS} significant bits",
            received=f"{bits} bits",
            fix="Take strategy=latency, or fewer bits for this kernel.",
        )
