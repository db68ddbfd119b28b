"""Pipelines for a latency: what is promised is what the estimate of the chosen pipeline says, and no cut that does better was left out."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hgq.converters.rtl import schedule
from hgq.converters.rtl.trace import traced

from hgq.backend import Options
from hgq.cli import app
from hgq.errors import BudgetError
from hgq.estimate import device_of, estimate
from hgq.estimate.plan import cuts, fastest, floor_ns, plan
from hgq.ir import file
from hgq.ir.build import GraphBuilder
from hgq.numerics import Fixed
from hgq.plugins import backend

PART = "xcvu13p-flga2577-2-e"


@pytest.fixture(scope="module")
def graph():
    rng = np.random.default_rng(2)
    b = GraphBuilder("net")
    y, inputs = b.input("x", Fixed(1, 2, 3).broadcast_to((10,)), "RND", "WRAP"), 10
    for number, units in enumerate((9, 8, 4)):
        with b.layer(f"dense_{number}"):
            w = rng.integers(-15, 16, (inputs, units))
            y = b.op("relu", b.op("matmul", y, b.constant(w, Fixed(1, 1, 3).broadcast_to(w.shape), "w"), name="m"), name="r")
            y = b.quantize(y, Fixed(0, 4, 2).broadcast_to((units,)), "RND", "SAT", "q")
        inputs = units
    return b.graph(y)


def lut_of(graph):
    return estimate(graph, PART, 5.0).counts.lut.value


def test_cuts_are_pipelines_that_exist(graph):
    """For every cut: the pipeline with that many stages has its cycles, and no longer a stage."""
    device = device_of(PART)
    rows = cuts(graph, device, lut_of(graph))
    assert [cut.stages for cut in rows] == sorted({cut.stages for cut in rows}) and rows[0].stages == 1 and len(rows) > 3
    for cut in rows[:4]:
        built = backend("rtl").resources(graph, Options(part=PART, extra={"stages": str(cut.stages)}))
        assert built["latency_cycles"] == cut.cycles == cut.stages + 1
        assert built["stage_delay"] <= cut.depth + 1e-9


def test_packing_by_definition(graph):
    """No stage is longer than the cutoff, operands come first, and what could start earlier does."""
    comb = traced(graph).comb
    for cutoff in (1.6, 3.0, 7.5):
        stage, end = schedule.pack(comb, cutoff)
        for index, op in enumerate(comb.ops):
            if not op.addr:
                assert stage[index] == 0 and end[index] == 0
                continue
            delay = op.latency - max(comb.ops[i].latency for i in op.addr)
            ready = max((stage[i], end[i]) for i in op.addr)
            if ready[1] == 0 or delay <= 0 or ready[1] + delay <= cutoff + 1e-9:
                assert (stage[index], end[index]) == (ready[0], ready[1] + delay)
            else:
                assert (stage[index], end[index]) == (ready[0] + 1, delay)


@pytest.mark.parametrize("clock", [5.0, 8.0])
def test_a_plan_is_kept_by_the_estimate(graph, clock):
    default = estimate(graph, PART, clock).timing.ns.value
    rows = cuts(graph, device_of(PART), lut_of(graph))
    best = fastest(rows, clock)
    assert best is not None
    for wanted in (default * 1.5, default, (default + best.ns) / 2, best.ns * 1.02):
        made, found = plan(graph, PART, clock, wanted)
        again = estimate(graph, PART, made.clock_ns, "rtl", made.options)
        assert again.timing.ns.value == pytest.approx(made.ns, abs=1e-3) and made.ns <= wanted
        assert again.timing.cycles.value == made.cycles and made.clock_ns <= clock
        assert found.timing.ns.value == again.timing.ns.value
    loose, _ = plan(graph, PART, clock, default * 1.5)
    assert loose.clock_ns == clock  # the clock asked for is kept where it can be


def test_too_fast_is_refused_with_what_goes(graph):
    rows = cuts(graph, device_of(PART), lut_of(graph))
    best = fastest(rows, 5.0)
    assert best is not None and best.ns == min(cut.ns for cut in rows if cut.period_ns <= 5.0)
    with pytest.raises(BudgetError) as error:
        plan(graph, PART, 5.0, best.ns * 0.9)
    assert f"{best.ns:.2f} ns" in str(error.value) and "--latency-ns" in str(error.value)


def test_a_clock_that_no_pipeline_reaches_is_no_reason(graph):
    """5 ns is out of reach of this family; a latency is not."""
    part = "xc7a100t"
    made, found = plan(graph, part, 5.0, 100.0)
    assert made.clock_ns > 5.0 and found.timing.ns.value <= 100.0
    device = device_of(part)
    rows = cuts(graph, device, estimate(graph, part, 5.0).counts.lut.value)
    assert made.clock_ns - 0.011 <= min(cut.period_ns for cut in rows if cut.ns <= 100.0) <= made.clock_ns


def test_floor():
    family = device_of(PART).family
    assert math.isclose(floor_ns(PART), 2 * max(family.period_floor_ns, family.period_base_ns + family.period_per_unit_ns))


def call(capfd, *arguments):
    with pytest.raises(SystemExit) as left:
        app.run([str(argument) for argument in arguments])
    out, err = capfd.readouterr()
    return int(left.value.code or 0), out, err


def test_commands_take_the_pipeline(graph, tmp_path, capfd):
    """Asked for, or remembered from training; a part, clock or pipeline that is given counts more."""
    rows = cuts(graph, device_of(PART), lut_of(graph))
    best = fastest(rows, 5.0)
    assert best is not None
    wanted = round(best.ns * 1.1, 2)
    plain = file.save(graph, tmp_path / "plain.hgq")
    code, out, err = call(capfd, "estimate", plain, "--latency-ns", wanted, "--json")
    asked = json.loads(out)
    assert code == 0 and asked["latency_ns"]["value"] <= wanted and "stages=" in err
    made, _ = plan(graph, PART, 5.0, wanted)
    trained = file.save(graph.with_(meta={"pipeline": asdict(made)}), tmp_path / "trained.hgq")
    assert json.loads(call(capfd, "estimate", trained, "--json")[1]) == asked
    free = json.loads(call(capfd, "estimate", trained, "--json", "--clock-ns", "5")[1])
    assert free == json.loads(call(capfd, "estimate", plain, "--json")[1]) and free["latency_ns"] != asked["latency_ns"]
    assert call(capfd, "export", trained, "--out", tmp_path / "out")[0] == 0
    meta = json.loads((tmp_path / "out" / "hgq-project.json").read_text())["meta"]
    assert (meta["clock_ns"], meta["stages"]) == (made.clock_ns, made.stages)
    assert call(capfd, "estimate", plain, "--latency-ns", "1")[0] == 1
    code, _, err = call(capfd, "estimate", plain, "--latency-ns", wanted, "--option", "stages=2")
    assert code == 2 and "not free" in err
