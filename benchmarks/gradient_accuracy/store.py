"""What was measured: one line a run in ``benchmarks/data/gradients.json``."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

from hgq.output import write_file_atomically

PATH = Path(__file__).parents[1] / "data" / "gradients.json"

Store = dict[str, dict[str, Any]]


def read(path: Path = PATH) -> Store:
    """All entries by key; none where there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def text_of(store: Store) -> str:
    """As JSON, one line an entry, sorted, so that a merge is a merge of lines."""
    return "{\n" + ",\n".join(f"{json.dumps(key)}: {json.dumps(store[key], sort_keys=True)}" for key in sorted(store)) + "\n}\n"


def add(key: str, entry: dict[str, Any], path: Path = PATH) -> None:
    """Put one entry in. Processes take turns, and a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        write_file_atomically(path, text_of({**read(path), key: entry}), force=True)


def matches(entry: dict[str, Any] | None, settings: dict[str, Any]) -> bool:
    """Whether an entry is of a run with these settings."""
    return entry is not None and json.dumps(entry["settings"], sort_keys=True) == json.dumps(settings, sort_keys=True)
