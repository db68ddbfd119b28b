"""Activations that hardware takes exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

from hgq.errors import ConfigError

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref

ACTIVATIONS = ("linear", "relu")


def known(activation: str | None, where: str) -> str:
    """The name of a known activation; None is linear.

    Raises:
        ConfigError: unknown.
    """
    if activation is None:
        return "linear"
    name = getattr(activation, "__name__", activation)  # keras.activations.relu
    if name not in ACTIVATIONS:
        raise ConfigError(
            "Unknown activation.",
            where=f"layer {where}",
            expected=" or ".join(map(repr, ACTIVATIONS)),
            received=repr(activation),
            fix="Activations other than these need a table in hardware, which hgqc does not make yet.",
        )
    return name


def apply(activation: str, x):
    """The activation of a tensor."""
    return tf.nn.relu(x) if activation == "relu" else x


def to_ir(b: GraphBuilder, activation: str, x: Ref) -> Ref:
    """The activation as a node."""
    return b.op("relu", x, name="relu") if activation == "relu" else x
