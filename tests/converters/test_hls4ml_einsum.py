"""Einstein sums, depthwise and transposed convolutions in hls4ml: rules, and the g++ C simulation against the golden model, bit for bit."""

from __future__ import annotations

import pytest

pytest.importorskip("hls4ml")

from hgq.converters.hls4ml.lower import lower
from hgq.converters.hls4ml.settings import Settings

from hgq.errors import LoweringError
from tests.converters.test_hls4ml import assert_exact, needs_compiler, workdir  # noqa: F401  a fixture
from tests.random_graphs import EINSUMS, random_einsum_graph

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
    assert_exact(random_einsum_graph(case, 2, constant), workdir, 500)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("case", ["heads", "two_contracted"])
def test_csim_of_einsum_with_distributed_arithmetic(case, workdir):  # noqa: F811
    for constant in (True, False):
        assert_exact(random_einsum_graph(case, 2, constant), workdir, 500, strategy="distributed_arithmetic")
