"""Choose, for the layers of a finished model, how their gradients are computed."""

from __future__ import annotations

from collections.abc import Callable

import keras

from hgq import gradients
from hgq.errors import ConfigError
from hgq.layers.kernel import KernelLayer


def with_gradients(model: keras.Model, choose: gradients.Identifier | Callable[[KernelLayer], gradients.Identifier]) -> keras.Model:
    """A copy of a model, weights included, whose layers with a kernel compute their gradients otherwise.

    Args:
        model: A built Sequential or functional model; it stays as it is.
        choose: What `hgq.gradients.get` takes, for all of them, or a function of the layer that returns it. The papers keep the first and
            the last layer in full precision: ``lambda layer: None if layer.name in ("first", "last") else "luq4"``.

    Returns:
        The copy, not compiled.

    Raises:
        ConfigError: no such scheme, or a model without a layer that could use it.
    """
    pick = choose if callable(choose) else lambda layer: choose
    taken = 0

    def copied(layer: keras.layers.Layer) -> keras.layers.Layer:
        nonlocal taken
        config = layer.get_config()
        if isinstance(layer, KernelLayer):
            taken += 1
            scheme = gradients.get(pick(layer), f"layer {layer.name}, gradients")
            config = {**config, "gradients": gradients.serialize(scheme), "gradient_seed": None}
        return type(layer).from_config(config)

    clone = keras.models.clone_model(model, clone_function=copied)
    if not taken:
        raise ConfigError(
            "No layer of this model has a kernel whose gradients could be computed otherwise.",
            where=f"model {model.name}",
            expected="layers such as QDense, QConv2D, QEinsumDense",
            received=", ".join(sorted({type(layer).__name__ for layer in model.layers})),
        )
    known = {variable.path: variable for variable in model.variables}
    for variable in clone.variables:
        if variable.path in known:
            variable.assign(known[variable.path])
    return clone
