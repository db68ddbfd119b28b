"""Sums, means and extrema over axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import keras
import tensorflow as tf

from hgq.errors import ConfigError
from hgq.layers.base import QLayer, quantize_to_ir
from hgq.layers.share import DEFAULT, Share, scaled
from hgq.quantizers import Identifier, serialize
from hgq.resources import ebops

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref


class QReduce(QLayer):
    """Base class: ``reduce(quantizer(x))`` over some axes. Costs ``max(a, b)`` EBOPs for each two values that meet.

    The elements are combined two by two, neighbours first (`hgq.ir.trees.tree`); see `hgq.resources.ebops.reduced`.

    Args:
        axes: Which axes, batch included: 1 is the first after the batch, -1 the last.
        keepdims: Keep these axes, with one element each.
        quantizer: Of the input; what `hgq.quantizers.get` takes.
        beta: Loss per EBOP.

    Raises:
        ConfigError: an argument means nothing; at build time, axes that do not exist.
    """

    op: ClassVar[str] = ""
    """The op of `hgq.ir.ops`."""
    function: ClassVar[Callable[..., Any]]
    """The same of tensors."""

    def __init__(
        self,
        axes: int | Sequence[int] = -1,
        keepdims: bool = False,
        *,
        quantizer: Identifier = "data",
        beta: float | None = None,
        **kwargs,
    ) -> None:
        super().__init__(beta=beta, **kwargs)
        self.axes = (int(axes),) if isinstance(axes, int) else tuple(int(axis) for axis in axes)
        self.keepdims = bool(keepdims)
        self.quantizer = self._quantizer(quantizer, "data", "quantizer")

    def build(self, input_shape) -> None:
        self._shape = self._positions_shape(input_shape)
        self._reduced = self._data_axes(len(self._shape))
        if self.quantizer is not None:
            self.quantizer.build(input_shape)
        self.built = True

    def forward(self, inputs, training=None):
        x = inputs if self.quantizer is None else self.quantizer(inputs, training=training)
        y = self.finish(type(self).function(x, [axis + 1 for axis in self._reduced], keepdims=True), training)
        return y if self.keepdims else tf.squeeze(y, [axis + 1 for axis in self._reduced])

    def finish(self, y, training=None):
        """What is left to do with the reduced value, whose axes are all there."""
        return y

    def cost(self):
        return tf.zeros(()) if self.quantizer is None else self.reduced_cost()[0]

    def reduced_cost(self) -> tuple[Any, Any]:
        """EBOPs of the reduction alone, and the bits of its result."""
        quantizer = self.quantizer or self._required_quantizer(None, "data", "quantizer")  # which says what is missing
        return ebops.reduced(quantizer.bits(self._shape), self._reduced, total=tf.reduce_sum, xp=tf)

    def to_ir(self, b: GraphBuilder, *inputs: Ref) -> Ref:
        (x,) = inputs
        x = quantize_to_ir(b, self.quantizer, x, "quantizer")
        y = self.finish_to_ir(b, b.op(self.op, x, axes=self._reduced))
        rest = tuple(size for axis, size in enumerate(y.shape) if axis not in self._reduced)
        return y if self.keepdims else b.op("reshape", y, shape=rest)

    def finish_to_ir(self, b: GraphBuilder, y: Ref) -> Ref:
        """`finish` as nodes."""
        return y

    def compute_output_shape(self, input_shape):
        reduced = [axis + 1 for axis in self._data_axes(len(input_shape) - 1)]
        return tuple(1 if at in reduced else size for at, size in enumerate(input_shape) if self.keepdims or at not in reduced)

    def get_config(self) -> dict:
        return {**super().get_config(), "axes": self.axes, "keepdims": self.keepdims, "quantizer": serialize(self.quantizer)}

    def _data_axes(self, rank: int) -> tuple[int, ...]:
        """The axes in ascending order, counted from 0 without batch."""
        found = sorted(axis - 1 if axis > 0 else axis + rank for axis in self.axes)
        if not found or 0 in self.axes or not all(0 <= axis < rank for axis in found) or len(set(found)) < len(found):
            raise ConfigError(
                "There are no such axes to reduce.",
                where=f"layer {self.name}",
                expected=f"different ones of 1 to {rank}, or -{rank} to -1; the batch, 0, is not reduced",
                received=str(self.axes),
            )
        if len(found) == rank and not self.keepdims:
            raise ConfigError(
                "Nothing would be left but the batch.",
                where=f"layer {self.name}",
                expected="an axis that stays, or keepdims=True",
                received=f"axes={self.axes} of {rank} axes after the batch",
            )
        return tuple(found)


@keras.saving.register_keras_serializable(package="hgqc")
class QSum(QReduce):
    """Sum over axes, exact, times a power of two.

    Args:
        axes, keepdims: As in `QReduce`.
        scale: A power of two. Any but 1 costs the bits of the sum once more.
        quantizer: Of the input; not None.
        beta: Loss per EBOP.
    """

    op = "reduce_sum"
    function = staticmethod(tf.reduce_sum)

    def __init__(self, axes: int | Sequence[int] = -1, keepdims: bool = False, scale: float = 1.0, **kwargs) -> None:
        super().__init__(axes, keepdims, **kwargs)
        self.scale = float(scale)
        if not (math.isfinite(self.scale) and self.scale > 0 and math.frexp(self.scale)[0] == 0.5):
            raise ConfigError(
                "A sum is scaled by a shift.",
                where=f"layer {self.name}",
                expected="a power of two",
                received=repr(scale),
                fix="Use QMean, or a QBatchNormalization behind the sum.",
            )
        self._exponent = math.frexp(self.scale)[1] - 1
        if self.quantizer is None:
            self._required_quantizer(None, "data", "quantizer")

    def finish(self, y, training=None):
        return y * self.scale

    def cost(self):
        cost, bits = self.reduced_cost()
        return cost + (tf.reduce_sum(bits) if self._exponent else 0.0)

    def finish_to_ir(self, b: GraphBuilder, y: Ref) -> Ref:
        return scaled(b, y, self._exponent) if self._exponent else y

    def get_config(self) -> dict:
        return {**super().get_config(), "scale": self.scale}


@keras.saving.register_keras_serializable(package="hgqc")
class QMean(QReduce):
    """Mean over axes: the exact sum, times 1/n, which is exact where n is a power of two and a quantized constant otherwise.

    Args:
        axes, keepdims: As in `QReduce`.
        scale_quantizer: Of 1/n; what `hgq.quantizers.get` takes, but not None. The default keeps 8 significant bits.
        quantizer: Of the input; not None.
        beta: Loss per EBOP.
    """

    op = "reduce_sum"
    function = staticmethod(tf.reduce_sum)

    def __init__(self, axes: int | Sequence[int] = -1, keepdims: bool = False, *, scale_quantizer: Identifier = DEFAULT, **kwargs) -> None:
        super().__init__(axes, keepdims, **kwargs)
        self.scale_quantizer = self._required_quantizer(scale_quantizer, "weight", "scale_quantizer")
        if self.quantizer is None:
            self._required_quantizer(None, "data", "quantizer")

    def build(self, input_shape) -> None:
        super().build(input_shape)
        self._share = Share([math.prod(self._shape[axis] for axis in self._reduced)], self.scale_quantizer)

    def finish(self, y, training=None):
        return y * self._share.value(training)

    def cost(self):
        cost, bits = self.reduced_cost()
        return cost + ebops.scale_offset(bits, self._share.bits(), total=tf.reduce_sum)

    def finish_to_ir(self, b: GraphBuilder, y: Ref) -> Ref:
        return self._share.to_ir(b, y)

    def get_config(self) -> dict:
        return {**super().get_config(), "scale_quantizer": serialize(self.scale_quantizer)}


@keras.saving.register_keras_serializable(package="hgqc")
class QMax(QReduce):
    """Greatest element along axes, exact. With ``quantizer=None`` it takes the input as it is, and charges nothing: no bits are known.

    Args:
        **kwargs: Those of `QReduce`.
    """

    op = "reduce_max"
    function = staticmethod(tf.reduce_max)


@keras.saving.register_keras_serializable(package="hgqc")
class QMin(QReduce):
    """Least element along axes, exact. With ``quantizer=None`` it takes the input as it is, and charges nothing: no bits are known.

    Args:
        **kwargs: Those of `QReduce`.
    """

    op = "reduce_min"
    function = staticmethod(tf.reduce_min)
