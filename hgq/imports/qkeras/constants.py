"""What QKeras' quantizers make of weights, in NumPy's float32: the arithmetic of QKeras (arXiv:2006.10159, and its documentation)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hgq.imports.qkeras.identifiers import QKerasQuantizer

Floats = NDArray[np.float32]

EPSILON = np.float32(1e-7)
"""`keras.backend.epsilon()`."""


@dataclass(frozen=True)
class Grid:
    """The numbers that a quantizer can give: ``step * n`` with whole n from `low` to `high`; `step` broadcasts to the weights."""

    step: Any
    low: int
    high: int


@dataclass(frozen=True)
class Constants:
    """Quantized weights.

    Args:
        values: As QKeras computes with them.
        grid: What else could stand there, where that is a grid of steps.
        scale: Of binary and ternary weights: their magnitude, which broadcasts.
    """

    values: Floats
    grid: Grid | None = None
    scale: Floats | None = None


def quantized(quantizer: QKerasQuantizer, w: Floats) -> Constants:
    """The quantized weights `w`, in the shape in which QKeras keeps them: output channels last.

    Raises:
        ConfigError: a quantizer that is none for weights.
    """
    w = np.asarray(w, np.float32)
    name = quantizer.name.removeprefix("stochastic_")
    if name == "quantized_bits":
        return _auto_bits(quantizer, w) if quantizer.automatic else _bits(quantizer, w)
    if name == "quantized_linear":
        return _linear(quantizer, w)
    if name == "binary":
        return _binary(quantizer, w)
    if name == "ternary":
        return _ternary(quantizer, w)
    if name in ("quantized_po2", "quantized_relu_po2"):
        return Constants(power_of_two(quantizer, w))
    if name == "quantized_relu" and not quantizer["negative_slope"] and not quantizer["use_sigmoid"]:
        step = np.float32(2.0 ** (quantizer["integer"] - quantizer["bits"]))
        return _on_grid(w, Grid(step, 0, 2 ** quantizer["bits"] - 1))
    raise quantizer.refused("This quantizer is none for weights.", "quantized_bits, quantized_linear, ternary, binary or quantized_po2")


def _on_grid(w: Floats, grid: Grid, factor: Any = 1.0) -> Constants:
    values = np.clip(np.rint(w / grid.step), grid.low, grid.high).astype(np.float32) * grid.step
    factor = np.asarray(factor, np.float32)
    return Constants(values * factor, Grid(grid.step * factor, grid.low, grid.high))


def _bits(q: QKerasQuantizer, w: Floats) -> Constants:
    magnitude = q["bits"] - bool(q["keep_negative"])
    alpha = np.asarray(1.0 if q["alpha"] is None else q["alpha"], np.float32)
    if magnitude == 0:
        sign = np.where(w >= 0, np.float32(1), np.float32(-1))
        values = sign if q["keep_negative"] else (sign + 1) / 2
        return Constants((values * alpha).astype(np.float32), scale=alpha if q["keep_negative"] else None)
    low = (bool(q["symmetric"]) - 2**magnitude) if q["keep_negative"] else 0
    return _on_grid(w, Grid(np.float32(2.0 ** (q["integer"] - magnitude)), low, 2**magnitude - 1), alpha)


def _channel_axes(w: Floats) -> tuple[int, ...]:
    return tuple(range(w.ndim - 1)) if w.ndim > 1 else (0,)


def _power(scale: Floats) -> Floats:
    """The power of two with the nearest logarithm."""
    return np.exp2(np.rint(np.log(scale + EPSILON) / np.float32(np.log(2.0)))).astype(np.float32)


def _least_squares(alpha: str, w: Floats, codes: Floats) -> Floats:
    """The scale for which ``scale * codes`` is nearest to `w`; a vector gets one for each element, as in QKeras."""
    if w.ndim > 1:
        axes = tuple(range(w.ndim - 1))
        products, squares = (np.mean(part, axis=axes, keepdims=True, dtype=np.float32) for part in (w * codes, codes * codes))
    else:
        products, squares = w * codes, codes * codes
    scale = np.asarray(products / (squares + EPSILON), np.float32)
    return _power(scale) if alpha == "auto_po2" else scale


def _auto_bits(q: QKerasQuantizer, w: Floats) -> Constants:
    """A symmetric grid with a scale of its own for each channel: the largest magnitude's, or five rounds of least squares."""
    unit, highest = np.float32(2.0 ** q["integer"]), 2 ** (q["bits"] - 1) - 1
    x = w / unit

    def codes(scale: Floats) -> Floats:
        return (np.sign(x) * np.minimum(np.floor(np.abs(x) / scale + np.float32(0.5)), np.float32(highest))).astype(np.float32)

    if q["post_training_scale"] is not None:
        magnitude = q["bits"] - bool(q["keep_negative"])
        scale = np.asarray(q["post_training_scale"], np.float32) / np.float32(2.0**magnitude)
    else:
        scale = (np.max(np.abs(x), axis=_channel_axes(x), keepdims=True) * 2 / np.float32(2 * highest)).astype(np.float32)
        if q["alpha"] == "auto_po2":
            scale = _power(scale)
            for _ in range(5):
                scale = _least_squares("auto_po2", x, codes(scale))
    with np.errstate(divide="ignore", invalid="ignore"):
        code = np.where(scale > 0, codes(scale), np.float32(0))
    return Constants((code * scale * unit).astype(np.float32), Grid((scale * unit).astype(np.float32), -highest, highest))


