"""Sweeps over trainings of a second or two."""

from __future__ import annotations

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


@pytest.fixture
def recipe_text(blobs):
    """``recipe_text(epochs=3)`` -> TOML."""

    def make(epochs=6, widths="6", more=""):
        return RECIPE.format(data=blobs.as_posix(), epochs=epochs, widths=widths) + more

    return make
