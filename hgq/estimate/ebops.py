"""EBOPs of a graph, node by node, by the very functions that training charges (`hgq.resources.ebops`)."""

from __future__ import annotations

import numpy as np

from hgq.ir.graph import Const, Graph, Node
from hgq.ir.show import declared_format
from hgq.numerics import Fixed, Ints
from hgq.resources import ebops as formula


def ebops_by_node(graph: Graph) -> dict[str, int]:
    """EBOPs of each node; zero where nothing is multiplied by, or added to, a constant.

    Data count with the bits that their port or quantizer declares (the wires), constants with the bits that they really need.
    """
    return {node.name: _node(graph, node) for node in graph.nodes}


def ebops_of(graph: Graph) -> int:
    """EBOPs of a whole graph."""
    return sum(ebops_by_node(graph).values())


def constant_bits(const: Const) -> Ints:
    """Effective bits of each element, sign included."""
    return Fixed.minimal(const.mantissa, const.format.f).width


def operands(graph: Graph, node: Node) -> tuple[str, Const] | None:
    """Name of the data and the constant that a node combines; None unless it reads one of each."""
    consts = [name for name in node.inputs if name in graph.consts]
    data = [name for name in node.inputs if name not in graph.consts]
    return (data[0], graph.consts[consts[0]]) if len(consts) == 1 and len(data) == 1 else None


def _node(graph: Graph, node: Node) -> int:
    pair = operands(graph, node)
    if pair is None:
        return 0
    data, const = pair
    bits_x, bits_c = declared_format(graph, data).width, constant_bits(const)
    if node.op == "matmul":
        return int(formula.dense(bits_x, bits_c))
    # Element by element: one position for each element of the result.
    shape = np.broadcast_shapes(bits_x.shape, bits_c.shape)
    flat_x, flat_c = (np.broadcast_to(bits, shape).reshape(-1) for bits in (bits_x, bits_c))
    if node.op == "multiply":
        return int(formula.scale_offset(flat_x, flat_c))
    if node.op == "add":
        return int(formula.scale_offset(flat_x, None, flat_c))
    return 0
