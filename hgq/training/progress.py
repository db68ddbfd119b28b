"""`Progress`: a bar on stderr with what a person wants to see of a run."""

from __future__ import annotations

import sys
from typing import Any

import keras


class Progress(keras.callbacks.Callback):
    """A rich progress bar: epoch, metric, EBOPs and where they should be, beta, and the time left. Silent without a terminal.

    Args:
        epochs: Of the whole run; None: as `fit` says.
        metric: Key of the logs to show.
        visible: None: only when stderr is a terminal.
    """

    def __init__(self, epochs: int | None = None, metric: str = "val_accuracy", visible: bool | None = None) -> None:
        super().__init__()
        self.epochs, self.metric, self.visible = epochs, metric, visible
        self._bar: Any = None
        self._task: Any = None

    def on_train_begin(self, logs=None):
        if not (sys.stderr.isatty() if self.visible is None else self.visible):
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=Console(stderr=True),
            transient=False,
        )
        self._bar.start()
        total = self.epochs or (self.params or {}).get("epochs")
        self._task = self._bar.add_task("compiling", total=total, numbers="")

    def on_epoch_end(self, epoch, logs=None):
        if self._bar is not None:
            self._bar.update(self._task, completed=epoch + 1, description="training", numbers=numbers(logs or {}, self.metric))

    def on_train_end(self, logs=None):
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was; also after an interrupt."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def numbers(logs: dict[str, Any], metric: str) -> str:
    """The logs in one short line."""
    parts = []
    if "loss" in logs:
        parts.append(f"loss {logs['loss']:.3f}")
    if metric in logs:
        parts.append(f"{metric} {logs[metric]:.4f}")
    for name, title in (("lut", "LUT"), ("ebops", "EBOPs")):
        if name in logs:  # what a budget steers comes first
            target = f"→{logs['setpoint']:,.0f}" if "setpoint" in logs else ""
            parts.append(f"{title} {logs[name]:,.0f}{target}")
            break
    if "beta" in logs:
        parts.append(f"β {logs['beta']:.1e}")
    return "  ".join(parts)
