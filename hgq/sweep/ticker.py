"""`Ticker`: tells whoever watches a sweep how far a trial is."""

from __future__ import annotations

import keras

from hgq.sweep.trial import Event, Report
from hgq.training.progress import numbers


class Ticker(keras.callbacks.Callback):
    """Reports each epoch's end as an `Event`.

    Args:
        trial: Its name.
        report: Called with the event.
    """

    def __init__(self, trial: str, report: Report) -> None:
        super().__init__()
        self._trial, self._report = trial, report

    def on_epoch_end(self, epoch, logs=None):
        """As in Keras."""
        logs = logs or {}
        metric = "val_accuracy" if "val_accuracy" in logs else "val_loss"
        total = int((self.params or {}).get("epochs") or 0)
        self._report(Event("epoch", self._trial, numbers(logs, metric), epoch + 1, max(total, epoch + 1)))
