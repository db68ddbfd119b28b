"""The backward pass of a layer's product: full precision, or one of the schemes of `hgq.gradients`."""

from __future__ import annotations

import random as python_random
from typing import Any

import keras
import tensorflow as tf

from hgq import gradients
from hgq.gradients import Scheme
from hgq.gradients.base import Linear


class BackwardPass:
    """A scheme, and the counter from which the random numbers of each step follow.

    The counter is a variable of the layer, so that a run resumed from a checkpoint draws what the uninterrupted one would have drawn.

    Args:
        identifier: What `hgq.gradients.get` takes.
        seed: Of the random numbers; None draws one, which `keras.utils.set_random_seed` decides.
        where: The layer, for errors.

    Raises:
        ConfigError: no such scheme.
    """

    def __init__(self, identifier: gradients.Identifier, seed: int | None, where: str) -> None:
        self.scheme: Scheme | None = gradients.get(identifier, f"layer {where}, gradients")
        self.seed = seed if seed is not None or self.scheme is None else python_random.randrange(2**31)
        self._draws: Any = None

    def build(self, layer: keras.layers.Layer) -> None:
        """Create the counter as a variable of `layer`."""
        if self.scheme is not None:
            self._draws = layer.add_weight(name="gradient_draws", shape=(), initializer="zeros", dtype="int32", trainable=False)

    def product(self, linear: Linear, x: Any, kernel: Any, training: bool | None) -> Any:
        """``linear(x, kernel)``, its gradients computed by the scheme."""
        if self.scheme is None or not training:
            return linear(x, kernel)
        draw = tf.convert_to_tensor(self._draws)
        self._draws.assign(draw + 1)
        return self.scheme.product(linear, x, kernel, tf.stack([tf.constant(self.seed, tf.int32), draw]))

    def config(self) -> dict[str, Any]:
        """The layer's arguments that make an equal one."""
        return {"gradients": gradients.serialize(self.scheme), "gradient_seed": self.seed}
