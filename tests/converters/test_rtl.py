"""The rtl backend against the golden model, which is tested on its own; alkaid, Verilator and GHDL are the independent sources."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hgq.converters.rtl import RTL
from hgq.converters.rtl import trace as trace_module
from hgq.converters.rtl.settings import SHORTEST_STAGE, settings_of

from hgq import tools
from hgq.backend import Options
from hgq.errors import ConfigError, LoweringError, ToolNotFound
from hgq.estimate import known_devices
from hgq.ir import interpret
from hgq.ir.build import GraphBuilder
from hgq.ir.graph import Graph
from hgq.numerics import Fixed
from tests.random_graphs import (
    CONVS,
    LOOKUPS,
    OVERFLOWS,
    POOLS,
    branched_graph,
    random_conv_graph,
    random_graph,
    random_lookup_graph,
    random_pool_graph,
    random_samples,
)

rtl = RTL()
needs_verilator = pytest.mark.skipif(not (tools.find("verilator") and tools.find("g++")), reason="Verilator or g++ is not installed")
needs_ghdl = pytest.mark.skipif(not tools.find("ghdl"), reason="GHDL is not installed")


def fuzz_graph(seed: int) -> Graph:
    """Sizes, sparsity and the last quantizer drawn too."""
    rng = np.random.default_rng(seed)
    sizes = tuple(int(size) for size in rng.integers(1, 8, rng.integers(2, 5)))
    return random_graph(seed, sizes, density=float(rng.choice([0.2, 0.6, 1.0])), quantized_output=bool(rng.random() < 0.5))


def assert_equal(graph: Graph, received: dict[str, np.ndarray], x: dict[str, np.ndarray]) -> None:
    golden = interpret.run(graph, x)
    assert list(received) == list(golden)
    for name, value in golden.items():
        assert received[name].dtype == np.float64
        np.testing.assert_array_equal(received[name], value, err_msg=f"{graph.name} {name}")


def product(kernel: list, bias: list | None, port: Fixed, *, f: int = 0, bias_f: int = 0, out: tuple | None = None) -> Graph:
    """``kernel`` times the input plus ``bias``, then quantized to ``out`` = (format, rounding, overflow)."""
    b = GraphBuilder("product")
    x = b.input("x", port, "TRN", "WRAP")
    x = b.op("matmul", x, b.constant(np.array(kernel), Fixed(0, 0, f), "kernel"))
    if bias is not None:
        x = b.op("add", x, b.constant(np.array(bias), Fixed(0, 0, bias_f), "bias"))
    if out is not None:
        x = b.quantize(x, *out)
    return b.graph(x)


def constant_graph() -> Graph:
    """The second layer reads nothing of the first."""
    return product([[0, 0], [0, 0]], [5, -3], Fixed(1, [2, 2], [1, 1]), bias_f=1)


# --- the adder graph ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", range(0, 100, 10))
def test_alkaids_simulation_equals_golden(first):
    for seed in range(first, first + 10):
        graph = fuzz_graph(seed)
        x = random_samples(graph, 1000, seed)
        assert_equal(graph, rtl.comb_predict(graph, x), x)


def test_several_inputs_and_outputs():
    graph = branched_graph()
    x = random_samples(graph, 500)
    received = rtl.comb_predict(graph, x)
    assert_equal(graph, received, x)
    assert [value.shape for value in received.values()] == [(500, 3), (500, 3)]


@pytest.mark.parametrize("case", CONVS)
def test_convolutions(case):
    for seed in range(3):
        graph = random_conv_graph(case, seed)
        x = random_samples(graph, 500, seed)
        assert_equal(graph, rtl.comb_predict(graph, x), x)


@pytest.mark.parametrize("case", POOLS)
def test_maxima(case):
    for seed in range(4):
        graph = random_pool_graph(case, seed)
        x = random_samples(graph, 500, seed)
        assert_equal(graph, rtl.comb_predict(graph, x), x)


@pytest.mark.parametrize("case", LOOKUPS)
def test_tables(case):
    for seed in range(8):
        graph = random_lookup_graph(case, seed)
        x = random_samples(graph, 500, seed)
        assert_equal(graph, rtl.comb_predict(graph, x), x)


def test_tables_behind_logic():
    """Differences, negations, maxima and wraps before the table: alkaid's variables with factors, offsets and bounds of their own."""
    rng = np.random.default_rng(3)
    for overflow in OVERFLOWS:
        b = GraphBuilder("behind")
        x = b.input("x", Fixed(1, [2, 3, 1], [1, 0, 2]), "RND", "WRAP")
        y = b.op("subtract", b.op("take", x, axis=0, indices=(1, 2, 0)), x)
        y = b.op("multiply", y, b.constant(np.array([-3, 1, -1]), Fixed(1, 3, 1), "c"))
        fixed = Fixed([1, 1, 0], [2, 3, 3], [1, 2, 1])
        y = b.quantize(y, fixed, "RND", overflow, "q")
        first = b.lookup(y, rng.integers(-30, 30, (3, 64)), Fixed(1, 5, 2), fixed, "first")
        less = b.op("minimum", b.op("relu", b.op("multiply", y, b.constant(np.array([-1]), Fixed(1, 1, 0), "minus"))), x)
        wide = Fixed(1, [3, 3, 4], [1, 2, 2])
        second = b.lookup(less, rng.integers(0, 30, 128), Fixed(0, 5, 0), wide, "second")
        graph = b.graph(first, second)
        data = random_samples(graph, 2000)
        assert_equal(graph, rtl.comb_predict(graph, data), data)


