"""Convolutions counted by positions that are alike, against the same graphs evaluated and counted as a whole."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hgq.converters.rtl import RTL, alike
from hgq.converters.rtl.positions import Needed, hoisted, pieces
from hgq.converters.rtl.settings import settings_of

from hgq.backend import Options
from hgq.estimate import device_of, estimate
from hgq.estimate.resources import ALIKE_FF, ALIKE_LUT
from hgq.ir import interpret
from hgq.ir.build import GraphBuilder
from hgq.numerics import Fixed
from hgq.passes import probe
from tests.random_graphs import CONVS, POOLS, random_conv_graph, random_pool_graph

PART = "xcvu13p-flga2577-2-e"
NEVER: dict[str, Any] = {"strides": (1, 1), "dilation": (1, 1), "padding": ((0, 0), (0, 0)), "groups": 1}


def network(side: int, seed: int = 0, padding: int = 0, narrow: bool = False):
    """Two convolutions with a pooling between them, and a dense layer whose quantizer, if `narrow`, drops most of what it reads."""
    rng, b = np.random.default_rng(seed), GraphBuilder(f"net_{side}")
    y = b.input("x", Fixed(0, 0, 4).broadcast_to((side, side, 2)), "RND", "WRAP")
    for number in range(2):
        with b.layer(f"conv_{number}"):
            w = rng.integers(-7, 8, (3, 3, y.shape[-1], 4)) * (rng.random((3, 3, y.shape[-1], 4)) < 0.3)
            attrs: dict[str, Any] = NEVER | {"padding": ((padding, padding),) * 2}
            y = b.op("relu", b.op("conv", y, b.constant(w, Fixed(1, 0, 3).broadcast_to(w.shape), "w"), **attrs))
            y = b.quantize(y, Fixed(0, 2, 2).broadcast_to(y.shape), "RND", "SAT", "oq")
        if number == 0:
            with b.layer("pool"):
                y = b.op("max_pool", y, pool=(2, 2), strides=(2, 2), padding=((0, 0), (0, 0)))
    with b.layer("dense"):
        y = b.op("reshape", y, shape=(int(np.prod(y.shape)),))
        if narrow:
            bits = np.where(rng.random(y.shape) < 0.3, 2, 0)
            y = b.quantize(y, Fixed(0, bits, 0), "TRN", "WRAP", "iq")
        w = rng.integers(-7, 8, (y.shape[0], 3)) * (rng.random((y.shape[0], 3)) < 0.3)
        y = b.op("matmul", y, b.constant(w, Fixed(1, 0, 3).broadcast_to(w.shape), "w"))
    return b.graph(y)


def windows_of(graph):
    """Windows of each piece, from the last to the first; none of a piece that is counted as a whole."""
    needed = Needed(graph)
    return [needed.windows(piece) if piece.grid else [][: len(needed.whole(piece).nodes)] for piece in reversed(pieces(graph))]


RANDOM = [*map(random_conv_graph, CONVS), *map(random_pool_graph, POOLS), random_pool_graph("2d_padded", op="sum_pool")]


@pytest.mark.parametrize("graph", [*RANDOM, network(8, narrow=True)], ids=lambda graph: graph.name)
def test_a_window_computes_what_the_whole_does_at_its_position(graph):
    graph = hoisted(graph)
    values = interpret.run(graph, samples := probe(graph), trace=True)
    values |= {name: port.reals() for name, port in interpret.quantize_inputs(graph, samples).items()}
    seen = 0
    for windows in windows_of(graph):
        for window in windows:
            ports = {port.name: values[port.name][(slice(None), *window.read)] for port in window.graph.inputs}
            for name, value in interpret.run(window.graph, ports).items():
                name = name.removesuffix("/needed")
                whole = values[name][(slice(None), *window.position)].reshape(len(value), -1)
                wanted = window.wanted[name]
                np.testing.assert_array_equal(value.reshape(len(value), -1)[:, wanted], whole[:, wanted])
                seen += int(wanted.sum())
    assert seen > 0


def test_hoisting_a_quantizer_changes_no_number():
    graph = network(8, narrow=True)
    assert [node.op for node in hoisted(graph).nodes] != [node.op for node in graph.nodes]
    samples = probe(graph)
    for name, value in interpret.run(graph, samples).items():
        np.testing.assert_array_equal(interpret.run(hoisted(graph), samples)[name], value)


def test_a_rest_that_the_pooling_leaves_is_not_counted():
    graph = network(9)  # 7 x 7 windows, of which the pooling takes 6 x 6
    assert sorted(map(len, windows_of(graph))) == [0, 9, 36]  # 3 x 3 pooled values give one window, which is no grid


def test_borders_are_kinds_of_their_own():
    graph = network(8, padding=1)
    first = Counter(window.key for window in windows_of(graph)[-1])  # 8 x 8 windows: inside, four edges, four corners
    assert sorted(first.values()) == [1] * 4 + [6] * 4 + [36]


@pytest.mark.parametrize(
    ("graph", "clock"),
    [
        pytest.param(network(10), 5.0, marks=pytest.mark.slow, id="even"),
        pytest.param(network(7, 1, padding=1), 3.0, marks=pytest.mark.slow, id="padded"),
        pytest.param(network(8, 2, narrow=True), 5.0, id="narrow"),
    ],
)
def test_counts_and_cycles_are_those_of_the_whole(graph, clock):
    options = Options(part=PART, clock_ns=clock)
    found, whole = alike.summary(graph, settings_of(options)), RTL().summary(graph, options)
    assert found.keys() == whole.keys() | {"alike"} and found["logic"].keys() >= whole["logic"].keys()
    assert abs(found["latency_cycles"] - whole["latency_cycles"]) <= 1 and found["ii"] == whole["ii"]
    assert abs(found["max_delay"] - whole["max_delay"]) < 1.2  # alkaid adds in another order when it knows how late each element is
    fits = device_of(PART).family.fits
    for name, allowed in (("lut", ALIKE_LUT), ("ff", ALIKE_FF)):
        ratio = fits[name].predict(whole["logic"]) / fits[name].predict(found["logic"])
        assert allowed.low - 0.02 <= ratio <= allowed.high + 0.02
    assert sum(row["lut_cost"] for row in found["per_node"]) == pytest.approx(found["lut_cost"])
    combinational = Options(part=PART, extra={"stages": "0"})
    found, whole = alike.summary(graph, settings_of(combinational)), RTL().summary(graph, combinational)
    assert found["latency_cycles"] == whole["latency_cycles"] == found["reg_bits"] == whole["reg_bits"] == 0


def test_positions_that_differ_stand_for_each_other_with_an_error(monkeypatch):
    rng, b = np.random.default_rng(0), GraphBuilder("mixed")
    y = b.input("x", Fixed(0, rng.integers(0, 5, (7, 7, 1)), 0), "RND", "WRAP")  # no two windows alike
    w = rng.integers(-7, 8, (3, 3, 1, 3))
    y = b.op("conv", y, b.constant(w, Fixed(1, 0, 3).broadcast_to(w.shape), "w"), **NEVER)
    graph, options = b.graph(y), Options(part=PART)
    found, whole = alike.summary(graph, settings_of(options)), RTL().summary(graph, options)
    assert found["alike"]["positions"] == 25 and found["alike"]["traced"] == alike.MOST_KINDS and found["alike"]["error"] > 0
    assert abs(found["lut_cost"] / whole["lut_cost"] - 1) < 1.5 * found["alike"]["error"]  # which is two standard errors
    monkeypatch.setattr(alike, "MOST_KINDS", 25)
    assert alike.summary(graph, settings_of(options))["lut_cost"] == pytest.approx(whole["lut_cost"], rel=0.02)


def test_the_estimate_of_a_large_design_says_how_it_was_counted(monkeypatch):
    graph = network(10)
    assert not alike.is_large(graph)
    monkeypatch.setattr(alike, "LARGE", 1000)
    found = estimate(graph, PART, 5.0)
    assert any("positions of convolutions" in line for line in found.basis)
    assert found.timing.cycles.high - found.timing.cycles.low == 2
    assert found.counts.lut.low < found.counts.lut.value < found.counts.lut.high
