"""hls4ml's other back ends: what each is written for, what it refuses, and its C simulation against the golden model."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("hls4ml")

from hgq.converters.hls4ml import HLS4ML
from hgq.converters.hls4ml.dialect import DIALECTS
from hgq.converters.hls4ml.simulate import simulate
from hgq.converters.hls4ml.vendors import VENDORS

from hgq.backend import Options
from hgq.errors import ConfigError, LoweringError, ToolFailed
from hgq.ir import interpret
from hgq.ir.build import GraphBuilder
from hgq.ir.graph import Graph
from hgq.numerics import Fixed
from tests.converters.test_hls4ml import needs_compiler, workdir  # noqa: F401

SIMULATED = [
    (name, io_type, strategy)
    for name, vendor in VENDORS.items()
    for io_type, strategies in vendor.strategies.items()
    for strategy in strategies
]


def options(vendor: str, name: str = "dut", **extra: str) -> Options:
    return Options(part=VENDORS[vendor].part, name=name, extra={"backend": vendor, **extra})


def mlp() -> Graph:
    """Two products with everything around them that differs between compilers: mixed formats, empty elements, i < 0, f < 0, a table."""
    rng = np.random.default_rng(0)
    b = GraphBuilder("mlp")
    x = b.input("x", Fixed(1, rng.integers(-2, 3, 8), rng.integers(1, 5, 8)), "RND", "SAT")
    with b.layer("block/first"):
        y = b.op("matmul", x, b.constant(rng.integers(-7, 8, (8, 6)), Fixed(1, 4, 3), "kernel"))
        y = b.op("relu", b.op("add", y, b.constant(rng.integers(-7, 8, 6), Fixed(1, 4, 2), "bias")))
    i, f = np.array([-1, 0, 2, 4, 3, 1]), np.array([4, 3, 1, -2, -3, 2])  # the fifth has no bits
    y = b.quantize(y, Fixed(0, i, f), "RND_CONV", "SAT")
    with b.layer("head"):
        z = b.op("matmul", y, b.constant(rng.integers(-7, 8, (6, 4)), Fixed(1, 4, 3), "kernel"))
    z = b.quantize(z, Fixed(1, np.full(4, 2), 2), "RND", "SAT_SYM")
    table = np.round(np.sin(np.arange(32)) * 100).astype(np.int64)
    looked = b.op("lookup", z, b.constant(table, Fixed(1, 3, 5), "table"), format=Fixed(1, np.full(4, 2), 2))
    return b.graph(looked)


def image(padding: int = 0) -> Graph:
    """A convolution, pooling and a dense layer, with one width per channel: what a stream takes."""
    rng = np.random.default_rng(1)
    b = GraphBuilder("image")
    x = b.input("x", Fixed(*(np.broadcast_to(part, (6, 6, 2)) for part in ([1, 0], [2, 1], [1, 3]))), "RND", "SAT")
    with b.layer("conv"):
        kernel = b.constant(rng.integers(-3, 4, (3, 3, 2, 3)), Fixed(1, 3, 2), "kernel")
        y = b.op("conv", x, kernel, strides=(1, 1), padding=((padding, padding),) * 2, dilation=(1, 1), groups=1)
        y = b.op("relu", b.op("add", y, b.constant(np.array([1, -2, 3]), Fixed(1, 3, 1), "bias")))
    y = b.quantize(y, Fixed(0, np.broadcast_to([3, 2, 4], y.shape), np.broadcast_to([1, 2, 0], y.shape)), "RND", "SAT")
    y = b.op("max_pool", y, pool=(2, 2), strides=(2, 2), padding=((0, 0),) * 2)
    y = b.op("reshape", y, shape=(int(np.prod(y.shape)),))
    with b.layer("head"):
        y = b.op("matmul", y, b.constant(rng.integers(-3, 4, (y.shape[-1], 3)), Fixed(1, 3, 2), "kernel"))
    return b.graph(y)


def bordered() -> Graph:
    """The same with padding: next to it, passes narrow single pixels, which no stream takes."""
    return image(1)


def mismatches(graph: Graph, chosen: Options, folder, samples: int = 1000) -> int:
    port = graph.inputs[0]
    x = np.random.default_rng(2).normal(size=(samples, *port.shape)) * 3
    got, want = HLS4ML().simulate(graph, chosen, x, folder), interpret.run(graph, x)
    (name,) = want
    assert np.unique(want[name]).size > 8, "a constant output tests nothing"
    return int((got[name] != want[name]).reshape(samples, -1).any(axis=1).sum())


@needs_compiler
def test_csim_quick_slice(workdir, monkeypatch):  # noqa: F811
    """One compiler with the other library of numbers; then again from the cache, with no compiler left."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(workdir / "cache"))
    assert mismatches(mlp(), options("Quartus"), workdir / "first") == 0
    monkeypatch.setattr("hgq.converters.hls4ml.simulate._compile", None)
    assert mismatches(mlp(), options("Quartus"), workdir / "second", 50) == 0


