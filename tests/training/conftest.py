"""Small networks on small data: what is tested is how a run goes, not how well it learns."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest


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
def recipe(blobs):
    """``recipe(section={…})`` -> a run of seconds."""
    from hgq.config import Recipe

    def make(**changes):
        content = {
            "name": "tiny",
            "data": {"path": str(blobs)},
            "model": {"widths": [6]},
            "train": {"epochs": 4, "batch_size": 128, "jit_compile": False, "learning_rate": 0.02},
            "verify": {"samples": 0},
        }
        for key, change in changes.items():
            content[key] = {**content.get(key, {}), **change} if isinstance(change, dict) else change
            if key == "layers":
                content.pop("model", None)
        return Recipe.from_dict(content)

    return make
