"""QKeras' layers as layers of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from hgq import layers
from hgq.errors import ConfigError
from hgq.imports.assembly import Assembly, Value, data_quantizer, stock_layer, widen
from hgq.imports.constants import Fitted, affine_layer, any_numbers, on_grid, rounded, significant_bits
from hgq.imports.files import ModelFile
from hgq.imports.network import Entry
from hgq.imports.options import SOFT_HEADS, ImportOptions
from hgq.imports.qkeras.activations import quantize_data
from hgq.imports.qkeras.constants import quantized
from hgq.imports.qkeras.identifiers import QKerasQuantizer, parse
from hgq.stock import FREEZERS

EXACT_BITS = 8
"""Most significant bits of a number that QKeras keeps in float32 and that hardware can have as it is: alpha=0.75, say."""


RECURRENT = (
    "QKeras quantizes a state where the next step reads it, not where it is written: other numbers than those of hgq.layers' QSimpleRNN, "
    "QGRU and QLSTM. Build it from these, with the same weights, and train it for a few epochs."
)


@dataclass
class Importer:
    """One import of a QKeras model.

    Args:
        file: The model.
        assembly: What it becomes.
        options: What the user decided.

    Attributes:
        notes: What the user should know about the result.
    """

    file: ModelFile
    assembly: Assembly
    options: ImportOptions
    notes: list[str] = field(default_factory=list)
    _made: dict[str, keras.layers.Layer] = field(default_factory=dict)
    _ports: dict[str, Value] = field(default_factory=dict)

    def call(self, entry: Entry, values: list[Value], last: bool) -> Value:
        """One call of one layer; `last`: nothing reads its result but the model's output.

        Raises:
            ConfigError: the layer, or one of its arguments, cannot be had.
        """
        if entry.class_name == "QActivation":
            return self._activation(entry, entry.config["activation"], values[0], last)
        if entry.class_name == "Activation" and not _is_plain(entry.config["activation"]):
            return self._activation(entry, entry.config["activation"], values[0], last)
        if entry.class_name in TRANSLATORS:
            value = TRANSLATORS[entry.class_name](self, entry, self.ported(values[0], entry))
            return self._activation(entry, entry.config.get("activation"), value, last, suffix="_activation")
        return self._stock(entry, [self.ported(value, entry) for value in values], last)

    # ---- inputs ----------------------------------------

    def ported(self, value: Value, entry: Entry) -> Value:
        """`value`, behind a quantizer of the user's if it comes from outside and nothing has quantized it."""
        if not value.raw or entry.class_name in ("Flatten", "Reshape"):
            return value
        if value.ref.name not in self._ports:
            layer = layers.QInput(self.options.input_quantizer, name=self.assembly.free_name(f"{value.ref.name}_port"))
            self._ports[value.ref.name] = self.assembly.apply(layer, value)
            self.notes.append(
                f"input {value.ref.name}: the original reads float32, this model {self.options.input_quantizer}; predictions are equal for "
                "numbers on that grid."
            )
        return self._ports[value.ref.name]

    # ---- activations ----------------------------------------

    def _activation(self, entry: Entry, identifier: Any, value: Value, last: bool, suffix: str = "") -> Value:
        where, name = f"layer {entry.name}, activation", entry.name + suffix
        plain = identifier if isinstance(identifier, str) and identifier in ("relu", *SOFT_HEADS) else None
        if plain == "relu":
            return self.assembly.apply(keras.layers.ReLU(name=self.assembly.free_name(name)), self.ported(value, entry))
        if plain is not None:
            return self._head(entry, plain, value, last)
        q = parse(identifier, where)
        return value if q is None else quantize_data(self.assembly, value, q, name)

    def _head(self, entry: Entry, function: str, value: Value, last: bool) -> Value:
        if last and self.options.drop_head:
            self.notes.append(f"layer {entry.name}: its {function} is left out; the model gives the numbers before it.")
            return value
        raise ConfigError(
            f"A {function} in float32 has no fixed-point equal.",
            where=f"layer {entry.name}",
            expected="quantized activations",
            received=function,
            fix="Leave it out with drop_head=True (--drop-head): it changes no ranking, and a host can compute it."
            if last
            else "Train with quantized_sigmoid, or end the model here.",
        )

    # ---- layers of Keras' own ----------------------------------------

    def _stock(self, entry: Entry, values: list[Value], last: bool) -> Value:
        if entry.class_name == "Softmax":
            return self._head(entry, "softmax", values[0], last)
        cls = getattr(keras.layers, entry.class_name, None)
        if cls not in FREEZERS:
            raise ConfigError(
                "This layer cannot be imported.",
                where=f"layer {entry.name}",
                expected=", ".join([*TRANSLATORS, "QActivation", *sorted(cls.__name__ for cls in FREEZERS)]),
                received=f"{entry.package}.{entry.class_name}",
                fix=RECURRENT
                if entry.class_name in ("QSimpleRNN", "QLSTM", "QGRU", "QBidirectional")
                else "Replace it by a quantized layer, retrain for a few epochs, and import again.",
            )
        if entry.name not in self._made:
            self._made[entry.name] = stock_layer(entry.class_name, {**entry.config, "name": self.assembly.free_name(entry.name)})
        return self.assembly.apply(self._made[entry.name], *values)

    # ---- layers with weights ----------------------------------------

    def constants(self, q: QKerasQuantizer | None, w: np.ndarray, where: str) -> Fitted:
        """Weights behind a quantizer of QKeras, or behind none.

        Raises:
            ConfigError: they are real numbers, and the user did not allow to round them.
        """
        if q is None:
            return any_numbers(self.real(w, f"{where}, which has no quantizer"), w)
        found = quantized(q, w)
        if found.grid is not None:
            fitted = on_grid(found.values, w, found.grid.step, found.grid.low, found.grid.high)
            if fitted is not None:
                return fitted
        return any_numbers(self.real(found.values, f"{where}, {q.name} with alpha={q['alpha']!r}"), w)

    def real(self, values: np.ndarray, where: str) -> np.ndarray:
        """Numbers that float32 arithmetic of the original left arbitrary: as they are if short, else rounded as the user allows.

        Raises:
            ConfigError: they are long, and the user did not allow it.
        """
        bits = significant_bits(values)
        if bits <= EXACT_BITS:
            return values
        if self.options.float_bits is None:
            raise ConfigError(
                "QKeras computes with real numbers here, not with fixed-point ones: hardware cannot have them as they are.",
                where=where,
                expected=f"numbers of at most {EXACT_BITS} significant bits, as with alpha=None, a power of two, or 'auto_po2'",
                received=f"numbers of up to {bits} significant bits",
                fix="Train with alpha='auto_po2' (batch norm: inverse_quantizer='quantized_relu_po2(8)'), or let them be rounded with "
                "float_bits=12 (--float-bits 12): predictions are then close to QKeras' own, but not equal.",
            )
        if self.options.float_bits < bits:
            self.notes.append(
                f"{where}: numbers rounded to {self.options.float_bits} significant bits, a relative error of up to "
                f"2**-{self.options.float_bits}; predictions are no longer QKeras' own."
            )
            values = rounded(values, self.options.float_bits)
        return values

    def linear(self, entry: Entry, value: Value, make: Callable[..., Any], kernel: Fitted, bias: Fitted | None, **arguments: Any) -> Value:
        """A layer with a kernel and a bias, called; made at its first call."""
        fixed = self.assembly.holding(value, entry.name)
        if entry.name in self._made:
            layer = self._made[entry.name]
            widen(layer.input_quantizer, fixed)  # type: ignore[attr-defined]
            return self.assembly.apply(layer, value)

        def prepare(layer: Any) -> None:
            layer.kernel.assign(kernel.settle(layer.kernel_quantizer, layer.arranged))
            if bias is not None:
                layer.bias.assign(bias.settle(layer.bias_quantizer))

        layer = make(
            **arguments,
            use_bias=bias is not None,
            kernel_quantizer=kernel.identifier,
            bias_quantizer=bias.identifier if bias is not None else "bias",
            input_quantizer=data_quantizer(fixed),
            name=self.assembly.free_name(entry.name),
        )
        self._made[entry.name] = layer
        return self.assembly.apply(layer, value, prepare=prepare)

    def biased(self, entry: Entry, w: np.ndarray | None, folded: bool = False) -> Fitted | None:
        """The bias of a layer, if it has one that does anything."""
        if w is None or (entry.config.get("bias_quantizer") is None and not np.any(w)):
            return None
        what = "folded bias" if folded else "bias"
        return self.constants(
            parse(entry.config.get("bias_quantizer"), f"layer {entry.name}, bias_quantizer"), w, f"layer {entry.name}, {what}"
        )


