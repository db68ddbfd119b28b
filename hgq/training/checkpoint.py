"""Checkpoints: everything that decides how a run goes on, in one file that is replaced atomically."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np

from hgq.errors import FileFormatError
from hgq.output import write_file_atomically
from hgq.training.step import training_state
from hgq.variables import read, write

FILE = "state.npz"
SCHEMA = 3
DATA, NOTES = "data", "notes"
"""Entries of the file: the bytes of all arrays, one behind the other, and JSON that says what they are. An entry for each of a thousand
arrays, as models that wait in `ParetoFront` can have, takes ten times as long as its bytes.
"""


class Resumable(Protocol):
    """A callback whose state belongs to a checkpoint."""

    def state(self) -> tuple[dict[str, Any], list[Any]]:
        """JSON values, and arrays."""
        ...

    def restore(self, state: dict[str, Any], arrays: list[Any]) -> None:
        """The inverse of `state`."""
        ...


def save(path: Path, model: keras.Model, parts: Mapping[str, Resumable], run: dict[str, Any]) -> None:
    """Write a checkpoint.

    Args:
        path: The file.
        model: Compiled and built, its optimizer too.
        parts: Callbacks by name.
        run: The driver's own JSON values.
    """
    arrays: dict[str, Any] = {f"model/{index}": value for index, value in enumerate(read(training_state(model)))}
    notes: dict[str, Any] = {"schema": SCHEMA, "run": run, "parts": {}}
    for name, part in parts.items():
        notes["parts"][name], extra = part.state()
        arrays |= {f"part/{name}/{index}": np.asarray(array) for index, array in enumerate(extra)}
    notes["arrays"] = [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
    entries = {DATA: b"".join(array.tobytes() for array in arrays.values()), NOTES: json.dumps(notes).encode()}
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.frombuffer(content, np.uint8) for name, content in entries.items()})  # pyright: ignore[reportArgumentType]
    write_file_atomically(path, buffer.getvalue(), force=True)


def load(path: Path, model: keras.Model, parts: Mapping[str, Resumable]) -> dict[str, Any]:
    """Read a checkpoint into the model and the callbacks; returns the driver's values.

    Raises:
        FileFormatError: damaged, or of another model.
    """
    try:
        with path.open("rb") as raw:  # opened here, since NumPy forgets to close a file that it refuses
            file = np.load(raw, allow_pickle=False)
            data, notes = file[DATA].tobytes(), json.loads(file[NOTES].tobytes())
        arrays = _parted(data, notes.pop("arrays"))
    except (OSError, ValueError, TypeError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise _damaged(path, str(error)) from None
    targets = training_state(model)
    values = _listed(arrays, "model/")
    if notes.get("schema") != SCHEMA or [v.shape for v in values] != [tuple(t.shape) for t in targets] or set(notes["parts"]) != set(parts):
        raise _damaged(path, f"schema {notes.get('schema')}, {len(values)} arrays for {len(targets)} variables")
    write(targets, values)
    for name, part in parts.items():
        part.restore(notes["parts"][name], _listed(arrays, f"part/{name}/"))
    return notes["run"]


def _parted(data: bytes, kinds: list[Any]) -> dict[str, Any]:
    """The arrays in these bytes, by name; each may be written to."""
    arrays, start = dict[str, Any](), 0
    for name, kind, shape in kinds:
        arrays[name] = np.ndarray(shape, kind, data, start).copy()
        start += arrays[name].nbytes
    return arrays


def _listed(arrays: dict[str, Any], prefix: str) -> list[Any]:
    names = [name for name in arrays if name.startswith(prefix)]
    return [arrays[name] for name in sorted(names, key=lambda name: int(name.rsplit("/", 1)[1]))]


def _damaged(path: Path, received: str) -> FileFormatError:
    return FileFormatError(
        "Cannot resume: the checkpoint is damaged, or belongs to another model or version.",
        where=str(path),
        received=received,
        fix="Start the run again in a new directory.",
    )
