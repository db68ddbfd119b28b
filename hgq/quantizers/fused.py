"""`FixedQuantizer` on native ops: a pass forward, a pass backward, and formats made inside of them.

The plain ops of `hgq.quantizers.ops` and `ranges` are the reference, and what other devices and XLA run: the same numbers forward, the
same gradients to the rounding of their sums. A `Fused` takes the quantizer's *variables*: rounding of bitwidths, ranges and formats, some
dozens of tiny ops of a graph, happen inside of the op.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from hgq import native
from hgq.quantizers.ops import Tensor
from hgq.quantizers.ranges import HIGHEST

ROUNDINGS = {"RND": 0, "RND_CONV": 1, "TRN": 2}
OVERFLOWS = {"WRAP": 1, "WRAP_SM": 2, "SAT": 3, "SAT_SYM": 4}
ONLY_ROUND = 0


def fused(x: Tensor, shape: tuple[int, ...], **settings: Any) -> Fused | None:
    """The native ops for a tensor like `x` and bitwidths of `shape`, if they may be used here and now and know these settings."""
    if settings["rounding"] not in ROUNDINGS:
        return None
    ops = native.ops_for(x)
    if ops is None or not _trailing(tuple(x.shape), shape):
        return None
    return Fused(ops, **settings)


def _trailing(shape: tuple[int | None, ...], widths: tuple[int, ...]) -> bool:
    """Whether bits are shared over leading axes alone."""
    if len(shape) != len(widths):
        return False
    shared = True
    for size, width in zip(shape, widths, strict=True):
        shared = shared and width == 1
        if not shared and size != width:
            return False
    return True


@dataclass(frozen=True)
class Fused:
    """The native ops for one kind of quantizer.

    Args:
        ops: What `hgq.native.ops_for` returned.
        parametrization: ``"kif"``, where the trained width is f, or ``"kbi"``, where it is ``b = i + f``.
        rounding: One of `ROUNDINGS`.
        overflow: One of `hgq.numerics.OVERFLOWS`.
        follows: Whether i is what the values need, not trained.
        constant: Whether it quantizes constants, whose range then needs no variable.
        i_bounds: Between which values i is kept.
    """

    ops: Any
    parametrization: str
    rounding: str
    overflow: str
    follows: bool
    constant: bool
    i_bounds: tuple[float, float]

    def _attributes(self, overflow: int | None = None) -> dict[str, Any]:
        return {
            "kbi": self.parametrization == "kbi",
            "follows": self.follows and self.constant,
            "rounding": ROUNDINGS[self.rounding],
            "overflow": OVERFLOWS[self.overflow] if overflow is None else overflow,
            "i_low": float(self.i_bounds[0]),
            "i_high": HIGHEST if self.constant else float(self.i_bounds[1]),
        }

    def quantize(self, x: Tensor, k: Tensor, i: Tensor, width: Tensor, *, wrap: bool) -> Tensor:
        """`hgq.quantizers.ops.fixed_quantize` of the variables' formats; `k` and `i` are not read where constants decide."""
        attributes = self._attributes(ONLY_ROUND if self.follows and not wrap else None)

        @tf.custom_gradient
        def op(x, i, width):
            def gradient(upstream):
                if self.follows:
                    return upstream, None, self.ops.hgqc_fixed_round_gradient(upstream, x, k, i, width, **attributes)
                return tuple(self.ops.hgqc_fixed_saturate_gradient(upstream, x, k, i, width, **attributes))

            return self.ops.hgqc_fixed(x, k, i, width, **attributes), gradient

        return op(x, i, width)

    def track(self, x: Tensor, k: Tensor, i: Tensor, width: Tensor, seen: Tensor, decay: float) -> tuple[Tensor, Tensor, Tensor]:
        """A training call of data with a tracked range: the rounded data, and the new k and i."""
        attributes = self._attributes(ONLY_ROUND)

        @tf.custom_gradient
        def op(x, width):
            q, new_k, new_i = self.ops.hgqc_fixed_tracked(x, k, i, width, seen, decay=decay, **attributes)

            def gradient(upstream, *_):
                return upstream, self.ops.hgqc_fixed_round_gradient(upstream, x, new_k, new_i, width, **attributes)

            return (q, new_k, new_i), gradient

        return op(x, width)

    def constant_bits(self, x: Tensor, k: Tensor, i: Tensor, width: Tensor) -> Tensor:
        """Bits of quantized constants, with the gradient of their declared bits."""
        share = 1.0 / math.sqrt(math.prod(x.shape) / math.prod(width.shape))
        attributes = self._attributes(ONLY_ROUND if self.follows else None)
        shared = [axis for axis, size in enumerate(width.shape) if size == 1]

        @tf.custom_gradient
        def op(i, width):
            bits, slope = self.ops.hgqc_fixed_constant_bits(x, k, i, width, share=share, **attributes)

            def gradient(upstream):
                declared = tf.multiply(upstream, slope)
                return self._declared(tf.reduce_sum(declared, shared, keepdims=True) if shared else declared)

            return bits, gradient

        return op(i, width)

    def data_bits(self, k: Tensor, i: Tensor, width: Tensor, share: float) -> Tensor:
        """Declared bits of data, of the shape of `width`; their gradient is scaled by `share`."""

        @tf.custom_gradient
        def op(i, width):
            bits, slope = self.ops.hgqc_fixed_data_bits(k, i, width, share=share, **self._attributes())
            return bits, lambda upstream: self._declared(upstream * slope)

        return op(i, width)

    def _declared(self, d: Tensor) -> tuple[Tensor | None, Tensor]:
        """Gradients of i and of the width from that of their bits."""
        return (None if self.follows or self.parametrization == "kbi" else d), d
