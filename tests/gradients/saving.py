"""A saved model draws the random numbers that the one in memory would have drawn."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np


def check_goes_on_the_same(model: keras.Model, folder: Path, x: np.ndarray, y: np.ndarray, epochs: int) -> None:
    """Save, load, train both on: the weights must be equal bit for bit."""
    model.save(folder / "model.keras")
    again = keras.saving.load_model(folder / "model.keras")
    for net in (model, again):
        net.fit(x, y, 32, epochs, shuffle=False, verbose=0)
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
