"""`Stack`: models of one architecture whose variables stand one behind the other, so that a step of all of them is one step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from hgq import native
from hgq.errors import ConfigError
from hgq.sweep.stack.native_step import NativeStep
from hgq.sweep.stack.program import Program
from hgq.sweep.stack.traced import Traced
from hgq.sweep.stack.values import Value
from hgq.training.loop import costs_of, order
from hgq.training.step import training_state
from hgq.variables import collect, spread

log = logging.getLogger("hgq.sweep")


def state_of(model: keras.Model) -> list[Any]:
    """All variables of a training, metrics included, each once, in an order that models of one architecture share."""
    found = {id(variable): variable for variable in (*training_state(model), *model.metrics_variables)}
    return list(found.values())


class Stack:
    """Trains models together. Each ends with the very bits that training alone would give it.

    The models themselves stay as they are until `pull` gives them their part of the stack.

    Args:
        models: Compiled and built alike; only values of variables differ.
        train: For each model its training samples x (n, …) and labels y; all of one shape. Equal arrays are kept once.
        batch_size: Samples a step.

    Raises:
        ConfigError: the models are not alike, or their step cannot be done for many.
    """

    def __init__(self, models: Sequence[keras.Model], train: Sequence[tuple[NDArray, NDArray]], *, batch_size: int) -> None:
        self.models, self.samples, self.batch_size = list(models), len(train[0][0]), min(batch_size, len(train[0][0]))
        for model, (x, y) in zip(self.models, train, strict=True):
            _create_metrics(model, x[:1], y[:1])
        self._rows = [state_of(model) for model in self.models]
        self._check()
        self._variables = [
            tf.Variable(np.stack([variable.numpy() for variable in same]), name=f"stack_{number}")
            for number, same in enumerate(zip(*self._rows, strict=True))
        ]
        handles = {id(_tensorflow(variable).handle): own for variable, own in zip(self._rows[0], self._variables, strict=True)}
        x, y = (_once(arrays) for arrays in zip(*train, strict=True))
        count, first = len(self.models), self.models[0]

        def like(array: NDArray) -> tf.TensorSpec:
            return tf.TensorSpec((self.batch_size, *array.shape[1:]), tf.as_dtype(array.dtype))

        def train_step(x: Any, y: Any) -> None:
            with native.in_graphs():
                first.train_step((x, y))

        traced = Traced(train_step, [like(array) for array in train[0]], handles)
        self._epoch = self._native_epoch(traced, x, y) or _epoch_op_by_op(Program(traced, count), x, y)
        self._handles = handles
        self._results = self._compiled(first.get_metrics_result)
        self._costs = self._compiled(lambda: costs_of(first))
        self._predictions: dict[Any, Any] = {}
        self._model_handles = [[_tensorflow(variable).handle for variable in same] for same in zip(*self._rows, strict=True)]

    def _native_epoch(self, traced: Traced, x: list[Any], y: list[Any]) -> Callable[[Any], Any] | None:
        """An epoch as one native op, where there is one and it gives the bits of training alone."""
        ops = native.ops_in_graphs()
        if ops is None:
            return None
        try:
            step = NativeStep(traced)
            same = step.gives_the_same(ops, self._rows[0], self._variables, (x[0], y[0]))
        except (NotImplementedError, tf.errors.OpError) as error:
            log.info("The step of this stack is no native program: %s", error)
            return None
        if not same:
            log.info("TensorFlow's graphs have other bits than the native program of this stack: its steps are done by TensorFlow.")
            return None
        variables, data = list(traced.stacked.values()), [part[0] if len(part) == 1 else tf.stack(part) for part in (x, y)]

        @tf.function(autograph=False, reduce_retracing=True)
        def epoch_of(order):
            step.run(ops, variables, order, data, [len(part) > 1 for part in (x, y)], len(self.models))

        return epoch_of

    def _check(self) -> None:
        shapes = [[tuple(variable.shape) for variable in row] for row in self._rows]
        configs = [_numbered(model.get_config()) for model in self.models]
        for number in range(1, len(self.models)):
            if shapes[number] != shapes[0] or repr(configs[number]) != repr(configs[0]):
                raise ConfigError(
                    "Models that are trained in one step must be of one architecture.",
                    where=f"model {number}",
                    expected="the configuration of the first; values of variables alone may differ",
                    received=_difference(configs[0], configs[number]),
                    fix="A seed of random numbers of its own is part of a layer: give it one (gradient_seed=1). Or leave --vectorize out.",
                )

    def _compiled(self, function: Any) -> Any:
        """A function of one model's variables alone -> for each model the results, as NumPy values."""
        program = Program(Traced(function, [], self._handles), len(self.models))

        @tf.function(autograph=False)
        def run():
            return tf.nest.map_structure(lambda value: value.stacked(), program())

        def rows() -> list[dict[str, float]]:
            made = {name: value.numpy() for name, value in run().items()}
            return [{name: float(value[number]) for name, value in made.items()} for number in range(len(self.models))]

        return rows

    def pull(self, numbers: Sequence[int] | None = None) -> None:
        """Give the models what the stack holds: those with these numbers, or all."""
        for own, handles in zip(self._variables, self._model_handles, strict=True):
            spread(own, handles, numbers)

    def push(self) -> None:
        """Take what the models hold."""
        for own, handles in zip(self._variables, self._model_handles, strict=True):
            collect(own, handles)

    def run_epoch(self, orders: Sequence[tuple[int, int]]) -> list[dict[str, float]]:
        """Train each model on each of its samples once.

        Args:
            orders: Of each model, seed and epoch: they decide the order of its samples, as in `hgq.training.loop.Loop`.

        Returns:
            For each model the means of its metrics.
        """
        self.models[0].reset_metrics()
        fresh = {id(_tensorflow(variable).handle): variable.numpy() for variable in self.models[0].metrics_variables}
        for handle, value in fresh.items():
            own = self._handles[handle]
            own.assign(np.broadcast_to(value, own.shape))
        indices = np.stack([order(seed, epoch, self.samples, self.batch_size) for seed, epoch in orders], axis=1)
        self._epoch(tf.constant(indices))
        return self._results()

    def costs(self) -> list[dict[str, float]]:
        """For each model, its ``ebops`` now and what else it charges for."""
        return self._costs()

    def predict(self, x: Sequence[NDArray]) -> list[NDArray[np.float32]]:
        """For each model, its outputs of inference for its samples."""
        key = x[0].shape
        if key not in self._predictions:
            first, count = self.models[0], len(self.models)

            def infer(inputs: Any) -> Any:
                with native.in_graphs():
                    return first(inputs, training=False)

            program = Program(Traced(infer, [tf.TensorSpec(key, tf.as_dtype(x[0].dtype))], self._handles), count)

            @tf.function(autograph=False)
            def run(parts):
                given = Value(count, shared=parts[0]) if len(parts) == 1 else Value(count, parts=list(parts))
                return program(given).stacked()

            self._predictions[key] = run
        return list(self._predictions[key](_once(x)).numpy())


