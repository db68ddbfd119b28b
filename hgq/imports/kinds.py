"""Kinds of float layers, and the quantized layers that take their place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import keras
import numpy as np

from hgq import layers
from hgq.errors import ConfigError
from hgq.imports.network import Entry
from hgq.layers import activations, functions
from hgq.layers.kernel import NormalizedLayer
from hgq.numerics import Fixed
from hgq.quantizers import FixedQuantizer, Identifier


class Formats(Protocol):
    """What a maker asks the conversion."""

    bits: int

    def weight(self, entry: Entry) -> Identifier:
        """Quantizer of a layer's kernel."""
        ...

    def bias(self, entry: Entry) -> Identifier:
        """Quantizer of its bias."""
        ...

    def data(self, entry: Entry) -> Identifier:
        """Quantizer of what comes in."""
        ...

    def common(self, entry: Entry, cls: type, name: str | None = None) -> dict[str, Any]:
        """Arguments that every quantized layer takes."""
        ...


@dataclass
class Part:
    """A layer, and the arrays that its variables start as.

    Quantizers look at weights when they are built, so these must be there by then: the initializers give them, for that one moment.

    Args:
        layer: Not built.
        weights: ``(owner, variable, array)``: the owner is the layer or one inside it.
        settle: What else to do once it is built.
    """

    layer: keras.layers.Layer
    weights: list[tuple[Any, str, Any]] = field(default_factory=list)
    settle: Callable[[], None] | None = None

    def call(self, value: Any, **arguments: Any) -> Any:
        """The layer's result; builds it at the first call."""
        if self.layer.built:
            return self.layer(value, **arguments)
        result = self._first_call(value, **arguments)
        if self.settle is not None:
            self.settle()
        return result

    def _first_call(self, value: Any, **arguments: Any) -> Any:
        if not self.weights:
            return self.layer(value, **arguments)
        names = [(owner, f"{name}_initializer", array) for owner, name, array in self.weights]
        kept = [(owner, name, getattr(owner, name)) for owner, name, _ in names]
        for owner, name, array in names:
            setattr(owner, name, _giving(array))
        result = self.layer(value, **arguments)
        for owner, name, initializer in kept:
            setattr(owner, name, initializer)
        if isinstance(self.layer, NormalizedLayer):
            adapt(self.layer.kernel_quantizer, np.asarray(self.layer.constants()[0]))
        return result


def adapt(quantizer: Any, kernel: np.ndarray) -> None:
    """Let bits start at the magnitudes of a kernel that was not there when they were made, such as a folded one."""
    if isinstance(quantizer, FixedQuantizer) and quantizer.adapt_to_magnitude:
        shared = tuple(axis for axis, size in enumerate(quantizer.format(kernel).shape) if size != kernel.shape[axis])
        largest = np.abs(kernel).max(axis=shared, keepdims=True) if shared else np.abs(kernel)
        mantissa, exponent = np.frexp(largest)
        i = np.clip(np.where(largest > 0, exponent - (mantissa == 0.5), quantizer.i0), *quantizer.i_bounds).astype(np.int64)
        quantizer.set_format(Fixed(quantizer.k0, i, int(quantizer.b0) - i))


def _giving(array: Any) -> Callable[..., Any]:
    return lambda shape, dtype=None: keras.ops.convert_to_tensor(np.reshape(np.asarray(array, np.float32), shape), dtype)


Maker = Callable[[Formats, Entry, Any, Any], list[Part]]
MAKERS: dict[str, Maker] = {}
"""Float class -> ``maker(formats, entry, float layer, the batch normalisation to fold in or None)``."""

FOLDING: dict[str, str] = {
    "Dense": "QDenseBatchNorm",
    **{f"Conv{rank}D": f"QConv{rank}DBatchNorm" for rank in (1, 2, 3)},
    **{f"DepthwiseConv{rank}D": f"QDepthwiseConv{rank}DBatchNorm" for rank in (1, 2)},
}
"""Layers that take a batch normalisation behind them in."""


def no_kind(what: str, where: str, expected: str, received: str, fix: str = "") -> ConfigError:
    """The refusal of `what` in a float model: nothing quantized does the same."""
    fix = fix or "Replace it in the float model, or build this part of the model from hgq.layers."
    return ConfigError(f"This {what} has no quantized kind.", where=f"layer {where}", expected=expected, received=received, fix=fix)


def makes(*names: str) -> Callable[[Maker], Maker]:
    """Says which float classes a function makes parts of."""

    def register(maker: Maker) -> Maker:
        MAKERS.update(dict.fromkeys(names, maker))
        return maker

    return register


# ---- activations ----------------------------------------


def name_of(layer: Any) -> str:
    """Name of a layer's activation."""
    return getattr(layer.activation, "__name__", repr(layer.activation))


