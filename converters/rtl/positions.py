"""A graph in pieces, and one position of a piece as a graph of its own.

A convolution does the same at every position of an image. A piece is such an op with what follows it element by element, or else whatever
lies between two of them. Of a piece with a grid of positions, `Window` is what one position needs: positions whose windows have the same
formats and constants are alike, and their hardware is too, but for what neighbours share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hgq.ir.graph import Const, Graph, Input, Node
from hgq.ir.ops import PARALLEL
from hgq.ir.parts import part
from hgq.ir.show import declared_format
from hgq.numerics import Fixed

ELEMENTWISE = frozenset(
    ("quantize", "add", "subtract", "maximum", "minimum", "product", "multiply", "relu", "clip", "leaky_relu", "hard_sigmoid")
)
WINDOWED = frozenset(("conv", "max_pool", "sum_pool"))
NEEDED = "/needed"
"""Behind the name of a value: as much of it as is read."""


@dataclass
class Piece:
    """Nodes that are counted together.

    Args:
        level: Pieces read only values of pieces of lower levels.
        grid: Sizes of the axes of positions; empty for a piece that is counted as a whole.
        nodes: In order of definition; of a piece with a grid, the first decides what a position reads.
    """

    level: int
    grid: tuple[int, ...]
    nodes: list[Node] = field(default_factory=list)

    @property
    def positions(self) -> int:
        """How many there are."""
        return prod(self.grid)


def pieces(graph: Graph) -> list[Piece]:
    """All nodes of a graph in pieces, by level."""
    of: dict[str, Piece] = {}
    whole: dict[int, Piece] = {}
    found: list[Piece] = []
    for node in graph.nodes:
        data = [name for name in node.inputs if name not in graph.consts]
        before = list({id(of[name]): of[name] for name in data if name in of}.values())
        grid = _grid(graph, node)
        if grid and node.op in ELEMENTWISE and len(before) == 1 and before[0].grid == grid and all(name in of for name in data):
            piece = before[0]
        elif grid:
            piece = Piece(max((one.level for one in before), default=-1) + 1, grid)
            found.append(piece)
        else:
            level = max((one.level + (1 if one.grid else 0) for one in before), default=0)
            if level not in whole:
                whole[level] = Piece(level, ())
                found.append(whole[level])
            piece = whole[level]
        piece.nodes.append(node)
        of[node.name] = piece
    return sorted(found, key=lambda piece: piece.level)


def _grid(graph: Graph, node: Node) -> tuple[int, ...]:
    """Positions of a node that is the same at each, else none."""
    shape = graph.shapes()[node.name]
    repeats = node.op in WINDOWED or node.op in ELEMENTWISE or (node.op == "matmul" and node.inputs[1] in graph.consts)
    return shape[:-1] if repeats and prod(shape[:-1]) > 1 else ()


@dataclass(frozen=True, eq=False)
class Window:
    """One position of a piece.

    Args:
        graph: What it needs.
        key: The same for positions that are alike.
        position: In the grid.
        read: Which elements of its ports it reads, by axis of the grid.
        wanted: Which channels of its outputs are needed, by name.
    """

    graph: Graph
    key: bytes
    position: tuple[int, ...]
    read: tuple[slice, ...]
    wanted: Mapping[str, NDArray[np.bool_]]


class Needed:
    """Which elements of each value are needed. Pieces are asked for from the last to the first.

    A pooling may leave a rest at the border, a quantizer may drop a channel at a position, a kernel may be 0 where it meets one.

    Args:
        graph: All of it.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph, self.shapes = graph, graph.shapes()
        self.read = {name: np.ones(self.shapes[name], bool) for name in graph.outputs}

    def windows(self, piece: Piece) -> list[Window]:
        """Those of a piece with a grid that are needed; takes note of what they read."""
        pattern = part(self.graph, tuple(piece.nodes))
        formats = {port.name: declared_format(self.graph, port.name) for port in pattern.inputs}
        outputs = {name: declared_format(self.graph, name) for name in pattern.outputs}
        alive = {name: self.read[name] & (fixed.width > 0) for name, fixed in outputs.items()}
        seen = {name: self.read.setdefault(name, np.zeros(self.shapes[name], bool)) for name in formats}
        found = []
        for position in product(*map(range, piece.grid)):
            wanted = {name: mask[position] for name, mask in alive.items()}
            if any(mask.any() for mask in wanted.values()):
                window = _window(pattern, piece, formats, position, outputs, wanted)
                found.append(window)
                elements = _elements(piece.nodes[0], pattern, np.logical_or.reduce(list(wanted.values())), window.read)
                for mask in seen.values():
                    mask[window.read] |= elements
        return found

    def whole(self, piece: Piece) -> Graph:
        """A piece that is counted as a whole; it reads all that it names."""
        pattern = part(self.graph, tuple(piece.nodes))
        for port in pattern.inputs:
            self.read[port.name] = np.ones(port.shape, bool)
        return pattern


