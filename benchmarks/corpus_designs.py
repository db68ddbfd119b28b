"""Designs for `synth_corpus.py`: families of models as users build them, with random sizes, bits and sparsity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from hgq import layers as q
from hgq.calibrate import calibrate
from hgq.freeze import freeze
from hgq.ir.graph import Graph
from hgq.layers import quantizers

Draw = np.random.Generator
Family = Callable[[Draw], keras.Model]
FAMILIES: dict[str, tuple[str, Family]] = {}
"""Name -> (group, function that builds a model). Groups: ``adders`` (dense, convolution), ``other`` (tables, products, poolings …)."""
CHANNEL = "data(granularity=channel)"


def family(group: str) -> Callable[[Family], Family]:
    def register(build: Family) -> Family:
        FAMILIES[build.__name__] = (group, build)
        return build

    return register


def design(name: str, seed: int) -> Graph:
    """The frozen design of a family and seed; the same on every machine."""
    rng = np.random.default_rng([seed, *name.encode()])
    keras.utils.set_random_seed(int(rng.integers(2**31)))
    model = FAMILIES[name][1](rng)
    if name != "trained":
        _randomise(model, rng)
    shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    samples = [rng.normal(scale=1.5, size=(400, *shape)).astype(np.float32) for shape in shapes]
    calibrate(model, samples[0] if len(samples) == 1 else samples)
    graph = freeze(model)
    return graph.with_(name=f"{name}_{seed}", meta={})


def _randomise(model: keras.Model, rng: Draw) -> None:
    """Kernels with zeros, bits around a mean of the model's own."""
    mean, spread = rng.uniform(2.0, 6.5), rng.uniform(0.3, 1.5)
    density = rng.choice([1.0, 0.8, 0.5, 0.25])
    for weight in {id(weight): weight for layer in model._flatten_layers() for weight in layer.weights}.values():
        if "kernel" in weight.name and "quantizer" not in weight.path and weight.shape:
            value = rng.normal(scale=0.6, size=weight.shape)
            weight.assign(value * (rng.random(weight.shape) < density))
        elif weight.name == "bias":
            weight.assign(rng.normal(scale=0.3, size=weight.shape))
    for quantizer in quantizers(model):
        for weight in quantizer.weights:
            if weight.name in ("f", "b"):
                weight.assign(np.clip(rng.normal(mean, spread, weight.shape), 0.6, 9.0) + (weight.name == "b"))


def _size(rng: Draw, low: int, high: int) -> int:
    return int(rng.integers(low, high + 1))


# ---- adder graphs -----------------------------------------------------------------------------------------------------------------------


@family("adders")
def dense_narrow(rng: Draw) -> keras.Model:
    widths = [_size(rng, 4, 14) for _ in range(_size(rng, 1, 4))]
    return keras.Sequential([keras.Input((_size(rng, 6, 16),)), *(q.QDense(width, "relu") for width in widths), q.QDense(_size(rng, 1, 6))])


@family("adders")
def dense_wide(rng: Draw) -> keras.Model:
    return keras.Sequential([keras.Input((_size(rng, 16, 40),)), q.QDense(_size(rng, 8, 16), "relu"), q.QDense(_size(rng, 2, 6))])


@family("adders")
def dense_linear(rng: Draw) -> keras.Model:
    """No activation, no bias: pure sums."""
    return keras.Sequential([keras.Input((_size(rng, 8, 24),)), q.QDense(_size(rng, 8, 24), use_bias=False)])


@family("adders")
def dense_saturating(rng: Draw) -> keras.Model:
    kind = str(rng.choice(["SAT", "SAT_SYM"]))
    data = f"kif(i0={_size(rng, 0, 2)}, f0=4, overflow={kind}, rounding=RND)"
    return keras.Sequential(
        [keras.Input((_size(rng, 6, 16),)), q.QInput(data), q.QDense(_size(rng, 8, 16), "relu"), q.QDense(4, input_quantizer=data)]
    )


@family("adders")
def dense_batch_norm(rng: Draw) -> keras.Model:
    return keras.Sequential([keras.Input((_size(rng, 6, 16),)), q.QDenseBatchNorm(_size(rng, 8, 20), activation="relu"), q.QDense(5)])


@family("adders")
def dense_leaky(rng: Draw) -> keras.Model:
    return keras.Sequential([keras.Input((_size(rng, 6, 16),)), q.QDense(_size(rng, 8, 16), "leaky_relu(0.125)"), q.QDense(5)])


@family("adders")
def conv_line(rng: Draw) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((_size(rng, 6, 9), _size(rng, 1, 3))),
            q.QConv1D(_size(rng, 2, 5), 3, activation="relu", input_quantizer=CHANNEL),
            q.QConv1D(_size(rng, 2, 4), 3, _size(rng, 1, 2), activation="relu", input_quantizer=CHANNEL),
            keras.layers.Flatten(),
            q.QDense(_size(rng, 1, 4)),
        ]
    )


@family("adders")
def conv_image(rng: Draw) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((_size(rng, 5, 7), _size(rng, 5, 7), _size(rng, 1, 2))),
            q.QConv2D(_size(rng, 2, 4), 3, activation="relu", input_quantizer=CHANNEL),
            keras.layers.Flatten(),
            q.QDense(_size(rng, 2, 5)),
        ]
    )


