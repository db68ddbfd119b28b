"""A small graph for tests: two dense layers, widths of their own for every element, some of them dead."""

from __future__ import annotations

import numpy as np

from hgq.ir.build import GraphBuilder
from hgq.ir.graph import Graph
from hgq.numerics import Fixed


def small_graph(seed: int = 0, name: str = "net") -> Graph:
    """Two dense layers with widths of their own for every element, some of them dead."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder(name)

    def formats(shape, k=None):
        return Fixed(rng.integers(0, 2, shape) if k is None else k, rng.integers(-1, 4, shape), rng.integers(-3, 5, shape))

    x = b.input("x", formats((6,), 1), "RND", "SAT")
    for layer, units in (("dense", 5), ("head", 3)):
        with b.layer(layer):
            x = b.quantize(x, formats(x.shape), "RND", "WRAP", "iq")
            kernel = rng.integers(-9, 9, (x.shape[0], units)) * (rng.random((x.shape[0], units)) < 0.6)
            x = b.op("matmul", x, b.constant(kernel, Fixed(1, 2, 3), "kernel"))
            x = b.op("add", x, b.constant(rng.integers(-9, 9, units), Fixed(1, 2, 3), "bias"))
            if layer == "dense":
                x = b.op("relu", x)
    return b.graph(x, accuracy=0.5)
