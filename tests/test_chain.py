"""The whole chain on random models: Keras ≡ golden ≡ RTL, and a few through g++ and Verilator. No tolerance anywhere."""

from __future__ import annotations

import numpy as np
import pytest

from hgq import plugins
from hgq.freeze import freeze
from hgq.ir import interpret
from hgq.reference import KerasReference
from hgq.tools import find
from hgq.verify import corner_samples, verify
from hgq.verify.vectors import join
from tests.random_models import random_model

COMPILED = (200, 202, 203, 205, 206, 207, 209, 210, 212, 216)
"""Random models that every backend takes: none is constant, which rtl refuses, or has an unsigned WRAP_SM, which ap_fixed lacks."""


def check_up_to_rtl(seed: int) -> None:
    """Keras ≡ golden ≡ alkaid's simulation, in the calibrated range, far beyond it, and in the corners."""
    model, x = random_model(seed)
    graph = freeze(model, x[:200])
    name = graph.inputs[0].name
    data = join([{name: x.astype(np.float64)}, {name: 3.0 * x.astype(np.float64)}, corner_samples(graph, 200)])
    golden = interpret.run(graph, data)
    rtl = plugins.backend("rtl").comb_predict(graph, data)
    for output, keras_output in KerasReference(model).predict(graph, data).items():
        np.testing.assert_array_equal(golden[output], keras_output)
        np.testing.assert_array_equal(golden[output], rtl[output])


@pytest.mark.parametrize("seed", range(12))
def test_keras_equals_golden_equals_rtl(seed):
    check_up_to_rtl(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12, 100))
def test_keras_equals_golden_equals_rtl_for_a_hundred_models(seed):
    check_up_to_rtl(seed)


@pytest.mark.slow
@pytest.mark.skipif(not (find("g++") and find("verilator")), reason="needs g++ and Verilator")
@pytest.mark.parametrize("seed", COMPILED)
def test_all_four_representations_of_ten_models(seed, tmp_path):
    model, x = random_model(seed)
    verdict = verify(freeze(model, x[:200]), x, reference=KerasReference(model), workdir=tmp_path)
    assert verdict.ok, verdict.to_dict()
    assert not verdict.skipped, verdict.skipped
