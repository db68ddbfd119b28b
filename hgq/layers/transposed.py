"""Quantized transposed convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from hgq.errors import ConfigError
from hgq.layers.conv import WindowMap, checked_axes, convolve
from hgq.layers.dense import checked_units
from hgq.layers.kernel import TENSORS, BiasedLayer
from hgq.resources import ebops

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref


class TransposedMap(WindowMap):
    """The map of `QConvTranspose`, as an ordinary convolution: with zeros between the elements, and the kernel turned round.

    Element i of an axis with tap t falls on output ``i * stride + t * dilation - low``, where `low` is what the padding cuts off. Put in
    order of outputs that is `conv` of the data with ``stride - 1`` zeros after each element.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        output_padding: int | Sequence[int] | None = None,
        *,
        dilation_rate: int | Sequence[int] = 1,
        **kwargs,
    ) -> None:
        super().__init__(kernel_size=kernel_size, strides=strides, padding=padding, dilation_rate=dilation_rate, **kwargs)
        self.filters = checked_units(filters, self.name, "filters")
        given = output_padding if output_padding is not None else 0
        given = (given,) * self.rank if isinstance(given, int) else tuple(given)
        self.output_padding = None if output_padding is None else given
        if self.padding == "causal" or len(given) != self.rank or any(not 0 <= o < s for o, s in zip(given, self.strides, strict=False)):
            raise ConfigError(
                "This padding means nothing for a transposed convolution.",
                where=f"layer {self.name}",
                expected='padding="valid" or "same", and an output_padding from 0 to less than the strides',
                received=f"padding={self.padding!r}, output_padding={output_padding}, strides={self.strides}",
            )

    def _sizes(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Outputs along each axis, as in Keras."""
        outputs = []
        for axis, (size, stride, span) in enumerate(zip(sizes, self.strides, self._spans(), strict=True)):
            extra = self.output_padding[axis] if self.output_padding is not None else None
            if self.padding == "valid":
                outputs.append((size - 1) * stride + span + (max(stride - span, 0) if extra is None else extra))
            else:
                outputs.append(size * stride if extra is None else (size - 1) * stride + span % 2 + extra)
        return tuple(outputs)

    def _spans(self) -> list[int]:
        return [(taps - 1) * step + 1 for taps, step in zip(self.kernel_size, self.dilation_rate, strict=True)]

    def kernel_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        *sizes, channels = checked_axes(shape, self.rank, self)
        ends = []
        for size, stride, span, outputs in zip(sizes, self.strides, self._spans(), self._sizes(sizes), strict=True):
            low = max((size - 1) * stride + span - outputs, 0) // 2 if self.padding == "same" else 0
            before = span - 1 - low
            ends.append((before, outputs + span - 1 - (size - 1) * stride - 1 - before))
        # the zeros after an axis' last element are part of its padding; where there are more of them, they are cut off
        self._kept = tuple(
            (size - 1) * stride + 1 + min(high, 0) for size, stride, (_, high) in zip(sizes, self.strides, ends, strict=True)
        )
        padding = tuple((low, max(high, 0)) for low, high in ends)
        self._conv = {"strides": (1,) * self.rank, "dilation": self.dilation_rate, "padding": padding, "groups": 1}
        return (*self.kernel_size, self.filters, channels)

    def arranged(self, kernel) -> Any:
        """``(*taps, filters, channels)`` turned round, as ``(*taps, channels, filters)``."""
        turned = tf.reverse(tf.convert_to_tensor(kernel), list(range(self.rank)))
        return tf.transpose(turned, (*range(self.rank), self.rank + 1, self.rank))

    def linear(self, x, kernel, training=None) -> Any:
        return convolve(self._interleaved(x), kernel, **self._conv, exact=not training)

    def linear_cost(self, bits_x, bits_kernel, bits_bias) -> Any:
        return ebops.conv(self._interleaved(bits_x[None])[0], bits_kernel, bits_bias, TENSORS, **self._conv, **self._turns)

    def linear_to_ir(self, b: GraphBuilder, x: Ref, kernel: Ref) -> Ref:
        for axis, (stride, kept) in enumerate(zip(self.strides, self._kept, strict=True)):
            if stride > 1:
                shape = x.shape
                x = b.op("reshape", x, shape=(*shape[: axis + 1], 1, *shape[axis + 1 :]))
                x = b.op("pad", x, widths=tuple((0, stride - 1 if at == axis + 1 else 0) for at in range(len(x.shape))))
                x = b.op("reshape", x, shape=(*shape[:axis], shape[axis] * stride, *shape[axis + 1 :]))
            if kept < x.shape[axis]:
                x = b.op("take", x, axis=axis, indices=tuple(range(kept)))
        return b.op("conv", x, kernel, name="conv", **self._conv, **self._turns)

    def _interleaved(self, x) -> Any:
        """The data with ``stride - 1`` zeros between its elements along each axis; batch first."""
        for axis, (stride, kept) in enumerate(zip(self.strides, self._kept, strict=True), 1):
            if stride > 1:
                shape = x.shape.as_list()
                x = tf.reshape(x, (-1, *shape[1 : axis + 1], 1, *shape[axis + 1 :]))
                x = tf.pad(x, [(0, stride - 1 if at == axis + 1 else 0) for at in range(len(x.shape))])
                x = tf.reshape(x, (-1, *shape[1:axis], shape[axis] * stride, *shape[axis + 1 :]))
            x = x[(*(slice(None),) * axis, slice(0, kept))]
        return x

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self._sizes(input_shape[1:-1]), self.filters)

    def get_config(self) -> dict:
        return {**super().get_config(), "filters": self.filters, "output_padding": self.output_padding}


class QConvTranspose(TransposedMap, BiasedLayer):
    r"""A transposed convolution, with bias, activation and quantizers as in `QConv`.

    Use `QConv1DTranspose`, `QConv2DTranspose` or `QConv3DTranspose`. The zeros that it puts between the elements are wires, not hardware:
    products with them cost nothing. The kernel has Keras' shape (\*taps, filters, channels); its bits are those of each weight, or of each
    filter with ``granularity="channel"``.

    Args:
        filters: Output channels.
        kernel_size: Taps along each axis; a number for the same along all.
        strides: Steps between the elements of the input, in the output.
        padding: ``"valid"`` or ``"same"``.
        output_padding: Outputs more along each axis, fewer than the strides; None for as many as Keras takes.
        dilation_rate: Steps between taps.
        **kwargs: ``activation``, ``data_format``, and those of `BiasedLayer`.

    Raises:
        ConfigError: an argument means nothing.
    """


@keras.saving.register_keras_serializable(package="hgqc")
class QConv1DTranspose(QConvTranspose):
    """`QConvTranspose` over one axis: input (batch, steps, channels)."""

    rank = 1


@keras.saving.register_keras_serializable(package="hgqc")
class QConv2DTranspose(QConvTranspose):
    """`QConvTranspose` over two axes: input (batch, height, width, channels)."""

    rank = 2


@keras.saving.register_keras_serializable(package="hgqc")
class QConv3DTranspose(QConvTranspose):
    """`QConvTranspose` over three axes: input (batch, depth, height, width, channels)."""

    rank = 3
