"""Sums and extrema of windows and of axes: against NumPy's own, in the golden model, in proven ranges, in RTL, and what they cost."""

from __future__ import annotations

import numpy as np
import pytest

from hgq import plugins
from hgq.estimate import ebops_by_node
from hgq.ir.build import GraphBuilder
from hgq.ir.integers import IntArray
from hgq.ir.interpret import evaluate, run
from hgq.ir.ops import OPS
from hgq.ir.ranges import RangeArray
from hgq.ir.trees import tree, tree_along
from hgq.numerics import Fixed
from hgq.passes import optimize
from hgq.verify import corner_samples
from tests.random_graphs import POOLS, REDUCTIONS, random_pool_graph, random_reduction_graph, random_samples

NUMPY = {"reduce_sum": np.sum, "reduce_max": np.max, "reduce_min": np.min}
RNG = np.random.default_rng(5)


def windows_of(shape, pool, strides, padding):
    """For each window, the elements that it reads."""
    counts = [(n + low + high - p) // s + 1 for n, (low, high), p, s in zip(shape, padding, pool, strides, strict=False)]
    for window in np.ndindex(*counts):
        taps = [tuple(o * s + t - low for o, s, t, (low, _) in zip(window, strides, tap, padding, strict=True)) for tap in np.ndindex(pool)]
        yield window, [tap for tap in taps if all(0 <= at < n for at, n in zip(tap, shape, strict=False))]


def merged_cost(bits):
    """Two by two, neighbours first, the wider one each time."""
    cost, bits = 0, list(bits)
    while len(bits) > 1:
        pairs = [max(pair) for pair in zip(bits[::2], bits[1::2], strict=False)]
        cost, bits = cost + sum(pairs), pairs + bits[2 * len(pairs) :]
    return cost


@pytest.mark.parametrize("size", range(1, 20))
def test_both_trees_have_one_shape(size):
    names = np.array([chr(97 + n) for n in range(size)], object)

    def combine(a, b):
        return "(" + a + b + ")"

    assert tree_along(combine, names[None])[0, 0] == tree(combine, list(names))


@pytest.mark.parametrize("case", REDUCTIONS)
@pytest.mark.parametrize("op", NUMPY)
def test_reductions(op, case):
    graph = random_reduction_graph(case, op, seed=3)
    shape, axes = REDUCTIONS[case]
    samples = random_samples(graph, 200)
    values = run(graph, samples, trace=True)
    expected = NUMPY[op](values["x"], axis=tuple(axis + 1 for axis in axes), keepdims=True)
    node = next(node for node in graph.nodes if node.op == op)
    np.testing.assert_array_equal(values[node.name], expected)
    check_everywhere(graph)
    bits = np.moveaxis(graph.inputs[0].format.width, axes, range(len(axes))).reshape(np.prod([shape[a] for a in axes]), -1)
    assert ebops_by_node(graph)[node.name] == sum(merged_cost(column) for column in bits.T)


@pytest.mark.parametrize("case", POOLS)
@pytest.mark.parametrize("op", ["sum_pool", "max_pool"])
def test_windows(op, case):
    graph = random_pool_graph(case, 2, op)
    shape, attrs = POOLS[case]
    values = run(graph, random_samples(graph, 100), trace=True)
    node = next(node for node in graph.nodes if node.op == op)
    bits, cost = graph.inputs[0].format.width, 0
    for window, taps in windows_of(shape, **attrs):
        read = np.stack([values["x"][:, *tap] for tap in taps])
        np.testing.assert_array_equal(values[node.name][:, *window], read.sum(0) if op == "sum_pool" else read.max(0))
        if len(taps) == np.prod(attrs["pool"]):
            cost += sum(merged_cost(bits[(*tap, c)] for tap in taps) for c in range(shape[-1]))
        else:  # at a border: the same tree, without what is not there
            geometry = list(zip(window, attrs["strides"], attrs["padding"], strict=True))
            every = [tuple(o * s + t - low for (o, s, (low, _)), t in zip(geometry, tap, strict=True)) for tap in np.ndindex(attrs["pool"])]
            cost += sum(border_cost([bits[(*tap, c)] if tap in taps else None for tap in every]) for c in range(shape[-1]))
    assert ebops_by_node(graph)[node.name] == cost
    check_everywhere(graph)


def border_cost(bits):
    cost = 0
    while len(bits) > 1:
        pairs = []
        for pair in zip(bits[::2], bits[1::2], strict=False):
            there = [bit for bit in pair if bit is not None]
            cost += max(there) if len(there) == 2 else 0
            pairs.append(max(there) if there else None)
        bits = pairs + bits[2 * len(pairs) :]
    return cost


def check_everywhere(graph):
    """Proven formats hold, passes change nothing, RTL gives the same."""
    x = graph.inputs[0].name
    samples = {x: np.concatenate([random_samples(graph, 200)[x], corner_samples(graph, 50)[x]])}
    golden, values = run(graph, samples), run(graph, samples, trace=True)
    ranges = evaluate(graph, {port.name: RangeArray.of_format(port.format) for port in graph.inputs})
    for name, proven in ranges.items():
        fixed = proven.format()
        np.testing.assert_array_equal(fixed.value(fixed.quantize(values[name], "TRN", "WRAP")), values[name])
    (name,) = golden
    np.testing.assert_array_equal(run(optimize(graph), samples)[name], golden[name])
    np.testing.assert_array_equal(plugins.backend("rtl").comb_predict(graph, samples)[name], golden[name])


@pytest.mark.parametrize("axes", [(), (0, 0), (2,), (-1,)])
def test_axes_are_checked(axes):
    with pytest.raises(ValueError, match="are not different axes"):
        OPS["reduce_max"].function(IntArray(RNG.integers(0, 5, (1, 2, 3)), 0), axes=axes)


def test_a_sum_beyond_float32_is_named():
    from hgq.ir.exactness import beyond_float32

    b = GraphBuilder("wide")
    x = b.input("x", Fixed(1, 22, np.zeros(8)), "RND", "SAT")
    (problem,) = beyond_float32(b.graph(b.op("reduce_sum", x, axes=(0,))))
    assert "25 bits, float32 holds 24" in problem


@pytest.mark.parametrize(("op", "mantissa", "bits"), [("multiply", 255, 28), ("add", (1 << 24) + 1, 25)])
def test_an_operation_with_a_constant_beyond_float32_is_named(op, mantissa, bits):
    from hgq.ir.exactness import beyond_float32

    b = GraphBuilder("wide")
    x = b.input("x", Fixed(0, 20, np.zeros(2)), "RND", "SAT")
    (problem,) = beyond_float32(b.graph(b.op(op, x, b.constant(np.array([mantissa]), Fixed(0, 30, 0), "c"))))
    assert f"{op} may need {bits} bits, float32 holds 24" in problem
