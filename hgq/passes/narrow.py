"""Narrow every quantizer to what its input can really reach, and drop those that change nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hgq.ir.graph import Graph, Node
from hgq.ir.interpret import evaluate
from hgq.ir.ranges import RangeArray
from hgq.numerics import Fixed, rescale


def narrow_widths(graph: Graph) -> Graph:
    """Replace each quantizer's format by the proven one where no element can overflow; a quantizer that is then the identity disappears."""
    values = evaluate(graph, {port.name: RangeArray.of_format(port.format) for port in graph.inputs})
    renamed: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        node = replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))
        if node.op == "quantize":
            x = values[node.inputs[0]]
            if node.name not in graph.outputs and _is_identity(x, node.attrs["format"]):
                renamed[node.name] = node.inputs[0]
                continue
            node = _narrowed(node, x, values[node.name])
        nodes.append(node)
    return graph.with_(nodes=tuple(nodes))


def _overflows(x: RangeArray, fixed: Fixed, rounding: str) -> tuple[np.ndarray, np.ndarray]:
    """Which elements can leave the format below and above, after rounding."""
    low, high = (rescale(end.mantissa[0], end.f, fixed.f, rounding) for end in (x.low, x.high))  # type: ignore[arg-type]
    return low < fixed.low, high > fixed.high


def _is_identity(x: RangeArray, fixed: Fixed) -> bool:
    below, above = _overflows(x, fixed, "TRN")
    return not (below | above | (x.lsb[0] > fixed.f)).any()


def _narrowed(node: Node, x: RangeArray, y: RangeArray) -> Node:
    fixed, rounding, overflow = node.attrs["format"], node.attrs["rounding"], node.attrs["overflow"]
    below, above = _overflows(x, fixed, rounding)
    if overflow == "SAT_SYM":
        below |= (y.low.mantissa[0] < 0) & (fixed.k == 1) & _reaches(y, fixed)
    free, proven = ~(below | above), y.format()
    unsigned = (x.low.mantissa[0] >= 0) & (overflow in ("SAT", "SAT_SYM"))  # saturating what is never negative needs no sign
    k = np.where(free, proven.k, np.where(unsigned, 0, fixed.k))
    i, f = np.where(free, proven.i, fixed.i), np.where(free, proven.f, fixed.f)
    exact = not (x.lsb[0] > f).any()
    attrs = {
        "format": Fixed(k, i, f).canonical(),
        "rounding": "TRN" if exact else rounding,
        "overflow": "WRAP" if free.all() else overflow,
    }
    return replace(node, attrs=attrs)


def _reaches(y: RangeArray, fixed: Fixed) -> np.ndarray:
    """Whether a symmetric range's lower end is reached: there the format alone would allow one value more."""
    return rescale(y.low.mantissa[0], y.low.f, fixed.f, "TRN") <= -fixed.high
