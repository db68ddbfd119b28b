"""Random small Keras models: widths, granularities, parametrisations, modes, roundings, dead weights, bits at zero."""

from __future__ import annotations

import keras
import numpy as np

from hgq.layers import QActivation, QBatchNormalization, QDense, QDenseBatchNorm, QInput, quantizers

ROUNDINGS = ("TRN", "RND", "RND_CONV", "S_RND")
OVERFLOWS = ("WRAP", "SAT", "SAT_SYM", "WRAP_SM")


def random_model(seed: int) -> tuple[keras.Model, np.ndarray]:
    """A built model whose weights and bits are random, and samples for it, shape (500, inputs)."""
    rng = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)

    def draw(choices):
        return choices[rng.integers(len(choices))]

    def quantizer():
        modes = f"rounding={draw(ROUNDINGS)}, overflow={draw(OVERFLOWS)}, granularity={draw(('element', 'channel', 'tensor'))}"
        return f"{draw(('kif', 'kbi'))}({modes})"

    def dense(units, activation):
        given = {"kernel_quantizer": quantizer(), "bias_quantizer": quantizer(), "input_quantizer": quantizer()}
        if rng.random() < 0.3:
            return QDenseBatchNorm(units, activation=activation, **given)
        return QDense(units, activation=activation, use_bias=bool(rng.random() < 0.8), **given)

    inputs = int(rng.integers(3, 9))
    layers = [QInput(quantizer())] if rng.random() < 0.3 else []
    for _ in range(rng.integers(1, 3)):
        layers.append(dense(int(rng.integers(3, 9)), draw(("relu", None))))
        extra = rng.random()
        if extra < 0.25:
            layers.append(QBatchNormalization(input_quantizer=quantizer()))
        elif extra < 0.5:
            layers.append(QActivation(draw(("relu", "linear")), quantizer()))
    layers.append(dense(int(rng.integers(2, 5)), None))
    model = keras.Sequential([keras.Input((inputs,)), *layers], name=f"random_{seed}")

    x = rng.normal(scale=2.0, size=(500, inputs)).astype(np.float32)
    for layer in model.layers:
        for weight in layer.weights:
            if weight.name in ("kernel", "bias", "gamma", "beta", "moving_mean") and weight.shape:
                value = rng.normal(scale=0.8, size=weight.shape)
                weight.assign(value * (rng.random(weight.shape) < 0.8))
            elif weight.name == "moving_variance":
                weight.assign(rng.uniform(0.3, 2.0, weight.shape))
    for quantizer_ in quantizers(model):
        for weight in quantizer_.weights:
            if weight.name == "i" and weight.trainable:
                weight.assign(rng.integers(-1, 4, weight.shape).astype(np.float32))
            elif weight.name in ("f", "b"):
                low, high = (-1, 6) if weight.name == "f" else (0, 7)
                weight.assign(rng.integers(low, high, weight.shape) + rng.uniform(-0.4, 0.4, weight.shape))
    return model, x
