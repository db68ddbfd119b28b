"""The ``.hgq`` file: what the person who trains hands to the person who builds firmware.

A zip of ``graph.json`` (structure), ``consts.npz`` (all integers) and ``meta.json`` (schema version, content hash, notes). NumPy only, no
pickle; equal graphs give equal bytes.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from hgq.errors import FileFormatError, HGQError, require_file
from hgq.ir import spec
from hgq.ir.graph import Graph, graph_of, payload_of
from hgq.project import write_file_atomically

SCHEMA = 1
_EPOCH = (1980, 1, 1, 0, 0, 0)  # a fixed time stamp keeps equal files equal


def to_bytes(graph: Graph) -> bytes:
    """The file's contents."""
    payload, arrays = payload_of(graph)
    meta = {"schema": SCHEMA, "digest": graph.digest(), "meta": dict(graph.meta)}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as npz:
        for key in sorted(arrays):
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, _smallest(arrays[key]), allow_pickle=False)
            npz.writestr(zipfile.ZipInfo(f"{key}.npy", _EPOCH), buffer.getvalue())
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in (
            ("graph.json", _json(payload)),
            ("consts.npz", packed.getvalue()),
            ("meta.json", _json(meta)),
        ):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return file.getvalue()


def save(graph: Graph, path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write a graph; the file appears whole or not at all.

    Raises:
        OutputError: it exists (without `force`), or the place cannot be written.
    """
    return write_file_atomically(Path(path), to_bytes(graph), force=force)


def load(path: str | os.PathLike[str]) -> Graph:
    """Read and check a graph.

    Raises:
        FileFormatError: it does not exist, is truncated, is something else, is of a newer schema or does not match its own hash.
    """
    path = Path(path)
    require_file(path, "model", "a .hgq file", "`hgq freeze` writes one, `hgq demo` trains one.")
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            if not {"graph.json", "consts.npz", "meta.json"} <= names:
                raise _foreign(path, f"a zip with {', '.join(sorted(names)[:5]) or 'nothing'}")
            meta = json.loads(archive.read("meta.json"))
            if not isinstance(meta, dict) or not isinstance(meta.get("schema"), int):
                raise _foreign(path, "meta.json without a schema version")
            if meta["schema"] > SCHEMA:
                raise FileFormatError(
                    "This file was written by a newer hgqc.",
                    where=str(path),
                    expected=f"schema {SCHEMA} or older",
                    received=f"schema {meta['schema']}",
                    fix="Upgrade: pip install -U hgqc",
                )
            payload = json.loads(archive.read("graph.json"))
            with np.load(io.BytesIO(archive.read("consts.npz")), allow_pickle=False) as npz:
                arrays = {key: npz[key].astype(np.int64) for key in npz.files}
        graph = graph_of(payload, arrays, meta.get("meta", {}))
        spec.check(graph)
    except HGQError:
        raise
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, KeyError, TypeError, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
        raise _foreign(path, f"{type(error).__name__}: {error}") from error
    if graph.digest() != meta.get("digest"):
        raise FileFormatError(
            "This file does not match its own content hash.",
            where=str(path),
            expected=str(meta.get("digest"))[:16],
            received=graph.digest()[:16],
            fix="It was edited or damaged: freeze the Keras model again.",
        )
    return graph


def _foreign(path: Path, received: str) -> FileFormatError:
    keras = " It looks like a Keras model: run `hgq freeze` on it first." if path.suffix in (".keras", ".h5") else ""
    return FileFormatError(
        "This is not a .hgq file, or it is truncated.",
        where=str(path),
        expected="a zip with graph.json, consts.npz and meta.json, as written by `hgq freeze`",
        received=received,
        fix=f"Write it again with `hgq freeze MODEL.keras --calibration X.npz`.{keras}",
    )


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, indent=1).encode()


def _smallest(array: np.ndarray) -> np.ndarray:
    """The narrowest integer type that holds an array; most formats fit a byte."""
    for dtype in (np.int8, np.int16, np.int32):
        info = np.iinfo(dtype)
        if array.size == 0 or (array.min() >= info.min and array.max() <= info.max):
            return np.ascontiguousarray(array, dtype)
    return np.ascontiguousarray(array, np.int64)
