"""EBOPs of a graph against loops over every weight, with Python's own integers."""

from __future__ import annotations

import numpy as np
import pytest

from hgq.estimate import ebops_by_node, ebops_of
from hgq.ir.build import GraphBuilder
from hgq.numerics import Fixed
from tests.random_graphs import random_graph


def bits_of_constant(mantissa: int) -> int:
    """From the leading to the trailing significant bit, with a sign bit for negative numbers; two's complement."""
    if mantissa == 0:
        return 0
    while mantissa % 2 == 0:
        mantissa //= 2
    return mantissa.bit_length() if mantissa > 0 else (-mantissa - 1).bit_length() + 1


def test_bits_of_constants():
    assert [bits_of_constant(m) for m in (0, 1, 8, 3, 5, 6, -1, -2, -3, -4, -7)] == [0, 1, 1, 2, 3, 2, 1, 1, 3, 1, 4]


def loops(graph) -> int:
    total = 0
    declared = {port.name: port.format.width for port in graph.inputs}
    for node in graph.nodes:
        if node.op == "quantize":
            declared[node.name] = node.attrs["format"].width
        if node.op == "matmul":
            kernel = graph.consts[node.inputs[1]].mantissa
            for i, bits in enumerate(declared[node.inputs[0]]):
                for j in range(kernel.shape[1]):
                    total += int(bits) * bits_of_constant(int(kernel[i, j]))
        if node.op == "add":
            total += sum(bits_of_constant(int(m)) for m in graph.consts[node.inputs[1]].mantissa)
    return total


@pytest.mark.parametrize("seed", range(30))
def test_random_graphs(seed):
    graph = random_graph(seed, (7, 6, 5, 4))
    assert ebops_of(graph) == loops(graph) > 0


def test_positions_share_a_kernel():
    b = GraphBuilder("net")
    rng = np.random.default_rng(0)
    x = b.input("x", Fixed(np.ones((4, 3), int), rng.integers(0, 5, (4, 3)), rng.integers(0, 3, (4, 3))), "RND", "SAT")
    kernel, bias = rng.integers(-5, 6, (3, 2)), rng.integers(-5, 6, 2)
    y = b.op("matmul", x, b.constant(kernel, Fixed(1, 5, 0), "kernel"))
    y = b.op("add", y, b.constant(bias, Fixed(1, 5, 0), "bias"))
    graph = b.graph(y)
    width = graph.inputs[0].format.width
    expected = sum(int(width[p, i]) * bits_of_constant(int(kernel[i, j])) for p in range(4) for i in range(3) for j in range(2)) + 4 * sum(
        bits_of_constant(int(m)) for m in bias
    )
    assert ebops_of(graph) == expected


def test_scale_and_offset_are_charged_for_each_element():
    b = GraphBuilder("net")
    x = b.input("x", Fixed(np.ones((2, 3), int), np.full((2, 3), 3), np.full((2, 3), 1)), "RND", "SAT")  # 5 bits each
    y = b.op("multiply", x, b.constant(np.array([3, 1, 0]), Fixed(0, 2, 0), "scale"))
    y = b.op("add", y, b.constant(np.array([[7], [0]]), Fixed(0, 3, 0), "offset"))
    by_node = ebops_by_node(b.graph(y))
    assert by_node == {"multiply": 2 * 5 * (2 + 1 + 0), "add": 3 * 3}


def test_merging_data_costs_the_wider_operand_and_a_product_both():
    b = GraphBuilder("net")
    x = b.input("x", Fixed(np.ones(3, int), [3, 0, -5], 0), "RND", "SAT")  # 4, 1 and 0 bits
    y = b.input("y", Fixed(np.zeros(3, int), 2, 0), "RND", "SAT")  # 2 bits
    total = b.op("add", x, y)
    again = b.op("maximum", total, y)
    scaled = b.op("multiply", again, b.constant(np.array([1]), Fixed(0, 0, 1), "half"))
    by_node = ebops_by_node(b.graph(scaled, b.op("product", x, y), b.op("concatenate", x, y, axis=0)))
    assert by_node == {"add": 4 + 2 + 2, "maximum": 4 + 2 + 2, "multiply": 4 + 2 + 2, "product": 2 * (4 + 1 + 0), "concatenate": 0}
