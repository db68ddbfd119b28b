"""Fine-tuning with exact gradients at the end of a training with gradients on few bits."""

from __future__ import annotations

from typing import Any

import keras

from hgq.errors import ConfigError
from hgq.layers import pause_gradients


def triangular(share: float, low: float, high: float) -> float:
    """The learning rate after this share of a fine-tuning: from `low` up to `high` at one half, and back.

    LUQ's eq. 17; as printed, it has no time in its first branch.
    """
    return low + (high - low) * (1 - abs(2 * share - 1))


class FineTune(keras.callbacks.Callback):
    """LUQ's high-precision fine-tuning (FNT, arXiv:2112.10769) in ``fit``: the last epochs compute their gradients in float32.

    Weights stay quantized, and so do activations: here their bitwidths are learned and paid for like those of weights, and it is the
    quantized model that becomes firmware. (The paper leaves activations in float32 in this phase, and quantizes them again afterwards.)
    The learning rate, whatever it is when the phase begins, goes up to `peak` and back, step by step.

    The training step is traced anew when the phase begins and when it ends; steps themselves cost nothing more. In ``hgq train``,
    ``train.finetune`` is the same, epoch by epoch.

    Args:
        epochs: How many; the paper takes 1 to 3.
        peak: The learning rate in the middle; None: the one at the beginning of training.

    Raises:
        ConfigError: arguments out of range; a model without gradients on few bits; an optimizer with a schedule of its own.
    """

    def __init__(self, epochs: int = 3, *, peak: float | None = None) -> None:
        super().__init__()
        if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
            raise ConfigError(
                "Fine-tuning cannot last this long.", where="FineTune, epochs", expected="an integer from 1", received=repr(epochs)
            )
        if peak is not None and not peak > 0:
            raise ConfigError("Not a learning rate.", where="FineTune, peak", expected="a positive number, or None", received=repr(peak))
        self.epochs, self.peak = epochs, peak
        self._begun: int | None = None
        self._epoch = 0
        self._low = self._high = 0.0

    def on_train_begin(self, logs=None):
        optimizer: Any = self.model.optimizer
        if isinstance(optimizer.get_config()["learning_rate"], dict):
            raise ConfigError(
                "Fine-tuning sets the learning rate, and so does the optimizer's schedule.",
                where="FineTune",
                expected="an optimizer with a number as learning rate; callbacks may change it",
            )
        self._high, self._begun = self.peak or float(keras.ops.convert_to_numpy(optimizer.learning_rate)), None

    def on_epoch_begin(self, epoch, logs=None):
        if self._begun is None and epoch >= self.params["epochs"] - self.epochs:
            self._begun, self._low = epoch, float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
            self._switch(True)
        self._epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if self._begun is not None:
            steps = self.params.get("steps") or 1
            share = (self._epoch - self._begun + (batch + 0.5) / steps) / (self.params["epochs"] - self._begun)
            self.model.optimizer.learning_rate.assign(triangular(min(share, 1.0), self._low, self._high))

    def on_train_end(self, logs=None):
        if self._begun is not None:
            self.model.optimizer.learning_rate.assign(self._low)
            self._switch(False)

    def _switch(self, paused: bool) -> None:
        if not pause_gradients(self.model, paused):
            raise ConfigError(
                "There is nothing to fine-tune: all gradients of this model are computed in float32.",
                where=f"model {self.model.name}",
                expected='a layer with gradients="luq4" or the like',
                fix="Leave FineTune out.",
            )
        self.model.make_train_function(force=True)