def test_a_table_with_entries_too_wide_is_refused():
    b = GraphBuilder("wide")
    x = b.input("x", Fixed(1, [2], [1]), "RND", "SAT")
    graph = b.graph(b.lookup(x, np.array([1, 2**30, *[0] * 14]), Fixed(0, 31, 0), Fixed(1, [2], [1])))
    with pytest.raises(LoweringError, match="entries of a table are too wide"):
        rtl.comb_predict(graph, np.zeros((1, 1)))


def test_rows_that_are_constant_and_rows_that_are_not():
    """A window that sees padding only, and one whose living elements meet weights of 0."""
    b = GraphBuilder("rows")
    x = b.input("x", Fixed(1, [[2], [0], [2]], [[1], [0], [1]]), "RND", "SAT")
    kernel = b.constant(np.array([[[3, 0]], [[0, 5]]]), Fixed(1, 4, 0), "kernel")
    graph = b.graph(b.op("conv", x, kernel, strides=(1,), dilation=(1,), padding=((3, 2),), groups=1))
    data = random_samples(graph, 100)
    assert_equal(graph, rtl.comb_predict(graph, data), data)


def test_no_samples():
    graph = random_graph(0, (4, 3))
    assert rtl.comb_predict(graph, np.zeros((0, 4)))["dense_0/add"].shape == (0, 3)


def test_wrap_that_reads_the_lowest_bit():
    """alkaid's own ``optimize`` gets this graph wrong, which is why it is not used."""
    graph = random_graph(0, (6, 6, 6, 3))
    x = random_samples(graph, 2000)
    assert_equal(graph, rtl.comb_predict(graph, x), x)


@pytest.mark.parametrize("overflow", OVERFLOWS)
def test_ties_of_odd_numbers(overflow):
    """2 x + 1 in eighths, rounded half to even to quarters: every number is a tie, and 1/8 more lies on a coarser grid."""
    graph = product([[2]], [1], Fixed(1, [4], [0]), f=3, bias_f=3, out=(Fixed(0, [1], [2]), "RND_CONV", overflow))
    x = {"x": np.arange(-16.0, 16.0)[:, None]}
    assert_equal(graph, rtl.comb_predict(graph, x), x)


