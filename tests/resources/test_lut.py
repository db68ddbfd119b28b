"""The price of weights in LUTs: digits against a plain recoding, prices against loops, and the whole against real adder graphs."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgq import plugins
from hgq.backend import Options
from hgq.calibrate import calibrate
from hgq.errors import ConfigError
from hgq.freeze import freeze
from hgq.layers import QConv1D, QDense, set_resource, total_cost, total_ebops
from hgq.quantizers import ops
from hgq.resources import lut
from tests.signed_digits import recoded


def test_signed_digits():
    rng = np.random.default_rng(0)
    numbers = np.concatenate([rng.integers(-(2**23), 2**23, 3000), np.arange(-300, 300)])
    values = (numbers * 2.0 ** rng.integers(-30, 30, len(numbers))).astype(np.float32)
    assert ops.signed_digits(tf.constant(values)).numpy().tolist() == [recoded(int(n)) for n in numbers]


def test_prices_by_loops():
    digits = np.array([[2, 0, 1], [1, 0, 3], [0, 0, 0]], float)
    bits = np.array([5.0, 3.0, 9.0])
    additions = (3 - 1) + (4 - 1)
    share = (1 + additions / 2 / lut.FITTED.shared) ** -lut.FITTED.exponent  # two rows are alive
    expected, linear = 0.0, 0.0
    for output in (0, 2):
        terms = digits[:, output].sum()
        for row in range(3):
            adder = digits[row, output] * share * lut.FITTED.adder * (bits[row] + lut.FITTED.carries)
            linear += (1 - 1 / terms) * adder
            expected += (1 - 1 / terms) * adder + digits[row, output] / terms * lut.FITTED.activation * bits[row]
    for prices, whole in ((lut.prices(digits), expected), (lut.prices(digits, activated=False), linear)):
        assert math.isclose((prices.bit * bits[:, None]).sum() + prices.value.sum(), whole, rel_tol=1e-12)
    saved = lut.saved(digits)
    assert math.isclose(saved.bit * 5 + saved.value, share * lut.FITTED.adder * (5 + lut.FITTED.carries), rel_tol=1e-12)


def test_the_digits_of_a_bit_are_those_of_all_numbers():
    """The mean over all numbers of b bits, less that of b - 1 bits: 1, and then about a third, exactly so in the limit."""
    means = [np.mean([recoded(number) for number in range(1, 2**bits)]) for bits in range(1, 13)]
    gained = np.diff(np.array([0.0, *map(float, means)]))
    of_a_bit = lut.digits_of_a_bit(np.arange(1.0, 13.0))
    assert gained[0] == of_a_bit[0] == 1
    np.testing.assert_allclose(gained[1:], of_a_bit[1:], atol=0.1)
    assert math.isclose(gained[-1], of_a_bit[-1], rel_tol=0.01)


def test_nothing_costs_nothing():
    assert not np.any(lut.prices(np.zeros((3, 2)))[0])


@pytest.fixture
def dense():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((12,)), QDense(9, "relu"), QDense(4)])
    calibrate(model, np.random.default_rng(0).normal(size=(300, 12)))
    return model


def rounded(price):
    """To 1/256 LUT: sums of such prices are exact in float32, in whatever order."""
    return np.round(np.asarray(price) * 256) / 256


def test_the_charge_counts_and_its_gradients_are_savings(dense):
    """The value is that of the prices. Bits of a weight feel what digits save on average, those of a row what its own do."""
    set_resource(dense, "lut")
    layer = dense.layers[0]
    layer.bias.assign(np.linspace(-1, 1, 9))
    dead = layer.input_quantizer._f.value
    dead.assign(tf.where(np.arange(12) == 3, -20.0, dead))  # its weights have digits, and nothing to multiply
    given = layer.kernel_quantizer._b.value
    given.assign(np.random.default_rng(2).integers(0, 5, given.shape) + 0.3)  # which rounds down, and then leaves up to four
    bits = {"data": dead, "kernel": given, "bias": layer.bias_quantizer._f.value}
    with tf.GradientTape() as tape:
        cost = layer.total_cost()
    gradients = tape.gradient(cost, bits)
    width = layer.input_quantizer.bits((12,)).numpy()
    assert width[3] == 0
    kernel = layer.kernel_quantizer(layer.kernel, training=False).numpy()
    digits = ops.signed_digits(kernel).numpy() * (width[:, None] > 0)
    of_bias = layer.bias_quantizer.effective_bits(layer.bias).numpy()
    counted, saved = lut.prices(digits), lut.saved(digits)
    value = width @ rounded(counted.bit) + (width > 0) @ rounded(counted.value)
    assert float(cost) == value.sum() + rounded(lut.FITTED.bias) * of_bias.sum()
    alive = width > 0
    np.testing.assert_array_equal(np.ravel(gradients["data"])[alive], (digits.sum(1) * rounded(saved.bit))[alive])
    declared = np.floor(np.asarray(given))
    assert {0.0, 1.0, 2.0, 4.0} <= set(np.unique(declared))
    first, further = ((rounded(share * saved.bit) * width + rounded(share * saved.value)) * alive for share in (1, 1 / 3))
    on_average = np.where(declared == 1, first[:, None], further[:, None]) * (kernel != 0)
    np.testing.assert_array_equal(np.asarray(gradients["kernel"]), on_average)
    np.testing.assert_array_equal(np.asarray(gradients["bias"]), rounded(lut.FITTED.bias_saved) * (of_bias > 0))


def test_a_convolution_knows_which_weights_meet_no_data():
    """Only the first channel has bits: the weights of the other cost nothing, wherever the window stands."""
    layer = QConv1D(4, 3, input_quantizer="data(granularity=channel)")
    model = keras.Sequential([keras.Input((6, 2)), layer])
    calibrate(model, np.random.default_rng(0).normal(size=(100, 6, 2)))
    layer.input_quantizer._f.assign(np.array([[[4.0, -20.0]]]))
    whole = float(total_cost(model, "lut"))
    kernel = layer.kernel.numpy()
    kernel[:, 1] = 0
    layer.kernel.assign(kernel)
    assert whole > 0
    assert math.isclose(float(total_cost(model, "lut")), whole, rel_tol=1e-6)


def test_it_is_charged_in_training_and_saved(dense, tmp_path):
    charged = {}
    for name in ("ebops", "lut"):
        set_resource(dense, name)
        charged[name] = float(total_cost(dense, name))
        dense(np.ones((2, 12), np.float32), training=True)
        assert math.isclose(sum(float(layer.ebops) for layer in dense.layers), charged[name], rel_tol=1e-5)
    assert charged["lut"] < charged["ebops"] == total_ebops(dense)
    dense.save(tmp_path / "m.keras")
    assert {layer.resource for layer in keras.saving.load_model(tmp_path / "m.keras").layers} == {"lut"}


def test_an_unknown_resource():
    with pytest.raises(ConfigError, match=r"cannot charge[\s\S]*ebops or lut[\s\S]*'gold'"):
        QDense(3, resource="gold")


@pytest.mark.parametrize("kind", ["dense", "sparse", "conv"])
def test_it_is_near_real_adder_graphs(kind):
    """Against alkaid's adder graph, which has the cost of every adder: far nearer than EBOPs. Bounds are of these seeds, with a margin."""
    pytest.importorskip("alkaid")
    errors = {"lut": [], "ebops": []}
    for seed in range(3):
        keras.utils.set_random_seed(seed)
        rng = np.random.default_rng(seed)
        shape = (7, 3) if kind == "conv" else (16,)
        hidden = QConv1D(6, 3, activation="relu", input_quantizer="data(granularity=channel)") if kind == "conv" else QDense(20, "relu")
        model = keras.Sequential([keras.Input(shape), hidden])
        kernel = rng.normal(scale=0.5, size=hidden.kernel.shape)
        hidden.kernel.assign(kernel * (rng.random(kernel.shape) < (0.3 if kind == "sparse" else 1.0)))
        calibrate(model, rng.normal(size=(300, *shape)))
        real = plugins.backend("rtl").resources(freeze(model), Options(extra={"stages": "0"}))["lut_cost"]
        for name, found in errors.items():
            found.append(abs(float(total_cost(model, name)) / real - 1))
    assert np.mean(errors["lut"]) < 0.2
    assert np.mean(errors["lut"]) < np.mean(errors["ebops"]) / 2
