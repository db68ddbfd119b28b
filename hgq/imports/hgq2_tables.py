"""HGQ2's lookup tables, and its softmax, which is made of two.

HGQ2 computes a function in float32 where we compute it in float64: behind the table's quantizer both are nearly always the same number.
Every entry is compared, so that a model that is imported predicts what HGQ2 predicts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from hgq import layers
from hgq.errors import ConfigError
from hgq.imports.hgq2_bits import read_bits, set_bits
from hgq.imports.network import Entry
from hgq.ir import tables
from hgq.layers import functions
from hgq.layers.function_table import LONGEST, FunctionTable
from hgq.numerics import Fixed

if TYPE_CHECKING:
    from hgq.imports.assembly import Value
    from hgq.imports.hgq2 import Importer

EPSILON = 1e-7
"""What HGQ2's softmax adds to its sum: Keras' global epsilon."""

Prepare = Callable[[Any], None]


def table(importer: Importer, entry: Entry, values: list[Value]) -> tuple[keras.layers.Layer, Prepare]:
    """``QUnaryFunctionLUT`` as a `QTable`.

    Raises:
        ConfigError: another function, no quantizer behind it, or an entry that float32 makes another one.
    """
    name, before, behind = entry.config.get("activation"), importer.data_bits(entry, "iq"), importer.data_bits(entry, "oq")
    if not functions.known(name) or behind is None or before is None:
        raise ConfigError(
            "This table of HGQ2 cannot be imported.",
            where=f"layer {entry.name}",
            expected=f"{', '.join(sorted(functions.FUNCTIONS))}; enable_iq and enable_oq",
            received=f"{name!r}, enable_iq={before is not None}, enable_oq={behind is not None}",
            fix="Train with hgq.layers.QTable and this function, with the same weights.",
        )
    layer = layers.QTable(name, input_quantizer=before.data(), output_quantizer=behind.data(), name=importer.assembly.free_name(entry.name))

    def prepare(layer: Any) -> None:
        set_bits(layer.input_quantizer, before)
        set_bits(layer.output_quantizer, behind)
        _compare(layer.table, keras.activations.get(name), f"layer {entry.name}")

    return layer, prepare


def softmax(importer: Importer, entry: Entry, values: list[Value]) -> tuple[keras.layers.Layer, Prepare]:
    """``QSoftmax`` as ours, whose parts are the same.

    Raises:
        ConfigError: an entry of a table that float32, or HGQ2's epsilon, makes another one.
    """
    config, scale = entry.config, float(entry.config.get("input_scaler", 1.0))
    stable = bool(config["stable"])
    parts = {"exp_output": "exp_table/oq", "inverse_input": "inv_table/iq", "inverse_output": "inv_table/oq"}
    parts |= {"exp_input": "exp_table/iq"} if stable else {}
    found = {name: read_bits(importer.file, entry, part, config[f"{part[:3]}_{part[-2:]}_conf"], data=True) for name, part in parts.items()}
    before, behind = importer.data_bits(entry, "iq"), importer.data_bits(entry, "oq")
    layer = layers.QSoftmax(
        axis=tuple(config["axes"]),
        stable=stable,
        input_scale=scale,
        input_quantizer=importer.input(entry, values[0], before),
        output_quantizer=behind.data() if behind is not None else None,
        name=importer.assembly.free_name(entry.name),
        **{f"{name}_quantizer": bits.data() for name, bits in found.items()},
    )

    def exponential(x: Any) -> Any:
        return keras.ops.exp(-x * scale if stable else x * scale)

    def prepare(layer: Any) -> None:
        if stable:
            set_bits(layer.input_quantizer, before)
            set_bits(layer.exponential.input_quantizer, found["exp_input"])
        else:
            set_bits(layer.exponential.input_quantizer, before)
        set_bits(layer.exponential.output_quantizer, found["exp_output"])
        set_bits(layer.inverse.input_quantizer, found["inverse_input"])
        set_bits(layer.inverse.output_quantizer, found["inverse_output"])
        set_bits(layer.output_quantizer, behind)
        _compare(layer.exponential, exponential, f"layer {entry.name}, exp_table")
        _compare(layer.inverse, lambda x: 1.0 / (x + EPSILON), f"layer {entry.name}, inv_table")

    return layer, prepare


def _compare(made: FunctionTable, theirs: Callable[[Any], Any], where: str) -> None:
    """Refuse a table with an entry that is not what HGQ2's float32 makes."""
    wrong, entries = 0, 0
    for given, result in _formats(made):
        x = given.reshape((1,)).value(tables.mantissas(given.reshape((1,)))).ravel() if given.width.max() > 0 else np.zeros(1)
        other = np.asarray(theirs(tf.constant(x, tf.float32)), np.float32)
        ours = functions.values_of(made.fn, x)
        wrong += int(np.count_nonzero(_quantized(made, result, ours) != _quantized(made, result, other)))
        entries += x.size
    if wrong:
        raise ConfigError(
            "HGQ2's float32 makes other numbers of this table than the function has.",
            where=where,
            expected="the same entries",
            received=f"{wrong} of {entries} differ in the last bit",
            fix="Take a bit less from the table's output in HGQ2, or build this part from hgq.layers and train it for a few epochs.",
        )


def _formats(made: FunctionTable) -> list[tuple[Fixed, Fixed]]:
    """Every pair of an input's and an output's format that some element has."""
    given, result = made.input_quantizer.format(), made.output_quantizer.format()
    shape = np.broadcast_shapes(given.shape, result.shape)
    rows = np.stack([part.ravel() for fixed in (given, result) for part in fixed.broadcast_to(shape).astuple()])
    if (given.width > LONGEST).any():
        raise ConfigError(
            "A table of HGQ2 has too many entries.", where=made.owner, expected=f"{LONGEST} bits", received=f"{int(given.width.max())} bits"
        )
    return [(Fixed(*row[:3]), Fixed(*row[3:])) for row in np.unique(rows, axis=1).T]


def _quantized(made: FunctionTable, result: Fixed, values: NDArray[Any]) -> NDArray[np.int64]:
    quantizer = made.output_quantizer
    return result.broadcast_to(values.shape).quantize(np.clip(values, -(2.0**30), 2.0**30), quantizer.frozen_rounding, quantizer.overflow)
