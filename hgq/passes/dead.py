"""Dead code: what no output can see disappears, down to single neurons and single bits of a port."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from hgq.ir.contraction import read
from hgq.ir.graph import Const, Graph, Node
from hgq.ir.ops import MOVES
from hgq.numerics import Fixed
from hgq.passes.edit import put_const
from hgq.passes.reads import POOLS, contraction_reads, conv_reads, move_reads, pool_reads, product_reads

ELEMENTWISE = ("quantize", "add", "multiply", "relu", "clip", "leaky_relu", "hard_sigmoid")
"""Ops that `_compact` cuts: element by element, with at most one operand that is no constant."""

PER_ELEMENT = ("subtract", "maximum", "minimum", "product", "lookup")
"""Element by element too, but never cut: an element that nothing reads is read from no operand."""


def remove_dead(graph: Graph) -> Graph:
    """Remove unread nodes and constants, neurons that nothing reads, and the bits of port elements that nothing reads.

    Ports keep their shape, since they are the interface: an unread element becomes one of zero width.
    """
    live = _liveness(graph)
    graph = _compact(graph, live)
    used = set(graph.outputs)
    nodes = []
    for node in reversed(graph.nodes):
        if node.name in used:
            nodes.append(node)
            used.update(node.inputs)
    inputs = tuple(replace(port, format=_masked(port.format, live[port.name])) for port in graph.inputs)
    consts = {name: const for name, const in graph.consts.items() if name in used}
    return graph.with_(inputs=inputs, nodes=tuple(reversed(nodes)), consts=consts)


def _masked(fixed: Fixed, live: np.ndarray) -> Fixed:
    return Fixed(*(np.where(live, part, 0) for part in fixed.astuple()))


def _liveness(graph: Graph) -> dict[str, np.ndarray]:
    """For each port and node, which elements of it an output depends on."""
    shapes = graph.shapes()
    live = {name: np.zeros(shape, bool) for name, shape in shapes.items() if name not in graph.consts}
    for name in graph.outputs:
        live[name][...] = True
    for node in reversed(graph.nodes):
        wanted = live[node.name]
        for name in node.inputs:
            if name not in live:
                continue
            if node.op == "matmul":
                reads = product_reads(node, wanted, graph)
            elif node.op == "conv":
                reads = conv_reads(node, wanted, graph, shapes)
            elif node.op == "einsum":
                reads = contraction_reads(node, name, wanted, graph, shapes)
            elif node.op in POOLS:
                reads = pool_reads(node, wanted, shapes)
            elif node.op in MOVES:
                reads = move_reads(node, name, wanted, shapes)
            elif node.op in (*ELEMENTWISE, *PER_ELEMENT) and shapes[name] == wanted.shape:
                reads = wanted
            else:  # an op this pass knows nothing about, or one that broadcasts, reads everything
                reads = np.ones(shapes[name], bool)
            live[name] |= reads
    return live


def _compact(graph: Graph, live: dict[str, np.ndarray]) -> Graph:
    """Cut dead neurons and channels out of products with a kernel, and of the ops behind them that treat each by itself."""
    shapes, whole = graph.shapes(), _uncuttable(graph)
    kept: dict[str, np.ndarray] = {}  # value -> positions of its last axis that remain, absent when all do
    consts, nodes = dict(graph.consts), []
    for node in graph.nodes:
        x = node.inputs[0]
        axes = _kernel_axes(node, graph)
        if axes is not None:
            w, (read_axis, written_axis) = graph.consts[node.inputs[1]], axes
            cut = w
            if written_axis is not None and node.name not in whole:
                mask = live[node.name].reshape(-1, shapes[node.name][-1]).any(axis=0)
                columns = np.flatnonzero(mask) if mask.any() else np.zeros(1, np.int64)
                if len(columns) < shapes[node.name][-1]:
                    kept[node.name], cut = columns, _taken(cut, written_axis, columns)
            if x in kept and read_axis is not None:
                cut = _taken(cut, read_axis, kept[x])
            if cut is not w:
                node = replace(node, inputs=(x, put_const(cut, graph, consts)))
        elif x in kept:
            node, kept[node.name] = _passed_on(node, kept[x], graph, consts)
        if node.op == "quantize":
            mask = live[node.name][..., kept[node.name]] if node.name in kept else live[node.name]
            node = replace(node, attrs={**node.attrs, "format": _masked(node.attrs["format"], mask)})
        nodes.append(node)
    return graph.with_(nodes=tuple(nodes), consts=consts)


def _uncuttable(graph: Graph) -> set[str]:
    """Values whose last axis must stay whole: outputs, and whatever flows into an op that needs every element."""
    whole = set(graph.outputs)
    for node in reversed(graph.nodes):
        axes = _kernel_axes(node, graph)
        if axes is not None and axes[0] is not None:
            continue
        if node.name in whole or not _passes_on(node, graph):
            whole.update(name for name in node.inputs if name not in graph.consts)
    return whole


def _kernel_axes(node: Node, graph: Graph) -> tuple[int | None, int | None] | None:
    """Axes of the kernel that the operand's and the result's last axis are, None for one that is no single axis of it.

    The whole is None for ops that have no kernel, or one in groups.
    """
    if node.op == "matmul":
        return 0, 1
    if node.op == "conv" and node.attrs["groups"] == 1:
        return -2, -1
    if node.op != "einsum" or node.inputs[1] not in graph.consts:
        return None
    parts = read(node.attrs["equation"])
    last_x, last = parts.x[-1:], parts.out[-1:]
    read_axis = parts.y.index(last_x) if last_x and last_x in parts.contracted else None
    return read_axis, parts.y.index(last) if last and last in parts.free_y else None


def _passes_on(node: Node, graph: Graph) -> bool:
    """Whether what is cut from the last axis of the first operand can be cut from the result, and nothing else changes."""
    shapes, x = graph.shapes(), node.inputs[0]
    if x in graph.consts or any(name not in graph.consts for name in node.inputs[1:]):
        return False
    before, after = shapes[x], shapes[node.name]
    if node.op in ELEMENTWISE:
        return before == after
    if node.op == "conv":
        return node.attrs["groups"] == before[-1]
    if node.op == "pad":
        return not any(node.attrs["widths"][-1])
    if node.op == "take":
        return node.attrs["axis"] < len(before) - 1
    if node.op == "reshape":
        return bool(before) and bool(after) and (before[-1] == after[-1] or len(after) == 1)
    return node.op in POOLS


def _passed_on(node: Node, positions: np.ndarray, graph: Graph, consts: dict[str, Const]) -> tuple[Node, np.ndarray]:
    """The node with an operand of which only these positions of the last axis are left, and what is left of its result."""
    attrs, inputs = dict(node.attrs), node.inputs
    if node.op == "conv":
        share = consts[inputs[1]].mantissa.shape[-1] // attrs["groups"]
        attrs["groups"] = len(positions)
        positions = (positions[:, None] * share + np.arange(share)).reshape(-1)
        inputs = (inputs[0], put_const(_taken(graph.consts[inputs[1]], -1, positions), graph, consts))
    elif node.op == "reshape":
        before, after = graph.shapes()[inputs[0]], attrs["shape"]
        if before[-1] != after[-1]:  # everything in one axis
            rows = math.prod(before[:-1])
            positions = (np.arange(rows)[:, None] * before[-1] + positions).reshape(-1)
        attrs["shape"] = (*after[:-1], len(positions))
    elif node.op == "quantize":
        attrs["format"] = attrs["format"][..., positions]
    elif len(inputs) == 2:
        c = graph.consts[inputs[1]]
        if c.mantissa.ndim and c.mantissa.shape[-1] > 1:
            inputs = (inputs[0], put_const(_taken(c, -1, positions), graph, consts))
    return replace(node, inputs=inputs, attrs=attrs), positions


def _taken(const: Const, axis: int, positions: np.ndarray) -> Const:
    mantissa, *parts = (np.take(part, positions, axis=axis) for part in (const.mantissa, *const.format.astuple()))
    return replace(const, mantissa=mantissa, format=Fixed(*parts))
