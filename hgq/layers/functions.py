"""Functions of one number that become tables: by name, or a user's own.

A table holds what NumPy computes in float64, rounded to float32. TensorFlow computes the same function only for gradients: its results
differ in the last bits between CPU, GPU and XLA.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from hgq.errors import ConfigError

MAGNITUDE_BITS = 12
"""Significant bits of an argument, sign not counted. Tables are exact up to that; of wider arguments the bits behind are cut off."""

LOWEST, HIGHEST = -32, 24
"""Arguments below ``2**LOWEST`` in magnitude count as 0; from ``2**HIGHEST`` on as the greatest below it."""

LARGEST = 2.0**30
"""Results beyond it, infinities among them, count as it: every saturating quantizer clips it."""

_DROP = 24 - MAGNITUDE_BITS
_FIRST = (127 + LOWEST) << (23 - _DROP)
_COUNT = (HIGHEST - LOWEST) << (23 - _DROP)


@dataclass(frozen=True)
class Function:
    """A function and what its result looks like.

    Args:
        name: What users write.
        exact: On NumPy float64; where tables come from.
        smooth: On TensorFlow float32; where gradients come from.
        k0: Whether its result can be negative.
        i0: Integer bits that usually hold it.
        source: The user's callable, where it is not one of `FUNCTIONS`.
    """

    name: str
    exact: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    smooth: Callable[[Any], Any]
    k0: int = 1
    i0: int = 3
    source: Callable[..., Any] | None = None

    @property
    def output(self) -> str:
        """The output quantizer of tables of this function, unless told otherwise: one format; in a table, saturation is free."""
        return f"data(k0={self.k0}, i0={self.i0}, f0=7, overflow=SAT, granularity=tensor)"


def _erf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.vectorize(math.erf, otypes=[np.float64])(x)


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    tail = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, tail) / (1.0 + tail)


def _softplus(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def _elu(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0.0)))


SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
SQRT_2_PI = math.sqrt(2.0 / math.pi)

FUNCTIONS: dict[str, Function] = {
    function.name: function
    for function in (
        Function("tanh", np.tanh, tf.tanh, 1, 0),
        Function("sigmoid", _sigmoid, tf.sigmoid, 0, 0),
        Function("log_sigmoid", lambda x: -_softplus(-x), tf.math.log_sigmoid),
        Function("softplus", _softplus, tf.nn.softplus, 0, 3),
        Function("softsign", lambda x: x / (1.0 + np.abs(x)), tf.nn.softsign, 1, 0),
        Function("gelu", lambda x: 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0))), lambda x: tf.nn.gelu(x, approximate=False)),
        Function(
            "gelu_tanh",
            lambda x: 0.5 * x * (1.0 + np.tanh(SQRT_2_PI * (x + 0.044715 * x**3))),
            lambda x: tf.nn.gelu(x, approximate=True),
        ),
        Function("silu", lambda x: x * _sigmoid(x), lambda x: x * tf.sigmoid(x)),
        Function("mish", lambda x: x * np.tanh(_softplus(x)), lambda x: x * tf.tanh(tf.nn.softplus(x))),
        Function("elu", _elu, tf.nn.elu),
        Function("selu", lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0.0))), tf.nn.selu),
        Function("tanh_shrink", lambda x: x - np.tanh(x), lambda x: x - tf.tanh(x)),
        Function("exp", np.exp, tf.exp, 0, 3),
        Function("log", np.log, tf.math.log),
        Function("sqrt", np.sqrt, tf.sqrt, 0, 3),
        Function("square", np.square, tf.square, 0, 6),
        Function("sin", np.sin, tf.sin, 1, 0),
        Function("cos", np.cos, tf.cos, 1, 0),
        Function("erf", _erf, tf.math.erf, 1, 0),
        Function("reciprocal", lambda x: 1.0 / x, tf.math.reciprocal, 1, 4),
        Function("rsqrt", lambda x: 1.0 / np.sqrt(x), tf.math.rsqrt, 0, 4),
    )
}
"""Functions that are known by name."""

ALIASES = {"swish": "silu", "exponential": "exp", "soft_sign": "softsign"}
"""Other names, as in Keras."""


def known(name: Any) -> bool:
    """Whether this is the name of a function, or Keras' activation function of that name."""
    name = getattr(name, "__name__", name) if _of_keras(name) else name
    return isinstance(name, str) and ALIASES.get(name, name) in FUNCTIONS


