"""What benchmarks/gradients.py shares between seeds changes no result; what it counts is what happens."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.gradient_accuracy import plan
from hgq.errors import DataError

TINY = plan.Task("", "tiny.npz", 96, (), "adam", 0.01, 2, batch=32, jit=False)
TINY_CONV = plan.Task("", "tiny.npz", 96, (4,), "sgd", 0.05, 1, batch=32, filters=(3,), pool=2, jit=False)
TINY_BINARY = plan.Task("", "tiny.npz", 96, (), "adam0", 0.05, 1, batch=96, jit=False, weights="binary")
MEASURED = ("accuracy", "loss")


@pytest.fixture
def training(tmp_path, monkeypatch):
    """``training.Trainer(task, method, data)`` of small tasks; ``data(task)``."""
    from benchmarks.gradient_accuracy import training

    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (count, 8, 8, 3), np.uint8) for name, count in (("x_train", 100), ("x_test", 40))}
    labels = {f"y_{name[2:]}": (image.mean((1, 2, 3)) > 127.5).astype(np.uint8) for name, image in images.items()}
    np.savez(tmp_path / "tiny.npz", **images, **labels)
    for name, task in (("tiny", TINY), ("tiny_conv", TINY_CONV), ("tiny_binary", TINY_BINARY)):
        monkeypatch.setitem(plan.TASKS, name, task)
        monkeypatch.setitem(plan.METHODS, name, plan.METHODS["mlp"] | plan.LOOK_AHEAD)
    training.data = lambda name: training.load(plan.TASKS[name], tmp_path)
    return training


def test_a_seed_gives_the_same_whatever_ran_before(training):
    data = training.data("tiny")
    trainer = training.Trainer("tiny", "luq2", data)
    first, second, again = (trainer.run(seed) for seed in (0, 1, 0))
    alone = training.Trainer("tiny", "luq2", data).run(1)
    assert [first[name] for name in MEASURED] == [again[name] for name in MEASURED]
    assert [second[name] for name in MEASURED] == [alone[name] for name in MEASURED]
    assert first["loss"] != second["loss"]


@pytest.mark.slow
def test_so_does_a_method_with_a_state(training):
    trainer = training.Trainer("tiny", "zigzag", training.data("tiny"))
    first, _, again = (trainer.run(seed) for seed in (0, 1, 0))
    assert [first[name] for name in MEASURED] == [again[name] for name in MEASURED]


@pytest.mark.parametrize(("method", "expected"), [("luq4", [7, 7, 7]), ("luq4_ends", [None, 7, None]), ("none", [None, None, None])])
def test_first_and_last_layer_are_quantized_unless_the_method_says_otherwise(training, method, expected):
    model = training.network(TINY_CONV, plan.SCHEMES[method], training.data("tiny_conv"))
    schemes = [layer.backward.scheme for layer in model.layers if hasattr(layer, "backward")]
    assert [scheme and scheme.levels for scheme in schemes] == expected


def test_flips_are_those_that_happened(training):
    trainer = training.Trainer("tiny_binary", "none", training.data("tiny_binary"))
    trainer._begin(0)
    kernels = [variable for variable in trainer.model.trainable_variables if variable.name == "kernel"]
    before = [kernel.numpy() for kernel in kernels]
    trainer.loop.run_epoch(0)  # one step, since a batch is everything
    flips = sum(((old >= 0) != (kernel.numpy() >= 0)).sum() for old, kernel in zip(before, kernels, strict=True))
    assert flips > 0
    assert trainer.flips.per_thousand() == pytest.approx(1000 * flips / sum(old.size for old in before))


def test_pixels_are_averaged_and_scaled(training):
    x, y, x_test, _ = training.data("tiny_conv")
    assert (x.shape, x_test.shape, y.shape) == ((96, 4, 4, 3), (40, 4, 4, 3), (96,))
    flat = training.data("tiny")[0].reshape(96, 4, 2, 4, 2, 3)
    np.testing.assert_allclose(x[5, 1, 2], flat[5, 1, :, 2].reshape(4, 3).mean(0), rtol=1e-5, atol=1e-5)


def test_missing_data_are_an_error_that_helps(training, tmp_path):
    with pytest.raises(DataError, match="not there") as error:
        training.load(TINY, tmp_path / "nowhere")
    assert "--data" in str(error.value)
