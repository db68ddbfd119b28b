"""Fine-tuning: gradients are exact then, and only then; the learning rate is a triangle; budgets are kept."""

from __future__ import annotations

import csv

import keras
import numpy as np
import pytest

from hgq.errors import ConfigError
from hgq.layers import QDense
from hgq.layers.walk import backward_passes, pause_gradients
from hgq.training import FineTune, train
from hgq.training.finetune import triangular

RNG = np.random.default_rng(3)
X = RNG.normal(size=(128, 5)).astype(np.float32)
Y = (X[:, :1] - X[:, 1:2] ** 2).astype(np.float32)


def net(gradients, rate=0.02):
    keras.utils.set_random_seed(4)
    hidden = keras.Sequential([keras.Input((5,)), QDense(6, "relu", gradients=gradients)])  # nested, too
    model = keras.Sequential([keras.Input((5,)), hidden, QDense(1, gradients=gradients)])
    model.compile(keras.optimizers.SGD(rate), "mse", jit_compile=False)
    return model


class Rates(keras.callbacks.Callback):
    """The learning rate of each step, and the draws of random numbers so far."""

    def __init__(self):
        super().__init__()
        self.rates, self.draws = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate))
        self.draws.append(int(self.model.layers[-1].backward._draws))


def test_the_triangle():
    assert [triangular(share, 1.0, 5.0) for share in (0, 0.25, 0.5, 0.75, 1)] == [1, 3, 5, 3, 1]


def test_the_last_epochs_have_exact_gradients_and_a_triangle_of_rates():
    model, seen = net("luq4", rate=0.02), Rates()
    model.fit(X, Y, 32, 3, verbose=0, callbacks=[FineTune(2, peak=0.1), seen])
    assert seen.draws == [1, 2, 3, 4, *[4] * 8]
    shares = (np.arange(8) + 0.5) / 8
    np.testing.assert_allclose(seen.rates[:4], 0.02, rtol=1e-6)
    np.testing.assert_allclose(seen.rates[4:], 0.02 + 0.08 * np.minimum(2 * shares, 2 - 2 * shares), rtol=1e-6)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.02)
    model.fit(X, Y, 32, 1, verbose=0, callbacks=[seen])
    assert seen.draws[-4:] == [5, 6, 7, 8], "after the phase, schemes compute gradients again"


def test_fine_tuning_from_the_first_epoch_is_training_without_a_scheme():
    model, exact = net("luq4"), net(None)
    for own, other in zip(exact.trainable_variables, model.trainable_variables, strict=True):
        own.assign(other)
    model.fit(X, Y, 32, 2, shuffle=False, verbose=0, callbacks=[FineTune(5)])
    exact.fit(X, Y, 32, 2, shuffle=False, verbose=0)
    for a, b in zip(model.trainable_variables, exact.trainable_variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_products_are_found_wherever_they_are():
    model = net("luq4")
    assert len(backward_passes(model)) == pause_gradients(model, True) == 2
    assert all(one.paused for one in backward_passes(model).values())
    assert pause_gradients(net(None), True) == 0


def test_what_is_refused():
    for given in ({"epochs": 0}, {"epochs": 1.5}, {"peak": 0.0}):
        with pytest.raises(ConfigError):
            FineTune(**given)
    with pytest.raises(ConfigError, match="nothing to fine-tune"):
        net(None).fit(X, Y, verbose=0, callbacks=[FineTune()])
    model = net("luq4", keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9))
    with pytest.raises(ConfigError, match="optimizer's schedule"):
        model.fit(X, Y, verbose=0, callbacks=[FineTune()])


def test_a_run_keeps_its_budget_and_fine_tunes_each_stage(recipe, tmp_path):
    from hgq.training import run as run_module

    epochs = []
    original = run_module.Loop.run_epoch

    def spied(loop, epoch, *, exact_gradients=False):
        epochs.append(exact_gradients)
        return original(loop, epoch, exact_gradients=exact_gradients)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module.Loop, "run_epoch", spied)
        result = train(
            recipe(
                train={"epochs": 14, "finetune": 2, "gradients": "luq4", "bit_rate": 2.0, "learning_rate": 0.01, "batch_size": 64},
                budget={"ebops": [900, 600], "beta": 3e-5, "warmup": 0.1, "ramp": 0.4, "tolerance": 0.3},
                model={"widths": [8]},
            ),
            tmp_path / "run",
        )
    with (tmp_path / "run" / "history.csv").open(newline="") as lines:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(lines)]
    assert epochs[:16] == [False] * 14 + [True] * 2 and epochs.count(True) >= 4 and epochs[-1]
    np.testing.assert_allclose(rates[14:16], 0.01 * (0.05 + 0.25 / 2), rtol=1e-6)
    assert [point.within for point in result.points] == [True, True]
