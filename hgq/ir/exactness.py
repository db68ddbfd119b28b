"""Where float32, in which Keras computes, could be too short for the exact sums that hardware makes."""

from __future__ import annotations

import numpy as np

from hgq.ir.graph import Graph, Node
from hgq.ir.ops import OPS
from hgq.ir.ranges import NO_BITS, RangeArray
from hgq.numerics import MAX_WIDTH, bit_length

FLOAT32_BITS = 24
MERGES = ("add", "subtract", "product", "multiply")
SUMS = ("matmul", "conv", "einsum", "sum_pool", "reduce_sum")


def beyond_float32(graph: Graph) -> list[str]:
    """One sentence for each product or merge that float32 might round, in the worst case the formats allow.

    All products of one output lie on a common grid, so float32 sums them exactly in any order as long as the sum of their magnitudes stays
    below 2**24 grid steps. Beyond that ``predict`` can differ from the firmware, which is then the more exact of the two.
    """
    values = graph.ranges()
    problems = []
    for node in graph.nodes:
        if node.op in MERGES:
            problems += _merge(node, values[node.name])
        if node.op not in SUMS:
            continue
        largest = [_largest(values[name]) if name in values else np.abs(graph.consts[name].value) for name in node.inputs]
        sums = OPS[node.op].function(*largest, **node.attrs)
        grid = np.maximum(values[node.name].lsb, NO_BITS).astype(np.float64)
        steps = np.log2(np.maximum(sums, 2.0**-300)) + np.where(grid == NO_BITS, -np.inf, grid)
        if steps.max() > FLOAT32_BITS:
            problems.append(
                f"Layer {node.source}: sums may need {int(np.ceil(steps.max()))} bits, float32 holds {FLOAT32_BITS}; "
                "Keras may round where hardware does not. Bound f and i of this layer's quantizers."
            )
    return problems


def _largest(x: RangeArray) -> np.ndarray:
    return np.maximum(np.abs(x.low.mantissa), np.abs(x.high.mantissa)).astype(np.float64) * 2.0**-x.low.f


def _merge(node: Node, value: RangeArray) -> list[str]:
    largest = np.maximum(np.abs(value.low.mantissa), np.abs(value.high.mantissa))
    bits = int(bit_length(largest >> np.clip(value.low.f - value.lsb, 0, MAX_WIDTH)).max(initial=0))
    if bits <= FLOAT32_BITS:
        return []
    return [
        f"Layer {node.source}: {node.op} may need {bits} bits, float32 holds {FLOAT32_BITS}; "
        "Keras may round where hardware does not. Bound f and i of this layer's quantizers."
    ]
