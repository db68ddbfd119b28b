"""A graph as a QONNX model: float32 tensors that hold exact fixed-point numbers, ``Quant`` nodes that say their types; a rule an op."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from hgq.errors import LoweringError
from hgq.ir import windows
from hgq.ir.exactness import beyond_float32
from hgq.ir.graph import Graph, Node

from . import proto
from .lowering import LOWERINGS, Lowering, lowers

__all__ = ["LOWERINGS", "lower"]


def lower(graph: Graph, batch: int = 1) -> bytes:
    """The bytes of ``model.onnx``.

    Raises:
        LoweringError: float32, in which ONNX computes, could round where the hardware does not; names each layer.
    """
    problems = beyond_float32(graph)
    if problems:
        raise LoweringError(
            "ONNX computes in float32, which is too short for sums of this model.",
            where="\n".join(problems[:8]),
            expected="at most 24 bits",
            fix="Bound the bits of these layers, or export with --backend rtl or hls4ml.",
        )
    return Lowering(graph, batch).run()


# ---- the ops ----------------------------------------


@lowers("quantize")
def _quantize(low: Lowering, node: Node, x: list[str]) -> str:
    attrs = node.attrs
    incoming = low.formats[node.inputs[0]]
    return low.quantized(x[0], low.shape(node.name), attrs["format"], attrs["rounding"], attrs["overflow"], incoming)


_BINARY = {"add": "Add", "subtract": "Sub", "maximum": "Max", "minimum": "Min", "product": "Mul", "multiply": "Mul"}


@lowers(*_BINARY)
def _binary(low: Lowering, node: Node, x: list[str]) -> str:
    return low.sample(_BINARY[node.op], x, low.shape(node.name))


@lowers("relu")
def _relu(low: Lowering, node: Node, x: list[str]) -> str:
    return low.sample("Relu", x, low.shape(node.name))


@lowers("clip")
def _clip(low: Lowering, node: Node, x: list[str]) -> str:
    bounds = [low.const(np.float64(node.attrs[name])) for name in ("low", "high")]
    return low.sample("Clip", [*x, *bounds], low.shape(node.name))


@lowers("leaky_relu")
def _leaky_relu(low: Lowering, node: Node, x: list[str]) -> str:
    shape = low.shape(node.name)
    return low.sample("Max", [x[0], low.sample("Mul", [x[0], low.const(np.float64(node.attrs["slope"]))], shape)], shape)


@lowers("hard_sigmoid")
def _hard_sigmoid(low: Lowering, node: Node, x: list[str]) -> str:
    shape = low.shape(node.name)
    scaled = low.sample("Mul", [x[0], low.const(np.float64(node.attrs["slope"]))], shape)
    return low.sample("Clip", [low.sample("Add", [scaled, low.const(0.5)], shape), low.const(0.0), low.const(1.0)], shape)


@lowers("matmul")
def _matmul(low: Lowering, node: Node, x: list[str]) -> str:
    return low.sample("MatMul", x, low.shape(node.name))


@lowers("einsum")
def _einsum(low: Lowering, node: Node, x: list[str]) -> str:
    left, _, result = node.attrs["equation"].replace(" ", "").partition("->")
    one, _, other = left.partition(",")
    batch = next(letter for letter in "zyxwvutsrqponmlkjihgfedcba" if letter not in node.attrs["equation"])
    second = other if node.inputs[1] in low.graph.consts else batch + other
    return low.sample("Einsum", x, low.shape(node.name), equation=f"{batch}{one},{second}->{batch}{result}")


@lowers("reshape")
def _reshape(low: Lowering, node: Node, x: list[str]) -> str:
    shape = low.shape(node.name)
    return low.sample("Reshape", [x[0], low.const(np.array([low.batch, *shape]))], shape)


@lowers("concatenate")
def _concatenate(low: Lowering, node: Node, x: list[str]) -> str:
    return low.sample("Concat", x, low.shape(node.name), axis=node.attrs["axis"] + 1)


@lowers("transpose")
def _transpose(low: Lowering, node: Node, x: list[str]) -> str:
    return low.sample("Transpose", x, low.shape(node.name), perm=[0, *(axis + 1 for axis in node.attrs["axes"])])


@lowers("take")
def _take(low: Lowering, node: Node, x: list[str]) -> str:
    indices = low.const(np.array(node.attrs["indices"], np.int64))
    return low.sample("Gather", [x[0], indices], low.shape(node.name), axis=node.attrs["axis"] + 1)


@lowers("pad")
def _pad(low: Lowering, node: Node, x: list[str]) -> str:
    before, after = ([0, *(int(sides[end]) for sides in node.attrs["widths"])] for end in (0, 1))
    return low.sample("Pad", [x[0], low.const(np.array([*before, *after]))], low.shape(node.name), mode="constant")


_REDUCTIONS = {"reduce_max": "ReduceMax", "reduce_min": "ReduceMin"}


@lowers("reduce_sum", *_REDUCTIONS)
def _reduce(low: Lowering, node: Node, x: list[str]) -> str:
    axes = [axis + 1 for axis in node.attrs["axes"]]
    if node.op == "reduce_sum":  # whose axes are an input since opset 13
        return low.sample("ReduceSum", [x[0], low.const(np.array(axes))], low.shape(node.name), keepdims=1)
    return low.sample(_REDUCTIONS[node.op], x, low.shape(node.name), axes=axes, keepdims=1)


def _channels_first(low: Lowering, x: str, shape: Sequence[int]) -> tuple[str, list[int]]:
    rank = len(shape)
    moved = [shape[-1], *shape[:-1]]
    return low.sample("Transpose", [x], moved, perm=[0, rank, *range(1, rank)]), moved


def _channels_last(low: Lowering, y: str, shape: Sequence[int]) -> str:
    rank = len(shape)
    return low.sample("Transpose", [y], shape, perm=[0, *range(2, rank + 1), 1])


def _pads(padding: windows.Padding) -> list[int]:
    return [int(ends[0]) for ends in padding] + [int(ends[1]) for ends in padding]


@lowers("conv")
def _conv(low: Lowering, node: Node, x: list[str]) -> str:
    attrs, shape = node.attrs, low.shape(node.name)
    const = low.graph.consts[node.inputs[1]]
    rank = const.value.ndim
    kernel = low.op(
        "Transpose",
        [x[1]],
        [const.value.shape[axis] for axis in (rank - 1, rank - 2, *range(rank - 2))],
        perm=[rank - 1, rank - 2, *range(rank - 2)],
    )
    first, _ = _channels_first(low, x[0], low.shape(node.inputs[0]))
    y = low.sample(
        "Conv",
        [first, kernel],
        [shape[-1], *shape[:-1]],
        strides=list(attrs["strides"]),
        dilations=list(attrs["dilation"]),
        pads=_pads(attrs["padding"]),
        group=int(attrs["groups"]),
        kernel_shape=list(const.value.shape[:-2]),
    )
    return _channels_last(low, y, shape)


@lowers("max_pool")
def _max_pool(low: Lowering, node: Node, x: list[str]) -> str:
    attrs, shape = node.attrs, low.shape(node.name)
    first, _ = _channels_first(low, x[0], low.shape(node.inputs[0]))
    geometry = {"kernel_shape": list(attrs["pool"]), "strides": list(attrs["strides"]), "pads": _pads(attrs["padding"])}
    return _channels_last(low, low.sample("MaxPool", [first], [shape[-1], *shape[:-1]], **geometry), shape)


@lowers("sum_pool")
def _sum_pool(low: Lowering, node: Node, x: list[str]) -> str:
    attrs, shape = node.attrs, low.shape(node.name)
    channels = shape[-1]
    first, _ = _channels_first(low, x[0], low.shape(node.inputs[0]))
    ones = low.const(np.ones((channels, 1, *attrs["pool"])))
    geometry = {"kernel_shape": list(attrs["pool"]), "strides": list(attrs["strides"]), "pads": _pads(attrs["padding"])}
    return _channels_last(low, low.sample("Conv", [first, ones], [channels, *shape[:-1]], group=channels, **geometry), shape)


@lowers("lookup")
def _lookup(low: Lowering, node: Node, x: list[str]) -> str:
    """The index is the mantissa's bits, read as an unsigned number; tables of their own stand one behind the other."""
    shape, fixed = low.shape(node.name), node.attrs["format"].broadcast_to(low.shape(node.name))
    table = low.graph.consts[node.inputs[1]].value
    entries = table.shape[-1]
    width = fixed.width.astype(np.float64)
    u = low.sample("Mul", [x[0], low.const(np.exp2(fixed.f.astype(np.float64)))], shape)
    turns = low.sample("Floor", [low.sample("Mul", [u, low.const(np.exp2(-width))], shape)], shape)
    index = low.sample("Sub", [u, low.sample("Mul", [turns, low.const(np.exp2(width))], shape)], shape)
    own = np.broadcast_to(np.arange(prod(table.shape[:-1])).reshape(table.shape[:-1]), shape) * entries
    index = low.sample("Cast", [index], shape, code=proto.INT64, to=proto.INT64)
    if own.any():
        index = low.sample("Add", [index, low.const(own.astype(np.int64))], shape, code=proto.INT64)
    y = low.sample("Gather", [low.const(table.reshape(-1).astype(np.float64)), index], shape, axis=0)
    return low.typed(y, (low.batch, *shape), low.formats[node.name])
