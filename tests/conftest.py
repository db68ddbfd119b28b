"""For all tests: a quiet TensorFlow, the same hypothesis examples on every run, and small data to train on."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["COLUMNS"] = "200"  # tables and errors are not folded
os.environ.pop("HGQ_DEBUG", None)

# A slow machine is no failure, and what fails here fails at your desk too. HYPOTHESIS_PROFILE=explore looks for new examples.
settings.register_profile("hgq", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", parent=settings.get_profile("hgq"), derandomize=False, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "hgq"))


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
