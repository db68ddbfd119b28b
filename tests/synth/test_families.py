"""Families beyond AMD's, synthesised for real: every cell is counted, and the estimate's range holds what Yosys makes."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from hgq.estimate import estimate
from hgq.ir.build import GraphBuilder
from hgq.numerics import Fixed
from hgq.synth import synthesise

pytest.importorskip("alkaid")


def sparse_net():
    """16 to 20 to 6, two thirds of the weights 0, as trained ones are."""
    rng = np.random.default_rng(4)
    b = GraphBuilder("net")
    y, inputs = b.input("x", Fixed(1, 2, 3).broadcast_to((16,)), "RND", "WRAP"), 16
    for name, units in (("first", 20), ("second", 6)):
        with b.layer(name):
            w = rng.integers(-7, 8, (inputs, units)) * (rng.random((inputs, units)) < 0.33)
            y = b.op("relu", b.op("matmul", y, b.constant(w, Fixed(1, 0, 3).broadcast_to(w.shape), "w"), name="m"), name="r")
            y = b.quantize(y, Fixed(0, 4, 2).broadcast_to((units,)), "RND", "SAT", "q")
        inputs = units
    return b.graph(y)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("pyosys") is None, reason="no Yosys")
@pytest.mark.parametrize("part", ["ice40hx8k-ct256", "gw1nr-lv9qn88pc6", "5cseba6u23i7"])
def test_synthesised(part, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    graph, options = sparse_net(), {"stages": "2"}
    guessed = estimate(graph, part, 20.0, "rtl", options)
    built = synthesise(graph, part, 20.0, options)
    assert guessed.counts.lut.low <= built.netlist.lut <= guessed.counts.lut.high
    assert guessed.counts.ff is not None and guessed.counts.ff.low <= built.netlist.ff <= guessed.counts.ff.high
    assert built.cycles == guessed.timing.cycles.value == 3 and built.netlist.depth_carry > 0
