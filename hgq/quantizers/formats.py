"""The bits of a fixed-point quantizer: variables, the formats that they say, and ranges that follow data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from hgq import replicas
from hgq.errors import ConfigError
from hgq.numerics import Fixed
from hgq.quantizers import ops, reading
from hgq.quantizers.base import Quantizer
from hgq.quantizers.constraints import Between
from hgq.quantizers.places import Bounds
from hgq.quantizers.ranges import HIGHEST, needed
from hgq.variables import read, write


class FixedFormats(Quantizer):
    """What `hgq.quantizers.FixedQuantizer` learns and tracks; its arguments are explained there, and set by it.

    Variables, each of the shape of the bitwidths: ``f`` (kif) or ``b`` (kbi), and ``k`` and ``i`` unless they follow from constants.
    """

    parametrization: str
    rounding: Any
    overflow: Any
    k0: int
    i0: float
    f0: float
    b0: float
    i_bounds: Bounds
    f_bounds: Bounds
    b_bounds: Bounds
    adapt_to_magnitude: bool
    seed: int | None
    _observing: bool = False

    @property
    def follows_range(self) -> bool:
        """Whether i is tracked rather than trained."""
        return self.overflow in ("WRAP", "WRAP_SM")

    @property
    def tracks_range(self) -> bool:
        """Whether the range is state that data sets: what calibration is for."""
        return self.follows_range and not self.constant

    # ---- variables ----------------------------------------

    def _create(self, constant) -> None:
        shared = self._shared_axes(len(self._shape))

        def adapted(offset):
            def initial(shape, dtype=None):
                w = np.abs(np.asarray(constant.value if hasattr(constant, "value") else constant))
                largest = w.max(axis=shared, keepdims=True) if shared else w
                mantissa, exponent = np.frexp(largest)
                i = np.where(largest > 0, exponent - (mantissa == 0.5), self.i0)
                return tf.constant(np.broadcast_to(offset - i if offset is not None else i, shape), dtype)

            return initial

        adapt = self.adapt_to_magnitude and constant is not None

        def bits(name, start, bounds, trainable=True):
            initializer = start if callable(start) else keras.initializers.Constant(start)
            return self.add_weight(
                name=name, shape=self._widths, initializer=initializer, dtype="float32", trainable=trainable, constraint=Between(*bounds)
            )

        if not (self.constant and self.follows_range):
            self._k = self.add_weight(
                name="k", shape=self._widths, initializer=keras.initializers.Constant(self.k0), dtype="float32", trainable=False
            )
            self._i = bits("i", adapted(None) if adapt else self.i0, self.i_bounds, trainable=not self.follows_range)
        if self.parametrization == "kif":
            self._f = bits("f", adapted(self.b0) if adapt else self.f0, self.f_bounds)
        else:
            self._b = bits("b", self.b0, self.b_bounds)
        if self.tracks_range:  # k0 is forgotten when the first data arrives
            self._seen = self.add_weight(name="seen", shape=(), initializer="zeros", dtype="float32", trainable=False)
        if self.rounding == "S_RND":
            self._draws = self.add_weight(name="draws", shape=(), initializer="zeros", dtype="int32", trainable=False)

    def _next_seed(self):
        """Two integers no call had before. A `keras.random.SeedGenerator` would do, but ``model.save`` forgets where it was."""
        draw = tf.convert_to_tensor(self._draws)
        self._draws.assign(draw + 1)
        return replicas.own_seed(tf.stack([tf.constant(self.seed, tf.int32), draw]))

    # ---- formats ----------------------------------------

    @property
    def _width(self):
        """What is trained besides i, as a tensor: f (kif) or b (kbi)."""
        return tf.convert_to_tensor(self._trained_width)

    @property
    def _trained_width(self):
        """Its variable."""
        return self._f if self.parametrization == "kif" else self._b

    def _variables(self) -> tuple[Any, Any, Any]:
        """k, i and the trained width as tensors; the width thrice where the range is that of a constant."""
        width = self._width
        if self.constant and self.follows_range:
            return width, width, width
        return tf.convert_to_tensor(self._k), tf.convert_to_tensor(self._i), width

    def _kif(self, constant=None):
        """The rounded bits as tensors: trained ones pass their gradients straight through, tracked ones have none."""
        width = ops.ste_round(self._width)
        if self.constant and self.follows_range:
            if constant is None:
                raise self._no_constant()
            k, i = self._needed(tf.convert_to_tensor(constant), width)
        else:
            k, i = tf.convert_to_tensor(self._k), tf.convert_to_tensor(self._i)
            i = tf.stop_gradient(tf.round(i)) if self.follows_range else ops.ste_round(i)
        f = width if self.parametrization == "kif" else width - i
        return k, i, f - tf.stop_gradient(tf.nn.relu(i + f - ops.SIGNIFICANT))  # float32 holds no more

    def _read_kif(self, constant=None) -> tuple[Any, Any, Any]:
        """`_kif` as NumPy reads it: the same numbers, and an error where there is no constant that decides."""
        if self.constant and self.follows_range:
            if constant is None:
                raise self._no_constant()
            width = np.round(*read([self._trained_width]))
            k, i = self._read_needed(constant, width)
        else:
            k, i, width = read([self._k, self._i, self._trained_width])
            i, width = np.round(i), np.round(width)
        return k, i, reading.fitting(i, width if self.parametrization == "kif" else width - i)

    def _no_constant(self) -> ConfigError:
        return ConfigError(
            "The range of this quantizer is that of its constant.", where=self.path, expected="the constant", received="None"
        )

    def _continuous_width(self):
        """``i + f`` of the variables, not rounded."""
        if self.parametrization == "kbi" or (self.constant and self.follows_range):
            return self._width
        return tf.convert_to_tensor(self._i) + self._width

    def format(self, constant=None) -> Fixed:
        """The present formats, in the shape of the bitwidths (data: without the batch axis), canonical.

        Args:
            constant: The values, for a constant's quantizer whose range follows them.
        """
        k, i, f = (part.astype(np.int64) for part in self._read_kif(constant))
        nothing = ops.dead(k, i, f, self.overflow)
        k, i, f = (np.where(nothing, 0, part) for part in (k, i, f))
        if not self.constant:
            k, i, f = k[0], i[0], f[0]
        return Fixed(k, i, f).canonical()

    def set_format(self, fixed: Fixed) -> None:
        """Take these formats as the present bits, as an importer of trained models does; training goes on from them.

        Args:
            fixed: Broadcast to the shape of the bitwidths; data: that without the batch axis.

        Raises:
            ConfigError: the quantizer is not built, or a number is outside its bounds.
        """
        if not self.built:
            raise ConfigError("A quantizer has no bits before it is built.", where=f"quantizer {self.name}", fix="Build its layer first.")
        shape = self._widths if self.constant else self._widths[1:]
        k, i, f = (part.reshape(self._widths).astype(np.float32) for part in fixed.broadcast_to(shape).astuple())
        trained = (("f", f, self.f_bounds),) if self.parametrization == "kif" else (("b", i + f, self.b_bounds),)
        ranged = () if self.constant and self.follows_range else (("i", i, self.i_bounds), ("k", k, (0, 1)))
        for name, value, (low, high) in (*trained, *ranged):
            if value.size and not low <= value.min() <= value.max() <= high:
                raise ConfigError(
                    "A format is outside the bounds of its quantizer.",
                    where=f"quantizer {self.path}",
                    expected=f"{name} from {low:g} to {high:g}",
                    received=f"{value.min():g} to {value.max():g}",
                )
            getattr(self, f"_{name}").assign(value)
        if self.tracks_range:
            self._seen.assign(1.0)

    # ---- ranges that follow data ----------------------------------------

    def _needed(self, x, width):
        """Sign and integer bits that `x` takes, within the bounds; a constant is always covered."""
        shared = self._shared_axes(len(x.shape))
        k, i = needed(x, width, fixed_fraction=self.parametrization == "kif", rounding=self.rounding, shared=shared)
        return k, tf.clip_by_value(i, self.i_bounds[0], HIGHEST if self.constant else self.i_bounds[1])

    def _read_needed(self, x, width) -> tuple[Any, Any]:
        """`_needed` as NumPy reads it."""
        shared = self._shared_axes(np.ndim(x))
        k, i = reading.needed(x, width, fixed_fraction=self.parametrization == "kif", rounding=self.rounding, shared=shared)
        return k, np.clip(i, self.i_bounds[0], HIGHEST if self.constant else self.i_bounds[1])

    def _follow(self, x, decay: float) -> None:
        """Move the tracked range to where it covers `x`."""
        k, i = self._needed(x, tf.round(self._width))
        self._move_range(tf.maximum(tf.convert_to_tensor(self._k) * self._seen, k), tf.maximum(tf.convert_to_tensor(self._i) - decay, i))

    def _move_range(self, k, i) -> None:
        if not self.looped:
            k, i = replicas.greatest(k, i)
        self._take_range(k, i)
        self._seen.assign(1.0)

    def _take_range(self, k, i) -> None:
        self._i.assign(i)
        self._k.assign(k)

    def agree(self) -> None:
        """Have all replicas take the range that covers the data of all, after a loop in which each followed its own."""
        if self.tracks_range and replicas.count() > 1:
            self._take_range(*replicas.greatest(tf.convert_to_tensor(self._k), tf.convert_to_tensor(self._i)))

    @contextmanager
    def observe(self, reset: bool = True) -> Iterator[Self]:
        """Inside, each eager call widens the tracked range to cover its data, and rounds without wrapping.

        Args:
            reset: Forget the present range first, so that the data alone sets it.

        Raises:
            ConfigError: the range is not tracked, the quantizer is not built, or the call is not eager (``model.predict`` is not;
                ``model(x, training=False)`` is).
        """
        if not self.tracks_range or not self.built:
            raise ConfigError(
                "There is no range to observe.",
                where=self.path,
                expected="a built data quantizer with overflow WRAP or WRAP_SM (tracks_range)",
                received=f"place={self.place}, overflow={self.overflow}, built={self.built}",
            )
        if reset:
            write([self._k, self._i], [np.zeros(self._widths), np.full(self._widths, self.i_bounds[0])])
        write([self._seen], [1.0])
        self._observing = True
        try:
            yield self
        finally:
            self._observing = False

    def _observe(self, x) -> None:
        if not tf.executing_eagerly():
            raise ConfigError(
                "A range can be observed only eagerly.",
                where=self.path,
                expected="model(x, training=False)",
                received="a compiled call",
                fix="Do not calibrate through model.predict or a tf.function.",
            )
        shared = self._shared_axes(len(x.shape))  # the batch is among them
        ends = np.concatenate([tf.reduce_min(x, shared, keepdims=True).numpy(), tf.reduce_max(x, shared, keepdims=True).numpy()])
        k, i = self._read_needed(ends, np.round(*read([self._trained_width])))
        before = read([self._k, self._i])
        self._move_range(tf.constant(np.maximum(before[0], k)), tf.constant(np.maximum(before[1], i)))
