"""Recurrent layers in C simulation: unrolled, out of ops that hls4ml knows."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("hls4ml")

from hgq.converters.hls4ml import HLS4ML

from hgq.backend import Options
from tests.check_layer import Subject, catalogue
from tests.converters.test_hls4ml import needs_compiler

CASES = [("QSimpleRNN", "tanh"), ("QLSTM", "logic"), ("QGRU", "tables"), ("keras.layers.Bidirectional", "concat")]


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(("name", "option"), CASES)
def test_csim_of_recurrent_layers(name, option, tmp_path):
    subject = Subject(catalogue()[name][option])
    graph, data = subject.optimized, subject.data
    (received,) = HLS4ML().simulate(graph, Options(name="dut"), data, tmp_path).values()
    np.testing.assert_array_equal(received, subject.golden)
