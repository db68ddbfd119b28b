"""Small networks on small data: what is tested is how a run goes, not how well it learns."""

from __future__ import annotations

import pytest


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