def _elements(root: Node, pattern: Graph, channels: NDArray[np.bool_], cut: tuple[slice, ...]) -> Any:
    """Which elements the first node of a piece reads at a position for some of its channels; broadcasts to what `cut` takes."""
    if root.op == "matmul":
        return (pattern.consts[root.inputs[1]].mantissa[:, channels] != 0).any(axis=1)
    sizes = [part.stop - part.start for part in cut]
    if root.op == "conv" and root.attrs["groups"] == 1:
        taps = (pattern.consts[root.inputs[1]].mantissa[..., channels] != 0).any(axis=-1)
        if list(taps.shape[:-1]) == sizes:  # neither padding nor dilation
            return taps
    return True if root.op == "conv" else channels


def _window(
    pattern: Graph,
    piece: Piece,
    formats: dict[str, Fixed],
    position: tuple[int, ...],
    outputs: dict[str, Fixed],
    wanted: dict[str, NDArray[np.bool_]],
) -> Window:
    """A pattern at one position; the first node says which elements that reads."""
    root, grid, own = piece.nodes[0], piece.grid, tuple(slice(at, at + 1) for at in position)
    read, attrs = own, {}
    if root.op in WINDOWED:
        sizes = formats[root.inputs[0]].shape[:-1]
        read, padding = _reads(root, pattern, sizes, position)
        attrs = {"padding": padding}
    inputs = tuple(Input(name, (cut := fixed[(*read, slice(None))]).shape, cut) for name, fixed in formats.items())
    kernels = () if root.op in ELEMENTWISE else root.inputs[1:]  # the same at every position
    consts = {name: const if name in kernels else _at(const, grid, own) for name, const in pattern.consts.items()}
    nodes = []
    for node in piece.nodes:
        kept = {name: value for name, value in node.attrs.items() if name != PARALLEL} | (attrs if node is root else {})
        if "format" in kept:
            kept["format"] = kept["format"][_cut(kept["format"].shape, grid, own)]
        nodes.append(Node(node.name, node.op, node.inputs, kept, node.source))
    for name, channels in wanted.items():
        fixed = Fixed(*(np.where(channels, one, 0) for one in outputs[name][own].astuple()))
        nodes.append(Node(name + NEEDED, "quantize", (name,), {"format": fixed, "rounding": "TRN", "overflow": "WRAP"}, nodes[-1].source))
    parts = [repr(attrs).encode()]
    for fixed in (*(port.format for port in inputs), *(node.attrs["format"] for node in nodes if "format" in node.attrs)):
        parts += [repr(fixed.shape).encode(), *(np.ascontiguousarray(one).tobytes() for one in fixed.astuple())]
    parts += [const.mantissa.tobytes() for name, const in consts.items() if name not in kernels]
    graph = pattern.with_(inputs=inputs, consts=consts, nodes=tuple(nodes), outputs=tuple(name + NEEDED for name in wanted))
    return Window(graph, b"|".join(parts), position, tuple(read), wanted)


def hoisted(graph: Graph) -> Graph:
    """The same with quantizers in front of the reshape that they follow, so that they are seen at their positions."""
    shapes, nodes, moved = graph.shapes(), [], dict[str, Node]()
    for node in graph.nodes:
        users = graph.users(node.name)
        alone = len(graph.users(node.inputs[0])) == 1 and node.inputs[0] not in graph.outputs and node.name not in graph.outputs
        if node.op == "reshape" and alone and len(users) == 1 and users[0].op == "quantize":
            fixed = users[0].attrs["format"].broadcast_to(shapes[node.name]).reshape(shapes[node.inputs[0]])
            nodes.append(Node(node.name, "quantize", node.inputs, {**users[0].attrs, "format": fixed}, users[0].source))
            moved[users[0].name] = node
        elif node.name in moved:
            nodes.append(Node(node.name, "reshape", node.inputs, moved[node.name].attrs, moved[node.name].source))
        else:
            nodes.append(node)
    return graph.with_(nodes=tuple(nodes))


def _reads(root: Node, pattern: Graph, sizes: Sequence[int], position: Sequence[int]) -> tuple[tuple[slice, ...], Any]:
    """Elements that a window reads along each axis, and the padding that it sees."""
    kernel = pattern.consts[root.inputs[1]].mantissa.shape[:-2] if root.op == "conv" else root.attrs["pool"]
    dilation = root.attrs.get("dilation", (1,) * len(kernel))
    cuts, padding = [], []
    for at, size, taps, stride, step, (low, _) in zip(
        position, sizes, kernel, root.attrs["strides"], dilation, root.attrs["padding"], strict=True
    ):
        start = at * stride - low
        end = start + (taps - 1) * step + 1
        cuts.append(slice(max(start, 0), min(end, size)))
        padding.append((max(-start, 0), max(end - size, 0)))
    return tuple(cuts), tuple(padding)


def _cut(shape: tuple[int, ...], grid: tuple[int, ...], own: tuple[slice, ...]) -> tuple[slice, ...]:
    """Where something of this shape, broadcast to a grid and channels, is at a position."""
    full = (*own, slice(None))
    sizes = (*grid, -1)
    skip = len(full) - len(shape)
    return tuple(full[skip + axis] if size == sizes[skip + axis] else slice(None) for axis, size in enumerate(shape))


def _at(const: Const, grid: tuple[int, ...], own: tuple[slice, ...]) -> Const:
    cut = _cut(const.mantissa.shape, grid, own)
    return Const(const.name, const.mantissa[cut], const.format[cut])
