"""Constraints on bitwidths."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable(package="hgqc")
class Between(keras.constraints.Constraint):
    """Clip a variable to ``[low, high]`` after every optimizer step."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = float(low), float(high)

    def __call__(self, value):
        """The clipped value."""
        return keras.ops.clip(value, self.low, self.high)

    def get_config(self) -> dict:
        """Both ends."""
        return {"low": self.low, "high": self.high}
