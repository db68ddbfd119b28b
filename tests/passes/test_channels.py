"""Dead channels go, through convolutions, poolings, flattening and Einstein sums; the numbers stay."""

from __future__ import annotations

import numpy as np
import pytest

from hgq.ir import interpret, spec
from hgq.ir.build import GraphBuilder
from hgq.ir.graph import Graph
from hgq.numerics import Fixed
from hgq.passes import PIPELINE, optimize
from hgq.passes.dead import remove_dead
from tests.random_graphs import random_samples

GEOMETRY = {"strides": (1, 1), "dilation": (1, 1), "padding": ((0, 0), (0, 0)), "groups": 1}


def same(graph: Graph, after: Graph, seed: int = 0) -> None:
    spec.check(after)
    samples = random_samples(graph, 200, seed)
    for name, value in interpret.run(graph, samples).items():
        np.testing.assert_array_equal(interpret.run(after, samples)[name], value)


def cnn(seed: int, pool: str = "max_pool", padded: bool = False) -> Graph:
    """Convolution, pooling, depthwise and pointwise convolution, flattening, dense: sparse weights, some channels wholly dead."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder(f"cnn_{seed}")

    def kernel(*shape, dead=0.4):
        w = rng.integers(-7, 8, shape) * (rng.random(shape) < 0.7)
        w[..., rng.random(shape[-1]) < dead] = 0
        if shape[-2] > 1:
            w[..., rng.random(shape[-2]) < dead, :] = 0
        return b.constant(w, Fixed(1, 9, rng.integers(0, 3, shape)), "kernel")

    def after(x):
        channels = x.shape[-1]
        bias = b.constant(rng.integers(-9, 9, channels) * (rng.random(channels) < 0.5), Fixed(1, 9, 2), "bias")
        x = b.op("relu", b.op("add", x, bias))
        return b.quantize(x, Fixed(0, rng.integers(0, 4, x.shape), rng.integers(0, 3, x.shape)), "RND", "SAT", "q")

    padding = {"padding": ((1, 1), (0, 1))} if padded else {}
    x = b.input("x", Fixed(1, rng.integers(0, 3, (6, 6, 3)), 2), "RND", "SAT")
    x = after(b.op("conv", x, kernel(2, 3, 3, 8), **{**GEOMETRY, **padding}))
    x = b.op(pool, x, pool=(2, 2), strides=(1, 1), padding=((0, 0), (0, 0)))
    x = after(x)
    x = after(b.op("conv", x, kernel(2, 2, 1, 16), **{**GEOMETRY, **padding, "groups": 8}))
    x = after(b.op("conv", x, kernel(1, 1, 16, 6), **GEOMETRY))
    x = b.op("pad", x, widths=((1, 0), (0, 0), (0, 0)))
    x = b.op("take", x, axis=1, indices=(0, 0))
    x = after(b.op("einsum", x, kernel(6, 5), equation="abc,cd->abd"))
    x = b.op("reshape", x, shape=(int(np.prod(x.shape)),))
    return b.graph(after(b.op("matmul", x, kernel(x.shape[0], 4))))


def size(graph: Graph) -> int:
    return sum(const.mantissa.size for const in graph.consts.values())


@pytest.mark.parametrize("pool", ["max_pool", "sum_pool"])
@pytest.mark.parametrize("padded", [False, True])
def test_random_networks_stay_what_they_are(pool, padded):
    smaller = 0
    for seed in range(4):
        graph = cnn(seed, pool, padded)
        for step in (*PIPELINE, optimize):
            same(graph, step(graph), seed)
        optimized = optimize(graph)
        assert optimize(optimized).digest() == optimized.digest()
        smaller += size(optimized) < 0.7 * size(graph)
    assert smaller >= 3


def two_convs(first, second, groups=1, **changes) -> Graph:
    b = GraphBuilder("two")
    x = b.input("x", Fixed(np.ones((4, 4, 2)), 2, 1), "RND", "SAT")
    x = b.op("conv", x, b.constant(np.array(first), Fixed(1, 9, 0), "k1"), name="first", **GEOMETRY)
    x = b.op("add", x, b.constant(np.arange(1, x.shape[-1] + 1), Fixed(1, 9, 0), "b1"))
    x = b.quantize(b.op("relu", x), Fixed(np.zeros(x.shape), 5, 1), "RND", "SAT", "q")
    x = b.op("conv", x, b.constant(np.array(second), Fixed(1, 9, 0), "k2"), name="second", **{**GEOMETRY, "groups": groups, **changes})
    return b.graph(x)


def test_a_channel_that_no_convolution_reads_vanishes():
    rng = np.random.default_rng(0)
    second = rng.integers(1, 5, (2, 2, 3, 2))
    second[:, :, 1] = 0
    graph = two_convs(rng.integers(1, 5, (3, 3, 2, 3)), second)
    after = remove_dead(graph)
    assert after.consts["k1"].mantissa.shape == (3, 3, 2, 2)
    assert after.consts["k2"].mantissa.shape == (2, 2, 2, 2)
    assert after.consts["b1"].value.tolist() == [1, 3]
    assert after.node("q").attrs["format"].shape == (2, 2, 2)
    same(graph, after)


def test_a_constant_channel_moves_into_the_bias_of_the_next_convolution():
    rng = np.random.default_rng(1)
    first = rng.integers(1, 5, (3, 3, 2, 3))
    first[..., 2] = 0
    graph = two_convs(first, rng.integers(1, 5, (2, 2, 3, 2)))
    after = optimize(graph)
    assert after.consts["k1"].mantissa.shape == (3, 3, 2, 2)
    assert after.outputs == ("second",)
    same(graph, after)
    padded = two_convs(first, rng.integers(1, 5, (2, 2, 3, 2)), padding=((1, 0), (0, 0)))  # the border sees less of it: it stays
    assert optimize(padded).consts["k1"].mantissa.shape == (3, 3, 2, 3)
    same(padded, optimize(padded))


def test_a_depthwise_convolution_whose_result_is_an_output_keeps_its_channels():
    rng = np.random.default_rng(2)
    second = rng.integers(1, 5, (2, 2, 1, 6))
    second[..., 2:4] = 0  # both outputs of channel 1, which are still outputs
    graph = two_convs(rng.integers(1, 5, (3, 3, 2, 3)), second, groups=3)
    after = remove_dead(graph)
    assert after.consts["k1"].mantissa.shape == (3, 3, 2, 3)
    same(graph, after)


def test_unseen_corners_of_an_image_are_not_wired():
    b = GraphBuilder("corner")
    x = b.input("x", Fixed(np.ones((4, 4, 1)), 2, 1), "RND", "SAT")
    kernel = np.zeros((2, 2, 1, 1), int)
    kernel[0, 0] = 1
    x = b.op("conv", x, b.constant(kernel, Fixed(1, 9, 0), "k"), **{**GEOMETRY, "strides": (2, 2)})
    graph = b.graph(b.op("take", x, axis=0, indices=(1,)))
    after = remove_dead(graph)
    assert np.argwhere(after.inputs[0].format.width).tolist() == [[2, 0, 0], [2, 2, 0]]
    same(graph, after)