@needs_compiler
def test_sycl_runs_without_intels_compiler(workdir):  # noqa: F811
    """Layers that pass packets through pipes; one that is read and never written is an error, not a wrong number."""
    graph, chosen = mlp(), options("oneAPI", io_type="io_stream")
    assert mismatches(graph, chosen, workdir) == 0
    project = HLS4ML().emit(graph, chosen)
    top = str(project.files["src/firmware/dut.cpp"])
    broken = replace(project, files={**project.files, "src/firmware/dut.cpp": top.replace("    n3_quantize.async();\n", "")})
    with pytest.raises(ToolFailed, match="a pipe is read before it is written"):
        simulate(broken, graph, np.zeros((1, 8)), workdir / "broken", None)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(("vendor", "io_type", "strategy"), SIMULATED)
@pytest.mark.parametrize("graph", [mlp, image, bordered])
def test_csim(graph, vendor, io_type, strategy, workdir):  # noqa: F811
    if graph is bordered and io_type == "io_stream":
        pytest.skip("see there")
    extra = {"reuse_factor": "2"} if strategy.startswith("resource") else {}
    assert mismatches(graph(), options(vendor, io_type=io_type, strategy=strategy, **extra), workdir) == 0


@needs_compiler
@pytest.mark.slow
def test_csim_with_a_strategy_for_each_layer(workdir):  # noqa: F811
    extra = {"strategy:block/*": "distributed_arithmetic", "strategy:head": "resource", "reuse_factor:head": "4"}
    assert mismatches(mlp(), options("Vitis", **extra), workdir) == 0


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_project_is_whole_and_repeats(vendor, tmp_path):
    for io_type in ("io_parallel", "io_stream"):
        first, again = (HLS4ML().emit(mlp(), options(vendor, io_type=io_type)) for _ in range(2))
        assert first.digest() == again.digest()
        first.archive(tmp_path / "1.zip", force=True)
        again.archive(tmp_path / "2.zip", force=True)
        assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
        row = VENDORS[vendor]
        top = str(first.files[f"{row.folder}/dut.cpp"])
        text = "".join(str(content) for path, content in first.files.items() if path.endswith("nnet_code_gen.h") or "hgq_functions" in path)
        for call in re.findall(r"\b(n\d+_\w*quantize\w*|n\d+_lookup)\b", top):
            assert f"void {call}" in text or "lookup" in call, f"{vendor} {io_type}: {call} is called and nowhere written"
        assert re.search(r"n\d+_quantize", top), f"{vendor} {io_type}: a quantizer was dropped"
        assert "/tmp" not in "".join(content for content in first.files.values() if isinstance(content, str))
        assert f"hls4ml's back end {vendor}" in str(first.files["README.md"])


def test_a_reuse_factor_for_each_layer():
    project = HLS4ML().emit(mlp(), options("Vitis", strategy="resource", **{"reuse_factor:block/*": "8", "reuse_factor:head": "3"}))
    rows = re.findall(r"\| `n\d+_\w+` \| (\S+) \| (\w+) \| (\d+) \| (\d+) \|", str(project.files["README.md"]))
    assert ("block/first", "resource", "8", "8") in rows
    ((_, _, got, asked),) = [row for row in rows if row[0] == "head"]
    assert asked == "3"
    assert got in ("1", "5"), "5 inputs, 4 outputs: hls4ml takes the nearest of 1, 5, 10, 20, and the README says so"
    assert re.search(r"reuse_factor = 8;", str(project.files["firmware/parameters.h"]))


