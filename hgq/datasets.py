"""Data for training, from the package or from an ``.npz`` file: loaded, checked, split and scaled with NumPy alone."""

from __future__ import annotations

import difflib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hgq.errors import DataError, found_at

BUNDLED = {"jsc_sim": "jsc_sim.npz"}
"""Name -> file in ``hgq/data``."""

FEW = 20
"""Fewer training rows than this cannot be split."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs as float32 of shape (n, *shape); labels as int32 classes of shape (n,), or float32 targets of shape (n, …).

    Args:
        name: The data set's name, or the file's stem.
        x_train, y_train: What the model learns from; scaling and calibration use only these.
        x_val, y_val: What chooses the best model.
        x_test, y_test: What is reported.
        classes: Names of the classes; empty for targets that are no classes.
        features: Names of the input features, or empty.
        offset, scale: The host computes ``(raw - offset) / scale``; float64, shape of one sample.
    """

    name: str
    x_train: NDArray[np.float32]
    y_train: NDArray[Any]
    x_val: NDArray[np.float32]
    y_val: NDArray[Any]
    x_test: NDArray[np.float32]
    y_test: NDArray[Any]
    classes: tuple[str, ...]
    features: tuple[str, ...]
    offset: NDArray[np.float64]
    scale: NDArray[np.float64]

    @property
    def outputs(self) -> int:
        """How many outputs a model needs: one for each class, or for each number of a target."""
        return len(self.classes) or int(np.prod(self.y_train.shape[1:], dtype=int))


def load(
    source: str | Path = "jsc_sim",
    *,
    validation: float = 0.15,
    scaling: Literal["standard", "unit", "none"] = "standard",
    seed: int = 1,
    keys: Mapping[str, str] | None = None,
    regression: bool = False,
) -> Dataset:
    """Load a data set, hold out a validation part, and scale.

    Args:
        source: A name in `BUNDLED`, or the path of an ``.npz`` file.
        validation: Share of the training rows that becomes the validation part; chosen by `seed` alone.
        scaling: ``standard``: every feature gets mean 0 and deviation 1 *of the training part*; ``unit``: everything is divided by one
            power of two, the smallest that brings the training part to magnitudes up to 1; ``none``.
        seed: Decides which rows are held out.
        keys: Names of the arrays in the file by ``x_train``, ``y_train``, ``x_test``, ``y_test``, where they differ.
        regression: Labels are real targets, not classes.

    Raises:
        DataError: no such data set or array, a file that is none, wrong shapes or types, NaN or infinity, labels that are no classes.
    """
    path = located(source)
    keys = {"x_train": "x_train", "y_train": "y_train", "x_test": "x_test", "y_test": "y_test", **(keys or {})}
    arrays = _read(path, keys)
    where = str(path)
    x, x_test = (_inputs(arrays[part], f"{where}: {keys[part]}") for part in ("x_train", "x_test"))
    if x.shape[1:] != x_test.shape[1:]:
        raise DataError(
            "Training and test samples differ in shape.", where=where, expected=f"(n, {x.shape[1:]})", received=f"(n, {x_test.shape[1:]})"
        )
    y, y_test, classes = _labels(arrays, keys, where, regression)
    for part, inputs, labels in (("train", x, y), ("test", x_test, y_test)):
        if len(inputs) != len(labels):
            raise DataError(
                f"Samples and labels of the {part} part differ in number.", where=where, received=f"{len(inputs)} and {len(labels)}"
            )
    held = round(validation * len(x))
    if len(x) < FEW or not held or not len(x_test):
        raise DataError(
            "Too few rows.",
            where=where,
            expected=f"at least {FEW} to train on, 1 to validate, 1 to test",
            received=f"{len(x)}, {held}, {len(x_test)}",
        )
    order = np.random.default_rng([seed, 0x5EED]).permutation(len(x))
    train, val = np.sort(order[held:]), np.sort(order[:held])
    offset, scale = np.zeros(x.shape[1:]), np.ones(x.shape[1:])
    if scaling == "standard":
        exact = x[train].astype(np.float64)
        offset, scale = exact.mean(0), exact.std(0)
        scale[scale == 0] = 1.0  # a constant feature becomes 0
    elif scaling == "unit":
        largest = float(np.abs(x[train]).max(initial=0))
        scale *= 2.0 ** np.ceil(np.log2(largest)) if largest else 1.0
    x_train, x_val, x_test = (((part.astype(np.float64) - offset) / scale).astype(np.float32) for part in (x[train], x[val], x_test))
    names = tuple(str(name) for name in arrays["features"]) if "features" in arrays else ()
    return Dataset(path.stem, x_train, y[train], x_val, y[val], x_test, y_test, classes, names, offset, scale)