@family("adders")
def conv_depthwise(rng: Draw) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((_size(rng, 4, 5), 4, _size(rng, 1, 3))),
            q.QSeparableConv2D(_size(rng, 1, 4), 3, activation="relu"),
            keras.layers.Flatten(),
            q.QDense(3),
        ]
    )


@family("adders")
def residual(rng: Draw) -> keras.Model:
    inputs = keras.Input((_size(rng, 6, 12),))
    x = q.QDense(width := _size(rng, 6, 12), "relu")(inputs)
    y = q.QDense(width, "relu")(x)
    return keras.Model(inputs, q.QDense(4)(q.QAdd()([x, y])))


@family("adders")
def trained(rng: Draw) -> keras.Model:
    """The jets of the package, trained for a while under a price on EBOPs: sparse, as users' models are."""
    from hgq import datasets
    from hgq.training import BetaSchedule, BitAdam

    data = datasets.load("jsc_sim")
    widths = [_size(rng, 8, 32) for _ in range(_size(rng, 2, 3))]
    model = keras.Sequential([keras.Input((16,)), *(q.QDense(width, "relu") for width in widths), q.QDense(5)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(BitAdam(5e-3, bit_rate=8.0), loss)
    beta = float(10 ** rng.uniform(-5.5, -4.3))
    model.fit(
        data.x_train,
        data.y_train,
        batch_size=1024,
        epochs=12,
        verbose=0,
        callbacks=[BetaSchedule([(0, beta / 10, "log"), (8, beta, "constant")])],
    )
    return model


# ---- the rest ---------------------------------------------------------------------------------------------------------------------------


@family("other")
def table(rng: Draw) -> keras.Model:
    function = str(rng.choice(["tanh", "sigmoid", "exp", "gelu"]))
    return keras.Sequential([keras.Input((_size(rng, 4, 8),)), q.QDense(_size(rng, 4, 10)), q.QTable(function), q.QDense(4)])


@family("other")
def table_alone(rng: Draw) -> keras.Model:
    return keras.Sequential([keras.Input((_size(rng, 6, 16),)), q.QTable(str(rng.choice(["tanh", "sigmoid", "sin"])))])


@family("other")
def edges(rng: Draw) -> keras.Model:
    return keras.Sequential([keras.Input((_size(rng, 4, 8),)), q.QDenseT(_size(rng, 3, 6)), q.QDenseT(_size(rng, 1, 4))])


@family("other")
def softmax(rng: Draw) -> keras.Model:
    return keras.Sequential([keras.Input((_size(rng, 4, 10),)), q.QDense(_size(rng, 3, 8)), q.QSoftmax()])


@family("other")
def product(rng: Draw) -> keras.Model:
    inputs = keras.Input((_size(rng, 4, 10),))
    x, y = q.QDense(width := _size(rng, 4, 10), "relu")(inputs), q.QDense(width)(inputs)
    return keras.Model(inputs, q.QDense(4)(q.QMultiply()([x, y])))


@family("other")
def einsum(rng: Draw) -> keras.Model:
    a, b = keras.Input((_size(rng, 2, 4), k := _size(rng, 2, 5))), keras.Input((_size(rng, 2, 4), k))
    return keras.Model([a, b], q.QEinsum("bik,bjk->bij")([a, b]))


@family("other")
def attention(rng: Draw) -> keras.Model:
    inputs = keras.Input((_size(rng, 2, 4), width := _size(rng, 3, 5)))
    return keras.Model(inputs, q.QMultiHeadAttention(num_heads=1, key_dim=_size(rng, 2, 3), output_shape=width)(inputs, inputs))


@family("other")
def pool_max(rng: Draw) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((_size(rng, 4, 6), 6, 1)),
            q.QConv2D(_size(rng, 1, 3), 3, activation="relu", input_quantizer=CHANNEL),
            q.QMaxPooling2D(2),
            keras.layers.Flatten(),
            q.QDense(4),
        ]
    )


@family("other")
def pool_average(rng: Draw) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((_size(rng, 4, 6), 6, 1)),
            q.QConv2D(_size(rng, 1, 3), 3, activation="relu", input_quantizer=CHANNEL),
            q.QAveragePooling2D(2),
            keras.layers.Flatten(),
            q.QDense(4),
        ]
    )


@family("other")
def maxima(rng: Draw) -> keras.Model:
    inputs = keras.Input((_size(rng, 4, 10),))
    x, y = q.QDense(width := _size(rng, 5, 12))(inputs), q.QDense(width)(inputs)
    return keras.Model(inputs, q.QMaximum()([x, y]))


@family("other")
def layer_norm(rng: Draw) -> keras.Model:
    return keras.Sequential([keras.Input((_size(rng, 4, 8),)), q.QDense(_size(rng, 4, 8)), q.QLayerNormalization(), q.QDense(3)])


@family("other")
def gated(rng: Draw) -> keras.Model:
    return keras.Sequential([keras.Input((_size(rng, 2, 3), _size(rng, 2, 4))), q.QGRU(_size(rng, 2, 4)), q.QDense(2)])


def arguments_of(name: str) -> dict[str, Any]:
    """What a person sees of a family."""
    return {"family": name, "group": FAMILIES[name][0], "what": (FAMILIES[name][1].__doc__ or name.replace("_", " ")).strip()}
