"""Hadamard low-rank quantization."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import tensorflow as tf

from hgq.errors import ConfigError
from hgq.gradients import hadamard, packing, random
from hgq.gradients.base import BackwardScheme, register
from hgq.gradients.integer import integer_codes

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
        codes, scale = integer_codes(hadamard.rotate_last(g, order), self.bits, seed)
        g = hadamard.rotate_last_back(codes, order) * scale
        if not self.quantize_kernel:
            return g, kernel
        order = hadamard.block_of(kernel.shape[-1], self.block)
        codes, scale = integer_codes(hadamard.rotate_last(kernel, order), self.bits, None)
        return g, hadamard.rotate_last_back(codes, order) * scale

    # ---- gradient of the kernel ----------------------------------------

    def rank_of(self, axes: int) -> int:
        """Functions kept of each block, of data with this number of axes."""
        if self.rank is not None:
            return self.rank
        return self.block if axes == 2 else max(1, self.block // 2)

    def keep(self, x: Tensor, seed: Tensor) -> Any:
        codes, scale = integer_codes(hadamard.project_rows(_by_positions(x), self._rows(len(x.shape), seed)), self.kept_bits, None)
        if self.kept_bits <= 4:
            return packing.packed(codes + 8.0, 4), scale, tf.shape(codes), tf.shape(x), seed
        return tf.cast(codes, tf.int8 if self.kept_bits <= 8 else tf.int16), scale, tf.shape(codes), tf.shape(x), seed

    def for_kernel(self, kept: Any, g: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        held, scale, codes_shape, shape, rows_seed = kept
        codes = tf.cast(held, tf.float32) if self.kept_bits > 4 else tf.cast(packing.unpacked(held, 4, codes_shape), tf.float32) - 8.0
        rows = self._rows(len(g.shape), rows_seed)
        length = tf.reduce_prod(shape[1:-1]) if len(g.shape) > 2 else shape[0]
        x = tf.reshape(hadamard.unproject_rows(codes * scale, rows, length), shape)
        flat = _by_positions(g)
        projected, g_scale = integer_codes(hadamard.project_rows(flat, rows), self.kept_bits, seed)
        back = hadamard.unproject_rows(projected * g_scale, rows, tf.shape(flat)[1])
        return x, tf.reshape(back, tf.shape(g))

    def _rows(self, axes: int, seed: Tensor) -> Tensor:
        rank = self.rank_of(axes)
        rows = tf.constant(hadamard.walsh(self.block))
        if not self.random_rows:
            return rows[:rank]
        signed = rows * hadamard.random_signs(self.block, random.derived(seed, 4))
        chosen = tf.argsort(random.uniform((self.block,), random.derived(seed, 5)))[:rank]
        # x and g are both unprojected before their product, so this factor enters once in each
        return tf.gather(signed, chosen) * (self.block / rank) ** 0.25

    def residual_bytes(self, shape: tuple[int, ...]) -> float:
        samples, *positions, channels = shape
        groups, length = (samples, prod(positions)) if positions else (1, samples)
        return groups * -(-length // self.block) * self.rank_of(len(shape)) * channels * self.kept_bits / 8


def _by_positions(x: Tensor) -> Tensor:
    """(groups, positions, channels): the positions of each sample, or the batch as one group where a sample has none."""
    if len(x.shape) == 2:
        return x[None]
    return tf.reshape(x, (tf.shape(x)[0], -1, x.shape[-1]))
