"""Function tables: their numbers against NumPy, their gradients, what they refuse."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgq.errors import ConfigError, FreezeError
from hgq.freeze import freeze
from hgq.ir import interpret
from hgq.layers import QTable, functions
from hgq.layers.function_table import FunctionTable
from hgq.numerics import Fixed
from hgq.resources import ebops
from tests.rows.tables import LUTS, bump

SCIPY_FREE = {  # formulas of their own, as text books have them
    "tanh": lambda x: (np.exp(2 * x) - 1) / (np.exp(2 * x) + 1),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "log_sigmoid": lambda x: -np.log(1 + np.exp(-x)),
    "softplus": lambda x: np.log(1 + np.exp(x)),
    "softsign": lambda x: x / (1 + np.sqrt(x * x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "mish": lambda x: x * np.tanh(np.log(1 + np.exp(x))),
    "elu": lambda x: np.where(x < 0, np.exp(x) - 1, x),
    "exp": lambda x: np.e**x,
    "reciprocal": lambda x: x**-1.0,
    "rsqrt": lambda x: x**-0.5,
}


@pytest.mark.parametrize("name", sorted(SCIPY_FREE))
def test_values_are_those_of_the_formula(name):
    x = np.arange(-64, 64) / 16 if name not in ("reciprocal", "rsqrt") else np.arange(1, 100) / 16
    values = functions.values_of(functions.FUNCTIONS[name], x)
    np.testing.assert_allclose(values, SCIPY_FREE[name](x), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("name", sorted(functions.FUNCTIONS))
def test_exact_and_smooth_are_one_function_and_so_are_both_ways_to_look_up(name):
    function = functions.FUNCTIONS[name]
    x = (np.arange(1, 500) / 64).astype(np.float32)
    x = x if name in ("log", "sqrt", "rsqrt") else np.concatenate([-x, x])
    np.testing.assert_allclose(functions.values_of(function, x), function.smooth(tf.constant(x)), rtol=1e-4, atol=1e-5)
    values = functions.look_up(function, tf.constant(x)).numpy()
    np.testing.assert_array_equal(values, functions.values_of(function, x))
    np.testing.assert_array_equal(values, tf.function(functions.look_up, jit_compile=True)(function, tf.constant(x)).numpy())
    assert function.k0 or (values >= 0).all()


def test_every_format_of_twelve_bits_is_looked_up_exactly():
    """At any scale: the master table knows 12 significant bits of any argument."""
    square = functions.FUNCTIONS["square"]
    for shift in range(-14, 10):
        x = np.ldexp(np.arange(-4095, 4096).astype(np.float32), shift)
        expected = np.minimum(x.astype(np.float64) ** 2, functions.LARGEST).astype(np.float32)
        np.testing.assert_array_equal(functions.look_up(square, tf.constant(x)).numpy(), expected)


def test_gradient_is_that_of_the_function_and_never_infinite():
    x = tf.constant([-2.0, -0.5, 0.0, 0.25, 3.0])
    for name, slope in {
        "tanh": lambda v: 1 / np.cosh(v) ** 2,
        "reciprocal": lambda v: np.where(v == 0, 0, -1 / np.where(v == 0, 1, v) ** 2),
    }.items():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = functions.look_up(functions.FUNCTIONS[name], x)
        np.testing.assert_allclose(tape.gradient(y, x), slope(x.numpy()), rtol=1e-5)


def model_of(*args, shape=(3,), **kwargs) -> keras.Model:
    inputs = keras.Input(shape)
    return keras.Model(inputs, QTable(*args, name="table", **kwargs)(inputs))


def test_infinity_saturates():
    model = model_of("reciprocal", input_quantizer="kif(i0=2, f0=1, overflow=SAT)", output_quantizer="kif(i0=2, f0=1, overflow=SAT)")
    x = np.array([[0.0, 0.5, -0.5]])
    np.testing.assert_array_equal(model.predict(x, verbose=0), [[3.5, 2.0, -2.0]])
    (golden,) = interpret.run(freeze(model), x).values()
    np.testing.assert_array_equal(golden, [[3.5, 2.0, -2.0]])


def test_nan_within_the_format_is_an_error_that_names_function_and_argument():
    model = model_of("sqrt", input_quantizer="kif(i0=2, f0=1, overflow=SAT)")
    with pytest.raises(FreezeError, match=r"sqrt\(-4\) is NaN"):
        freeze(model)
    freeze(model_of("sqrt", input_quantizer="kif(k0=0, i0=2, f0=1, overflow=SAT)"))


def test_too_many_bits_are_an_error():
    with pytest.raises(FreezeError, match="at most 16"):
        freeze(model_of("tanh", input_quantizer="kif(i0=8, f0=8, overflow=SAT)"))


def test_one_table_is_shared_where_it_is_no_larger():
    """Elements of 3 to 5 bits on one output grid share a table of 6; with an output grid each, they have their own."""
    shared = freeze(model_of("tanh", shape=(8,)), np.random.default_rng(0).normal(size=(50, 8)), optimize=False)
    assert shared.consts["table/tanh_table"].mantissa.ndim == 1
    own = freeze(model_of("tanh", output_quantizer="data"), np.random.default_rng(0).normal(size=(50, 3)), optimize=False)
    assert own.consts["table/tanh_table"].mantissa.shape[0] == 3


def test_a_function_that_nobody_could_load_is_not_saved(tmp_path):
    model = model_of(lambda x: x * x)
    with pytest.raises(ConfigError, match="registered name"):
        model.save(tmp_path / "model.keras")
    loaded_from = tmp_path / "own.keras"
    own = model_of(bump)
    own.save(loaded_from)
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    np.testing.assert_array_equal(keras.saving.load_model(loaded_from).predict(x, verbose=0), own.predict(x, verbose=0))


def test_arguments_that_mean_nothing_are_refused():
    with pytest.raises(ConfigError, match="Not a function of one number"):
        QTable("tan")
    with pytest.raises(ConfigError, match="before and behind"):
        FunctionTable("tanh", None)


def test_luts_of_a_table():
    for bits, luts in LUTS.items():
        assert ebops.table_luts(np.float64(bits)) == luts == float(ebops.table_luts(tf.constant(float(bits))))
    between = ebops.table_luts(np.linspace(0, 14, 1000))
    assert (np.diff(between) >= 0).all()


def test_keras_names_and_functions_mean_ours():
    assert QTable("swish").table.fn is QTable(keras.activations.silu).table.fn is functions.FUNCTIONS["silu"]


def test_master_table_covers_the_format_of_an_input():
    fixed = Fixed(1, 3, 8)
    x = fixed.value(np.arange(fixed.low, fixed.high + 1))
    np.testing.assert_array_equal(functions.values_of(functions.FUNCTIONS["tanh"], x), np.tanh(x).astype(np.float32))
