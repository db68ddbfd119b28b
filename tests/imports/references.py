"""What other packages really predicted, as the scripts beside this file stored it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest


def unpacked(package: str, folders: pytest.TempPathFactory) -> Path:
    """A folder with the models, inputs and predictions of a package."""
    target = folders.mktemp(package)
    with zipfile.ZipFile(Path(__file__).with_name(f"{package}_references.zip")) as archive:
        archive.extractall(target)
    return target
