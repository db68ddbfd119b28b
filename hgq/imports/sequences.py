"""Float layers for sequences, and the quantized ones that take their place: recurrent ones, attention, layer normalisation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np

from hgq import layers
from hgq.errors import ConfigError
from hgq.imports.kinds import Formats, Part, adapt, makes, no_kind
from hgq.imports.network import Entry, Key
from hgq.layers import functions

RECURRENT = ("SimpleRNN", "GRU", "LSTM")

OPERANDS = {"MultiHeadAttention": ("query", "value", "key")}
"""Layers with several operands, in their order."""


def call_arguments(entry: Entry, call: int, keys: tuple[Key, ...]) -> tuple[tuple[Key, ...], dict[str, Any]]:
    """The operands of a call in the order of the quantized layer, and its other arguments.

    Raises:
        ConfigError: one that the quantized layer does not take, such as a mask.
    """
    named, known = entry.named(call), OPERANDS.get(entry.class_name, ("inputs",))
    for name in [*named, *(["initial_state"] if entry.class_name in RECURRENT and len(keys) > 1 else [])]:
        if name not in known:
            fix = "Leave it out, or build this part of the model from hgq.layers."
            raise no_kind("argument of a call", entry.name, ", ".join(known), name, fix)
    given = entry.options[call] if call < len(entry.options) else {}
    if given.get("return_attention_scores"):
        raise ConfigError(
            "Attention scores are no result here.", where=f"layer {entry.name}", expected="return_attention_scores=False", received="True"
        )
    if entry.class_name not in OPERANDS:
        return keys, {}
    operands = dict(zip(known, keys[: len(keys) - sum(map(len, named.values()))], strict=False))
    operands |= {name: found[0] for name, found in named.items()}
    causal = {"use_causal_mask": True} if given.get("use_causal_mask") else {}
    return tuple(operands[name] for name in known if name in operands), causal


def _plain(entry: Entry, wanted: dict[str, tuple[Any, str]]) -> None:
    """Refuse arguments of a float layer that the quantized one has no part for: name -> (what it must be, what to do)."""
    for name, (value, fix) in wanted.items():
        if entry.config.get(name, value) not in (value, None):
            raise no_kind("argument", entry.name, f"{name}={value!r}", f"{name}={entry.config[name]!r}", fix)


def _behind(name: str, formats: Formats) -> str:
    """The quantizer of an activation's result: as fine as the bits say where it is a table."""
    if not functions.known(name):
        return "auto"
    function = functions.get(name, "activation")
    return f"data(k0={function.k0}, i0={function.i0}, f0={max(7, formats.bits - 1)}, overflow=SAT, granularity=tensor)"


@makes(*RECURRENT)
def _recurrent(formats: Formats, entry: Entry, layer: Any, norm: Any) -> list[Part]:
    made = _cell(formats, entry, layer, entry.name)
    return [Part(made, _cell_weights(made, layer))]


@makes("Bidirectional")
def _bidirectional(formats: Formats, entry: Entry, layer: Any, norm: Any) -> list[Part]:
    directions = (layer.forward_layer, layer.backward_layer)
    made = []
    for direction in directions:
        kind, config = type(direction).__name__, direction.get_config()
        if kind not in RECURRENT:
            raise no_kind("layer", f"{entry.name}, {direction.name}", ", ".join(RECURRENT), kind)
        inner = replace(entry, name=f"{entry.name}/{direction.name}", class_name=kind, config=config)
        made.append(_cell(formats, inner, direction, direction.name))
    both = keras.layers.Bidirectional(made[0], merge_mode=layer.merge_mode, backward_layer=made[1], name=entry.name)
    # Keras makes the layers anew from their configurations
    owners = (both.forward_layer, both.backward_layer)
    return [Part(both, [row for owner, direction in zip(owners, directions, strict=True) for row in _cell_weights(owner, direction)])]


