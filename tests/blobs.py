"""A recipe for the three clouds of points of the fixture `blobs`: trained in a second or two."""

from __future__ import annotations

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
samples = {samples}
"""


def recipe(data: object = "blobs.npz", epochs: int = 6, widths: str = "6", samples: int = 0) -> str:
    """The recipe, as TOML."""
    return RECIPE.format(data=data, epochs=epochs, widths=widths, samples=samples)