def get(fn: Any, where: str) -> Function:
    """The function that `fn` means: a name, a callable of one tensor, or what `serialize` made of either.

    A callable is written with ``keras.ops`` or TensorFlow and works element by element.

    Raises:
        ConfigError: none is meant.
    """
    if isinstance(fn, Function):
        return fn
    if known(fn):
        name = fn if isinstance(fn, str) else fn.__name__
        return FUNCTIONS[ALIASES.get(name, name)]
    if isinstance(fn, dict | str):
        try:
            fn = keras.saving.deserialize_keras_object(fn) if isinstance(fn, dict) else keras.saving.get_registered_object(fn)
        except (TypeError, KeyError, ValueError):
            fn = None
    if not callable(fn):
        raise ConfigError(
            "Not a function of one number.",
            where=where,
            expected=f"one of {', '.join(sorted(FUNCTIONS))}, or a function of one tensor",
            received=repr(fn),
        )
    return Function(getattr(fn, "__name__", type(fn).__name__), _on_cpu(fn), fn, source=fn)


def serialize(function: Function, where: str) -> Any:
    """What `get` turns back into the function.

    Raises:
        ConfigError: a user's function that is not registered, so that nobody could load it.
    """
    if function.source is None:
        return function.name
    registered = keras.saving.get_registered_name(function.source)
    if keras.saving.get_registered_object(registered) is not function.source:
        raise ConfigError(
            "A function without a registered name cannot be saved.",
            where=where,
            expected="a function under @keras.saving.register_keras_serializable(), or one of hgqc's by name",
            received=function.name,
            fix="Define it with def in a module, put @keras.saving.register_keras_serializable(package='yours') above it, and import "
            "that module before loading.",
        )
    return registered


def _of_keras(fn: Any) -> bool:
    name = getattr(fn, "__name__", None)
    return name is not None and getattr(keras.activations, name, None) is fn


def _on_cpu(fn: Callable[..., Any]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """A user's function on float64 numbers, once, on the host."""

    def exact(x: NDArray[np.float64]) -> NDArray[np.float64]:
        with tf.init_scope(), tf.device("CPU:0"):
            return np.asarray(fn(tf.constant(x, tf.float64)), np.float64)

    return exact


# ---- the master table ----------------------------------------


@cache
def master(function: Function) -> NDArray[np.float32]:
    """What the function gives for every float32 of `MAGNITUDE_BITS` significant bits: non-negative arguments, then negative ones.

    An entry's number is the argument's bit pattern without its last bits. So one table serves every format, at any stage of training.
    """
    pattern = ((np.arange(_COUNT) + _FIRST) << _DROP).astype(np.int32)
    magnitude = np.concatenate([[0.0], pattern.view(np.float32).astype(np.float64)])
    with np.errstate(all="ignore"):
        values = function.exact(np.concatenate([magnitude, -magnitude]))
    return np.clip(values, -LARGEST, LARGEST).astype(np.float32)


def look_up(function: Function, x):
    """The function of a tensor from `master`, with the gradient of `Function.smooth` where that is finite, else 0."""
    values = tf.constant(master(function))

    @tf.custom_gradient
    def op(x):
        pattern = tf.bitcast(tf.abs(x), tf.int32)
        entry = tf.clip_by_value(tf.bitwise.right_shift(pattern, _DROP) - (_FIRST - 1), 0, _COUNT)
        y = tf.gather(values, entry + tf.where(x < 0, _COUNT + 1, 0))

        def gradient(upstream):
            with tf.GradientTape() as tape:
                tape.watch(x)
                smooth = function.smooth(x)
            slope = tape.gradient(smooth, x)
            return upstream * tf.where(tf.math.is_finite(slope), slope, 0.0)

        return y, gradient

    return op(tf.convert_to_tensor(x))


def values_of(function: Function, x: NDArray[np.float64]) -> NDArray[np.float32]:
    """What `look_up` gives, in NumPy: for freezing."""
    short = np.asarray(x, np.float32)
    pattern = np.abs(short).view(np.int32)
    entry = np.clip((pattern >> _DROP) - (_FIRST - 1), 0, _COUNT)
    return master(function)[entry + np.where(short < 0, _COUNT + 1, 0)]
