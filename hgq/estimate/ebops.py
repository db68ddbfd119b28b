"""EBOPs of a graph, node by node, by the very functions that training charges (`hgq.resources.ebops`)."""

from __future__ import annotations

import numpy as np

from hgq.ir.contraction import read
from hgq.ir.graph import Const, Graph, Node
from hgq.ir.ops import PARALLEL
from hgq.ir.show import declared_format
from hgq.numerics import Fixed, Ints
from hgq.resources import ebops as formula

MERGES = ("add", "subtract", "maximum", "minimum", "product")
"""Ops that combine two values element by element."""
POOLS = ("max_pool", "sum_pool")
"""Ops that combine the elements of each window."""
REDUCTIONS = ("reduce_sum", "reduce_max", "reduce_min")
"""Ops that combine all elements along some axes."""


def ebops_by_node(graph: Graph) -> dict[str, float]:
    """EBOPs of each node; zero where nothing is multiplied, added, compared or looked up. Only those of a table may be no integers.

    Data count with the bits that their port or quantizer declares (the wires), constants with the bits that they really need. What two
    values are merged into counts, when it is merged or scaled further, with the bits that the formulas give it.
    """
    costs: dict[str, float] = {}
    merged: dict[str, Ints] = {}
    for node in graph.nodes:
        if node.op == "lookup":
            costs[node.name] = _table(graph, node)
        elif node.op == "einsum":
            costs[node.name] = _einsum(graph, node)
        elif node.op in MERGES and not any(name in graph.consts for name in node.inputs):
            costs[node.name], merged[node.name] = _merge(graph, node, merged)
        elif node.op in POOLS or node.op in REDUCTIONS:
            costs[node.name], merged[node.name] = _many(graph, node, merged)
        else:
            costs[node.name] = _with_constant(graph, node, merged)
    return costs


def ebops_of(graph: Graph) -> float:
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


def _bits(graph: Graph, name: str, merged: dict[str, Ints]) -> Ints:
    return merged[name] if name in merged else declared_format(graph, name).width


def _merge(graph: Graph, node: Node, merged: dict[str, Ints]) -> tuple[int, Ints]:
    shape = graph.shapes()[node.name]
    bits = [np.broadcast_to(_bits(graph, name, merged), shape) for name in node.inputs]
    cost, result = formula.product(bits) if node.op == "product" else formula.merged(bits)
    return int(cost), np.asarray(result, np.int64)


def _einsum(graph: Graph, node: Node) -> int:
    x, y = (constant_bits(graph.consts[name]) if name in graph.consts else declared_format(graph, name).width for name in node.inputs)
    return int(formula.einsum(x, y, **node.attrs))


def _taking_turns(graph: Graph, data: str, bits: Ints) -> Ints:
    """Bits of what is added to each element of a product with a kernel, in as many copies as that product has."""
    producer = next((node for node in graph.nodes if node.name == data), None)
    parallel = producer.attrs.get(PARALLEL) if producer else None
    if producer is None or parallel is None or bits.shape != graph.shapes()[data]:
        return bits
    if producer.op != "einsum":
        return formula.copies(bits, parallel)
    parts = read(producer.attrs["equation"])
    sizes = dict(zip(parts.out, bits.shape, strict=True))
    return formula.contraction_copies(bits, parts.out, (parts.kept, parts.free_x, parts.free_y), sizes, parallel)


def _table(graph: Graph, node: Node) -> float:
    result = declared_format(graph, node.name).width
    cost = float(formula.table(np.broadcast_to(declared_format(graph, node.inputs[0]).width, result.shape), result))
    return int(cost) if cost.is_integer() else cost


def _many(graph: Graph, node: Node, merged: dict[str, Ints]) -> tuple[int, Ints]:
    bits = _bits(graph, node.inputs[0], merged)
    cost, result = formula.pooled(bits, **node.attrs) if node.op in POOLS else formula.reduced(bits, node.attrs["axes"])
    return int(cost), np.asarray(result, np.int64)


def _with_constant(graph: Graph, node: Node, merged: dict[str, Ints]) -> int:
    pair = operands(graph, node)
    if pair is None:
        return 0
    data, const = pair
    bits_c = constant_bits(const)
    if node.op == "matmul":
        return int(formula.dense(formula.copies(declared_format(graph, data).width, node.attrs.get(PARALLEL)), bits_c))
    if node.op == "conv":
        return int(formula.conv(declared_format(graph, data).width, bits_c, **node.attrs))
    # Element by element: one position for each element of the result.
    bits_x = _bits(graph, data, merged)
    shape = np.broadcast_shapes(bits_x.shape, bits_c.shape)
    flat_x, flat_c = (np.broadcast_to(bits, shape).reshape(-1) for bits in (bits_x, bits_c))
    if node.op == "add":
        flat_c = _taking_turns(graph, data, np.broadcast_to(bits_c, shape)).reshape(-1)
        return int(formula.scale_offset(flat_c, None, flat_c))
    if node.op == "multiply":
        return int(formula.scale_offset(flat_x, flat_c))
    if node.op in ("subtract", "maximum", "minimum"):
        return int(formula.scale_offset(flat_x, None, flat_c))
    return 0