def located(source: str | Path) -> Path:
    """The file of a data set in the package, or of a path.

    Raises:
        DataError: there is none.
    """
    if isinstance(source, str) and source in BUNDLED:
        return Path(str(files("hgq") / "data" / BUNDLED[source]))
    path = Path(source)
    if path.is_file():
        return path
    close = difflib.get_close_matches(str(source), BUNDLED, 1)
    raise DataError(
        "There is no such data set or file.",
        where=str(source),
        expected=f"a data set in the package ({', '.join(BUNDLED)}) or the path of an .npz file",
        received=found_at(path),
        fix=f"Did you mean {close[0]!r}?" if close else "Check the path; it is relative to the working directory.",
    )


def _read(path: Path, keys: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as raw:  # opened here, since NumPy forgets to close a file that it refuses
            file = np.load(raw, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise DataError(
                    "This is a single array, not an .npz file.", where=str(path), fix="Save with numpy.savez(x_train=…, y_train=…, …)."
                )
            missing = [key for key in keys.values() if key not in file.files]
            if missing:
                close = difflib.get_close_matches(missing[0], file.files, 1)
                raise DataError(
                    "An array is missing.",
                    where=f"{path}: {missing[0]}",
                    received=", ".join(file.files),
                    fix=f"Rename it, or say data.x_train = … in the recipe{f'; is it {close[0]!r}' if close else ''}.",
                )
            arrays = {part: file[key] for part, key in keys.items()}
            return arrays | {name: file[name] for name in ("classes", "features") if name in file.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, KeyError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            "Cannot read the data.", where=str(path), expected="an .npz file of plain arrays (no Python objects)", received=str(error)
        ) from None


def _inputs(x: NDArray[Any], where: str) -> NDArray[np.float32]:
    if x.dtype.kind not in "fiub":
        raise DataError("Samples must be numbers.", where=where, expected="floats or integers", received=f"dtype {x.dtype}")
    if x.ndim < 2:
        raise DataError("Samples have the wrong shape.", where=where, expected="(samples, features, …)", received=str(x.shape))
    with np.errstate(over="ignore"):
        x = x.astype(np.float32)
    if not np.isfinite(x).all():
        first = tuple(int(index) for index in np.argwhere(~np.isfinite(x))[0])
        raise DataError(
            "Samples contain NaN or infinity.",
            where=f"{where}, first at index {first}",
            received=f"{np.count_nonzero(~np.isfinite(x))} of {x.size} values",
            fix="Drop or impute these samples; fixed-point hardware has no NaN.",
        )
    return x


def _labels(
    arrays: Mapping[str, NDArray[Any]], keys: Mapping[str, str], where: str, regression: bool
) -> tuple[NDArray[Any], NDArray[Any], tuple[str, ...]]:
    parts = []
    for part in ("y_train", "y_test"):
        y, place = arrays[part], f"{where}: {keys[part]}"
        if regression:
            if y.dtype.kind not in "fiu" or not np.isfinite(y).all():
                raise DataError("Targets must be finite numbers.", where=place, received=f"dtype {y.dtype}")
            parts.append(y.astype(np.float32).reshape(len(y), -1))
            continue
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim != 1 or y.dtype.kind not in "iu" or (y.size and y.min() < 0):
            raise DataError(
                "Labels must be classes.",
                where=place,
                expected="integers 0, 1, … of shape (samples,)",
                received=f"dtype {y.dtype}, shape {y.shape}",
                fix="One-hot labels: numpy.argmax(y, axis=1). Real targets: train.loss = 'mse'.",
            )
        parts.append(y.astype(np.int32))
    y, y_test = parts
    if regression:
        return y, y_test, ()
    count = int(max(y.max(initial=0), y_test.max(initial=0))) + 1
    names = [str(name) for name in arrays["classes"]] if "classes" in arrays else []
    if names and len(names) < count:
        raise DataError(
            "Labels name more classes than there are.", where=f"{where}: classes", expected=str(count), received=str(len(names))
        )
    return y, y_test, tuple(names or [str(index) for index in range(count)])
