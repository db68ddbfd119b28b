"""Keras' own layers that move elements: Keras ≡ golden ≡ RTL, and what cannot be taken is refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from hgq import plugins
from hgq.errors import FreezeError
from hgq.freeze import freeze
from hgq.ir import interpret
from hgq.layers import QDense, QInput
from hgq.passes import optimize

L = keras.layers
STRUCTURE = {
    "permute": ((2, 3, 4), lambda: L.Permute((3, 1, 2))),
    "permute_2": ((2, 3), lambda: L.Permute((2, 1))),
    "pad_1d": ((3, 2), lambda: L.ZeroPadding1D((1, 2))),
    "pad_1d_left": ((3, 2), lambda: L.ZeroPadding1D((1, 0))),
    "pad_2d": ((2, 3, 2), lambda: L.ZeroPadding2D(((0, 1), (2, 1)))),
    "pad_2d_first": ((2, 3, 2), lambda: L.ZeroPadding2D(1, data_format="channels_first")),
    "crop_1d": ((5, 2), lambda: L.Cropping1D((1, 2))),
    "crop_2d": ((4, 5, 2), lambda: L.Cropping2D(((1, 0), (2, 1)))),
    "crop_2d_first": ((2, 4, 5), lambda: L.Cropping2D(1, data_format="channels_first")),
    "up_1d": ((3, 2), lambda: L.UpSampling1D(3)),
    "up_2d": ((2, 3, 2), lambda: L.UpSampling2D((2, 3))),
    "pad_3d": ((1, 2, 2, 2), lambda: L.ZeroPadding3D(((0, 1), (1, 1), (2, 0)))),
    "pad_3d_first": ((2, 1, 2, 2), lambda: L.ZeroPadding3D((0, 1, 0), data_format="channels_first")),
    "crop_3d": ((3, 4, 4, 1), lambda: L.Cropping3D(((1, 0), (2, 1), (0, 3)))),
    "up_3d": ((1, 2, 2, 2), lambda: L.UpSampling3D((2, 1, 2))),
    "rescaled": ((2, 3), lambda: L.Rescaling(1 / 64, -0.75)),
    "rescaled_channels": ((2, 2), lambda: L.Rescaling([3.0, 0.5], [0.0, -1.5])),
    "repeat": ((3,), lambda: L.RepeatVector(4)),
    "dropout_1d": ((3, 2), lambda: L.SpatialDropout1D(0.5)),
    "dropout_2d": ((3, 2, 2), lambda: L.SpatialDropout2D(0.5)),
    "dropout_alpha": ((3,), lambda: L.AlphaDropout(0.5)),
    "regularized": ((3,), lambda: L.ActivityRegularization(1e-3)),
}


@pytest.mark.parametrize("name", STRUCTURE)
@pytest.mark.parametrize("dense", [False, True])
def test_structure_is_exact(name, dense):
    rng = np.random.default_rng(len(name))
    shape, layer = STRUCTURE[name]
    model = keras.Sequential(
        [keras.Input(shape, name="x"), QInput("kif(i0=2, f0=2, overflow=SAT)"), layer(), QDense(2) if dense else L.ReLU()]
    )
    (f,) = (weight for weight in model.layers[0].quantizer.weights if weight.name == "f")
    f.assign(rng.integers(-2, 4, f.shape))
    x = rng.normal(scale=3, size=(100, *shape)).astype(np.float32)
    graph = freeze(model, x)
    expected = model(x, training=False).numpy()
    (output,) = graph.outputs
    np.testing.assert_array_equal(interpret.run(graph, x)[output], expected)
    np.testing.assert_array_equal(interpret.run(optimize(graph), x)[output], expected)
    np.testing.assert_array_equal(plugins.backend("rtl").comb_predict(graph, x)[output], expected)


def q(filters: int, name: str | None = None) -> QDense:
    return QDense(filters, input_quantizer="kif(i0=2, f0=3, overflow=SAT)", name=name)


def nested():
    """A model within a model within a model."""
    inner = keras.Sequential([keras.Input((4,)), q(3), L.ReLU()], name="inner")
    x = keras.Input((4,))
    middle = keras.Model(x, L.Concatenate()([inner(x), x]), name="middle")
    return keras.Sequential([keras.Input((4,)), QInput(), middle, q(2)])


def several_ports():
    """Two inputs, two outputs, one of them in the middle of the other's way."""
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    middle = q(3, "middle")(L.Add()([QInput()(a), QInput()(b)]))
    return keras.Model([a, b], [middle, q(2, "end")(middle)])


def shared():
    """One layer that is used three times, and a model that is used twice."""
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    layer, square = q(4), keras.Sequential([keras.Input((4,)), q(2), L.ReLU()], name="square")
    return keras.Model([a, b], L.Subtract()([square(layer(layer(QInput()(a)))), square(layer(QInput()(b)))]))


@pytest.mark.parametrize("make", [nested, several_ports, shared], ids=lambda make: make.__name__)
def test_structures_of_models_are_exact(make):
    model, rng = make(), np.random.default_rng(3)
    x = {tensor.name: rng.normal(scale=2, size=(100, *tensor.shape[1:])).astype(np.float32) for tensor in model.inputs}
    batch = list(x.values()) if len(x) > 1 else next(iter(x.values()))
    graph = freeze(model, batch)
    samples = dict(zip([port.name for port in graph.inputs], x.values(), strict=True))
    expected = model(batch, training=False)
    expected = expected if isinstance(expected, list | tuple) else [expected]
    for output, y in zip(graph.outputs, expected, strict=True):
        for values in (
            interpret.run(graph, samples),
            interpret.run(optimize(graph), samples),
            plugins.backend("rtl").comb_predict(graph, samples),
        ):
            np.testing.assert_array_equal(values[output], y.numpy())
        assert np.unique(y.numpy()).size > 1


def test_what_is_not_exact_is_refused():
    model = keras.Sequential([keras.Input((2, 3)), QInput(), L.Rescaling(1 / 255, name="bytes")])
    with pytest.raises(FreezeError, match=r"not exact in float32(.*\n)+.*layer bytes(.*\n)+.*scale=0.0039\d+, 24 bits"):
        freeze(model)
    with pytest.raises(FreezeError, match=r"normalization(.*\n)*.*use normalized data"):
        freeze(keras.Sequential([keras.Input((2,)), QInput(), L.Normalization(mean=0.5, variance=2.0)]))
    model = keras.Sequential([keras.Input((2, 3, 1)), QInput(), L.UpSampling2D(2, interpolation="bilinear", name="blur")])
    with pytest.raises(FreezeError, match=r"nearest-neighbour(.*\n)+.*layer blur(.*\n)+.*bilinear"):
        freeze(model)
