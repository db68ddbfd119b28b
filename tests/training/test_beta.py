"""`BetaSchedule` against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hgq.errors import ConfigError
from hgq.training.beta import FROM_ZERO, BetaSchedule


def test_constant():
    schedule = BetaSchedule(3e-6)
    assert [schedule(epoch) for epoch in (0, 1, 1e6)] == [3e-6] * 3


def test_constant_pieces_are_steps():
    schedule = BetaSchedule([(2, 1.0), (5, 3.0), (7, 2.0)])
    assert [schedule(epoch) for epoch in range(9)] == [1, 1, 1, 1, 1, 3, 3, 2, 2]


def test_linear():
    schedule = BetaSchedule([(10, 0.0, "linear"), (20, 5.0)])
    np.testing.assert_allclose([schedule(epoch) for epoch in range(10, 21)], np.linspace(0, 5, 11))
    assert schedule(3) == 0 and schedule(99) == 5


def test_log():
    schedule = BetaSchedule([(0, 1e-7, "log"), (100, 1e-3)])
    np.testing.assert_allclose([schedule(epoch) for epoch in range(101)], np.geomspace(1e-7, 1e-3, 101), rtol=1e-12)


def test_log_downwards():
    schedule = BetaSchedule([(0, 1e-3, "log"), (4, 1e-7)])
    np.testing.assert_allclose([schedule(epoch) for epoch in range(5)], [1e-3, 1e-4, 1e-5, 1e-6, 1e-7], rtol=1e-12)


def test_log_from_zero_is_zero_at_its_knot_and_a_ramp_after_it():
    schedule = BetaSchedule([(0, 0.0, "log"), (10, 1e-5)])
    values = [schedule(epoch) for epoch in range(11)]
    assert values[0] == 0 and values[10] == 1e-5
    np.testing.assert_allclose(np.diff(np.log(values[1:])), -math.log(FROM_ZERO) / 10)


def test_log_to_zero_and_between_zeros():
    schedule = BetaSchedule([(0, 1e-5, "log"), (4, 0.0, "log"), (8, 0.0)])
    assert schedule(2) == pytest.approx(1e-5 * FROM_ZERO**0.5)
    assert [schedule(epoch) for epoch in (4, 6, 8, 9)] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "knots", [[], [(0, -1.0)], [(0, math.nan)], [(0, math.inf)], [(0, 1.0, "cubic")], [(1, 1.0), (1, 2.0)], [(2, 1.0), (1, 2.0)]]
)
def test_nonsense_is_refused(knots):
    with pytest.raises(ConfigError):
        BetaSchedule(knots)


def test_in_fit():
    import keras

    from hgq.layers import QDense, qlayers, total_ebops

    model = keras.Sequential([keras.Input((3,)), QDense(2)])
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(float(qlayers(self.model)[0].beta))

    history = model.fit(x, x[:, :2], batch_size=32, epochs=3, verbose=0, callbacks=[BetaSchedule([(0, 0.0, "linear"), (2, 1e-3)]), Look()])
    np.testing.assert_allclose(seen, [0, 5e-4, 1e-3], rtol=1e-6)
    np.testing.assert_allclose(history.history["beta"], [0, 5e-4, 1e-3], rtol=1e-6)
    assert history.history["ebops"][-1] == total_ebops(model) > 0
