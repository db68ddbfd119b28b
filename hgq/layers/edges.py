"""Layers of learned tables: each edge from an input to an output is a function of one number that becomes a lookup table.

The idea is HGQ-LUT's (arXiv:2604.22293), in the line of Kolmogorov-Arnold networks (arXiv:2404.19756) and their tables in FPGAs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from hgq.errors import ConfigError, FreezeError
from hgq.gradients import Identifier as GradientIdentifier
from hgq.gradients import get as get_scheme
from hgq.ir import tables, windows
from hgq.layers.base import QLayer, constant_to_ir, quantize_to_ir
from hgq.layers.conv import check_channels_last, checked_axes, checked_padding, per_axis, windowed
from hgq.layers.dense import checked_units
from hgq.layers.function_table import LONGEST, fixed_point
from hgq.numerics import Fixed
from hgq.quantizers import FixedQuantizer, Identifier, serialize
from hgq.quantizers.constraints import Between
from hgq.resources import ebops

if TYPE_CHECKING:
    from hgq.ir.build import GraphBuilder, Ref

INDEX = "data(rounding=TRN, f0=3)"
"""Quantizer before each table unless told otherwise: cutting bits off and wrapping are free, and the table learns what was cut."""

RESULT = "data(overflow=SAT, i0=0, f0=5)"
"""Quantizer behind each table unless told otherwise; saturating is free inside."""

LARGEST, GRID = 16.0, 2.0**16
"""Inference takes weights of edges up to this, rounded to this many steps a unit; hidden values up to ``64 * LARGEST``."""


class QEdges(QLayer):
    r"""Base class of `QDenseT` and `QConv1DT`, `QConv2DT`: ``y[j] = sum over i of table[i, j](x[i]) + bias[j]``.

    The function of edge (i, j) is a network with one hidden layer, as many ReLUs as `hidden`, and a straight line beside them::

        f(x) = table_quantizer(slope x + sum over h of v[h] (relu(w[h] x' + b[h]) - relu(b[h]))),  x' = edge_quantizer(input_quantizer(x))

    with ``f(0) = 0``, so an edge without bits before or behind its table is nothing. In hardware it is a table of ``2**bits`` entries.

    Inference computes f in float64 from weights rounded to ``2**-16``: everything in it is then exact, on any device and in any order of
    summation, and so equals the frozen table. Training computes it in float32 from the weights as they are.

    An edge costs the LUTs of its table (`hgq.resources.ebops.table`), a sum the bits of what it adds.

    Args:
        units: Outputs.
        hidden: ReLUs of an edge.
        use_bias: Whether there is a bias.
        input_quantizer: What `hgq.quantizers.get` takes, but not None: the wires that all edges of an input read.
        edge_quantizer: The same, for the index of each table; fixed-point.
        table_quantizer: The same, for the result of each table; fixed-point.
        bias_quantizer: The same.
        gradients: None: there is no product of data with a kernel.
        beta: Loss per EBOP.

    Raises:
        ConfigError: an argument means nothing.
        FreezeError: when frozen, a table with an index of more than 16 bits.
    """

    def __init__(
        self,
        units: int,
        hidden: int = 4,
        use_bias: bool = True,
        *,
        input_quantizer: Identifier = "data",
        edge_quantizer: Identifier = INDEX,
        table_quantizer: Identifier = RESULT,
        bias_quantizer: Identifier = "bias",
        gradients: GradientIdentifier = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if get_scheme(gradients) is not None:
            raise ConfigError(
                f"The gradients of {type(self).__name__} are computed in float32: it has no product of data with a kernel.",
                where=f"layer {self.name}",
                expected="gradients=None: each edge is a function of one number, and its backward pass works element by element",
                received=repr(gradients),
            )
        self.units = checked_units(units, self.name)
        self.hidden = checked_units(hidden, self.name, "hidden")
        self.use_bias = bool(use_bias)
        self.input_quantizer = self._required_quantizer(input_quantizer, "data", "input_quantizer")
        self.edge_quantizer = self._fixed(edge_quantizer, "edge_quantizer")
        self.table_quantizer = self._fixed(table_quantizer, "table_quantizer")
        self.bias_quantizer = self._required_quantizer(bias_quantizer, "bias", "bias_quantizer") if use_bias else None

    def _fixed(self, identifier: Identifier, argument: str) -> FixedQuantizer:
        return fixed_point(self._required_quantizer(identifier, "data", argument), f"layer {self.name}, {argument}")

    # ---- what a subclass writes ----------------------------------------

    def rows_shape(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Positions and inputs of each, for data of this shape without batch."""
        raise NotImplementedError(f"{type(self).__name__} defines no rows_shape().")

    def rows(self, x):
        """Data (batch, …) as (batch * positions, inputs)."""
        raise NotImplementedError(f"{type(self).__name__} defines no rows().")

    def rows_to_ir(self, b: GraphBuilder, x: Ref) -> Ref:
        """The same as nodes, (positions, inputs)."""
        raise NotImplementedError(f"{type(self).__name__} defines no rows_to_ir().")

    # ---- what follows ----------------------------------------

    def build(self, input_shape) -> None:
        self._shape = self._positions_shape(input_shape)
        self._positions, inputs = self.rows_shape(self._shape)
        self._edges = (inputs, self.units)
        self._output = tuple(self.compute_output_shape(input_shape)[1:])
        edges, hidden = self._edges, (*self._edges, self.hidden)

        def weight(name, shape, initializer):
            return self.add_weight(name=name, shape=shape, initializer=initializer, constraint=Between(-LARGEST, LARGEST))

        spread = keras.initializers.RandomUniform(-2.0, 2.0)
        self.slope = weight("slope", edges, "glorot_uniform")
        self.w = weight("w", hidden, keras.initializers.RandomNormal(stddev=1.0))
        self.b = weight("b_hidden", hidden, spread)
        self.v = weight("v", hidden, keras.initializers.RandomNormal(stddev=0.5 / math.sqrt(inputs * self.hidden)))
        self.input_quantizer.build(input_shape)
        self.edge_quantizer.build((None, *edges))  # positions share the edges
        self.table_quantizer.build((None, *edges))
        if self.bias_quantizer is not None:
            self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")
            self.bias_quantizer.build_for(self.bias)
        self.built = True

    def forward(self, inputs, training=None):
        rows = self.rows(self.input_quantizer(inputs, training=training))
        index = self.edge_quantizer(tf.repeat(rows[:, :, None], self.units, axis=2), training=training)
        weights = [tf.convert_to_tensor(part) for part in (self.slope, self.w, self.b, self.v)]
        if training:
            values = _network(index, *weights, relu=tf.nn.relu, total=tf.reduce_sum)
        else:
            exact = _exact_weights([tf.cast(part, tf.float64) for part in weights], tf.round, tf.clip_by_value)
            values = tf.cast(_exact_network(tf.cast(index, tf.float64), exact, tf), tf.float32)
        y = tf.reduce_sum(self.table_quantizer(values, training=training), axis=1)
        if self.bias_quantizer is not None:
            y = y + self.bias_quantizer(tf.convert_to_tensor(self.bias), training=training)
        return tf.reshape(y, (-1, *self._output))

    def cost(self):
        bits_x = self.edge_quantizer.bits(self._edges)
        bits_y = self.table_quantizer.bits(self._edges) * tf.cast(bits_x > 0, tf.float32)
        adders, _ = ebops.reduced(bits_y, (0,), total=tf.reduce_sum, xp=tf)
        cost = ebops.table(bits_x, bits_y, total=tf.reduce_sum) + adders
        if self.bias_quantizer is not None:
            cost = cost + tf.reduce_sum(self.bias_quantizer.effective_bits(self.bias))
        return cost * float(self._positions)

    def to_ir(self, b: GraphBuilder, *inputs: Ref) -> Ref:
        (x,) = inputs
        rows = self.rows_to_ir(b, quantize_to_ir(b, self.input_quantizer, x, "iq"))
        spread = b.op("take", b.op("reshape", rows, shape=(*rows.shape, 1)), axis=2, indices=(0,) * self.units)
        index = quantize_to_ir(b, self.edge_quantizer, spread, "index")
        fixed = self.edge_quantizer.format().broadcast_to(self._edges)
        if fixed.width.max(initial=0) > LONGEST:
            raise FreezeError(
                "The index of a table has too many bits.",
                where=f"layer {self.name}",
                expected=f"at most {LONGEST}: {1 << LONGEST} entries",
                received=f"{int(fixed.width.max())} bits",
                fix="Give edge_quantizer fewer bits, by f0 or by bounds such as f_bounds=(-4, 6).",
            )
        mantissa, result = self.edge_tables(fixed)
        values = b.lookup(index, mantissa, result, fixed.broadcast_to(tuple(index.shape)), name="table")
        y = b.op("reduce_sum", values, axes=(1,), name="sum")
        y = b.op("reshape", y, shape=self._output)
        if self.bias_quantizer is None:
            return y
        return b.op("add", y, constant_to_ir(b, self.bias_quantizer, self.bias, "bias"), name="add")

    def edge_tables(self, fixed: Fixed) -> tuple[np.ndarray, Fixed]:
        """Entries of all tables, (inputs, units, entries), for indices of formats `fixed`, and their formats."""
        index = np.moveaxis(fixed.reshape((*self._edges, 1)).value(tables.mantissas(fixed)), -1, 0)
        weights = [np.asarray(part, np.float64) for part in (self.slope, self.w, self.b, self.v)]
        exact = _exact_weights(weights, np.rint, np.clip)
        values = np.stack([_exact_network(row, exact, np).astype(np.float32) for row in index], axis=-1)
        result = self.table_quantizer.format().broadcast_to(self._edges)
        alive = (fixed.width > 0) & (result.width > 0)
        result = Fixed(*(np.where(alive, part, 0) for part in result.astuple()))
        result = result.reshape((*self._edges, 1)).broadcast_to(values.shape)
        return result.quantize(values, self.table_quantizer.frozen_rounding, self.table_quantizer.overflow), result

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "units": self.units,
            "hidden": self.hidden,
            "use_bias": self.use_bias,
            "input_quantizer": serialize(self.input_quantizer),
            "edge_quantizer": serialize(self.edge_quantizer),
            "table_quantizer": serialize(self.table_quantizer),
            "bias_quantizer": serialize(self.bias_quantizer) or "bias",
        }


def _network(x, slope, w, b, v, *, relu, total):
    """The functions of all edges: x (…, inputs, units)."""
    return slope * x + total(v * (relu(x[..., None] * w + b) - relu(b)), -1)


def _exact_weights(weights: Sequence[Any], rounded, clip) -> list[Any]:
    """Weights that float64 computes exactly with: at most 21 significant bits."""
    return [rounded(clip(part, -LARGEST, LARGEST) * GRID) / GRID for part in weights]


def _exact_network(x, weights: Sequence[Any], xp: Any):
    """`_network` in float64, in NumPy or TensorFlow alike: products of at most 26 and 21 bits, whose sums stay below 53."""
    rounded, clip, total = (tf.round, tf.clip_by_value, tf.reduce_sum) if xp is tf else (np.rint, np.clip, np.sum)

    def relu(z):
        return rounded(clip(z, 0.0, 64.0 * LARGEST) * GRID) / GRID

    return _network(x, *weights, relu=relu, total=total)


@keras.saving.register_keras_serializable(package="hgqc")
class QDenseT(QEdges):
    """`QEdges` from every element of the last axis to every output; the axes before it are positions that share the tables.

    Args:
        units: Outputs.
        hidden: ReLUs of an edge.
        use_bias: Whether there is a bias.
        **kwargs: Those of `QEdges`.
    """

    def rows_shape(self, shape):
        return math.prod(shape[:-1]), shape[-1]

    def rows(self, x):
        return tf.reshape(x, (-1, self._shape[-1]))

    def rows_to_ir(self, b, x):
        return b.op("reshape", x, shape=(self._positions, self._shape[-1]))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)


class QConvT(QEdges):
    """`QEdges` from every element of a window to every filter; all windows share the tables. Use `QConv1DT` or `QConv2DT`.

    Args:
        filters: Output channels.
        kernel_size: Taps along each axis; a number for the same along all.
        strides: Steps between windows.
        padding: ``"valid"``, ``"same"`` or, with one axis, ``"causal"``; pads with zeros.
        dilation_rate: Steps between taps.
        hidden: ReLUs of an edge.
        use_bias: Whether there is a bias.
        data_format: None or ``"channels_last"``.
        **kwargs: Those of `QEdges`.
    """

    rank = 0

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        dilation_rate: int | Sequence[int] = 1,
        hidden: int = 4,
        use_bias: bool = True,
        *,
        data_format: str | None = None,
        **kwargs,
    ) -> None:
        super().__init__(filters, hidden, use_bias, **kwargs)
        self.kernel_size = per_axis(kernel_size, self.rank, "kernel_size", self.name)
        self.strides = per_axis(strides, self.rank, "strides", self.name)
        self.dilation_rate = per_axis(dilation_rate, self.rank, "dilation_rate", self.name)
        self.padding = checked_padding(padding, ("valid", "same", "causal") if self.rank == 1 else ("valid", "same"), self.name)
        check_channels_last(data_format, self.name)

    def rows_shape(self, shape):
        sizes, channels = checked_axes(shape, self.rank, self)[:-1], shape[-1]
        self._windows = windowed(sizes, self.kernel_size, self.strides, self.dilation_rate, self.padding, self.name)
        self._padding = windows.padding_of(self.padding, sizes, self.kernel_size, self.strides, self.dilation_rate)
        return math.prod(self._windows), math.prod(self.kernel_size) * channels

    def _indices(self, axis: int) -> list[int]:
        """What all windows read along an axis of the padded data, window by window."""
        stride, dilation = self.strides[axis], self.dilation_rate[axis]
        return [window * stride + tap * dilation for window in range(self._windows[axis]) for tap in range(self.kernel_size[axis])]

    def _apart(self) -> tuple[list[int], list[int]]:
        """Shape after reading, windows and taps of each axis apart, and the order that brings all windows before all taps."""
        shape = [size for pair in zip(self._windows, self.kernel_size, strict=True) for size in pair]
        order = [*range(0, 2 * self.rank, 2), *range(1, 2 * self.rank, 2), 2 * self.rank]
        return [*shape, self._shape[-1]], order

    def rows(self, x):
        x = tf.pad(x, [(0, 0), *self._padding, (0, 0)])
        for axis in range(self.rank):
            x = tf.gather(x, self._indices(axis), axis=axis + 1)
        shape, order = self._apart()
        x = tf.transpose(tf.reshape(x, (-1, *shape)), (0, *(axis + 1 for axis in order)))
        return tf.reshape(x, (-1, self._edges[0]))

    def rows_to_ir(self, b, x):
        if any(map(any, self._padding)):
            x = b.op("pad", x, widths=(*self._padding, (0, 0)))
        for axis in range(self.rank):
            x = b.op("take", x, axis=axis, indices=tuple(self._indices(axis)))
        shape, order = self._apart()
        x = b.op("transpose", b.op("reshape", x, shape=tuple(shape)), axes=tuple(order))
        return b.op("reshape", x, shape=(self._positions, self._edges[0]))

    def compute_output_shape(self, input_shape):
        sizes = windowed(tuple(input_shape[1:-1]), self.kernel_size, self.strides, self.dilation_rate, self.padding, self.name)
        return (input_shape[0], *sizes, self.units)

    def get_config(self) -> dict:
        config = super().get_config()
        config["filters"] = config.pop("units")
        own = ("kernel_size", "strides", "padding", "dilation_rate")
        return {**config, **{name: getattr(self, name) for name in own}}


@keras.saving.register_keras_serializable(package="hgqc")
class QConv1DT(QConvT):
    """`QConvT` over one axis: input (batch, steps, channels)."""

    rank = 1


@keras.saving.register_keras_serializable(package="hgqc")
class QConv2DT(QConvT):
    """`QConvT` over two axes: input (batch, height, width, channels)."""

    rank = 2
