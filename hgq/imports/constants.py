"""Weights of a foreign model in a layer of ours: the quantizer that gives the same numbers, its bits, and the weights behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hgq.errors import ConfigError
from hgq.layers import QBatchNormalization
from hgq.numerics import Fixed
from hgq.quantizers import FixedQuantizer, Quantizer

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Fitted:
    """Weights, and what quantizes them.

    Args:
        values: What the quantized weights must be, bit for bit.
        latent: The weights before quantization, of the same shape: training goes on from them. Where they would be quantized to anything
            else, the quantized one takes their place.
        identifier: The quantizer, as `hgq.quantizers.get` takes it.
        fixed: The format of each weight, for a fixed-point quantizer.
    """

    values: Floats
    latent: Floats
    identifier: str
    fixed: Fixed | None = None

    def settle(self, quantizer: Quantizer, arrange: Any = None) -> Floats:
        """Give the built quantizer its bits; returns the weights to assign.

        Args:
            quantizer: Of the layer, built.
            arrange: What turns weights into what the quantizer sees.

        Raises:
            ConfigError: it cannot give these numbers.
        """
        arrange = arrange or (lambda w: w)
        if self.fixed is not None and isinstance(quantizer, FixedQuantizer):
            parts = (
                np.asarray(arrange(part.astype(np.float32))).astype(np.int64)
                for part in self.fixed.broadcast_to(self.values.shape).astuple()
            )
            quantizer.set_format(Fixed(*parts))
        wanted = np.asarray(arrange(self.values))
        same = np.asarray(quantizer(arrange(self.latent), training=False)) == wanted
        latent = np.where(np.reshape(same, self.values.shape), self.latent, self.values)
        got = np.asarray(quantizer(arrange(latent), training=False))
        if (got != wanted).any():
            first = tuple(int(index) for index in np.argwhere(got != wanted)[0])
            raise ConfigError(
                "These weights cannot be had exactly.",
                where=f"quantizer {quantizer.path}, weight {first}",
                expected=repr(float(wanted[first])),
                received=repr(float(got[first])),
                fix="This is a fault of hgqc: please report it with the model file.",
            )
        return latent


def on_grid(values: Floats, latent: Floats, step: Any, low: int, high: int) -> Fitted | None:
    """Weights on multiples of powers of two: a fixed-point quantizer of that grid. None if the steps are no powers of two."""
    step = np.broadcast_to(np.asarray(step, np.float64), values.shape)
    fraction, exponent = np.frexp(np.abs(step))
    bits = int(high).bit_length()
    if (step <= 0).any() or (fraction != 0.5).any() or high != 2**bits - 1 or low not in (0, -high, -high - 1):
        return None
    f = 1 - exponent.astype(np.int64)
    overflow = "SAT_SYM" if low == -high else "SAT"
    return Fitted(values, latent, f"kbi(rounding=RND_CONV, overflow={overflow})", Fixed(int(low < 0), bits - f, f))


def any_numbers(values: Floats, latent: Floats) -> Fitted:
    """Weights that are whatever they are: each with just the bits that it needs."""
    mantissa, f = _mantissa(values)
    fixed = Fixed.minimal(mantissa, f)
    dead = fixed.width <= 0  # a zero keeps one bit's place, so that training can revive it
    fixed = Fixed(*(np.where(dead, other, part) for part, other in zip(fixed.astuple(), (1, 0, 0), strict=True)))
    # -2**n would fit into the sign bit alone, with b = -1: nothing that training could go on from
    fixed = Fixed(fixed.k, np.maximum(fixed.i, -fixed.f), fixed.f)
    return Fitted(values, latent, "kbi(rounding=RND_CONV, overflow=SAT)", fixed)


def significant_bits(values: Floats) -> int:
    """Most bits from the leading to the trailing significant one, sign not counted."""
    mantissa, _ = _mantissa(values)
    return int(max((int(m).bit_length() for m in np.unique(np.abs(mantissa))), default=0))


def rounded(values: Floats, bits: int) -> Floats:
    """`values` rounded to so many significant bits each."""
    fraction, exponent = np.frexp(values.astype(np.float64))
    return np.ldexp(np.rint(np.ldexp(fraction, bits)), exponent - bits).astype(np.float32)


def _mantissa(values: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    fraction, exponent = np.frexp(np.asarray(values, np.float64))
    mantissa = np.ldexp(fraction, 24).astype(np.int64)
    zeros = np.where(mantissa == 0, 0, np.log2(np.maximum(mantissa & -mantissa, 1)).astype(np.int64))
    return mantissa >> zeros, np.where(mantissa == 0, 0, 24 - exponent.astype(np.int64) - zeros)


def affine_layer(scale: Fitted, offset: Fitted, **arguments: Any) -> tuple[QBatchNormalization, Callable[[Any], None]]:
    """``x * scale + offset`` with these very numbers as a `QBatchNormalization`, and what sets its statistics once it is built."""
    layer = QBatchNormalization(scale_quantizer=scale.identifier, offset_quantizer=offset.identifier, **arguments)

    def prepare(layer: Any) -> None:
        layer.moving_variance.assign(np.full(scale.values.shape, 1.0 - layer.epsilon))
        layer.gamma.assign(scale.settle(layer.scale_quantizer))
        layer.offset.assign(offset.settle(layer.offset_quantizer))
        for got, wanted, quantizer in zip(layer.folded(), (scale, offset), (layer.scale_quantizer, layer.offset_quantizer), strict=True):
            if (np.asarray(quantizer(got, training=False)) != wanted.values).any():
                raise ConfigError("This batch normalisation cannot be had exactly.", where=f"layer {layer.name}", fix="Please report it.")

    return layer, prepare