def _linear(q: QKerasQuantizer, w: Floats) -> Constants:
    negative, bits, symmetric = bool(q["keep_negative"]), q["bits"], int(bool(q["symmetric"]))
    signs_only = bits == 1 and negative
    levels = 2 ** (bits - negative)
    low, high = (-0.5, 0.5) if signs_only else (negative * (symmetric - levels), levels - 1)

    def codes(scale: Any) -> Floats:
        shift = np.float32(0.5 if signs_only else 0.0)
        return np.rint(np.clip(w / scale, np.float32(low), np.float32(high)) - shift).astype(np.float32) + shift

    if not q.automatic:
        alpha = 1.0 if q["alpha"] is None else q["alpha"]
        scale = np.asarray(np.asarray(alpha, np.float32) * np.float32(2.0 ** (q["integer"] - bits + negative)), np.float32)
    else:
        largest = np.max(np.abs(w) * 2 if negative else w, axis=_channel_axes(w) if w.ndim > 1 else (), keepdims=True)
        scale = np.maximum(largest / np.float32(high - low), EPSILON).astype(np.float32)
        if q["alpha"] == "auto_po2":
            scale = _power(scale)
            for _ in range(1 if signs_only else 5):
                before, scale = scale, _least_squares("auto_po2", w, codes(scale))
                if np.array_equal(before, scale):
                    break
    grid = None if signs_only else Grid(scale, int(low), int(high))
    return Constants((codes(scale) * scale).astype(np.float32), grid, scale * np.float32(0.5) if signs_only else None)


def _binary(q: QKerasQuantizer, w: Floats) -> Constants:
    sign = np.where(w >= 0, np.float32(1), np.float32(-1))
    codes: Floats = ((sign + 1) / 2 if q["use_01"] else sign).astype(np.float32)
    scale = _least_squares(q["alpha"], w, codes) if q.automatic else np.asarray(1.0 if q["alpha"] is None else q["alpha"], np.float32)
    return Constants((codes * scale).astype(np.float32), scale=None if q["use_01"] else scale)


def _ternary(q: QKerasQuantizer, w: Floats) -> Constants:
    if not q.automatic:
        threshold = np.float32(0.33 if q["threshold"] is None else q["threshold"])
        scale = np.asarray(1.0 if q["alpha"] is None else q["alpha"], np.float32)
        return Constants(((np.abs(w) >= threshold) * np.sign(w) * scale).astype(np.float32), scale=scale)
    axes = tuple(range(w.ndim - 1)) if w.ndim > 1 else None
    scale = (2 * np.max(np.abs(w), axis=axes, keepdims=True) / np.float32(3)).astype(np.float32)
    scale = _power(scale) if q["alpha"] == "auto_po2" else scale
    codes = np.zeros_like(w)
    for _ in range(q["number_of_unrolls"]):
        # QKeras rounds to whole multiples of the scale, then compares with half of it: |w| >= scale / 2, but ties to even
        rounded = scale * np.rint(w / scale)
        codes = ((np.abs(rounded) >= scale / 2) * np.sign(w)).astype(np.float32)
        scale = _least_squares(q["alpha"], w, codes)
    return Constants((codes * scale).astype(np.float32), scale=scale)


def power_of_two(q: QKerasQuantizer, w: Floats) -> Floats:
    """``sign(w) 2**n`` with the n whose logarithm is nearest (or next below), within QKeras' range of exponents."""
    lowest, highest = exponents(q)
    relu = q.name == "quantized_relu_po2"
    x = np.maximum(w, 0) if relu else np.abs(w)
    if relu and q["negative_slope"]:
        raise q.refused("A slope makes no sense for weights.", "negative_slope=0")
    small, most = x < EPSILON, np.float32(np.inf if q["max_value"] is None else q["max_value"])
    x = np.minimum(np.where(small, EPSILON, x), most).astype(np.float32)
    factor = 2.0 if q["quadratic_approximation"] else 1.0
    logarithm = np.log(np.sqrt(x) if factor == 2.0 else x) / np.float32(np.log(2.0))
    whole = np.floor(logarithm) if q["log2_rounding"] == "floor" else np.rint(logarithm)
    exponent = np.where(small, lowest, factor * np.clip(whole, lowest, highest))
    sign = 1.0 if relu else np.where(w < 0, -1.0, 1.0)
    return (sign * np.exp2(exponent)).astype(np.float32)


def exponents(q: QKerasQuantizer) -> tuple[int, int]:
    """The least and the greatest exponent of a power-of-two quantizer."""
    bits = q["bits"] - (q.name == "quantized_po2") - (q["max_value"] is None or q["max_value"] > 1)
    highest = 2**bits - 1
    return -(2**bits), 2 * (highest // 2) if q["quadratic_approximation"] else highest
