"""Rules of ops that combine two values."""

from __future__ import annotations

from collections.abc import Iterator

from hgq.ir.graph import Node

from .base import Context, Layer, lowers, refused
from .scale import scale_and_shift

MAX_RANK = 3


@lowers("add")
def _add(context: Context, node: Node) -> Iterator[Layer]:
    for x, y in (node.inputs, node.inputs[::-1]):
        if (bias := context.const(y)) is not None:
            yield scale_and_shift(context, node, x, node.name, None, bias)
            return
    yield merge_layer(context, node)


MERGES = {"add": "add", "subtract": "subtract", "maximum": "maximum", "minimum": "minimum", "product": "multiply"}
"""hls4ml's functions that combine two tensors."""


@lowers("subtract")
@lowers("maximum")
@lowers("minimum")
@lowers("product")
def _merge_rule(context: Context, node: Node) -> Iterator[Layer]:
    yield merge_layer(context, node)


def merge_layer(context: Context, node: Node) -> Layer:
    """The layer that combines two tensors."""
    if any(context.const(name) is not None for name in node.inputs):
        raise refused(node, "hls4ml merges no constants.", "two tensors", f"{node.op} with a constant")
    shapes = [context.shape(name) for name in node.inputs]
    if shapes[0] != shapes[1]:
        raise refused(node, f"hls4ml's {MERGES[node.op]} takes tensors of one shape only.", "equal shapes", f"{shapes[0]} and {shapes[1]}")
    return Layer(node.name, "Merge", node.inputs, {"result": context.type_of(node.name)}, {"op": MERGES[node.op]})


@lowers("concatenate")
def _concatenate(context: Context, node: Node) -> Iterator[Layer]:
    rank = len(context.shape(node.name))
    if rank > MAX_RANK:
        raise refused(node, f"hls4ml concatenates at most {MAX_RANK} axes.", f"at most {MAX_RANK} axes", f"{rank} axes")
    attributes = {"axis": node.attrs["axis"] + 1, "op": f"concatenate{rank}d"}
    yield Layer(node.name, "Concatenate", node.inputs, {"result": context.type_of(node.name)}, attributes)
