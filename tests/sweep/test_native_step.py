"""A step as a native program: what TensorFlow's graph makes of each model's variables, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from hgq import native
from hgq.sweep.stack.native_step import NativeStep
from hgq.sweep.stack.traced import Traced

MODELS, STEPS, ROWS = 3, 4, 6
EDGES = np.float32([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-42, 3e38, 0.5, 7.25, -2.5])


@pytest.fixture(scope="module")
def ops():
    found = native.ops_for(tf.constant(0.0))
    if found is None:
        pytest.skip(f"no native ops: {native.state().text}")
    return found


def as_bits(array):
    return array.view(np.int32) if array.dtype == np.float32 else array


def compare(ops, function, values, data, own=False):
    """Steps by the program, for some models, and by TensorFlow's graph, for each alone: variables after them, and whether bits are equal.

    Args:
        function: Of variables and the step's samples.
        values: Of the variables, models first.
        data: (n, …), or (models, n, …) if `own`.
    """
    single, stacked = [tf.Variable(value[0]) for value in values], [tf.Variable(value) for value in values]
    samples = (ROWS, *data.shape[1 + own :])
    handles = {id(one.handle): many for one, many in zip(single, stacked, strict=True)}
    traced = Traced(lambda x: function(single, x), [tf.TensorSpec(samples, tf.as_dtype(data.dtype))], handles)
    step = NativeStep(traced)
    order = np.random.default_rng(1).integers(data.shape[own], size=(STEPS, MODELS, ROWS)).astype(np.int32)

    @tf.function(autograph=False)
    def run(order):
        step.run(ops, list(traced.stacked.values()), order, [tf.constant(data)], [own], MODELS)

    run(tf.constant(order))
    for model in range(MODELS):
        for variable, value in zip(single, values, strict=True):
            variable.assign(value[model])
        for index in order[:, model]:
            traced.alone(tf.constant((data[model] if own else data)[index]))
        for number, (variable, many) in enumerate(zip(single, stacked, strict=True)):
            mine, theirs = variable.numpy(), many.numpy()[model]
            both_nan = (mine != mine) & (theirs != theirs)  # whose sign no standard defines
            np.testing.assert_array_equal(as_bits(theirs)[~both_nan], as_bits(mine)[~both_nan], err_msg=f"model {model}, variable {number}")
    return step


def number(condition):
    return tf.cast(condition, tf.float32)


ELEMENTWISE = {
    "add": lambda x, v: x + v,
    "bias": lambda x, v: tf.nn.bias_add(x, v),
    "subtract": lambda x, v: v - x,
    "multiply": lambda x, v: x * v,
    "scalar": lambda x, v: v[0] * x - x[0, 0],
    "column": lambda x, v: x[:, :1] * v + x,
    "divide": lambda x, v: x / v,
    "divide_no_nan": lambda x, v: tf.math.divide_no_nan(x, v) + tf.math.divide_no_nan(v, x),
    "less": lambda x, v: number(x < v) + 2 * number(x <= v),
    "greater": lambda x, v: number(x > v) + 2 * number(x >= v),
    "equal": lambda x, v: number(tf.equal(x, v)) + 2 * number(tf.not_equal(x, v)),
    "logic": lambda x, v: number((x > 0) & ~tf.equal(x, v[::-1]) | (x > v)),
    "select": lambda x, v: tf.where(x > v, x, 0.0) + tf.where(v > 0, v, x),
    "bits": lambda x, v: number(tf.bitcast(x, tf.int32) & 0x7FFFFFFF < tf.bitcast(v, tf.int32)),
    "negative": lambda x, v: -tf.abs(x) + tf.square(v),
    "root": lambda x, v: tf.sqrt(tf.abs(x)) + v,
    "relu": lambda x, v: tf.nn.relu(x - v),
    "casts": lambda x, v: tf.cast(tf.cast(tf.clip_by_value(tf.where(x == x, x, 0.0), -9.0, 9.0), tf.int64), tf.float32) + v,
    "several": lambda x, v: tf.add_n([x, x[:, ::-1], tf.nn.relu(x), tf.maximum(x, v)]),
    "stack": lambda x, v: tf.reshape(tf.stack([v, x[0], x[1], v, x[2], v]), x.shape),
    "repeat": lambda x, v: tf.tile(v[None], [ROWS, 1]) + tf.tile(x[:1, :1], [ROWS, x.shape[1]]),
    "largest": lambda x, v: x + tf.cast(tf.argmax(x * v, -1), tf.float32)[:, None],
    "largest_of_int32": lambda x, v: x + tf.cast(tf.argmax(x - v, -1, tf.int32), tf.float32)[:, None],
    "largest_down": lambda x, v: x + tf.cast(tf.argmax(x * v, 0), tf.float32),  # left to TensorFlow
    "slices": lambda x, v: x[:, ::-1] + x[..., None][:, :, 0] + v,
    "sums": lambda x, v: tf.reduce_sum(x[:, None], 1) + tf.reduce_sum(x, 0) * v,
    "softmax": lambda x, v: tf.nn.softmax(x) * v,
}


def test_ops_at_the_edges(ops):
    """Each op of TensorFlow that is done without it, and some that are not, on zeros of both signs, infinities, NaN and tiny numbers.

    Not here: what TensorFlow's graph optimizer changes the result of, as ``~(v > 0)`` of NaN and sums of opposites.
    """
    draw = np.random.default_rng(2)
    data = draw.choice(EDGES, size=(40, 12)) * draw.choice(np.float32([1, 1, 0.3]), size=(40, 12))
    values = [draw.permuted(np.tile(EDGES, (MODELS, 1)), axis=1), *[np.zeros((MODELS, ROWS, 12), np.float32)] * len(ELEMENTWISE)]

    def step(variables, x):
        own = variables[0].read_value()
        for name, variable in zip(ELEMENTWISE, variables[1:], strict=True):
            variable.assign(ELEMENTWISE[name](x, own))

    compare(ops, step, values, data)


@pytest.mark.parametrize("own", [False, True])
def test_variables_are_read_and_written_in_order(ops, own):
    """What was read before a variable was written stays what it was; counters and totals; data of each model's own."""
    draw = np.random.default_rng(3)
    values = [draw.normal(size=(MODELS, 5)).astype(np.float32), np.zeros((MODELS,), np.int64), np.zeros((MODELS, 5), np.float32)]
    data = draw.normal(size=(MODELS, 30, 5) if own else (30, 5)).astype(np.float32)

    def step(variables, x):
        weights, count, total = variables
        before = weights.read_value()
        view = tf.reshape(before, (5, 1))  # shares its memory, for as long as that holds the old value
        weights.assign(before * 0.5 + x[0])
        count.assign_add(2)
        after = weights.read_value()
        total.assign_add(tf.reshape(tf.matmul(x, view), (ROWS,))[:5] + after)
        weights.assign_sub(before * tf.cast(count.read_value(), tf.float32))

    used = compare(ops, step, values, data, own)
    assert [node.op for node in used._graph.node].count("Snapshot") == 1


