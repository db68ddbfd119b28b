"""Hadamard low-rank quantization."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import tensorflow as tf

from hgq.errors import ConfigError
from hgq.gradients import hadamard, packing, products, random
from hgq.gradients.base import BackwardScheme, Linear, Shape, register
from hgq.gradients.integer import IntegerGradient, integer_codes
from hgq.gradients.linear import MatrixProduct
from hgq.gradients.products import Codes, values

Tensor = Any


@register("hlq")
@register("hq", rank=16)
@dataclass(frozen=True)
class HLQ(BackwardScheme):
    """HLQ (Kim et al., arXiv:2406.15102), as far as its text and the code of its successor HOT (CVPR 2025) tell.

    - Gradient of the data: gradient and kernel are rotated along the axis of the outputs by block-diagonal Hadamard matrices, which spreads
      outliers, and quantized to `bits`, the gradient with stochastic rounding. The rotations cancel in the product.
    - Gradient of the kernel: data and gradient are projected onto the `rank` Walsh functions of lowest sequency of each block of positions
      (the positions of one sample; the batch, where there are none) and quantized to `kept_bits`. Only the projected, quantized data are
      kept from the forward pass.

    The projection is deterministic, so the kernel's gradient is *biased* below full rank: what lies in the upper half of the spectrum is
    thrown away. That costs little for images and much along a shuffled batch, hence the default. Rounding the rotated kernel to `bits` adds
    a bias to the data's gradient; `quantize_kernel=False` leaves it out, which costs nothing where the kernel has few bits anyway.

    Args:
        bits: Of gradient and kernel in the gradient of the data.
        kept_bits: Of data and gradient in the gradient of the kernel: 8 as in HOT; the abstract of HLQ says 4.
        block: Positions in a block, a power of two.
        rank: Functions kept of each block; None: half of them along positions, all along a batch.
        quantize_kernel: Whether the rotated kernel is quantized too.
        random_rows: Draw the kept functions at random from a randomly signed Hadamard matrix, scaled to be unbiased, instead of the lowest.
    """

    compresses: ClassVar[bool] = True

    bits: int = 4
    kept_bits: int = 8
    block: int = 16
    rank: int | None = None
    quantize_kernel: bool = True
    random_rows: bool = False

    def __post_init__(self) -> None:
        hadamard.walsh(self.block)
        if self.rank is not None and not 1 <= self.rank <= self.block:
            raise ConfigError("HLQ cannot keep that many functions.", expected=f"1 to block={self.block}", received=f"rank={self.rank}")
        for name in ("bits", "kept_bits"):
            if not 2 <= getattr(self, name) <= 16:
                raise ConfigError(f"HLQ cannot have these {name}.", expected="2 to 16", received=str(getattr(self, name)))

    # ---- gradient of the data ----------------------------------------

    def for_data(self, g: Tensor, kernel: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        order = hadamard.block_of(g.shape[-1], self.block)
        g = hadamard.rotate_last_back(values(_codes(hadamard.rotate_last(g, order), self.bits, seed)), order)
        if not self.quantize_kernel:
            return g, kernel
        order = hadamard.block_of(kernel.shape[-1], self.block)
        return g, hadamard.rotate_last_back(values(_codes(hadamard.rotate_last(kernel, order), self.bits, None)), order)

    def data_gradient(self, linear: Linear, at: Shape, kernel: Tensor, g: Tensor, seed: Tensor) -> Tensor:
        if not isinstance(linear, MatrixProduct):
            return super().data_gradient(linear, at, kernel, g, seed)
        order = hadamard.block_of(g.shape[-1], self.block)  # the rotations cancel: codes are multiplied where they are
        codes, scale = _codes(hadamard.rotate_last(g, order), self.bits, seed)
        kernel = hadamard.rotate_last(kernel, order)
        if self.quantize_kernel and 2 ** (self.bits - 1) <= products.GREATEST_GRADIENT_CODE:
            return products.data_gradient((codes, scale), _codes(kernel, self.bits, None))
        w = values(_codes(kernel, self.bits, None)) if self.quantize_kernel else kernel
        y = tf.matmul(tf.cast(MatrixProduct.flat(codes), tf.float32), w, transpose_b=True) * scale
        return MatrixProduct.with_leading(g, y)

    # ---- gradient of the kernel ----------------------------------------

    def rank_of(self, axes: int) -> int:
        """Functions kept of each block, of data with this number of axes."""
        if self.rank is not None:
            return self.rank
        return self.block if axes == 2 else max(1, self.block // 2)

    def keep(self, x: Tensor, seed: Tensor) -> Any:
        codes, scale = _codes(hadamard.project_rows(_by_positions(x), self._rows(len(x.shape), seed)), self.kept_bits, None)
        held = packing.packed(codes + 8, 4) if self.kept_bits <= 4 else codes
        return held, scale, tf.shape(codes), Shape(x), seed

    def _held(self, kept: Any) -> Codes:
        """What `keep` returned, as codes in the projected basis, and their scale."""
        held, scale, shape, _, _ = kept
        return (held if self.kept_bits > 4 else tf.cast(packing.unpacked(held, 4, shape), tf.int8) - 8), scale

    def for_kernel(self, kept: Any, g: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        rows, at, flat = self._rows(len(g.shape), kept[-1]), kept[-2], _by_positions(g)
        back = hadamard.unproject_rows(values(_codes(hadamard.project_rows(flat, rows), self.kept_bits, seed)), rows, tf.shape(flat)[1])
        length = tf.reduce_prod(at.full[1:-1]) if len(g.shape) > 2 else at.full[0]
        x = hadamard.unproject_rows(values(self._held(kept)), rows, length)
        return tf.reshape(x, at.full), tf.reshape(back, tf.shape(g)) * self.gain(len(g.shape))

    def kernel_gradient(self, linear: Linear, kept: Any, kernel: Tensor, g: Tensor, seed: Tensor) -> Tensor:
        if not isinstance(linear, MatrixProduct):
            return super().kernel_gradient(linear, kept, kernel, g, seed)
        axes = len(g.shape)
        rows = self._rows(axes, kept[-1])  # of an orthonormal basis: the product is that of the coefficients
        codes, scale = _codes(hadamard.project_rows(_by_positions(g), rows), self.kept_bits, seed)
        held, held_scale = self._held(kept)
        x, g = (tf.cast(tf.reshape(part, (-1, part.shape[-1])), tf.float32) for part in (held, codes))
        return tf.matmul(x, g, transpose_a=True) * (scale * held_scale * self.gain(axes))

    def gain(self, axes: int) -> float:
        """Of the kernel's gradient, for data with this number of axes: functions drawn at random stand for those that were not."""
        return self.block / self.rank_of(axes) if self.random_rows else 1.0

    def _rows(self, axes: int, seed: Tensor) -> Tensor:
        rank = self.rank_of(axes)
        rows = tf.constant(hadamard.walsh(self.block))
        if not self.random_rows:
            return rows[:rank]
        signed = rows * hadamard.random_signs(self.block, random.derived(seed, 4))
        return tf.gather(signed, tf.argsort(random.uniform((self.block,), random.derived(seed, 5)))[:rank])

    def residual_bytes(self, shape: tuple[int, ...]) -> float:
        samples, *positions, channels = shape
        groups, length = (samples, prod(positions)) if positions else (1, samples)
        return groups * -(-length // self.block) * self.rank_of(len(shape)) * channels * self.kept_bits / 8


def _codes(x: Tensor, bits: int, seed: Tensor | None) -> Codes:
    """Integers, int8 or int16, and their scale, a scalar; to the nearest without a seed."""
    if bits <= 8:
        return IntegerGradient(bits, seed is not None).codes(x, tf.zeros((2,), tf.int32) if seed is None else seed)
    codes, scale = integer_codes(x, bits, seed)
    return tf.cast(codes, tf.int16), tf.reshape(scale, ())


def _by_positions(x: Tensor) -> Tensor:
    """(groups, positions, channels): the positions of each sample, or the batch as one group where a sample has none."""
    if len(x.shape) == 2:
        return x[None]
    return tf.reshape(x, (tf.shape(x)[0], -1, x.shape[-1]))
