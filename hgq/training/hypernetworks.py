"""Networks that correct the gradient of each weight from that gradient and the weight, the same for all weights of a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

TOGETHER = 2048
"""Weights whose hidden units are computed at a time: they stay in the processor's cache, where those of a whole kernel of dense layers (100
units each) take several passes over memory, and a hundred times its size."""

Parameters = list[Any]
Initial = Callable[[int, np.random.Generator], list[NDArray[np.float64]]]


@dataclass(frozen=True)
class Hypernetwork:
    """A kind of network.

    Args:
        initial: ``initial(hidden, rng)``: the parameters to start from.
        corrected: ``corrected(parameters, g, w)``: the corrected gradients, of the shape of the gradients `g` and weights `w`, which are
            vectors.
    """

    initial: Initial
    corrected: Callable[[Parameters, Any, Any], Any]


def _uniform(rng: np.random.Generator, *shape: int) -> NDArray[np.float64]:
    """What a linear layer without bias starts from where MetaQuant was written: uniform within one over the root of its inputs."""
    return rng.uniform(-1, 1, shape) / np.sqrt(shape[0])


@tf.custom_gradient
def _net(w: Any, inner: Any, bias: Any, outer: Any) -> Any:
    """``tanh(w inner + bias) @ outer`` for each weight, `TOGETHER` at a time; its gradient computes the hidden units again, and gives none
    by the weights, which are constants here.
    """
    count = w.shape[0]
    parts = -(-count // TOGETHER)
    length = min(count, TOGETHER)

    def split(x: Any) -> Any:
        return tf.reshape(tf.pad(x, [(0, parts * length - count)]), (parts, length))

    def units(part: Any) -> Any:
        return tf.tanh(part[:, None] * inner + bias)

    def gradient(upstream: Any) -> Any:
        weights, slopes = split(w), split(upstream)

        def add(number: Any, d_inner: Any, d_bias: Any, d_outer: Any) -> Any:
            hidden, slope = units(weights[number]), slopes[number]
            both = tf.stack([slope * weights[number], slope]) @ (1.0 - hidden * hidden)
            return number + 1, d_inner + both[:1], d_bias + both[1:], d_outer + slope[None] @ hidden

        zero = tf.zeros_like(inner)
        _, d_inner, d_bias, d_outer = tf.while_loop(lambda number, *_: number < parts, add, (0, zero, zero, zero))
        row = tf.transpose(outer)
        return None, d_inner * row, d_bias * row, tf.transpose(d_outer)

    values = tf.map_fn(lambda part: tf.squeeze(units(part) @ outer, 1), split(w))
    return tf.reshape(values, (-1,))[:count], gradient


def _gate(parameters: Parameters, g: Any, w: Any) -> Any:
    inner, inner_bias, outer, outer_bias = parameters
    return g * (1.0 + outer_bias + _net(w, inner, inner_bias, outer))


HYPERNETWORKS = {
    "gate": Hypernetwork(
        lambda hidden, rng: [rng.normal(size=(1, hidden)), rng.normal(size=(1, hidden)), np.zeros((hidden, 1)), np.zeros(())], _gate
    ),
    "scalar": Hypernetwork(lambda hidden, rng: [np.ones(())], lambda parameters, g, w: parameters[0] * g),
    "fc": Hypernetwork(
        lambda hidden, rng: [_uniform(rng, 1, hidden), _uniform(rng, hidden, 1)],
        lambda parameters, g, w: tf.squeeze(g[:, None] @ parameters[0] @ parameters[1], 1),
    ),
    "multifc": Hypernetwork(
        lambda hidden, rng: [_uniform(rng, 1, hidden), _uniform(rng, hidden, 1)],
        lambda parameters, g, w: g * tf.squeeze(w[:, None] @ parameters[0] @ parameters[1], 1),
    ),
}
"""By name.

- ``gate``: ``g (1 + c + net(w))``, one hidden layer with tanh, whose output starts at 0: the identity.
- ``scalar``: ``s g``, from s = 1. Trained by gradients this is hypergradient descent: one learning rate for the model that adapts itself.
- ``fc``: MetaQuant's FCGrad, ``FC(FC(g))`` without biases or nonlinearity. That is one factor for the whole model, of random initial sign.
- ``multifc``: MetaQuant's MultiFC, ``g FC(FC(w))``, likewise. That is ``c g w``: made for weights between 0 and 1; it turns the gradients
  of negative weights around.
"""
