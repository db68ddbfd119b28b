"""Gradient health: its figures by the formulas in NumPy, and that measuring changes nothing."""

from __future__ import annotations

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgq.layers import QGRU, QDense, QDenseBatchNorm, with_gradients
from hgq.report import report
from hgq.training import GradientHealth, gradient_health, train

RNG = np.random.default_rng(43)


def model_with(scheme):
    """One plain dense layer and a mean of squares, whose gradient is ``2 (y - t) / n``."""
    keras.utils.set_random_seed(5)
    dense = keras.layers.Dense(5, name="dense")
    model = with_gradients(keras.Sequential([keras.Input((4,)), dense]), scheme)
    model.compile("sgd", "mse")
    return model


def by_formula(model, x, t, quantize):
    g = (2 * (model(x).numpy().astype(np.float64) - t) / t.size).astype(np.float32)
    read = quantize(g)
    db = lambda signal, error: 10 * np.log10((signal**2).sum() / (error**2).sum())  # noqa: E731
    return g, read, db(g, read - g), db(x.T @ g, x.T @ (read - g))


def test_the_figures_are_those_of_the_formula():
    x, t = RNG.normal(size=(64, 4)).astype(np.float32), RNG.lognormal(0, 2, (64, 5)).astype(np.float32)
    model = model_with("int4_rn")

    def quantize(g):
        scale = np.abs(g).max() / 7
        return np.rint(g / scale) * scale

    _, read, snr, kernel_snr = by_formula(model, x, t, quantize)
    (health,) = gradient_health(model, x, t)
    assert health.layer == "dense" and health.scheme == "int4(stochastic=False)"
    np.testing.assert_allclose(health.underflow, (read == 0).mean(), atol=0.01)
    assert 0.2 < health.underflow < 1
    np.testing.assert_allclose([health.snr_db, health.kernel_snr_db], [snr, kernel_snr], atol=0.02)
    assert health.clipped == 0


def test_what_hindsight_clips_is_counted():
    x, t = RNG.normal(size=(64, 4)).astype(np.float32), RNG.normal(size=(64, 5)).astype(np.float32)
    model = model_with("luq4(scale='hindsight')")
    g = by_formula(model, x, t, lambda g: g * 0)[0]
    peak = np.quantile(np.abs(g), 0.8)
    model.layers[0].backward._memory.assign(peak)
    (health,) = gradient_health(model, x, t)
    np.testing.assert_allclose(health.clipped, (np.abs(g) > peak).mean(), atol=1 / g.size)
    assert float(model.layers[0].backward._memory.value) == np.float32(peak)


@pytest.mark.parametrize("jit", [True, False])
def test_measuring_changes_no_bit_of_the_training(tmp_path, jit):
    x, y = RNG.normal(size=(128, 3, 4)).astype(np.float32), RNG.normal(size=(128, 1)).astype(np.float32)

    def trained(callbacks):
        keras.utils.set_random_seed(6)
        gru = keras.layers.Flatten() if jit else QGRU(3, "hard_tanh", "hard_sigmoid", gradients="luq4", name="gru")  # minutes in XLA
        dense = QDenseBatchNorm(6, "relu", gradients="luq4(scale='hindsight')", name="normal")
        model = keras.Sequential([keras.Input((3, 4)), dense, gru, keras.layers.Dropout(0.3), QDense(1, gradients="hlq", name="last")])
        model.compile(keras.optimizers.Adam(1e-2), "mse", metrics=["mae"], jit_compile=jit)
        return model, model.fit(x, y, 32, 3, shuffle=False, verbose=0, callbacks=callbacks).history

    plain, history = trained([])
    path = tmp_path / "gradients.csv"
    watched, same = trained([GradientHealth(path, x[:32], y[:32], every=2)])
    assert history == same
    for one, other in zip(plain.variables, watched.variables, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    names = ["normal/statistics", "normal", *([] if jit else ["gru/gates", "gru/inner", "gru/candidate"]), "last"]
    assert sorted({row["layer"] for row in rows}) == sorted(names)
    assert [row["epoch"] for row in rows if row["layer"] == "last"] == ["0", "2"]
    assert all(0 < float(row["snr_db"]) < 60 for row in rows if row["layer"] != "normal/statistics")


def test_layers_in_full_precision_are_left_out():
    model = keras.Sequential([keras.Input((4,)), QDense(3, gradients="luq4"), QDense(2)])
    model.compile("sgd", "mse")
    found = gradient_health(model, tf.ones((8, 4)), tf.ones((8, 2)))
    assert [health.layer for health in found] == [model.layers[0].name]


def test_a_run_measures_resumes_and_reports(recipe, tmp_path):
    asked = recipe(train={"gradients": "luq4", "gradient_health": True, "epochs": 3})
    train(asked, tmp_path / "run")
    path = tmp_path / "run" / "gradients.csv"
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["0", "0", "1", "1", "2", "2"]
    page = report(tmp_path / "run").read_text()
    assert "What quantization did to the gradients" in page
    assert page.count("SNR in dB</text>") == 2 and f"{float(rows[-1]['snr_db']):.1f} dB" in page
