"""`synthesise`: what it asks, what it keeps, and what happens when things break. A stand-in plays Yosys, but for slow tests."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from hgq import plugins
from hgq.backend import Options
from hgq.errors import ConfigError, ToolFailed, ToolNotFound
from hgq.ir import file
from hgq.synth import cache as kept_results
from hgq.synth import engines, layer_graphs, synthesise
from tests.random_graphs import random_graph

pytest.importorskip("alkaid")
PART = "xc7a100tcsg324-1"
LUT = {"type": "LUT3", "connections": {"O": [2]}, "port_directions": {"O": "output"}}
FAKE = """#!{python}
import json, pathlib, sys
pathlib.Path({calls!r}).open("a").write("call\\n")
if "-V" in sys.argv: print("Yosys 0.99")
else:
    {act}
    json.dump({{"modules": {{"hgq_top": {{"cells": {{"l": {lut} }}}}}}}}, open("netlist.json", "w"))
"""


@pytest.fixture
def graph():
    return random_graph(4, (6, 5, 3))


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hgqc" / "synth"


@pytest.fixture
def fake(tmp_path, monkeypatch, cache_folder):
    """Puts a stand-in for Yosys on the PATH; returns how often it was called to synthesise."""
    bin_folder, calls = tmp_path / "bin", tmp_path / "calls"
    bin_folder.mkdir()

    def install(act: str = "pass"):
        path = bin_folder / "yosys"
        path.write_text(FAKE.format(python=sys.executable, calls=str(calls), act=act, lut=LUT))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        calls.write_text("")
        return lambda: len(calls.read_text().splitlines()) - 1  # less the question for the version

    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return install


def left_over(folder):
    return sorted(path.name for path in folder.glob("run-*"))


def test_an_answer_is_kept(graph, fake, cache_folder):
    calls = fake()
    first = synthesise(graph, PART)
    again = synthesise(graph, PART)
    assert (first.netlist.lut, first.tool, first.kept) == (1, "yosys 0.99", False)
    assert again.kept and again.netlist == first.netlist and again.netlist.luts_by_size == {3: 1}
    assert calls() == 2  # the version twice, one synthesis
    assert left_over(cache_folder) == []


@pytest.mark.parametrize("other", [{"part": "lfe5u-85f-6bg381c"}, {"clock_ns": 8.0}, {"options": {"stages": "0"}}])
def test_another_wish_is_another_answer(graph, fake, other):
    fake()
    synthesise(graph, PART)
    if "part" in other:
        with pytest.raises(ToolFailed, match=r"cannot count[\s\S]*LUT3"):  # the stand-in answers with a cell that Lattice does not have
            synthesise(graph, **other)
    else:
        assert not synthesise(graph, PART, **other).kept


@pytest.mark.parametrize("garbage", ["", "{", "[]", '{"version": 1}', '{"version": 99, "wish": {}, "result": {}}', "\0\0"])
def test_garbage_in_the_cache_is_deleted_and_told_of(graph, fake, cache_folder, garbage, caplog):
    fake()
    synthesise(graph, PART)
    (entry,) = cache_folder.glob("*/*.json")
    entry.write_text(garbage)
    assert not synthesise(graph, PART).kept
    assert "damaged" in caplog.text and str(entry) in caplog.text
    assert synthesise(graph, PART).kept


def test_without_a_tool_what_is_kept_is_still_used(graph, fake, monkeypatch, caplog):
    fake()
    synthesise(graph, PART)
    monkeypatch.setattr(engines, "installed", lambda: ())
    found = synthesise(graph, PART)
    assert found.kept and found.netlist.lut == 1
    assert "yosys 0.99" in caplog.text
    with pytest.raises(ToolNotFound, match=r"not installed[\s\S]*hgqc\[synth\]") as error:
        synthesise(graph, PART, clock_ns=7.0)
    assert error.value.exit_code == 3


def test_a_failure_shows_the_log_and_leaves_nothing(graph, fake, cache_folder):
    fake('print("ERROR: syntax error, unexpected EBOPs"); sys.exit(1)')
    with pytest.raises(ToolFailed, match=r"exit code 1[\s\S]*unexpected EBOPs"):
        synthesise(graph, PART)
    assert left_over(cache_folder) == [] and not list(cache_folder.glob("*/*.json"))


def test_a_time_limit(graph, fake, cache_folder):
    fake("import time; time.sleep(60)")
    with pytest.raises(ToolFailed, match=r"stopped after 0\.5 s"):
        synthesise(graph, PART, timeout_s=0.5)
    assert left_over(cache_folder) == []


def _hears_interrupts() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_killed_in_the_middle(graph, fake, cache_folder, tmp_path):
    """Ctrl-C in the command: exit code 130, the synthesiser dies too, nothing is left; what was kept before still is."""
    fake()
    synthesise(graph, PART, clock_ns=9.0)
    fake("import time; time.sleep(60)")
    model = file.save(graph, tmp_path / "m.hgq")
    command = [sys.executable, "-c", "from hgq.cli import main; main()", "estimate", str(model), "--part", PART, "--synth"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=_hears_interrupts)
    deadline = time.monotonic() + 60
    while not left_over(cache_folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert left_over(cache_folder) == []
    assert synthesise(graph, PART, clock_ns=9.0).kept


def test_a_cache_that_cannot_be_written_is_no_error(graph, fake, caplog, monkeypatch):
    fake()
    monkeypatch.setattr(kept_results, "write_file_atomically", _refuse)
    assert synthesise(graph, PART).netlist.lut == 1
    assert "not kept" in caplog.text


def _refuse(*arguments, **keywords):
    from hgq.errors import OutputError

    raise OutputError("no", received="disk full")


def test_only_families_with_a_router_are_routed(graph, fake):
    fake()
    with pytest.raises(ConfigError, match=r"no place and route[\s\S]*lfe5u-85f"):
        synthesise(graph, PART, route=True)


def test_vhdl_cannot_be_read(graph, fake):
    fake()
    with pytest.raises(ConfigError, match=r"Verilog only"):
        synthesise(graph, PART, options={"flavor": "vhdl"})


def test_layers_are_graphs_that_compute_the_same():
    """Run one after the other, the layers' graphs give what the whole gives."""
    from hgq.ir.interpret import run
    from tests.random_graphs import random_samples

    graph = random_graph(5, (6, 5, 4, 3))
    parts = layer_graphs(graph)
    values = dict(random_samples(graph, 100))
    expected = run(graph, values)
    for part in parts.values():
        values |= run(part, {port.name: values[port.name] for port in part.inputs})
    for name in graph.outputs:
        assert (values[name] == expected[name]).all()


