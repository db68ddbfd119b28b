"""Models of others as models of ours: QKeras, HGQ2 and float Keras files.

Importing this package imports Keras and TensorFlow; it never imports QKeras or HGQ2.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import keras

from hgq.errors import FileFormatError
from hgq.freeze import load_model
from hgq.imports import hgq2, qkeras
from hgq.imports.files import open_model
from hgq.imports.floats import quantize_model
from hgq.imports.options import ImportOptions
from hgq.imports.rules import LayerRule

__all__ = ["ImportOptions", "Imported", "LayerRule", "import_model", "quantize_model"]

_UNTRAINED = ("a float model has been given quantizers: train it for some epochs, or freeze it with --calibration.",)


@dataclass(frozen=True)
class Imported:
    """What an import gives.

    Args:
        model: Ready to predict, train, and freeze.
        origin: ``"qkeras"``, ``"hgq2"`` or ``"keras"``.
        notes: What the user should know about it.
    """

    model: keras.Model
    origin: str
    notes: tuple[str, ...]


def import_model(
    path: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    options: ImportOptions | None = None,
    calibration: Any = None,
) -> Imported:
    """Read a model file of QKeras, HGQ2 or Keras.

    Args:
        path: ``.keras``, ``.h5`` or ``.json``.
        weights: The weights of a ``.json``; else looked for beside it.
        options: What the user decides.
        calibration: Samples, for a float model: see `quantize_model`.

    Raises:
        FileFormatError: the file is missing, truncated, or something else.
        ConfigError: something in the model cannot be had.
    """
    file = open_model(path, weights)
    options = options or ImportOptions()
    packages = {entry.package for entry in file.network.entries}
    if "hgqc" in packages:
        raise FileFormatError("This is a model of hgqc's already.", where=str(path), fix="`hgq freeze` takes it as it is.")
    if "hgq" in packages:
        model, notes = hgq2.convert(file, options)
        return Imported(model, "hgq2", tuple(notes))
    if "qkeras" in packages or any(entry.class_name in qkeras.CLASSES for entry in file.network.entries):
        model, notes = qkeras.convert(file, options)
        return Imported(model, "qkeras", tuple(notes))
    return Imported(quantize_model(load_model(path), bits=options.bits, calibration=calibration), "keras", _UNTRAINED)
