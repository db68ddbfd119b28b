"""What every quantized layer is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from hgq import quantizers, replicas
from hgq.errors import ConfigError
from hgq.quantizers import Quantizer
from hgq.quantizers.arguments import check_policy

if TYPE_CHECKING:  # the IR knows nothing of layers, and layers need it only when they are frozen
    from hgq.ir.build import GraphBuilder, Ref

DEFAULT_BETA = 1e-6


class QLayer(keras.layers.Layer):
    """Base class of quantized layers.

    A subclass writes ``build``, `forward` (not ``call``), `cost` if it needs hardware, and `to_ir`. ``call`` is a template: it runs
    `forward` and, in training, adds ``beta * cost()`` to the losses. Because only this template charges, a subclass that inherits ``call``,
    or overrides it and calls ``super().call``, charges once. A layer that a model uses twice charges twice: its hardware is there twice.

    A layer made of other `QLayer` objects runs their `forward` and sums their `cost`: only the outermost charges.

    Args:
        beta: Loss per EBOP, or per LUT. A variable, for schedules: see `hgq.layers.set_beta`.
        resource: What is charged: ``"ebops"``, or ``"lut"`` (`hgq.resources.lut`); see `hgq.layers.set_resource`.

    Attributes:
        beta: That variable, float32, not trainable.
        ebops: What the last training call charged for, float32. `hgq.layers.total_ebops` computes it anew.
    """

    def __init__(self, *, beta: float | None = None, resource: str = "ebops", **kwargs) -> None:
        super().__init__(**kwargs)
        self.resource = known_resource(resource, self.name)
        check_policy(self)
        initial = DEFAULT_BETA if beta is None else float(beta)
        self.initial_beta = initial
        self.beta = self.add_weight(
            name="beta", shape=(), initializer=keras.initializers.Constant(initial), dtype="float32", trainable=False
        )
        self.ebops = self.add_weight(name="ebops", shape=(), initializer="zeros", dtype="float32", trainable=False)

    def call(self, inputs, training=None):
        """Run `forward`; in training, charge the cost."""
        outputs = self.forward(inputs, training)
        if training and (type(self).cost is not QLayer.cost or self._quantizer_costs()):
            cost = self.total_cost()
            self.ebops.assign(tf.stop_gradient(cost))
            replicas.add_loss(self, tf.convert_to_tensor(self.beta) * cost)
            outputs = _after(cost, outputs)
        return outputs

    def forward(self, inputs, training=None):
        """The layer's function: quantized in training and inference."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward().")

    def cost(self):
        """EBOPs of one instance from the present variables: a float32 scalar that is differentiable in the bits."""
        return tf.zeros(())

    def total_cost(self):
        """`cost`, and that of the layer's quantizers which are hardware themselves: what training charges."""
        return sum(self._quantizer_costs(), self.cost())

    def _quantizer_costs(self) -> list[Any]:
        values = [part for value in vars(self).values() for part in (value if isinstance(value, list | tuple) else (value,))]
        data = {id(part): part for part in values if isinstance(part, Quantizer) and part.built and not part.constant}
        return [cost for cost in (quantizer.cost() for quantizer in data.values()) if cost is not None]

    def to_ir(self, b: GraphBuilder, *inputs: Ref) -> Ref:
        """Add this layer's inference, as frozen now, to the graph."""
        raise NotImplementedError(f"{type(self).__name__} defines no to_ir().")

    def quantized_constants(self) -> dict[str, Any]:
        """What the quantizers of constants quantize in inference, by the quantizers' attribute names: for statistics of bits."""
        return {}

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict:
        return {**super().get_config(), "beta": self.initial_beta, "resource": self.resource}

    # ---- for subclasses ----------------------------------------

    def _quantizer(self, identifier: quantizers.Identifier, place: str, argument: str) -> Quantizer | None:
        """This layer's own quantizer from what the user gave, named as the argument is."""
        return quantizers.get(identifier, place, argument)

    def _required_quantizer(self, identifier: quantizers.Identifier, place: str, argument: str) -> Quantizer:
        quantizer = self._quantizer(identifier, place, argument)
        if quantizer is None:
            raise ConfigError(
                f"{type(self).__name__} needs its {argument}: cost and firmware follow from its format.",
                where=f"layer {self.name}",
                expected='a quantizer, such as "data" or "kif(i0=2, f0=6)"',
                received="None",
            )
        return quantizer

    def _positions_shape(self, input_shape) -> tuple[int, ...]:
        """`input_shape` without the batch; hardware needs all of it to be known."""
        shape = tuple(input_shape[1:])
        if not shape or None in shape:
            raise ConfigError(
                "A quantized layer needs a static input shape: its hardware is built for it.",
                where=f"layer {self.name}",
                expected="(batch, sizes…), at least one axis after the batch, all known",
                received=str(tuple(input_shape)),
            )
        return shape


def _after(cost, outputs):
    """`outputs`, which are there only once the cost is.

    The cost reads variables that the training step goes on to change. TensorFlow's graph optimizer may drop the order of such a read and an
    update, believing another path to imply it that it removes later (`dependency_optimization`, seen with 2.21); then the cost is now and
    then that of the variables after the step. All updates need the outputs: this path stays.
    """
    with tf.control_dependencies([cost]):
        return tf.nest.map_structure(tf.identity, outputs)


RESOURCES = ("ebops", "lut")
"""What training can charge for."""


def known_resource(name: str, where: str) -> str:
    """`name`, if training can charge for it.

    Raises:
        ConfigError: it cannot.
    """
    if name not in RESOURCES:
        raise ConfigError(
            "Training cannot charge for this.", where=f"{where}, resource", expected=" or ".join(RESOURCES), received=repr(name)
        )
    return name


def constant_to_ir(b: GraphBuilder, quantizer: Quantizer, constant, name: str) -> Ref:
    """A quantized weight as a constant of the graph."""
    mantissa, fixed = quantizer.quantized_constant(np.asarray(constant))
    return b.constant(mantissa, fixed, name=name)


def quantize_to_ir(b: GraphBuilder, quantizer: Quantizer | None, x: Ref, name: str) -> Ref:
    """A data quantizer in the graph; none, no node."""
    return x if quantizer is None else quantizer.to_ir(b, x, name)


def identifier_config(**named: Any) -> dict:
    """Keras objects by their serialized form, for ``get_config``."""
    return {name: keras.saving.serialize_keras_object(thing) if thing is not None else None for name, thing in named.items()}