def _split(layer: Any, entry: Entry, formats: Formats) -> tuple[str, list[Part]]:
    """An activation that a layer can have itself, and the layers for one that it cannot."""
    name = name_of(layer)
    if name in ("linear", "relu", "relu6", "hard_sigmoid"):
        return name, []
    return "linear", _function(name, entry, formats, f"{entry.name}_{name}")


def _function(name: str, entry: Entry, formats: Formats, called: str, **arguments: Any) -> list[Part]:
    if name == "softmax":
        cls: type = layers.QSoftmax
        return [Part(cls(**arguments, input_quantizer=formats.data(entry), **formats.common(entry, cls, called)))]
    try:
        if name not in activations.CLIPS and functions.known(name):
            function = functions.get(name, f"layer {entry.name}")
            fine = max(7, formats.bits - 1)
            behind = f"data(k0={function.k0}, i0={function.i0}, f0={fine}, overflow=SAT, granularity=tensor)"
            return [Part(layers.QTable(name, input_quantizer=formats.data(entry), output_quantizer=behind, name=called))]
        return [Part(layers.QActivation(activations.known(name, entry.name), None, name=called))]
    except ConfigError as error:
        expected = f"{', '.join(activations.ACTIVATIONS)}, softmax, {', '.join(sorted(functions.FUNCTIONS))}"
        fix = "Take one of those, or put hgq.layers.QTable with a function of yours into the model."
        raise no_kind("activation", entry.name, expected, name, fix) from error


@makes("Activation")
def _activation(formats: Formats, entry: Entry, layer: Any, norm: Any) -> list[Part]:
    return _function(name_of(layer), entry, formats, entry.name)


@makes("Softmax")
def _softmax(formats: Formats, entry: Entry, layer: Any, norm: Any) -> list[Part]:
    return _function("softmax", entry, formats, entry.name, axis=layer.axis)


@makes("ReLU", "LeakyReLU")
def _relu(formats: Formats, entry: Entry, layer: Any, norm: Any) -> list[Part]:
    slope = float(layer.negative_slope)
    if slope and not getattr(layer, "threshold", 0.0) and getattr(layer, "max_value", None) is None:
        return [Part(layers.QActivation(f"leaky_relu({slope})", None, name=entry.name))]
    return [Part(type(layer).from_config(layer.get_config()))]


@makes("ELU")
def _elu(formats: Formats, entry: Entry, layer: Any, norm: Any) -> list[Part]:
    if float(layer.alpha) != 1.0:
        raise ConfigError("An ELU has alpha=1 here.", where=f"layer {entry.name}", expected="alpha=1.0", received=f"alpha={layer.alpha}")
    return _function("elu", entry, formats, entry.name)


# ---- layers with kernels ----------------------------------------


def _normalized(norm: Any, bias: Any) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """Arguments and variables of a folded batch normalisation; a bias before it moves the mean."""
    names = ("momentum", "epsilon", "center", "scale")
    mean = np.asarray(norm.moving_mean) - (0.0 if bias is None else np.asarray(bias))
    variables = [("moving_mean", mean), ("moving_variance", np.asarray(norm.moving_variance))]
    variables += [("gamma", np.asarray(norm.gamma))] if norm.scale else []
    variables += [("beta", np.asarray(norm.beta))] if norm.center else []
    return {name: getattr(norm, name) for name in names}, variables


def _kernel_part(formats: Formats, entry: Entry, layer: Any, norm: Any, name: str, arguments: dict[str, Any]) -> list[Part]:
    activation, behind = _split(layer, entry, formats)
    cls = getattr(layers, FOLDING[entry.class_name] if norm is not None else name)
    variables: list[tuple[str, Any]] = [("kernel", np.asarray(layer.kernel))]
    if norm is not None:
        more, others = _normalized(norm, layer.bias)
        arguments, variables = {**arguments, **more}, variables + others
    elif entry.class_name != "EinsumDense":
        arguments = {**arguments, "use_bias": layer.use_bias}
    if norm is None and layer.bias is not None:
        variables.append(("bias", np.asarray(layer.bias)))
    made = cls(
        **arguments,
        activation=activation,
        kernel_quantizer=formats.weight(entry),
        bias_quantizer=formats.bias(entry),
        input_quantizer=formats.data(entry),
        **formats.common(entry, cls),
    )
    return [Part(made, [(made, name, array) for name, array in variables]), *behind]


@makes("Dense")
def _dense(formats: Formats, entry: Entry, layer: Any, norm: Any) -> list[Part]:
    return _kernel_part(formats, entry, layer, norm, "QDense", {"units": layer.units})


@makes("EinsumDense")
def _einsum_dense(formats: Formats, entry: Entry, layer: Any, norm: Any) -> list[Part]:
    arguments = {"equation": layer.equation, "output_shape": entry.config["output_shape"], "bias_axes": layer.bias_axes}
    return _kernel_part(formats, entry, layer, norm, "QEinsumDense", arguments)