def test_axes_that_a_graph_knows_only_once_constants_are_known(ops):
    """What gradients of broadcasting are made of: the traced graph knows no shape of such a sum."""

    def step(variables, x):
        _, axes = tf.raw_ops.BroadcastGradientArgs(s0=tf.constant([ROWS, 5]), s1=tf.constant([5]))
        summed = tf.reduce_sum(x, axes)
        variables[0].assign_add(tf.reshape(summed, [5]))

    draw = np.random.default_rng(4)
    compare(ops, step, [np.zeros((MODELS, 5), np.float32)], draw.normal(size=(30, 5)).astype(np.float32))


def test_what_is_no_program(ops):
    """Shapes that are not known, and texts."""
    for function in (lambda x: tf.boolean_mask(x, x > 0), lambda x: tf.strings.length(tf.strings.as_string(x))):
        variable, stacked = tf.Variable(0.0), tf.Variable([0.0])

        def step(x, function=function, variable=variable):
            variable.assign(tf.reduce_sum(tf.cast(function(x), tf.float32)))

        with pytest.raises(NotImplementedError):
            NativeStep(Traced(step, [tf.TensorSpec((4,))], {id(variable.handle): stacked}))


def test_bad_input(ops):
    """Samples that are not there, and variables of another size: errors, no reading past the end."""
    variable, stacked = tf.Variable([0.0]), tf.Variable([[0.0], [0.0]])
    step = NativeStep(Traced(lambda x: variable.assign_add(x[0]), [tf.TensorSpec((1, 1))], {id(variable.handle): stacked}))
    data, order = tf.constant([[1.0], [2.0]]), np.int32([[[0], [1]]])

    def run(order, data=data, models=2):
        tf.function(lambda: step.run(ops, [stacked], tf.constant(order), [data], [False], models), autograph=False)()

    run(order)
    assert stacked.numpy().ravel().tolist() == [1.0, 2.0]
    with pytest.raises(tf.errors.InvalidArgumentError, match="no sample 2"):
        run(order + 1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="order of shape"):
        run(order[:, :1])
    with pytest.raises(tf.errors.InvalidArgumentError, match="does not hold 3 models"):
        run(np.zeros((1, 3, 1), np.int32), models=3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="is of shape"):
        run(order, data=tf.constant([[1.0, 2.0]] * 2))
