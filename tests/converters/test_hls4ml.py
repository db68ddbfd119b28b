"""The hls4ml backend: lowering, refusals, determinism; and its g++ C simulation against the golden model, bit for bit."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("hls4ml")

from hgq.converters.hls4ml import HLS4ML
from hgq.converters.hls4ml.lower import RULES, lower
from hgq.converters.hls4ml.settings import Settings
from hgq.converters.hls4ml.types import type_name

from hgq.backend import Backend, Options
from hgq.errors import ConfigError, LoweringError, ToolNotFound
from hgq.ir import interpret
from hgq.ir.build import GraphBuilder
from hgq.ir.graph import Graph
from hgq.ir.ops import OPS
from hgq.numerics import Fixed
from tests.random_graphs import CONVS, random_conv_graph, random_graph, random_samples

TEXTBOOK = ("WRAP", "SAT", "SAT_SYM")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("csim")


def assert_exact(graph: Graph, workdir, samples: int = 1500, constant: bool = False, **extra: str) -> None:
    """C simulation ≡ golden model: zero tolerance, on random samples and on both ends of every port."""
    data = {}
    for port in graph.inputs:
        ends = [port.format.value(m) for m in (port.format.low, port.format.high, np.zeros_like(port.format.low))]
        data[port.name] = np.concatenate([np.stack(ends), random_samples(graph, samples)[port.name]])
    got = HLS4ML().simulate(graph, Options(name="dut", extra=extra), data, workdir)
    want = interpret.run(graph, data)
    assert set(got) == set(want)
    for name in want:
        np.testing.assert_array_equal(got[name], want[name], err_msg=name)
        assert constant or np.unique(want[name]).size > 1, f"{name} is constant: this tests nothing"


def kinds(graph: Graph, **settings) -> list[str]:
    return [layer["class_name"] for layer in lower(graph, Settings(**settings)).layers]


def dense(b: GraphBuilder, x, outputs: int, seed: int = 0, bias: bool = True):
    rng = np.random.default_rng(seed)
    x = b.op("matmul", x, b.constant(rng.integers(-7, 8, (x.shape[-1], outputs)), Fixed(1, 4, 3), "kernel"))
    return b.op("add", x, b.constant(rng.integers(-7, 8, outputs), Fixed(1, 4, 2), "bias")) if bias else x


def zoo() -> Graph:
    """One graph with everything that is not a plain chain of dense layers."""
    b = GraphBuilder("zoo")
    rng = np.random.default_rng(3)
    x = b.input("x", Fixed(1, rng.integers(-2, 4, (4, 3)), rng.integers(-1, 5, (4, 3))), "RND", "WRAP")
    y = b.input("int", Fixed(1, 3, np.full(20, 2)), "TRN", "SAT")  # a keyword of C++
    with b.layer("block/first"):
        h = dense(b, x, 5)  # rank 3 with the batch
        h = b.op("relu", h)
        h = b.quantize(h, Fixed(0, rng.integers(-1, 3, h.shape), rng.integers(-1, 4, h.shape)), "RND_CONV", "SAT_SYM")
    with b.layer("block/second"):
        flat = b.op("reshape", h, shape=(20,))
        both = b.op("add", flat, y)
        twice = b.op("add", both, both)
        small = b.quantize(twice, Fixed(1, rng.integers(1, 4, 20), rng.integers(-2, 2, 20)), "TRN", "WRAP_SM")
        scaled = b.op("multiply", small, b.constant(rng.integers(-5, 6, 20), Fixed(1, 3, 2), "scale"))
        scaled = b.op("add", scaled, b.constant(rng.integers(-9, 9, 20), Fixed(1, 3, 3), "shift"))
    with b.layer("head"):
        last = dense(b, scaled, 3, bias=False)
        shifted = b.op("add", last, b.constant(np.array([3]), Fixed(1, 3, 3), "alone"))
        again = b.quantize(b.quantize(shifted, Fixed(1, 5, 2), "RND", "SAT", "q1"), Fixed(1, 3, 1), "TRN", "WRAP", "q2")
    shaped = b.op("reshape", small, shape=(2, 10))
    return b.graph(last, again, shaped, flat, h, x, y)


def merges() -> Graph:
    """Every merge of two values, along every axis, on tensors of differing types."""
    b = GraphBuilder("merges")
    rng = np.random.default_rng(4)
    outputs = []
    for shape in ((5,), (2, 3), (2, 3, 2)):
        formats = [Fixed(rng.integers(0, 2, shape), rng.integers(-1, 4, shape), rng.integers(-1, 5, shape)) for _ in range(2)]
        x = b.input(f"x{len(shape)}", formats[0], "RND", "SAT")
        y = b.input(f"y{len(shape)}", formats[1], "TRN", "WRAP")
        outputs += [b.op(op, x, y) for op in ("add", "subtract", "maximum", "minimum", "product")]
        outputs += [b.op("concatenate", x, y, axis=axis) for axis in range(len(shape))]
        outputs.append(b.op("maximum", outputs[-1], b.op("subtract", outputs[-1], outputs[-1])))
    return b.graph(*outputs)


def activations() -> Graph:
    """Clips and leaky ReLUs of mixed widths, in and out of range."""
    b = GraphBuilder("activations")
    x = b.input("x", Fixed(1, [3, 1, -2, 5], [2, 3, 4, -1]), "RND", "SAT")
    y = b.input("y", Fixed(np.zeros((2, 3), int), 4, 1), "RND", "SAT")
    clips = [b.op("clip", value, low=low, high=high) for value in (x, y) for low, high in ((0.0, 6.0), (-1.0, 1.0), (0.5, 2.75))]
    return b.graph(*clips, *(b.op("leaky_relu", value, slope=slope) for value in (x, y) for slope in (0.125, 205 / 1024)))


def movements() -> Graph:
    """Transpositions, paddings, crops and repetitions of tensors of mixed widths."""
    b = GraphBuilder("movements")
    rng = np.random.default_rng(5)
    outputs = []
    for shape in ((5,), (3, 4), (2, 3, 4)):
        x = b.input(f"x{len(shape)}", Fixed(1, rng.integers(-1, 4, shape), rng.integers(-1, 5, shape)), "RND", "SAT")
        rank = len(shape)
        outputs += [
            b.op("transpose", x, axes=axes) for axes in itertools.permutations(range(rank)) if rank > 1 and axes != tuple(range(rank))
        ]
        outputs.append(b.op("pad", x, widths=tuple((axis, 2 - axis) for axis in range(rank))))
        for axis, size in enumerate(shape):
            outputs.append(b.op("take", x, axis=axis, indices=tuple(range(1, size))))
            outputs.append(b.op("take", x, axis=axis, indices=tuple(index // 3 for index in range(3 * size))))
    one = b.op("take", b.op("reshape", b.input("v", Fixed(1, 2, np.arange(3)), "RND", "SAT"), shape=(1, 3)), axis=0, indices=(0, 0))
    return b.graph(*outputs, b.quantize(one, Fixed(1, 1, 1), "RND", "SAT"))


# ------------------------------------------------------------------------------------------------------- structure


def test_protocol_and_every_op_has_a_rule():
    assert isinstance(HLS4ML(), Backend)
    assert set(RULES) == set(OPS)


def test_a_dense_layer_takes_its_bias():
    b = GraphBuilder("m")
    x = b.input("x", Fixed(1, 2, np.full(4, 3)), "RND", "WRAP")
    graph = b.graph(b.op("relu", dense(b, x, 3)))
    assert kinds(graph) == ["InputLayer", "Dense", "Activation"]
    program = lower(graph, Settings())
    assert program.layers[1]["bias_data"].any()
    assert program.types[program.layers[1]["name"]]["accum"] == program.types[program.layers[1]["name"]]["result"]


def test_a_bias_stays_outside_when_the_product_is_needed():
    b = GraphBuilder("m")
    x = b.input("x", Fixed(1, 2, np.full(4, 3)), "RND", "WRAP")
    product = dense(b, x, 3, bias=False)
    total = b.op("add", product, b.constant(np.arange(1, 4), Fixed(1, 4, 2), "bias"))
    assert kinds(b.graph(product, total)) == ["InputLayer", "Dense", "BatchNormalization"]


def test_ports_with_mixed_widths_are_cast():
    b = GraphBuilder("m")
    x = b.input("x", Fixed(1, [0, 1, 2, -5], 3), "RND", "WRAP")
    program = lower(b.graph(dense(b, x, 3)), Settings())
    assert [layer["class_name"] for layer in program.layers] == ["InputLayer", "FixedPointQuantizer", "Dense"]
    k, total, integer = program.layers[1]["mask_kbi"]
    assert k.shape == (1, 4)
    assert k.dtype == np.int16
    assert k.tolist() == [[1, 1, 1, 0]]  # the last element is empty: all zero, as hls4ml's #1523 wants it
    assert total.tolist() == [[4, 5, 6, 0]]
    assert integer.tolist() == [[1, 2, 3, 0]]


def test_type_names():
    assert type_name(Fixed(1, 3, 4)) == "fixed<8,4>"
    assert type_name(Fixed(0, 3, -1)) == "ufixed<2,3>"
    assert type_name(Fixed([1, 0], [-3, 2], [6, -1])) == "fixed<9,3>"
    assert type_name(Fixed(0, -2, 2)) == "ufixed<1,0>"
    with pytest.raises(LoweringError, match="too far apart in magnitude.*\n.*62 bits\n.*66 bits"):
        type_name(Fixed(1, [60, 0], [-55, 5]))


def test_da4ml_would_round_wide_weights():
    b = GraphBuilder("m")
    x = b.input("x", Fixed(1, 3, np.full(2, 1)), "RND", "WRAP")
    graph = b.graph(b.op("matmul", x, b.constant(np.array([[(1 << 24) + 1], [1]]), Fixed(1, 10, 20), "kernel")))
    lower(graph, Settings())
    with pytest.raises(LoweringError, match=r"da4ml rounds.*\n.*node matmul.*\n.*at most 24.*\n.*25 bits\n.*strategy=latency"):
        lower(graph, Settings("distributed_arithmetic"))


def test_constants_cannot_be_merged():
    b = GraphBuilder("m")
    x = b.input("x", Fixed(1, 2, np.full((2, 3), 3)), "RND", "WRAP")
    with pytest.raises(LoweringError, match=r"merges no constants.*\n.*node maximum"):
        lower(b.graph(b.op("maximum", x, b.constant(np.ones(3, np.int64), Fixed(0, 1, 0), "c"))), Settings())


def test_names_are_safe_identifiers():
    program = lower(zoo(), Settings())
    names = [layer["name"] for layer in program.layers]
    assert len({name.lower() for name in names}) == len(names)
    assert all(re.fullmatch(r"(in_|n\d+_)[A-Za-z0-9_]+", name) for name in names)
    assert not any("block/first" in name for name in names)


# -------------------------------------------------------------------------------------------------------- refusals


def test_unsigned_sign_magnitude_wrap_is_refused_and_names_who_can():
    b = GraphBuilder("m")
    x = b.input("x", Fixed(1, 5, np.full(2, 3)), "RND", "WRAP")
    with b.layer("net/act"):
        graph = b.graph(b.quantize(x, Fixed(0, 2, 2), "TRN", "WRAP_SM"))
    with pytest.raises(LoweringError) as error:
        HLS4ML().emit(graph, Options())
    text = str(error.value)
    assert "sign-magnitude" in text
    assert "node net/act/quantize (quantize), layer net/act" in text
    assert "--backend rtl" in text


def test_sign_magnitude_wrap_that_cannot_overflow_is_a_wrap():
    b = GraphBuilder("m")
    x = b.input("x", Fixed(0, 2, np.full(2, 3)), "RND", "WRAP")
    program = lower(b.graph(b.quantize(x, Fixed(0, 2, 2), "TRN", "WRAP_SM")), Settings())
    assert program.layers[-1]["SAT"] == "WRAP"


def test_an_op_without_a_rule_is_refused(monkeypatch):
    monkeypatch.delitem(RULES, "relu")
    b = GraphBuilder("m")
    x = b.input("x", Fixed(1, 5, np.full(2, 3)), "RND", "WRAP")
    with b.layer("act"), pytest.raises(LoweringError, match="cannot express the op 'relu'.*\n.*node act/relu.*layer act\n"):
        lower(b.graph(b.op("relu", x)), Settings())


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        ({"strategi": "latency"}, "no such option.*\n.*\n.*\n.*\n.*Did you mean 'strategy'"),
        ({"strategy": "speed"}, "'strategy' cannot have this value.*\n.*\n.*latency or resource.*\n"),
        ({"reuse_factor": "0"}, "reuse factor.*\n.*\n.*1 to 999999"),
        ({"reuse_factor": "2", "strategy": "distributed_arithmetic"}, "no multipliers that could be reused"),
        ({"io_type": "io_serial"}, "'io_type' cannot have this value(.*\n)+.*Take one of these"),
        ({"backend": "Libero"}, "'backend' cannot have this value.*\n.*\n.*Vitis or Vivado"),
        ({"namespace": "a;b"}, "cannot be a C.. namespace"),
        ({"namespace": "nnet"}, "cannot be a C.. namespace"),
    ],
)
def test_options_are_checked(extra, text):
    with pytest.raises(ConfigError, match=text):
        HLS4ML().emit(random_graph(0, overflows=TEXTBOOK), Options(extra=extra))


def test_every_option_is_documented():
    assert set(HLS4ML().options()) == {"strategy", "reuse_factor", "io_type", "backend", "namespace", "board"}
    assert all("default" in text for text in HLS4ML().options().values())


def test_without_a_compiler(monkeypatch, tmp_path):
    monkeypatch.setattr("hgq.tools.find", lambda name: None)
    graph = random_graph(0, overflows=TEXTBOOK)
    with pytest.raises(ToolNotFound, match="g\\+\\+"):
        HLS4ML().simulate(graph, Options(), random_samples(graph, 3), tmp_path)


def test_without_hls4ml(monkeypatch):
    monkeypatch.setattr("hgq.converters.hls4ml.write.find_spec", lambda name: None)
    with pytest.raises(ToolNotFound, match=r"'hls4ml' is not installed.\n.*pip install \"hgqc\[hls4ml\]\""):
        HLS4ML().emit(random_graph(0, overflows=TEXTBOOK), Options())


# -------------------------------------------------------------------------------------------------------- projects


@pytest.mark.parametrize("strategy", ["latency", "distributed_arithmetic"])
def test_the_same_graph_gives_the_same_bytes(strategy):
    if strategy == "distributed_arithmetic":
        pytest.importorskip("da4ml")
    options = Options(extra={"strategy": strategy})
    first, second = (HLS4ML().emit(random_graph(1, overflows=TEXTBOOK), options) for _ in range(2))
    assert not first.diff(second)
    assert first.digest() == second.digest()


def test_project(capfd):
    graph = zoo()
    project = HLS4ML().emit(graph, Options(name="dut", part="xc7a35tcpg236-1", clock_ns=2.5, extra={"reuse_factor": "2"}))
    assert capfd.readouterr().out == ""
    assert {"firmware/dut.cpp", "firmware/defines.h", "build_prj.tcl", "project.tcl", "README.md", "ports.json"} <= set(project.files)
    assert not [path for path in project.files if path.endswith((".keras", ".tar.gz", ".so"))]
    assert not any("hgq-hls4ml-" in str(content) for content in project.files.values())  # the folder that hls4ml wrote to
    assert 'set part "xc7a35tcpg236-1"' in project.files["project.tcl"]
    assert "set clock_period 2.5" in project.files["project.tcl"]
    assert "<-1,0>" not in project.files["firmware/defines.h"]  # no type was left to a default
    readme = project.files["README.md"]
    assert "block/first" in readme
    assert "vitis-run" in readme
    ports = json.loads(project.files["ports.json"])
    assert [port["name"] for port in ports["inputs"]] == ["x", "int"]
    assert [port["name"] for port in ports["outputs"]] == list(graph.outputs)
    assert ports["inputs"][0]["overflow"] == "WRAP"
    assert ports["inputs"][1]["k"] == [1] * 20
    for port in (*ports["inputs"], *ports["outputs"]):
        assert re.search(rf"\b{port['argument']}\[[0-9*]+\]", project.files["firmware/dut.cpp"])
        assert re.search(rf"typedef {re.escape(port['type'])} \w+;", project.files["firmware/defines.h"])


def test_neither_keras_nor_tensorflow_is_imported():
    code = (
        "import sys; from tests.random_graphs import random_graph\n"
        "from hgq.converters.hls4ml import HLS4ML; from hgq.backend import Options\n"
        "HLS4ML().emit(random_graph(0, overflows=('WRAP',)), Options())\n"
        "sys.stdout.write(str([m for m in ('keras', 'tensorflow', 'torch') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]"


# ----------------------------------------------------------------------------------------------------- C simulation


@needs_compiler
def test_csim_zoo(workdir):
    assert_exact(zoo(), workdir)


@needs_compiler
@pytest.mark.parametrize("case", [merges, movements, activations], ids=lambda case: case.__name__)
def test_csim_merges_movements_and_activations(case, workdir):
    assert_exact(case(), workdir, 300)


@needs_compiler
@pytest.mark.parametrize("seed", range(3))
def test_csim_random_graphs(seed, workdir):
    assert_exact(random_graph(seed, overflows=TEXTBOOK, quantized_output=seed == 1), workdir)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 13))
def test_csim_more_random_graphs(seed, workdir):
    assert_exact(random_graph(seed, overflows=TEXTBOOK, quantized_output=seed % 2 == 1), workdir)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_csim_distributed_arithmetic(seed, workdir):
    pytest.importorskip("da4ml")
    assert_exact(random_graph(seed, overflows=TEXTBOOK), workdir, strategy="distributed_arithmetic")


@needs_compiler
@pytest.mark.slow
def test_csim_zoo_distributed_arithmetic(workdir):
    pytest.importorskip("da4ml")
    assert_exact(zoo(), workdir, strategy="distributed_arithmetic")


def constant_outputs(b: GraphBuilder, x):
    """All-zero kernel, then a bias: nothing depends on the input."""
    y = b.op("matmul", x, b.constant(np.zeros((3, 2), np.int64), Fixed(1, 3, 2), "kernel"))
    return b.op("add", y, b.constant(np.array([3, -5]), Fixed(1, 3, 2), "bias")), x


def dead_neurons(b: GraphBuilder, x):
    """A row and a column of zeros, an element without bits, in the middle of a chain."""
    h = b.op("matmul", x, b.constant(np.array([[1, 0, 3], [0, 0, -2], [0, 0, 0]]), Fixed(1, 3, 2), "kernel"))
    h = b.op("relu", b.op("add", h, b.constant(np.array([1, 7, -2]), Fixed(1, 3, 2), "bias")))
    return (dense(b, b.quantize(h, Fixed(0, [2, 0, 1], [1, 0, 2]), "RND", "SAT"), 2),)


def wide_numbers(b: GraphBuilder, x):
    """More than float32's 24 bits, through to the output."""
    kernel = np.array([[(1 << 23) + 1, 3], [-(1 << 17) + 1, 1], [7, 5]])
    return (b.op("matmul", x, b.constant(kernel, Fixed(1, 10, 22), "kernel")),)


