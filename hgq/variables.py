"""Reading and writing many variables at once, past what Keras does around each: networks of small layers have a hundred of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf


def read(variables: Iterable[Any]) -> list[np.ndarray]:
    """Copies of what variables (of Keras) hold."""
    return [
        variable.numpy() if own is None else tf.raw_ops.ReadVariableOp(resource=own.handle, dtype=own.dtype).numpy()
        for variable, own in ((variable, _plain(variable)) for variable in variables)
    ]


def write(variables: Sequence[Any], values: Sequence[Any]) -> None:
    """Give variables these values, of their shapes and types."""
    for variable, value in zip(variables, values, strict=True):
        own = _plain(variable)
        if own is None:
            variable.assign(value)
        else:
            tf.raw_ops.AssignVariableOp(resource=own.handle, value=tf.constant(value, own.dtype))


def _plain(variable: Any) -> tf.Variable | None:
    """The one TensorFlow variable behind one of Keras; None where there are several, on several devices."""
    own = variable if isinstance(variable, tf.Variable) else variable.value
    return own if isinstance(own, tf.Variable) and not isinstance(own, tf.distribute.DistributedValues) else None
