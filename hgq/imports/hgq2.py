"""HGQ2 models (github.com/calad0i/HGQ2) from their ``.keras`` files, without HGQ2.

Its quantizers are ours in other words: bits k, i and f or b for each element, ``f = b - i``, and in inference 0 wherever k + i + f <= 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from hgq import layers
from hgq.errors import ConfigError
from hgq.imports.assembly import Assembly, Value, data_quantizer, stock_layer
from hgq.imports.constants import affine_layer, any_numbers
from hgq.imports.files import ModelFile
from hgq.imports.hgq2_bits import Bits, read_bits, set_bits
from hgq.imports.hgq2_tables import softmax, table
from hgq.imports.network import Entry
from hgq.imports.options import ImportOptions
from hgq.stock import FREEZERS

EPSILON = np.float32(1e-7)
"""Of HGQ2's fused batch normalisation: Keras' global one, whatever the layer says."""

MERGES = {"QAdd": "QAdd", "QSubtract": "QSubtract", "QMultiply": "QMultiply", "QMaximum": "QMaximum", "QMinimum": "QMinimum"}
POOLINGS = {
    f"Q{kind}{rank}D": f"{'Global' if 'Global' in kind else ''}MaxPooling{rank}D"
    for rank in (1, 2, 3)
    for kind in ("MaxPooling", "MaxPool", "GlobalMaxPooling", "GlobalMaxPool")
}


@dataclass
class Importer:
    """One import of an HGQ2 model."""

    file: ModelFile
    assembly: Assembly
    options: ImportOptions
    notes: list[str] = field(default_factory=list)
    _made: dict[str, tuple[keras.layers.Layer, Callable[[Any], None] | None]] = field(default_factory=dict)

    def call(self, entry: Entry, values: list[Value]) -> Value:
        """One call of one layer.

        Raises:
            ConfigError: the layer, or one of its arguments, cannot be had.
        """
        prepare = None
        if entry.name not in self._made:
            self._made[entry.name] = self._make(entry, values)
            prepare = self._made[entry.name][1]
        return self.assembly.apply(self._made[entry.name][0], *values, prepare=prepare)

    def _make(self, entry: Entry, values: list[Value]) -> tuple[keras.layers.Layer, Callable[[Any], None] | None]:
        if entry.class_name in _MAKERS:
            return _MAKERS[entry.class_name](self, entry, values)
        cls = getattr(keras.layers, entry.class_name, None)
        if entry.package == "keras" and cls in FREEZERS:
            return stock_layer(entry.class_name, entry.config), None
        raise ConfigError(
            "This layer of HGQ2 cannot be imported.",
            where=f"layer {entry.name}",
            expected=", ".join([*_MAKERS, *sorted(cls.__name__ for cls in FREEZERS)]),
            received=f"{entry.package}.{entry.class_name}",
            fix="Build this part from hgq.layers (QMultiHeadAttention, QGRU, QTable, …), with the same weights, and train it some epochs.",
        )

    # ---- quantizers ----------------------------------------

    def data_bits(self, entry: Entry, part: str) -> Bits | None:
        """The quantizer of data under `part` (``"iq"``, ``"oq"``); None where it is switched off."""
        if not entry.config.get(f"enable_{part}", True) or entry.config.get(f"{part}_conf") is None:
            return None
        return read_bits(self.file, entry, part, entry.config[f"{part}_conf"], data=True)

    def input(self, entry: Entry, value: Value, bits: Bits | None) -> str:
        """The string for an input's quantizer; without one of HGQ2's, one that changes nothing."""
        return bits.data() if bits is not None else data_quantizer(self.assembly.holding(value, entry.name))


def _activation(entry: Entry) -> str:
    name = entry.config.get("activation") or "linear"
    if name not in ("linear", "relu", "relu6"):
        raise ConfigError(
            "This activation of HGQ2 is no fixed-point function.",
            where=f"layer {entry.name}",
            expected="linear, relu or relu6",
            received=repr(name),
            fix="Train with QUnaryFunctionLUT's equal hgq.layers.QTable.",
        )
    return name


def _kernel_layer(importer: Importer, entry: Entry, values: list[Value]) -> tuple[keras.layers.Layer, Callable[[Any], None]]:
    config = entry.config
    fused = entry.class_name == "QEinsumDenseBatchnorm"
    if fused:
        found = importer.file.weights(entry, ["kernel", "beta", "gamma", "beta0", "ebops", "moving_mean", "moving_variance"])
        scale = (found["gamma"] / np.sqrt(found["moving_variance"] + EPSILON)).astype(np.float32)
        bias = (found["beta"] - found["moving_mean"] * scale).astype(np.float32)
        w = (found["kernel"] * scale).astype(np.float32)
    else:
        has_bias = config["bias_axes"] is not None if "bias_axes" in config else config.get("use_bias", True)
        found = importer.file.weights(entry, ["kernel", "bias"] if has_bias else ["kernel"])
        w, bias = found["kernel"], found.get("bias")
    kernel = read_bits(importer.file, entry, "kq", config["kq_conf"], data=False).weight(w)
    offset = None if bias is None else read_bits(importer.file, entry, "bq", config["bq_conf"], data=False).weight(bias, "bias")
    before, behind = importer.data_bits(entry, "iq"), importer.data_bits(entry, "oq")
    arguments: dict[str, Any]
    if entry.class_name == "QDense":
        cls, arguments = layers.QDense, {"units": config["units"]}
    elif "Einsum" in entry.class_name:
        shape = config["output_shape"]
        arguments = {"equation": config["equation"], "output_shape": tuple(shape) if isinstance(shape, list) else shape}
        cls, arguments = layers.QEinsumDense, {**arguments, "bias_axes": config["bias_axes"]}
    else:
        names = ("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups", "data_format")
        cls, arguments = getattr(layers, entry.class_name), {name: config[name] for name in names if config.get(name) is not None}
    if cls is not layers.QEinsumDense:
        arguments["use_bias"] = offset is not None
    layer = cls(
        **arguments,
        activation=_activation(entry),
        kernel_quantizer=kernel.identifier,
        bias_quantizer=offset.identifier if offset is not None else "bias",
        input_quantizer=importer.input(entry, values[0], before),
        output_quantizer=behind.data() if behind is not None else None,
        name=importer.assembly.free_name(entry.name),
    )

    def prepare(layer: Any) -> None:
        layer.kernel.assign(kernel.settle(layer.kernel_quantizer, layer.arranged))
        if offset is not None:
            layer.bias.assign(offset.settle(layer.bias_quantizer))
        set_bits(layer.input_quantizer, before)
        set_bits(layer.output_quantizer, behind)

    return layer, prepare


def _merge(importer: Importer, entry: Entry, values: list[Value]) -> tuple[keras.layers.Layer, Callable[[Any], None]]:
    names = [f"iq/quantizers/quantizer{f'_{number}' if number else ''}" for number in range(len(values))]
    given = entry.config.get("iq_confs") or ()
    configs = list(given) if len(given) == len(values) else [*given[:1]] * len(values)
    found: list[Bits | None] = [None] * len(values)
    if configs and entry.config.get("enable_iq", True):
        found = [read_bits(importer.file, entry, name, config, data=True) for name, config in zip(names, configs, strict=True)]
    behind = importer.data_bits(entry, "oq")
    layer = getattr(layers, entry.class_name)(
        input_quantizers=[importer.input(entry, value, bits) for value, bits in zip(values, found, strict=True)],
        output_quantizer=behind.data() if behind is not None else None,
        name=importer.assembly.free_name(entry.name),
    )

    def prepare(layer: Any) -> None:
        for quantizer, bits in zip(layer.input_quantizers, found, strict=True):
            set_bits(quantizer, bits)
        set_bits(layer.output_quantizer, behind)

    return layer, prepare


def _batch_norm(importer: Importer, entry: Entry, values: list[Value]) -> tuple[keras.layers.Layer, Callable[[Any], None]]:
    config = entry.config
    names = [*(["gamma"] if config["scale"] else []), *(["beta"] if config["center"] else []), "moving_mean", "moving_variance"]
    if len(names) < 4:
        raise ConfigError("HGQ2 itself gets a batch normalisation without center or scale wrong.", where=f"layer {entry.name}")
    found = importer.file.weights(entry, names)
    scale = (found["gamma"] / np.sqrt(found["moving_variance"] + np.float32(config["epsilon"]))).astype(np.float32)
    offset = (found["beta"] - found["moving_mean"] * scale).astype(np.float32)
    kernel = read_bits(importer.file, entry, "kq", config["kq_conf"], data=False).quantize(scale)
    bias = read_bits(importer.file, entry, "bq", config["bq_conf"], data=False).quantize(offset)
    before, behind = importer.data_bits(entry, "iq"), importer.data_bits(entry, "oq")
    part, set_constants = affine_layer(
        any_numbers(kernel, kernel),
        any_numbers(bias, bias),
        input_quantizer=importer.input(entry, values[0], before),
        output_quantizer=behind.data() if behind is not None else None,
        name=importer.assembly.free_name(entry.name),
    )

    def prepare(layer: Any) -> None:
        set_constants(layer)
        set_bits(layer.input_quantizer, before)
        set_bits(layer.output_quantizer, behind)

    return part, prepare


def _quantizer(importer: Importer, entry: Entry, values: list[Value]) -> tuple[keras.layers.Layer, Callable[[Any], None]]:
    config = next(value for value in entry.config.values() if isinstance(value, Mapping) and value.get("class_name") == "QuantizerConfig")
    bits = read_bits(importer.file, entry, "", config, data=True)
    layer = layers.QActivation("linear", bits.data(), name=importer.assembly.free_name(entry.name))
    return layer, lambda made: set_bits(made.quantizer, bits)


def _pool(importer: Importer, entry: Entry, values: list[Value]) -> tuple[keras.layers.Layer, Callable[[Any], None]]:
    bits = importer.data_bits(entry, "iq")
    names = ("pool_size", "strides", "padding", "keepdims")
    arguments = {name: entry.config[name] for name in names if name in entry.config}
    cls = getattr(layers, f"Q{POOLINGS[entry.class_name]}")
    layer = cls(**arguments, quantizer=bits.data() if bits is not None else None, name=importer.assembly.free_name(entry.name))
    return layer, lambda made: set_bits(made.quantizer, bits)


_MAKERS: dict[str, Callable[[Importer, Entry, list[Value]], tuple[keras.layers.Layer, Callable[[Any], None]]]] = {
    **dict.fromkeys(("QDense", "QEinsumDense", "QEinsumDenseBatchnorm", "QConv1D", "QConv2D", "QConv3D"), _kernel_layer),
    **dict.fromkeys(MERGES, _merge),
    **dict.fromkeys(POOLINGS, _pool),
    "QBatchNormalization": _batch_norm,
    "Quantizer": _quantizer,
    "QUnaryFunctionLUT": table,
    "QSoftmax": softmax,
}


def convert(file: ModelFile, options: ImportOptions) -> tuple[keras.Model, list[str]]:
    """An HGQ2 model as one of ours that predicts the same numbers.

    Raises:
        ConfigError: something in it cannot be had; the message says what.
        FileFormatError: the file lacks something.
    """
    network = file.network
    importer = Importer(file, Assembly(network.name), options)
    by_name, values = {entry.name: entry for entry in network.entries}, {}
    for key in network.inputs:
        values[key] = importer.assembly.input(key[0], tuple(by_name[key[0]].config["batch_shape"][1:]))
    for entry, number, keys in network.calls():
        if entry.class_name != "InputLayer":
            values[entry.name, number, 0] = importer.call(entry, [values[key] for key in keys])
    return importer.assembly.model([values[key] for key in network.outputs]), importer.notes
