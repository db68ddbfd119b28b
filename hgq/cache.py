"""Where hgqc keeps what it can make again: ``$XDG_CACHE_HOME/hgqc``, else ``~/.cache/hgqc``."""

from __future__ import annotations

import os
from pathlib import Path


def folder(*names: str) -> Path:
    """A folder of the cache, by the names of its parts. It need not exist."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache").joinpath("hgqc", *names)