def _is_plain(identifier: Any) -> bool:
    return isinstance(identifier, str) and identifier in ("linear", "relu")


def _kernel_quantizer(entry: Entry, argument: str) -> QKerasQuantizer | None:
    q = parse(entry.config.get(argument), f"layer {entry.name}, {argument}")
    return None if q is None else q.trainable()


def _refuse_mask(entry: Entry) -> None:
    if entry.config.get("mask") is not None:
        raise ConfigError("A mask of a kernel cannot be imported.", where=f"layer {entry.name}", expected="mask=None")


def _weights(importer: Importer, entry: Entry, *kernels: str) -> tuple[list[np.ndarray], np.ndarray | None]:
    names = [*kernels, "bias"] if entry.config.get("use_bias", True) else list(kernels)
    found = importer.file.weights(entry, names)
    return [found[name] for name in kernels], found.get("bias")


def _geometry(config: Mapping[str, Any], *more: str) -> dict[str, Any]:
    names = ("kernel_size", "strides", "padding", "dilation_rate", "data_format", *more)
    found = {name: config[name] for name in names if config.get(name) is not None}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def _shape_arguments(entry: Entry) -> tuple[type, dict[str, Any], str, str]:
    """Class, its arguments, and the names of the kernel and its quantizer."""
    name = entry.class_name.removesuffix("Batchnorm")
    if name == "QDense":
        return layers.QDense, {"units": entry.config["units"]}, "kernel", "kernel_quantizer"
    if name == "QDepthwiseConv2D":
        return layers.QDepthwiseConv2D, _geometry(entry.config, "depth_multiplier"), "depthwise_kernel", "depthwise_quantizer"
    more = "output_padding" if name.endswith("Transpose") else "groups"
    return getattr(layers, name), _geometry(entry.config, "filters", more), "kernel", "kernel_quantizer"


