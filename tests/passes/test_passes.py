"""Every pass keeps the golden outputs, and does what its name says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hgq.errors import PassError
from hgq.ir import interpret, spec
from hgq.ir.build import GraphBuilder
from hgq.ir.graph import Const, Graph
from hgq.numerics import Fixed
from hgq.passes import PIPELINE, optimize, run_checked
from hgq.passes.dead import remove_dead
from hgq.passes.fold import fold_constants
from hgq.passes.narrow import narrow_widths
from tests.random_graphs import POOLS, random_graph, random_pool_graph, random_samples


def outputs(graph: Graph, samples: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [interpret.run(graph, samples)[name] for name in graph.outputs]


def weights(graph: Graph) -> int:
    return sum(int(np.count_nonzero(const.mantissa)) for const in graph.consts.values())


@pytest.mark.parametrize("seed", range(25))
def test_golden_before_equals_golden_after(seed):
    graph = random_graph(seed, (6, 9, 7, 3), quantized_output=seed % 3 == 0, density=0.3 + 0.1 * (seed % 6))
    samples = random_samples(graph, 500, seed)
    expected = outputs(graph, samples)
    for step in PIPELINE:
        after = spec.check(step(graph))
        for a, b in zip(expected, outputs(after, samples), strict=True):
            np.testing.assert_array_equal(a, b)
    optimized = optimize(graph)
    for a, b in zip(expected, outputs(optimized, samples), strict=True):
        np.testing.assert_array_equal(a, b)
    assert weights(optimized) <= weights(graph)
    assert [(port.name, port.shape) for port in optimized.inputs] == [(port.name, port.shape) for port in graph.inputs]
    assert optimize(optimized).digest() == optimized.digest()


@pytest.mark.parametrize("case", POOLS)
def test_maxima_stay_what_they_are(case):
    for seed in range(3):
        graph = random_pool_graph(case, seed)
        samples = random_samples(graph, 300, seed)
        for step in (*PIPELINE, optimize):
            np.testing.assert_array_equal(outputs(spec.check(step(graph)), samples), outputs(graph, samples))


def chain(kernel, kernel2, fixed=None, overflow="SAT") -> Graph:
    """x(3) -> matmul -> + bias -> relu -> quantize -> matmul."""
    b = GraphBuilder("chain")
    x = b.input("x", Fixed(np.ones(3), 2, 1), "RND", "SAT")
    x = b.op("matmul", x, b.constant(np.array(kernel), Fixed(1, 8, 0), "k1"), name="first")
    x = b.op("add", x, b.constant(np.array([3, -5, 2]), Fixed(1, 8, 0), "b1"), name="bias")
    x = b.op("relu", x, name="relu")
    x = b.quantize(x, fixed or Fixed(1, 9, 4), "RND", overflow, "iq")
    return b.graph(b.op("matmul", x, b.constant(np.array(kernel2), Fixed(1, 8, 0), "k2"), name="second"))


def test_a_quantizer_wider_than_its_input_disappears():
    graph = chain(np.eye(3, dtype=int), [[1], [1], [1]])
    after = narrow_widths(graph)
    assert [node.name for node in after.nodes] == ["first", "bias", "relu", "second"]


def test_a_saturating_quantizer_that_cannot_saturate_becomes_narrow_and_wraps():
    graph = chain(np.eye(3, dtype=int), [[1], [1], [1]], Fixed(1, 9, 0))
    node = narrow_widths(graph).node("iq")
    # relu(x + bias), x in [-4, 3.5]: at most 6.5, 0 and 5.5; rounded to 7, 0, 6
    assert node.attrs["overflow"] == "WRAP"
    assert node.attrs["format"].k.tolist() == [0, 0, 0]
    assert node.attrs["format"].i.tolist() == [3, 0, 3]


def test_a_saturating_quantizer_that_saturates_keeps_its_ends_but_loses_its_sign():
    node = narrow_widths(chain(np.eye(3, dtype=int) * 2, [[1], [1], [1]], Fixed(1, 2, 0))).node("iq")
    assert node.attrs["overflow"] == "SAT"
    assert node.attrs["format"].i.tolist() == [2, 2, 2]
    assert node.attrs["format"].k.tolist() == [0, 0, 0]


def test_a_wrapping_quantizer_that_wraps_keeps_its_modulus():
    node = narrow_widths(chain(np.eye(3, dtype=int) * 4, [[1], [1], [1]], Fixed(1, 2, 0), "WRAP")).node("iq")
    assert (node.attrs["format"].k + node.attrs["format"].i).tolist() == [3, 3, 3]


def test_neurons_that_nothing_reads_vanish_with_their_inputs():
    graph = chain([[1, 2, 3], [4, 5, 6], [0, 7, 0]], [[1], [0], [2]])
    after = remove_dead(graph)
    assert after.consts["k1"].mantissa.shape == (3, 2)
    assert after.consts["k2"].mantissa.shape == (2, 1)
    assert after.consts["b1"].mantissa.tolist() == [3, 2 >> 1]  # 2 is stored as 1 with f = -1
    assert after.inputs[0].format.width.tolist() == [4, 4, 0]  # the third input fed only the neuron that died


def test_a_constant_neuron_moves_into_the_bias_of_the_next_layer():
    graph = chain([[1, 0, 3], [4, 0, 6], [0, 0, 0]], [[1], [1], [2]])
    graph = graph.with_(consts={**graph.consts, "b1": replace(graph.consts["b1"], mantissa=np.array([3, 5, 1]))})
    after = optimize(graph)
    samples = random_samples(graph, 200)
    np.testing.assert_array_equal(outputs(graph, samples)[0], outputs(after, samples)[0])
    assert after.consts["k2"].mantissa.shape == (2, 1)
    assert after.outputs == ("second",)


def test_chains_of_additions_merge_and_zeros_disappear():
    b = GraphBuilder("adds")
    x = b.input("x", Fixed(np.ones(2), 2, 1), "RND", "SAT")
    for name, values in (("a", [1, 2]), ("c", [-1, -2]), ("d", [4, 0])):
        x = b.op("add", x, b.constant(np.array(values), Fixed(1, 8, 0), name), name=f"add_{name}")
    graph = b.graph(x)
    after = fold_constants(graph)
    assert len(after.nodes) == 1
    samples = random_samples(graph, 50)
    np.testing.assert_array_equal(outputs(graph, samples)[0], outputs(after, samples)[0])


def test_a_pass_that_changes_an_output_is_caught():
    def wrong_pass(graph: Graph) -> Graph:
        const = graph.consts["k2"]
        return graph.with_(consts={**graph.consts, "k2": Const.minimal("k2", const.mantissa, const.format.f + 1)})

    with pytest.raises(PassError, match="changed what the graph computes") as caught:
        run_checked(wrong_pass, chain(np.eye(3, dtype=int), [[1], [1], [1]]), ["narrow_widths"])
    assert "wrong_pass, after narrow_widths" in str(caught.value)


def test_a_pass_that_breaks_the_graph_is_caught():
    with pytest.raises(PassError, match="produced a broken graph"):
        run_checked(lambda graph: graph.with_(outputs=("nothing",)), random_graph(0), [])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_model_with_no_or_all_weights(share):
    graph = random_graph(3, density=share)
    samples = random_samples(graph, 100)
    np.testing.assert_array_equal(outputs(graph, samples)[0], outputs(optimize(graph), samples)[0])


def test_merges_and_movements_read_only_what_is_wanted():
    """Four inputs of one port meet in a merge; a crop drops half of it, and with it everything that fed that half."""
    b = GraphBuilder("moves")
    x = b.input("x", Fixed(np.ones((2, 2)), 2, 1), "RND", "SAT")
    y = b.input("y", Fixed(np.ones((2, 2)), 2, 1), "RND", "SAT")
    total = b.op("subtract", b.op("transpose", x, axes=(1, 0)), y)
    padded = b.op("pad", b.op("concatenate", total, x, axis=0), widths=((1, 0), (0, 0)))
    graph = b.graph(b.op("take", padded, axis=0, indices=(0, 1, 4)))
    after = remove_dead(graph)
    assert after.inputs[0].format.width.tolist() == [[4, 0], [4, 4]]  # column 0 by the transposition, row 1 by the second operand
    assert after.inputs[1].format.width.tolist() == [[4, 4], [0, 0]]
    samples = random_samples(graph, 100)
    for a, b_ in zip(outputs(graph, samples), outputs(optimize(graph), samples), strict=True):
        np.testing.assert_array_equal(a, b_)


@pytest.mark.parametrize("op", ["add", "subtract", "maximum", "minimum", "product"])
@pytest.mark.parametrize("seed", range(4))
def test_a_merge_of_two_dense_layers_survives_every_pass(op, seed):
    rng = np.random.default_rng(seed)
    b = GraphBuilder("residual")
    x = b.input("x", Fixed(1, rng.integers(-1, 3, 5), 2), "RND", "SAT")

    def dense(value, units):
        kernel = rng.integers(-5, 6, (value.shape[-1], units)) * (rng.random((value.shape[-1], units)) < 0.4)
        value = b.op("matmul", value, b.constant(kernel, Fixed(1, 9, 2), "kernel"))
        value = b.op("add", value, b.constant(rng.integers(-3, 4, units) * (rng.random(units) < 0.5), Fixed(1, 9, 1), "bias"))
        return b.quantize(b.op("relu", value), Fixed(0, rng.integers(-1, 4, units), rng.integers(-1, 3, units)), "RND", "SAT")

    left, right = dense(x, 6), dense(x, 6)
    merged = b.op(op, left, right)
    graph = b.graph(dense(b.op("concatenate", merged, left, axis=0), 3))
    samples = random_samples(graph, 300, seed)
    for after in (*(spec.check(step(graph)) for step in PIPELINE), optimize(graph)):
        np.testing.assert_array_equal(outputs(graph, samples)[0], outputs(after, samples)[0])
