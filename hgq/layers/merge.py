"""Layers that merge several values into one, each with a quantizer for every input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import keras
import tensorflow as tf

from hgq.errors import ConfigError
from hgq.layers.base import QLayer, quantize_to_ir
from hgq.layers.share import DEFAULT, Share
from hgq.quantizers import Identifier, Quantizer, serialize
from hgq.resources import ebops

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref


class QMerge(QLayer):
    """Base class: ``op(q1(x1), q2(x2), …)``, then `output_quantizer`, if any.

    More than two inputs are merged two by two, neighbours first (`hgq.resources.ebops.tree`), which is exact whatever the order. Shapes
    broadcast as in NumPy, but must be of one rank.

    Args:
        input_quantizers: What `hgq.quantizers.get` takes, but not None: each input gets one of its own; or a list with one for each input.
        output_quantizer: The same; usually None: the next layer quantizes its input.
        beta: Loss per EBOP.

    Attributes:
        input_quantizers: The quantizers, once built.

    Raises:
        ConfigError: an argument means nothing; at build time, inputs that do not fit together.
    """

    op: ClassVar[str] = ""
    """The op of `hgq.ir.ops` that merges two values."""
    inputs_wanted: ClassVar[int | None] = None
    """How many inputs it takes; None for any number from two."""

    def __init__(
        self,
        *,
        input_quantizers: Identifier | Sequence[Identifier] = "data",
        output_quantizer: Identifier = None,
        beta: float | None = None,
        **kwargs,
    ) -> None:
        super().__init__(beta=beta, **kwargs)
        self._for_all = None if isinstance(input_quantizers, list | tuple) else input_quantizers
        given = list(input_quantizers) if isinstance(input_quantizers, list | tuple) else [input_quantizers]
        self.input_quantizers = [self._input_quantizer(identifier, number) for number, identifier in enumerate(given)]
        self.output_quantizer = self._quantizer(output_quantizer, "data", "output_quantizer")

    def _input_quantizer(self, identifier: Identifier, number: int) -> Quantizer:
        return self._required_quantizer(identifier, "data", f"input_quantizers_{number}")

    def build(self, input_shape) -> None:
        shapes = self._checked_shapes(input_shape)
        if self._for_all is not None:
            others = [self._input_quantizer(self._for_all, number) for number in range(1, len(shapes))]
            self.input_quantizers, self._for_all = [*self.input_quantizers, *others], None
        if len(self.input_quantizers) != len(shapes):
            raise self._refused("As many quantizers as inputs.", f"{len(shapes)} input_quantizers", str(len(self.input_quantizers)))
        for quantizer, shape in zip(self.input_quantizers, shapes, strict=True):
            quantizer.build((None, *shape))
        self._shapes = shapes
        if self.output_quantizer is not None:
            self.output_quantizer.build((None, *self._merged_shape(shapes)))
        self.built = True

    def forward(self, inputs, training=None):
        values = [quantizer(x, training=training) for quantizer, x in zip(self.input_quantizers, inputs, strict=True)]
        y = self.merge(values, training)
        return y if self.output_quantizer is None else self.output_quantizer(y, training=training)

    def merge(self, values: list[Any], training=None):
        """The merged tensor of quantized ones."""
        return ebops.tree(getattr(tf, self.op), values)

    def cost(self):
        return ebops.merged(self._bits(), total=tf.reduce_sum)[0]

    def to_ir(self, b: GraphBuilder, *inputs: Ref) -> Ref:
        quantized = zip(self.input_quantizers, inputs, strict=True)
        refs = [quantize_to_ir(b, quantizer, x, f"iq{number}") for number, (quantizer, x) in enumerate(quantized)]
        return quantize_to_ir(b, self.output_quantizer, self.merge_to_ir(b, refs), "oq")

    def merge_to_ir(self, b: GraphBuilder, refs: list[Ref]) -> Ref:
        """The merge of quantized values as nodes."""
        return ebops.tree(lambda x, y: b.op(self.op, x, y), refs)

    def compute_output_shape(self, input_shape):
        return (input_shape[0][0], *self._merged_shape(self._checked_shapes(input_shape)))

    def get_config(self) -> dict:
        quantizers = [serialize(quantizer) for quantizer in self.input_quantizers]
        return {
            **super().get_config(),
            "input_quantizers": quantizers if self._for_all is None else quantizers[0],
            "output_quantizer": serialize(self.output_quantizer),
        }

    def _bits(self) -> list[Any]:
        """Bits of each input, of the result's shape."""
        shape = self._merged_shape(self._shapes)
        return [tf.broadcast_to(q.bits(own), shape) for q, own in zip(self.input_quantizers, self._shapes, strict=True)]

    def _checked_shapes(self, input_shape) -> list[tuple[int, ...]]:
        if not isinstance(input_shape, list | tuple) or not all(isinstance(shape, list | tuple) for shape in input_shape):
            raise self._refused(
                "A merge takes a list of inputs.", f"{type(self).__name__}()([a, b])", f"one input of shape {tuple(input_shape)}"
            )
        shapes = [self._positions_shape(shape) for shape in input_shape]
        if len(shapes) < 2 or (self.inputs_wanted is not None and len(shapes) != self.inputs_wanted):
            raise self._refused("Wrong number of inputs.", str(self.inputs_wanted or "at least 2"), str(len(shapes)))
        self._merged_shape(shapes)
        return shapes

    def _merged_shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        fits = len({len(shape) for shape in shapes}) == 1
        sizes = [{size for size in column if size != 1} for column in zip(*shapes, strict=False)]
        if not fits or any(len(column) > 1 for column in sizes):
            raise self._refused("Inputs of these shapes cannot be merged.", "equal shapes, or 1 where they differ", _listed(shapes))
        return tuple(next(iter(column), 1) for column in sizes)

    def _refused(self, what: str, expected: str, received: str) -> ConfigError:
        return ConfigError(what, where=f"layer {self.name} ({type(self).__name__})", expected=expected, received=received)