def more_axes(b: GraphBuilder, x):
    """Products over the last of three axes; the reshape around hls4ml's layer is read, and is an output."""
    y = b.input("y", Fixed(1, 2, np.full((2, 2, 3), 2)), "RND", "WRAP")
    h = b.op("relu", dense(b, y, 2))
    return h, dense(b, h, 2), dense(b, x, 2)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["latency", "distributed_arithmetic"])
@pytest.mark.parametrize("case", [constant_outputs, dead_neurons, wide_numbers, more_axes], ids=lambda case: case.__name__)
def test_csim_corners(case, strategy, workdir):
    b = GraphBuilder(case.__name__)
    graph = b.graph(*case(b, b.input("x", Fixed(1, 3, np.full(3, 2)), "RND", "WRAP")))
    assert_exact(graph, workdir, 300, constant=case is constant_outputs, strategy=strategy)


@needs_compiler
@pytest.mark.slow
def test_csim_namespace_and_reuse(workdir):
    assert_exact(random_graph(1, overflows=TEXTBOOK), workdir, namespace="mine", reuse_factor="2")


# ---------------------------------------------------------------------------------------------------------- windows


def test_a_convolution_takes_its_bias_and_spreads_groups_and_dilation():
    graph = random_conv_graph("2d_all", 0)
    conv = next(layer for layer in lower(graph, Settings()).layers if layer["class_name"] == "Conv2D")
    assert conv["weight_data"].shape == (2, 5, 2, 4)
    assert (conv["weight_data"][:, 1::2] == 0).all()
    assert (conv["weight_data"][..., 0, 2:] == 0).all()
    assert conv["bias_data"].any()
    assert [conv[key] for key in ("pad_top", "pad_bottom", "pad_left", "pad_right", "stride_height")] == [1, 0, 2, 2, 2]


