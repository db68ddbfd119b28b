"""What every quantizer is: the one interface between quantizers, layers and `hgq.freeze`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import keras
import numpy as np
import tensorflow as tf

from hgq.errors import ConfigError
from hgq.numerics import Fixed, Ints, trailing_zeros
from hgq.quantizers import ops
from hgq.quantizers.arguments import check_choices, check_policy
from hgq.quantizers.constraints import Between
from hgq.quantizers.places import PLACES
from hgq.quantizers.places import place as named_place

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref

QUANTIZERS: dict[str, type[Quantizer]] = {}
"""Kinds of quantizers by the name that strings use."""


def register_quantizer(name: str) -> Callable[[type], type]:
    """Make a subclass of `Quantizer` usable by string: ``@register_quantizer("binary")`` for ``"binary(granularity=tensor)"``."""

    def register(cls: type) -> type:
        QUANTIZERS[name] = cls
        return cls

    return register


class Quantizer(keras.layers.Layer):
    """Base class of quantizers.

    A quantizer of **constants** (places ``"weight"``, ``"bias"``) writes ``call`` alone: its numbers must be exact in float32, and
    inference must give the same ones as `quantized_constant`, which the default does by calling it. `effective_bits` is right by default,
    too, but has no gradient: override it to let the cost train something. A quantizer of **data** (place ``"data"``) writes ``call``,
    `bits`, `format`, `to_ir`, and `cost` if it is hardware itself. Either writes `_create`, where it adds its variables, and a complete
    ``get_config``.

    Args:
        place: ``"weight"``, ``"bias"`` or ``"data"``; a layer fills it in for the quantizers it is given.
        granularity: What shares the trained numbers: ``"element"``, ``"channel"`` (last axis) or ``"tensor"``. Data also shares them over
            the batch.

    Attributes:
        places: Where quantizers of this class may sit.
        default_granularity: By place.
        constant: Whether it quantizes weights or biases, not data.
        calls: How often one training step calls it; a layer that uses it once for each time step says so.
        looped: Whether the layer calls it in a loop, where replicas cannot meet, and has them `agree` behind it.

    Raises:
        ConfigError: an argument means nothing, or the class has no use at this place.
    """

    places: ClassVar[tuple[str, ...]] = tuple(PLACES)
    calls: int = 1
    looped: bool = False
    default_granularity: ClassVar[dict[str, str]] = {name: place.granularity for name, place in PLACES.items()}

    def __init__(self, *, place: str | None = None, granularity: str | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        check_policy(self)
        at = named_place(place or self.places[-1])
        self.place = place
        self.constant = at.constant
        self.given_granularity = granularity
        self.granularity = granularity or self.default_granularity[at.name]
        check_choices(self)
        if place is not None:
            self.check_place(place)
        self.supports_masking = True

    # ---- state ----------------------------------------

    @property
    def tracks_range(self) -> bool:
        """Whether the range is state that data sets: what calibration is for."""
        return False

    def agree(self) -> None:
        """Have all replicas of a distributed step (`hgq.replicas`) take the same tracked state. A quantizer of constants tracks none."""

    def build_for(self, constant) -> None:
        """Build for this weight variable, from whose value the trained numbers may start."""
        self._build(tuple(constant.shape), constant)

    def build(self, input_shape) -> None:
        """Create the variables for data of this shape, batch included, or for constants of this shape."""
        self._build(tuple(input_shape), None)

    def _build(self, shape: tuple[int | None, ...], constant) -> None:
        if self.built:
            return
        shared = self._shared_axes(len(shape))
        widths = [1 if axis in shared else size for axis, size in enumerate(shape)]
        if None in widths:
            raise ConfigError(
                "A bitwidth per element needs a static shape.",
                where=f"quantizer {self.path}",
                expected="known sizes on all axes but the batch",
                received=str(shape),
                fix='Give the model a static input shape, or use granularity="channel" or "tensor".',
            )
        self._shape = shape
        self._widths = tuple(size for size in widths if size is not None)
        with tf.init_scope():  # Keras may be tracing; values of weights are there only outside
            self._create(constant)
        self.built = True

    def _create(self, constant) -> None:
        """Add the variables, of shape ``self._widths``; `constant` is the weight variable to start from, or None."""

    def _shared_axes(self, rank: int) -> tuple[int, ...]:
        if self.granularity == "tensor":
            return tuple(range(rank))
        if self.granularity == "channel":
            return tuple(range(rank - 1)) if rank > 1 or self.constant else (0,)
        return () if self.constant else (0,)

    def _trained(self, name: str, initial, bounds: tuple[float, float]):
        """A trained number for each group, kept within `bounds`."""
        values = np.clip(np.broadcast_to(np.asarray(initial, np.float32), self._widths), *bounds)
        return self.add_weight(
            name=name,
            shape=self._widths,
            initializer=lambda shape, dtype=None: tf.constant(values, dtype),
            dtype="float32",
            constraint=Between(*bounds),
        )

    def _share(self, x) -> float:
        """How much the gradient of a bitwidth that n elements share is scaled: ``1/sqrt(n)``, as in HGQ v1."""
        return float(1.0 / np.sqrt(np.prod(x.shape) / np.prod(self._widths)))

    # ---- what layers ask of data ----------------------------------------

    def bits(self, shape: tuple[int, ...]):
        """Bits of every element of data of this `shape` (without batch), sign included: what EBOPs charges. Differentiable."""
        raise self._no_data()

    def format(self, constant=None) -> Fixed:
        """The formats of quantized data, in the shape of the trained numbers without the batch axis, canonical."""
        raise self._no_data()

    def to_ir(self, b: GraphBuilder, x: Ref, name: str) -> Ref:
        """Add the quantizer's inference to the graph."""
        raise self._no_data()

    def cost(self):
        """EBOPs of the quantizer's own hardware, a float32 scalar; None where it has none that EBOPs count."""
        return None

    def _no_data(self) -> ConfigError:
        return ConfigError(f"{type(self).__name__} does not quantize data.", where=f"quantizer {self.name}", expected="a weight or bias")

    # ---- what layers ask of constants ----------------------------------------

    def effective_bits(self, constant):
        """Bits of each quantized weight from its leading to its trailing significant one, sign included: ``Fixed.minimal(…).width``."""
        return ops.significant_bits(tf.stop_gradient(self(tf.convert_to_tensor(constant), training=False)))

    def declared_bits(self, constant):
        """Bits that the magnitude of each weight may have, whatever it has: whole numbers without a gradient, of a shape that broadcasts.

        Here those that are effective, as for formats that no trained number of bits describes.
        """
        return tf.stop_gradient(self.effective_bits(constant))

    def quantized_constant(self, w) -> tuple[Ints, Fixed]:
        """Mantissas and formats of constants `w` in `w`'s shape: the numbers that the inference forward pass uses, bit for bit."""
        q = np.asarray(self(tf.convert_to_tensor(np.asarray(w, np.float32)), training=False), np.float64)
        fraction, exponent = np.frexp(q)
        mantissa = np.ldexp(fraction, ops.SIGNIFICANT).astype(np.int64)
        zeros = trailing_zeros(mantissa)
        mantissa, f = mantissa >> zeros, np.where(mantissa == 0, 0, ops.SIGNIFICANT - exponent.astype(np.int64) - zeros)
        return mantissa, Fixed.minimal(mantissa, f)

    # ---- configuration ----------------------------------------

    def check_place(self, place: str) -> None:
        """Raise `ConfigError` unless this quantizer can sit at `place`."""
        if self.place is not None and self.constant != PLACES[place].constant:
            raise ConfigError(
                "A quantizer was made for another place.",
                where=f"quantizer {self.name}",
                expected=f"one for {place}",
                received=f"one for {self.place}",
                fix=f"Leave place= out, or use place={place!r}.",
            )
        if place not in self.places:
            raise ConfigError(
                f"{type(self).__name__} has no exact and cheap hardware at this place.",
                where=f"quantizer {self.name}",
                expected=f"place {' or '.join(map(repr, self.places))}",
                received=f"place {place!r}",
                fix='Use a fixed-point quantizer there: "data" or "kif(…)".',
            )

    def config_at(self, place: str) -> dict:
        """This quantizer's configuration for a copy at `place`; what was left open takes that place's defaults.

        Raises:
            ConfigError: made for data, used for a constant, or the other way round, or of no use there.
        """
        self.check_place(place)
        return {**self.get_config(), "place": self.place or place}

    def compute_output_shape(self, input_shape):
        """The shape of the data."""
        return input_shape

    def get_config(self) -> dict:
        """All arguments."""
        return {**super().get_config(), "place": self.place, "granularity": self.given_granularity}
