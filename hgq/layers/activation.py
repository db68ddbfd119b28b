"""Activations with a quantizer after them, and a quantizer alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras

from hgq.layers import activations
from hgq.layers.base import QLayer, quantize_to_ir
from hgq.quantizers import Identifier, serialize

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref


@keras.saving.register_keras_serializable(package="hgqc")
class QActivation(QLayer):
    """``quantizer(activation(x))``. Costs no EBOPs.

    Args:
        activation: None, ``"linear"``, ``"relu"``, ``"relu6"``, ``"hard_tanh"``, ``"hard_sigmoid"``, ``"leaky_relu"`` or
            ``"leaky_relu(SLOPE)"``.
        quantizer: What `hgq.quantizers.get` takes. None: the exact activation alone.
        beta: As in every `QLayer`; has nothing to charge.

    Raises:
        ConfigError: an argument means nothing.
    """

    def __init__(self, activation: str | None = "linear", quantizer: Identifier = "data", *, beta: float | None = None, **kwargs) -> None:
        super().__init__(beta=beta, **kwargs)
        self.activation = activations.known(activation, self.name)
        self.quantizer = self._quantizer(quantizer, "data", "quantizer")

    def build(self, input_shape) -> None:
        self._positions_shape(input_shape)
        if self.quantizer is not None:
            self.quantizer.build(input_shape)
        self.built = True

    def forward(self, inputs, training=None):
        y = activations.apply(self.activation, inputs)
        return y if self.quantizer is None else self.quantizer(y, training=training)

    def to_ir(self, b: GraphBuilder, *inputs: Ref) -> Ref:
        (x,) = inputs
        return quantize_to_ir(b, self.quantizer, activations.to_ir(b, self.activation, x), "quantizer")

    def get_config(self) -> dict:
        return {**super().get_config(), "activation": self.activation, "quantizer": serialize(self.quantizer)}


@keras.saving.register_keras_serializable(package="hgqc")
class QReLU(QActivation):
    """``quantizer(max(x, 0))``.

    Args:
        quantizer: What `hgq.quantizers.get` takes; None for the exact ReLU.
        beta: As in every `QLayer`; has nothing to charge.
    """

    def __init__(self, quantizer: Identifier = "data", *, beta: float | None = None, **kwargs) -> None:
        super().__init__("relu", quantizer, beta=beta, **kwargs)

    def get_config(self) -> dict:
        config = super().get_config()
        del config["activation"]
        return config


@keras.saving.register_keras_serializable(package="hgqc")
class QInput(QActivation):
    """A quantizer for what enters the model, as a layer of its own: ``QInput()(keras.Input((16,)))``.

    `QDense` and its like quantize their input themselves; this is for models that start with another layer, or that use their input twice
    and should read it through one port format.

    Args:
        quantizer: What `hgq.quantizers.get` takes, but not None.
        beta: As in every `QLayer`; has nothing to charge.

    Raises:
        ConfigError: the quantizer is None.
    """

    def __init__(self, quantizer: Identifier = "data", *, beta: float | None = None, **kwargs) -> None:
        super().__init__("linear", quantizer, beta=beta, **kwargs)
        self._required_quantizer(quantizer, "data", "quantizer")

    def get_config(self) -> dict:
        config = super().get_config()
        del config["activation"]
        return config
