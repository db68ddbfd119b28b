"""Rules of ops that combine two values."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from hgq.ir.graph import Node

from .base import PREVIOUS, Context, Layer, broadcast, lowers, refused, reshaped
from .scale import scale_and_shift

MAX_RANK = 3


MERGES = {"add": "add", "subtract": "subtract", "maximum": "maximum", "minimum": "minimum", "product": "multiply"}
"""hls4ml's functions that combine two tensors of one shape."""


@lowers("add")
def _add(context: Context, node: Node) -> Iterator[Layer]:
    for x, y in (node.inputs, node.inputs[::-1]):
        if (bias := context.const(y)) is not None:
            yield from scale_and_shift(context, node, x, node.name, None, bias)
            return
    yield from _merge(context, node)


@lowers("subtract")
@lowers("maximum")
@lowers("minimum")
@lowers("product")
def _merge(context: Context, node: Node) -> Iterator[Layer]:
    if any(context.const(name) is not None for name in node.inputs):
        raise refused(node, "hls4ml merges no constants.", "two tensors", f"{node.op} with a constant")
    operands, shape = [], context.shape(node.name)
    for number, name in enumerate(node.inputs):
        operands.append(name)
        if (own := context.shape(name)) != shape:
            operands[number] = f"{node.name}/{number}"
            yield broadcast(context, operands[number], name, shape, own, context.type_of(name))
    yield Layer(node.name, "Merge", tuple(operands), {"result": context.type_of(node.name)}, {"op": MERGES[node.op]})


@lowers("concatenate")
def _concatenate(context: Context, node: Node) -> Iterator[Layer]:
    """More axes than three become the one of the concatenation, those before and those after."""
    shape, axis, operands = context.shape(node.name), node.attrs["axis"], node.inputs
    rank, kind = len(shape), context.type_of(node.name)
    if rank <= MAX_RANK:
        yield Layer(node.name, "Concatenate", operands, {"result": kind}, {"axis": axis + 1, "op": f"concatenate{rank}d"})
        return
    flat = [f"{node.name}/{number}" for number in range(2)]
    for name, value in zip(operands, flat, strict=True):
        own = context.shape(name)
        yield reshaped(context, value, name, (prod(own[:axis]), own[axis], prod(own[axis + 1 :])), context.type_of(name))
    yield Layer(None, "Concatenate", tuple(flat), {"result": kind}, {"axis": 2, "op": "concatenate3d"})
    yield reshaped(context, node.name, PREVIOUS, shape, kind)