def _cell(formats: Formats, entry: Entry, layer: Any, name: str) -> keras.layers.Layer:
    """The quantized kind of a recurrent layer, of this name."""
    _plain(
        entry,
        {
            "dropout": (0.0, "Put a Dropout layer before it."),
            "recurrent_dropout": (0.0, "Build the float model without it, with the same weights."),
            "return_state": (False, "Take the state from the sequence: return_sequences=True."),
            "stateful": (False, "Give the whole sequence at once: hardware starts each sample anew."),
        },
    )
    cls = getattr(layers, f"Q{entry.class_name}")
    names = ("units", "use_bias", "return_sequences", "go_backwards", "unroll")
    arguments: dict[str, Any] = {name: entry.config[name] for name in names} | {"activation": layer.activation.__name__}
    data, result = formats.data(entry), _behind(layer.activation.__name__, formats)
    if entry.class_name == "SimpleRNN":
        arguments["state_quantizer"] = result
    else:
        gates = layer.recurrent_activation.__name__
        arguments |= {"recurrent_activation": gates, "gate_quantizer": _behind(gates, formats), "candidate_quantizer": result}
        arguments |= {"state_quantizer": data}
    if entry.class_name == "LSTM":
        arguments |= {"readout_quantizer": result, "cell_quantizer": data, "unit_forget_bias": False}  # the bias has it
    if entry.class_name == "GRU":
        arguments |= {"reset_after": layer.reset_after, "reset_quantizer": data, "inner_quantizer": data}
    return cls(
        **arguments,
        kernel_quantizer=formats.weight(entry),
        recurrent_quantizer=formats.weight(entry),
        bias_quantizer=formats.bias(entry),
        input_quantizer=data,
        pre_quantizer=data,
        **formats.common(entry, cls, name),
    )


def _cell_weights(made: Any, layer: Any) -> list[tuple[Any, str, np.ndarray]]:
    cell = layer.cell
    weights = [("kernel", cell.kernel), ("recurrent", cell.recurrent_kernel), *([("bias", cell.bias)] if layer.use_bias else [])]
    return [(made, name, np.asarray(array)) for name, array in weights]


@makes("MultiHeadAttention")
def _attention(formats: Formats, entry: Entry, layer: Any, norm: Any) -> list[Part]:
    _plain(
        entry,
        {
            "use_gate": (False, "Build the gate from a Dense layer and Multiply."),
            "sliding_window": (None, "Build this part of the model from hgq.layers.QMultiHeadAttention, with an attention_mask."),
        },
    )
    cls = layers.QMultiHeadAttention
    names = ("num_heads", "key_dim", "value_dim", "dropout", "use_bias", "output_shape", "attention_axes")
    data = formats.data(entry)
    made = cls(
        **{name: entry.config[name] for name in names},
        input_quantizer=data,
        kernel_quantizer=formats.weight(entry),
        bias_quantizer=formats.bias(entry),
        projected_quantizer=data,
        probability_quantizer=f"data(f0={formats.bits})",
        softmax={"input_quantizer": data},
        **formats.common(entry, cls),
    )

    def settle() -> None:
        for name in ("query_dense", "key_dense", "value_dense", "output_dense"):
            source, target = getattr(layer, name), getattr(made, name)
            kernel = np.asarray(source.kernel)
            target.kernel.assign(kernel)
            adapt(target.kernel_quantizer, kernel)
            if entry.config["use_bias"]:
                target.bias.assign(np.asarray(source.bias))

    return [Part(made, settle=settle)]


@makes("LayerNormalization")
def _layer_norm(formats: Formats, entry: Entry, layer: Any, norm: Any) -> list[Part]:
    cls = layers.QLayerNormalization
    data, more = formats.data(entry), f"data(k0=0, f0={formats.bits})"
    made = cls(
        axis=layer.axis if isinstance(layer.axis, int) else tuple(layer.axis),
        epsilon=layer.epsilon,
        center=layer.center,
        scale=layer.scale,
        input_quantizer=data,
        scale_quantizer=f"weight(overflow=WRAP, b0={formats.bits + 2})",
        mean_quantizer=data,
        centered_quantizer=data,
        rsqrt_input_quantizer=more,
        rsqrt_output_quantizer=more,
        normalized_quantizer=data,
        gamma_quantizer=formats.weight(entry),
        offset_quantizer=formats.bias(entry),
        **formats.common(entry, cls),
    )
    weights = [(made, "gamma", layer.gamma)] if layer.scale else []
    weights += [(made, "beta", layer.beta)] if layer.center else []
    return [Part(made, [(owner, name, np.asarray(array)) for owner, name, array in weights])]
