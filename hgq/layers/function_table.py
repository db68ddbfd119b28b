"""A function of one number as a lookup table with trained formats before and behind: what layers with curved functions are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from hgq import quantizers
from hgq.errors import ConfigError, FreezeError
from hgq.ir import tables
from hgq.layers import functions
from hgq.layers.base import quantize_to_ir
from hgq.numerics import Fixed
from hgq.quantizers import FixedQuantizer, Identifier
from hgq.resources import ebops

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref

LONGEST = 16
"""Most bits of an index: 65536 entries."""


@keras.saving.register_keras_serializable(package="hgqc")
class FunctionTable(keras.layers.Layer):
    """``output_quantizer(fn(input_quantizer(x)))``, element by element: in hardware one lookup.

    A part of a layer, not a layer of a model: it charges no cost on its own. The layer that owns it calls `build` and `cost`, and `to_ir`.

    The numbers come from one table in training, inference and firmware (`hgq.layers.functions.master`): `fn` in float64, rounded to
    float32, then quantized. Gradients are those of `fn`. Results beyond ``2**30``, such as 1/0, count as that and saturate; a NaN within
    the input's format is an error when the model is frozen.

    Where all elements share one output format, they share one table in the graph, which backends with one table a tensor can take, as long
    as it is not larger than tables of their own; else each has its own.

    Args:
        fn: A name of `hgq.layers.functions.FUNCTIONS`, or a function of one tensor written with ``keras.ops`` or TensorFlow.
        input_quantizer: What `hgq.quantizers.get` takes, but not None.
        output_quantizer: The same; ``"auto"`` for one saturating format that suits `fn`.
        owner: Path of the layer it belongs to, for messages.

    Raises:
        ConfigError: an argument means nothing.
    """

    def __init__(
        self, fn: Any, input_quantizer: Identifier = "data", output_quantizer: Identifier = "auto", *, owner: str | None = None, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.owner = owner or self.name
        self.fn = functions.get(fn, f"layer {self.owner}, fn")
        chosen = self.fn.output if output_quantizer == "auto" else output_quantizer
        self.input_quantizer = self._quantizer(input_quantizer, "input_quantizer")
        self.output_quantizer = self._quantizer(chosen, "output_quantizer")

    def _quantizer(self, identifier: Identifier, argument: str) -> FixedQuantizer:
        return fixed_point(quantizers.get(identifier, "data", argument), f"layer {self.owner}, {argument}")

    def build(self, input_shape) -> None:
        """Build both quantizers for data of this shape, batch included."""
        self.input_quantizer.build(input_shape)
        self.output_quantizer.build(input_shape)
        self.built = True

    def call(self, inputs, training=None):
        """Quantize, look up, quantize."""
        x = self.input_quantizer(inputs, training=training)
        return self.output_quantizer(functions.look_up(self.fn, x), training=training)

    def compute_output_shape(self, input_shape):
        """The shape of the data."""
        return input_shape

    def bits(self, shape: tuple[int, ...]):
        """Bits of each element of the result, for data of this shape (without batch): what the op behind it charges."""
        return self.output_quantizer.bits(shape)

    def cost(self, shape: tuple[int, ...], alive: NDArray[np.bool_] | None = None):
        """EBOPs for data of this shape (without batch), a float32 scalar, differentiable in the bits: see `hgq.resources.ebops.table`.

        Args:
            shape: Of the data, without batch.
            alive: Which elements anybody reads; None for all.
        """
        bits = self.input_quantizer.bits(shape)
        bits = bits if alive is None else bits * alive.astype(np.float32)
        return ebops.table(bits, self.bits(shape), total=tf.reduce_sum)

    def to_ir(self, b: GraphBuilder, x: Ref, name: str, alive: NDArray[np.bool_] | None = None) -> Ref:
        """The quantizer and the lookup as nodes, called ``NAME_iq`` and ``NAME``.

        Args:
            b: Where to.
            x: Data.
            name: Of the lookup.
            alive: Which elements anybody reads; None for all. The others become those of 0.

        Raises:
            FreezeError: an index of more than `LONGEST` bits, or a NaN in the table.
        """
        fixed = self.input_quantizer.format()
        if alive is None:
            x = quantize_to_ir(b, self.input_quantizer, x, f"{name}_iq")
        else:
            fixed = Fixed(*(np.where(alive, part, 0) for part in fixed.astuple()))
            x = b.quantize(x, fixed, self.input_quantizer.frozen_rounding, self.input_quantizer.overflow, f"{name}_iq")
        if fixed.width.max(initial=0) > LONGEST:
            raise FreezeError(
                "The input of a table has too many bits.",
                where=f"layer {self.owner}, {name}",
                expected=f"at most {LONGEST}: {1 << LONGEST} entries",
                received=f"{int(fixed.width.max())} bits",
                fix="Give input_quantizer fewer bits, by b0 or f0 or by bounds such as f_bounds=(-4, 8).",
            )
        shared = self._shared(fixed.broadcast_to(tuple(x.shape)))
        if shared is None:
            shape = np.broadcast_shapes(fixed.shape, self.output_quantizer.format().shape)
            fixed, values = self._values(fixed.broadcast_to(shape))
            self._refuse_nan(fixed, values, name)
        else:
            fixed, values = shared
        result = self.output_quantizer.format().reshape(() if shared else self.output_quantizer.format().shape)
        entries = result.broadcast_to(fixed.shape).reshape((*fixed.shape, 1)).broadcast_to(values.shape)
        mantissa = entries.quantize(values, self.output_quantizer.frozen_rounding, self.output_quantizer.overflow)
        return b.lookup(x, mantissa, entries, fixed, name=name)

    def _values(self, fixed: Fixed) -> tuple[Fixed, NDArray[np.float32]]:
        """Formats, and the function of every value of each, by index."""
        return fixed, functions.values_of(self.fn, fixed.reshape((*fixed.shape, 1)).value(tables.mantissas(fixed)))

    def _shared(self, fixed: Fixed) -> tuple[Fixed, NDArray[np.float32]] | None:
        """A format that holds those of all elements, and its table, where the elements can share one that is no larger than all theirs."""
        k, i, f = (int(part[fixed.width > 0].max(initial=0 if part is fixed.k else -99)) for part in fixed.astuple())
        if self.output_quantizer.format().k.size > 1 or 2.0 ** max(k + i + f, 0) > (2.0**fixed.width).sum():
            return None
        common, values = self._values(Fixed(k, i, f).canonical())
        return None if np.isnan(values).any() else (common, values)

    def _refuse_nan(self, fixed: Fixed, values: NDArray[np.float32], name: str) -> None:
        bad = np.isnan(values)
        if bad.any():
            first = float(fixed.reshape((*fixed.shape, 1)).value(tables.mantissas(fixed))[bad][0])
            raise FreezeError(
                f"The function {self.fn.name} is not a number for an argument that can occur.",
                where=f"layer {self.owner}, {name}",
                expected="a function that is defined for every value of its input's format",
                received=f"{self.fn.name}({first:g}) is NaN",
                fix="Give input_quantizer a range in which it is defined: k0=0 and overflow=SAT for arguments that are never negative.",
            )

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "fn": functions.serialize(self.fn, f"layer {self.owner}"),
            "input_quantizer": quantizers.serialize(self.input_quantizer),
            "output_quantizer": quantizers.serialize(self.output_quantizer),
            "owner": self.owner,
        }


def fixed_point(quantizer: quantizers.Quantizer | None, where: str) -> FixedQuantizer:
    """The quantizer before or behind a table.

    Raises:
        ConfigError: it is none of fixed-point numbers.
    """
    if not isinstance(quantizer, FixedQuantizer):
        raise ConfigError(
            "A table needs fixed-point numbers before and behind it.",
            where=where,
            expected='a quantizer such as "data" or "kif(i0=2, f0=6)"',
            received="None" if quantizer is None else type(quantizer).__name__,
        )
    return quantizer
