"""Rule of convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from hgq.ir.graph import Const, Node
from hgq.ir.ops import PARALLEL
from hgq.ir.windows import group_slices

from ..types import const_type
from .base import Context, Layer, lowers, refused
from .dense import check_distributed
from .window import padded_stream, window_attributes


@lowers("conv")
def _conv(context: Context, node: Node) -> Iterator[Layer]:
    """Groups and dilation become zeros in the kernel, which hls4ml's latency strategy does not build: it knows neither in parallel."""
    name = node.inputs[1]
    kernel = context.graph.consts[name]
    axes = kernel.mantissa.ndim - 2
    if axes > 2:
        raise refused(node, "hls4ml convolves over at most two axes.", "1 or 2", str(axes))
    check_distributed(context, node, kernel)
    result, bias = context.absorb_bias(node, per_channel=True)
    yield from conv_layers(context, node, result, kernel, bias, dilation=node.attrs["dilation"], groups=node.attrs["groups"])


def conv_layers(
    context: Context, node: Node, result: str, kernel: Const, bias: Const | None, *, dilation: tuple[int, ...], groups: int
) -> Iterator[Layer]:
    """The convolution of `node`'s first operand over one or two axes, with its strides and padding."""
    x = node.inputs[0]
    weight = _spread_kernel(kernel.value, dilation, groups)
    filters = weight.shape[-1]
    attributes = {
        "n_chan": weight.shape[-2],
        "n_filt": filters,
        "weight_data": weight,
        "bias_data": np.zeros(filters) if bias is None else np.broadcast_to(bias.value.reshape(-1), (filters,)).copy(),
        "data_format": "channels_last",
        "parallelization_factor": node.attrs.get(PARALLEL, prod(context.shape(node.name)[:-1])),
    }
    types = {
        "result": context.type_of(result),
        "accum": context.type_of(node.name, result),
        "weight": const_type(kernel),
        "bias": const_type(bias),
    }
    shape, padding = context.shape(x), node.attrs["padding"]
    if context.settings.stream and any(map(any, padding)):
        shape, padding, x = yield from padded_stream(context, x, padding)
    attributes |= window_attributes(shape, context.shape(node.name), weight.shape[:-2], node.attrs["strides"], padding, "filt")
    yield Layer(result, f"Conv{weight.ndim - 2}D", (x,), types, attributes)


def _spread_kernel(kernel: np.ndarray, dilation: tuple[int, ...], groups: int) -> np.ndarray:
    *taps, channels, outputs = kernel.shape
    wide = np.zeros((*((size - 1) * step + 1 for size, step in zip(taps, dilation, strict=True)), channels * groups, outputs))
    spread = tuple(slice(None, None, step) for step in dilation)
    for read, written in group_slices(groups, channels, outputs):
        wide[(*spread, read, written)] = kernel[..., written]
    return wide
