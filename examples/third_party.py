"""Layers that hgqc does not know, brought in both ways: a Keras layer of somebody else's, and a quantized layer of your own.

python examples/third_party.py
"""

from __future__ import annotations

import sys

import keras
import numpy as np
import tensorflow as tf

from hgq.estimate import ebops_of
from hgq.freeze import freeze, freezes
from hgq.layers import QDense, QLayer
from hgq.layers.base import quantize_to_ir
from hgq.quantizers import serialize
from hgq.reference import KerasReference
from hgq.resources import ebops
from hgq.verify import verify

# ---- Somebody else's layer: say what it is in terms of exact ops (hgq/ir/ops.py lists them), and it reaches all hardware.


@keras.saving.register_keras_serializable(package="elsewhere")
class ChannelShuffle(keras.layers.Layer):
    """Deals the channels out to `groups` hands (ShuffleNet, arXiv:1707.01083): a layer that knows nothing of hgqc."""

    def __init__(self, groups: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.groups = groups

    def call(self, inputs):
        channels = inputs.shape[-1]
        hands = tf.reshape(inputs, (-1, self.groups, channels // self.groups))
        return tf.reshape(tf.transpose(hands, (0, 2, 1)), (-1, channels))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict:
        return {**super().get_config(), "groups": self.groups}


@freezes(ChannelShuffle)
def channel_shuffle(layer, b, x):
    """Element by element where each channel comes from."""
    order = np.arange(x.shape[0]).reshape(layer.groups, -1).T.ravel()
    return b.op("take", x, axis=0, indices=tuple(int(channel) for channel in order))


# ---- A quantized layer of your own: build, forward, cost and to_ir; QLayer charges the cost, trains the bits and serializes.


@keras.saving.register_keras_serializable(package="yours")
class QSquare(QLayer):
    """``q(x) * q(x)``, element by element.

    Args:
        quantizer: What `hgq.quantizers.get` takes, but not None.
        beta: Loss per EBOP.
    """

    def __init__(self, quantizer="data", *, beta=None, **kwargs) -> None:
        super().__init__(beta=beta, **kwargs)
        self.quantizer = self._required_quantizer(quantizer, "data", "quantizer")

    def build(self, input_shape) -> None:
        self._shape = self._positions_shape(input_shape)
        self.quantizer.build(input_shape)
        self.built = True

    def forward(self, inputs, training=None):
        return tf.square(self.quantizer(inputs, training=training))

    def cost(self):
        bits = self.quantizer.bits(self._shape)
        return ebops.product([bits, bits], total=tf.reduce_sum)[0]

    def to_ir(self, b, *inputs):
        x = quantize_to_ir(b, self.quantizer, inputs[0], "quantizer")
        return b.op("product", x, x)

    def get_config(self) -> dict:
        return {**super().get_config(), "quantizer": serialize(self.quantizer)}


def main() -> bool:
    """Learn a radius from coordinates, freeze, and compare every representation bit by bit."""
    keras.utils.set_random_seed(1)
    x = np.random.default_rng(1).normal(size=(4000, 8)).astype(np.float32)
    y = np.stack([np.sum(x[:, ::2] ** 2, axis=1), np.sum(x[:, 1::2] ** 2, axis=1)], axis=1)
    small = "data(i0=2, f0=4)"
    model = keras.Sequential(
        [keras.Input((8,)), QSquare(small, beta=1e-5), ChannelShuffle(2), QDense(2, input_quantizer=small, beta=1e-5)], name="radius"
    )
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    model.fit(x, y, 256, 30, verbose=0)
    graph = freeze(model, x)
    print(f"mean squared error {model.evaluate(x, y, verbose=0):.4f} of {y.var():.1f}, {ebops_of(graph)} EBOPs")
    verdict = verify(graph, x, reference=KerasReference(model), backends=("rtl",), samples=1000)
    for row in verdict.rows():
        print(f"  {row['representation']:<8} {row['result']}")
    return verdict.ok


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
