"""Which elements of an operand the wanted elements of a result come from, op by op."""

from __future__ import annotations

import math

import numpy as np

from hgq.ir import windows
from hgq.ir.contraction import read
from hgq.ir.graph import Graph, Node
from hgq.ir.ops import OPS

Shapes = dict[str, tuple[int, ...]]
POOLS = ("max_pool", "sum_pool")


def product_reads(node: Node, wanted: np.ndarray, graph: Graph) -> np.ndarray:
    """Of a matrix product: whatever has a weight that is not 0 in a wanted sum."""
    return wanted.astype(np.int64) @ (graph.consts[node.inputs[1]].mantissa != 0).T.astype(np.int64) > 0


def conv_reads(node: Node, wanted: np.ndarray, graph: Graph, shapes: Shapes) -> np.ndarray:
    """Of a convolution: the same for every window. With groups, a wanted output keeps each channel of its group in at least one place."""
    alive, shape = graph.consts[node.inputs[1]].mantissa != 0, shapes[node.inputs[0]]
    *taps, channels, outputs = alive.shape
    groups = windows.group_slices(node.attrs["groups"], channels, outputs)
    reads = np.zeros((math.prod(shape[:-1]), shape[-1]), bool)
    rows = wanted.reshape(-1, outputs).astype(np.int64)
    for tap, number, seen in windows.reads(shape[:-1], taps, node.attrs["strides"], node.attrs["dilation"], node.attrs["padding"]):
        for own, written in groups:
            needed = rows[:, written] @ alive[(*tap, slice(None), written)].T.astype(np.int64) > 0
            np.logical_or.at(reads[:, own], number[seen], needed[seen])
    if len(groups) > 1:
        for own, written in groups:
            if rows[:, written].any():
                reads[0, own] |= ~reads[:, own].any(axis=0)
    return reads.reshape(shape)


def pool_reads(node: Node, wanted: np.ndarray, shapes: Shapes) -> np.ndarray:
    """Of a pooling: all that a wanted window sees of its channel."""
    shape, pool = shapes[node.inputs[0]], node.attrs["pool"]
    reads, rows = np.zeros((math.prod(shape[:-1]), shape[-1]), bool), wanted.reshape(-1, shape[-1])
    for _, number, seen in windows.reads(shape[:-1], pool, node.attrs["strides"], (1,) * len(pool), node.attrs["padding"]):
        np.logical_or.at(reads, number[seen], rows[seen])
    return reads.reshape(shape)


def contraction_reads(node: Node, name: str, wanted: np.ndarray, graph: Graph, shapes: Shapes) -> np.ndarray:
    """Of an Einstein sum: the elements of operand `name` that meet, in a wanted sum, another operand that is not a constant 0."""
    parts = read(node.attrs["equation"])
    reads = np.zeros(shapes[name], bool)
    for own, other, (left, right) in zip(node.inputs, node.inputs[::-1], ((parts.x, parts.y), (parts.y, parts.x)), strict=True):
        if own == name:
            alive = graph.consts[other].mantissa != 0 if other in graph.consts else np.ones(shapes[other], bool)
            reads |= np.einsum(f"{parts.out},{right}->{left}", wanted.astype(np.int64), alive.astype(np.int64)) > 0
    return reads


def move_reads(node: Node, name: str, wanted: np.ndarray, shapes: Shapes) -> np.ndarray:
    """Of a movement: what the op does to the numbers of operand `name`'s elements says it."""
    size = math.prod(shapes[name])
    numbers = np.arange(1, size + 1).reshape(1, *shapes[name])
    operands = [numbers if operand == name else np.zeros((1, *shapes[operand]), np.int64) for operand in node.inputs]
    reads = np.zeros(size + 1, bool)
    reads[OPS[node.op].function(*operands, **node.attrs)[0][wanted].astype(np.int64)] = True
    return reads[1:].reshape(shapes[name])
