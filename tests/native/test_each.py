"""The native op that does a part of a graph for each of many models: what TensorFlow gives each of them alone, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from hgq import native
from hgq.sweep.stack.plan import Part, gives_the_same, nodes_of

OPS = {
    "product": lambda x, w: tf.matmul(x, w),
    "transposed": lambda x, w: tf.matmul(w, x, transpose_a=True, transpose_b=True),
    "gradient": lambda x, w: tf.matmul(x, tf.nn.relu(x), transpose_a=True),
    "bias": lambda x, w: tf.nn.bias_add(x, w[0, : x.shape[1]]),
    "itself": lambda x, w: x * x + x,  # one slot read twice, and once more
    "softmax": lambda x, w: tf.nn.softmax(x),
    "mean": lambda x, w: x - tf.reduce_mean(x, 0, keepdims=True),
    "norm": lambda x, w: x / tf.sqrt(tf.reduce_sum(x * x, -1, keepdims=True) + 1.0),
    "halves": lambda x, w: tf.concat(tf.split(tf.tile(x, [1, 2]), 2, axis=1)[::-1], 0),
    "best": lambda x, w: tf.one_hot(tf.argmax(x, -1), x.shape[1]),
    "columns": lambda x, w: tf.transpose(x),
}


@pytest.fixture(scope="module")
def ops():
    found = native.ops_for(tf.constant(0.0))
    if found is None:
        pytest.skip(f"no native ops: {native.state().text}")
    return found


def part_of(function, *specifications):
    """A function's ops but its placeholders, and its graph."""
    graph = tf.function(function, autograph=False).get_concrete_function(*specifications).graph
    return Part([op for op in graph.get_operations() if op.type != "Placeholder"], list(graph.outputs)), graph


def done(ops, part, graph, models, arrays, shared):
    """Results for all models; `arrays` in the order of the graph's inputs."""
    outer, nodes, results = nodes_of(part, lambda op: list(op.inputs))
    given = [arrays[[tensor.name for tensor in graph.inputs].index(tensor.name)] for tensor in outer]
    alike = [shared[[tensor.name for tensor in graph.inputs].index(tensor.name)] for tensor in outer]
    shapes, types = [tensor.shape for tensor in part.results], [tensor.dtype for tensor in part.results]
    return ops.hgqc_each(given, made=types, models=models, shared=alike, nodes=nodes, results=results, shapes=shapes)


@settings(max_examples=25)
@given(
    models=st.integers(1, 5),
    rows=st.integers(1, 200),
    columns=st.integers(1, 40),
    units=st.integers(1, 40),
    names=st.lists(st.sampled_from(sorted(OPS)), min_size=1, max_size=3),
    shared=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_each_model_gets_what_it_gets_alone(ops, models, rows, columns, units, names, shared, seed):
    """Any chain of ops, on parts of stacks that begin at any address; the last sums have as many terms as there are rows."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(models, rows, columns)).astype(np.float32)
    w = rng.normal(size=(1 if shared else models, columns, max(units, columns))).astype(np.float32)

    def function(x, w):
        made = [OPS[name](x, w) for name in names]
        return *made, tf.reduce_sum(made[-1], 0)

    part, graph = part_of(function, tf.TensorSpec(x.shape[1:]), tf.TensorSpec(w.shape[1:]))
    got = done(ops, part, graph, models, [x, w[0] if shared else w], [False, shared])
    for model in range(models):
        alone = function(tf.constant(x[model]), tf.constant(w[0 if shared else model]))
        for whole, own in zip(got, alone, strict=True):
            np.testing.assert_array_equal(whole[model].numpy(), own.numpy())


def test_sums_in_the_order_of_threads(ops):
    """Large enough that TensorFlow cuts the sums for its threads: as it does for one model."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 3, 8192, 16)).astype(np.float32)

    def function(x, y):
        return tf.matmul(x, y, transpose_a=True), tf.reduce_mean(x, 0), tf.reduce_sum(y)

    part, graph = part_of(function, *[tf.TensorSpec(x.shape[1:])] * 2)
    got = done(ops, part, graph, 3, [x, y], [False, False])
    for model in range(3):
        for whole, own in zip(got, function(tf.constant(x[model]), tf.constant(y[model])), strict=True):
            np.testing.assert_array_equal(whole[model].numpy(), own.numpy())
        np.testing.assert_allclose(got[0][model], x[model].T @ y[model], rtol=1e-3, atol=1e-2)


def test_what_the_graph_optimizer_rounds_differently_is_found(ops):
    """It makes a product with 1/3 of a quotient by 3; 1/4 is exact."""
    for function, same in ((lambda x: x / 3.0, False), (lambda x: x / 4.0, True), (lambda x: tf.matmul(x, x, transpose_a=True), True)):
        part, _ = part_of(function, tf.TensorSpec((64, 32)))
        assert gives_the_same(part, lambda op: list(op.inputs), ops.hgqc_each) is same


def test_what_is_wrong_is_said(ops):
    part, graph = part_of(lambda x, w: tf.matmul(x, w), tf.TensorSpec((2, 3)), tf.TensorSpec((3, 4)))
    x, w = np.ones((2, 2, 3), np.float32), np.ones((2, 3, 4), np.float32)
    np.testing.assert_array_equal(done(ops, part, graph, 2, [x, w], [False, False])[0], np.full((2, 2, 4), 3.0))
    with pytest.raises(tf.errors.InvalidArgumentError, match="does not hold 3 models"):
        done(ops, part, graph, 3, [x, w], [False, False])
    with pytest.raises(tf.errors.InvalidArgumentError, match="Matrix size-incompatible"):
        done(ops, part, graph, 2, [x, np.ones((2, 5, 4), np.float32)], [False, False])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"of shape \[2,6\], not \[2,4\]"):
        done(ops, part, graph, 2, [x, np.ones((2, 3, 6), np.float32)], [False, False])
