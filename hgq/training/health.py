"""`GradientHealth`: what quantization does to the gradients of each product, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from hgq.gradients import serialize
from hgq.gradients.base import Linear, Scheme, pull_back
from hgq.layers.walk import backward_passes
from hgq.training.journal import Journal

COLUMNS = ("epoch", "layer", "scheme", "underflow", "clipped", "snr_db", "kernel_snr_db")


@dataclass
class Health:
    """Sums over the gradients of a product's result in one step.

    Args:
        layer: Name of the product, as in `hgq.layers.with_gradients`.
        scheme: What computes its gradients.
    """

    layer: str
    scheme: str
    elements: float = 0.0
    nonzero: float = 0.0
    lost: float = 0.0
    beyond: float = 0.0
    power: float = 0.0
    error: float = 0.0
    kernel_power: float = 0.0
    kernel_error: float = 0.0

    @property
    def underflow(self) -> float:
        """Share of the elements that are not 0 and are read as 0."""
        return self.lost / self.nonzero if self.nonzero else 0.0

    @property
    def clipped(self) -> float:
        """Share of the elements that are beyond the range."""
        return self.beyond / self.elements if self.elements else 0.0

    @property
    def snr_db(self) -> float:
        """Power of the gradient over that of the error with which it is read, in dB."""
        return _decibel(self.power, self.error)

    @property
    def kernel_snr_db(self) -> float:
        """The same of the kernel's gradient."""
        return _decibel(self.kernel_power, self.kernel_error)

    def add(self, scheme: Scheme, linear: Linear, x: Any, kernel: Any, seed: Any, memory: Any, g: Any) -> None:
        """Count one gradient: the observer of a `BackwardPass`."""
        read = scheme.read(g, kernel, seed, memory)
        self.elements += float(tf.size(g))
        self.nonzero += float(tf.math.count_nonzero(g))
        self.lost += float(tf.math.count_nonzero((g != 0) & (read == 0)))
        self.beyond += float(tf.math.count_nonzero(tf.abs(g) > scheme.limit(g, memory) * (1 + 1e-6)))
        self.power += _square(g)
        self.error += _square(read - g)
        copy = None if memory is None else tf.Variable(tf.convert_to_tensor(memory))
        exact = pull_back(lambda at: linear(x, at), kernel, g)
        self.kernel_power += _square(exact)
        self.kernel_error += _square(pull_back(lambda at: scheme.product(linear, x, at, seed, copy), kernel, g) - exact)


def gradient_health(model: keras.Model, x: Any, y: Any) -> list[Health]:
    """What the schemes of a compiled model do to the gradients of one batch in a training step, which is then undone.

    Runs eagerly, once. No variable of the model, of its metrics or its optimizer is another afterwards: training goes on as if nothing had
    been. Products whose gradients are in full precision, or paused, are left out.

    Args:
        model: A compiled model.
        x: Data of the batch.
        y: Labels.
    """
    passes = backward_passes(model)
    found = {name: Health(name, _named(one.scheme)) for name, one in passes.items()}
    x, y = (keras.tree.map_structure(tf.convert_to_tensor, part) for part in (x, y))
    with _undone(model):
        try:
            for name, one in passes.items():
                one.observer = found[name].add
            with tf.GradientTape() as tape:
                loss = model.compute_loss(x=x, y=y, y_pred=model(x, training=True), training=True)
            tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        finally:
            for one in passes.values():
                one.observer = None
    return [health for health in found.values() if health.elements]


@contextmanager
def _undone(model: keras.Model) -> Iterator[None]:
    """What happens to variables inside is undone."""
    optimizer = getattr(model, "optimizer", None)
    unique = {id(v): v for v in (*model.variables, *model.metrics_variables, *(optimizer.variables if optimizer else ()))}
    before = [(variable, variable.numpy()) for variable in unique.values()]
    try:
        yield
    finally:
        for variable, value in before:
            variable.assign(value)


class GradientHealth(Journal):
    """Writes `gradient_health` of one batch at the end of epochs to a CSV file, which ``hgq report`` draws.

    Columns: epoch, layer (name of the product), scheme; ``underflow``, the share of gradients that are not 0 and are read as 0;
    ``clipped``, the share beyond the range; ``snr_db``, signal over quantization error of the result's gradient; ``kernel_snr_db``, of the
    kernel's. It changes nothing of the training: no bit, no random number. Steps cost nothing more; each measurement is one eager step.

    Args:
        path: The file.
        x: Data of the batch, the same at each epoch, so that epochs can be compared.
        y: Its labels.
        every: Epochs between two measurements; the last epoch is always measured.
    """

    columns = COLUMNS

    def __init__(self, path: str | Path, x: Any, y: Any, every: int = 1) -> None:
        super().__init__(path, every)
        self.batch = (x, y)

    def measured(self):
        for health in gradient_health(self.model, *self.batch):
            figures = (health.underflow, health.clipped, health.snr_db, health.kernel_snr_db)
            yield (health.layer, health.scheme, *(float(f"{figure:.5g}") for figure in figures))


def _named(scheme: Scheme | None) -> str:
    """The scheme as `hgq.gradients.get` takes it, without arguments that are the default."""
    made: Any = scheme
    name = str(serialize(scheme)).partition("(")[0]
    others = [f"{field.name}={getattr(made, field.name)!r}" for field in fields(made) if getattr(made, field.name) != field.default]
    return f"{name}({', '.join(others)})" if others else name


def _square(x: Any) -> float:
    return float(tf.reduce_sum(tf.square(tf.cast(x, tf.float64))))


def _decibel(power: float, error: float) -> float:
    return float(10 * np.log10(power / error)) if power and error else float("inf") if power else 0.0
