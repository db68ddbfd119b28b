"""What an optimizer knows of the curvature: by how much it divides the step of each weight."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import keras
import tensorflow as tf

Optimizer = keras.optimizers.Optimizer


@singledispatch
def curvature(optimizer: Any) -> list[Any] | None:
    """For each variable that the optimizer was built for, D times the learning rate, positive: an update is the (averaged) gradient by D.

    For Adam ``epsilon + sqrt(v / (1 - beta_2**t))`` after t updates. None where the optimizer treats all weights alike: SGD, Lion, ….
    """
    return None


@curvature.register(keras.optimizers.Adam)
@curvature.register(keras.optimizers.Nadam)
def _adam(optimizer: Any) -> list[Any]:
    slots = _slots(optimizer, "velocity_hat" if getattr(optimizer, "amsgrad", False) else "velocity")
    # Keras adds epsilon to the root of the uncorrected moment
    correction = tf.sqrt(1.0 - tf.pow(float(optimizer.beta_2), tf.cast(tf.maximum(_steps(optimizer), 1), tf.float32)))
    return [(tf.sqrt(slot) + optimizer.epsilon) / tf.cast(correction, slot.dtype) for slot in slots]


@curvature.register
def _rms(optimizer: keras.optimizers.RMSprop) -> list[Any]:
    squares = _slots(optimizer, "velocity")
    means = _slots(optimizer, "average_gradient") if optimizer.centered else [tf.zeros_like(square) for square in squares]
    return [tf.sqrt(square - tf.square(mean) + optimizer.epsilon) for square, mean in zip(squares, means, strict=True)]


@curvature.register
def _adagrad(optimizer: keras.optimizers.Adagrad) -> list[Any]:
    return [tf.sqrt(slot + optimizer.epsilon) for slot in _slots(optimizer, "accumulator")]


def _slots(optimizer: Optimizer, name: str) -> list[Any]:
    """The optimizer's variables of this kind, in the order of the variables it was built for."""
    return [tf.convert_to_tensor(variable) for variable in optimizer.variables if variable.name.endswith(f"_{name}")]


def _steps(optimizer: Any) -> Any:
    return tf.convert_to_tensor(optimizer.iterations)
