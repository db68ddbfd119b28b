"""Softmax of two lookup tables, a sum and products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from hgq.errors import ConfigError
from hgq.layers.base import QLayer, quantize_to_ir
from hgq.layers.function_table import FunctionTable
from hgq.layers.functions import FUNCTIONS, Function
from hgq.numerics import Fixed
from hgq.quantizers import Identifier, serialize
from hgq.resources import ebops

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref

SUM_BITS = 10
"""Bits of the sum as the table of 1/x reads it, unless told otherwise: 1024 entries."""


@keras.saving.register_keras_serializable(package="hgqc")
class QSoftmax(QLayer):
    r"""``exp(input_scale * x) / sum(exp(input_scale * x))`` over some axes: a table, an exact sum, a table of 1/x, a product.

    *Stable*: with q the quantized input and m its exact maximum over the axes, the first table holds ``exp(-input_scale * n)`` of
    ``n = m - q >= 0``, which saturates at both ends: no term is greater than 1, and the sum is never 0. *Unstable*: it holds
    ``exp(input_scale * q)`` itself, which saves the maximum and the subtraction; its output format must hold the greatest exponential.

    A mask (True: take part) that is known beforehand is the argument `mask`: what it leaves out costs nothing. One that is data is the
    layer's second input, ``QSoftmax()(x, mask=m)`` or ``QSoftmax()([x, m])``, of the rank of x: the exponentials are multiplied with it,
    and in the maximum an element that it leaves out counts as 0. What is left out is 0 in the result. Where nothing takes part, all is 0.

    EBOPs: those of both tables, of the maximum and the subtraction, of the sum, and of the product.

    Args:
        axis: Which axis or axes, batch included: -1 is the last.
        stable: Whether the maximum is subtracted.
        input_scale: A factor of the input, such as ``1/sqrt(d)``; it is part of the table, hence exact and free.
        mask: Truth values that broadcast to one sample; None: all take part.
        input_quantizer: What `hgq.quantizers.get` takes, but not None. Unstable: it is the first table's.
        exp_input_quantizer: Of ``m - q``; unused if unstable. ``"auto"``: 8 bits, one format for all.
        exp_output_quantizer: Of the exponentials. ``"auto"``: one unsigned saturating format, 8 fractional bits if stable.
        inverse_input_quantizer: Of their sum. ``"auto"``: 10 bits that hold it.
        inverse_output_quantizer: Of its reciprocal. ``"auto"``: 10 fractional bits.
        output_quantizer: Of the result; usually None: the next layer quantizes its input.
        beta: Loss per EBOP.

    Raises:
        ConfigError: an argument means nothing.
    """

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        *,
        stable: bool = True,
        input_scale: float = 1.0,
        mask: ArrayLike | None = None,
        input_quantizer: Identifier = "data",
        exp_input_quantizer: Identifier = "auto",
        exp_output_quantizer: Identifier = "auto",
        inverse_input_quantizer: Identifier = "auto",
        inverse_output_quantizer: Identifier = "auto",
        output_quantizer: Identifier = None,
        beta: float | None = None,
        **kwargs,
    ) -> None:
        super().__init__(beta=beta, **kwargs)
        self.supports_masking = True
        self.axis = int(axis) if isinstance(axis, int | np.integer) else tuple(int(part) for part in axis)
        self.stable = bool(stable)
        self.input_scale = float(input_scale)
        if not (math.isfinite(self.input_scale) and self.input_scale > 0):
            raise ConfigError("A scale must be positive.", where=f"layer {self.name}", expected="> 0", received=repr(input_scale))
        self.mask = None if mask is None else np.asarray(mask, bool)
        self.mask_shape: tuple[int | None, ...] | None = None
        """Shape of the mask that is data, batch included, once there is one."""
        self.input_quantizer = self._required_quantizer(input_quantizer, "data", "input_quantizer") if stable else None
        self.output_quantizer = self._quantizer(output_quantizer, "data", "output_quantizer")
        self._given = {
            "input_quantizer": input_quantizer,
            "exp_input_quantizer": exp_input_quantizer,
            "exp_output_quantizer": exp_output_quantizer,
            "inverse_input_quantizer": inverse_input_quantizer,
            "inverse_output_quantizer": inverse_output_quantizer,
        }

    def build(self, input_shape) -> None:
        if isinstance(input_shape, list | tuple) and input_shape and isinstance(input_shape[0], list | tuple):
            input_shape, self.mask_shape = input_shape
        self.sample_shape = self._positions_shape(input_shape)
        self._axes = self._data_axes(len(self.sample_shape))
        self._taking_part = self._checked_mask()
        rows = tuple(1 if at in self._axes else size for at, size in enumerate(self.sample_shape))
        auto = self._defaults(math.prod(self.sample_shape[axis] for axis in self._axes))
        chosen = {name: auto[name] if given == "auto" else given for name, given in self._given.items()}
        before = chosen["exp_input_quantizer"] if self.stable else chosen["input_quantizer"]
        sign = -1.0 if self.stable else 1.0
        owner = {"owner": self.name}
        exponential = scaled_exp(sign * self.input_scale)
        self.exponential = FunctionTable(exponential, before, chosen["exp_output_quantizer"], name="exponential", **owner)
        self.inverse = FunctionTable(
            "reciprocal", chosen["inverse_input_quantizer"], chosen["inverse_output_quantizer"], name="inverse", **owner
        )
        if self.input_quantizer is not None:
            self.input_quantizer.build(input_shape)
        self.exponential.build(input_shape)
        self.inverse.build((None, *rows))
        if self.output_quantizer is not None:
            self.output_quantizer.build(input_shape)
        self.built = True

    def _defaults(self, count: int) -> dict[str, str]:
        """Formats that suit a softmax of `count` elements."""
        i = 3 - round(math.log2(self.input_scale))
        top = 0 if self.stable else 4
        whole = math.ceil(math.log2(count)) + top if count > 1 else top + 1
        formats = {
            "exp_input_quantizer": (i, 8 - i),
            "exp_output_quantizer": (top, 8 - top // 2),
            "inverse_input_quantizer": (whole, SUM_BITS - whole),
            "inverse_output_quantizer": (top // 2, 10),
        }
        return {name: f"data(k0=0, i0={i}, f0={f}, overflow=SAT, granularity=tensor)" for name, (i, f) in formats.items()}

    def __call__(self, inputs, mask=None, **kwargs):
        """The softmax; `mask`, if given, is data of the same rank. Before Keras builds the layer: its cost depends on the mask's shape."""
        if mask is None:
            return super().__call__(inputs, **kwargs)
        if len(mask.shape) != len(inputs.shape):
            raise ConfigError(
                "A mask must be of the rank of the data: hardware broadcasts axes of size 1 only.",
                where=f"layer {self.name}",
                expected=f"rank {len(inputs.shape)}, such as {(None, *[1] * (len(inputs.shape) - 2), inputs.shape[-1])}",
                received=str(tuple(mask.shape)),
            )
        self.mask_shape = tuple(mask.shape)
        return super().__call__(inputs, mask=mask, **kwargs)

    def call(self, inputs, mask=None, training=None):  # pyright: ignore[reportIncompatibleMethodOverride]  Keras' softmax has this order
        """As `__call__`; masks that Keras passes on by itself are refused."""
        if mask is None or isinstance(inputs, list | tuple):  # of a list, Keras passes a list of masks that it knows itself
            return super().call(inputs, training)
        if self.mask_shape is None:
            raise ConfigError(
                "The mask of this softmax is no input of the model: hardware would not have it.",
                where=f"layer {self.name}",
                expected="a mask that is an input, QSoftmax()(x, mask=m), or the argument mask of the constructor",
                received="one that Keras passes on by itself",
            )
        return super().call([inputs, mask], training)

    def forward(self, inputs, training=None):
        x, mask = inputs if isinstance(inputs, list | tuple) else (inputs, None)
        axes = [axis + 1 for axis in self._axes]
        there = None if mask is None else tf.cast(tf.cast(mask, tf.float32) >= 0.5, tf.float32)  # as the port rounds
        if self.input_quantizer is not None:
            x = self.input_quantizer(x, training=training)
            x = self._greatest(x, there, axes) - x
        terms = self.exponential(x, training=training)
        if self._taking_part is not None:
            terms = terms * self._taking_part.astype(np.float32)
        if there is not None:
            terms = terms * there
        y = terms * self.inverse(tf.reduce_sum(terms, axes, keepdims=True), training=training)
        return y if self.output_quantizer is None else self.output_quantizer(y, training=training)

    def restrict(self, mask: ArrayLike) -> None:
        """Set the mask that is known beforehand, on a built layer."""
        self.mask = np.asarray(mask, bool)
        self._taking_part = self._checked_mask()

    def _greatest(self, x, there, axes):
        if self._taking_part is not None:
            flat = tf.reshape(x, (-1, math.prod(self.sample_shape)))
            x = tf.reshape(tf.gather(flat, self._stand_ins(), axis=1), (-1, *self.sample_shape))
        if there is not None:
            x = x * there
        return tf.reduce_max(x, axes, keepdims=True)

    def _stand_ins(self) -> NDArray[np.int64]:
        """For each element, in C order, itself, or, if it takes no part, one of its row that does: this leaves the maximum alone."""
        numbers = np.arange(math.prod(self.sample_shape)).reshape(self.sample_shape)
        taking_part = np.ones(self.sample_shape, bool) if self._taking_part is None else self._taking_part
        first = np.where(taking_part, numbers, numbers.size).min(axis=self._axes, keepdims=True)
        return np.where(taking_part | (first == numbers.size), numbers, first).ravel()

    def cost(self):
        mask_bits = None if self.mask_shape is None else tf.ones(self.mask_shape[1:])
        terms = self.exponential.bits(self.sample_shape)
        total = self.exponential.cost(self.sample_shape, self._taking_part)
        if self._taking_part is not None:
            terms = terms * self._taking_part.astype(np.float32)
        if self.input_quantizer is not None:
            bits = self.input_quantizer.bits(self.sample_shape)
            shown = bits
            if self._taking_part is not None:
                shown = tf.reshape(tf.gather(tf.reshape(bits, (-1,)), self._stand_ins()), self.sample_shape)
            if mask_bits is not None:
                cost, shown = ebops.product([shown, mask_bits], total=tf.reduce_sum)
                total += cost
            cost, greatest = ebops.reduced(shown, self._axes, total=tf.reduce_sum, xp=tf)
            total += cost + ebops.merged([tf.broadcast_to(greatest, self.sample_shape), bits], total=tf.reduce_sum)[0]
        if mask_bits is not None:
            cost, terms = ebops.product([terms, mask_bits], total=tf.reduce_sum)
            total += cost
        total += ebops.reduced(terms, self._axes, total=tf.reduce_sum, xp=tf)[0]
        rows = tuple(1 if at in self._axes else size for at, size in enumerate(self.sample_shape))
        inverse = tf.broadcast_to(self.inverse.bits(rows), self.sample_shape)
        return total + self.inverse.cost(rows) + ebops.product([terms, inverse], total=tf.reduce_sum)[0]

    def to_ir(self, b: GraphBuilder, *inputs: Ref) -> Ref:
        x, *rest = inputs
        there = [b.quantize(mask, Fixed(0, 1, 0), "RND", "SAT", "mask") for mask in rest]
        if self.input_quantizer is not None:
            x = quantize_to_ir(b, self.input_quantizer, x, "iq")
            shown = x
            if self._taking_part is not None:
                flat = b.op("reshape", x, shape=(math.prod(self.sample_shape),))
                picked = b.op("take", flat, axis=0, indices=tuple(int(index) for index in self._stand_ins()))
                shown = b.op("reshape", picked, shape=self.sample_shape)
            for mask in there:
                shown = b.op("product", shown, mask, name="shown")
            x = b.op("subtract", b.op("reduce_max", shown, axes=self._axes, name="greatest"), x, name="below")
        terms = self.exponential.to_ir(b, x, "exp", self._taking_part)
        if self._taking_part is not None:
            k, i, f = (np.where(self._taking_part, part, 0) for part in self.exponential.output_quantizer.format().astuple())
            terms = b.quantize(terms, Fixed(k, i, f), "TRN", "WRAP", "taking_part")
        for mask in there:
            terms = b.op("product", terms, mask, name="terms")
        inverse = self.inverse.to_ir(b, b.op("reduce_sum", terms, axes=self._axes, name="sum"), "inverse")
        return quantize_to_ir(b, self.output_quantizer, b.op("product", terms, inverse, name="softmax"), "oq")

    def compute_output_shape(self, input_shape):
        if isinstance(input_shape, list | tuple) and input_shape and isinstance(input_shape[0], list | tuple):
            return tuple(input_shape[0])
        return tuple(input_shape)

    def get_config(self) -> dict:
        given = {name: serialize_given(value, name) for name, value in self._given.items()}
        return {
            **super().get_config(),
            "axis": self.axis,
            "stable": self.stable,
            "input_scale": self.input_scale,
            "mask": None if self.mask is None else self.mask.tolist(),
            **given,
            "output_quantizer": serialize(self.output_quantizer),
        }

    def _data_axes(self, rank: int) -> tuple[int, ...]:
        """The axes in ascending order, counted from 0 without batch."""
        given = (self.axis,) if isinstance(self.axis, int) else self.axis
        found = sorted({axis - 1 if axis > 0 else axis + rank for axis in given})
        if 0 in given or len(found) != len(given) or not found or found[0] < 0 or found[-1] >= rank:
            expected = f"different ones of 1 to {rank}, or -{rank} to -1"
            raise ConfigError("There are no such axes.", where=f"layer {self.name}", expected=expected, received=str(self.axis))
        return tuple(found)

    def _checked_mask(self) -> NDArray[np.bool_] | None:
        if self.mask is None:
            return None
        if self.mask.ndim > len(self.sample_shape) or any(
            n not in (1, m) for n, m in zip(self.mask.shape[::-1], self.sample_shape[::-1], strict=False)
        ):
            raise ConfigError(
                "The mask does not broadcast to one sample.",
                where=f"layer {self.name}",
                expected=f"shape {self.sample_shape}, or 1 where it repeats",
                received=str(self.mask.shape),
            )
        return np.broadcast_to(self.mask, self.sample_shape)


def serialize_given(value: Any, name: str, place: str = "data") -> Any:
    """A quantizer argument that is resolved only when the layer is built, as ``get_config`` keeps it."""
    from hgq import quantizers

    return "auto" if value == "auto" else serialize(quantizers.get(value, place, name))


@cache
def scaled_exp(scale: float) -> Function:
    """``exp(scale * x)``; one object for each scale, so that its table is made once."""
    exp = FUNCTIONS["exp"]
    return Function("exp", lambda x: exp.exact(scale * x), lambda x: exp.smooth(scale * x), exp.k0, exp.i0)
