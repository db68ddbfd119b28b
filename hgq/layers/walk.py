"""The quantized layers of a model, however deeply nested."""

from __future__ import annotations

from collections.abc import Iterator

import keras

from hgq.layers.backward import BackwardPass
from hgq.layers.base import QLayer, known_resource
from hgq.quantizers import Quantizer
from hgq.variables import write

LEAVES = frozenset((type(None), bool, int, float, str))
"""Most of what a layer keeps: told apart at once, since every epoch walks through the model some times."""


def qlayers(model: keras.layers.Layer) -> list[QLayer]:
    """Every `QLayer` in `model`, each once, in the order of the model."""
    return [layer for layer in _walk(model, set()) if isinstance(layer, QLayer)]


def quantizers(model: keras.layers.Layer) -> list[Quantizer]:
    """Every quantizer in `model`, each once, in the order of the model."""
    return [layer for layer in _walk(model, set()) if isinstance(layer, Quantizer)]


def backward_passes(model: keras.layers.Layer) -> dict[str, BackwardPass]:
    """Every product in `model` whose gradients are computed by a scheme, each once, by its name: that of the layer, behind those of the
    models and layers it is in, and of the product, if the layer has several: ``"dense"``, ``"attention/scores"``.
    """
    found: dict[int, tuple[str, BackwardPass]] = {}

    def collect(value, name: str) -> None:
        if isinstance(value, BackwardPass) and value.scheme is not None:
            found.setdefault(id(value), (name, value))
        elif isinstance(value, list | tuple):
            for number, part in enumerate(value):
                collect(part, f"{name}/{number}")
        elif isinstance(value, dict):
            for key, part in value.items():
                collect(part, f"{name}/{key}")

    def visit(layer, name: str, seen: set[int]) -> None:
        if id(layer) in seen:
            return
        seen.add(id(layer))
        for attribute, value in vars(layer).items():
            own = attribute.strip("_").removesuffix("backward").strip("_")  # "backward", or "_statistics_backward"
            collect(value, "/".join(part for part in (name, own) if part))
        for child in _children(layer):
            visit(child, f"{name}/{child.name}" if name else child.name, seen)

    visit(model, "", set())
    return {name: one for name, one in found.values()}


def pause_gradients(model: keras.layers.Layer, paused: bool) -> int:
    """Let all gradients of `model` be computed in full precision for the time being, or again by their schemes; returns how many these are.

    It counts when a step is traced: of a model that has been trained, call ``make_train_function(force=True)`` afterwards.
    """
    passes = backward_passes(model)
    for one in passes.values():
        one.paused = paused
    return len(passes)


def set_beta(model: keras.layers.Layer, value: float) -> None:
    """Set the loss per EBOP of every quantized layer."""
    betas = [layer.beta for layer in qlayers(model)]
    write(betas, [value] * len(betas))


def set_resource(model: keras.layers.Layer, name: str) -> None:
    """Set what every quantized layer charges for: ``"ebops"`` or ``"lut"``. Compile the model again afterwards.

    Raises:
        ConfigError: an unknown resource.
    """
    for layer in qlayers(model):
        layer.resource = known_resource(name, layer.name)


def total_ebops(model: keras.layers.Layer) -> float:
    """EBOPs of the whole model from its present variables; a layer counts once for every time the model uses it."""
    return float(total_cost(model, "ebops"))


def total_cost(model: keras.layers.Layer, resource: str):
    """What training would charge the whole model for a resource: a float32 scalar, differentiable in the bits."""
    before = [(layer, layer.resource) for layer in qlayers(model)]
    set_resource(model, resource)
    try:
        return sum(layer.total_cost() * float(count) for layer, count in uses(model))
    finally:
        for layer, name in before:
            layer.resource = name


def uses(model: keras.layers.Layer) -> list[tuple[QLayer, int]]:
    """Every built `QLayer` and how many copies of it the hardware has. In a subclassed model, whose calls nobody knows, one.

    Those inside another `QLayer` are left out: its cost covers them.
    """
    counts: dict[int, int] = {}
    _count(model, 1, counts)
    inner = {id(part) for layer in qlayers(model) for part in qlayers(layer) if part is not layer}
    return [(layer, counts.get(id(layer), 1)) for layer in qlayers(model) if layer.built and id(layer) not in inner]


def _count(layer, times: int, counts: dict[int, int]) -> None:
    counts[id(layer)] = counts.get(id(layer), 0) + times
    if isinstance(layer, keras.Sequential) or not isinstance(layer, keras.Model):
        for child in _children(layer):
            _count(child, times, counts)
    else:
        nodes = {entry["name"]: len(entry["inbound_nodes"]) for entry in _graph(layer)}
        for child in _children(layer):
            _count(child, times * nodes.get(child.name, 1), counts)


def _graph(model) -> list[dict]:
    """The layers of a functional model with their calls; empty for a subclassed one."""
    if not hasattr(model, "operations"):
        return []
    try:
        entries = model.get_config().get("layers", [])
    except NotImplementedError:  # some layer in it cannot be serialized; freeze will refuse it by name
        return []
    return [entry for entry in entries if "inbound_nodes" in entry]


def _walk(layer, seen: set[int]) -> Iterator[keras.layers.Layer]:
    if id(layer) in seen:
        return
    seen.add(id(layer))
    yield layer
    for child in _children(layer):
        yield from _walk(child, seen)


def _children(layer) -> list[keras.layers.Layer]:
    """The layers of a model, or those that a plain layer keeps as attributes (alone, or in lists and dictionaries)."""
    if isinstance(layer, keras.Model):
        return list(layer.layers)
    found: dict[int, keras.layers.Layer] = {}

    def collect(value) -> None:
        if isinstance(value, keras.layers.Layer):
            found.setdefault(id(value), value)
        elif isinstance(value, list | tuple):
            for part in value:
                collect(part)
        elif isinstance(value, dict):
            for part in value.values():
                collect(part)

    kept = [(name.startswith("_"), value) for name, value in vars(layer).items() if type(value) not in LEAVES]
    for hidden in (False, True):
        for name_is_hidden, value in kept:
            if name_is_hidden is hidden:
                collect(value)
    return list(found.values())