def _listed(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes))


@keras.saving.register_keras_serializable(package="hgqc")
class QAdd(QMerge):
    """Sum of its inputs, exact. Costs ``max(a, b)`` EBOPs an element and addition; see `hgq.resources.ebops.merged`.

    Args:
        **kwargs: Those of `QMerge`.
    """

    op = "add"


@keras.saving.register_keras_serializable(package="hgqc")
class QSubtract(QMerge):
    """First input less the second, exact. Costs ``max(a, b)`` EBOPs an element.

    Args:
        **kwargs: Those of `QMerge`.
    """

    op = "subtract"
    inputs_wanted = 2


@keras.saving.register_keras_serializable(package="hgqc")
class QMaximum(QMerge):
    """Largest of its inputs, element by element, exact. Costs ``max(a, b)`` EBOPs an element and comparison.

    Args:
        **kwargs: Those of `QMerge`.
    """

    op = "maximum"


@keras.saving.register_keras_serializable(package="hgqc")
class QMinimum(QMerge):
    """Smallest of its inputs, element by element, exact. Costs ``max(a, b)`` EBOPs an element and comparison.

    Args:
        **kwargs: Those of `QMerge`.
    """

    op = "minimum"


@keras.saving.register_keras_serializable(package="hgqc")
class QMultiply(QMerge):
    """Product of its inputs, element by element, exact. Costs ``a * b`` EBOPs an element; see `hgq.resources.ebops.product`.

    Args:
        **kwargs: Those of `QMerge`.
    """

    op = "product"

    def merge(self, values: list[Any], training=None):
        return ebops.tree(tf.multiply, values)

    def cost(self):
        return ebops.product(self._bits(), total=tf.reduce_sum)[0]


@keras.saving.register_keras_serializable(package="hgqc")
class QAverage(QMerge):
    """Mean of its inputs: their exact sum, times 1/n.

    Where n is a power of two, 1/n is exact, and so is the mean. Otherwise 1/n is a constant that `scale_quantizer` quantizes: the mean is
    that of the quantized constant, bit for bit the same in hardware, with a relative error of up to half its last bit (0.2 % by default).

    Args:
        scale_quantizer: What `hgq.quantizers.get` takes, but not None; unused where n is a power of two. The default keeps 8 significant
            bits.
        **kwargs: Those of `QMerge`.
    """

    op = "add"

    def __init__(self, *, scale_quantizer: Identifier = DEFAULT, **kwargs) -> None:
        super().__init__(**kwargs)
        self.scale_quantizer = self._required_quantizer(scale_quantizer, "weight", "scale_quantizer")

    def build(self, input_shape) -> None:
        super().build(input_shape)
        self._share = Share([len(self._shapes)], self.scale_quantizer)

    def merge(self, values: list[Any], training=None):
        return super().merge(values) * self._share.value(training)

    def cost(self):
        cost, bits = ebops.merged(self._bits(), total=tf.reduce_sum)
        return cost + ebops.scale_offset(bits, self._share.bits(), total=tf.reduce_sum)

    def merge_to_ir(self, b: GraphBuilder, refs: list[Ref]) -> Ref:
        return self._share.to_ir(b, super().merge_to_ir(b, refs))

    def get_config(self) -> dict:
        return {**super().get_config(), "scale_quantizer": serialize(self.scale_quantizer)}


@keras.saving.register_keras_serializable(package="hgqc")
class QConcatenate(QMerge):
    """Its inputs one after the other. Costs nothing.

    Args:
        axis: Along which axis, batch included: 1 is the first after the batch, -1 the last.
        **kwargs: Those of `QMerge`.
    """

    op = "concatenate"

    def __init__(self, axis: int = -1, **kwargs) -> None:
        super().__init__(**kwargs)
        self.axis = int(axis)

    def merge(self, values: list[Any], training=None):
        return tf.concat(values, axis=self.axis)

    def cost(self):
        return tf.zeros(())

    def merge_to_ir(self, b: GraphBuilder, refs: list[Ref]) -> Ref:
        return ebops.tree(lambda x, y: b.op("concatenate", x, y, axis=self._data_axis(len(x.shape))), refs)

    def get_config(self) -> dict:
        return {**super().get_config(), "axis": self.axis}

    def _data_axis(self, rank: int) -> int:
        axis = self.axis - 1 if self.axis > 0 else self.axis + rank
        if self.axis == 0 or not 0 <= axis < rank:
            raise self._refused("No such axis.", f"1 to {rank} or -1 to -{rank}", str(self.axis))
        return axis

    def _merged_shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        axis = self._data_axis(len(shapes[0]))
        rests = {(*shape[:axis], 0, *shape[axis + 1 :]) for shape in shapes}
        if len(rests) > 1:
            raise self._refused("Inputs of these shapes cannot be concatenated.", f"equal but on axis {self.axis}", _listed(shapes))
        return tuple(sum(shape[axis] for shape in shapes) if at == axis else size for at, size in enumerate(shapes[0]))
