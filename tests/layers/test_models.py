"""Quantized layers in models: charging, walking, training, saving."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgq.layers import (
    QActivation,
    QBatchNormalization,
    QDense,
    QDenseBatchNorm,
    QInput,
    QLayer,
    QReLU,
    qlayers,
    quantizers,
    set_beta,
    total_ebops,
)

RNG = np.random.default_rng(31)
X = RNG.normal(0, 2, (96, 4)).astype(np.float32)
Y = RNG.integers(0, 3, 96)


def losses_of(layer, x=X):
    """What one training call adds, taken within a call of a model as Keras makes it."""
    layer(x, training=True)
    return [float(loss) for loss in layer.losses]


class MyDense(QDense):
    """Inherits everything."""


class Doubling(QDense):
    """Overrides the template."""

    def call(self, inputs, training=None):
        return 2 * super().call(inputs, training=training)


class Shifted(QDense):
    """Overrides the function."""

    def forward(self, inputs, training=None):
        return super().forward(inputs, training) + 1


@pytest.mark.parametrize("cls", [QDense, MyDense, Doubling, Shifted])
def test_every_subclass_charges_once(cls):
    QDense(3)(X, training=True)  # HGQ2 charged subclasses twice once their base class had been built
    layer = cls(3, beta=0.5)
    losses = losses_of(layer)
    assert losses == [pytest.approx(0.5 * float(layer.cost()))]
    assert float(layer.ebops.numpy()) == float(layer.cost())


def test_inference_charges_nothing():
    layer = QDense(3)
    layer(X, training=False)
    assert layer.losses == []
    assert float(layer.ebops.numpy()) == 0


def nested_model():
    """Two uses of one layer, a model in a model used twice, and a layer in a plain layer."""
    x = keras.Input((4,), name="x")
    shared = QDense(4, "relu", name="shared")
    inner_x = keras.Input((4,))
    inner = keras.Model(inner_x, QDense(4, name="inner_dense")(QInput(name="inner_input")(inner_x)), name="inner")
    h = shared(shared(x))
    h = inner(inner(h))
    return keras.Model(x, keras.Sequential([keras.Input((4,)), QDense(3, name="last")], name="head")(h))


def test_walk_finds_each_layer_once():
    model = nested_model()
    assert [layer.name for layer in qlayers(model)] == ["shared", "inner_input", "inner_dense", "last"]
    assert [q.name for q in quantizers(model)].count("kernel_quantizer") == 3
    set_beta(model, 0.25)
    assert {float(layer.beta.numpy()) for layer in qlayers(model)} == {0.25}


def test_walk_sees_into_plain_layers():
    class Block(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.parts = [QDense(2), {"b": QDense(3)}]

        def call(self, inputs):
            return self.parts[1]["b"](self.parts[0](inputs))

    assert [layer.units for layer in qlayers(keras.Sequential([keras.Input((4,)), Block()]))] == [2, 3]


def test_a_layer_used_twice_costs_twice():
    model = nested_model()
    set_beta(model, 1.0)
    model(X, training=True)
    cost = {layer.name: float(layer.cost()) for layer in qlayers(model)}
    expected = 2 * cost["shared"] + 2 * cost["inner_dense"] + cost["last"]
    assert total_ebops(model) == expected
    assert len(model.losses) == 5
    model(X, training=True)
    assert len(model.losses) == 5  # nothing piles up over calls


def test_total_is_of_now_not_of_the_last_step():
    model = keras.Sequential([keras.Input((4,)), QDense(3, use_bias=False)])
    model(X, training=True)
    before = total_ebops(model)
    model.layers[0].kernel.assign(tf.zeros((4, 3)))
    assert before > 0
    assert total_ebops(model) == 0


def test_a_layer_can_be_written_from_outside():
    """The four methods that DESIGN asks for are enough; no cost, no charge."""

    class Twice(QLayer):
        def forward(self, inputs, training=None):
            return 2 * inputs

    layer = Twice()
    np.testing.assert_array_equal(layer(X, training=True), 2 * X)
    assert layer.losses == []
    with pytest.raises(NotImplementedError, match="defines no to_ir"):
        layer.to_ir(None)


def test_one_training_step_is_the_chain_rule():
    """A custom loop over one linear layer; the gradients of kernel and bits written out in NumPy, EBOPs and all."""
    layer = QDense(3, beta=0.01, input_quantizer="data(granularity=tensor)", bias_quantizer="bias", kernel_initializer="glorot_normal")
    layer.build((None, 4))
    kernel_b = next(v for v in layer.trainable_variables if v.path.endswith("kernel_quantizer/b"))
    kernel_i = next(v for v in layer.trainable_variables if v.path.endswith("kernel_quantizer/i"))
    kernel_b.assign(RNG.integers(2, 6, (4, 3)))
    kernel_i.assign(np.zeros((4, 3)))
    upstream = RNG.normal(size=(96, 3)).astype(np.float32)
    with tf.GradientTape() as tape:
        y = layer(X, training=True)
        loss = tf.reduce_sum(y * upstream) + sum(layer.losses)
    got = {
        v.path.split("/", 1)[1]: g.numpy()
        for v, g in zip(layer.trainable_variables, tape.gradient(loss, [v.value for v in layer.trainable_variables]), strict=True)
    }

    xq = layer.input_quantizer(X).numpy()
    w, f = layer.kernel.numpy(), kernel_b.numpy()  # i = 0: f = b
    high = 1 - 2.0**-f
    q = np.clip(np.floor(np.clip(w, -high, high) * 2.0**f + 0.5) * 2.0**-f, -high, high)
    d_q = xq.T @ upstream
    inside = np.abs(w) <= high
    d_f = np.log(2) * d_q * np.where(inside, w - q, np.sign(w) * 2.0**-f)
    d_i = np.log(2) * d_q * np.where(inside, 0, np.sign(w))
    bits_x = float(layer.input_quantizer.bits((4,))[0])
    d_cost_b = 0.01 * bits_x * (q != 0)  # each bit of a weight meets all the bits of its input
    np.testing.assert_allclose(got["kernel"], np.where(inside, d_q, 0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(got["kernel_quantizer/b"], d_f + d_cost_b, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(got["kernel_quantizer/i"], d_i - d_f, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(got["bias"], upstream.sum(0), rtol=1e-3)

    width_w = layer.kernel_quantizer.constant_bits(q).numpy()
    d_x = upstream @ q.T
    d_f_task = np.log(2) * (d_x * (X - xq)).sum()
    d_f_cost = 0.01 * width_w.sum() / 2  # four inputs share f: 1/sqrt(4)
    np.testing.assert_allclose(got["input_quantizer/f"].item(), d_f_task + d_f_cost, rtol=1e-3)


def everything():
    """A functional model with every layer, and Keras' own between them."""
    x = keras.Input((2, 2), name="x")
    h = QInput("data(f0=5)")(x)
    h = QBatchNormalization(momentum=0.5)(h)
    h = QDense(3, "relu", kernel_quantizer="weight(adapt_to_magnitude=True)")(h)
    h = keras.layers.Dropout(0.0)(keras.layers.Flatten()(h))  # without a seed: Keras does not save its state
    h = QDenseBatchNorm(4, momentum=0.5, epsilon=1e-2, output_quantizer="kbi(b0=6, overflow=SAT)")(h)
    h = QReLU("data(granularity=channel, f0=2)")(keras.layers.Reshape((2, 2))(h))
    h = QActivation("linear", "data(rounding=S_RND, seed=3, f0=1)")(keras.layers.Flatten()(h))
    return keras.Model(x, QDense(3, bias_quantizer="kbi(b0=5)")(h))


