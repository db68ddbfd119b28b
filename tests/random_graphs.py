"""Random small graphs, for fuzz tests of passes and backends: every rounding and overflow mode, mixed and zero widths, dead weights."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from hgq.ir.build import GraphBuilder
from hgq.ir.graph import Graph
from hgq.numerics import Fixed

ROUNDINGS = ("TRN", "RND", "RND_CONV")
OVERFLOWS = ("WRAP", "SAT", "SAT_SYM", "WRAP_SM")


def random_graph(
    seed: int,
    sizes: tuple[int, ...] = (8, 7, 5, 3),
    *,
    roundings: tuple[str, ...] = ROUNDINGS,
    overflows: tuple[str, ...] = OVERFLOWS,
    density: float = 0.6,
    quantized_output: bool = False,
) -> Graph:
    """A chain of dense layers, ``sizes[0]`` inputs to ``sizes[-1]`` outputs.

    Args:
        seed: Decides everything.
        sizes: Features of each layer.
        roundings: Modes to draw from.
        overflows: Modes to draw from.
        density: Share of the weights that are not zero.
        quantized_output: End with a quantizer.
    """
    rng = np.random.default_rng(seed)
    b = GraphBuilder(f"random_{seed}")

    def draw(names: tuple[str, ...]) -> str:
        return names[rng.integers(len(names))]

    def formats(size: int, signed: bool = False) -> Fixed:
        k = 1 if signed else rng.integers(0, 2, size)
        return Fixed(k, rng.integers(-1, 4, size), rng.integers(-1, 5, size))

    x = b.input("x", formats(sizes[0], signed=True), draw(roundings), draw(overflows))
    for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
        with b.layer(f"dense_{layer}"):
            if layer:
                x = b.quantize(x, formats(inputs), draw(roundings), draw(overflows), "iq")
            kernel = rng.integers(-9, 10, (inputs, outputs)) * (rng.random((inputs, outputs)) < density)
            x = b.op("matmul", x, b.constant(kernel, Fixed(1, 9, rng.integers(0, 4, kernel.shape)), "kernel"))
            x = b.op("add", x, b.constant(rng.integers(-9, 10, outputs), Fixed(1, 9, 3), "bias"))
            if layer < len(sizes) - 2:
                x = b.op("relu", x)
    if quantized_output:
        x = b.quantize(x, formats(sizes[-1]), draw(roundings), draw(overflows), "oq")
    return b.graph(x)


def random_samples(graph: Graph, samples: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Normal numbers, mostly within the ports' ranges, some far outside."""
    rng = np.random.default_rng(seed)
    return {port.name: rng.normal(scale=4.0, size=(samples, *port.shape)) for port in graph.inputs}


