"""Random small graphs: every rounding and overflow mode, mixed widths, zero widths, dead weights. What fuzz tests feed to passes and backends."""

from __future__ import annotations

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
    for layer, (inputs, outputs) in enumerate(zip(sizes, sizes[1:], strict=False)):
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
