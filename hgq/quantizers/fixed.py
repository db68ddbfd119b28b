"""The trainable fixed-point quantizer."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from hgq import replicas
from hgq.numerics import Fixed, Ints, Rounding
from hgq.quantizers import ops
from hgq.quantizers.arguments import check_arguments
from hgq.quantizers.base import register_quantizer
from hgq.quantizers.formats import FixedFormats
from hgq.quantizers.fused import Fused, fused
from hgq.quantizers.places import Bounds, initial_bits
from hgq.quantizers.places import place as named_place

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref


@register_quantizer("kif")
@register_quantizer("kbi")
@keras.saving.register_keras_serializable(package="hgqc")
class FixedQuantizer(FixedFormats):
    """Quantizes to ``Fixed(k, i, f)`` and learns the bits (HGQ, arXiv:2405.00645).

    Two parametrisations over one core: ``"kif"`` trains i and f, ``"kbi"`` trains b and i with ``f = b - i``. With overflow ``SAT`` and
    ``SAT_SYM``, i is trained. With ``WRAP`` and ``WRAP_SM`` it is *tracked*:

    * data: each training call sets ``i <- max(i - i_decay, what the batch needs)``, and k to 1 once a negative number was seen.
      Training only rounds; inference wraps. `observe` widens the range over a calibration set.
    * constants (places ``"weight"`` and ``"bias"``): k and i are always exactly what the present values need, so nothing ever wraps.

    Arguments left out take the default of the place (`hgq.quantizers.places.PLACES`).

    Args:
        parametrization: ``"kif"`` or ``"kbi"``.
        place: ``"weight"``, ``"bias"`` or ``"data"``; a layer fills it in for the quantizers it is given.
        granularity: What shares one bitwidth: ``"element"``, ``"channel"`` (last axis) or ``"tensor"``. Data also shares it over the batch.
        k0: Initial sign bit, 0 or 1. Tracked data: only until the first training call, which sets it from the data.
        i0: Initial integer bits, sign not counted.
        f0: Initial fractional bits.
        b0: Initial ``i + f``. Any two of the three, or one alone; three must agree.
        rounding: One of `hgq.numerics.ROUNDINGS`. ``S_RND`` is stochastic in training and rounds as ``RND`` in inference.
        overflow: One of `hgq.numerics.OVERFLOWS`.
        i_decay: Bits by which a tracked range shrinks per training call.
        i_bounds: Between which values i is kept.
        f_bounds: The same for f; kif only.
        b_bounds: The same for b; kbi only.
        l1: Weight of a loss ``l1 * sum(max(i + f, 0))``, charged in training: pulls the bits to zero, and leaves them there.
        adapt_to_magnitude: Constants only: start each group with b0 bits right below its largest magnitude, ``i = ceil(log2(max |w|))``.
        seed: Of ``S_RND``; None draws one, under `keras.utils.set_random_seed`. The number of draws made is saved with the weights.

    Raises:
        ConfigError: arguments that mean nothing or contradict each other.
    """

    def __init__(
        self,
        parametrization: str | None = None,
        *,
        place: str | None = None,
        granularity: str | None = None,
        k0: int | None = None,
        i0: float | None = None,
        f0: float | None = None,
        b0: float | None = None,
        rounding: str | None = None,
        overflow: str | None = None,
        i_decay: float = 0.01,
        i_bounds: Bounds | None = None,
        f_bounds: Bounds | None = None,
        b_bounds: Bounds | None = None,
        l1: float = 0.0,
        adapt_to_magnitude: bool = False,
        seed: int | None = None,
        **kwargs,
    ) -> None:
        super().__init__(place=place, granularity=granularity, **kwargs)
        self._given = {
            "parametrization": parametrization,
            "place": place,
            "granularity": granularity,
            "k0": k0,
            "i0": i0,
            "f0": f0,
            "b0": b0,
            "rounding": rounding,
            "overflow": overflow,
            "i_bounds": i_bounds,
            "f_bounds": f_bounds,
            "b_bounds": b_bounds,
            "seed": seed,
        }
        at = named_place("data" if place is None else place)
        self.parametrization = parametrization or at.parametrization
        self.k0 = at.k0 if k0 is None else k0
        self.rounding = rounding or at.rounding
        self.overflow = overflow or at.overflow
        self.i0, self.f0, self.b0 = initial_bits(at, self.parametrization, i0, f0, b0)
        self.i_decay, self.l1, self.adapt_to_magnitude = float(i_decay), float(l1), bool(adapt_to_magnitude)
        self.seed = random.randrange(2**31) if seed is None and self.rounding == "S_RND" else seed
        self.i_bounds = tuple(i_bounds or at.i_bounds)  # type: ignore[assignment]
        self.f_bounds = tuple(f_bounds or at.f_bounds)  # type: ignore[assignment]
        # a sign bit alone still holds -1 step, save in a symmetric range: there b must reach -1 for an element to die
        lowest = 0.0 if self.overflow == "SAT_SYM" else -1.0
        self.b_bounds = tuple(b_bounds or (lowest, at.b_highest))  # type: ignore[assignment]
        check_arguments(self, self._given)

    @classmethod
    def for_weights(cls, **kwargs) -> FixedQuantizer:
        """A weight's quantizer: kbi, SAT_SYM, per weight, unless told otherwise."""
        return cls(place="weight", **kwargs)

    @classmethod
    def for_bias(cls, **kwargs) -> FixedQuantizer:
        """A bias's quantizer: kif, its range always that of the bias, unless told otherwise."""
        return cls(place="bias", **kwargs)

    @classmethod
    def for_data(cls, **kwargs) -> FixedQuantizer:
        """A data quantizer: kif, WRAP with a tracked range, per element, unless told otherwise."""
        return cls(place="data", **kwargs)

    # ---- native ops ----------------------------------------

    def _fused(self, x, rounding: str) -> Fused | None:
        """What does the same in a pass, if it may be used here and now. Stochastic rounding, and its ranges, are left to the reference."""
        if self.rounding == "S_RND" and (self.constant or rounding == "S_RND"):
            return None
        return fused(
            x,
            self._widths,
            parametrization=self.parametrization,
            rounding=rounding,
            overflow=self.overflow,
            follows=self.follows_range,
            constant=self.constant,
            i_bounds=self.i_bounds,
        )

    # ---- forward ----------------------------------------

    def call(self, inputs, training=None):
        """Quantize; in training, first move a tracked range."""
        x = tf.cast(tf.convert_to_tensor(inputs), tf.float32)
        if training and self.l1 and self.calls == 1:
            replicas.add_loss(self, self.penalty())
        covered = self.constant or training or self._observing
        if self.tracks_range and self._observing:
            self._observe(x)
        native = self._fused(x, self.rounding)
        if self.tracks_range and training and not self._observing:
            decay = self.i_decay / self.calls
            if native is not None:
                q, k, i = native.track(x, *self._variables(), tf.convert_to_tensor(self._seen), decay)
                self._move_range(k, i)
                return q
            self._follow(x, decay)
        if native is not None:
            return native.quantize(x, *self._variables(), wrap=not covered)
        k, i, f = self._kif(x if self.constant else None)
        seed = self._next_seed() if self.rounding == "S_RND" and training else None
        return ops.fixed_quantize(x, k, i, f, rounding=self.rounding, overflow=self.overflow, wrap=not covered, seed=seed)

    def penalty(self):
        """The loss of `l1`; where a layer calls this quantizer in a loop, that layer adds it."""
        return self.l1 * tf.reduce_sum(tf.nn.relu(self._continuous_width()))

    # ---- bits ----------------------------------------

    def bits(self, shape: tuple[int, ...]):
        """Bits of every element of data of this `shape` (without batch), sign included: what EBOPs charges. 0 where only 0 fits.

        Differentiable. The gradient of a bitwidth that n elements share is scaled by ``1/sqrt(n)``, as in HGQ v1, so that coarse
        granularities are not driven n times as hard.
        """
        share = 1.0 / math.sqrt(math.prod(shape) / math.prod(self._widths))
        k, i, width = self._variables()
        native = self._fused(width, self.frozen_rounding)
        if native is not None:
            bits = tf.reshape(native.data_bits(k, i, width, share), self._widths[1:])
            return bits if self._widths[1:] == tuple(shape) else tf.broadcast_to(bits, shape)
        k, i, f = self._kif()
        width = ops.scale_gradient(i + f, share)
        # never negative: a format that lives has i + f >= 0
        return tf.broadcast_to(tf.where(ops.dead(k, i, f, self.overflow), 0.0, k + width)[0], shape)

    def constant_bits(self, q):
        """Effective bits of the quantized constants `q`: exactly ``Fixed.minimal(…).width``, sign included.

        The gradient goes straight to the declared bits of each constant that is not zero. Zeros get none: only the task revives them.
        """
        q = tf.convert_to_tensor(q)
        return self._constant_bits(q, *self._kif(q))

    def effective_bits(self, constant):
        """`constant_bits` of what inference makes of this weight tensor."""
        x = tf.stop_gradient(tf.convert_to_tensor(constant))
        native = self._fused(x, self.frozen_rounding)
        if native is not None:
            return native.constant_bits(x, *self._variables())
        k, i, f = self._kif(x)
        q = ops.fixed_quantize(x, k, i, f, rounding=self.frozen_rounding, overflow=self.overflow, wrap=False)
        return self._constant_bits(q, k, i, f)

    def declared_bits(self, constant):
        """Integer and fractional bits of the format, the sign apart."""
        _, i, f = self._kif(tf.stop_gradient(tf.convert_to_tensor(constant)))
        return tf.stop_gradient(i + f)

    def _constant_bits(self, q, k, i, f):
        q = tf.stop_gradient(q)
        declared = ops.scale_gradient(i + f, self._share(q))
        return ops.significant_bits(q) + tf.where(q == 0, 0.0, declared - tf.stop_gradient(declared))

    def quantized_constant(self, w) -> tuple[Ints, Fixed]:
        """Mantissas and formats of constants `w` in `w`'s shape: the numbers that the inference forward pass uses, bit for bit."""
        w = np.asarray(w, np.float32)
        fixed = self.format(w).broadcast_to(w.shape)
        return fixed.quantize(w, self.frozen_rounding, self.overflow), fixed

    def to_ir(self, b: GraphBuilder, x: Ref, name: str) -> Ref:
        """Add the quantizer's inference to the graph: one node."""
        return b.quantize(x, self.format().broadcast_to(tuple(x.shape)), self.frozen_rounding, self.overflow, name=name)

    @property
    def frozen_rounding(self) -> Rounding:
        """The rounding of inference and of firmware: stochastic rounding belongs to training."""
        return "RND" if self.rounding == "S_RND" else self.rounding

    # ---- configuration ----------------------------------------

    def config_at(self, place: str) -> dict:
        """This quantizer's configuration for a copy at `place`; what was left open takes that place's defaults.

        Raises:
            ConfigError: made for data, used for a constant, or the other way round.
        """
        self.check_place(place)
        config = self.get_config()
        return config if self.place is not None else {**config, **self._given, "place": place}

    def get_config(self) -> dict:
        """All arguments, defaults filled in."""
        given = {name: getattr(self, name) for name in self._given}
        if self.parametrization == "kif":
            given["b_bounds"] = None
        else:
            given["f_bounds"] = None
        given["place"] = self.place
        return {
            **super().get_config(),
            **given,
            "i_decay": self.i_decay,
            "l1": self.l1,
            "adapt_to_magnitude": self.adapt_to_magnitude,
        }