def _kernel_layer(importer: Importer, entry: Entry, value: Value) -> Value:
    _refuse_mask(entry)
    cls, arguments, kernel_name, quantizer_name = _shape_arguments(entry)
    (kernel,), bias = _weights(importer, entry, kernel_name)
    fitted = importer.constants(_kernel_quantizer(entry, quantizer_name), kernel, f"layer {entry.name}, kernel")
    return importer.linear(entry, value, cls, fitted, importer.biased(entry, bias), **arguments)


def _folded_layer(importer: Importer, entry: Entry, value: Value) -> Value:
    """A layer with a batch normalisation: what QKeras quantizes is the folded kernel, and so that is what we take."""
    cls, arguments, kernel_name, quantizer_name = _shape_arguments(entry)
    (kernel,), bias = _weights(importer, entry, kernel_name)
    parts = [name for name, used in (("gamma", "scale"), ("beta", "center")) if entry.config.get(used, True)]
    norm = importer.file.weights(entry, [*parts, "moving_mean", "moving_variance"], part="batchnorm")
    inverse = np.float32(1) / np.sqrt(norm["moving_variance"] + np.float32(entry.config.get("epsilon", 1e-3)))
    inverse = (inverse * norm.get("gamma", np.float32(1))).astype(np.float32)
    offset = inverse * ((np.float32(0) if bias is None else bias) - norm["moving_mean"]) + norm.get("beta", np.float32(0))
    spread = inverse.reshape(kernel.shape[-2:]) if kernel_name == "depthwise_kernel" else inverse
    fitted = importer.constants(
        _kernel_quantizer(entry, quantizer_name), (kernel * spread).astype(np.float32), f"layer {entry.name}, kernel"
    )
    folded = importer.biased(entry, offset.astype(np.float32), folded=True)
    return importer.linear(entry, value, cls, fitted, folded, **arguments)


def _separable(importer: Importer, entry: Entry, value: Value) -> Value:
    kernels, bias = _weights(importer, entry, "depthwise_kernel", "pointwise_kernel")
    deep, point = (
        importer.constants(_kernel_quantizer(entry, f"{part}_quantizer"), kernel, f"layer {entry.name}, {part} kernel")
        for part, kernel in zip(("depthwise", "pointwise"), kernels, strict=True)
    )
    rank = int(entry.class_name[-2])
    geometry = _geometry(entry.config, "depth_multiplier")
    names = {
        part: Entry(f"{entry.name}_{part}", entry.class_name, entry.package, entry.config, entry.calls, entry.index)
        for part in ("depthwise", "pointwise")
    }
    value = importer.linear(names["depthwise"], value, getattr(layers, f"QDepthwiseConv{rank}D"), deep, None, **geometry)
    pointwise = getattr(layers, f"QConv{rank}D")
    return importer.linear(
        names["pointwise"], value, pointwise, point, importer.biased(entry, bias), filters=entry.config["filters"], kernel_size=1
    )


