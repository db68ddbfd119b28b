"""Keras model -> `hgq.ir.Graph`: the only place where Keras meets the IR.

Our layers freeze themselves (`QLayer.to_ir`). Layers we do not own are taken by a function under ``@freezes``; see `hgq.stock`.
"""

from __future__ import annotations

import difflib
import inspect
import logging
import math
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
from numpy.typing import ArrayLike

import hgq
from hgq import layers as hgq_layers
from hgq.calibrate import calibrate
from hgq.errors import FileFormatError, FreezeError, HGQError, require_file
from hgq.ir.build import GraphBuilder, Ref
from hgq.ir.exactness import beyond_float32
from hgq.ir.graph import Graph
from hgq.layers import QLayer
from hgq.passes import optimize as run_passes
from hgq.samples import load_samples
from hgq.stock import FREEZERS, freezes  # noqa: F401 (freezes: for users)

log = logging.getLogger("hgq.freeze")

NEAREST = {
    "Activation": 'QActivation or Activation("relu")',
    "BatchNormalization": "QBatchNormalization",
    "Dense": "QDense",
    "ELU": "QTable('elu')",
    "Normalization": "normalized data, Rescaling by powers of two, or QBatchNormalization",
}


def freeze(model: keras.Model, calibration: ArrayLike | Mapping[str, ArrayLike] | None = None, *, optimize: bool = True) -> Graph:
    """The integers that a trained model is made of.

    Args:
        model: A built Sequential or functional model.
        calibration: Samples for `hgq.calibrate.calibrate`, run first; None keeps the ranges that training tracked.
        optimize: Run `hgq.passes.optimize`.

    Returns:
        A graph whose golden model equals ``model.predict`` bit for bit.

    Raises:
        FreezeError: a layer or a structure that cannot be frozen; names each such layer with the nearest one that can.
        DataError: bad calibration samples.
    """
    _refuse_unfreezable(model)
    meta: dict[str, Any] = {"keras_model": model.name, "hgqc": hgq.__version__}
    if calibration is not None:
        meta["calibration_samples"] = calibrate(model, calibration)
    b = GraphBuilder(identifier(model.name))
    inputs = [b.raw_input(_port_name(tensor.name), _static(tensor)) for tensor in model.inputs]
    graph = b.graph(*_freeze_model(model, b, inputs), **meta)
    for problem in beyond_float32(graph):
        log.warning("%s", problem)
    return run_passes(graph) if optimize else graph


def freeze_file(path: str | os.PathLike[str], calibration: str | os.PathLike[str] | None = None) -> Graph:
    """`freeze` a ``.keras`` file with samples from an ``.npz`` or ``.npy`` file.

    Raises:
        FileFormatError: either file is missing, truncated or something else.
    """
    return freeze(load_model(path), load_samples(calibration) if calibration is not None else None)


def load_model(path: str | os.PathLike[str]) -> keras.Model:
    """Read a ``.keras`` file.

    Raises:
        FileFormatError: it is missing, truncated or something else.
    """
    path = Path(path)
    fix = "Save it again with model.save('name.keras')."
    require_file(path, "model", "a .keras file")
    if not zipfile.is_zipfile(path):
        raise FileFormatError(
            "This is not a .keras file, or it is truncated.",
            where=str(path),
            expected="a Keras 3 archive",
            received="a file that is no zip",
            fix=fix,
        )
    try:
        return keras.saving.load_model(path, compile=False)
    except HGQError:
        raise
    except Exception as error:  # Keras raises whatever its parts raise
        received = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]
        raise FileFormatError(
            "Keras cannot read this model.", where=str(path), expected="a Keras 3 model", received=received, fix=fix
        ) from error


def _refuse_unfreezable(model: keras.Model) -> None:
    """Name every layer that cannot be frozen, at once, before any work is done."""
    bad = [layer for layer in _leaves(model) if not _can_freeze(layer)]
    if not bad:
        return
    known = [cls.__name__ for cls in FREEZERS] + _own_layers()
    lines = []
    for layer in bad:
        name = type(layer).__name__
        close = NEAREST.get(name) or next(iter(difflib.get_close_matches(f"Q{name}", known, 1, 0.5)), None)
        lines.append(f"{layer.name} ({type(layer).__module__}.{name})" + (f": use {close}" if close else ""))
    raise FreezeError(
        f"{len(bad)} layer{'s' * (len(bad) > 1)} of this model cannot be frozen.",
        where="; ".join(lines),
        expected=f"layers among {', '.join(sorted(set(known)))}",
        received=", ".join(sorted({type(layer).__name__ for layer in bad})),
        fix="Replace them, write a QLayer subclass with to_ir, or register a function with @hgq.freeze.freezes(YourLayer).",
    )


