"""Convolutions: the function is Keras', the cost a loop over products, and the frozen layer the layer, up to RTL."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgq import plugins
from hgq.errors import ConfigError
from hgq.estimate import ebops_of
from hgq.freeze import freeze
from hgq.ir.interpret import run
from hgq.layers import QConv1D, QConv2D, QConv3D, QDense, total_ebops
from hgq.layers.conv import convolve
from hgq.passes import optimize
from tests.layers.test_layers import FINE, effective_bits, trained

RNG = np.random.default_rng(33)
CHANNEL, TENSOR = "data(granularity=channel)", "kif(granularity=tensor, overflow=SAT)"
CASES = {
    "1d": (lambda: QConv1D(3, 3, activation="relu"), (7, 2)),
    "1d_same_strided": (lambda: QConv1D(3, 4, 2, "same", input_quantizer=CHANNEL), (7, 2)),
    "1d_causal_dilated": (lambda: QConv1D(2, 3, padding="causal", dilation_rate=2, use_bias=False), (6, 3)),
    "1d_groups": (lambda: QConv1D(4, 2, groups=2, input_quantizer=TENSOR), (5, 4)),
    "2d": (lambda: QConv2D(3, 3, activation="relu"), (5, 6, 2)),
    "2d_same": (lambda: QConv2D(2, (3, 2), padding="same", input_quantizer=CHANNEL, output_quantizer="kif(f0=2, overflow=SAT)"), (4, 5, 2)),
    "2d_strided_same": (lambda: QConv2D(2, 3, (2, 3), "same", kernel_quantizer="kbi(b0=4, granularity=channel, overflow=WRAP)"), (5, 7, 1)),
    "2d_dilated_groups": (lambda: QConv2D(4, 2, dilation_rate=(2, 1), groups=2, input_quantizer=TENSOR), (5, 4, 2)),
    "2d_pointwise": (lambda: QConv2D(3, 1, strides=2, padding="same"), (4, 3, 2)),
    "3d": (lambda: QConv3D(2, 2, padding="same"), (2, 3, 2, 2)),
}


def fixed_input(shape):
    return RNG.normal(0.5, 2, (200, *shape)).astype(np.float32)


def keras_twin(layer):
    """The stock layer with the same arguments and the quantized constants."""
    config = layer.get_config()
    names = ("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups", "activation", "use_bias")
    twin = getattr(keras.layers, type(layer).__name__[1:])(**{name: config[name] for name in names})
    twin.build((None, *layer._shape))
    twin.kernel.assign(layer.kernel_quantizer(layer.kernel.value))
    if layer.use_bias:
        twin.bias.assign(layer.bias_quantizer(layer.bias.value))
    return twin


@pytest.mark.parametrize("name", CASES)
def test_computes_what_the_stock_layer_computes_on_quantized_numbers(name):
    make, shape = CASES[name]
    layer = trained(make(), shape)
    x = fixed_input(shape)
    if layer.groups > 1 and layer.rank == 2 and layer.dilation_rate != (1, 1):
        pytest.skip("TensorFlow has no grouped, dilated convolution on a CPU; the loop of test_cost and 1d_groups stand for it")
    y = keras_twin(layer)(layer.input_quantizer(x))
    if layer.output_quantizer is not None:
        y = layer.output_quantizer(y)
    np.testing.assert_allclose(layer(x).numpy(), y.numpy(), atol=1e-5)
    assert layer.compute_output_shape((None, *shape)) == (None, *y.shape[1:])


@pytest.mark.parametrize("name", CASES)
def test_cost_is_the_loop_over_real_bits(name):
    """Every window, tap, channel and filter by itself; a product with padding is none."""
    make, shape = CASES[name]
    layer = trained(make(), shape)
    bx = layer.input_quantizer.format().broadcast_to(shape).width
    kernel = layer.kernel_quantizer(tf.convert_to_tensor(layer.kernel), training=False).numpy()
    bw = np.vectorize(effective_bits)(kernel)
    outputs = layer.compute_output_shape((None, *shape))[1:-1]
    low = [pair[0] for pair in layer._geometry["padding"]]
    total = 0
    for window in np.ndindex(outputs):
        for *tap, c, m in np.ndindex(bw.shape):
            at = tuple(o * s + t * d - p for o, s, t, d, p in zip(window, layer.strides, tap, layer.dilation_rate, low, strict=True))
            if all(0 <= index < size for index, size in zip(at, shape, strict=False)):
                group = m // (layer.filters // layer.groups)
                total += bx[(*at, group * bw.shape[-2] + c)] * bw[(*tap, c, m)]
        if layer.use_bias:
            total += np.vectorize(effective_bits)(layer.bias_quantizer(layer.bias.value).numpy()).sum()
    assert total > 0
    assert float(layer.cost()) == total


def model_of(name, head=False):
    make, shape = CASES[name]
    layers = [make(), *([keras.layers.Flatten(), QDense(2)] if head else [])]
    model = keras.Sequential([keras.Input(shape), *layers])
    for layer in layers:
        if hasattr(layer, "cost"):
            trained(layer, layer._shape)
    return model, fixed_input(shape)


@pytest.mark.parametrize(("name", "head"), [*((name, False) for name in CASES), ("1d_groups", True), ("2d_strided_same", True)])
def test_keras_equals_golden_equals_rtl(name, head):
    model, x = model_of(name, head)
    graph = freeze(model, x[:50], optimize=False)
    data = np.concatenate([x, 3 * x])
    (golden,) = run(graph, data).values()
    np.testing.assert_array_equal(golden, model.predict(data, verbose=0))
    assert np.unique(golden).size > 1
    (optimized,) = run(optimize(graph), data).values()
    np.testing.assert_array_equal(optimized, golden)
    (rtl,) = plugins.backend("rtl").comb_predict(graph, {graph.inputs[0].name: data}).values()
    np.testing.assert_array_equal(rtl, golden)


@pytest.mark.parametrize("name", CASES)
def test_estimate_counts_what_training_charges(name):
    model, x = model_of(name)
    graph = freeze(model, x, optimize=False)
    assert ebops_of(graph) == total_ebops(model)


@pytest.mark.parametrize("name", CASES)
def test_configuration_is_complete(name):
    layer = CASES[name][0]()
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize("name", ["1d_causal_dilated", "2d_same"])
def test_a_saved_model_is_the_model(name, tmp_path):
    model, x = model_of(name)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.parametrize("name", ["1d_groups", "2d_same"])
def test_trains(name):
    make, shape = CASES[name]
    model = keras.Sequential([keras.Input(shape), make()])
    model.compile("sgd", "mse")
    x = fixed_input(shape)
    before = [v.numpy() for v in model.trainable_variables]
    model.fit(x, np.ones((len(x), *model.output_shape[1:])), epochs=1, verbose=0)
    assert all(np.isfinite(v.numpy()).all() for v in model.trainable_variables)
    changed = [v.path for v, old in zip(model.trainable_variables, before, strict=True) if (v.numpy() != old).any()]
    assert any(path.endswith("kernel") for path in changed)
    assert any(path.endswith("input_quantizer/f") for path in changed)


@pytest.mark.parametrize("name", ["1d_same_strided", "2d_strided_same", "2d", "3d"])
def test_training_and_inference_compute_the_same(name):
    make, shape = CASES[name]
    layer = make()
    layer.build((None, *shape))
    x = np.round(fixed_input(shape) * 16) / 16
    w = np.round(RNG.normal(size=layer.kernel.shape) * 16).astype(np.float32) / 16
    exact, fast = (convolve(tf.constant(x), tf.constant(w), groups=1, **layer._geometry, exact=e) for e in (True, False))
    np.testing.assert_array_equal(exact, fast)


def test_cost_is_differentiable_in_the_bits():
    layer = QConv2D(2, 2, padding="same", kernel_initializer="ones")  # a weight of 0 has no gradient
    layer.build((None, 3, 3, 1))
    with tf.GradientTape() as tape:
        cost = layer.cost()
    f, b = layer.input_quantizer._f, layer.kernel_quantizer._b
    df, db = tape.gradient(cost, [f.value, b.value])
    assert float(tf.reduce_min(df)) > 0
    assert float(tf.reduce_min(db)) > 0


def test_fine_quantizers_change_next_to_nothing():
    x = RNG.normal(size=(20, 6, 6, 2)).astype(np.float32)
    layer = QConv2D(3, 3, padding="same", kernel_quantizer=FINE, bias_quantizer=FINE, input_quantizer=FINE)
    twin = keras.layers.Conv2D(3, 3, padding="same")
    layer(x)
    twin.build(x.shape)
    twin.kernel.assign(layer.kernel)
    np.testing.assert_allclose(layer(x), twin(x), atol=2e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QConv2D(2, (3, 3, 3)), r"kernel_size[\s\S]*a positive integer, or 2 of them"),
        (lambda: QConv1D(2, 3, strides=0), "strides is a number of elements"),
        (lambda: QConv2D(0, 3), "filters is the number of outputs"),
        (lambda: QConv2D(2, 3, padding="causal"), r"Unknown padding[\s\S]*'valid' or 'same'"),
        (lambda: QConv2D(3, 3, groups=2), "as many filters"),
        (lambda: QConv2D(2, 3, data_format="channels_first"), "Channels come last"),
        (lambda: QConv2D(2, 3, input_quantizer=None), "needs its input_quantizer"),
        (lambda: QConv2D(2, 3).build((None, 8, 8)), "an input of 4 axes"),
        (lambda: QConv2D(2, 9).build((None, 8, 8, 1)), r"kernel is larger than the input[\s\S]*same"),
        (lambda: QConv2D(4, 2, groups=2).build((None, 8, 8, 3)), "do not fall into these groups"),
        (lambda: QConv2D(2, 3).build((None, None, 8, 1)), "static input shape"),
    ],
)
def test_refusals_teach(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
