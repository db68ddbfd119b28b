"""`Journal`: a callback that notes rows now and then, and writes them to a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import keras

from hgq.output import write_file_atomically


class Journal(keras.callbacks.Callback):
    """Asks `measured` for rows at the end of epochs; a subclass writes that, and names `columns`.

    Args:
        path: The CSV file. Its first column is the epoch.
        every: Epochs between two measurements; the last epoch is always measured.
    """

    columns: ClassVar[tuple[str, ...]] = ("epoch",)

    def __init__(self, path: str | Path, every: int = 1) -> None:
        super().__init__()
        self.path, self.every = Path(path), every
        self.rows: list[tuple[Any, ...]] = []
        self._last: int | None = None

    def measured(self) -> Iterable[tuple[Any, ...]]:
        """Rows now, without the epoch."""
        raise NotImplementedError(f"{type(self).__name__} defines no measured().")

    def on_epoch_end(self, epoch, logs=None):
        if epoch % self.every == 0:
            self._note(epoch)
        self._last = epoch

    def on_train_end(self, logs=None):
        if self._last is not None and self._last % self.every:
            self._note(self._last)
        self.write()

    def _note(self, epoch: int) -> None:
        self.rows += [(epoch, *row) for row in self.measured()]

    def write(self) -> None:
        """Write what was noted so far."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        write_file_atomically(self.path, text.getvalue(), force=True)

    def state(self) -> tuple[dict[str, Any], list[Any]]:
        """All that changes, for a checkpoint."""
        return {"rows": [list(row) for row in self.rows]}, []

    def restore(self, state: dict[str, Any], arrays: list[Any]) -> None:
        """The inverse of `state`."""
        self.rows = [tuple(row) for row in state["rows"]]
