"""Results of synthesis on the disk. A folder for each design and wish, a file in it for each tool that has answered.

So a result outlives the tool: where the tool is gone, the newest answer of another version is better than none, and says whose it is.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hgq import cache
from hgq.errors import OutputError
from hgq.output import write_file_atomically

logger = logging.getLogger("hgq")

VERSION = 1
"""Of the format of an entry."""


class Cache:
    """Results by wish and tool.

    Args:
        folder: Where; None for the user's cache folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache.folder("synth")

    def get(self, wish: Mapping[str, Any], tool: str) -> dict[str, Any] | None:
        """What `tool` answered; a damaged entry is deleted and told of."""
        return self._read(self._file(wish, tool), wish)

    def get_any(self, wish: Mapping[str, Any]) -> dict[str, Any] | None:
        """The newest answer of any tool."""
        with suppress(OSError):
            for path in sorted(self._file(wish, "").parent.glob("*.json"), key=lambda path: -path.stat().st_mtime):
                if found := self._read(path, wish):
                    return found
        return None

    def put(self, wish: Mapping[str, Any], tool: str, result: Mapping[str, Any]) -> None:
        """Keep an answer; a cache that cannot be written is told of, and no error."""
        entry = {"version": VERSION, "wish": dict(wish), "tool": tool, "result": dict(result)}
        try:
            write_file_atomically(self._file(wish, tool), json.dumps(entry, indent=1, sort_keys=True), force=True)
        except OutputError as error:
            logger.warning("The result of the synthesis is not kept: %s", error.received or error.what)

    def _file(self, wish: Mapping[str, Any], tool: str) -> Path:
        return self.folder / _hash(wish)[:32] / f"{_hash(tool)[:16]}.json"

    @staticmethod
    def _read(path: Path, wish: Mapping[str, Any]) -> dict[str, Any] | None:
        if not path.is_file():
            return None
        try:
            entry = json.loads(path.read_text())
            if entry["version"] == VERSION and entry["wish"] == json.loads(json.dumps(dict(wish))):
                return dict(entry["result"])
            fault = "it belongs to another design or version"
        except (OSError, ValueError, KeyError, TypeError) as error:
            fault = f"{type(error).__name__}: {error}"
        logger.warning("A kept result of synthesis is damaged and deleted (%s): %s", fault, path)
        with suppress(OSError):
            path.unlink()
        return None


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value if isinstance(value, str) else dict(value), sort_keys=True).encode()).hexdigest()
