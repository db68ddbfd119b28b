"""A model with another training step is the same model: layers, losses, metrics, files."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
import pytest

from hgq.errors import ConfigError
from hgq.freeze import freeze
from hgq.layers import QDense, QDenseBatchNorm, total_ebops
from hgq.training import run as run_module
from hgq.training import train
from hgq.training.step import STEPS, Step, TrainStepMethod, register_step, training_state, with_step

RNG = np.random.default_rng(31)
X = RNG.normal(size=(192, 6)).astype(np.float32)
Y = RNG.integers(0, 3, 192)
WEIGHTS = RNG.uniform(0.5, 1.5, 192).astype(np.float32)


class Plain(Step):
    """One gradient, one update: Keras' own step, by way of ours."""

    def update(self, gradients, again):
        self.model.optimizer.apply(gradients, self.model.trainable_variables)


@register_step("plain_for_tests")
@dataclass(frozen=True)
class PlainMethod(TrainStepMethod):
    def begin(self, model):
        return Plain(model)


def net():
    keras.utils.set_random_seed(6)
    regularizer = keras.regularizers.L2(1e-3)
    return keras.Sequential(
        [
            keras.Input((6,)),
            QDenseBatchNorm(8, "relu", gradients="luq4"),
            keras.layers.Dropout(0.1),
            QDense(3, gradients="int4", beta=1e-4, kernel_regularizer=regularizer),
        ]
    )


def fitted(method, optimizer, epochs=2, steps=None, **options):
    model = with_step(net(), method)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], weighted_metrics=["accuracy"], **options)
    return model, model.fit(X, Y, 64, epochs, shuffle=False, verbose=0, sample_weight=WEIGHTS, steps_per_epoch=steps).history


def test_the_step_is_that_of_keras_bit_for_bit():
    """Losses of layers and regularizers, sample weights, metrics, moving statistics, random numbers and clipping included."""
    own, history = fitted("plain_for_tests", keras.optimizers.Adam(1e-2, clipnorm=0.5), jit_compile=False)
    keras_own, expected = fitted(None, keras.optimizers.Adam(1e-2, clipnorm=0.5), jit_compile=False)
    assert history == expected
    for a, b in zip(own.get_weights(), keras_own.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert int(own.step.evaluations) == 2 * 3
    assert len(own.trainable_variables) == len(keras_own.trainable_variables)


def test_layers_are_shared_and_files_are_plain(tmp_path):
    model = net()
    trained = with_step(model, "plain_for_tests")
    trained.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    trained.fit(X, Y, 64, 1, verbose=0)
    assert [layer for layer in trained.layers if not isinstance(layer, keras.layers.InputLayer)] == model.layers
    np.testing.assert_array_equal(trained.predict(X, verbose=0), model.predict(X, verbose=0))
    assert total_ebops(trained) == total_ebops(model) > 0
    assert freeze(trained, X).digest() == freeze(model, X).digest()
    trained.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again) is keras.Sequential and again.optimizer.iterations == trained.optimizer.iterations == 3
    for a, b in zip(again.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    keras.saving.save_model(trained, tmp_path / "with_method.keras")
    again = keras.saving.load_model(tmp_path / "with_method.keras")
    assert again.method == trained.method and again.step is not None
    for a, b in zip(again.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_functional_models_keep_the_structure_of_inputs_and_outputs():
    inputs = {"b": keras.Input((2,), name="b"), "a": keras.Input((2,), name="a")}
    hidden = keras.layers.Concatenate()([inputs["b"], inputs["a"]])
    model = keras.Model(inputs, {"y": keras.layers.Dense(1, name="y")(hidden), "x": keras.layers.Dense(2, name="x")(hidden)})
    trained = with_step(model, PlainMethod())
    trained.compile("sgd", {"y": "mse", "x": "mae"}, jit_compile=False)
    data = {"a": X[:, :2], "b": X[:, 2:4]}
    history = trained.fit(data, {"y": X[:, :1], "x": X[:, :2]}, verbose=0).history
    assert {"loss", "x_loss", "y_loss"} <= set(history)
    assert history["loss"][0] == pytest.approx(history["x_loss"][0] + history["y_loss"][0], rel=1e-5)
    out = model.predict(data, verbose=0)
    assert set(out) == {"x", "y"} and out["x"].shape == (192, 2)
    np.testing.assert_array_equal(trained.predict(data, verbose=0)["y"], out["y"])


def test_none_is_the_model_itself():
    model = net()
    assert with_step(model, None) is model and with_step(model, "none") is model
    model.compile("sgd", "mse")
    assert training_state(model) == [*model.variables, *model.optimizer.variables]


def test_what_is_refused():
    with pytest.raises(ConfigError, match=r"Not a method of training[\s\S]*zigzag[\s\S]*Did you mean 'zigzag'"):
        with_step(net(), "zigzg")
    with pytest.raises(ConfigError, match=r"zigzag has no argument 'b'"):
        with_step(net(), "zigzag(b=2)")
    with pytest.raises(ConfigError, match=r"cannot be replaced[\s\S]*Sequential"):
        with_step(keras.Sequential([keras.layers.Dense(3)]), "zigzag")
    with pytest.raises(ConfigError, match="not compiled"):
        with_step(net(), "plain_for_tests").train_step((X, Y))


@pytest.mark.parametrize("name", [name for name in STEPS.names() if name != "none"])
def test_methods_are_strings(name):
    method = STEPS.get(name)
    assert STEPS.get(STEPS.serialize(method)) == method


class InterruptAt(keras.callbacks.Callback):
    """Ctrl-C at the end of the second epoch, before its checkpoint is written."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


RUNS = {"zigzag": {"step": "zigzag(period=2)"}, "metagrad": {"step": "metagrad", "finetune": 2, "epochs": 1}}


@pytest.mark.parametrize("changes", [RUNS["zigzag"], pytest.param(RUNS["metagrad"], marks=pytest.mark.slow)], ids=RUNS)
def test_an_interrupted_run_goes_on_bit_identically(recipe, tmp_path, monkeypatch, changes):
    monkeypatch.setattr(run_module, "SAVE_SECONDS", 0.0)
    asked = recipe(train={"epochs": 3, "gradients": "luq4", **changes})
    train(asked, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(asked, tmp_path / "cut", callbacks=[InterruptAt()])
    train(asked, tmp_path / "cut", resume=True)
    whole, cut = (keras.saving.load_model(tmp_path / name / "model.keras") for name in ("whole", "cut"))
    assert type(whole) is keras.Sequential
    for a, b in zip(whole.variables, cut.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(whole.optimizer.variables, cut.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)