def _batch_norm(importer: Importer, entry: Entry, value: Value) -> Value:
    """``x * scale + offset`` with what QKeras' quantizers leave of the statistics."""
    axis = entry.config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list | tuple) else axis
    if axis not in (-1, len(value.ref.shape)):
        raise ConfigError("Only the last axis can be normalised.", where=f"layer {entry.name}", expected="axis=-1", received=f"axis={axis}")
    parts = [name for name, used in (("gamma", "scale"), ("beta", "center")) if entry.config.get(used, True)]
    found = dict(importer.file.weights(entry, [*parts, "moving_mean", "moving_variance"]))
    for name, argument in (("gamma", "gamma"), ("beta", "beta"), ("moving_mean", "mean"), ("moving_variance", "variance")):
        q = parse(entry.config.get(f"{argument}_quantizer"), f"layer {entry.name}, {argument}_quantizer")
        if q is not None and name in found:
            q = q.trainable() if argument in ("gamma", "variance") else q
            found[name] = quantized(q, found[name]).values
    scale = np.float32(1) / np.sqrt(found["moving_variance"] + np.float32(entry.config.get("epsilon", 1e-3)))
    scale = (scale * found.get("gamma", np.float32(1))).astype(np.float32)
    inverse = parse(entry.config.get("inverse_quantizer"), f"layer {entry.name}, inverse_quantizer")
    scale = quantized(inverse, scale).values if inverse is not None else importer.real(scale, f"layer {entry.name}, scale")
    offset = (found.get("beta", np.float32(0)) - found["moving_mean"] * scale).astype(np.float32)
    if significant_bits(offset) > 16:
        offset = importer.real(offset, f"layer {entry.name}, offset")
    return affine(importer.assembly, value, any_numbers(scale, scale), any_numbers(offset, offset), entry.name)


def _mean_pool(importer: Importer, entry: Entry, value: Value) -> Value:
    """The sum of each window times QKeras' quantized 1/n."""
    q = parse(entry.config.get("average_quantizer"), f"layer {entry.name}, average_quantizer")
    whole = entry.class_name == "QGlobalAveragePooling2D"
    pool = value.ref.shape[:2] if whole else tuple(np.broadcast_to(entry.config["pool_size"], 2).tolist())
    if entry.config.get("padding", "valid") != "valid" or q is None:
        raise ConfigError(
            "This mean is no fixed-point number in QKeras.",
            where=f"layer {entry.name}",
            expected='padding="valid" and an average_quantizer',
            received=f"padding={entry.config.get('padding')!r}, average_quantizer={entry.config.get('average_quantizer')!r}",
        )
    count = pool[0] * pool[1]
    share = quantized(q, np.asarray([1.0 / count], np.float32)).values
    fitted = any_numbers(share, share)
    arguments = {"quantizer": data_quantizer(importer.assembly.holding(value, entry.name)), "scale_quantizer": fitted.identifier}
    if whole:
        layer = layers.QGlobalAveragePooling2D(keepdims=bool(entry.config.get("keepdims", False)), **arguments)
    else:
        layer = layers.QAveragePooling2D(pool, _geometry(entry.config).get("strides"), "valid", **arguments)
    layer.name = importer.assembly.free_name(entry.name)

    def prepare(layer: Any) -> None:
        exact = count & (count - 1) == 0
        if not exact and fitted.fixed is not None:
            layer.scale_quantizer.set_format(fitted.fixed)
        got = 1.0 / count if exact else float(np.asarray(layer.scale_quantizer(np.asarray([1.0 / count], np.float32)))[0])
        if got != float(share[0]):
            raise ConfigError(
                f"QKeras' average_quantizer makes {float(share[0])} of 1/{count}, which cannot be had here.",
                where=f"layer {entry.name}",
                expected=f"{got}",
                fix="Give average_quantizer enough fractional bits.",
            )

    return importer.assembly.apply(layer, value, prepare=prepare)


def affine(assembly: Assembly, value: Value, scale: Fitted, offset: Fitted, name: str) -> Value:
    """``x * scale + offset`` with these very numbers."""
    quantizer = data_quantizer(assembly.holding(value, name))
    layer, prepare = affine_layer(scale, offset, input_quantizer=quantizer, name=assembly.free_name(name))
    return assembly.apply(layer, value, prepare=prepare)


TRANSLATORS: dict[str, Callable[[Importer, Entry, Value], Value]] = {
    "QDense": _kernel_layer,
    "QConv1D": _kernel_layer,
    "QConv2D": _kernel_layer,
    "QConv2DTranspose": _kernel_layer,
    "QDepthwiseConv2D": _kernel_layer,
    "QDenseBatchnorm": _folded_layer,
    "QConv2DBatchnorm": _folded_layer,
    "QDepthwiseConv2DBatchnorm": _folded_layer,
    "QSeparableConv1D": _separable,
    "QSeparableConv2D": _separable,
    "QAveragePooling2D": _mean_pool,
    "QGlobalAveragePooling2D": _mean_pool,
    "QBatchNormalization": _batch_norm,
    "BatchNormalization": _batch_norm,
}
"""QKeras' layers with weights, and Keras' own that it goes with."""
