"""Whole runs: what is in the directory, that an interrupted one goes on bit-identically, and what is refused."""

from __future__ import annotations

import csv
import io
import json

import keras
import numpy as np
import pytest

from hgq.errors import ConfigError, DataError, FileFormatError, OutputError
from hgq.ir import file as hgq_file
from hgq.ir import interpret
from hgq.training import run as run_module
from hgq.training import train
from hgq.training.run import load_data


@pytest.fixture(autouse=True)
def save_every_epoch(monkeypatch):
    monkeypatch.setattr(run_module, "SAVE_SECONDS", 0.0)


class InterruptAt(keras.callbacks.Callback):
    """Ctrl-C at the end of an epoch, before its checkpoint is written."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


def history(directory):
    with (directory / "history.csv").open(newline="") as lines:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(lines)]


def weights(path):
    model = keras.saving.load_model(path)
    return [variable.numpy() for variable in model.weights]


def budgeted(recipe, **train_changes):
    return recipe(
        budget={"ebops": [900, 600], "beta": 3e-5, "warmup": 0.1, "ramp": 0.4, "tolerance": 0.3},
        train={"epochs": 14, "bit_rate": 2.0, "learning_rate": 0.01, "batch_size": 64, **train_changes},
        layers=[
            {"type": "QDense", "units": 8, "activation": "relu", "input_quantizer": "data(rounding=S_RND)"},
            {"type": "Dropout", "rate": 0.1},
            {"type": "QDense", "units": 3},
        ],
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory, blobs):
    """One uninterrupted run with two budgets, dropout and stochastic rounding."""
    from hgq.config import Recipe

    def make(**changes):
        return Recipe.from_dict(
            {
                "name": "tiny",
                "data": {"path": str(blobs)},
                "train": {"batch_size": 128, "jit_compile": False, "learning_rate": 0.02, **changes.pop("train")},
                "verify": {"samples": 0},
                **changes,
            }
        )

    asked = budgeted(make)
    out = tmp_path_factory.mktemp("whole") / "run"
    return asked, out, train(asked, out)


def test_directory(whole):
    recipe, out, result = whole
    assert {path.name for path in out.iterdir()} >= {
        "recipe.toml",
        "history.csv",
        "bits.csv",
        "model.keras",
        "model.hgq",
        "pareto",
        "budgets",
        "result.json",
    }
    assert not (out / "checkpoint" / "state.npz").exists()
    rows = history(out)
    assert [int(row["epoch"]) for row in rows] == list(range(len(rows))) and len(rows) == result.epochs >= 28
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "ebops", "beta", "setpoint", "learning_rate"} <= set(rows[0])
    assert run_module.Recipe.from_toml(out / "recipe.toml") == recipe
    index = json.loads((out / "pareto" / "pareto.json").read_text())
    assert index and all((out / "pareto" / point["file"]).is_file() for point in index)
    assert json.loads((out / "result.json").read_text())["points"][1]["ebops"] == result.points[1].ebops
    with (out / "bits.csv").open() as lines:
        bits = list(csv.DictReader(lines))
    last = [
        row for row in bits if row["layer"] == "qdense_0" and row["quantizer"] == "kernel_quantizer" and int(row["epoch"]) == len(rows) - 1
    ]
    assert sum(int(row["count"]) for row in last) == 4 * 8


def test_delivered_models_are_what_the_result_says(whole):
    from hgq.estimate import ebops_of

    recipe, out, result = whole
    data = load_data(recipe)
    for point in result.points:
        graph = hgq_file.load(out / point.hgq_file)
        assert ebops_of(graph) == point.ebops
        (golden,) = interpret.run(graph, data.x_test).values()
        predicted = keras.saving.load_model(out / point.keras_file).predict(data.x_test, verbose=0)
        np.testing.assert_array_equal(golden, predicted)
        assert point.test == np.mean(golden.argmax(1) == data.y_test)
        assert graph.meta["budget_ebops"] == point.budget
    assert (out / "model.hgq").read_bytes() == (out / result.point.hgq_file).read_bytes()


def test_budgets_are_met(whole):
    _, _, result = whole
    assert result.ok and [point.budget for point in result.points] == [900, 600]
    for point in result.points:
        assert 0.7 * point.budget <= point.ebops <= point.budget


@pytest.mark.parametrize("epoch", [pytest.param(0, marks=pytest.mark.slow), 17])
def test_an_interrupted_run_goes_on_bit_identically(whole, tmp_path, epoch):
    recipe, uninterrupted, expected = whole
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(recipe, out, callbacks=[InterruptAt(epoch)])
    assert not (out / "result.json").exists()
    result = train(recipe, out, resume=True)
    assert history(out) == history(uninterrupted)
    assert result.points == expected.points
    for point in result.points:
        for a, b in zip(weights(out / point.keras_file), weights(uninterrupted / point.keras_file), strict=True):
            np.testing.assert_array_equal(a, b)
        assert hgq_file.load(out / point.hgq_file).digest() == hgq_file.load(uninterrupted / point.hgq_file).digest()
    assert (out / "bits.csv").read_bytes() == (uninterrupted / "bits.csv").read_bytes()
    assert (out / "pareto" / "pareto.json").read_bytes() == (uninterrupted / "pareto" / "pareto.json").read_bytes()


def test_resuming_a_finished_run_returns_it(whole):
    recipe, out, expected = whole
    before = (out / "model.keras").stat().st_mtime_ns
    assert train(recipe, out, resume=True) == expected
    assert (out / "model.keras").stat().st_mtime_ns == before


def test_beta_schedule_run(recipe, tmp_path):
    asked = recipe(train={"beta": [{"epoch": 0, "beta": 0.0, "shape": "log"}, {"epoch": 3, "beta": 1e-4}]})
    result = train(asked, tmp_path / "run")
    assert [float(row["beta"]) for row in history(tmp_path / "run")][::3] == [0.0, 1e-4]
    assert (
        result.point.budget is None
        and result.ok
        and (tmp_path / "run" / "model.hgq").is_file()
        and not (tmp_path / "run" / "budgets").exists()
    )


def test_regression_run(recipe, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    np.savez(tmp_path / "r.npz", x_train=x[:300], y_train=x[:300, :1], x_test=x[300:], y_test=x[300:, :1])
    asked = recipe(data={"path": str(tmp_path / "r.npz")}, train={"loss": "mse", "beta": 1e-7, "epochs": 12})
    result = train(asked, tmp_path / "run")
    assert result.metric == "mse" and result.point.test < 1.0


def test_a_budget_that_cannot_be_met_is_not_claimed(recipe, tmp_path):
    result = train(recipe(budget={"ebops": 3, "ramp": 0.0}, train={"epochs": 2}), tmp_path / "run")
    assert not result.ok and not result.point.within and result.point.ebops > 3


def test_what_is_refused_leaves_nothing(recipe, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(DataError):
        train(recipe(data={"path": "no.npz"}), out)
    with pytest.raises(ConfigError):
        train(recipe(layers=[{"type": "QDense", "units": 99}]), out)
    with pytest.raises(ConfigError):
        train(tmp_path / "no.toml", out)
    with pytest.raises(OutputError, match="no run to resume"):
        train(recipe(), out, resume=True)
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("x")
    with pytest.raises(OutputError, match="not empty"):
        train(recipe(), out)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        train(recipe(), tmp_path / "file")


def test_another_recipe_or_a_damaged_checkpoint_is_refused(recipe, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(recipe(), out, callbacks=[InterruptAt(1)])
    with pytest.raises(ConfigError, match="another recipe"):
        train(recipe(train={"seed": 9}), out, resume=True)
    state = out / "checkpoint" / "state.npz"
    content = state.read_bytes()
    with np.load(state) as file:
        short = io.BytesIO()
        np.savez(short, **{**file, "data": file["data"][:-5]})
    for damaged in (content[: len(content) // 2], b"", b"hello", short.getvalue()):
        state.write_bytes(damaged)
        with pytest.raises(FileFormatError, match="checkpoint is damaged"):
            train(recipe(), out, resume=True)
