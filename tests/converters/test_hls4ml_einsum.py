"""Einstein sums, depthwise and transposed convolutions in hls4ml: rules, and the g++ C simulation against the golden model, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("hls4ml")

from hgq.converters.hls4ml import HLS4ML
from hgq.converters.hls4ml.lower import lower
from hgq.converters.hls4ml.settings import Settings

from hgq.backend import Options
from hgq.errors import LoweringError
from hgq.ir import spec
from tests.converters.test_hls4ml import assert_exact, needs_compiler, workdir  # noqa: F401  a fixture
from tests.random_graphs import EINSUMS, random_conv_graph, random_einsum_graph

WITH_AXES = [case for case in EINSUMS if case != "dot"]


@pytest.mark.parametrize("constant", [True, False])
def test_a_result_without_axes_is_refused(constant):
    with pytest.raises(LoweringError, match="no tensor without axes"):
        lower(random_einsum_graph("dot", 0, constant), Settings())


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("case", WITH_AXES)
def test_csim_of_einsum(case, constant, workdir):  # noqa: F811
    assert_exact(random_einsum_graph(case, 1, constant), workdir, 500)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("case", ["heads", "two_contracted"])
def test_csim_of_einsum_with_distributed_arithmetic(case, workdir):  # noqa: F811
    for constant in (True, False):
        assert_exact(random_einsum_graph(case, 2, constant), workdir, 500, strategy="distributed_arithmetic")


def in_turns(graph, parallel):
    nodes = (replace(n, attrs={**n.attrs, "parallel": parallel}) if n.op in ("conv", "einsum") else n for n in graph.nodes)
    return spec.check(graph.with_(nodes=tuple(nodes)))


@pytest.mark.parametrize(("parallel", "expected"), [(None, 20), (4, 4)])
def test_windows_computed_at_the_same_time(parallel, expected):
    graph = random_conv_graph("2d", 0)  # 4 * 5 windows
    graph = in_turns(graph, parallel) if parallel else graph
    layers = lower(graph, Settings()).layers
    assert next(layer for layer in layers if layer["class_name"] == "Conv2D")["parallelization_factor"] == expected
    assert next(layer for layer in layers if layer["class_name"] == "Dense")["parallelization_factor"] == 20


def test_hls4ml_is_told():
    """`n_partitions` is how many turns the windows take."""
    for graph, turns in ((random_conv_graph("2d", 0), 1), (in_turns(random_conv_graph("2d", 0), 4), 5)):
        files = HLS4ML().emit(graph, Options()).files
        text = next(text for name, text in files.items() if name.endswith("parameters.h"))
        assert f"n_partitions = {turns};" in str(text)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["latency", "distributed_arithmetic"])
def test_csim_in_turns(strategy, workdir):  # noqa: F811
    assert_exact(in_turns(random_conv_graph("2d", 1), 5), workdir, 500, strategy=strategy)
    assert_exact(in_turns(random_einsum_graph("heads", 2), 2), workdir, 500, strategy=strategy)
