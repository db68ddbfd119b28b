"""Sweeps over trainings of a second or two."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

RECIPE = """
name = "blobs"
[data]
path = "{data}"
[model]
widths = [{widths}]
[train]
epochs = {epochs}
batch_size = 128
learning_rate = 0.02
jit_compile = false
[budget]
ebops = 300
tolerance = 0.4
beta = 1e-5
[export]
backends = ["rtl"]
[verify]
samples = 0
"""


@pytest.fixture(scope="session")
def blobs(tmp_path_factory):
    """Three classes in four dimensions, as an .npz file."""
    rng = np.random.default_rng(7)
    centres = rng.normal(0, 1.5, (3, 4))
    y = rng.integers(0, 3, 1200)
    x = (centres[y] + rng.normal(0, 1, (1200, 4))).astype(np.float32)
    path = tmp_path_factory.mktemp("data") / "blobs.npz"
    np.savez(path, x_train=x[:900], y_train=y[:900], x_test=x[900:], y_test=y[900:])
    return path


@pytest.fixture
def recipe_text(blobs):
    """``recipe_text(epochs=3)`` -> TOML."""

    def make(epochs=6, widths="6", more=""):
        return RECIPE.format(data=blobs.as_posix(), epochs=epochs, widths=widths) + more

    return make
