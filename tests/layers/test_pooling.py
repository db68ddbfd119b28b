"""Pooling, ours and Keras' own: the stock layer's function, and the same numbers in the golden model, after the passes and in RTL."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from hgq import plugins
from hgq.errors import ConfigError
from hgq.estimate import ebops_of
from hgq.freeze import freeze
from hgq.ir.interpret import run
from hgq.layers import (
    QAveragePooling1D,
    QAveragePooling2D,
    QGlobalAveragePooling1D,
    QGlobalAveragePooling2D,
    QInput,
    QMaxPooling1D,
    QMaxPooling2D,
    total_ebops,
)
from hgq.passes import optimize
from tests.layers.test_layers import trained

RNG = np.random.default_rng(8)
SAT = "kif(i0=2, f0=2, overflow=SAT)"
K = keras.layers
MAXIMA = {
    "1d": (lambda: [QMaxPooling1D(quantizer="data")], (6, 2)),
    "1d_same": (lambda: [QMaxPooling1D(3, 2, "same", quantizer=SAT)], (7, 2)),
    "2d": (lambda: [QMaxPooling2D(quantizer="data(granularity=channel)")], (5, 4, 2)),
    "2d_overlapping_same": (lambda: [QInput(SAT), QMaxPooling2D((3, 2), (1, 2), "same")], (4, 5, 2)),
    "stock_1d": (lambda: [QInput(), K.MaxPooling1D(2)], (6, 2)),
    "stock_2d": (lambda: [QInput(), K.MaxPooling2D((2, 3), 1, "same")], (4, 4, 2)),
    "stock_3d": (lambda: [QInput(), K.MaxPooling3D(2)], (2, 4, 2, 1)),
    "stock_global_1d": (lambda: [QInput(), K.GlobalMaxPooling1D()], (5, 3)),
    "stock_global_2d": (lambda: [QInput(), K.GlobalMaxPooling2D(keepdims=True)], (3, 4, 2)),
}
AVERAGES = {
    "1d": (lambda: [QAveragePooling1D(2)], (6, 2)),
    "1d_overlapping": (lambda: [QAveragePooling1D(4, 1, quantizer=SAT)], (6, 2)),
    "2d_same": (lambda: [QAveragePooling2D((2, 1), padding="same", quantizer="data(granularity=tensor)")], (4, 3, 2)),
    "global_1d": (lambda: [QGlobalAveragePooling1D(quantizer=SAT)], (8, 3)),
    "global_2d": (lambda: [QGlobalAveragePooling2D(keepdims=True)], (4, 2, 2)),
}
ALL = {**MAXIMA, **{f"average_{name}": case for name, case in AVERAGES.items()}}


def model_of(make, shape):
    layers = make()
    model = keras.Sequential([keras.Input(shape), *layers])
    trained(layers[0], shape)
    return model, RNG.normal(0, 2, (200, *shape)).astype(np.float32)


@pytest.mark.parametrize("name", ALL)
def test_keras_equals_golden_equals_rtl(name):
    model, x = model_of(*ALL[name])
    graph = freeze(model, x[:50], optimize=False)
    (golden,) = run(graph, x).values()
    np.testing.assert_array_equal(golden, model.predict(x, verbose=0))
    assert np.unique(golden).size > 1
    (optimized,) = run(optimize(graph), x).values()
    np.testing.assert_array_equal(optimized, golden)
    (rtl,) = plugins.backend("rtl").comb_predict(graph, {graph.inputs[0].name: x}).values()
    np.testing.assert_array_equal(rtl, golden)


@pytest.mark.parametrize("name", [name for name in MAXIMA if "stock" not in name])
def test_configuration_and_shape(name):
    make, shape = MAXIMA[name]
    layer = make()[-1]
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()
    twin = getattr(K, type(layer).__name__[1:])(layer.pool_size, layer.strides, layer.padding)
    x = RNG.normal(size=(5, *shape)).astype(np.float32)
    layer.build(x.shape)
    y = twin(x if layer.quantizer is None else layer.quantizer(x)).numpy()
    np.testing.assert_array_equal(layer(x).numpy(), y)
    assert layer.compute_output_shape(x.shape) == y.shape
    assert float(layer.cost()) == 0


@pytest.mark.parametrize("name", AVERAGES)
def test_averages_are_those_of_keras_and_cost_what_they_read(name):
    make, shape = AVERAGES[name]
    model, x = model_of(make, shape)
    (layer,) = model.layers
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()
    config = layer.get_config()
    twin = getattr(K, type(layer).__name__[1:])(
        **{key: config[key] for key in ("pool_size", "strides", "padding", "keepdims") if key in config}
    )
    y = twin(layer.quantizer(x)).numpy()
    np.testing.assert_allclose(layer(x).numpy(), y, rtol=1e-6, atol=1e-6)
    assert model.output_shape == (None, *y.shape[1:])
    bits = layer.quantizer.format().broadcast_to(shape).width
    windows = np.ndindex(layer.compute_output_shape((None, *shape))[1:-1] if hasattr(twin, "pool_size") else (1,) * layer.rank)
    cost = 0
    for window in windows:
        for tap in np.ndindex(layer.pool_size):
            cost += bits[tuple(o * s + t for o, s, t in zip(window, layer.strides, tap, strict=True))].sum()
    assert float(layer.cost()) == cost == ebops_of(freeze(model, optimize=False)) == total_ebops(model) > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QMaxPooling2D((2, 2, 2)), "pool_size is a number of elements"),
        (lambda: QMaxPooling2D(padding="causal"), "Unknown padding"),
        (lambda: QMaxPooling1D(data_format="channels_first"), "Channels come last"),
        (lambda: QMaxPooling1D(9).build((None, 4, 2)), "larger than the input"),
        (lambda: QMaxPooling1D().build((None, 4, 4, 2)), "an input of 3 axes"),
        (lambda: QAveragePooling2D(3).build((None, 6, 6, 1)), r"not exact[\s\S]*windows of 2\*\*n elements[\s\S]*9 elements"),
        (lambda: QAveragePooling1D(2, padding="same").build((None, 5, 1)), "fewer elements than the others"),
        (lambda: QGlobalAveragePooling2D().build((None, 3, 4, 1)), "12 elements"),
        (lambda: QAveragePooling1D(quantizer=None), "needs its quantizer"),
    ],
)
def test_refusals_teach(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