@pytest.mark.parametrize("rounding", ["TRN", "RND", "RND_CONV"])
@pytest.mark.parametrize("overflow", OVERFLOWS)
@pytest.mark.parametrize("k", [0, 1])
def test_constants_among_the_elements(rounding, overflow, k):
    """Half of the neurons are their biases; quantizing them wraps, saturates and rounds."""
    bias = [0, 27, 0, -27, 0, 45]
    graph = product([[1, 0, 3, 0, -1, 0]], bias, Fixed(1, [3], [1]), bias_f=3, out=(Fixed(k, [1] * 6, [1] * 6), rounding, overflow))
    x = {"x": np.arange(-8.0, 8.0, 0.5)[:, None]}
    assert_equal(graph, rtl.comb_predict(graph, x), x)


def test_weights_of_very_different_magnitude_are_exact():
    """Together they span 60 bits; none of them has more than 24."""
    kernel = [[2**50 + 2**30, 3, 2**24 - 1], [-(2**33), 2**30 + 2**10, -1]]
    graph = product(kernel, None, Fixed(1, [3, 3], [0, 0]), f=20)
    x = {"x": np.random.default_rng(0).integers(-8, 8, (200, 2)).astype(float)}
    assert_equal(graph, rtl.comb_predict(graph, x), x)


@pytest.mark.parametrize(("kernel", "bias", "node", "limit", "bits"), [(1, 2**40 + 1, "add", 31, 41), (2**24 + 1, 1, "matmul", 24, 25)])
def test_a_constant_that_is_too_wide_is_refused(kernel, bias, node, limit, bits):
    graph = product([[kernel]], [bias], Fixed(1, [3], [0]))
    message = rf"(?s)^A constant is too wide.*node {node} .*at most {limit} significant bits\n  Received: {bits} bits"
    with pytest.raises(LoweringError, match=message):
        rtl.trace(graph)


def test_a_wrong_lowering_does_not_get_out(monkeypatch):
    """Whatever alkaid returns is compared with the golden model before anything is written."""
    monkeypatch.setattr(trace_module, "_cache", type(trace_module._cache)())
    real = trace_module.predict
    monkeypatch.setattr(trace_module, "predict", lambda *args: {name: value + 1 for name, value in real(*args).items()})
    with pytest.raises(LoweringError, match=r"(?s)does not compute what the golden model computes.*64 of 64 samples differ"):
        rtl.emit(random_graph(0, (4, 3)), Options())


# --- the project --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavor", ["verilog", "vhdl"])
def test_project(flavor, tmp_path):
    graph = branched_graph()
    project = rtl.emit(graph, Options(part="xc7a100tcsg324-1", clock_ns=10, name="trigger", extra={"flavor": flavor}))
    suffix = {"verilog": "v", "vhdl": "vhd"}[flavor]
    top = project.files[f"src/trigger.{suffix}"]
    assert {"README.md", "ports.json", "build.tcl", "sim/stimuli.hex", "sim/expected.hex", f"src/trigger_wrapper.{suffix}"} <= set(
        project.files
    )
    assert "left/matmul  matmul" in top and graph.digest() in top
    assert not [path for path in project.files if re.search(r"(^|/)logic\d", path)]  # two models in one design must not share names
    assert "xc7a100tcsg324-1" in project.files["build.tcl"]
    assert "set clock_period 10" in project.files["src/trigger.xdc"]
    folder = project.write(tmp_path / "out")
    assert (folder / f"src/trigger.{suffix}").read_text() == top
    text = "".join(content for content in project.files.values() if isinstance(content, str))
    assert "/tmp" not in text


def test_golden_vectors_can_be_read_with_ports_json_alone():
    """Decoded here bit by bit with Python integers, not with the backend's own functions."""
    graph = branched_graph(1)
    project = rtl.emit(graph, Options())
    ports = json.loads(project.files["ports.json"])

    def decode(side, lines):
        for value in ports[side]["values"]:
            numbers = []
            for line in lines:
                word = int(line, 16)
                assert word < 1 << ports[side]["width"]
                row = []
                for lsb, width, k, f in zip(value["lsb"], value["width"], value["k"], value["f"], strict=True):
                    raw = 0 if lsb is None else word >> lsb & (1 << width) - 1
                    row.append((raw - (1 << width) if k and raw >> (width - 1) else raw) / 2**f)
                numbers.append(row)
            yield value["name"], np.array(numbers).reshape(-1, *value["shape"])

    x = dict(decode("inputs", project.files["sim/stimuli.hex"].split()))
    y = dict(decode("outputs", project.files["sim/expected.hex"].split()))
    assert len(x["image"]) == 256
    assert_equal(graph, y, x)
    vector = next(value for value in ports["inputs"]["values"] if value["name"] == "vector")
    assert vector["width"][1] == 0 and vector["lsb"][1] is None  # nothing reads it
    assert (vector["rounding"], vector["overflow"]) == ("TRN", "WRAP")


