"""Loss-aware quantizers learn the curvatures of the optimizer, arranged as their kernels are."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from hgq.errors import ConfigError
from hgq.layers import QDense
from hgq.training.step import with_step

RNG = np.random.default_rng(8)
X = RNG.normal(size=(64, 5)).astype(np.float32)
Y = RNG.integers(0, 3, 64)


def trained(method, steps, beta_1=0.9):
    keras.utils.set_random_seed(2)
    layers = [QDense(6, "relu", kernel_quantizer="laq(code_bits=2)"), QDense(3, kernel_quantizer="laq")]
    model = with_step(keras.Sequential([keras.Input((5,)), *layers]), method)
    optimizer = keras.optimizers.Adam(0.01, beta_1=beta_1, beta_2=0.9)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    for _ in range(steps):
        model.train_on_batch(X, Y)
    return model, layers


@pytest.mark.parametrize("method", ["laq", "zigzag(period=10)"])
def test_curvatures_are_those_of_adam(method):
    model, layers = trained(method, 3)
    assert int(model.step.evaluations) == 3
    for layer in layers:
        (moment,) = (v.numpy() for v in model.optimizer.variables if v.name == f"{layer.kernel.path.replace('/', '_')}_velocity")
        exact = (np.sqrt(moment) + 1e-7) / np.sqrt(1 - 0.9**3)
        np.testing.assert_allclose(layer.kernel_quantizer.curvature.numpy(), exact, rtol=1e-5)
        assert moment.std() > 0


def test_an_active_step_hands_over_the_blend():
    """``a D1 + (1 - a) D2``: with a of 1 the optimizer's own, with less another one."""
    own, other = (trained(f"zigzag(a={a}, period=1)", 1)[1][0].kernel_quantizer.curvature.numpy() for a in (1, 0.5))
    _, layers = trained("laq", 1)
    np.testing.assert_allclose(own, layers[0].kernel_quantizer.curvature.numpy(), rtol=1e-6)
    assert np.abs(own - other).max() > 1e-3 * np.abs(own).max()


def test_a_model_without_loss_aware_quantizers_is_refused():
    model = with_step(keras.Sequential([keras.Input((5,)), QDense(3)]), "laq")
    with pytest.raises(ConfigError, match="with regard to the loss"):
        model.compile("adam", "mse")
