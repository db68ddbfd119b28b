"""The backward pass of a layer's product: full precision, or one of the schemes of `hgq.gradients`."""

from __future__ import annotations

import random as python_random
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from hgq import replicas
from hgq.errors import ConfigError
from hgq.gradients import Identifier, Scheme, get, serialize
from hgq.gradients.base import Linear

Product = Callable[..., Any]
"""See `BackwardPass.products`."""
Choice = Identifier | Mapping[str, Identifier]
"""What a layer of several products takes: one scheme for all, or one for each product by its name; those left out are float32."""


class BackwardPass:
    """A scheme, the counter from which the random numbers of each step follow, and what the scheme remembers.

    Counter and memory are variables of the layer, so that a run resumed from a checkpoint draws what the uninterrupted one would have
    drawn.

    Args:
        gradients: What `hgq.gradients.get` takes.
        gradient_seed: Of the random numbers; None draws one, which `keras.utils.set_random_seed` decides.
        where: The layer, for errors.

    Raises:
        ConfigError: no such scheme.
    """

    def __init__(self, gradients: Identifier, gradient_seed: int | None, where: str) -> None:
        self.scheme: Scheme | None = get(gradients, f"layer {where}, gradients")
        self.seed = gradient_seed if gradient_seed is not None or self.scheme is None else python_random.randrange(2**31)
        self.paused = False
        """Whether gradients are computed in full precision for the time being; it counts when a step is traced."""
        self.observer: Callable[..., None] | None = None
        """Called, for statistics, with scheme, linear map, data, kernel, seed, memory and each gradient of a result, before it is used."""
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
        return self.products(training)(linear, x, kernel)

    def plain(self, training: bool | None) -> bool:
        """Whether products, and their gradients, are those of float32."""
        return self.scheme is None or self.paused or not training

    def products(self, training: bool | None, uses: int = 1) -> Product:
        """What does the products of one call of the layer: ``product(linear, x, kernel, use)``.

        Args:
            training: As in Keras.
            uses: How many there are. Each draws its own random numbers if `use`, from 0, tells it from the others: a number, or a tensor in
                a loop.
        """
        scheme = self.scheme
        if scheme is None or self.plain(training):
            return lambda linear, x, kernel, use=0: linear(x, kernel)
        draw = tf.convert_to_tensor(self._draws)
        self._draws.assign(draw + uses)

        def product(linear: Linear, x: Any, kernel: Any, use: Any = 0) -> Any:
            seed = replicas.own_seed(tf.stack([tf.constant(self.seed, tf.int32), draw + use]))
            y = scheme.product(linear, x, kernel, seed, self._memory)
            return y if self.observer is None else _observed(y, partial(self.observer, scheme, linear, x, kernel, seed, self._memory))

        return product

    def config(self) -> dict[str, Any]:
        """The layer's arguments that make an equal one."""
        return {"gradients": serialize(self.scheme), "gradient_seed": self.seed}


class BackwardParts:
    """The backward passes of a layer with several products, by the products' names.

    Args:
        choice: What `hgq.gradients.get` takes, for all of them, or a mapping of names to that; products left out keep float32.
        seed: As of `BackwardPass`; each product draws numbers of its own.
        names: Of the products.
        where: The layer, for errors.

    Raises:
        ConfigError: no such scheme, or no such product.
    """

    def __init__(self, choice: Choice, seed: int | None, names: Sequence[str], where: str) -> None:
        given = dict(choice) if isinstance(choice, Mapping) else dict.fromkeys(names, choice)
        if unknown := [name for name in given if name not in names]:
            raise ConfigError(
                "There is no such product in this layer.",
                where=f"layer {where}, gradients",
                expected=", ".join(names),
                received=str(unknown[0]),
            )
        self.schemes = {name: get(given.get(name), f"layer {where}, gradients of {name}") for name in names}
        self.seed = seed if seed is not None or not any(self.schemes.values()) else python_random.randrange(2**31)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the products."""
        return tuple(self.schemes)

    def part(self, name: str, variant: str = "") -> BackwardPass:
        """The backward pass of one product; another `variant` draws other numbers."""
        arguments = self.arguments(name)
        seed = arguments["gradient_seed"]
        return BackwardPass(arguments["gradients"], _seed_of(seed, variant) if variant and seed is not None else seed, name)

    def arguments(self, name: str) -> dict[str, Any]:
        """The arguments of a layer that does one of the products."""
        seed = None if self.seed is None or self.schemes[name] is None else _seed_of(self.seed, name)
        return {"gradients": self.schemes[name], "gradient_seed": seed}

    def config(self) -> dict[str, Any]:
        """The layer's arguments that make an equal one."""
        serialized = {name: serialize(scheme) for name, scheme in self.schemes.items()}
        same = len(set(serialized.values())) == 1
        return {"gradients": next(iter(serialized.values())) if same else serialized, "gradient_seed": self.seed}


def _observed(y: Any, observer: Callable[[Any], None]) -> Any:
    """`y`; its gradient is shown to `observer`."""

    def gradient(g):
        observer(g)
        return g

    return tf.custom_gradient(lambda y: (tf.identity(y), gradient))(y)


def _seed_of(seed: int, name: str) -> int:
    """Another seed for each name, on every machine the same."""
    return (seed ^ zlib.crc32(name.encode())) % 2**31