def test_the_same_bytes_every_time(monkeypatch, tmp_path):
    options = Options(extra={"ternary_fuse": "true"})
    graph = random_graph(3, (12, 10, 5))
    first = rtl.emit(graph, options)
    monkeypatch.setattr(trace_module, "_cache", type(trace_module._cache)())
    assert rtl.emit(graph, options).diff(first) == []
    code = (
        "from hgq.backend import Options\nfrom hgq.converters.rtl import RTL\nfrom tests.random_graphs import random_graph\n"
        "print(RTL().emit(random_graph(3, (12, 10, 5)), Options(extra={'ternary_fuse': 'true'})).digest())\n"
        "import sys; print(*[name for name in ('keras', 'tensorflow', 'torch') if name in sys.modules])"
    )
    env = {
        "PYTHONHASHSEED": "77",
        "PYTHONPATH": str(next(path for path in sys.path if (shutil.os.path.isfile(f"{path}/tests/random_graphs.py")))),
    }
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**shutil.os.environ, **env}, check=True)
    digest, loaded = done.stdout.split("\n")[:2]
    assert digest == first.digest()
    assert loaded == ""  # neither Keras nor TensorFlow


def test_no_hardware_to_write():
    graph = constant_graph()
    x = {"x": np.ones((3, 2))}
    assert_equal(graph, rtl.comb_predict(graph, x), x)
    assert rtl.summary(graph, Options())["lut_cost"] == 0
    with pytest.raises(LoweringError, match=r"(?s)^No output of this model depends on its inputs.*always 2\.5, -1\.5\n  Fix: "):
        rtl.emit(graph, Options())


def test_zero_width_input_and_zero_outputs():
    """An input without any bit; and outputs that are all the constant 0."""
    for kernel, width in ([[3]], 0), ([[0]], 2):
        with pytest.raises(LoweringError, match="No output of this model depends on its inputs"):
            rtl.emit(product(kernel, None, Fixed(0, [width], [0])), Options())


# --- options ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"flavour": "vhdl"}, r"no such option.*board, flavor, latency_cutoff, stages, template, ternary_fuse.*Did you mean 'flavor'\?"),
        ({"flavor": "chisel"}, r"'flavor'.*no such value.*Expected: verilog or vhdl.*'chisel'"),
        ({"latency_cutoff": "0.2"}, r"'latency_cutoff'.*a number from 1 to 1000.*'0\.2'"),
        ({"latency_cutoff": "nan"}, r"a number from 1 to 1000.*'nan'"),
        ({"stages": "2.5"}, r"'stages'.*a whole number from 0 to 1000.*'2\.5'"),
        ({"stages": "-1"}, r"a whole number from 0 to 1000"),
        ({"stages": "2", "latency_cutoff": "3"}, r"Two options say how to cut the pipeline.*one of them"),
        ({"ternary_fuse": "maybe"}, r"Expected: true or false"),
    ],
)
def test_bad_options(extra, message):
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        rtl.emit(random_graph(0, (4, 3)), Options(extra=extra))


def test_unknown_part():
    with pytest.raises(ConfigError, match=r"(?s)This part is not known.*one of .*xcvu13p"):
        rtl.emit(random_graph(0, (4, 3)), Options(part="xcvu99p-flga2577-2-e"))


def test_options_are_explained():
    assert set(rtl.options()) == {"flavor", "latency_cutoff", "stages", "ternary_fuse", "template", "board"}
    assert all("default" in text or "instead of" in text for text in rtl.options().values())


