"""`hgq.variables`: many variables at once, as one by one."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgq.variables import SIZES, collect, read, spread, write


def made(count, seed=0):
    """Variables of several types and shapes, of Keras and of TensorFlow."""
    draw = np.random.default_rng(seed)
    found = []
    for number in range(count):
        shape = tuple(draw.integers(0, 4, number % 3))
        value = draw.normal(size=shape) * 100
        kind = ("float32", "int32", "float32", "bool", "float32")[number % 5]
        found.append(keras.Variable(value.astype(kind), dtype=kind) if number % 2 else tf.Variable(value.astype(kind)))
    return found


@pytest.mark.parametrize("count", [0, 1, 3, 2 * SIZES[0] + SIZES[1] + 1])
def test_values_are_those_of_each(count):
    variables = made(count)
    values = read(variables)
    assert all(
        v.dtype.name == w.dtype and np.array_equal(v, w.numpy()) for v, w in zip(values, map(tf.convert_to_tensor, variables), strict=True)
    )
    others = read(made(count, seed=1))
    write(variables, others)
    assert all(np.array_equal(tf.convert_to_tensor(v), w) for v, w in zip(variables, others, strict=True))


def test_nothing_is_shared():
    """What was read and what was written stay, whatever happens to the variables; TensorFlow updates them in place."""
    variables = [tf.Variable(np.full(1000, number, np.float32)) for number in range(SIZES[0])]
    before = read(variables)
    given = [np.full(1000, -1.0, np.float32) for _ in variables]
    write(variables, given)
    for variable in variables:
        variable.assign_add(np.ones(1000, np.float32))
    given[0][:] = 7
    assert [value[0] for value in before] == list(range(SIZES[0])) and all(np.ptp(value) == 0 for value in before)
    assert all((value == -1).all() for value in given[1:])
    assert all((value == 0).all() for value in read(variables))


def test_as_many_values_as_variables():
    with pytest.raises(ValueError):
        write(made(3), [1.0])


@pytest.mark.parametrize("kind", ["float32", "int32"])
def test_rows_of_a_stack(kind):
    draw = np.random.default_rng(3)
    values = [draw.integers(-99, 99, (2, 3)).astype(kind) for _ in range(5)]
    rows = [tf.Variable(value) for value in values]
    stacked = tf.Variable(np.zeros((5, 2, 3), kind))
    handles = [row.handle for row in rows]
    collect(stacked, handles)
    np.testing.assert_array_equal(stacked.numpy(), np.stack(values))
    stacked.assign(stacked + 100)
    spread(stacked, handles, [1, 3])
    for number, (row, value) in enumerate(zip(rows, values, strict=True)):
        np.testing.assert_array_equal(row.numpy(), value + (100 if number in (1, 3) else 0))
    spread(stacked, handles)
    rows[0].assign_add(np.ones((2, 3), kind))
    np.testing.assert_array_equal(stacked.numpy(), np.stack(values) + 100, "a row is a copy")
    np.testing.assert_array_equal(rows[4].numpy(), values[4] + 100)
