"""Learning from vendors' reports: the formats as the tools write them, the arithmetic by definition, what becomes of an estimate."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from hgq.cli import app
from hgq.errors import DataError, FileFormatError
from hgq.estimate import Interval, estimate
from hgq.estimate.learning import Store, collect, shrink
from hgq.estimate.learning.reports import read
from hgq.estimate.model import prior
from hgq.ir import file
from hgq.ir.build import GraphBuilder
from hgq.numerics import Fixed
from hgq.plugins import backend

REPORTS = Path(__file__).parent / "reports"
PART = "xcvu13p-flga2577-2-e"


def text(name: str, **fields: object) -> str:
    content = (REPORTS / name).read_text()
    defaults = {"DEVICE": PART, "STATE": "Routed", "LUT": "5,329", "FF": 1211, "WNS": "-0.312"}
    for key, value in {**defaults, **fields}.items():
        content = content.replace(f"@{key}@", str(value))
    return content


def test_vivado():
    report = read(text("vivado_utilization.rpt"))
    assert report is not None and report.device == PART and report.state == "routed" and "2023.2" in report.tool
    assert report.found == {"lut": 5329, "ff": 1211, "bram18": 5, "dsp": 7}
    seven = text("vivado_utilization.rpt", STATE="Fully Placed", DEVICE="7z020clg484-1").replace("CLB LUTs ", "Slice LUTs*")
    report = read(seven.replace("CLB Registers", "Slice Registers"))
    assert report is not None and (report.state, report.found["lut"], report.found["ff"]) == ("placed", 5329, 1211)
    assert read(text("vivado_utilization.rpt", STATE="Synthesized")).state == "synthesised"  # type: ignore[union-attr]
    timing = read(text("vivado_timing.rpt"))
    assert timing is not None and timing.found == {"clock_ns": 5.0, "period_ns": 5.312} and timing.state == "routed"
    met = read(text("vivado_timing.rpt", WNS="1.25"))
    assert met is not None and met.found["period_ns"] == 3.75


def test_vitis():
    report = read(text("csynth.xml"))
    assert report is not None and report.state == "csynth" and report.device == PART
    assert report.found == {"cycles": 11, "interval": 2, "clock_ns": 5.0, "dsp": 38, "bram18": 4}  # no LUT: csynth's are twice too high
    old = read(text("csynth.xml").replace("<DSP>38</DSP>", "<DSP48E>38</DSP48E>"))
    assert old is not None and old.found["dsp"] == 38


def test_quartus():
    report = read(text("quartus.fit.summary"))
    assert report is not None and report.device == "5CSEBA6U23I7" and report.state == "routed"
    assert report.found == {"lut": 3434, "ff": 2724, "dsp": 1}
    timing = read(text("quartus.sta.rpt"))
    assert timing is not None and timing.found == {"period_ns": round(1000 / 96.5, 4)}


@pytest.mark.parametrize("other", ["", "hello", "<profile>broken", "| CLB LUTs | 5 |", '<!DOCTYPE x [<!ENTITY a "b">]><profile></profile>'])
def test_other_files_are_none(other):
    assert read(other) is None


def test_without_a_measurement_the_prior_stands():
    factor = Interval(0.85, 1.0, 1.2)
    assert shrink([], factor).factor == factor


def test_shrinkage_by_its_definition():
    """With known scatter the guess is the posterior mean of a normal prior and normal data: here by integrating Bayes' rule on a grid."""
    low, high = 0.8, 1.25
    part = (math.log(high / low) / (2 * 1.6449)) ** 2 / 2
    rng = np.random.default_rng(0)
    for n in (1, 4, 30):
        logs = rng.normal(0.1, math.sqrt(part), n)
        found = shrink(np.exp(logs).tolist(), Interval(low, 1.0, high))
        scatter = (4 * part + ((logs - logs.mean()) ** 2).sum()) / (4 + n - 1)
        m = np.linspace(-1, 1, 20001)
        weight = np.exp(-(m**2) / (2 * part) - sum((value - m) ** 2 for value in logs) / (2 * scatter))
        assert math.log(found.factor.value) == pytest.approx((m * weight).sum() / weight.sum(), abs=1e-6)
        variance = (m**2 * weight).sum() / weight.sum() - math.log(found.factor.value) ** 2 + scatter
        reach = math.log(found.factor.high / found.factor.value)
        assert reach == pytest.approx(math.log(found.factor.value / found.factor.low), rel=1e-9)
        assert 1.64 * math.sqrt(variance) < reach < 2.2 * math.sqrt(variance)
    one = shrink([1.2], Interval(low, 1.0, high))
    assert one.factor.value == pytest.approx(math.sqrt(1.2), rel=1e-3)  # half the way
    assert shrink([1.2] * 50, Interval(low, 1.0, high)).factor.value == pytest.approx(1.2, rel=5e-3)


def test_ranges_hold_what_they_say():
    """Parts, scatters and designs drawn from the prior: 90 % of the next designs are in the range; 2.1 % is 4.4 standard deviations."""
    rng, inside, draws = np.random.default_rng(1), 0, 4000
    deviation = math.log(1.25 / 0.8) / (2 * 1.6449) / math.sqrt(2)
    for _ in range(draws):
        scatter = deviation * math.sqrt(4 / rng.chisquare(4))
        ratios = np.exp(rng.normal(0, deviation) + rng.normal(0, scatter, 4))
        found = shrink(ratios[:3].tolist(), Interval(0.8, 1.0, 1.25)).factor
        inside += found.low <= ratios[3] <= found.high
    assert abs(inside / draws - 0.9) < 0.021


