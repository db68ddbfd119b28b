from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hgq.errors import ConfigError, LoweringError
from hgq.estimate import Interval, device_of, ebops_by_node, ebops_of, estimate, latency, model, resources
from hgq.estimate.structure import Structure
from hgq.numerics import Fixed
from tests.random_graphs import CONVS, random_conv_graph, random_graph

PART = "xcvu13p-flga2577-2-e"
PAIRS = Path(__file__).resolve().parents[3] / "shared" / "reference" / "vivado_pairs.csv"

RAW = {
    "lut_cost": 1000.0,
    "reg_bits": 2000,
    "latency_cycles": 5,
    "stages": 5,
    "max_delay": 10.0,
    "per_node": [
        {"name": "dense_0/matmul", "layer": "dense_0", "lut_cost": 600.0, "delay": 6.0},
        {"name": "dense_0/add", "layer": "dense_0", "lut_cost": 100.0, "delay": 2.0},
        {"name": "dense_1/matmul", "layer": "dense_1", "lut_cost": 300.0, "delay": 2.0},
    ],
}


class FakeBackend:
    name = "rtl"
    raw = RAW

    def options(self):
        return {"strategy": "latency or distributed_arithmetic"}

    def resources(self, graph, options):
        return self.raw


@pytest.fixture
def graph():
    return random_graph(3, (8, 7, 5))


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(model, "backend_named", lambda name: FakeBackend())
    monkeypatch.setattr(FakeBackend, "raw", RAW)
    return FakeBackend


def test_adder_graph(graph, fake):
    found = estimate(graph, PART, 5.0)
    assert found.ebops == ebops_of(graph)
    assert found.counts.lut == Interval(968, 1050, 1133)
    assert found.counts.ff == Interval(1100, 1760, 2000)
    assert found.counts.dsp == found.counts.bram == Interval.exact(0)
    assert found.timing.cycles == Interval.exact(5) and found.timing.interval == Interval.exact(1)
    assert found.timing.period_ns.value == pytest.approx(0.9 + 0.7 * 2.0)  # stages of two additions
    assert found.timing.meets == "yes" and found.timing.ns == Interval.exact(25)
    first, second = found.layers
    assert (first.layer, second.layer) == ("dense_0", "dense_1")
    assert first.counts.lut.value == round(700 * 1.05) and first.counts.ff is None
    assert first.ebops + second.ebops == found.ebops
    assert (first.cycles, second.cycles) == (4.0, 1.0)
    assert "exact, from the pipeline" in found.based_on and "Vivado post-route" in found.based_on


def test_nanoseconds_are_not_cycles_times_the_clock_asked_for(graph, fake):
    found = estimate(graph, PART, 1.0)
    assert found.timing.meets == "no"
    assert found.timing.ns.value == pytest.approx(5 * found.timing.period_ns.value)
    assert found.timing.ns.low > 5 * 1.0


def test_meets_follows_the_range(graph, fake):
    period = estimate(graph, PART, 5.0).timing.period_ns
    middle = {"yes": period.high + 0.01, "likely": period.value + 0.01, "unlikely": period.low + 0.01, "no": period.low - 0.01}
    for expected, clock in middle.items():
        assert estimate(graph, PART, clock).timing.meets == expected


def test_combinational(graph, fake, monkeypatch):
    monkeypatch.setattr(FakeBackend, "raw", {**RAW, "latency_cycles": 0, "stages": 1, "reg_bits": 0})
    found = estimate(graph, PART, 5.0)
    assert found.timing.cycles == Interval.exact(0)
    assert found.timing.ns == found.timing.period_ns and found.timing.ns.value == pytest.approx(0.9 + 0.7 * 10)
    assert found.counts.ff == Interval.exact(0)


def test_a_slower_grade_is_slower(graph, fake):
    slow, fast = (estimate(graph, f"xcvu13p-flga2577-{grade}-e", 1.0).timing.period_ns.value for grade in (1, 3))
    assert slow > fast


def test_utilisation(graph, fake):
    found = estimate(graph, "pynq-z2", 10.0)
    assert found.utilisation()["lut"] == pytest.approx(found.counts.lut.value / 53_200)
    assert found.device.part == "xc7z020clg400-1"