def test_default_pipeline_follows_clock_and_part():
    """The period model of `hgq estimate`, inverted: a stage of the default length is expected to meet the clock."""
    for device in known_devices():
        cutoffs = [settings_of(Options(part=device.part, clock_ns=clock)).latency_cutoff for clock in (1, 2.5, 5, 10, 20)]
        assert cutoffs == sorted(cutoffs) and cutoffs[0] >= SHORTEST_STAGE
        family = device.family
        period = device.period_factor * (family.period_base_ns + family.period_per_unit_ns * cutoffs[-1])
        assert period == pytest.approx(20, abs=0.02)


@pytest.mark.parametrize(
    ("extra", "stages"), [({"stages": "0"}, 1), ({"stages": "1"}, 1), ({"stages": "4"}, 4), ({"latency_cutoff": "1000"}, 1)]
)
def test_stages(extra, stages):
    pipeline = rtl.pipeline(random_graph(1, (8, 8, 4)), Options(extra=extra))
    assert pipeline.stages == stages
    assert pipeline.clocked == (extra != {"stages": "0"})
    assert pipeline.latency_cycles == (stages + 1 if pipeline.clocked else 0)


@pytest.mark.parametrize("cutoff", [1, 1.5, 2, 4, 7.5])
def test_no_stage_is_longer_than_the_cutoff(cutoff):
    """Unless it is a single operation; the bound on the number of stages is the depth over what is left of each after one operation."""
    for seed in range(4):
        pipeline = rtl.pipeline(random_graph(seed, (12, 10, 6)), Options(extra={"latency_cutoff": str(cutoff)}))
        depth, longest = pipeline.comb.latency[1], 1.3  # of a single operation of these graphs
        assert max(pipeline.stage_delays) <= max(cutoff, longest)
        assert pipeline.stages <= np.ceil(depth / max(cutoff - longest, 0.5))


def test_more_stages_than_work():
    pipeline = rtl.pipeline(random_graph(1, (4, 3)), Options(extra={"stages": "30"}))
    assert pipeline.stages == 30
    assert pipeline.latency_cycles == 31


# --- cost ---------------------------------------------------------------------------------------------------------------------------------


def test_summary():
    graph = random_graph(2, (16, 12, 8, 5))
    summary = rtl.summary(graph, Options(clock_ns=2))
    assert summary == rtl.resources(graph, Options(clock_ns=2))
    assert summary["lut_cost"] == pytest.approx(rtl.trace(graph).cost)
    assert sum(row["lut_cost"] for row in summary["per_node"]) == pytest.approx(summary["lut_cost"])
    assert {row["source"] for row in summary["per_node"]} == {"dense_0", "dense_1", "dense_2"}
    assert summary["latency_cycles"] == summary["stages"] + 1 == rtl.latency_cycles(graph, Options(clock_ns=2))
    assert 0 < summary["stage_delay"] <= summary["max_delay"]
    assert summary["reg_bits"] > rtl.summary(graph, Options(extra={"stages": "1"}))["reg_bits"]


def test_cost_of_one_addition():
    """x + y of two unsigned 4-bit numbers: four full adders, by hand."""
    graph = product([[1], [1]], None, Fixed(0, [4, 4], [0, 0]))
    summary = rtl.summary(graph, Options(extra={"stages": "1"}))
    assert summary["lut_cost"] == 4
    assert summary["reg_bits"] == 8 + 5  # inputs and the sum
    assert summary["latency_cycles"] == 2


# --- real simulators ----------------------------------------------------------------------------------------------------------------------


def simulated(graph: Graph, options: Options, folder, samples: int = 2000, **kwargs) -> dict:
    x = random_samples(graph, samples, 1)
    assert_equal(graph, rtl.simulate(graph, options, x, folder, **kwargs), x)
    (report,) = folder.glob("*/simulation.json")
    return json.loads(report.read_text())