def branched_graph(seed: int = 0) -> Graph:
    """Two inputs, one with an unused element; two outputs, one in the middle; reshape, multiply and a sum of two branches."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder(f"branched_{seed}")
    image = b.input("image", Fixed(0, rng.integers(0, 3, (2, 3)), rng.integers(0, 3, (2, 3))), "RND", "SAT")
    vector = b.input("vector", Fixed(1, rng.integers(-1, 3, 4), rng.integers(-1, 3, 4)), "TRN", "WRAP")
    with b.layer("left"):
        flat = b.op("reshape", image, shape=(6,))
        kernel = rng.integers(-7, 8, (6, 3)) * (rng.random((6, 3)) < 0.7)
        left = b.op("matmul", flat, b.constant(kernel, Fixed(1, 9, 2), "kernel"))
    with b.layer("right"):
        kernel = rng.integers(-7, 8, (4, 3))
        kernel[1] = 0
        right = b.op("matmul", vector, b.constant(kernel, Fixed(1, 9, 1), "kernel"))
        right = b.op("multiply", right, b.constant(np.array([3, -5, 1]), Fixed(1, 9, 1), "scale"))
        right = b.quantize(right, Fixed(1, 3, 2), "RND_CONV", "SAT", "q")
    with b.layer("join"):
        total = b.op("relu", b.op("add", left, right))
        total = b.quantize(total, Fixed(0, [2, 3, 4], [2, 1, 0]), "RND", "WRAP", "q")
    return b.graph(right, total)


def _geometry(strides: tuple[int, ...], dilation: tuple[int, ...], padding: tuple[tuple[int, int], ...], groups: int = 1) -> dict:
    return {"strides": strides, "dilation": dilation, "padding": padding, "groups": groups}


CONVS = {
    "1d": ((7, 2), (3,), 3, _geometry((1,), (1,), ((0, 0),))),
    "1d_causal_dilated": ((6, 2), (3,), 2, _geometry((2,), (2,), ((4, 0),))),
    "1d_groups": ((5, 4), (2,), 6, _geometry((1,), (1,), ((0, 1),), 2)),
    "2d": ((4, 5, 2), (3, 2), 3, _geometry((1, 1), (1, 1), ((1, 1), (0, 1)))),
    "2d_all": ((5, 6, 2), (2, 3), 4, _geometry((2, 1), (1, 2), ((1, 0), (2, 2)), 2)),
    "2d_pointwise": ((4, 3, 3), (1, 1), 2, _geometry((2, 1), (1, 1), ((0, 0), (0, 0)))),
}
"""Shape of the data, taps, filters and attributes of convolutions of all kinds."""


def random_conv_graph(case: str, seed: int = 0) -> Graph:
    """Quantize, convolve, bias, ReLU, quantize, and a dense layer on each window; some elements and weights are dead."""
    rng = np.random.default_rng(seed)
    shape, taps, outputs, attrs = CONVS[case]
    b = GraphBuilder(f"conv_{case}_{seed}")
    fixed = Fixed(rng.integers(0, 2, shape), rng.integers(-2, 3, shape), rng.integers(-1, 4, shape))
    x = b.input("x", fixed, "RND", OVERFLOWS[seed % 3])
    with b.layer("conv"):
        kernel = rng.integers(-9, 10, (*taps, shape[-1] // attrs["groups"], outputs))
        kernel *= rng.random(kernel.shape) < 0.6
        x = b.op("conv", x, b.constant(kernel, Fixed(1, 9, rng.integers(0, 4, kernel.shape)), "kernel"), **attrs)
        x = b.op("relu", b.op("add", x, b.constant(rng.integers(-9, 10, outputs), Fixed(1, 9, 3), "bias")))
    with b.layer("dense"):
        x = b.quantize(x, Fixed(0, rng.integers(-1, 4, x.shape), rng.integers(-1, 4, x.shape)), "RND", OVERFLOWS[(seed + 1) % 3], "iq")
        kernel = rng.integers(-9, 10, (outputs, 2)) * (rng.random((outputs, 2)) < 0.6)
        x = b.op("matmul", x, b.constant(kernel, Fixed(1, 9, 1), "kernel"))
    return b.graph(x)


POOLS = {
    "1d": ((7, 2), {"pool": (2,), "strides": (2,), "padding": ((0, 0),)}),
    "1d_overlapping": ((6, 3), {"pool": (3,), "strides": (1,), "padding": ((0, 0),)}),
    "1d_padded": ((5, 2), {"pool": (3,), "strides": (2,), "padding": ((1, 1),)}),
    "2d": ((4, 5, 2), {"pool": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0))}),
    "2d_padded": ((4, 5, 2), {"pool": (3, 2), "strides": (1, 2), "padding": ((1, 1), (0, 1))}),
}
"""Shape of the data and attributes of poolings."""


def random_pool_graph(case: str, seed: int = 0, op: str = "max_pool") -> Graph:
    """Maxima or sums of windows of elements of mixed widths and signs."""
    rng = np.random.default_rng(seed)
    shape, attrs = POOLS[case]
    b = GraphBuilder(f"pool_{case}_{seed}")
    k = 1 if "padded" in case else rng.integers(0, 2, shape)
    x = b.input("x", Fixed(k, rng.integers(-2, 3, shape), rng.integers(-1, 4, shape)), "RND", OVERFLOWS[seed % 3])
    with b.layer("pool"):
        x = b.op(op, x, **attrs)
    with b.layer("after"):
        x = b.quantize(x, Fixed(1, rng.integers(-1, 3, x.shape), rng.integers(-1, 4, x.shape)), "RND", "SAT", "q")
    return b.graph(x)


REDUCTIONS = {
    "last": ((3, 5), (1,)),
    "first": ((5, 3), (0,)),
    "middle": ((2, 3, 2), (1,)),
    "two": ((2, 3, 2), (0, 2)),
    "all": ((7,), (0,)),
}
"""Shape of the data, and the axes that are reduced."""


def random_reduction_graph(case: str, op: str, seed: int = 0) -> Graph:
    """A reduction of elements of mixed widths and signs, some of them dead, times a constant, quantized."""
    rng = np.random.default_rng(seed)
    shape, axes = REDUCTIONS[case]
    b = GraphBuilder(f"{op}_{case}_{seed}")
    x = b.input("x", Fixed(rng.integers(0, 2, shape), rng.integers(-2, 3, shape), rng.integers(-1, 4, shape)), "RND", OVERFLOWS[seed % 3])
    with b.layer("reduce"):
        x = b.op(op, x, axes=axes)
        x = b.op("multiply", x, b.constant(np.array([3]), Fixed(0, 2, 2), "share"))
    with b.layer("after"):
        x = b.quantize(x, Fixed(1, rng.integers(-1, 3, x.shape), rng.integers(-1, 4, x.shape)), "RND", "SAT", "q")
    return b.graph(x)


LOOKUPS = {
    "shared": ((5,), ()),
    "channel": ((3, 4), (4,)),
    "channel_kept": ((3, 4), (1, 4)),
    "row": ((3, 4), (3, 1)),
    "element": ((3, 4), (3, 4)),
}
"""Shape of the data, and of the tables without their entries."""


def random_lookup_graph(case: str, seed: int = 0) -> Graph:
    """Quantize, look up, a dense layer, quantize, look up again; signed and unsigned indices of 0 to 7 bits, negative weights."""
    rng = np.random.default_rng(seed)
    shape, own = LOOKUPS[case]
    b = GraphBuilder(f"lookup_{case}_{seed}")

    def formats(shape: tuple[int, ...]) -> Fixed:
        return Fixed(rng.integers(0, 2, shape), rng.integers(-1, 4, shape), rng.integers(-1, 4, shape)).canonical()

    def table(own: tuple[int, ...], fixed: Fixed) -> tuple[np.ndarray, Fixed]:
        result = Fixed(rng.integers(0, 2, own), rng.integers(-1, 4, own), rng.integers(-1, 4, own)).canonical()
        result = result.reshape((*own, 1)).broadcast_to((*own, 1 << int(fixed.width.max(initial=0))))
        return rng.integers(result.low, result.high, endpoint=True), result

    fixed = formats(shape)
    x = b.input("x", fixed, "RND", OVERFLOWS[seed % 3])
    with b.layer("first"):
        x = b.lookup(x, *table(own, fixed), fixed, "f")
    with b.layer("dense"):
        kernel = rng.integers(-9, 10, (shape[-1], 4)) * (rng.random((shape[-1], 4)) < 0.6)
        x = b.op("matmul", x, b.constant(kernel, Fixed(1, 9, rng.integers(0, 3, kernel.shape)), "kernel"))
    with b.layer("second"):
        fixed = formats(x.shape)
        x = b.quantize(x, fixed, "RND", OVERFLOWS[(seed + 1) % 3], "iq")
        x = b.lookup(x, *table((4,) if case == "channel" else (), fixed), fixed, "g")
    return b.graph(x)


EINSUMS = {
    "dense": ("ab,bc->ac", (3, 4), (4, 2)),
    "two_contracted": ("abc,bcd->da", (2, 3, 2), (3, 2, 2)),
    "kept": ("abc,acd->abd", (2, 3, 2), (2, 2, 2)),
    "kept_transposed": ("cab,dac->dba", (2, 3, 2), (2, 3, 2)),
    "outer": ("a,b->ab", (3,), (2,)),
    "dot": ("a,a->", (4,), (4,)),
    "heads": ("qhc,khc->hqk", (2, 2, 3), (3, 2, 3)),
    "element_by_element": ("ab,ba->ab", (2, 3), (3, 2)),
}
"""Equation and shapes of the two operands of Einstein sums of all kinds."""


def random_einsum_graph(case: str, seed: int = 0, constant: bool = True) -> Graph:
    """Of data with a constant or with data, then a quantizer; some elements are dead."""
    rng = np.random.default_rng(seed)
    equation, *shapes = EINSUMS[case]
    b = GraphBuilder(f"einsum_{case}_{seed}")

    def port(name, shape):
        fixed = Fixed(rng.integers(0, 2, shape), rng.integers(-2, 3, shape), rng.integers(-1, 3, shape))
        return b.input(name, fixed, "RND", OVERFLOWS[seed % 3])

    x = port("x", shapes[0])
    if constant:
        kernel = rng.integers(-9, 10, shapes[1]) * (rng.random(shapes[1]) < 0.7)
        y = b.constant(kernel, Fixed(1, 9, rng.integers(0, 4, kernel.shape)), "kernel")
    else:
        y = port("y", shapes[1])
    with b.layer("einsum"):
        x = b.op("einsum", x, y, equation=equation)
        if not x.shape:
            x = b.op("reshape", x, shape=(1,))
    with b.layer("after"):
        x = b.quantize(x, Fixed(1, rng.integers(-1, 5, x.shape), rng.integers(-1, 4, x.shape)), "RND", "SAT", "q")
        x = b.op("reshape", x, shape=(int(np.prod(x.shape)),))
        kernel = rng.integers(-9, 10, (x.shape[0], 2)) * (rng.random((x.shape[0], 2)) < 0.4)
        x = b.op("matmul", x, b.constant(kernel, Fixed(1, 9, 1), "last"))
    return b.graph(x)