def _own_layers() -> list[str]:
    return [name for name in hgq_layers.__all__ if inspect.isclass(getattr(hgq_layers, name)) and name not in ("QLayer", "QMerge")]


def _can_freeze(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, QLayer | keras.layers.InputLayer) or type(layer) in FREEZERS


def _leaves(model: keras.Model) -> list[keras.layers.Layer]:
    leaves = []
    for layer in _checked_model(model).layers:
        leaves += _leaves(layer) if isinstance(layer, keras.Model) else [layer]
    return leaves


def _checked_model(model: keras.Model) -> keras.Model:
    if not isinstance(model, keras.Model):
        raise FreezeError("Only a Keras model can be frozen.", expected="keras.Sequential or keras.Model", received=type(model).__name__)
    if not getattr(model, "inputs", None):
        raise FreezeError(
            "A model without a static graph cannot be frozen.",
            where=f"model {model.name} ({type(model).__name__})",
            expected="a built Sequential or functional model",
            received="one that is not built" if isinstance(model, keras.Sequential) else "a subclass of keras.Model with its own call()",
            fix="Begin with keras.Input(shape), and connect the layers as keras.Model(inputs, outputs) or keras.Sequential([...]).",
        )
    return model


def _freeze_model(model: keras.Model, b: GraphBuilder, inputs: list[Ref]) -> list[Ref]:
    if isinstance(model, keras.Sequential):
        (x,) = inputs
        for layer in model.layers:
            (x,) = freeze_call(layer, b, [x])
        return [x]
    return _freeze_functional(model, b, inputs)


def _freeze_functional(model: keras.Model, b: GraphBuilder, inputs: list[Ref]) -> list[Ref]:
    """Walk the calls in a functional model's config: Keras' public description of its graph."""
    config = model.get_config()
    values = {_key(entry): ref for entry, ref in zip(_entries(config["input_layers"]), inputs, strict=True)}
    pending = [(entry["name"], index, _tensors(node)) for entry in config["layers"] for index, node in enumerate(entry["inbound_nodes"])]
    while pending:
        ready = [call for call in pending if all(key in values for key in call[2])]
        if not ready:
            names = ", ".join(call[0] for call in pending)
            raise FreezeError("Some layers are never reached from the inputs.", where=f"model {model.name}", received=names)
        for name, index, keys in ready:
            outputs = freeze_call(model.get_layer(name), b, [values[key] for key in keys])
            values.update({(name, index, position): ref for position, ref in enumerate(outputs)})
        pending = [call for call in pending if call not in ready]
    return [values[_key(entry)] for entry in _entries(config["output_layers"])]


def freeze_call(layer: keras.layers.Layer, b: GraphBuilder, inputs: list[Ref]) -> list[Ref]:
    """Add one call of a layer to the graph under construction."""
    with b.layer(identifier(layer.name)):
        if isinstance(layer, keras.Model):
            return _freeze_model(layer, b, inputs)
        outputs = layer.to_ir(b, *inputs) if isinstance(layer, QLayer) else FREEZERS[type(layer)](layer, b, *inputs)
        return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


def _tensors(node: Any) -> list[tuple[str, int, int]]:
    """Keys of the tensors that one call in a functional config reads, in order."""
    if isinstance(node, Mapping):
        if node.get("class_name") == "__keras_tensor__":
            return [_key(node["config"]["keras_history"])]
        return [key for value in node.values() for key in _tensors(value)]
    if isinstance(node, list | tuple):
        return [key for value in node for key in _tensors(value)]
    return []


def _entries(value: Any) -> list[Any]:
    """``input_layers`` of a config: one entry, a list of entries, or a mapping of them."""
    if isinstance(value, Mapping):
        return [entry for item in value.values() for entry in _entries(item)]
    if value and isinstance(value[0], str):
        return [value]
    return [entry for item in value for entry in _entries(item)]


def _key(entry: Any) -> tuple[str, int, int]:
    name, node, tensor = entry
    return str(name), int(node), int(tensor)


def identifier(name: str) -> str:
    """A Keras name as the IR allows it."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "_" for c in name)
    return safe if safe and not safe[0].isdigit() and safe[0] not in ".-" else f"_{safe}"


def _port_name(name: str) -> str:
    """The user's name of an input, or ``input`` for one that Keras named itself."""
    return "input" if re.fullmatch(r"(keras_tensor|input_layer)(_\d+)?", name) else identifier(name)


def _static(tensor: Any) -> tuple[int, ...]:
    shape = tuple(tensor.shape[1:])
    if None in shape or math.prod(shape) == 0:
        raise FreezeError("Hardware needs static shapes.", where=f"input {tensor.name}", expected="known sizes", received=str(shape))
    return tuple(int(size) for size in shape)
