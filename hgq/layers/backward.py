"""The backward pass of a layer's product: full precision, or one of the schemes of `hgq.gradients`."""

from __future__ import annotations

import random as python_random
import zlib
from typing import Any

import keras
import tensorflow as tf

from hgq import gradients
from hgq.gradients import Scheme
from hgq.gradients.base import Linear


class BackwardPass:
    """A scheme, the counter from which the random numbers of each step follow, and what the scheme remembers.

    Counter and memory are variables of the layer, so that a run resumed from a checkpoint draws what the uninterrupted one would have
    drawn.

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
        self.paused = False
        """Whether gradients are computed in full precision for the time being; it counts when a step is traced."""
        self._draws: Any = None
        self._memory: Any = None

    def build(self, layer: keras.layers.Layer, name: str = "gradient") -> None:
        """Create counter and memory as variables of `layer`, whose names begin with `name`."""
        if self.scheme is None:
            return
        self._draws = layer.add_weight(name=f"{name}_draws", shape=(), initializer="zeros", dtype="int32", trainable=False)
        if self.scheme.remembers:
            self._memory = layer.add_weight(name=f"{name}_memory", shape=(), initializer="zeros", dtype="float32", trainable=False)

    def part(self, name: str) -> BackwardPass:
        """Of another product of the same layer, or of a layer inside it: the same scheme, with random numbers and a memory of its own."""
        return BackwardPass(self.scheme, self.seed if self.seed is None else _seed_of(self.seed, name), name)

    def product(self, linear: Linear, x: Any, kernel: Any, training: bool | None) -> Any:
        """``linear(x, kernel)``, its gradients computed by the scheme."""
        if self.scheme is None or self.paused or not training:
            return linear(x, kernel)
        draw = tf.convert_to_tensor(self._draws)
        self._draws.assign(draw + 1)
        return self.scheme.product(linear, x, kernel, tf.stack([tf.constant(self.seed, tf.int32), draw]), self._memory)

    def config(self) -> dict[str, Any]:
        """The layer's arguments that make an equal one."""
        return {"gradients": gradients.serialize(self.scheme), "gradient_seed": self.seed}


def _seed_of(seed: int, name: str) -> int:
    """Another seed for each name, on every machine the same."""
    return (seed ^ zlib.crc32(name.encode())) % 2**31
