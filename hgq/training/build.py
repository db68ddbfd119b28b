"""From a recipe and its data to a compiled Keras model."""

from __future__ import annotations

import difflib
import inspect
import re
from typing import Any

import keras

from hgq import layers as hgq_layers
from hgq.config import LayerSection, Recipe, Rule
from hgq.datasets import Dataset
from hgq.errors import ConfigError, HGQError
from hgq.stock import FREEZERS
from hgq.training.optimizers import optimizer
from hgq.training.step import with_step
from hgq.training.user_model import user_model

KERAS_LAYERS = {cls.__name__: cls for cls in FREEZERS if getattr(keras.layers, cls.__name__, None) is cls}
"""Layers of Keras that a recipe may name: those that freeze."""

PLACES = {"weight": "kernel_quantizer", "bias": "bias_quantizer", "activation": "input_quantizer"}
"""Key of a rule -> argument of a layer."""


def build_model(recipe: Recipe, data: Dataset) -> keras.Model:
    """The model, compiled, with its optimizer built. Weights follow from `recipe.train.seed`: set Keras' seed first.

    Raises:
        ConfigError: an unknown layer, an argument that means nothing to it, an unknown optimizer, outputs that do not fit the data.
    """
    model = user_model(recipe.model.build, data) if recipe.model.build else _sequential(recipe, data)
    if tuple(model.output_shape[1:]) != (data.outputs,):
        raise ConfigError(
            "The model does not fit the data.",
            where=recipe.model.build or f"layers.{len(model.layers) - 1}",
            expected=f"{data.outputs} outputs: one for each class or target",
            received=str(tuple(model.output_shape[1:])),
        )
    if not hgq_layers.qlayers(model):
        raise ConfigError("The model has no quantized layer.", where="layers", fix='Use "QDense" instead of "Dense".')
    if recipe.train.gradients or any(rule.gradients for rule in recipe.rules):
        model = hgq_layers.with_gradients(model, lambda layer: _gradients_of(layer.name, recipe))
    model = with_step(model, recipe.train.step)
    hgq_layers.set_resource(model, recipe.resource)
    compile_model(model, recipe)
    return model


def _gradients_of(layer: str, recipe: Recipe) -> str | None:
    rule = next((rule for rule in recipe.rules if re.search(rule.match, layer)), None)
    return rule.gradients if rule is not None and rule.gradients is not None else recipe.train.gradients


def _sequential(recipe: Recipe, data: Dataset) -> keras.Model:
    sections = recipe.layers or _mlp(recipe, data)
    stack: list[keras.layers.Layer] = [keras.Input(data.x_train.shape[1:], name="input")]
    counts: dict[str, int] = {}
    for index, section in enumerate(sections):
        stack.append(_layer(section, index, recipe.rules, counts))
    try:
        model = keras.Sequential(stack, name=re.sub(r"\W", "_", recipe.name))
    except HGQError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError("The layers of the recipe do not fit together.", where="layers", received=str(error).splitlines()[0]) from error
    return model


def compile_model(model: keras.Model, recipe: Recipe) -> None:
    """Give the model the recipe's optimizer, loss and metrics."""
    classes = recipe.train.loss == "crossentropy"
    made = optimizer(recipe.train.optimizer, recipe.train.learning_rate, recipe.train.bit_rate)
    model.compile(
        optimizer=made,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True) if classes else "mean_squared_error",
        metrics=["accuracy"] if classes else [],
    )
    made.build(model.trainable_variables)


def _mlp(recipe: Recipe, data: Dataset) -> list[LayerSection]:
    """The layers that the ``[model]`` section stands for."""
    hidden = [
        LayerSection.model_validate({"type": recipe.model.layer, "units": units, "activation": recipe.model.activation})
        for units in recipe.model.widths
    ]
    flatten = [LayerSection.model_validate({"type": "Flatten"})] if data.x_train.ndim > 2 else []
    return [*flatten, *hidden, LayerSection.model_validate({"type": "QDense", "units": data.outputs})]


def _layer(section: LayerSection, index: int, rules: list[Rule], counts: dict[str, int]) -> keras.layers.Layer:
    where = f"layers.{index} ({section.type})"
    kind = _class_of(section.type, where)
    arguments = section.arguments
    quantized = issubclass(kind, hgq_layers.QLayer)
    stem = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", section.type).lower()  # names do not depend on what the process built before
    arguments.setdefault("name", f"{stem}_{counts.get(stem, 0)}")
    counts[stem] = counts.get(stem, 0) + 1
    known = _arguments(kind)
    for name in arguments:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            raise ConfigError(
                f"{section.type} has no argument {name!r}.",
                where=where,
                expected=", ".join(known),
                fix=f"Did you mean {close[0]!r}?" if close else None,
            )
    rule = next((rule for rule in rules if re.search(rule.match, arguments["name"])), None)
    if quantized and rule is not None:
        for place, argument in PLACES.items():
            wanted = getattr(rule, place)
            if wanted is not None and argument in known:
                arguments.setdefault(argument, wanted)
    try:
        return kind(**arguments)
    except HGQError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError("A layer of the recipe refuses its arguments.", where=where, received=str(error).splitlines()[0]) from error


def _class_of(name: str, where: str) -> type[keras.layers.Layer]:
    ours = {key: getattr(hgq_layers, key) for key in hgq_layers.__all__ if key[:1] == "Q" and key not in ("QLayer", "QMerge")}
    known: dict[str, Any] = ours | KERAS_LAYERS
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        raise ConfigError(
            "Unknown layer.", where=where, expected=", ".join(known), received=name, fix=f"Did you mean {close[0]!r}?" if close else None
        )
    return known[name]


def _arguments(kind: type) -> list[str]:
    """Names of the arguments of a layer and, where it takes **kwargs, of its bases."""
    names: dict[str, None] = {}
    for base in kind.__mro__:
        if base is keras.layers.Layer:
            break
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base.__init__).parameters.values()
        names |= dict.fromkeys(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self")
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return [*names, *(name for name in ("name", "trainable") if name not in names)]