def test_three_axes_are_refused():
    b = GraphBuilder("volume")
    x = b.input("x", Fixed(1, 3, np.zeros((2, 2, 2, 1))), "RND", "SAT")
    kernel = b.constant(np.ones((1, 1, 1, 1, 2), int), Fixed(1, 3, 0), "kernel")
    volume = b.op("conv", x, kernel, strides=(1,) * 3, dilation=(1,) * 3, padding=((0, 0),) * 3, groups=1)
    with pytest.raises(LoweringError, match="at most two axes"):
        lower(b.graph(volume), Settings())


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["latency", "distributed_arithmetic"])
@pytest.mark.parametrize("case", CONVS)
def test_csim_convolutions(case, strategy, workdir):
    for seed in range(2):
        assert_exact(random_conv_graph(case, seed), workdir, 500, strategy=strategy)


# --- tables -------------------------------------------------------------------------------------------------------------------------------


def table_graph(seed: int = 0) -> Graph:
    """Elements of other widths in one table; then logic; then another table."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder(f"table_{seed}")
    x = b.input("x", Fixed([1, 0, 1, 0], [1, 2, 1, 0], [1, 1, 2, 0]), "RND", "SAT")
    x = b.lookup(x, rng.integers(-30, 30, 32), Fixed(1, 5, 2), Fixed(1, [2] * 4, [2] * 4), "first")
    x = b.quantize(dense(b, x, 3, seed), Fixed(1, [2, 3, 4], [1, 0, -1]), "RND", "SAT", "q")
    return b.graph(b.lookup(x, rng.integers(0, 30, 64), Fixed(0, 5, 3), Fixed(1, [4] * 3, [1] * 3), "second"))


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("io_type", ["io_parallel", "io_stream"])
def test_csim_of_tables(io_type, workdir):
    assert_exact(table_graph(), workdir, io_type=io_type)


def test_tables_of_elements_become_one_where_they_agree():
    b = GraphBuilder("agree")
    fixed = Fixed(1, [1, 2], [1, 0])
    table = np.zeros((2, 8), np.int64)
    table[0, [0, 2, 6, 1, 7, 4, 5, 3]] = [5, 6, 7, 1, 2, 3, 4, 0]
    table[1, [0, 1, 7, 2, 6, 3, 4, 5]] = [5, 6, 7, 9, 3, 1, 1, 1]  # at 0, 1, -1 and -2 as above; 2 is beyond the first
    graph = b.graph(b.lookup(b.input("x", fixed, "RND", "SAT"), table, Fixed(0, 4, 0), fixed, "f"))
    assert kinds(graph)[-1] == "UnaryLUT"
    table[1, 0] = 4
    with pytest.raises(LoweringError, match="granularity=tensor"):
        lower(b.graph(b.lookup(b.input("z", fixed, "RND", "SAT"), table, Fixed(0, 4, 0), fixed, "g")), Settings())


def test_a_quantizer_wider_than_its_values_may_be_moved():
    """hls4ml gives a moved tensor its operand's type: the type of a quantized tensor is that of its values, not of its declared formats."""
    b = GraphBuilder("moved")
    x = b.quantize(
        b.input("x", Fixed(1, np.full((4, 3), 3), np.full((4, 3), 2)), "RND", "WRAP"), Fixed(1, 4, np.full((4, 3), 5)), "RND", "SAT"
    )
    program = lower(b.graph(b.op("reduce_sum", x, axes=(0,))), Settings())
    (moved,) = (layer for layer in program.layers if layer["class_name"] == "Transpose")
    assert program.types[moved["name"]] == program.types[moved["inputs"][0]]
