"""Narrow every quantizer to what its input can really reach, and drop those that change nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hgq.ir.graph import Graph, Node
from hgq.ir.ranges import RangeArray
from hgq.numerics import Fixed, rescale


def narrow_widths(graph: Graph) -> Graph:
    """Replace each quantizer's format by the proven one where no element can overflow; a quantizer that is then the identity disappears."""
    values = graph.ranges()
    renamed: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        node = replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))
        if node.op == "quantize":
            x = values[node.inputs[0]]
            if node.name not in graph.outputs and _is_identity(x, node):
                renamed[node.name] = node.inputs[0]
                continue
            node = _narrowed(node, x, values[node.name])
        nodes.append(node)
    return graph.with_(nodes=tuple(nodes))


def _overflows(x: RangeArray, node: Node) -> np.ndarray:
    """Which elements can leave the quantizer's range, after rounding."""
    fixed, rounding = node.attrs["format"], node.attrs["rounding"]
    low, high = (rescale(end.mantissa[0], end.f, fixed.f, rounding) for end in (x.low, x.high))
    lowest = np.where(fixed.k == 1, -fixed.high, 0) if node.attrs["overflow"] == "SAT_SYM" else fixed.low
    return (low < lowest) | (high > fixed.high)


def _is_identity(x: RangeArray, node: Node) -> bool:
    return not (_overflows(x, node) | (x.lsb[0] > node.attrs["format"].f)).any()


def _narrowed(node: Node, x: RangeArray, y: RangeArray) -> Node:
    fixed, rounding, overflow = node.attrs["format"], node.attrs["rounding"], node.attrs["overflow"]
    free, proven = ~_overflows(x, node), y.format()
    unsigned = (x.low.mantissa[0] >= 0) & (overflow in ("SAT", "SAT_SYM"))  # saturating what is never negative needs no sign
    k = np.where(free, proven.k, np.where(unsigned, 0, fixed.k))
    i, f = np.where(free, proven.i, fixed.i), np.where(free, proven.f, fixed.f)
    if overflow == "SAT_SYM" and not free.all():  # the mode stays, and would clip a free element that reaches its format's lower end
        reached = rescale(y.low.mantissa[0], y.low.f, proven.f, "TRN") < -proven.high
        i = np.where(free & reached & (proven.k == 1), i + 1, i)
    attrs = {
        "format": Fixed(k, i, f).canonical(),
        "rounding": "TRN" if not (x.lsb[0] > f).any() else rounding,
        "overflow": "WRAP" if free.all() else overflow,
    }
    return replace(node, attrs=attrs)
