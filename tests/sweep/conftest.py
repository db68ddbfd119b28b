"""Sweeps over trainings of a second or two."""

from __future__ import annotations

import pytest

from tests.blobs import recipe


@pytest.fixture
def recipe_text(blobs):
    """``recipe_text(epochs=3)`` -> TOML."""

    def make(epochs=6, widths="6", more=""):
        return recipe(blobs.as_posix(), epochs, widths) + more

    return make
