"""The op `conv` against a loop over its formula, with Python's integers; what bounds and probes it; and every pass on graphs with it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hgq.errors import GraphError, Int64Overflow
from hgq.ir import file, interpret, spec, windows
from hgq.ir.build import GraphBuilder
from hgq.ir.exactness import beyond_float32
from hgq.ir.graph import Graph
from hgq.ir.integers import IntArray
from hgq.ir.ops import OPS
from hgq.numerics import Fixed
from tests.ir.proofs import checked_trace
from tests.random_graphs import CONVS, random_conv_graph, random_samples


def loop(x, w, strides, dilation, padding, groups):
    """One sample, one product after the other."""
    *taps, channels, outputs = w.shape
    sizes = [
        (n + low + high - (t - 1) * d - 1) // s + 1
        for n, t, s, d, (low, high) in zip(x.shape[:-1], taps, strides, dilation, padding, strict=True)
    ]
    y = np.zeros((*sizes, outputs), object)
    for window in np.ndindex(*sizes):
        for *tap, c, m in np.ndindex(w.shape):
            at = tuple(o * s + t * d - p for o, s, t, d, (p, _) in zip(window, strides, tap, dilation, padding, strict=True))
            if all(0 <= i < n for i, n in zip(at, x.shape[:-1], strict=True)):
                y[(*window, m)] += int(x[(*at, m // (outputs // groups) * channels + c)]) * int(w[(*tap, c, m)])
    return y


@pytest.mark.parametrize("case", CONVS)
def test_conv_is_its_formula(case):
    rng = np.random.default_rng(0)
    shape, taps, outputs, attrs = CONVS[case]
    x = rng.integers(-99, 99, (3, *shape))
    w = rng.integers(-9, 9, (*taps, shape[-1] // attrs["groups"], outputs))
    y = OPS["conv"].function(IntArray(x, 2), w.astype(float) / 8, **attrs)
    for sample, got in zip(x, y.mantissa, strict=True):
        wanted = loop(sample, w, **attrs)
        np.testing.assert_array_equal(np.ldexp(got.astype(float), -y.f), wanted.astype(float) / 32)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("case", CONVS)
def test_proven_formats_hold_every_value_and_passes_change_none(case, seed):
    graph = random_conv_graph(case, seed)
    samples = random_samples(graph, 200, seed)
    checked_trace(graph, samples)


def test_a_graph_with_a_convolution_is_saved_as_it_is(tmp_path):
    graph = random_conv_graph("2d_all", 0)
    path = file.save(graph, tmp_path / "conv.hgq")
    again = file.load(path)
    assert again.digest() == graph.digest()
    assert again.nodes[0].attrs == graph.nodes[0].attrs


def conv_graph(kernel_shape, fixed=None, mantissa=1, **changes) -> Graph:
    b = GraphBuilder("conv")
    x = b.input("x", (fixed or Fixed(1, 3, 0)).broadcast_to((4, 4, 2)), "RND", "SAT")
    kernel = b.constant(np.full(kernel_shape, mantissa), Fixed(1, 30, 0), "kernel")
    attrs = {"strides": (1, 1), "dilation": (1, 1), "padding": ((0, 0), (0, 0)), "groups": 1} | changes
    return b.graph(b.op("conv", x, kernel, **attrs))


def test_a_kernel_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"kernel of shape \(2, 2, 3, 1\)"):
        conv_graph((2, 2, 3, 1))
    with pytest.raises(ValueError, match="do not fit into"):
        conv_graph((5, 5, 2, 1))
    good = conv_graph((2, 2, 2, 1))
    bad = {**good.nodes[0].attrs, "groups": 2}
    from dataclasses import replace

    with pytest.raises(GraphError, match="Shapes do not fit together"):
        spec.check(good.with_(nodes=(replace(good.nodes[0], attrs=bad),)))


def test_sums_beyond_float32_and_int64_are_told():
    (problem,) = beyond_float32(conv_graph((3, 3, 2, 1), Fixed(1, 21, 0)))
    assert "sums may need 26 bits" in problem  # 18 * 2**21
    assert not beyond_float32(conv_graph((3, 3, 2, 1)))
    with pytest.raises(Int64Overflow, match="62 bits"):
        conv_graph((3, 3, 2, 1), Fixed(1, 40, 0), 2**29).formats()


def test_large_graphs_take_fewer_samples_at_a_time():
    x, chunks = {"x": np.zeros((9, 4, 4, 2))}, []
    graph = conv_graph((3, 3, 2, 1))
    elements = 4 * 4 * 2 + 4 + 2 * 4 * 18
    original, limit = interpret.evaluate, interpret.ELEMENTS
    try:
        interpret.ELEMENTS = 4 * elements + 1
        interpret.evaluate = lambda g, ports: chunks.append(len(ports["x"])) or original(g, ports)
        assert len(next(iter(interpret.run(graph, x).values()))) == 9
    finally:
        interpret.evaluate, interpret.ELEMENTS = original, limit
    assert chunks == [4, 4, 1]


@pytest.mark.parametrize("mode", ["valid", "same", "causal"])
def test_windows_and_what_they_see(mode):
    """Sizes and visible elements, for all small geometries, by trying every index."""
    for size, taps, stride, step in itertools.product(range(1, 7), range(1, 4), range(1, 4), range(1, 3)):
        padding = windows.padding_of(mode, (size,), (taps,), (stride,), (step,))
        ((low, high),) = padding
        span = (taps - 1) * step + 1
        if size + low + high < span:
            with pytest.raises(ValueError, match="do not fit"):
                windows.output_sizes((size,), (taps,), (stride,), (step,), padding)
            continue
        (outputs,) = windows.output_sizes((size,), (taps,), (stride,), (step,), padding)
        assert outputs == len([o for o in range(0, size + low + high, stride) if o + span <= size + low + high])
        if mode != "valid":
            assert outputs == -(-size // stride)
        found = {tap: list(range(size)[cut[0]]) for (tap,), cut in windows.inside((size,), (taps,), (stride,), (step,), padding)}
        wanted = {t: [i for o in range(outputs) if 0 <= (i := o * stride + t * step - low) < size] for t in range(taps)}
        assert found == {t: seen for t, seen in wanted.items() if seen}