@pytest.mark.parametrize(
    ("vendor", "extra", "text"),
    [
        ("Vitis", {"reuse_factor:haed": "2"}, r"No layer with products has this path(.*\n)+.*block/first, head"),
        ("Vitis", {"strategy": "distributed_arithmetic", "reuse_factor:head": "2"}, r"no multipliers that could be reused.*\n.*layer head"),
        ("Quartus", {"strategy": "latency"}, r"resource, for Quartus and io_parallel(.*\n)+.*Vitis \(io_parallel\)"),
        ("oneAPI", {"namespace": "mine"}, "projects have no namespaces"),
        ("Vitis", {"board": "pynq-z2"}, "Only hls4ml's accelerator projects are for a board"),
        ("VivadoAccelerator", {"board": "toaster"}, r"no such board(.*\n)+.*pynq-z2"),
        ("VivadoAccelerator", {"board": "zcu102"}, r"not the part on the board(.*\n)+.*--part xczu9eg"),
    ],
)
def test_refusals(vendor, extra, text):
    with pytest.raises(ConfigError, match=text):
        HLS4ML().emit(mlp(), options(vendor, **extra))


def test_parts_belong_to_their_compilers():
    with pytest.raises(ConfigError, match=r"has no such part(.*\n)+.*--part Arria10"):
        HLS4ML().emit(mlp(), Options(extra={"backend": "Quartus"}))
    with pytest.raises(ConfigError, match=r"AMD Vitis HLS has no such part"):
        HLS4ML().emit(mlp(), Options(part="lfe5u-85f-6bg381c"))


def test_sign_magnitude_wrap_is_amds_alone():
    b = GraphBuilder("m")
    x = b.input("x", Fixed(1, 5, np.full(2, 3)), "RND", "WRAP")
    graph = b.graph(b.quantize(x, Fixed(1, 2, np.full(2, 2)), "TRN", "WRAP_SM"))
    HLS4ML().emit(graph, options("Vitis"))
    with pytest.raises(LoweringError, match="ac_fixed has no such overflow"):
        HLS4ML().emit(graph, options("Catapult"))


def test_spellings():
    assert DIALECTS["ap"].type("ufixed<8,3>") == "ap_ufixed<8,3>"
    assert DIALECTS["catapult"].type("ufixed<8,3>") == "ac_fixed<8,3,false>"
    assert DIALECTS["quartus"].cast(1, 3, 8, "RND_CONV", "SAT_SYM", "x") == "ac_fixed<8, 3, true, AC_RND_CONV, AC_SAT_SYM>(x)"


@pytest.mark.slow
@pytest.mark.parametrize(("vendor", "asks"), [("Vivado", 'Make sure "vivado_hls" is on PATH'), ("Quartus", "")])
def test_hls4mls_own_command_opens_the_project(vendor, asks, tmp_path):
    """It reads the configuration, enters the folder, and then misses only the compiler (Quartus: without a word)."""
    program = shutil.which("hls4ml")
    assert program is not None
    HLS4ML().emit(mlp(), options(vendor)).write(tmp_path / "project")
    done = subprocess.run([program, "build", "-p", "."], cwd=tmp_path / "project", capture_output=True, text=True, timeout=120, check=False)
    text = done.stdout + done.stderr
    assert "Loading configuration from ./hls4ml_config.yml" in text
    assert "Traceback" not in text, text
    assert asks in text


def test_what_hls4ml_calls_unrolled_it_also_writes():
    """Its head has reuse factors 1, 5, 10 and 20 only: the nearest to 2 is 1, which hls4ml would call and not write."""
    project = HLS4ML().emit(mlp(), options("Vitis", strategy="resource_unrolled", reuse_factor="2"))
    called = set(re.findall(r"dense_resource_unrolled_\d+", str(project.files["firmware/parameters.h"])))
    written = set(re.findall(r"class (dense_resource_unrolled_\d+)", str(project.files["firmware/nnet_utils/nnet_code_gen.h"])))
    assert len(called) == 1
    assert called == written
    assert re.search(r"\| head \| resource \| 1 \| 2 \|", str(project.files["README.md"]))