@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_everything_trains_saves_and_loads(jit, tmp_path):
    keras.utils.set_random_seed(1)
    x, model = X.reshape(-1, 2, 2), everything()
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=jit)
    before = {v.path: v.numpy() for v in model.trainable_variables}
    history = model.fit(x, Y, batch_size=48, epochs=4, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    unchanged = [v.path for v in model.trainable_variables if np.array_equal(before[v.path], v.numpy())]
    assert unchanged == []
    path = tmp_path / "model.keras"
    model.save(path)
    again = keras.models.load_model(path)
    np.testing.assert_array_equal(model.predict(x, verbose=0), again.predict(x, verbose=0))
    np.testing.assert_array_equal(model.predict(x, verbose=0), model(x, training=False).numpy())
    assert total_ebops(again) == total_ebops(model) > 0
    for a, b in zip(model.variables, again.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), a.path)


def test_compiled_training_makes_the_steps_of_plain_training():
    """The same two steps under XLA: same ranges, same EBOPs, same weights up to rounding."""

    def run(jit):
        keras.utils.set_random_seed(2)
        model = keras.Sequential([keras.Input((4,)), QDense(3, kernel_quantizer="weight(b0=4)")])
        model.compile(keras.optimizers.SGD(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=jit)
        model.fit(X, Y, batch_size=48, epochs=1, shuffle=False, verbose=0)
        return model

    plain, compiled = run(False), run(True)
    assert total_ebops(plain) == total_ebops(compiled)
    for a, b in zip(plain.variables, compiled.variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5, err_msg=a.path)


def test_ebops_penalty_shrinks_a_model_to_nothing_and_it_still_runs():
    model = keras.Sequential([keras.Input((4,)), QDense(3, beta=1.0)])
    model.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=False)
    model.fit(X, np.zeros((96, 3)), epochs=60, batch_size=96, verbose=0)
    assert total_ebops(model) == 0
    np.testing.assert_array_equal(model.predict(X, verbose=0), 0)
