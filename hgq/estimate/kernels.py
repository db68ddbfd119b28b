"""The weights of a node, one by one: how often each is used, on how many bits of data, and its signed digits."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from hgq.estimate.ebops import constant_bits, operands
from hgq.ir import windows
from hgq.ir.contraction import read
from hgq.ir.graph import Const, Graph, Node
from hgq.ir.show import declared_format
from hgq.numerics import Ints

KERNEL_OPS = ("matmul", "conv", "einsum", "multiply")
"""Ops that multiply data with constants."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """The constant of one node; arrays have its shape.

    Args:
        node: The node that multiplies with it.
        const: The weights.
        uses: Products of each weight with data that has bits, over all positions.
        bits: Declared bits of that data, summed.
        axes: Axes of the constant that are axes of the result: its outputs.
        positions: Axes of the node's result that are not; as many equal pieces of hardware as they have elements.
    """

    node: Node
    const: Const
    uses: Ints
    bits: Ints
    axes: tuple[int, ...]
    positions: tuple[int, ...]

    @property
    def ebops(self) -> Ints:
        """Of each weight: its effective bits times those of its data."""
        return constant_bits(self.const) * self.bits

    @property
    def outputs(self) -> tuple[int, ...]:
        """Shape of the outputs."""
        return tuple(self.const.mantissa.shape[axis] for axis in self.axes)

    def by_output(self, result: NDArray) -> NDArray:
        """An array of the shape of the node's result, summed to the outputs."""
        return result.sum(axis=self.positions).reshape(self.outputs)

    def weights_of(self, output: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Indices of the weights of one output, those that are 0 included."""
        shape = self.const.mantissa.shape
        fixed = dict(zip(self.axes, output, strict=True))
        return [index for index in np.ndindex(shape) if all(index[axis] == value for axis, value in fixed.items())]

    def output_of(self, weight: tuple[int, ...]) -> tuple[int, ...]:
        """The output that a weight belongs to."""
        return tuple(weight[axis] for axis in self.axes)

    @staticmethod
    def of(graph: Graph, node: Node) -> Kernel | None:
        """The kernel of a node; None if it multiplies no data with constants."""
        pair = operands(graph, node)
        if pair is None or node.op not in KERNEL_OPS:
            return None
        data, const = pair
        x, shape, rank = declared_format(graph, data).width, const.mantissa.shape, len(graph.shapes()[node.name])
        if node.op == "matmul":
            rows = x.reshape(-1, x.shape[-1])
            uses, bits = ((rows > 0).sum(0)[:, None], rows.sum(0)[:, None])
            axes, positions = (1,), tuple(range(rank - 1))
        elif node.op == "conv":
            uses, bits = _taps(x, shape, node)
            axes, positions = (len(shape) - 1,), tuple(range(rank - 1))
        elif node.op == "einsum":
            parts = read(node.attrs["equation"])
            own, other = (parts.y, parts.x) if node.inputs[1] == const.name else (parts.x, parts.y)
            shared = [letter for letter in other if letter in own]
            uses, bits = (_spread(np.einsum(f"{other}->{''.join(shared)}", of), shared, own) for of in ((x > 0).astype(np.int64), x))
            axes = tuple(own.index(letter) for letter in parts.out if letter in own)
            positions = tuple(axis for axis, letter in enumerate(parts.out) if letter not in own)
        else:
            wide = np.broadcast_to(x, graph.shapes()[node.name])
            positions = tuple(axis for axis in range(rank) if axis < rank - len(shape) or shape[axis - rank] == 1)
            uses, bits = ((wide > 0).sum(axis=positions).reshape(shape), wide.sum(axis=positions).reshape(shape))
            axes = tuple(range(len(shape)))
        uses, bits = (np.broadcast_to(part, shape).astype(np.int64) for part in (uses, bits))
        return Kernel(node, const, uses, bits, axes, positions)


def _spread(summed: Ints, letters: list[str], own: str) -> Ints:
    """Axes `letters` put where they are among the letters of the kernel."""
    order = sorted(range(len(letters)), key=lambda axis: own.index(letters[axis]))
    moved = np.transpose(summed, order)
    sizes = iter(moved.shape)
    return moved.reshape([next(sizes) if letter in letters else 1 for letter in own])


def _taps(x: Ints, shape: tuple[int, ...], node: Node) -> tuple[Ints, Ints]:
    *taps, channels, outputs = shape
    attrs = node.attrs
    uses, bits = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for tap, cut in windows.inside(x.shape[:-1], taps, attrs["strides"], attrs["dilation"], attrs["padding"]):
        rows = x[cut].reshape(-1, x.shape[-1])
        for own, written in windows.group_slices(attrs["groups"], channels, outputs):
            uses[(*tap, slice(None), written)] = (rows[:, own] > 0).sum(0)[:, None]
            bits[(*tap, slice(None), written)] = rows[:, own].sum(0)[:, None]
    return uses, bits


def signed_digits(number: int) -> list[tuple[int, int]]:
    """The non-adjacent form: (sign, power of two) of each digit, from the largest; no number has a shorter one."""
    sign, number, found, power = (1 if number >= 0 else -1), abs(number), list[tuple[int, int]](), 0
    while number:
        if number & 1:
            digit = 2 - (number & 3)
            found.append((sign * digit, power))
            number -= digit
        number >>= 1
        power += 1
    return found[::-1]


def number_of_digits(mantissa: Ints) -> Ints:
    """How many each number has: the ones of ``n ^ 3n``."""
    n = np.abs(mantissa).astype(np.uint64)
    return np.bitwise_count(n ^ (n * np.uint64(3))).astype(np.int64)


def kernels(graph: Graph, layer: str | None = None) -> tuple[Kernel, ...]:
    """All kernels, or those of one Keras layer path."""
    found = (Kernel.of(graph, node) for node in graph.nodes if layer in (None, node.source))
    return tuple(kernel for kernel in found if kernel is not None and prod(kernel.const.mantissa.shape))
