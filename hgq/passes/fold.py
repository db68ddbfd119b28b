"""Constant folding: elements proven constant leave the products, and chains of constant additions become one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hgq.ir.graph import Const, Graph, Node
from hgq.ir.integers import IntArray
from hgq.ir.ops import OPS
from hgq.ir.ranges import RangeArray
from hgq.ir.windows import group_slices
from hgq.passes.edit import fresh, put_const


def fold_constants(graph: Graph) -> Graph:
    """Move what constant elements contribute to a product into an addition, then merge additions of constants."""
    return _merge_additions(_fold_products(graph))


def _fold_products(graph: Graph) -> Graph:
    values = dict(graph.ranges())
    consts, nodes, names = dict(graph.consts), [], {node.name for node in graph.nodes}
    renamed: dict[str, str] = {}
    for node in graph.nodes:
        node = replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))
        nodes.append(node)
        if node.op not in ("matmul", "conv"):
            continue
        x, w = values[node.inputs[0]], graph.consts[node.inputs[1]]
        parted = _parted(node, x, w)
        if parted is None:
            continue
        dead, offset = parted
        live = Const.minimal(w.name, np.where(dead, 0, w.mantissa), w.format.f)
        nodes[-1] = replace(node, inputs=(node.inputs[0], put_const(live, graph, consts)))
        if offset.mantissa.any():
            bias = Const.minimal(fresh(f"{node.name}.offset", consts), offset.mantissa, np.full(offset.shape, offset.f))
            consts[bias.name] = bias
            product, total = node.name, fresh(f"{node.name}.plus_offset", names)
            if node.name in graph.outputs:  # an output keeps its name, whatever computes it
                product, total = fresh(f"{node.name}.product", names), node.name
                nodes[-1] = replace(nodes[-1], name=product)
            else:
                renamed[node.name] = total
                values[total] = values[node.name]
            nodes.append(Node(total, "add", (product, bias.name), {}, node.source))
    return graph.with_(nodes=tuple(nodes), consts=consts)


def _parted(node: Node, x: RangeArray, w: Const) -> tuple[np.ndarray, IntArray] | None:
    """Which weights only ever meet constants, and what those products sum up to; None if there are none.

    Of a convolution only channels that are one number everywhere count, so that the sum is one number for each output: where there is
    padding, which windows at the border see, only 0.
    """
    low, constant = x.low.mantissa[0], (x.low.mantissa == x.high.mantissa)[0]
    rows = constant.reshape(-1, constant.shape[-1]).all(axis=0)
    if node.op == "matmul":
        rows &= (w.mantissa != 0).any(axis=1)
        if not rows.any():
            return None
        return rows[:, None], IntArray(np.where(rows, low, 0), x.low.f) @ IntArray.of_reals(w.value)
    flat = low.reshape(-1, low.shape[-1])
    rows &= (flat == flat[0]).all(axis=0)
    if any(map(any, node.attrs["padding"])):
        rows &= flat[0] == 0
    dead = np.zeros(w.mantissa.shape, bool)
    for read, written in group_slices(node.attrs["groups"], *w.mantissa.shape[-2:]):
        dead[..., written] = rows[read, None]
    if not (dead & (w.mantissa != 0)).any():
        return None
    sums = OPS["conv"].function(IntArray(np.where(rows, low, 0)[None], x.low.f), w.value, **node.attrs)
    return dead, IntArray(sums.mantissa.reshape(-1, sums.shape[-1])[0], sums.f)


def _merge_additions(graph: Graph) -> Graph:
    """``(x + a) + b`` with constants becomes ``x + (a + b)``; an addition of zeros disappears."""
    consts, nodes = dict(graph.consts), {node.name: node for node in graph.nodes}
    shapes = graph.shapes()
    renamed: dict[str, str] = {}
    for node in graph.nodes:
        node = nodes[node.name] = replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))
        if node.op != "add" or node.inputs[1] not in consts:
            continue
        inner = nodes.get(node.inputs[0])
        shared = inner is None or len(graph.users(inner.name)) > 1 or inner.name in {*graph.outputs, *renamed.values()}
        if inner and not shared and inner.op == "add" and inner.inputs[1] in consts:
            total = IntArray.of_reals(consts[inner.inputs[1]].value) + IntArray.of_reals(consts[node.inputs[1]].value)
            merged = Const.minimal(node.inputs[1], total.mantissa, np.full(total.shape, total.f))
            node = nodes[node.name] = replace(node, inputs=(inner.inputs[0], put_const(merged, graph, consts)))
            del nodes[inner.name]
        nothing = not consts[node.inputs[1]].mantissa.any() and shapes[node.inputs[0]] == shapes[node.name]
        if nothing and node.name not in graph.outputs:
            renamed[node.name] = node.inputs[0]
            del nodes[node.name]
    return graph.with_(nodes=tuple(nodes.values()), consts=consts)
