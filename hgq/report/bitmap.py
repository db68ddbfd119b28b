"""Bitwidth heat maps: one cell for each weight, with the bits of its inputs beside it and of the biases below."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from hgq.estimate.ebops import constant_bits, operands
from hgq.ir.graph import Const, Graph, Node
from hgq.ir.show import declared_format
from hgq.numerics import Ints

LEVELS = 8
"""Cells are coloured from 0 to this many bits; more look like this many."""
CELLS = 128
"""Largest side of a map in cells; larger kernels are averaged over blocks."""
WIDTH = 660
SPACED = 6
"""Cells of at least this many pixels are drawn one by one, with a gap."""


@dataclass(frozen=True)
class LayerBits:
    """One layer's map and what it says in words.

    Args:
        layer: Keras layer path.
        svg: The drawing.
        sentence: What it shows.
        note: How it was condensed, or empty.
    """

    layer: str
    svg: Markup
    sentence: str
    note: str


KERNELS = ("matmul", "conv", "einsum")
"""Ops that multiply data with a kernel of constants, whose last axis are the outputs."""


def layer_maps(graph: Graph) -> list[LayerBits]:
    """A map for each product with a kernel, in order."""
    pairs = ((node, operands(graph, node)) for node in graph.nodes if node.op in KERNELS)
    return [_layer(graph, node, *pair) for node, pair in pairs if pair is not None and pair[1].mantissa.ndim > 1]


def _layer(graph: Graph, node: Node, data: str, const: Const) -> LayerBits:
    """A kernel of more axes than two becomes a matrix: a row for each tap and channel, a column for each output."""
    bits = constant_bits(const)
    kernel = bits.reshape(-1, bits.shape[-1])
    inputs, beside, rows_are = _inputs(node, declared_format(graph, data).width, bits.shape)
    bias = _bias(graph, node, kernel.shape[-1])
    zero, live = int((kernel == 0).sum()), kernel[kernel > 0]
    pieces = [f"{zero:,} of {kernel.size:,} weights are zero ({zero / kernel.size:.0%})" if kernel.size else "no weights"]
    if live.size:
        pieces.append(f"the others need {live.mean():.1f} bits on average, {int(live.max())} at most")
    dead = int((inputs == 0).sum())
    wires = f"{int(inputs.sum()):,} wires come in on {inputs.size - dead:,} inputs"
    pieces.append(wires + (f"; {dead:,} {'is' if dead == 1 else 'are'} dead" if dead else ""))
    sentence = "; ".join(pieces) + "."
    rows, columns = (-(-side // CELLS) for side in kernel.shape)
    note = f"Each cell is the mean of {rows} × {columns} weights." if rows * columns > 1 else ""
    svg = _draw(
        _condense(kernel, rows, columns),
        None if beside is None else _condense(beside[:, None], rows, 1),
        bias,
        columns,
        node.source or node.name,
        (rows_are, f"{kernel.shape[1]:,} outputs"),
    )
    return LayerBits(node.source or node.name, svg, sentence[0].upper() + sentence[1:], note)


def _inputs(node: Node, bits: Ints, kernel: tuple[int, ...]) -> tuple[Ints, Ints | None, str]:
    """Bits of all inputs, of those of each row of the map (None where an output has inputs of its own), and what the rows are."""
    if node.op == "matmul":
        wires = bits.reshape(-1, bits.shape[-1]).max(axis=0)
        return wires, wires, f"{kernel[0]:,} inputs"
    if node.op == "einsum":
        return bits, None, " × ".join(f"{size:,}" for size in kernel[:-1])
    *taps, channels, _ = kernel
    names = [f"{' × '.join(map(str, taps))} taps", f"{channels:,} channel{'s' * (channels > 1)}"]
    wires = bits.reshape(-1, bits.shape[-1]).max(axis=0)
    beside = np.tile(wires, math.prod(taps)) if node.attrs["groups"] == 1 else None
    return bits, beside, " × ".join(names)


def _bias(graph: Graph, node: Node, units: int) -> Ints | None:
    for user in graph.users(node.name):
        pair = operands(graph, user)
        if user.op == "add" and pair is not None and pair[1].mantissa.size == units:
            return constant_bits(pair[1]).reshape(1, units)
    return None


def _condense(bits: Ints, rows: int, columns: int) -> Ints:
    """Mean over blocks, rounded up so that a block with any live weight does not look dead."""
    if rows == columns == 1:
        return bits
    height, width = (-(-size // step) for size, step in zip(bits.shape, (rows, columns), strict=True))
    padded = np.full((height * rows, width * columns), np.nan)
    padded[: bits.shape[0], : bits.shape[1]] = bits
    return np.ceil(np.nanmean(padded.reshape(height, rows, width, columns), axis=(1, 3))).astype(np.int64)


def _draw(kernel: Ints, inputs: Ints | None, bias: Ints | None, columns: int, name: str, sides: tuple[str, str]) -> Markup:
    height, width = kernel.shape
    cell = max(min(WIDTH / max(width, 1), 300 / max(height, 1), 16.0), 3.0)
    gap, strip, top = 8, 26, 20
    left = strip if inputs is None else strip + cell + gap
    parts = [
        Markup('<text class="tick" x="{:.1f}" y="12">{} →</text>').format(left, sides[1]),
        Markup('<text class="tick" transform="translate(9 {:.1f}) rotate(90)">{} →</text>').format(top, sides[0]),
        *([] if inputs is None else [_cells(inputs, strip, top, cell)]),
        _cells(kernel, left, top, cell),
    ]
    total = top + height * cell
    if bias is not None:
        parts.append(_cells(_condense(bias, 1, columns), left, total + gap, cell))
        parts.append(Markup('<text class="tick" x="{:.1f}" y="{:.1f}">bias</text>').format(left + width * cell + 6, total + gap + cell))
        total += gap + cell
    total += 6
    tall = max(total, top + 12 + 6 * len(sides[0]))
    head = Markup('<svg class="bits" role="img" width="{:.0f}" viewBox="0 0 {:.1f} {:.1f}"><title>Bits of layer {}</title>')
    full = max(left + width * cell + 40, left + 90)
    return head.format(full, full, tall, name) + Markup("").join(parts) + Markup("</svg>")


def _cells(bits: Ints, left: float, top: float, cell: float) -> Markup:
    """One path for each number of bits: a square for each cell or, where cells are small, a rectangle for every run of equal ones."""
    height, width = bits.shape
    outline = Markup('<rect class="b0 edge" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
        left, top, width * cell, height * cell
    )
    paths: dict[int, list[str]] = {}
    levels = np.minimum(bits, LEVELS)
    for row in range(height):
        edges = np.flatnonzero(np.diff(levels[row])) + 1 if cell < SPACED else np.arange(1, width)
        for start, stop in zip([0, *edges.tolist()], [*edges.tolist(), width], strict=True):
            if start < stop and (level := int(levels[row, start])):
                paths.setdefault(level, []).append(f"M{start} {row}h{stop - start}v1h{start - stop}z")
    drawn = [Markup('<path class="b{}" d="{}"/>').format(level, "".join(paths[level])) for level in sorted(paths)]
    placed = Markup('<g class="{}" transform="translate({:.1f} {:.1f}) scale({:.3f})">').format(
        "spaced" if cell >= SPACED else "", left, top, cell
    )
    return outline + placed + Markup("").join(drawn) + Markup("</g>")
