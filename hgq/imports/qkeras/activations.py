"""QKeras' quantizers of data as layers of ours, exact for every number that can come in."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from hgq.imports.assembly import Assembly, Value, covering, data_quantizer
from hgq.imports.qkeras.constants import exponents, power_of_two
from hgq.imports.qkeras.identifiers import QKerasQuantizer
from hgq.imports.staircase import QStaircase
from hgq.layers import QActivation, QTable, functions
from hgq.layers.functions import MAGNITUDE_BITS
from hgq.numerics import Fixed, Overflow

ENUMERABLE = 20
"""Most bits of numbers that are all tried to find where a function steps."""


class Chain:
    """Layers one behind the other, named after one layer of the original."""

    def __init__(self, assembly: Assembly, value: Value, name: str) -> None:
        self.assembly, self.value, self.name = assembly, value, name

    def quantize(self, fixed: Fixed, overflow: str = "SAT", rounding: str = "RND_CONV", activation: str = "linear") -> Chain:
        """A quantizer with one format."""
        return self._then(QActivation, activation, data_quantizer(fixed, rounding, overflow))

    def rescale(self, scale: float, offset: float = 0.0) -> Chain:
        """``x * scale + offset``, exact; nothing where that changes nothing."""
        return self if (scale, offset) == (1.0, 0.0) else self._then(keras.layers.Rescaling, scale, offset)

    def relu(self) -> Chain:
        """``max(x, 0)``."""
        return self._then(keras.layers.ReLU)

    def steps(self, thresholds: Any, heights: Any, lowest: float) -> Chain:
        """A `QStaircase`."""
        width = int(covering(self.assembly.format(self.value)).width)
        return self._then(QStaircase, list(map(float, thresholds)), list(map(float, heights)), float(lowest), bits=width)

    def _then(self, cls: type, *arguments: Any, **named: Any) -> Chain:
        layer = cls(*arguments, **named, name=self.assembly.free_name(self.name))
        return Chain(self.assembly, self.assembly.apply(layer, self.value), self.name)


def quantize_data(assembly: Assembly, value: Value, q: QKerasQuantizer, name: str) -> Value:
    """`value` behind a quantizer of QKeras.

    Raises:
        ConfigError: what it computes cannot be had exactly.
    """
    if value.raw and q.name not in ("quantized_bits", "quantized_linear", "quantized_relu"):
        raise q.refused(
            "The first quantizer that reads an input gives it its port: only a plain one can.",
            "quantized_bits, quantized_linear or quantized_relu behind the input",
            "Put QActivation('quantized_bits(…)') before it, or import with an input quantizer (--input).",
        )
    if q.automatic:
        raise q.refused(
            "The scale of these data depends on the batch they come in.",
            "alpha=None or a number",
            "Give the activation a fixed alpha, and train it for a few more epochs.",
        )
    name_of_method = q.name.removeprefix("stochastic_").removeprefix("quantized_")
    return _METHODS[name_of_method](Chain(assembly, value, name), q).value


def _alpha(q: QKerasQuantizer) -> float:
    alpha = np.asarray(1.0 if q["alpha"] is None else q["alpha"], np.float32)
    if alpha.size != 1:
        raise q.refused("Data have one alpha.", "a number", "Scale the channels with a QBatchNormalization instead.")
    return float(alpha.reshape(()))


def _bits(chain: Chain, q: QKerasQuantizer) -> Chain:
    sign, alpha = int(bool(q["keep_negative"])), _alpha(q)
    magnitude = q["bits"] - sign
    if magnitude == 0:  # the sign alone, or 0 and 1
        return chain.steps([0.0], [2.0 * alpha if sign else alpha], -alpha if sign else 0.0)
    overflow = "SAT_SYM" if q["symmetric"] and sign else "SAT"
    return chain.quantize(Fixed(sign, q["integer"], magnitude - q["integer"]), overflow).rescale(alpha)


def _linear(chain: Chain, q: QKerasQuantizer) -> Chain:
    sign, alpha = int(bool(q["keep_negative"])), _alpha(q)
    shift = math.frexp(alpha)[1] - 1
    if alpha != 2.0**shift:
        raise q.refused("This scale is no power of two, so that its grid is none of fixed-point numbers.", "alpha=None, or a power of two")
    i = q["integer"] + shift
    magnitude = q["bits"] - sign
    if magnitude == 0:
        return chain.steps([0.0], [2.0**i], -(2.0 ** (i - 1)))
    return chain.quantize(Fixed(sign, i, magnitude - i), "SAT_SYM" if q["symmetric"] and sign else "SAT")


def _relu(chain: Chain, q: QKerasQuantizer) -> Chain:
    bits, i, slope = q["bits"], q["integer"], float(q["negative_slope"])
    if not q["is_quantized_clip"] and q["relu_upper_bound"] is not None:
        raise q.refused("An upper bound besides the format's own cannot be imported.", "relu_upper_bound=None, or is_quantized_clip=True")
    if q["use_sigmoid"]:
        if slope:
            raise q.refused("A slope and a sigmoid at once cannot be imported.", "negative_slope=0, or use_sigmoid=0")
        # 2**i * clip(2 * round(hard_sigmoid(x / 2**i)) - 1)
        chain = chain.rescale(2.0 ** (-i - 1), 0.5).quantize(Fixed(0, 1, bits)).rescale(2.0, -1.0)
        return chain.quantize(Fixed(0, 0, bits)).rescale(2.0**i)
    if not slope:
        return chain.quantize(Fixed(0, i, bits - i))
    if not chain.value.raw:  # the negative side ends at -slope * 2**i: cut the data off at -2**i, without rounding
        fine = int(covering(chain.assembly.format(chain.value)).f)
        chain = chain.quantize(Fixed(1, i, max(fine, bits - 1 - i)), rounding="TRN")
        return chain.quantize(Fixed(1, i, bits - 1 - i), activation=f"leaky_relu({slope})")
    raise q.refused("A leaky quantized_relu cannot be the port of an input.", "quantized_bits behind the input")


def _tanh(chain: Chain, q: QKerasQuantizer) -> Chain:
    fixed = Fixed(1, 0, q["bits"] - 1)
    if q["use_real_tanh"]:
        return _table(chain, q, "tanh", fixed, "SAT_SYM" if q["symmetric"] else "SAT")
    return chain.quantize(fixed, "SAT_SYM" if q["symmetric"] else "SAT")  # 2 * hard_sigmoid(x) - 1 is x, clipped


def _sigmoid(chain: Chain, q: QKerasQuantizer) -> Chain:
    bits, fixed = q["bits"], Fixed(0, 0, q["bits"])
    if q["use_real_sigmoid"]:
        if q["symmetric"]:
            raise q.refused("A symmetric real sigmoid cannot be imported.", "symmetric=False, or use_real_sigmoid=False")
        return _table(chain, q, "sigmoid", fixed, "SAT")
    if not q["symmetric"]:
        return chain.rescale(0.5, 0.5).quantize(fixed)
    least = 2.0**-bits
    return chain.rescale(0.5, 0.5 - least).relu().rescale(1.0, least).quantize(fixed)


def _table(chain: Chain, q: QKerasQuantizer, function: str, fixed: Fixed, overflow: Overflow) -> Chain:
    incoming = covering(chain.assembly.format(chain.value))
    if int(incoming.i + incoming.f) > MAGNITUDE_BITS:
        raise q.refused(
            f"A table of {function} for numbers of {int(incoming.width)} bits would be too long.",
            f"at most {MAGNITUDE_BITS} bits without the sign",
            "Put QActivation('quantized_bits(10,3)') before it, and train for a few more epochs; or use the hard version.",
        )
    x = incoming.value(np.arange(int(incoming.low), int(incoming.high) + 1)).astype(np.float32)
    theirs = np.asarray(getattr(keras.activations, function)(keras.ops.convert_to_tensor(x)))
    ours = functions.values_of(functions.FUNCTIONS[function], x.astype(np.float64))
    if (fixed.quantize(theirs, "RND_CONV", overflow) != fixed.quantize(ours, "RND_CONV", overflow)).any():  # pragma: no cover
        raise q.refused(f"TensorFlow's {function} rounds to another number here than the exact one.", "the hard version, or other bits")
    behind, before = data_quantizer(fixed, overflow=overflow), data_quantizer(incoming)
    return chain._then(QTable, function, input_quantizer=before, output_quantizer=behind)


def _ternary(chain: Chain, q: QKerasQuantizer) -> Chain:
    alpha = _alpha(q)
    threshold = float(np.float32(0.33 if q["threshold"] is None else q["threshold"]))
    above = np.nextafter(np.float32(-threshold), np.float32(np.inf))  # from -threshold down it is -alpha, that included
    if threshold == 0:
        raise q.refused("Without a threshold this is no ternary quantizer.", "threshold > 0")
    return chain.steps([_up(chain, float(above)), _up(chain, threshold)], [alpha, alpha], -alpha)


def _binary(chain: Chain, q: QKerasQuantizer) -> Chain:
    alpha = _alpha(q)
    return chain.steps([0.0], [alpha if q["use_01"] else 2 * alpha], 0.0 if q["use_01"] else -alpha)


def _up(chain: Chain, threshold: float) -> float:
    """The least number of the incoming grid that is not below `threshold`: the same comparison, with fewer bits."""
    f = int(covering(chain.assembly.format(chain.value)).f)
    return math.ldexp(math.ceil(math.ldexp(threshold, f)), -f)


def _po2(chain: Chain, q: QKerasQuantizer) -> Chain:
    incoming = covering(chain.assembly.format(chain.value))
    lowest, highest = exponents(q)
    if int(incoming.width) > ENUMERABLE or (highest - lowest) > 32 or q["negative_slope"]:
        raise q.refused(
            "These powers of two cannot be had exactly.",
            f"no slope, at most 32 exponents, and data of at most {ENUMERABLE} bits ({int(incoming.width)} come in)",
            "Put QActivation('quantized_bits(…)') before it, or take fewer bits.",
        )
    x = incoming.value(np.arange(int(incoming.low), int(incoming.high) + 1)).astype(np.float32)
    y = power_of_two(q, x).astype(np.float64)
    at = np.flatnonzero(np.diff(y)) + 1
    if len(at) == 0:
        raise q.refused("This activation gives one number for all data.", "data that reach more than one power of two")
    return chain.steps(x[at], np.diff(y)[at - 1], y[0])


_METHODS = {
    "bits": _bits,
    "linear": _linear,
    "relu": _relu,
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "ternary": _ternary,
    "binary": _binary,
    "po2": _po2,
    "relu_po2": _po2,
}