def test_hls4ml_latency(graph, fake):
    found = estimate(graph, PART, 5.0, "hls4ml")
    assert found.strategy == "latency"
    equivalent = found.counts.lut.value + resources.LUT_PER_DSP * found.counts.dsp.value
    assert equivalent == pytest.approx(found.ebops, abs=2)
    assert found.counts.lut.low <= found.counts.lut.value <= found.counts.lut.high
    assert found.timing.cycles.low <= found.timing.cycles.value <= found.timing.cycles.high
    assert "no calibration of ours" in found.based_on
    assert [row.layer for row in found.layers] == ["dense_0", "dense_1"]


def test_published_hls4ml_cycles_lie_in_the_range():
    """The eight HGQ jet models (reference/published.md 2.1), with LUT + 55 DSP in place of EBOPs."""
    device = device_of("xcvu9p-flgb2104-2-e")
    for lut, dsp, ff, cycles in [
        (6236, 34, 1253, 6),
        (3162, 6, 550, 4),
        (1540, 5, 370, 4),
        (565, 0, 140, 3),
        (468, 0, 131, 2),
        (256, 0, 66, 2),
        (5899, 18, 2072, 8),
        (678, 0, 172, 3),
    ]:
        ebops = lut + 55 * dsp
        timing = latency.of_hls_latency(ebops, device, Interval.exact(lut), 5.0)
        assert timing.cycles.low <= cycles <= timing.cycles.high
        counts = resources.hls_latency(ebops, 2 * dsp)
        assert counts.lut.low <= lut <= counts.lut.high and counts.dsp.value == dsp
        assert counts.ff.low <= ff <= counts.ff.high


def test_dsp_candidates_by_brute_force(graph):
    wide = random_graph(5, (9, 8, 4))
    for g in (graph, wide):
        found = resources.dsp_candidates(g)
        formats = {p.name: p.format for p in g.inputs} | {n.name: n.attrs["format"] for n in g.nodes if n.op == "quantize"}
        for node in g.nodes:
            if node.op == "matmul":
                x, w = formats[node.inputs[0]].width, g.consts[node.inputs[1]].format.width
                expected = sum(1 for i in range(w.shape[0]) for j in range(w.shape[1]) if w[i, j] > 1 and x[i] * w[i, j] >= 55)
                assert found[node.name] == expected


@pytest.mark.parametrize("case", CONVS)
def test_dsp_candidates_and_ebops_of_convolutions_by_brute_force(case):
    """Every product by its own indices; the kernel's bits from its values."""
    graph = random_conv_graph(case, 2)
    port = graph.inputs[0]
    port = replace(port, format=replace(port.format, i=port.format.i * 4))  # wide enough for some DSPs
    graph = graph.with_(inputs=(port,))
    conv, kernel = graph.nodes[0], graph.consts[graph.nodes[0].inputs[1]]
    bits_x, bits_w, attrs = port.format.width, Fixed.minimal(kernel.mantissa, kernel.format.f).width, conv.attrs
    ebops = candidates = 0
    for window in np.ndindex(graph.shapes()[conv.name][:-1]):
        for *tap, c, m in np.ndindex(bits_w.shape):
            geometry = zip(window, attrs["strides"], tap, attrs["dilation"], attrs["padding"], strict=True)
            at = tuple(o * s + t * d - low for o, s, t, d, (low, _) in geometry)
            if all(0 <= i < n for i, n in zip(at, port.shape[:-1], strict=True)):
                x = bits_x[(*at, m // (bits_w.shape[-1] // attrs["groups"]) * bits_w.shape[-2] + c)]
                w = bits_w[(*tap, c, m)]
                ebops += x * w
                candidates += bool(w > 1 and x * w >= 55)
    assert ebops_by_node(graph)[conv.name] == ebops > 0
    assert resources.dsp_candidates(graph)[conv.name] == candidates


def test_hls4ml_distributed_arithmetic(graph, fake):
    found = estimate(graph, PART, 5.0, "hls4ml", {"strategy": "distributed_arithmetic"})
    assert found.strategy == "distributed_arithmetic" and found.counts.dsp == Interval.exact(0)
    rtl = estimate(graph, PART, 5.0)
    assert found.counts.lut.low < rtl.counts.lut.low and found.counts.lut.high > rtl.counts.lut.high
    assert not found.timing.cycles.is_exact


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"part": "nothing"}, "This part is not known"),
        ({"clock_ns": 0.0}, "cannot be a clock period"),
        ({"clock_ns": math.nan}, "cannot be a clock period"),
        ({"backend": "hls4ml", "options": {"strategy": "magic"}}, "no estimate for this strategy"),
        ({"backend": "hls4ml", "options": {"nothing": "1"}}, "has no such option"),
        ({"backend": "hls4ml", "part": "ecp5-85f"}, "Vitis HLS does not target this part"),
    ],
)
def test_errors(graph, fake, change, message):
    with pytest.raises(ConfigError, match=message):
        estimate(graph, **{"part": PART, "clock_ns": 5.0, **change})


