"""Activations as logic: Keras ≡ golden ≡ RTL, and the formulas in plain Python."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from hgq import plugins
from hgq.errors import ConfigError, FreezeError
from hgq.estimate import ebops_of
from hgq.freeze import freeze
from hgq.ir import interpret
from hgq.layers import QActivation, QDense, QInput, total_ebops
from hgq.layers.activations import rounded_slope
from hgq.passes import optimize
from hgq.verify import corner_samples
from hgq.verify.vectors import join

FORMULAS = {
    "relu6": lambda v: min(max(v, 0), 6),
    "hard_tanh": lambda v: min(max(v, -1), 1),
    "hard_sigmoid": lambda v: min(max(v * 171 / 1024 + 0.5, 0), 1),
    "leaky_relu": lambda v: max(v, v * 205 / 1024),
    "leaky_relu(0.125)": lambda v: max(v, v / 8),
    "leaky_relu(0)": lambda v: max(v, 0),
}
STOCK = {
    "relu6": lambda: keras.layers.ReLU(max_value=6),
    "hard_tanh": lambda: keras.layers.Activation("hard_tanh"),
    "leaky_relu(0.125)": lambda: keras.layers.LeakyReLU(negative_slope=0.125),
    "leaky_relu(0)": lambda: keras.layers.ReLU(),
}
RNG = np.random.default_rng(8)


def assert_exact(model: keras.Model, x: np.ndarray) -> np.ndarray:
    graph = freeze(model, x, optimize=False)
    data = join([{"x": value.astype(np.float64)} for value in (x, 4 * x)] + [corner_samples(graph, 100)])
    expected = model(data["x"].astype(np.float32), training=False).numpy()
    (output,) = graph.outputs
    np.testing.assert_array_equal(interpret.run(graph, data)[output], expected)
    np.testing.assert_array_equal(interpret.run(optimize(graph), data)[output], expected)
    np.testing.assert_array_equal(plugins.backend("rtl").comb_predict(graph, data)[output], expected)
    assert ebops_of(graph) == total_ebops(model)
    return data["x"]


@pytest.mark.parametrize("name", FORMULAS)
def test_an_activation_alone_is_its_formula(name):
    model = keras.Sequential([keras.Input((5,), name="x"), QInput("kif(f0=3)", name="in"), QActivation(name, None)])
    data = assert_exact(model, RNG.normal(scale=4, size=(200, 5)).astype(np.float32))
    x = model.get_layer("in")(data, training=False).numpy()
    np.testing.assert_array_equal(model(data.astype(np.float32), training=False), np.vectorize(FORMULAS[name], otypes=[float])(x))
    if name in STOCK:
        stock = keras.Sequential([keras.Input((5,), name="x"), model.get_layer("in"), STOCK[name]()])
        assert_exact(stock, RNG.normal(scale=4, size=(200, 5)).astype(np.float32))


@pytest.mark.parametrize("name", FORMULAS)
def test_activations_of_dense_layers(name):
    layers = [QDense(6, activation=name), QActivation(name, "kif(f0=2, overflow=SAT, rounding=RND)"), QDense(3, activation=name)]
    model = keras.Sequential([keras.Input((5,), name="x"), *layers])
    assert_exact(model, RNG.normal(scale=4, size=(200, 5)).astype(np.float32))
    assert QDense.from_config(layers[0].get_config()).activation == name


def test_slopes_keep_powers_of_two_and_eight_bits():
    assert [rounded_slope(slope) for slope in (0.5, 2.0**-9, 0.2, 0.0, 1.0)] == [0.5, 2.0**-9, 205 / 1024, 0.0, 1.0]


@pytest.mark.parametrize("name", ["leaky_relu(2)", "leaky_relu(x)", "tanh", "relu7"])
def test_unknown_activations_are_refused(name):
    with pytest.raises(ConfigError, match=r"Unknown activation(.*\n)+.*leaky_relu\(SLOPE\)"):
        QDense(2, activation=name)


@pytest.mark.parametrize("given", [{"negative_slope": 0.2}, {"threshold": 1.0}, {"negative_slope": 0.5, "max_value": 6.0}], ids=str)
def test_inexact_stock_activations_are_refused(given):
    with pytest.raises(FreezeError, match="cannot be frozen exactly"):
        freeze(keras.Sequential([keras.Input((3,)), QInput(), keras.layers.ReLU(**given)]))


@pytest.mark.parametrize(("name", "nearest"), [("tanh", r"QTable\('tanh'\)"), ("softmax", "QSoftmax"), ("hard_sigmoid", "QActivation")])
def test_stock_activations_that_need_a_table_name_the_nearest(name, nearest):
    with pytest.raises(FreezeError, match=nearest):
        freeze(keras.Sequential([keras.Input((3,)), QInput(), keras.layers.Activation(name)]))