@needs_verilator
def test_verilator(tmp_path):
    graph = branched_graph(2)
    report = simulated(graph, Options(clock_ns=2), tmp_path)
    assert report["samples"] == 2000
    assert report["observed_latency_cycles"] == report["latency_cycles"] == rtl.latency_cycles(graph, Options(clock_ns=2)) > 2
    (binary,) = tmp_path.glob("*/build/testbench")
    built = binary.stat().st_mtime_ns
    simulated(graph, Options(clock_ns=2), tmp_path, samples=1)  # does not compile again
    assert binary.stat().st_mtime_ns == built
    assert rtl.simulate(graph, Options(clock_ns=2), random_samples(graph, 0), tmp_path)["right/q"].shape == (0, 3)


@needs_verilator
def test_verilator_on_a_convolution(tmp_path):
    simulated(random_conv_graph("2d_all", 1), Options(clock_ns=2), tmp_path)


@needs_verilator
def test_verilator_combinational(tmp_path):
    report = simulated(random_graph(4, (8, 6, 3)), Options(extra={"stages": "0"}), tmp_path)
    assert report["latency_cycles"] == 0


@needs_verilator
@pytest.mark.slow
@pytest.mark.parametrize("seed", (1, 2, 3, 4, 5, 6, 7, 9, 10, 13))
def test_verilator_on_random_graphs(seed, tmp_path):
    graph = fuzz_graph(seed)
    extra = {"ternary_fuse": "true" if seed % 2 else "false", "latency_cutoff": str([1, 1.5, 3, 8, 100][seed % 5])}
    simulated(graph, Options(extra=extra), tmp_path, 3000)


@needs_verilator
@pytest.mark.slow
@pytest.mark.parametrize("case", ["shared", "element"])
def test_verilator_on_tables(case, tmp_path):
    simulated(random_lookup_graph(case, 6), Options(extra={"latency_cutoff": "2"}), tmp_path, 1000)


@needs_ghdl
@pytest.mark.parametrize("case", ["shared", "channel"])
def test_ghdl_on_tables(case, tmp_path):
    simulated(random_lookup_graph(case, 2), Options(extra={"flavor": "vhdl"}), tmp_path, 200)


@needs_verilator
@pytest.mark.slow
def test_makefile_of_the_project(tmp_path):
    verilator = tools.require("verilator")
    folder = rtl.emit(random_graph(6, (6, 5, 3)), Options()).write(tmp_path / "project")
    done = tools.run([tools.require("make"), "-C", folder / "sim", "check"], env=verilator.env)
    assert "256 golden vectors: no bit differs" in done.output
    expected = folder / "sim" / "expected.hex"
    expected.write_text(expected.read_text().replace("0", "1", 1))
    assert tools.run([tools.require("make"), "-C", folder / "sim", "check"], env=verilator.env, check=False).returncode != 0


@needs_ghdl
@pytest.mark.parametrize("extra", [{}, {"stages": "0"}, {"latency_cutoff": "1", "ternary_fuse": "true"}])
def test_ghdl(extra, tmp_path):
    simulated(branched_graph(3), Options(extra={"flavor": "vhdl", **extra}), tmp_path, 300)


def test_simulator_of_the_other_language(tmp_path):
    graph = random_graph(0, (4, 3))
    with pytest.raises(ConfigError, match=r"(?s)does not read vhdl.*verilator for verilog or ghdl for vhdl.*flavor=verilog"):
        rtl.simulate(graph, Options(extra={"flavor": "vhdl"}), np.zeros((1, 4)), tmp_path, simulator="verilator")
    with pytest.raises(ConfigError, match=r"Received: 'questa'"):
        rtl.simulate(graph, Options(), np.zeros((1, 4)), tmp_path, simulator="questa")


@pytest.mark.parametrize(("flavor", "tool"), [("verilog", "verilator"), ("vhdl", "ghdl")])
def test_missing_simulator(flavor, tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tools, "find", lambda name: None)
    with pytest.raises(ToolNotFound, match=f"(?s)The program '{tool}' is not installed.*Fix: "):
        rtl.simulate(random_graph(0, (4, 3)), Options(extra={"flavor": flavor}), np.zeros((1, 4)), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_check_tools():
    assert [status.name for status in rtl.check_tools()] == ["verilator", "g++", "ghdl"]