def net(seed: int):
    rng = np.random.default_rng(seed)
    b = GraphBuilder(f"net{seed}")
    x = b.input("x", Fixed(1, 2, 3).broadcast_to((6,)), "RND", "WRAP")
    with b.layer("dense"):
        y = b.op("matmul", x, b.constant(rng.integers(-31, 32, (6, 8)), Fixed(1, 2, 3).broadcast_to((6, 8)), "w"), name="m")
    return b.graph(y)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three projects whose "Vivado" needs 0.8 of the LUTs and 1.5 of the period estimated; a stranger; one without reports."""
    from hgq.backend import Options

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for seed in range(5):
        graph = net(seed)
        place = tmp_path / "projects" / f"p{seed}"
        backend("rtl").emit(graph, Options(part=PART)).write(place)
        if seed == 4:
            continue
        found = prior(graph, PART, 5.0)
        device = PART if seed < 3 else "xczu7ev-ffvc1156-2-e"
        build = place / "build"
        build.mkdir()
        lut = round(0.8 * found.counts.lut.value)
        wns = f"{5 - 1.5 * found.timing.period_ns.value:.3f}"
        (build / "a_post_route_utilization.rpt").write_text(text("vivado_utilization.rpt", DEVICE=device, LUT=lut, FF=3))
        (build / "post_synth_utilization.rpt").write_text(text("vivado_utilization.rpt", DEVICE=device, LUT=lut * 3, STATE="Synthesized"))
        (build / "post_route_timing.rpt").write_text(text("vivado_timing.rpt", DEVICE=device, WNS=wns))
    return tmp_path / "projects"


def call(capfd, *arguments):
    with pytest.raises(SystemExit) as left:
        app.run(list(arguments))
    out, err = capfd.readouterr()
    return int(left.value.code or 0), out, err


def test_from_reports_to_estimate(folder, tmp_path, capfd):
    graph = net(9)
    path = file.save(graph, tmp_path / "m.hgq")
    before = estimate(graph, PART, 5.0)
    code, out, _ = call(capfd, "estimate", "--learn", str(folder), "--json")
    answer = json.loads(out)
    assert code == 0 and answer["learned"] == 3 and len(answer["observations"]) == 3
    assert {Path(where).name: why for where, why in answer["skipped"]}.keys() == {"p3", "p4"}
    assert any("another part" in why for _, why in answer["skipped"])
    for row in answer["observations"]:
        assert row["state"] == "routed"  # the synthesised count, three times as high, gave way
        assert row["measured"]["lut"] == pytest.approx(0.8 * row["predicted"]["lut"], abs=0.6)
    after = estimate(graph, PART, 5.0)
    ratio = after.counts.lut.value / before.counts.lut.value
    assert 0.8 <= ratio < 0.9  # three reports: three quarters of the way and more, since they agree
    assert after.counts.lut.high - after.counts.lut.low < before.counts.lut.high - before.counts.lut.low
    assert after.layers[0].counts.lut.value == after.counts.lut.value  # type: ignore[union-attr]
    assert after.timing.period_ns.value > 1.2 * before.timing.period_ns.value and after.timing.cycles == before.timing.cycles
    assert any("3 of your own reports" in line for line in after.basis) and after.counts.ff == before.counts.ff  # FF below 20: no ratio
    other = estimate(graph, "xczu7ev-ffvc1156-2-e", 5.0)
    assert not any("own reports" in line for line in other.basis)
    call(capfd, "estimate", "--learn", str(folder))  # the same again is the same
    assert len(Store().observations()) == 3
    assert estimate(graph, PART, 5.0).counts == after.counts
    code, out, _ = call(capfd, "estimate", str(path), "--learned")
    assert code == 0 and "p0" in out and "own reports" in out
    assert call(capfd, "estimate", "--forget", "xcvu13p")[0] == 0
    assert estimate(graph, PART, 5.0).counts == before.counts and not Store().path.exists()


def test_hls_projects_need_their_model(tmp_path):
    from hgq.project import FirmwareProject

    graph = net(1)
    meta = {"backend": "hls4ml", "part": PART, "clock_ns": 5.0, "graph": graph.digest(), "options": {"strategy": "latency"}}
    place = FirmwareProject("myproject", {"a.txt": "x"}, meta).write(tmp_path / "all" / "hls")
    (place / "myproject_csynth.xml").write_text(text("csynth.xml"))
    found = collect(tmp_path / "all")
    assert not found.observations and ".hgq" in found.skipped[0][1]
    file.save(graph, tmp_path / "all" / "m.hgq")
    (one,) = collect(tmp_path / "all").observations
    assert (one.strategy, one.state, one.measured["cycles"]) == ("latency", "csynth", 11)
    assert one.predicted["lut"] == prior(graph, PART, 5.0, "hls4ml").counts.lut.value


def test_damage_is_told_of_and_harmless(folder, capfd, caplog):
    store = Store()
    store.path.parent.mkdir(parents=True)
    store.path.write_text("{")
    with pytest.raises(FileFormatError, match="Delete it"):
        store.observations()
    graph = net(0)
    assert estimate(graph, PART, 5.0) == prior(graph, PART, 5.0)
    assert "damaged" in caplog.text
    empty = folder / "p4" / "src"
    with pytest.raises(DataError, match="No project"):
        collect(empty)
    assert call(capfd, "estimate")[0] == 2
