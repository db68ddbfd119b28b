"""One time step of a recurrent layer, written once and read three times: as numbers, as costs, and as nodes.

A cell's ``step(a, x, states)`` computes with the methods of `a`: `Tensors` runs it in Keras, `Bits` charges it, `Nodes` writes it into the
graph. Every value that enters a product has been quantized, hence its bits are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from hgq import quantizers
from hgq.errors import ConfigError
from hgq.layers import activations, functions
from hgq.layers.backward import Product
from hgq.layers.base import quantize_to_ir
from hgq.layers.function_table import FunctionTable
from hgq.quantizers import Identifier, Quantizer
from hgq.resources import ebops

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref


class Nonlinearity(keras.layers.Layer):
    """``quantizer(activation(x))``: logic where the activation is made of a few gates, else a `FunctionTable`.

    A part of a layer that the layer builds, calls and charges.

    Args:
        activation: A name of `hgq.layers.activations`, of `hgq.layers.functions`, or a function of one tensor.
        pre_quantizer: For the argument of a table; logic takes all of it.
        quantizer: For the result; ``"auto"`` for ``"data"``, or what suits a table.
        owner: Path of the layer it belongs to, for messages.
    """

    def __init__(self, activation: Any, pre_quantizer: Identifier, quantizer: Identifier, *, owner: str, **kwargs) -> None:
        super().__init__(**kwargs)
        self.table = None
        if is_curved(activation):
            self.table = FunctionTable(activation, pre_quantizer, quantizer, owner=f"{owner}/{self.name}", name="table")
            self.quantizer = self.table.output_quantizer
        else:
            self.activation = activations.known(activation, owner)
            made = quantizers.get("data" if quantizer == "auto" else quantizer, "data", f"{self.name}_quantizer")
            if made is None:
                raise ConfigError(
                    "A recurrent layer quantizes the result of each of its activations: products read it.",
                    where=f"layer {owner}, {self.name}",
                    expected='a quantizer, such as "auto" or "kif(i0=1, f0=6)"',
                    received="None",
                )
            self.quantizer = made

    @property
    def identifier(self) -> Any:
        """The activation as a configuration keeps it."""
        return functions.serialize(self.table.fn, self.name) if self.table is not None else self.activation

    @property
    def quantizers(self) -> list[Quantizer]:
        """All of its quantizers."""
        return [self.quantizer] if self.table is None else [self.table.input_quantizer, self.quantizer]

    def build(self, input_shape) -> None:
        (self.quantizer if self.table is None else self.table).build(input_shape)
        self.built = True

    def call(self, inputs, training=None):
        if self.table is not None:
            return self.table(inputs, training=training)
        return self.quantizer(activations.apply(self.activation, inputs), training=training)

    def cost(self, shape: tuple[int, ...]):
        """EBOPs for data of this shape, without batch."""
        if self.table is not None:
            return self.table.cost(shape)
        return quantizer_cost(self.quantizer, shape)

    def to_ir(self, b: GraphBuilder, x: Ref, name: str) -> Ref:
        """The activation and its quantizers as nodes."""
        if self.table is not None:
            return self.table.to_ir(b, x, name)
        return quantize_to_ir(b, self.quantizer, activations.to_ir(b, self.activation, x), name)


def is_curved(activation: Any) -> bool:
    """Whether this activation takes a table."""
    if isinstance(activation, dict) or functions.known(activation):
        return True
    name = getattr(activation, "__name__", activation)
    return callable(activation) and getattr(keras.activations, str(name), None) is not activation


def quantizer_cost(quantizer: Quantizer, shape: tuple[int, ...]):
    """EBOPs of a quantizer that is hardware itself, for `shape`, of which it was built for the last axis."""
    cost = quantizer.cost()
    return tf.zeros(()) if cost is None else cost * float(shape[0])


class Tensors:
    """A step as numbers.

    Args:
        constants: Quantized kernel and bias (or None) of each matrix product, by name.
        training: As in Keras.
        products: What does each matrix product, by name: `hgq.layers.backward.BackwardPass.products` of as many uses as steps.
        time: Which step it is, from 0.
    """

    def __init__(self, constants: Mapping[str, tuple[Any, Any]], training: Any, products: Mapping[str, Product], time: Any = 0) -> None:
        self.constants, self.training, self.products, self.time = constants, training, products, time

    def at(self, time: Any) -> Tensors:
        """The same for another step, a number or a tensor."""
        return Tensors(self.constants, self.training, self.products, time)

    def dense(self, x, name: str):
        """Matrix product of the last axis, and the bias."""
        kernel, bias = self.constants[name]
        y = self.products[name](tf.matmul, x, kernel, self.time)
        return y if bias is None else y + bias

    def concatenate(self, x, y):
        """Along the last axis."""
        return tf.concat([x, y], -1)

    def split(self, x, parts: int):
        """Equal parts of the last axis."""
        return tf.split(x, parts, -1)

    def add(self, x, y):
        """Sum."""
        return x + y

    def subtract(self, x, y):
        """Difference."""
        return x - y

    def product(self, x, y):
        """Product."""
        return x * y

    def apply(self, part: Nonlinearity, x, name: str):
        """An activation."""
        return part(x, training=self.training)

    def quantize(self, quantizer: Quantizer, x, name: str):
        """A quantizer."""
        return quantizer(x, training=self.training)


class Bits:
    """All steps at once as EBOPs: values are bits, shape (steps, elements), or None for sums that only a quantizer reads.

    Args:
        constants: Bits of kernel and bias (or None) of each matrix product, by name.
        shape: (steps, units).
    """

    def __init__(self, constants: Mapping[str, tuple[Any, Any]], shape: tuple[int, int]) -> None:
        self.constants, self.shape, self.total = constants, shape, tf.zeros(())

    def dense(self, x, name: str) -> None:
        kernel, bias = self.constants[name]
        self.total += ebops.dense(x, kernel, bias, total=tf.reduce_sum)

    def concatenate(self, x, y):
        return tf.concat([x, y], -1)

    def split(self, x, parts: int) -> list[None]:
        return [None] * parts

    def add(self, x, y):
        cost, bits = ebops.merged([x, y], total=tf.reduce_sum)
        self.total += cost
        return bits

    subtract = add

    def product(self, x, y):
        cost, bits = ebops.product([x, y], total=tf.reduce_sum)
        self.total += cost
        return bits

    def apply(self, part: Nonlinearity, x, name: str):
        self.total += part.cost(self.shape)
        return part.quantizer.bits(self.shape)

    def quantize(self, quantizer: Quantizer, x, name: str):
        self.total += quantizer_cost(quantizer, self.shape)
        return quantizer.bits(self.shape)


class Nodes:
    """A step as nodes of a graph; values are vectors.

    Args:
        b: The graph.
        constants: Kernel and bias (or None) of each matrix product, by name.
    """

    def __init__(self, b: GraphBuilder, constants: Mapping[str, tuple[Ref, Ref | None]]) -> None:
        self.b, self.constants = b, constants

    def dense(self, x: Ref, name: str) -> Ref:
        kernel, bias = self.constants[name]
        y = self.b.op("matmul", x, kernel, name=f"{name}_matmul")
        return y if bias is None else self.b.op("add", y, bias, name=f"{name}_add")

    def concatenate(self, x: Ref, y: Ref) -> Ref:
        return self.b.op("concatenate", x, y, axis=0)

    def split(self, x: Ref, parts: int) -> Sequence[Ref]:
        size = x.shape[0] // parts
        return [self.b.op("take", x, axis=0, indices=tuple(range(part * size, (part + 1) * size))) for part in range(parts)]

    def add(self, x: Ref, y: Ref) -> Ref:
        return self.b.op("add", x, y)

    def subtract(self, x: Ref, y: Ref) -> Ref:
        return self.b.op("subtract", x, y)

    def product(self, x: Ref, y: Ref) -> Ref:
        return self.b.op("product", x, y)

    def apply(self, part: Nonlinearity, x: Ref, name: str) -> Ref:
        return part.to_ir(self.b, x, name)

    def quantize(self, quantizer: Quantizer, x: Ref, name: str) -> Ref:
        return quantize_to_ir(self.b, quantizer, x, name)
