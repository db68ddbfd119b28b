"""Train one method of the plan, for several seeds with one compiled step."""

from __future__ import annotations

import gc
import math
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from benchmarks.gradient_accuracy.plan import METHODS, TASKS, Method, Task
from hgq.errors import DataError
from hgq.layers import QConv2D, QDense, QMaxPooling2D, with_gradients
from hgq.training.finetune import triangular
from hgq.training.loop import Loop, score
from hgq.training.step import StepModel, with_step

CHUNK = 2000
"""Samples of an evaluation at a time."""
FINETUNE_PEAK = 0.3
"""Highest learning rate of fine-tuning over that of training: what `hgq train --finetune` takes."""
DRAWS_APART = 1 << 20
"""Seeds start their counters of random numbers this far apart: more than a run draws."""

Arrays = tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32], NDArray[np.int32]]


def load(task: Task, folder: Path) -> Arrays:
    """Training and test data: pixels ``(p / 255 - 0.45) / 0.25``, averaged over squares, flat for dense networks.

    Raises:
        DataError: the file is not there.
    """
    path = folder / task.file
    if not path.is_file():
        raise DataError(
            "The benchmark's data are not there.",
            where=str(path),
            expected="an .npz file with x_train, y_train, x_test, y_test: uint8 images and classes",
            fix="Name the folder that holds it with --data.",
        )

    def prepared(images: NDArray) -> NDArray[np.float32]:
        images = images.astype(np.float32)
        if task.pool > 1:
            n, rows, columns, channels = images.shape
            images = images.reshape(n, rows // task.pool, task.pool, columns // task.pool, task.pool, channels).mean((2, 4))
        scaled = (images / 255 - 0.45) / 0.25
        return (scaled if task.filters else scaled.reshape(len(scaled), -1)).astype(np.float32)

    with np.load(path) as file:
        labels = [file[name].astype(np.int32) for name in ("y_train", "y_test")]
        return prepared(file["x_train"][: task.train]), labels[0][: task.train], prepared(file["x_test"]), labels[1]


class Trainer:
    """A method on a task: built and compiled once, run for each seed.

    Args:
        task: Name in the plan.
        method: Likewise.
        data: What `load` returned.
    """

    def __init__(self, task: str, method: str, data: Arrays) -> None:
        keras.backend.clear_session()
        gc.collect()
        keras.utils.set_random_seed(0)  # the seeds of the layers' random numbers are drawn when they are made
        self.task, self.method, self.data = TASKS[task], METHODS[task][method], data
        self.epochs = round(self.task.epochs * self.method.epochs)
        self.model = with_step(network(self.task, self.method, data), None if self.method.step == "none" else self.method.step)
        rate = Rate(self.task.learning_rate * self.method.rate, len(data[0]) // self.task.batch, self.epochs, self.method.finetune)
        self.model.compile(optimizer(self.task, rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        self._state = [*self.model.optimizer.variables, *(self.model.step.variables if isinstance(self.model, StepModel) else [])]
        self.flips = FlipCounter(self.model) if self.task.weights else None
        self.loop = Loop(self.model, *data[:2], batch_size=self.task.batch, seed=0, jit_compile=self.task.jit)
        self._initials: dict[int, list[NDArray]] = {}
        self._fresh = [keras.ops.convert_to_numpy(variable) for variable in self._state]

    def run(self, seed: int) -> dict[str, Any]:
        """Train from scratch; what the store keeps of it."""
        start, cpu = time.perf_counter(), time.process_time()
        self._begin(seed)
        for epoch in range(self.epochs + self.method.finetune):
            self.loop.run_epoch(epoch, exact_gradients=epoch >= self.epochs)
        outcome = {
            "accuracy": round(self._score(*self.data[2:])["accuracy"], 5),
            "loss": round(self._score(*self.data[:2])["loss"], 5),
            "seconds": round(time.perf_counter() - start, 1),
            "cpu_seconds": round(time.process_time() - cpu, 1),
        }
        return {**outcome, "flips": round(self.flips.per_thousand(), 3)} if self.flips else outcome

    def _begin(self, seed: int) -> None:
        """The state in which a model built with this seed starts: initial weights, order of samples, random numbers of gradients."""
        for variable, value in zip(self.model.variables, self._initial(seed), strict=True):
            variable.assign(value)
            if variable.name == "gradient_draws":
                variable.assign(seed * DRAWS_APART)
        for variable, value in zip(self._state, self._fresh, strict=True):
            variable.assign(value)
        self.loop.seed = seed
        if self.flips:
            self.flips.reset()

    def _initial(self, seed: int) -> list[NDArray]:
        if seed not in self._initials:
            keras.utils.set_random_seed(seed)
            self._initials[seed] = [variable.numpy() for variable in network(self.task, self.method, self.data).variables]
        return self._initials[seed]

    def _score(self, x: NDArray, y: NDArray) -> dict[str, float]:
        return score(np.concatenate([self.loop.predict(x[at : at + CHUNK]) for at in range(0, len(x), CHUNK)]), y, "crossentropy")


@keras.saving.register_keras_serializable(package="hgqc_benchmarks")
class Rate(keras.optimizers.schedules.LearningRateSchedule):
    """A cosine from `rate` to zero; in the epochs of fine-tuning behind it a triangle, as in `hgq.training.finetune`.

    Args:
        rate: At the start.
        steps: Of an epoch.
        epochs: Of the cosine.
        finetune: Of the triangle.
    """

    def __init__(self, rate: float, steps: int, epochs: int, finetune: int = 0) -> None:
        self.rate, self.steps, self.epochs, self.finetune = rate, steps, epochs, finetune

    def __call__(self, step: Any) -> Any:
        epoch = tf.cast(step, tf.float32) / self.steps
        main = 0.5 * (1 + tf.cos(math.pi * tf.minimum(epoch / self.epochs, 1.0)))
        if not self.finetune:
            return self.rate * main
        share = tf.clip_by_value((epoch - self.epochs) / self.finetune, 0.0, 1.0)
        return self.rate * tf.where(epoch < self.epochs, main, triangular(share, 0.0, FINETUNE_PEAK))

    def get_config(self) -> dict[str, Any]:
        """All arguments."""
        return {name: getattr(self, name) for name in ("rate", "steps", "epochs", "finetune")}


def network(task: Task, method: Method, data: Arrays) -> keras.Model:
    """The task's network with the layers, quantizers and gradients of a method; EBOPs cost nothing."""
    chosen: dict[str, Any] = {"beta": 0.0}
    if task.weights:
        chosen["kernel_quantizer"] = task.weights
    if method.forward not in ("hgq", "float"):
        chosen |= {"kernel_quantizer": method.forward, "input_quantizer": method.forward}
    plain = method.forward == "float"

    def dense(units: int, activation: str | None = None) -> keras.layers.Layer:
        return keras.layers.Dense(units, activation) if plain else QDense(units, activation, **chosen)

    stack: list[Any] = [keras.Input(data[0].shape[1:])]
    for filters in task.filters:
        options = {"padding": "same", "activation": "relu"}
        stack.append(keras.layers.Conv2D(filters, 3, **options) if plain else QConv2D(filters, 3, **options, **chosen))
        stack.append(keras.layers.MaxPooling2D(2) if plain else QMaxPooling2D(2))
    stack += [keras.layers.Flatten()] * bool(task.filters)
    model = keras.Sequential([*stack, *(dense(units, "relu") for units in task.hidden), dense(int(data[1].max()) + 1)])
    if method.gradients == "none":
        return model
    kernels = [layer.name for layer in model.layers if hasattr(layer, "kernel")]
    ends = () if method.ends else (kernels[0], kernels[-1])
    return with_gradients(model, lambda layer: None if layer.name in ends else method.gradients)


def optimizer(task: Task, rate: Any) -> keras.optimizers.Optimizer:
    """The task's optimizer."""
    match task.optimizer:
        case "adam":
            return keras.optimizers.Adam(rate)
        case "adam0":
            return keras.optimizers.Adam(rate, beta_1=0.0)
        case _:
            return keras.optimizers.SGD(rate, momentum=0.9)


class FlipCounter:
    """Counts how often kernels change their sign from one training step to the next.

    Args:
        model: Its ``train_step`` is wrapped.
    """

    def __init__(self, model: keras.Model) -> None:
        kernels = [variable for variable in model.trainable_variables if variable.name == "kernel"]
        self._flips, self._steps = tf.Variable(0.0, dtype="float64"), tf.Variable(0.0, dtype="float64")
        self._size = sum(int(np.prod(kernel.shape)) for kernel in kernels)
        step = model.train_step

        def counted(data: Any) -> Any:
            before = [tf.convert_to_tensor(kernel) >= 0 for kernel in kernels]
            logs = step(data)
            changed = [
                tf.math.count_nonzero(old != (tf.convert_to_tensor(kernel) >= 0)) for old, kernel in zip(before, kernels, strict=True)
            ]
            self._flips.assign_add(tf.cast(tf.add_n(changed), tf.float64))
            self._steps.assign_add(1.0)
            return logs

        model.train_step = counted  # type: ignore[method-assign]

    def reset(self) -> None:
        """Start at zero."""
        self._flips.assign(0.0)
        self._steps.assign(0.0)

    def per_thousand(self) -> float:
        """Changes of sign per thousand weights and step."""
        return float(1000 * self._flips / (self._steps * self._size))
