"""Estimates of hls4ml's resource strategy: counts of multipliers, turns and memory by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hgq.errors import ConfigError
from hgq.estimate import estimate
from hgq.ir.build import GraphBuilder
from hgq.numerics import Fixed

PART = "xcvu13p-flga2577-2-e"


def net(bits_x: int = 10, bits_w: int = 12, hole: bool = False):
    """Dense 16 to 8, then 8 to 4, all formats of one width; with `hole`, every second weight is 0."""
    rng = np.random.default_rng(0)
    b = GraphBuilder("net")
    y, inputs = b.input("x", Fixed(1, 1, bits_x - 2).broadcast_to((16,)), "RND", "WRAP"), 16
    for name, units in (("first", 8), ("second", 4)):
        with b.layer(name):
            w = rng.integers(2 ** (bits_w - 2), 2 ** (bits_w - 1), (inputs, units)) | 1  # all as wide as there is
            w = w * (np.indices(w.shape).sum(0) % 2) if hole else w
            y = b.op("matmul", y, b.constant(w, Fixed(1, 0, bits_w - 1).broadcast_to(w.shape), "w"), name="m")
            y = b.quantize(y, Fixed(1, 5, bits_x - 6).broadcast_to((units,)), "RND", "SAT", "q")
        inputs = units
    return b.graph(y)


def found(graph, **options):
    return estimate(graph, PART, 5.0, "hls4ml", {key.replace("__", ":"): str(value) for key, value in options.items()})


@pytest.mark.parametrize("reuse", [1, 4, 16])
def test_multipliers_and_turns(reuse):
    one = found(net(), strategy="resource", reuse_factor=reuse)
    assert one.counts.dsp.high == one.counts.dsp.value == (16 * 8 + 8 * 4) // reuse
    assert (one.timing.interval.low, one.timing.interval.value) == (reuse, reuse)
    # two layers: their turns, a cycle for two levels of their sums (16 and 8 terms), 4 cycles each besides
    assert one.timing.cycles.value == 2 * reuse + 2 + 2 + 2 * 4
    assert one.counts.dsp.high <= one.counts.dsp.high * reuse and one.strategy == "resource"
    assert [row.counts.dsp.value for row in one.layers] == [128 // reuse, 32 // reuse]


def test_what_hls4ml_takes_instead():
    """128 and 32 weights do not fall into 5 turns: 4 is nearest; into 48: 64 and 32 are."""
    assert found(net(), strategy="resource", reuse_factor=5) == found(net(), strategy="resource", reuse_factor=4)
    one = found(net(), strategy="resource", reuse_factor=48)
    assert [row.counts.dsp.value for row in one.layers] == [4, 1]  # 128/32 (as near as 64, and faster), 32/32


def test_constants_are_data():
    dense, holes = (found(net(hole=hole), strategy="resource", reuse_factor=4).counts for hole in (False, True))
    assert dense == holes
    assert found(net(hole=True)).counts.lut.value < found(net()).counts.lut.value + 1  # unlike with unrolled products


def test_narrow_products_are_luts_and_few_turns_need_no_memory():
    narrow = found(net(4, 4), strategy="resource", reuse_factor=16).counts
    assert narrow.dsp.high == 0
    assert narrow.lut.value >= (128 + 32) // 16 * 4 * 4
    assert found(net(), strategy="resource", reuse_factor=8).counts.bram.high == 0
    deep = found(net(), strategy="resource", reuse_factor=32).counts.bram
    # 4 and 1 weights of 12 bits wide: 48 bits are two memories of 36, 12 are one
    assert (deep.low, deep.value, deep.high) == (0, 3, 3)


def test_layers_by_themselves():
    mixed = found(net(), strategy__second="resource", reuse_factor__second=8)
    assert mixed.strategy == "mixed" and mixed.timing.interval.value == 8
    alone = found(net())
    assert mixed.layers[0].counts == alone.layers[0].counts
    assert mixed.layers[1].counts == found(net(), strategy="resource", reuse_factor=8).layers[1].counts
    shared = found(net(), reuse_factor=8)
    assert shared.timing.interval.value == 8 and shared.counts.dsp.high == 160 // 8


def test_refusals():
    with pytest.raises(ConfigError, match="no reuse factor"):
        found(net(), strategy="resource", reuse_factor=0)
    with pytest.raises(ConfigError, match="in one model only"):
        found(net(), strategy__second="distributed_arithmetic")
    with pytest.raises(ConfigError, match="no estimate for this strategy"):
        found(net(), strategy="magic")
