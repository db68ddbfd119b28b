"""Methods that own the training step: more than one gradient for one update, or updates that a network computes.

A `TrainStepMethod` is what a user names, ``"zigzag(a=0.6)"``; frozen, without state. Begun on a compiled model it is a `Step`, whose state
is variables: counters, last gradients, a hypernetwork. How the layers compute their gradients is their own business (`hgq.gradients`), so
every method works with every scheme.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from hgq.errors import ConfigError
from hgq.named import Registry

Gradients = list[Any]


@dataclass(frozen=True)
class TrainStepMethod(ABC):
    """Base class of methods; a subclass is a frozen dataclass with its arguments, registered by `register_step`."""

    @abstractmethod
    def begin(self, model: keras.Model) -> Step:
        """The method at work on a model that is compiled, its optimizer built.

        Raises:
            ConfigError: it cannot work with this model or this optimizer.
        """


class Step(ABC):
    """A method at work on one model. A subclass writes `update`, and appends its variables to `variables`.

    Args:
        model: Compiled, its optimizer built for ``model.trainable_variables``.

    Attributes:
        variables: All that decides how the method goes on: a checkpoint keeps them beside those of model and optimizer. They are no weights
            of the model: files of it do not have them.
        evaluations: Gradient evaluations so far, one of the variables.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.evaluations = state((), "evaluations", "int64")
        self.variables = [self.evaluations]

    @abstractmethod
    def update(self, gradients: Gradients, again: Callable[[], Gradients]) -> None:
        """Update the trainable variables.

        Args:
            gradients: Of the loss by ``model.trainable_variables``; None where the loss does not depend on one.
            again: Evaluates them anew: the same minibatch, the present variables.
        """

    def train_step(self, data: Any) -> dict[str, Any]:
        """What ``Model.train_step`` does, for one replica: losses of the layers, sample weights and metrics included."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)

        def evaluate() -> tuple[Any, Any, Gradients]:
            self.evaluations.assign_add(1)
            return evaluated(self.model, x, y, sample_weight)

        loss, outputs, gradients = evaluate()
        batch = tf.shape(next(part for part in keras.tree.flatten(x) if part is not None))[0]
        next(metric for metric in self.model.metrics if metric.name == "loss").update_state(loss, sample_weight=batch)
        self.update(gradients, lambda: evaluate()[2])
        return self.model.compute_metrics(x, y, outputs, sample_weight=sample_weight)


def evaluated(model: keras.Model, x: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Gradients]:
    """Loss, outputs, and the gradients of the loss by ``model.trainable_variables``, as Keras computes them in training."""
    with tf.GradientTape() as tape:
        outputs = model(x, training=True)
        loss = model.compute_loss(x=x, y=y, y_pred=outputs, sample_weight=sample_weight, training=True)
        scaled = model.optimizer.scale_loss(loss)
    return loss, outputs, tape.gradient(scaled, model.trainable_variables)


def state(shape: tuple[int, ...], name: str, dtype: str = "float32", initializer: Any = "zeros") -> keras.Variable:
    """A variable of a step's state."""
    return keras.Variable(initializer, shape=shape, dtype=dtype, trainable=False, name=name)


STEPS: Registry[TrainStepMethod] = Registry(TrainStepMethod, "a method of training", "zigzag(a=0.6)")  # type: ignore[type-abstract]
"""What strings can name."""

register_step = STEPS.register
"""Let strings name a method: ``@register_step("mine")``; with arguments, a preset of them."""


@keras.saving.register_keras_serializable(package="hgqc")
class StepModel(keras.Model):
    """A model trained by a method: the same layers and weights, another training step. `with_step` makes it.

    ``compile`` and ``fit`` it like any other. ``save`` writes the model without the method: a file is what it would be had the model been
    trained the ordinary way.

    Args:
        model: Functional or Sequential, built.
        method: Its training step.

    Attributes:
        step: The method at work, once compiled.
    """

    def __init__(self, model: keras.Model, method: TrainStepMethod) -> None:
        graph = keras.Model(model.inputs[0], model.outputs[0], name=model.name) if isinstance(model, keras.Sequential) else model
        super().__init__(inputs=graph.input, outputs=graph.output, name=model.name)
        # In a tuple behind a function, Keras does not find the models a second time, as layers of this one.
        self._origin = lambda: (model, method, graph)
        self.step: Step | None = None

    @property
    def model(self) -> keras.Model:
        """The model without the method; it shares all layers."""
        return self._origin()[0]

    @property
    def method(self) -> TrainStepMethod:
        """The method."""
        return self._origin()[1]

    def compile(self, optimizer: Any = "rmsprop", *args: Any, **kwargs: Any) -> None:
        """As in Keras, and begin the method anew. The model without the method is compiled too, with the same optimizer.

        Raises:
            ConfigError: the model was made for several replicas: a method's state would follow each replica's own gradients.
        """
        replicas = self.distribute_strategy.num_replicas_in_sync
        if replicas > 1:
            raise ConfigError(
                "This method of training runs on one device.",
                where=f"model {self.name}, method {STEPS.serialize(self.method)}",
                expected="one replica",
                received=f"{replicas} replicas",
                fix="Make the model outside of the strategy's scope, or train it without the method.",
            )
        super().compile(optimizer, *args, **kwargs)
        self.model.compile(self.optimizer, *args, **kwargs)
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        self.step = self.method.begin(self)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """As in Keras, which does not trust a `compile` that is overridden."""
        self.compile(**keras.saving.deserialize_keras_object(config))

    def train_step(self, data: Any) -> dict[str, Any]:
        """The method's step."""
        if self.step is None:
            raise ConfigError("The model is not compiled.", where=f"model {self.name}", fix="Call compile first.")
        return self.step.train_step(data)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the model without the method; arguments as in Keras."""
        self.model.save(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """The graph of layers, and the method as a string."""
        return {**self._origin()[2].get_config(), "method": STEPS.serialize(self.method)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> StepModel:
        """The inverse of `get_config`, of a functional model."""
        method = STEPS.get(config["method"])
        graph = {key: value for key, value in config.items() if key != "method"}
        return cls(keras.Model.from_config(graph, custom_objects=custom_objects), method)  # type: ignore[arg-type]


def with_step(model: keras.Model, method: str | TrainStepMethod | None) -> keras.Model:
    """The model with another training step, to be compiled and trained; layers and weights are shared with `model`.

    Args:
        model: Functional or Sequential, built.
        method: A `TrainStepMethod`, a name with arguments such as ``"zigzag(a=0.6, period=5)"`` or ``"metagrad"``, or None (``"none"``)
            for the model itself.

    Raises:
        ConfigError: no such method, or a model that is not built or no graph of layers.
    """
    known = STEPS.get(method, "the training step")
    if known is None:
        return model
    if not getattr(model, "inputs", None):
        raise ConfigError(
            "The training step of this model cannot be replaced.",
            where=f"model {model.name}",
            expected="a built functional or Sequential model",
            received=type(model).__name__,
            fix="Give a Sequential model a keras.Input; in a subclassed one, write train_step with hgq.training.Step.",
        )
    return StepModel(model, known)


def training_state(model: keras.Model) -> list[Any]:
    """All variables that decide how training goes on: of the model, its optimizer and the method that owns its step."""
    step = getattr(model, "step", None)
    optimizer = getattr(model, "optimizer", None)
    return [*model.variables, *(optimizer.variables if optimizer is not None else []), *(step.variables if isinstance(step, Step) else [])]
