"""`hgq estimate` and `hgq report`, and the real rtl backend behind them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from hgq.cli import app
from hgq.estimate import ebops_of, estimate
from hgq.ir import file
from tests.random_graphs import random_graph

pytest.importorskip("alkaid")
PART = "xcvu13p-flga2577-2-e"


@pytest.fixture
def call(capfd):
    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            app.run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return int(left.value.code or 0), out, err

    return run


@pytest.fixture(scope="module")
def graph():
    return random_graph(4, (10, 12, 6))


@pytest.fixture
def path(tmp_path, graph):
    return file.save(graph, tmp_path / "model.hgq")


def test_the_table(call, path, graph):
    code, out, err = call("estimate", path)
    assert code == 0 and err == ""
    for piece in (
        "dense_0",
        "dense_1",
        "total",
        "of the device",
        f"{ebops_of(graph):,}",
        "cycles",
        "Based on:",
        "5 ns clock reached",
        "exact",
    ):
        assert piece in out, piece


def test_json(call, path, graph):
    code, out, _ = call("estimate", path, "--json", "--part", "pynq-z2", "--clock-ns", "8")
    content = json.loads(out)
    assert code == 0 and content == json.loads(json.dumps(estimate(graph, "pynq-z2", 8.0).to_dict()))
    assert content["digest"] == graph.digest() and content["part"] == "xc7z020clg400-1"


def test_bad_usage(call, path, tmp_path):
    for arguments, piece in (
        (("--part", "xcvu13"), "Did you mean xcvu13p-flga2577-2-e?"),
        (("--backend", "vhdl"), "There is no such backend"),
        (("--option", "nothing=1"), "no such option"),
        (("--clock-ns", "0"), "cannot be a clock period"),
    ):
        code, out, err = call("estimate", path, *arguments)
        assert code == 2 and out == "" and piece in err
    code, _, err = call("estimate", tmp_path / "nothing.hgq")
    assert code == 2 and "no such model file" in err


def test_the_report(call, path):
    code, out, _ = call("report", path.parent)
    assert code == 0 and out.strip().endswith("report.html")
    code, _, err = call("report", path.parent / "nothing")
    assert code == 2 and "not a run directory" in err


def test_the_layers_add_up_to_the_whole(graph):
    found = estimate(graph, PART, 5.0)
    parts = [row.counts.lut.value for row in found.layers if row.counts]
    assert sum(parts) == pytest.approx(found.counts.lut.value, abs=len(parts))
    assert sum(row.cycles or 0 for row in found.layers) == pytest.approx(found.timing.cycles.value, abs=0.05)


def test_a_shorter_clock_gives_more_stages(graph):
    slow, fast = (estimate(graph, PART, clock) for clock in (10.0, 2.0))
    assert fast.timing.cycles.value > slow.timing.cycles.value
    assert fast.counts.ff.value > slow.counts.ff.value
    assert fast.timing.period_ns.value < slow.timing.period_ns.value


def test_it_imports_neither_keras_nor_tensorflow(path):
    code = (
        "import sys; from hgq.cli import app\n"
        "try: app.run(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "sys.stderr.write(','.join(m for m in ('keras', 'tensorflow', 'torch', 'matplotlib', 'pandas', 'hls4ml') if m in sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, "estimate", str(path)], capture_output=True, text=True, env=dict(os.environ), timeout=120, check=True
    )
    assert run.stderr == ""
    assert "total" in run.stdout