def _geometry(layer: Any, *more: str) -> dict[str, Any]:
    names = ("kernel_size", "strides", "padding", "dilation_rate", "data_format", *more)
    return {name: getattr(layer, name) for name in names}


@makes("Conv1D", "Conv2D", "Conv3D")
def _conv(formats: Formats, entry: Entry, layer: Any, norm: Any) -> list[Part]:
    return _kernel_part(formats, entry, layer, norm, f"Q{entry.class_name}", _geometry(layer, "filters", "groups"))


@makes("DepthwiseConv1D", "DepthwiseConv2D")
def _depthwise(formats: Formats, entry: Entry, layer: Any, norm: Any) -> list[Part]:
    return _kernel_part(formats, entry, layer, norm, f"Q{entry.class_name}", _geometry(layer, "depth_multiplier"))


@makes("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
def _transposed(formats: Formats, entry: Entry, layer: Any, norm: Any) -> list[Part]:
    return _kernel_part(formats, entry, layer, norm, f"Q{entry.class_name}", _geometry(layer, "filters", "output_padding"))


@makes("SeparableConv1D", "SeparableConv2D")
def _separable(formats: Formats, entry: Entry, layer: Any, norm: Any) -> list[Part]:
    activation, behind = _split(layer, entry, formats)
    cls = getattr(layers, f"Q{entry.class_name}")
    made = cls(
        **_geometry(layer, "filters", "depth_multiplier"),
        activation=activation,
        use_bias=layer.use_bias,
        depthwise_quantizer=formats.weight(entry),
        pointwise_quantizer=formats.weight(entry),
        bias_quantizer=formats.bias(entry),
        input_quantizer=formats.data(entry),
        intermediate_quantizer=formats.data(entry),
        **formats.common(entry, cls),
    )
    variables = [(made.depthwise, "kernel", layer.depthwise_kernel), (made.pointwise, "kernel", layer.pointwise_kernel)]
    variables += [(made.pointwise, "bias", layer.bias)] if layer.use_bias else []
    return [Part(made, [(owner, name, np.asarray(array)) for owner, name, array in variables]), *behind]


@makes("BatchNormalization")
def _batch_norm(formats: Formats, entry: Entry, layer: Any, norm: Any) -> list[Part]:
    axis = layer.axis if isinstance(layer.axis, int) else next(iter(layer.axis))
    if axis not in (-1, len(layer.output.shape) - 1):
        raise ConfigError("Only the last axis can be normalised.", where=f"layer {entry.name}", expected="axis=-1", received=f"axis={axis}")
    arguments, variables = _normalized(layer, None)
    made = layers.QBatchNormalization(
        **arguments,
        scale_quantizer=f"weight(overflow=WRAP, b0={formats.bits})",
        offset_quantizer=formats.bias(entry),
        input_quantizer=formats.data(entry),
        **formats.common(entry, layers.QBatchNormalization),
    )
    return [Part(made, [(made, name, array) for name, array in variables])]


# ---- layers without ----------------------------------------


@makes("Add", "Subtract", "Multiply", "Maximum", "Minimum", "Average")
def _merge(formats: Formats, entry: Entry, layer: Any, norm: Any) -> list[Part]:
    cls = getattr(layers, f"Q{entry.class_name}")
    return [Part(cls(input_quantizers=formats.data(entry), **formats.common(entry, cls)))]


@makes("Concatenate")
def _concatenate(formats: Formats, entry: Entry, layer: Any, norm: Any) -> list[Part]:
    cls = layers.QConcatenate
    return [Part(cls(axis=layer.axis, input_quantizers=formats.data(entry), **formats.common(entry, cls)))]


@makes(*(f"AveragePooling{rank}D" for rank in (1, 2, 3)))
def _mean_pool(formats: Formats, entry: Entry, layer: Any, norm: Any) -> list[Part]:
    cls = getattr(layers, f"Q{entry.class_name}")
    arguments = {name: getattr(layer, name) for name in ("pool_size", "strides", "padding", "data_format")}
    share = f"weight(overflow=WRAP, b0={formats.bits})"
    return [Part(cls(**arguments, quantizer=formats.data(entry), scale_quantizer=share, **formats.common(entry, cls)))]


@makes(*(f"GlobalAveragePooling{rank}D" for rank in (1, 2, 3)))
def _global_mean(formats: Formats, entry: Entry, layer: Any, norm: Any) -> list[Part]:
    cls = getattr(layers, f"Q{entry.class_name}")
    arguments = {"keepdims": layer.keepdims, "data_format": layer.data_format}
    share = f"weight(overflow=WRAP, b0={formats.bits})"
    return [Part(cls(**arguments, quantizer=formats.data(entry), scale_quantizer=share, **formats.common(entry, cls)))]
