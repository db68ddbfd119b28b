"""Float models as HGQ models: the same function, to within what the bits say."""

import keras
import numpy as np
import pytest

import hgq
from hgq.errors import ConfigError
from hgq.freeze import freeze
from hgq.imports import LayerRule, import_model
from hgq.ir import interpret
from hgq.layers import qlayers
from hgq.layers import quantizers as quantizers_of

L = keras.layers


def settled(model, seed=0):
    """Weights and statistics as training leaves them."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        low, high = {"moving_variance": (0.3, 3.0), "gamma": (0.5, 2.0)}.get(variable.path.rpartition("/")[2], (-0.6, 0.6))
        variable.assign(rng.uniform(low, high, variable.shape))
    return model


def mlp():
    x = source = keras.Input((12,), name="a")
    x = L.ReLU()(L.BatchNormalization(name="bn")(L.Dense(16, name="first")(x)))
    x = L.Dense(16, activation="tanh", name="second")(x)
    return settled(keras.Model(source, L.Dense(4, name="last")(x)))


def convs():
    parts = [L.Conv2D(6, 3, use_bias=False), L.BatchNormalization(), L.Activation("relu"), L.MaxPooling2D(2)]
    parts += [L.SeparableConv2D(5, 2, activation="relu"), L.DepthwiseConv2D(2, padding="same"), L.BatchNormalization(scale=False)]
    return settled(keras.Sequential([L.Input((8, 8, 2)), *parts, L.LeakyReLU(0.25), L.Flatten(), L.Dense(3)]))


def branches():
    source = keras.Input((16, 3))
    a = L.Conv1D(6, 3, padding="same", activation="relu")(source)
    b = L.BatchNormalization()(L.ReLU()(L.Conv1D(6, 1)(source)))
    shared = L.Dense(6, name="shared")
    x = L.AveragePooling1D(2)(L.Concatenate()([L.Add()([shared(a), shared(b)]), a]))
    return settled(keras.Model(source, L.Dense(3)(L.GlobalAveragePooling1D()(x))))


def einsum():
    source = keras.Input((4, 6))
    x = L.EinsumDense("abc,cd->abd", (None, 5), bias_axes="d", activation="relu")(source)
    x = L.Conv1DTranspose(3, 2)(L.Multiply()([x, x]))
    return settled(keras.Model(source, L.Softmax()(L.GlobalMaxPooling1D()(x))))


def data(model, samples=300):
    return np.random.default_rng(1).normal(size=(samples, *model.input_shape[1:])).astype(np.float32)


def relative_errors(model, x):
    """Root mean square of what 8 and 12 bits change in the outputs, over their deviation."""
    y = np.asarray(model(x))
    quantized = (hgq.quantize_model(model, bits=bits, calibration=x)(x, training=False) for bits in (8, 12))
    return [np.sqrt(np.mean((np.asarray(got) - y) ** 2)) / y.std() for got in quantized]


@pytest.mark.parametrize("build", [mlp, pytest.param(convs, marks=pytest.mark.slow), pytest.param(branches, marks=pytest.mark.slow)])
def test_errors_fall_as_two_to_the_minus_bits(build):
    model = build()
    x = data(model)
    y = np.asarray(model(x))
    errors = relative_errors(model, x)
    # errors of up to half a step in each of some hundred numbers that add up: a dozen times 2**-8, and 16 times less with 4 bits more
    assert errors[0] < 32 * 2**-8
    assert 8 < errors[0] / errors[1] < 32
    np.testing.assert_array_equal(np.asarray(model(x)), y)  # the float model is as it was


def test_rules_say_what_a_layer_gets():
    rules = [
        LayerRule(match="^first$", weight="ternary", gradients="luq4", resource="lut"),
        {"layer": "Dense", "match": "last", "weight": "kif(i0=1, f0=3)", "bias": "bias(f0=3)", "data": "data(f0=2)"},
    ]
    model = mlp()
    converted = hgq.quantize_model(model, rules, calibration=data(model))
    layers = {layer.name: layer for layer in qlayers(converted)}
    assert type(layers["first"]).__name__ == "QDenseBatchNorm" and "bn" not in layers
    assert type(layers["first"].kernel_quantizer).__name__ == "TernaryQuantizer" and layers["first"].resource == "lut"
    assert layers["first"].backward.scheme is not None and layers["second"].backward.scheme is None
    np.testing.assert_array_equal(layers["second"].kernel.numpy(), model.get_layer("second").kernel.numpy())
    assert layers["last"].kernel_quantizer.format().f.tolist() == np.full((16, 4), 3).tolist()
    assert (
        layers["last"].input_quantizer.format().f[layers["last"].input_quantizer.format().width > 0] == 2
    ).all()  # not the calibration's
    with pytest.raises(ConfigError, match=r"(?s)no 'wieght'.*Did you mean 'weight'"):
        hgq.quantize_model(model, [{"wieght": "ternary"}])


def test_what_has_no_quantized_kind_is_named():
    model = keras.Sequential([L.Input((3, 4)), L.UnitNormalization(name="unit")])
    with pytest.raises(ConfigError, match=r"(?s)no quantized kind.*layer unit"):
        hgq.quantize_model(model)


@pytest.mark.slow
def test_a_float_file_becomes_a_model_that_trains_and_freezes(tmp_path):
    keras.utils.set_random_seed(4)
    model = mlp()
    model.save(tmp_path / "float.keras")
    x = data(model, 1000)
    y = np.asarray(model(x))
    imported = import_model(tmp_path / "float.keras", calibration=x)
    assert imported.origin == "keras"
    converted = imported.model
    before = np.mean((np.asarray(converted(x, training=False)) - y) ** 2)
    converted.compile(keras.optimizers.Adam(1e-3), "mse")
    loss = converted.fit(x, y, batch_size=250, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(loss).all() and before < 0.01 * y.var()
    graph = freeze(converted, x)
    np.testing.assert_array_equal(next(iter(interpret.run(graph, x).values())), np.asarray(converted(x, training=False)))
    assert any(quantizer.tracks_range for quantizer in quantizers_of(converted))


@pytest.mark.slow
def test_einsums_and_softmax(tmp_path):
    model = einsum()
    x = data(model)
    converted = hgq.quantize_model(model, bits=12, calibration=x)
    assert np.abs(np.asarray(converted(x, training=False)) - np.asarray(model(x))).max() < 0.03
