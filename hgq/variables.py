"""Reading and writing many variables at once, past what Keras does around each: networks of small layers have a hundred of them.

TensorFlow takes some 30 us to run an op that reads or writes one variable eagerly, and a fraction of that inside of a graph. So graphs that
read or write so many variables are made once, with handles as their arguments: they serve all variables of all models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import tensorflow as tf

SIZES = (32, 8)
"""Variables of one type that a graph takes at once; what is left over is done one by one."""
EXECUTOR = "SINGLE_THREADED_EXECUTOR"
"""Of TensorFlow's, the one with the least to do: no op waits for another."""


def read(variables: Iterable[Any]) -> list[np.ndarray]:
    """Copies of what variables (of Keras) hold."""
    given = list(variables)
    values: list[Any] = [None] * len(given)
    for numbers, owns in _batches(given):
        if owns is None:
            found = [given[numbers[0]]]
        elif len(owns) == 1:
            found = [tf.raw_ops.ReadVariableOp(resource=owns[0].handle, dtype=owns[0].dtype)]
        else:
            dtype, handles = owns[0].dtype, [own.handle for own in owns]
            found = _run(_reader(dtype, len(owns)), handles, [dtype] * len(owns))
        for number, value in zip(numbers, found, strict=True):
            values[number] = value.numpy()
    return values


def write(variables: Sequence[Any], values: Sequence[Any]) -> None:
    """Give variables these values, of their shapes and types."""
    pairs = list(zip(variables, values, strict=True))
    for numbers, owns in _batches(variables):
        if owns is None:
            variable, value = pairs[numbers[0]]
            variable.assign(value)
        elif len(owns) == 1:
            tf.raw_ops.AssignVariableOp(resource=owns[0].handle, value=tf.constant(pairs[numbers[0]][1], owns[0].dtype))
        else:
            # TensorFlow would take an array's memory as it is, for the variable to change under its owner's hands: hence copies.
            dtype, handles = owns[0].dtype, [own.handle for own in owns]
            copies = [np.array(pairs[number][1], dtype.as_numpy_dtype) for number in numbers]
            _run(_writer(dtype, len(owns)), [*handles, *copies])


def _batches(variables: Sequence[Any]) -> Iterator[tuple[list[int], list[tf.Variable] | None]]:
    """Positions and TensorFlow's variables, as many of a type as a graph takes; one position and None where there are several of them."""
    alike: dict[tf.DType, list[tuple[int, tf.Variable]]] = {}
    for number, variable in enumerate(variables):
        own = _plain(variable)
        if own is None:
            yield [number], None
        else:
            alike.setdefault(own.dtype, []).append((number, own))
    for members in alike.values():
        while members:
            size = next((size for size in SIZES if size <= len(members)), 1)
            part, members = members[:size], members[size:]
            yield [number for number, _ in part], [own for _, own in part]


def _plain(variable: Any) -> tf.Variable | None:
    """The one TensorFlow variable behind one of Keras; None where there are several, on several devices."""
    own = variable if isinstance(variable, tf.Variable) else variable.value
    return own if isinstance(own, tf.Variable) and not isinstance(own, tf.distribute.DistributedValues) else None


def _run(graph: Any, arguments: list[Any], results: Sequence[tf.DType] = ()) -> list[Any]:
    """Run a graph. Past the call of a `tf.function`, which looks at each argument for longer than all of this takes."""
    return tf.raw_ops.StatefulPartitionedCall(args=arguments, Tout=results, f=graph, config_proto=_as_it_is(), executor_type=EXECUTOR)


@cache
def _as_it_is() -> bytes:
    """A configuration by which TensorFlow does not try to improve a graph: this takes longer at first than many runs do."""
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return config.SerializeToString()


@cache
def _reader(dtype: tf.DType, size: int) -> Any:
    """A graph: handles -> values."""
    graph = tf.function(lambda *handles: [tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype) for handle in handles], autograph=False)
    return graph.get_concrete_function(*_handles(size))


@cache
def _writer(dtype: tf.DType, size: int) -> Any:
    """A graph that takes handles, and a value for each."""

    @tf.function(autograph=False)
    def graph(*given: Any) -> None:
        for handle, value in zip(given[:size], given[size:], strict=True):
            tf.raw_ops.AssignVariableOp(resource=handle, value=value)

    return graph.get_concrete_function(*_handles(size), *[tf.TensorSpec(None, dtype)] * size)


def _handles(size: int) -> list[tf.TensorSpec]:
    return [tf.TensorSpec((), tf.resource)] * size


def collect(stacked: tf.Variable, handles: Sequence[Any]) -> None:
    """Have a variable hold what others hold, one behind the other: those of these handles, all of one type and shape."""
    graph = _collector(stacked.dtype, len(handles))
    _run(graph, [stacked.handle, *handles])


def spread(stacked: tf.Variable, handles: Sequence[Any], numbers: Iterable[int] | None = None) -> None:
    """The inverse of `collect`: give each variable its row; only to those with these numbers, if they are given."""
    wanted = tuple(range(len(handles)) if numbers is None else numbers)
    graph = _spreader(stacked.dtype, len(handles), wanted)
    _run(graph, [stacked.handle, *(handles[number] for number in wanted)])


@cache
def _collector(dtype: tf.DType, count: int) -> Any:
    @tf.function(autograph=False)
    def graph(own: Any, *handles: Any) -> None:
        values = [tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype) for handle in handles]
        tf.raw_ops.AssignVariableOp(resource=own, value=tf.raw_ops.Pack(values=values, axis=0))

    return graph.get_concrete_function(*_handles(count + 1))


@cache
def _spreader(dtype: tf.DType, count: int, wanted: tuple[int, ...]) -> Any:
    @tf.function(autograph=False)
    def graph(own: Any, *handles: Any) -> None:
        rows = tf.raw_ops.Unpack(value=tf.raw_ops.ReadVariableOp(resource=own, dtype=dtype), num=count, axis=0)
        for number, handle in zip(wanted, handles, strict=True):
            tf.raw_ops.AssignVariableOp(resource=handle, value=rows[number])

    return graph.get_concrete_function(*_handles(len(wanted) + 1))
