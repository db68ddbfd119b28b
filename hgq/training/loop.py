"""The training loop of `hgq train`: data constant on the device, one compiled call an epoch, samples in an order fixed by seed and epoch.

``Model.fit`` works with all layers and callbacks of hgqc as well. This loop exists because an interrupted run must continue
bit-identically, which an input pipeline with a state of its own cannot promise, and because `fit` costs more than the steps of a small
network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from hgq import native, replicas
from hgq.layers.walk import pause_gradients, qlayers, total_cost
from hgq.variables import read, write


def order(seed: int, epoch: int, samples: int, batch_size: int) -> NDArray[np.int32]:
    """Which samples each step of an epoch sees: shape (steps, batch_size); a permutation without its rest."""
    batch_size = min(batch_size, samples)
    steps = samples // batch_size
    shuffled = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(samples)
    return shuffled[: steps * batch_size].reshape(steps, batch_size).astype(np.int32)


class Loop:
    """Runs epochs of a compiled model.

    Args:
        model: Compiled with optimizer, loss and metrics; its ``train_step`` is what runs, on the devices for which it was made.
        x, y: All training samples, (n, …).
        batch_size: Samples a step.
        seed: Of the order of samples.
        jit_compile: Compile the step with XLA; otherwise it may use native ops.
    """

    def __init__(self, model: keras.Model, x: NDArray, y: NDArray, *, batch_size: int, seed: int, jit_compile: bool) -> None:
        self.model, self.samples, self.batch_size, self.seed = model, len(x), batch_size, seed
        strategy = model.distribute_strategy  # each device holds all data, and takes its share of each batch; one device takes all
        data = [strategy.experimental_distribute_values_from_function(lambda _, part=part: tf.constant(part)) for part in (x, y)]

        def compiled():
            @tf.function(jit_compile=jit_compile, autograph=False)
            def step(index, data_x, data_y):
                mine = replicas.share(index)
                with native.in_graphs(not jit_compile):
                    model.train_step((tf.gather(data_x, mine), tf.gather(data_y, mine)))

            @tf.function(reduce_retracing=True)
            def epoch_of(indices, data_x, data_y):
                for index in indices:
                    strategy.run(step, args=(index, data_x, data_y))

            return epoch_of

        @tf.function(jit_compile=jit_compile, autograph=False, reduce_retracing=True)
        def predict(inputs):
            return model(inputs, training=False)

        @tf.function(autograph=False)
        def costs():
            return costs_of(model)

        self._compiled, self._epochs = compiled, dict[bool, Callable[..., None]]()
        self._predict, self._costs, self._data = predict, costs, data
        self._sample = x[:1], y[:1]
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        self._lender: Loop | None = None

    def run_epoch(self, epoch: int, *, exact_gradients: bool = False) -> dict[str, float]:
        """Train on each sample once; the metrics' means.

        Args:
            epoch: Decides the order of samples.
            exact_gradients: Compute gradients in full precision, whatever the layers say. Each of both kinds is compiled once.
        """
        if not self._epochs:
            self._create_metrics()
        if exact_gradients not in self._epochs:
            self._epochs[exact_gradients] = self._compiled()
        pause_gradients(self.model, exact_gradients)
        self.model.reset_metrics()
        self._epochs[exact_gradients](tf.constant(order(self.seed, epoch, self.samples, self.batch_size)), *self._data)
        return {name: float(value) for name, value in self.model.get_metrics_result().items()}

    def _create_metrics(self) -> None:
        """Have metrics make their variables, as the optimizer has: at first use, inside of the step, it would have to be traced twice."""
        model, (x, y) = self.model, self._sample
        outputs = model(tf.constant(x), training=False)
        metrics = tf.function(
            lambda: model.distribute_strategy.run(lambda: model.compute_metrics(tf.constant(x), tf.constant(y), outputs)), autograph=False
        )
        metrics.get_concrete_function()()  # not `metrics()`: of many loops, TensorFlow warns that something is traced again and again

    def costs(self) -> dict[str, float]:
        """The model's ``ebops`` now, and what else its layers charge for: `hgq.layers.total_cost`, compiled."""
        return {name: float(cost) for name, cost in self._costs().items()}

    def predict(self, x: NDArray) -> NDArray[np.float32]:
        """Outputs of inference for `x`."""
        if self._lender is None:
            return self._predict(tf.constant(x)).numpy()
        theirs = self._lender.model.variables
        kept = read(theirs)
        try:
            write(theirs, read(self.model.variables))
            return self._lender.predict(x)
        finally:
            write(theirs, kept)

    def borrow(self, lender: Loop) -> None:
        """From now on, predict with what another loop has compiled for a model of the same architecture: compiling takes over a second."""
        self._lender = lender


def costs_of(model: keras.Model) -> dict[str, Any]:
    """The model's ``ebops`` now, and what else its layers charge for, as tensors."""
    return {name: total_cost(model, name) for name in dict.fromkeys(("ebops", *(layer.resource for layer in qlayers(model))))}


def score(outputs: NDArray, y: NDArray, loss: str) -> dict[str, float]:
    """``loss``, and ``accuracy`` of classifiers, from outputs (n, …) and labels."""
    outputs = np.asarray(outputs, np.float64)
    if loss == "mse":
        return {"loss": float(np.mean((outputs.reshape(len(outputs), -1) - y.reshape(len(y), -1)) ** 2))}
    shifted = outputs - outputs.max(1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(y)), y]
    return {"loss": float(losses.mean()), "accuracy": float((outputs.argmax(1) == y).mean())}
