"""Choose, for the layers of a finished model, how their gradients are computed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import keras

from hgq import gradients
from hgq.errors import ConfigError
from hgq.layers.backward import BackwardParts, BackwardPass
from hgq.layers.plain import STOCK

log = logging.getLogger("hgq.layers")


@dataclass(frozen=True)
class Place:
    """A product in a model.

    Args:
        name: Where it is: the layer's name, behind those of the models and layers it is in: ``"dense"``, ``"attention/scores"``.
        layer: The layer, of the model as it is; of an attention or the like, the whole of it.
    """

    name: str
    layer: keras.layers.Layer


Choice = gradients.Identifier | Callable[[Place], gradients.Identifier]


def with_gradients(model: keras.Model, choose: Choice) -> keras.Model:
    """A copy of a model, weights included, whose products compute their gradients otherwise: those of dense layers, convolutions, Einstein
    sums, attention and recurrent layers, also inside other layers and models. Dense layers, convolutions and ``EinsumDense`` of Keras' own
    become those of `hgq.layers.plain`; their values stay the same, bit for bit.

    What has no such product stays as it is. What has one and cannot take a scheme, such as a recurrent layer of Keras' own, is named in a
    warning of the log ``hgq.layers``.

    Args:
        model: A built Sequential or functional model; it stays as it is.
        choose: What `hgq.gradients.get` takes, for all products, or a function of a `Place` that returns it. The papers keep the first and
            the last layer in full precision: ``lambda place: None if place.name in ("first", "last") else "luq4"``.

    Returns:
        The copy, not compiled.

    Raises:
        ConfigError: no such scheme, or a model without a product.
    """
    made = _Copy(choose if callable(choose) else lambda place: choose)
    clone = made.model(model, "")
    if not made.taken:
        raise ConfigError(
            "No layer of this model has a kernel whose gradients could be computed otherwise.",
            where=f"model {model.name}",
            expected="layers such as QDense, QConv2D, QEinsumDense",
            received=", ".join(sorted({type(layer).__name__ for layer in model.layers})),
        )
    if made.left:
        log.warning("Gradients stay in full precision in %s: no scheme for them.", ", ".join(made.left))
    known = {variable.path: variable for variable in model.variables}
    for variable in clone.variables:
        if variable.path in known:
            variable.assign(known[variable.path])
    return clone


class _Copy:
    """Copies layers, and notes what took a scheme and what could not."""

    def __init__(self, pick: Callable[[Place], gradients.Identifier]) -> None:
        self.pick, self.taken, self.left = pick, 0, list[str]()

    def model(self, model: keras.Model, above: str) -> keras.Model:
        return keras.models.clone_model(model, clone_function=lambda layer: self.layer(layer, above))

    def layer(self, layer: keras.layers.Layer, above: str) -> keras.layers.Layer:
        name = f"{above}{layer.name}"
        if isinstance(layer, keras.Model) and type(layer).__module__.partition(".")[0] == "keras":
            return self.model(layer, f"{name}/")
        config = layer.get_config()
        inner = _inner(layer)
        for key, part in inner.items():
            config[key] = keras.saving.serialize_keras_object(self.layer(part, f"{name}/"))
        backward = getattr(layer, "backward", None)
        if isinstance(backward, BackwardPass):
            config |= {"gradients": self._scheme(name, layer), "gradient_seed": None}
        elif isinstance(backward, BackwardParts):
            config |= {"gradients": {part: self._scheme(f"{name}/{part}", layer) for part in backward.names}, "gradient_seed": None}
        elif type(layer) in STOCK and not getattr(layer, "quantization_mode", None):
            scheme = self._scheme(name, layer)
            if scheme is not None:
                return STOCK[type(layer)].from_config({**config, "gradients": scheme})
        elif not inner and any(len(weight.shape) > 1 for weight in _own(layer)):
            self.left.append(name)
        return type(layer).from_config(config)

    def _scheme(self, name: str, layer: keras.layers.Layer) -> str | None:
        self.taken += 1
        return gradients.serialize(gradients.get(self.pick(Place(name, layer)), f"layer {name}, gradients"))


def _inner(layer: keras.layers.Layer) -> dict[str, keras.layers.Layer]:
    """The layers that one of Keras' wrappers calls, by their keys in its configuration."""
    if isinstance(layer, keras.layers.Bidirectional):
        return {"layer": layer.forward_layer, "backward_layer": layer.backward_layer}
    return {"layer": layer.layer} if isinstance(layer, keras.layers.Wrapper) else {}


def _own(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Its trainable weights, less those of quantizers."""
    from hgq.layers.walk import quantizers

    inside = {id(weight) for quantizer in quantizers(layer) for weight in quantizer.weights}
    return [weight for weight in layer.trainable_weights if id(weight) not in inside]
