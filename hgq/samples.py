"""Samples from a user's file: what calibration, verification and simulation are fed."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np

from hgq.errors import DataError, FileFormatError, require_file

NUMPY_FILE = "an .npz or .npy file of numbers"


def load_samples(path: str | os.PathLike[str], key: str | None = None) -> np.ndarray | dict[str, np.ndarray]:
    """Samples from ``.npy``, or from ``.npz``: its array `key`, else ``x``, else its only array, else all arrays by input name.

    Raises:
        FileFormatError: the file is missing, truncated or something else.
        DataError: it has no array of that name.
    """
    path = Path(path)
    require_file(path, "data", NUMPY_FILE)
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content:
            arrays = {name: content[name] for name in content.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise FileFormatError(
            "This is no NumPy file, it holds Python objects, or it is truncated.",
            where=str(path),
            expected=NUMPY_FILE,
            received=f"{type(error).__name__}: {error}",
        ) from error
    wanted = key or ("x" if "x" in arrays else next(iter(arrays)) if len(arrays) == 1 else None)
    if wanted is None:
        return arrays
    if wanted not in arrays:
        raise DataError("The file has no such array.", where=str(path), expected=", ".join(arrays), received=wanted)
    return arrays[wanted]
