"""Model files read as what they are, JSON and HDF5: no class in them is imported, no code runs."""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hgq.errors import FileFormatError, require_file
from hgq.imports.network import Entry, Network, read

Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class ModelFile:
    """A network and the arrays of its layers.

    Args:
        path: Where it was read.
        network: Its layers and calls.
        arrays: By layer, then by path: ``vars/0`` in a ``.keras`` file, ``kernel`` in an HDF5 file.
    """

    path: Path
    network: Network
    arrays: Mapping[str, Weights]

    def weights(self, entry: Entry, names: Sequence[str], part: str = "") -> Weights:
        """The arrays of a layer by the names of its weights.

        Args:
            entry: The layer.
            names: Of its weights in the order in which Keras makes them; which of them there are.
            part: The attribute of the layer that owns them, if it is not the layer itself.

        Raises:
            FileFormatError: one is missing.
        """
        stored, found = self.arrays.get(entry.name, {}), {}
        prefix = f"{part}/" if part else ""
        for number, name in enumerate(names):
            candidates = (f"{prefix}vars/{number}", f"{prefix}{name}", name)
            key = next((candidate for candidate in candidates if candidate in stored), None)
            if key is None:
                raise FileFormatError(
                    "A weight is missing from the file.",
                    where=f"{self.path}, layer {entry.name} ({entry.class_name})",
                    expected=f"{prefix}{name}",
                    received=", ".join(stored) or "a layer without weights",
                )
            found[name] = np.asarray(stored[key], np.float32)
        return found


def open_model(path: str | os.PathLike[str], weights: str | os.PathLike[str] | None = None) -> ModelFile:
    """Read ``.keras``, ``.h5``/``.hdf5`` or ``.json`` (with the file of its `weights`).

    Raises:
        FileFormatError: it is missing, or something else.
    """
    path = Path(path)
    require_file(path, "model", "a .keras, .h5 or .json file")
    try:
        if zipfile.is_zipfile(path):
            return _archive(path)
        if h5py.is_hdf5(path):
            return _hdf5(path)
        return _json(path, weights)
    except (KeyError, json.JSONDecodeError, UnicodeDecodeError, OSError, zipfile.BadZipFile) as error:
        raise FileFormatError(
            "This model file cannot be read.",
            where=str(path),
            expected="a .keras archive, an HDF5 file of model.save, or the JSON of model.to_json",
            received=f"{type(error).__name__}: {error}"[:200],
        ) from error


def _archive(path: Path) -> ModelFile:
    with zipfile.ZipFile(path) as archive:
        network = read(json.loads(archive.read("config.json")), str(path))
        with h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as file:
            return ModelFile(path, network, _by_class(file, network))


def _hdf5(path: Path) -> ModelFile:
    with h5py.File(path, "r") as file:
        config = file.attrs.get("model_config")
        if config is None:
            raise FileFormatError(
                "This HDF5 file holds weights, but no network.",
                where=str(path),
                expected="a file of model.save",
                received="one of model.save_weights",
                fix="Save the whole model, or give model.to_json()'s file as MODEL and this one as --weights.",
            )
        network = read(json.loads(config), str(path))
        return ModelFile(path, network, _by_name(file["model_weights"], network))


def _json(path: Path, weights: str | os.PathLike[str] | None) -> ModelFile:
    network = read(json.loads(path.read_text(encoding="utf-8")), str(path))
    if weights is None:
        candidates = [path.with_suffix(ending) for ending in (".weights.h5", ".h5", ".hdf5")]
        weights = next((candidate for candidate in candidates if candidate.is_file()), None)
    if weights is None or not Path(weights).is_file():
        raise FileFormatError(
            "A JSON file holds a network without its weights.",
            where=str(path),
            expected=f"{path.stem}.weights.h5 beside it, or --weights FILE",
            received=str(weights or "none"),
        )
    with h5py.File(weights, "r") as file:
        named = "layers" not in file
        return ModelFile(path, network, _by_name(file, network) if named else _by_class(file, network))


def _by_name(root: Any, network: Network) -> dict[str, Weights]:
    """HDF5 of Keras 2, and of Keras 3's legacy format: groups are named by layers."""
    return {entry.name: _arrays(root[entry.name], short=True) for entry in network.entries if entry.name in root}


def _by_class(file: Any, network: Network) -> dict[str, Weights]:
    """HDF5 of Keras 3: groups are named by classes, numbered in the order of layers; newer ones also note the layer's name."""
    root = file["layers"] if "layers" in file else file["_layer_checkpoint_dependencies"]
    noted = {str(group["vars"].attrs["name"]): group for group in root.values() if "vars" in group and "name" in group["vars"].attrs}
    found, used = {}, dict[str, int]()
    for entry in network.entries:
        snake = _snake(entry.class_name)
        number = used.get(snake, 0)
        used[snake] = number + 1
        label = f"{snake}_{number}" if number else snake
        group = noted.get(entry.name) or root.get(label) or root.get(entry.name)
        if group is not None:
            found[entry.name] = _arrays(group, short=False)
    return found


def _arrays(group: Any, short: bool) -> dict[str, NDArray[np.float32]]:
    found: dict[str, NDArray[np.float32]] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiu":
            key = name.removesuffix(":0")
            found[key.rpartition("/")[2] if short else key] = item[()]

    group.visititems(visit)
    return found


def _snake(name: str) -> str:
    """``QDense`` -> ``q_dense``, ``Conv2D`` -> ``conv2d``: how Keras names groups after classes."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