def _epoch_op_by_op(step: Program, x: list[Any], y: list[Any]) -> Callable[[Any], Any]:
    @tf.function(autograph=False)
    def one_step(indices):
        step(*(_gathered(arrays, indices) for arrays in (x, y)))

    @tf.function(reduce_retracing=True)
    def epoch_of(indices):
        for index in indices:
            one_step(index)

    return epoch_of


def _once(arrays: Sequence[NDArray]) -> list[Any]:
    """The arrays of all models as tensors; one, where all are equal."""
    same = all(array is arrays[0] or np.array_equal(array, arrays[0]) for array in arrays)
    return [tf.constant(array) for array in (arrays[:1] if same else arrays)]


def _gathered(arrays: Sequence[Any], indices: Any) -> Value:
    """Samples of each model, from data of its own or of all; indices (models, n)."""
    count = indices.shape[0]
    if len(arrays) == 1:
        return Value(count, stacked=tf.gather(arrays[0], indices))
    return Value(count, parts=[tf.gather(array, index) for array, index in zip(arrays, tf.unstack(indices), strict=True)])


def _create_metrics(model: keras.Model, x: NDArray, y: NDArray) -> None:
    """Have Keras make the variables of the metrics, which it does when they are first used."""
    model.compute_metrics(x, tf.constant(y), tf.zeros((len(y), *model.output_shape[1:])))
    model.reset_metrics()


def _tensorflow(variable: Any) -> tf.Variable:
    """TensorFlow's variable behind one of Keras."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def _numbered(config: Any) -> Any:
    """A configuration with names replaced by their order: Keras names the layers of each model anew."""
    names: dict[str, str] = {}

    def collect(part: Any) -> None:
        if isinstance(part, dict):
            if isinstance(part.get("name"), str):
                names.setdefault(part["name"], f"layer {len(names)}")
            for value in part.values():
                collect(value)
        elif isinstance(part, list | tuple):
            for value in part:
                collect(value)

    def replaced(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: replaced(value) for key, value in part.items()}
        if isinstance(part, list | tuple):
            return [replaced(value) for value in part]
        return names.get(part, part) if isinstance(part, str) else part

    collect(config)
    return replaced(config)


def _difference(one: Any, other: Any, path: str = "") -> str:
    """Where two configurations differ first."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one:
            if one[key] != other.get(key):
                return _difference(one[key], other.get(key), f"{path}.{key}" if path else str(key))
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            if left != right:
                return _difference(left, right, f"{path}.{index}")
    return f"{path or 'configuration'}: {other!r} instead of {one!r}"[:200]