@pytest.mark.slow
@pytest.mark.skipif("pyosys" not in [engine.name for engine in engines.installed()], reason="pyosys is not installed")
def test_yosys_itself_counts_the_same(graph, tmp_path):
    """Cells by type against Yosys' own `stat`; the longest path, in cells, lies between our depths."""
    engine = engines.require("pyosys")
    project = plugins.backend("rtl").emit(graph, Options(part=PART))
    sources = [path for path in project.files if path.endswith(".v") and not path.endswith("_wrapper.v")]
    for path in sources:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(project.data(path))
    files = " ".join(f"@{path}" for path in sources)
    script = f"read_verilog -sv -defer {files}\nsynth_xilinx -family xc7 -flatten -noiopad -top hgq_top\ntee -o @stat.json stat -json\n"
    engine.run(script, tmp_path, 600, tmp_path / "log")
    counted = json.loads((tmp_path / "stat.json").read_text())["design"]["num_cells_by_type"]
    found = synthesise(graph, PART, engine="pyosys", cache=kept_results.Cache(tmp_path / "cache"))
    assert found.netlist.cells == {kind: count for kind, count in counted.items() if not kind.startswith("$")}


@pytest.mark.slow
@pytest.mark.skipif("pyosys" not in [engine.name for engine in engines.installed()], reason="pyosys is not installed")
def test_place_and_route_reaches_a_clock(graph, tmp_path):
    found = synthesise(graph, "lfe5u-85f-6bg381c", route=True, cache=kept_results.Cache(tmp_path / "cache"))
    assert found.placed is not None and found.placed.fmax_mhz is not None
    assert 20 < found.placed.fmax_mhz < 600
    assert found.placed.cells["TRELLIS_FF"] == found.netlist.ff
