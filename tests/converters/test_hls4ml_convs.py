"""Layers of the convolution family in the g++ C simulation of hls4ml: Keras = golden = firmware, bit for bit."""

from __future__ import annotations

import keras
import numpy as np
import pytest

pytest.importorskip("hls4ml")

from hgq.freeze import freeze
from hgq.ir.interpret import run
from hgq.layers import QConv1DTranspose, QConv2DBatchNorm, QConv2DTranspose, QDepthwiseConv2D, QSeparableConv1D, QSeparableConv2D
from tests.converters.test_hls4ml import assert_exact, needs_compiler, workdir  # noqa: F401  a fixture
from tests.layers.test_layers import trained

CASES = {
    "depthwise": (lambda: QDepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="relu"), (4, 5, 2)),
    "separable_1d": (lambda: QSeparableConv1D(3, 3, padding="causal"), (6, 2)),
    "separable_in_turns": (lambda: QSeparableConv2D(2, 2, depth_multiplier=2, parallelization_factor=3), (4, 3, 2)),
    "batch_norm": (lambda: QConv2DBatchNorm(3, 2, activation="relu"), (4, 4, 2)),
    "transposed_1d": (lambda: QConv1DTranspose(2, 3, 2, "same"), (4, 2)),
    "transposed_2d": (lambda: QConv2DTranspose(2, 3, (2, 1), activation="relu"), (3, 2, 2)),
}


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_csim(name, workdir):  # noqa: F811
    make, shape = CASES[name]
    layer = trained(make(), shape)
    model = keras.Sequential([keras.Input(shape), layer])
    x = np.random.default_rng(0).normal(0.5, 2, (100, *shape)).astype(np.float32)
    graph = freeze(model, x)
    (golden,) = run(graph, 2 * x).values()
    np.testing.assert_array_equal(golden, model.predict(2 * x, verbose=0))
    assert_exact(graph, workdir, 300)
