"""Building a model layer by layer, always knowing which numbers can occur where: a layer with products then gets an input format that
changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from hgq import layers
from hgq.errors import ConfigError
from hgq.freeze import freeze_call, identifier
from hgq.ir.build import GraphBuilder, RawRef, Ref
from hgq.numerics import Fixed
from hgq.quantizers import FixedQuantizer
from hgq.quantizers.ops import SIGNIFICANT


@dataclass(frozen=True)
class Value:
    """A tensor of the model under construction.

    Args:
        tensor: Keras' symbolic tensor.
        ref: The same in the graph, whose format can be proven.
    """

    tensor: Any
    ref: Ref

    @property
    def raw(self) -> bool:
        """Whether it is a real number from outside, which nothing has quantized yet."""
        return isinstance(self.ref, RawRef)


MOVING = (
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.Permute,
    keras.layers.Dropout,
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.GlobalMaxPooling1D,
    keras.layers.GlobalMaxPooling2D,
)
"""Layers whose every result is one of the numbers that come in."""

Prepare = Callable[[keras.layers.Layer], None]
"""Gives a built layer its weights."""


class Assembly:
    """A functional model under construction.

    Args:
        name: Of the model.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.builder = GraphBuilder(identifier(name))
        self._inputs: list[Any] = []
        self._formats: dict[str, Fixed] = {}
        self._covers: dict[str, Fixed] = {}
        self._names: set[str] = set()

    def input(self, name: str, shape: tuple[int, ...]) -> Value:
        """A port of real numbers; `shape` without batch."""
        tensor = keras.Input(shape, name=name)
        self._inputs.append(tensor)
        return Value(tensor, self.builder.raw_input(identifier(name), shape))

    def apply(self, layer: keras.layers.Layer, *values: Value, prepare: Prepare | None = None) -> Value:
        """Call a layer; `prepare` gives it its weights as soon as it is built."""
        tensors = [value.tensor for value in values]
        output = layer(tensors[0] if len(tensors) == 1 else tensors)
        if prepare is not None:
            prepare(layer)
        (ref,) = freeze_call(layer, self.builder, [value.ref for value in values])
        self._note(layer, values, ref)
        return Value(output, ref)

    def _note(self, layer: keras.layers.Layer, values: tuple[Value, ...], ref: Ref) -> None:
        """Remember a format that holds the result, where that is known without a proof over all that came before."""
        if isinstance(layer, layers.QActivation) and isinstance(layer.quantizer, FixedQuantizer):
            self._covers[ref.name] = covering(layer.quantizer.format())
        elif isinstance(layer, MOVING) and values[0].ref.name in self._covers:
            self._covers[ref.name] = self._covers[values[0].ref.name]

    def free_name(self, wanted: str) -> str:
        """`wanted`, or with a number behind it where it is taken."""
        name, number = wanted, 1
        while name in self._names:
            number += 1
            name = f"{wanted}_{number}"
        self._names.add(name)
        return name

    def model(self, outputs: list[Value]) -> keras.Model:
        """The finished model."""
        ends = [value.tensor for value in outputs]
        return keras.Model(self._inputs[0] if len(self._inputs) == 1 else self._inputs, ends[0] if len(ends) == 1 else ends, name=self.name)

    # ---- formats ----------------------------------------

    def format(self, value: Value) -> Fixed:
        """The narrowest format proven to hold each element of a quantized value."""
        name = value.ref.name
        if name not in self._formats:
            graph = self.builder.graph(value.ref)  # which names a port otherwise
            self._formats[name] = graph.formats()[graph.outputs[0]]
        return self._formats[name]

    def holding(self, value: Value, where: str) -> Fixed:
        """One format for all elements of a value that changes none of them.

        Raises:
            ConfigError: float32 cannot hold it.
        """
        fixed = self._covers.get(value.ref.name) or covering(self.format(value))
        if int(fixed.i + fixed.f) > SIGNIFICANT:
            raise ConfigError(
                "This value is too wide to be exact in float32, in which both models compute.",
                where=f"layer {where}, its input",
                expected=f"at most {SIGNIFICANT} bits without the sign",
                received=f"{int(fixed.i + fixed.f)} bits",
                fix="Put a quantizer before this layer in the original model: its own predictions are rounded there, too.",
            )
        return fixed


def covering(fixed: Fixed) -> Fixed:
    """The narrowest single format that holds everything that any element of `fixed` holds; one bit at least."""
    alive = fixed.width > 0
    if not alive.any():
        return Fixed(0, 1, 0)
    k, i, f = (int(part[alive].max()) for part in fixed.astuple())
    return Fixed(k, max(i, 1 - f), f)


def data_quantizer(fixed: Fixed, rounding: str = "RND_CONV", overflow: str = "SAT") -> str:
    """The string for a data quantizer with one format for all elements."""
    k, i, f = (int(part) for part in fixed.astuple())
    return f"kif(k0={k}, i0={i}, f0={f}, rounding={rounding}, overflow={overflow}, granularity=tensor)"


def widen(quantizer: FixedQuantizer, fixed: Fixed) -> None:
    """Let a data quantizer with one format, which changes nothing it has seen, change nothing of this format either."""
    present = quantizer.format()
    parts = [np.maximum(old.reshape(-1)[0], new) for old, new in zip(present.astuple(), fixed.astuple(), strict=True)]
    quantizer.set_format(Fixed(*parts))


def stock_layer(class_name: str, config: Mapping[str, Any]) -> keras.layers.Layer:
    """A layer of Keras' own from a configuration that Keras 2 or 3 wrote."""
    cls = getattr(keras.layers, class_name)
    known = {key: value for key, value in config.items() if key not in ("dtype", "batch_input_shape", "quantization_config")}
    return cls.from_config(known)
