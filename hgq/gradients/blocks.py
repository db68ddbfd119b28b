"""Four-bit floats with a scale for each small block: the formats of present accelerators, as anchors to compare with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from hgq.gradients import hadamard, random
from hgq.gradients.base import BackwardScheme, register
from hgq.gradients.floating import E2M1_HIGHEST, e2m1
from hgq.gradients.powers import power_from, power_upto

Tensor = Any

E4M3_HIGHEST = 448.0
HEADROOM = 17 / 16
"""A scale rounded down to three mantissa bits is up to 1/17 short: with this much room stochastic rounding never clips."""


@dataclass(frozen=True)
class BlockFloat(BackwardScheme):
    """Base class: E2M1 in blocks along the axis that a product contracts, each block with its own scale.

    The gradient of the data reads blocks of outputs, that of the kernel blocks of positions, which are first rotated at random by a
    Hadamard matrix if `rotate` says so (random Hadamard transform). Data and kernel are read as they are: the layer's own quantizers made
    them.

    Args:
        block: Elements that share a scale.
        rotate: Whether the positions are rotated before the gradient of the kernel.
        stochastic: Round at random (unbiased), or to the nearest.
    """

    block: int = 16
    rotate: bool = True
    stochastic: bool = True

    def __post_init__(self) -> None:
        hadamard.walsh(self.block)

    def scales(self, peaks: Tensor) -> Tensor:
        """The scale of each block from the greatest magnitude in it."""
        raise NotImplementedError(f"{type(self).__name__} defines no scales().")

    def quantize(self, g: Tensor, seed: Tensor) -> Tensor:
        """Blocks of the last axis; a last, incomplete one is filled up with zeros."""
        flat = tf.reshape(g, (-1, g.shape[-1]))
        padded = tf.pad(flat, [(0, 0), (0, -g.shape[-1] % self.block)])
        blocks = tf.reshape(padded, (tf.shape(padded)[0], -1, self.block))
        scale = self.scales(tf.reduce_max(tf.abs(blocks), axis=-1, keepdims=True))
        dice = random.uniform(tf.shape(blocks), seed) if self.stochastic else tf.fill(tf.shape(blocks), 0.5)
        rounded = e2m1(tf.where(scale > 0, blocks / tf.where(scale > 0, scale, 1.0), 0.0), dice) * scale
        return tf.reshape(tf.reshape(rounded, tf.shape(padded))[:, : g.shape[-1]], tf.shape(g))

    def for_data(self, g: Tensor, kernel: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        return self.quantize(g, seed), kernel

    def for_kernel(self, kept: Any, g: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        flat = tf.reshape(g, (1, -1, g.shape[-1]))
        rows = tf.constant(hadamard.walsh(self.block) if self.rotate else hadamard.walsh(1))
        if self.rotate:
            rows = rows * hadamard.random_signs(self.block, random.derived(seed, 6))
        turned = hadamard.project_rows(flat, rows)  # (1, blocks, functions, outputs)
        positions = tf.reshape(turned, (-1, g.shape[-1]))
        columns = tf.transpose(positions)
        columns.set_shape((g.shape[-1], None))
        quantized = tf.transpose(self._along_positions(columns, seed))
        return kept, tf.reshape(hadamard.unproject_rows(tf.reshape(quantized, tf.shape(turned)), rows, tf.shape(flat)[1]), tf.shape(g))

    def _along_positions(self, columns: Tensor, seed: Tensor) -> Tensor:
        length = tf.shape(columns)[1]
        padded = tf.pad(columns, [(0, 0), (0, -length % self.block)])
        blocks = tf.reshape(padded, (-1, self.block))
        return tf.reshape(self.quantize(blocks, seed), tf.shape(padded))[:, :length]


@register("nvfp4")
@dataclass(frozen=True)
class NVFP4(BlockFloat):
    """NVFP4 (NVIDIA, arXiv:2509.25149): blocks of 16, a scale in E4M3 for each and one in float32 for the tensor."""

    def scales(self, peaks: Tensor) -> Tensor:
        wanted = peaks * (HEADROOM / E2M1_HIGHEST)
        top = tf.reduce_max(wanted)
        tensor = tf.where(top > 0, top / E4M3_HIGHEST, 1.0)
        return _e4m3(wanted / tensor) * tensor


@register("mxfp4")
@dataclass(frozen=True)
class MXFP4(BlockFloat):
    """MXFP4 (OCP microscaling formats): blocks of 32 with a power of two as scale; here the one at which nothing is clipped."""

    block: int = 32

    def scales(self, peaks: Tensor) -> Tensor:
        return power_from(peaks / E2M1_HIGHEST)


def _e4m3(x: Tensor) -> Tensor:
    """Non-negative numbers up to 448, to the nearest number of three mantissa bits; subnormal below 2**-6."""
    step = power_upto(tf.maximum(x, 2.0**-6)) / 8
    return tf.minimum(tf.round(x / step) * step, E4M3_HIGHEST)
