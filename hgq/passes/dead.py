"""Dead code: what no output can see disappears, down to single neurons and single bits of a port."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from hgq.ir.contraction import read
from hgq.ir.graph import Const, Graph, Node
from hgq.ir.ops import MOVES, OPS
from hgq.numerics import Fixed
from hgq.passes.edit import put_const

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
                reads = wanted.astype(np.int64) @ (graph.consts[node.inputs[1]].mantissa != 0).T.astype(np.int64) > 0
            elif node.op == "einsum":
                reads = _contracted_from(node, name, wanted, graph, shapes)
            elif node.op in MOVES:
                reads = _moved_from(node, name, wanted, shapes)
            elif node.op in (*ELEMENTWISE, *PER_ELEMENT) and shapes[name] == wanted.shape:
                reads = wanted
            else:  # an op this pass knows nothing about, or one that broadcasts, reads everything
                reads = np.ones(shapes[name], bool)
            live[name] |= reads
    return live


def _contracted_from(node: Node, name: str, wanted: np.ndarray, graph: Graph, shapes: dict[str, tuple[int, ...]]) -> np.ndarray:
    """Which elements of operand `name` meet, in a wanted sum, another operand that is not a constant 0."""
    parts = read(node.attrs["equation"])
    reads = np.zeros(shapes[name], bool)
    for own, other, (left, right) in zip(node.inputs, node.inputs[::-1], ((parts.x, parts.y), (parts.y, parts.x)), strict=True):
        if own == name:
            alive = graph.consts[other].mantissa != 0 if other in graph.consts else np.ones(shapes[other], bool)
            reads |= np.einsum(f"{parts.out},{right}->{left}", wanted.astype(np.int64), alive.astype(np.int64)) > 0
    return reads


def _moved_from(node: Node, name: str, wanted: np.ndarray, shapes: dict[str, tuple[int, ...]]) -> np.ndarray:
    """Which elements of operand `name` the wanted elements of a movement come from: what the op does to their numbers says it."""
    size = math.prod(shapes[name])
    numbers = np.arange(1, size + 1).reshape(1, *shapes[name])
    operands = [numbers if operand == name else np.zeros((1, *shapes[operand]), np.int64) for operand in node.inputs]
    reads = np.zeros(size + 1, bool)
    reads[OPS[node.op].function(*operands, **node.attrs)[0][wanted].astype(np.int64)] = True
    return reads[1:].reshape(shapes[name])


def _compact(graph: Graph, live: dict[str, np.ndarray]) -> Graph:
    """Cut dead neurons out of products and of the element-wise ops behind them."""
    whole = _uncuttable(graph)
    kept: dict[str, np.ndarray] = {}  # value -> positions of its last axis that remain, absent when all do
    consts, nodes = dict(graph.consts), []
    for node in graph.nodes:
        x = node.inputs[0]
        if node.op == "matmul":
            w = graph.consts[node.inputs[1]]
            rows: np.ndarray = kept[x] if x in kept else np.arange(w.mantissa.shape[0])
            columns: np.ndarray = np.arange(w.mantissa.shape[1])
            if node.name not in whole:
                mask = live[node.name].reshape(-1, len(columns)).any(axis=0)
                columns = np.flatnonzero(mask) if mask.any() else columns[:1]
            if len(columns) < w.mantissa.shape[1]:
                kept[node.name] = columns
            if len(rows) < w.mantissa.shape[0] or node.name in kept:
                node = replace(node, inputs=(x, put_const(_cut(w, np.ix_(rows, columns)), graph, consts)))
        elif node.op in ELEMENTWISE and x in kept:
            kept[node.name] = kept[x]
            if len(node.inputs) == 2 and consts[node.inputs[1]].mantissa.ndim:
                c = consts[node.inputs[1]]
                if c.mantissa.shape[-1] > 1:
                    node = replace(node, inputs=(x, put_const(_cut(c, (..., kept[x])), graph, consts)))
            if node.op == "quantize":
                node = replace(node, attrs={**node.attrs, "format": node.attrs["format"][..., kept[x]]})
        if node.op == "quantize":
            mask = live[node.name][..., kept[node.name]] if node.name in kept else live[node.name]
            node = replace(node, attrs={**node.attrs, "format": _masked(node.attrs["format"], mask)})
        nodes.append(node)
    return graph.with_(nodes=tuple(nodes), consts=consts)


def _uncuttable(graph: Graph) -> set[str]:
    """Values whose last axis must stay whole: outputs, and whatever flows element-wise into an op that needs every element."""
    whole = set(graph.outputs)
    for node in reversed(graph.nodes):
        data = [name for name in node.inputs if name not in graph.consts]
        same_shape = len(data) == 1 and graph.shapes()[data[0]] == graph.shapes()[node.name]
        chained = node.op in ELEMENTWISE and same_shape and node.name not in whole
        if node.op != "matmul" and not chained:
            whole.update(data)
    return whole


def _cut(const: Const, index: Any) -> Const:
    return replace(const, mantissa=const.mantissa[index], format=const.format[index])