def test_unknown_backend(graph):
    with pytest.raises(ConfigError, match="There is no such backend"):
        estimate(graph, PART, 5.0, "verilog")


def test_a_backend_without_an_estimate(graph, monkeypatch):
    from hgq.backend import Backend

    class Other(Backend):
        name = "other"

    monkeypatch.setattr(model, "backend_named", lambda name: Other())
    with pytest.raises(LoweringError, match="'other' has no resource estimate"):
        estimate(graph, PART, 5.0, "other")


@pytest.mark.parametrize("raw", [{}, None, {**RAW, "lut_cost": "many"}])
def test_a_backend_that_says_nonsense(raw):
    with pytest.raises(ConfigError, match="does not say what it would build"):
        Structure.of(raw, "rtl")


@pytest.mark.parametrize("backend", ["rtl", "hls4ml"])
def test_json(graph, fake, backend):
    content = estimate(graph, PART, 5.0, backend).to_dict()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert set(content) == {
        "model",
        "digest",
        "backend",
        "strategy",
        "part",
        "device",
        "clock_ns",
        "ebops",
        "lut",
        "ff",
        "dsp",
        "bram18",
        "utilisation",
        "latency_cycles",
        "ii_cycles",
        "period_ns",
        "latency_ns",
        "meets_clock",
        "layers",
        "based_on",
    }
    for key in ("lut", "ff", "dsp", "bram18", "latency_cycles", "ii_cycles", "period_ns", "latency_ns"):
        assert set(content[key]) == {"low", "value", "high"}
        assert content[key]["low"] <= content[key]["value"] <= content[key]["high"]
    for row in content["layers"]:
        assert set(row) == {"layer", "ebops", "latency_cycles", "lut", "ff", "dsp", "bram18"}
    assert sum(row["ebops"] for row in content["layers"]) == content["ebops"]


@pytest.mark.skipif(not PAIRS.is_file(), reason="the table of published designs is not beside this checkout")
def test_published_post_route_luts_lie_in_the_range():
    with PAIRS.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["design"].startswith("JEDI-linear")]
    assert len(rows) == 20
    device = device_of(PART)
    errors = []
    for row in rows:
        cost, actual = float(row["da4ml_cost"]), float(row["lut"])
        found = device.family.lut_per_cost * cost  # alkaid's own RTL
        assert found.low <= actual <= found.high, row["design"]
        errors.append(abs(found.value / actual - 1))
        period = latency.period(device, 1.0, actual)
        assert period.low <= float(row["clock_achieved_ns"]) <= period.high, row["design"]
    assert sum(errors) / len(errors) < 0.04


def test_intervals():
    a, b = Interval(1, 2, 4), Interval(10, 20, 30)
    assert a + b == Interval(11, 22, 34)
    assert a * 2 == Interval(2, 4, 8)
    assert a * b == Interval(10, 40, 120)
    assert Interval(1.2, 2.6, 3.1).rounded() == Interval(1, 3, 4)
    assert Interval.exact(3).is_exact and not a.is_exact
